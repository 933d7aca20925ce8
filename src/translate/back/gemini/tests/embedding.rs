//! Embeddings, and Claude's body on Vertex.

use serde_json::{Value, json};

use super::super::embedding::{build, read};
use super::super::{claude, path::Method};
use super::{GEMINI, VERTEX, of, raw};
use crate::translate::embedding::EmbeddingRequest;
use crate::translate::{Invalid, Target};

fn built(
    provider: &'static str,
    model_id: &str,
    request: &EmbeddingRequest,
) -> Result<(Method, Value), Invalid> {
    let capability = of(model_id);
    let target = Target { provider, model_id, capability: &capability, drop_unsupported: false };
    build(request, &target).map(|built| (built.method, serde_json::from_slice(&built.body).unwrap()))
}

fn of_texts(texts: &[&str]) -> EmbeddingRequest {
    EmbeddingRequest {
        inputs: texts.iter().map(|text| (*text).to_owned()).collect(),
        ..EmbeddingRequest::default()
    }
}

#[test]
fn requests() {
    let mut one = of_texts(&["a"]);
    one.dimensions = Some(256);
    one.provider_options =
        vec![("task_type".into(), raw("\"RETRIEVAL_QUERY\"")), ("title".into(), raw("\"T\""))];
    assert_eq!(
        built(GEMINI, "gemini-embedding-001", &one).unwrap(),
        (
            Method::EmbedContent,
            json!({"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY", "title": "T", "outputDimensionality": 256})
        )
    );
    assert_eq!(
        built(GEMINI, "gemini-embedding-001", &of_texts(&["a", "b"])).unwrap(),
        (
            Method::BatchEmbedContents,
            json!({"requests": [
                {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]}},
                {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "b"}]}},
            ]})
        )
    );
    one.inputs.push("b".into());
    one.provider_options.push(("autoTruncate".into(), raw("false")));
    assert_eq!(
        built(VERTEX, "text-embedding-005", &one).unwrap(),
        (
            Method::Predict,
            json!({"instances": [
                {"content": "a", "task_type": "RETRIEVAL_QUERY", "title": "T"},
                {"content": "b", "task_type": "RETRIEVAL_QUERY", "title": "T"},
            ], "parameters": {"outputDimensionality": 256, "autoTruncate": false}})
        )
    );
    assert_eq!(built(VERTEX, "gemini-embedding-001", &one).unwrap_err().field, "input");
    assert_eq!(built(GEMINI, "x", &one).unwrap_err().field, "provider_options.autoTruncate");
    let mut other = of_texts(&["a"]);
    other.others.push(("user".into(), raw("\"u\"")));
    assert_eq!(built(GEMINI, "x", &other).unwrap_err().field, "user");
    other.others.clear();
    other.provider_options.push(("model".into(), raw("\"models/other\"")));
    assert_eq!(built(GEMINI, "x", &other).unwrap_err().field, "provider_options.model");
}

#[test]
fn answers() {
    let one = read(br#"{"embedding":{"values":[0.25,-1]}}"#, 1).unwrap();
    assert_eq!((one.vectors, one.input_tokens), (vec![vec![0.25, -1.0]], None));
    let two =
        read(br#"{"embeddings":[{"values":[1]},{"values":[2]}],"usageMetadata":{"promptTokenCount":9}}"#, 2)
            .unwrap();
    assert_eq!((two.vectors, two.input_tokens), (vec![vec![1.0], vec![2.0]], Some(9)));
    let predicted = read(
        br#"{"predictions":[{"embeddings":{"values":[1],"statistics":{"token_count":4.0,"truncated":false}}},
            {"embeddings":{"values":[2],"statistics":{"token_count":5}}}],"metadata":{"billableCharacterCount":1}}"#,
        2,
    )
    .unwrap();
    assert_eq!((predicted.vectors.len(), predicted.input_tokens), (2, Some(9)));
    for (body, inputs) in [
        ("", 1),
        ("{}", 1),
        ("[]", 1),
        (r#"{"embedding":{"values":[]}}"#, 1),
        (r#"{"embedding":{}}"#, 1),
        (r#"{"embedding":{"values":["1"]}}"#, 1),
        (r#"{"embedding":{"values":[1e300]}}"#, 1),
        (r#"{"embedding":{"values":[1e999]}}"#, 1),
        (r#"{"embedding":{"values":[null]}}"#, 1),
        (r#"{"embeddings":[{"values":[1]}]}"#, 2),
        (r#"{"embeddings":[{"values":[1]},{"values":[1]}]}"#, 1),
        (r#"{"predictions":[{}]}"#, 1),
        (r#"{"error":{"code":400}}"#, 1),
    ] {
        assert!(read(body.as_bytes(), inputs).is_err(), "{body}");
    }
}

#[test]
fn claudes_body_for_vertex() {
    let body = br#"{"model":"claude","max_tokens":1.0,"anthropic_version":"x","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    assert_eq!(
        String::from_utf8(claude::vertex_body(body).unwrap()).unwrap(),
        r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":1.0,"messages":[{"role":"user","content":"hi"}],"stream":true}"#
    );
    for body in ["", "[]", "null", "{"] {
        assert!(claude::vertex_body(body.as_bytes()).is_err());
    }
}
