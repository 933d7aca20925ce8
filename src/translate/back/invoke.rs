//! AWS Bedrock's InvokeModel for embeddings: Amazon's Titan and Cohere's Embed, each in its own dialect.
//!
//! Titan takes one text a call, Cohere up to 96: [`build`] writes as many bodies as it takes, the relay calls once for
//! each (in any order, path of [`Operation::Invoke`](super::converse::Operation)), reads each answer with [`read`] and
//! joins them in the order of the bodies with [`join`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::translate::embedding::{EmbeddingAnswer, EmbeddingRequest};
use crate::translate::few::Few;
use crate::translate::{Dropped, Invalid, Target, Unreadable, Unsupported};

/// Calls for one request: one of the gateway's becomes at most so many.
const MAX_CALLS: usize = 96;
/// Texts in one call of Cohere's, a limit of the provider's.
const MAX_COHERE_TEXTS: usize = 96;
/// `provider_options` of one request.
const MAX_OPTIONS: usize = 32;
/// Where Bedrock says how many tokens an input had, when the answer's body does not.
pub const TOKENS_HEADER: &str = "x-amzn-bedrock-input-token-count";
/// Numbers in one vector, above any model's.
const MAX_DIMENSIONS: usize = 65_536;

/// The dialect of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One text, no choice of length.
    TitanV1,
    /// One text.
    TitanV2,
    /// Many texts, no choice of length.
    CohereV3,
    /// Many texts.
    CohereV4,
}

/// Names of models, without a region before them and a version behind them. A family of this name that the
/// configuration gives a model decides first.
const MODELS: &[(&str, Dialect)] = &[
    ("amazon.titan-embed-text-v1", Dialect::TitanV1),
    ("amazon.titan-embed-g1-text-02", Dialect::TitanV1),
    ("amazon.titan-embed-text-v2", Dialect::TitanV2),
    ("cohere.embed-english-v3", Dialect::CohereV3),
    ("cohere.embed-multilingual-v3", Dialect::CohereV3),
    ("cohere.embed-v4", Dialect::CohereV4),
];

impl Dialect {
    /// By the family, else by the model's id: `us.cohere.embed-v4:0`, an ARN that ends in one.
    fn of(family: &str, model_id: &str) -> Option<Self> {
        let name = model_id.rsplit('/').next().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        let is = |name: &str, model: &str| {
            name.strip_suffix(model).is_some_and(|region| region.is_empty() || region.ends_with('.'))
        };
        let find = |name: &str| MODELS.iter().find(|(model, _)| is(name, model)).map(|(_, dialect)| *dialect);
        find(family).or_else(|| find(name))
    }
}

/// Requests, written.
#[derive(Debug)]
pub struct BuiltEmbeddings {
    /// JSON bodies, in the order of the texts; at least one.
    pub bodies: Vec<Vec<u8>>,
    /// What [`read`] has to know.
    pub dialect: Dialect,
    /// What was dropped, by the caller's field names.
    pub dropped: Dropped,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Titan<'a> {
    input_text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
struct Cohere<'a> {
    texts: &'a [String],
    input_type: &'a RawValue,
    embedding_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<&'a RawValue>,
}

/// Options of the caller's by name; what is not known is refused.
#[derive(Debug, Default)]
struct Options<'a> {
    normalize: Option<&'a RawValue>,
    input_type: Option<&'a RawValue>,
    truncate: Option<&'a RawValue>,
    max_tokens: Option<&'a RawValue>,
}

impl<'a> Options<'a> {
    fn read(request: &'a EmbeddingRequest, dialect: Dialect) -> Result<Self, Invalid> {
        let mut options = Self::default();
        if request.provider_options.len() > MAX_OPTIONS {
            return Err(Invalid::new("provider_options", format!("has more than {MAX_OPTIONS} members")));
        }
        for (name, value) in &request.provider_options {
            let place = match (dialect, name.as_str()) {
                (Dialect::TitanV2, "normalize") => &mut options.normalize,
                (Dialect::CohereV3 | Dialect::CohereV4, "input_type") => &mut options.input_type,
                (Dialect::CohereV3 | Dialect::CohereV4, "truncate") => &mut options.truncate,
                (Dialect::CohereV4, "max_tokens") => &mut options.max_tokens,
                _ => {
                    let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
                    return Err(Invalid::new(
                        format!("provider_options.{name}"),
                        "is not an option of this model",
                    ));
                }
            };
            *place = Some(value);
        }
        Ok(options)
    }
}

/// Writes the bodies.
///
/// # Errors
/// For a model whose dialect is not known, for no text or too many, and for what the model can not do unless such
/// fields are dropped.
pub fn build(request: &EmbeddingRequest, target: &Target<'_>) -> Result<BuiltEmbeddings, Invalid> {
    let Some(dialect) = Dialect::of(&target.capability.family, target.model_id) else {
        return Err(Invalid::new(
            "model",
            format!("{} has no embeddings that are known here", target.model_id),
        ));
    };
    let per_call = match dialect {
        Dialect::TitanV1 | Dialect::TitanV2 => 1,
        Dialect::CohereV3 | Dialect::CohereV4 => MAX_COHERE_TEXTS,
    };
    if request.inputs.is_empty() || request.inputs.len().div_ceil(per_call) > MAX_CALLS {
        return Err(Invalid::new(
            "input",
            format!("has to be 1 to {} texts for this model", MAX_CALLS * per_call),
        ));
    }
    if request.inputs.iter().any(String::is_empty) {
        return Err(Invalid::new("input", "holds an empty text"));
    }
    let mut unsupported = Unsupported::new(*target);
    let mut dimensions = request.dimensions;
    if dimensions.is_some() && matches!(dialect, Dialect::TitanV1 | Dialect::CohereV3) {
        unsupported.field("dimensions")?;
        dimensions = None;
    }
    for (name, _) in &request.others {
        unsupported.field(name)?;
    }
    let options = Options::read(request, dialect)?;
    let document = serde_json::value::to_raw_value("search_document").map_err(|_| unwritable())?;
    let input_type: &RawValue = options.input_type.unwrap_or(&document);
    let mut bodies = Vec::with_capacity(request.inputs.len().div_ceil(per_call));
    for texts in request.inputs.chunks(per_call) {
        let body = match (dialect, texts) {
            (Dialect::TitanV1 | Dialect::TitanV2, [input_text, ..]) => {
                serde_json::to_vec(&Titan { input_text, dimensions, normalize: options.normalize })
            }
            _ => serde_json::to_vec(&Cohere {
                texts,
                input_type,
                embedding_types: ["float"],
                output_dimension: dimensions,
                truncate: options.truncate,
                max_tokens: options.max_tokens,
            }),
        };
        bodies.push(body.map_err(|_| unwritable())?);
    }
    Ok(BuiltEmbeddings { bodies, dialect, dropped: unsupported.into_dropped() })
}

/// What serde_json can not write: nothing here, by its types.
fn unwritable() -> Invalid {
    Invalid::new("input", "can not be written as JSON")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TitanReply {
    embedding: Vec<f32>,
    input_text_token_count: Option<u64>,
}

/// Vectors stand by their type where types were asked for, else bare.
#[derive(Debug, Deserialize)]
struct CohereReply<'a> {
    #[serde(borrow)]
    embeddings: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct CohereByType {
    float: Few<Vec<f32>, MAX_COHERE_TEXTS>,
}

/// Reads one answer. `input_tokens` is the answer's header `x-amzn-bedrock-input-token-count`, where Cohere's count
/// stands.
///
/// # Errors
/// For what is no answer, and for vectors that are empty, too long, of different lengths, or hold what is no number.
pub fn read(dialect: Dialect, body: &[u8], input_tokens: Option<u64>) -> Result<EmbeddingAnswer, Unreadable> {
    let answer = match dialect {
        Dialect::TitanV1 | Dialect::TitanV2 => {
            let reply: TitanReply = serde_json::from_slice(body).map_err(|_| Unreadable)?;
            EmbeddingAnswer {
                vectors: vec![reply.embedding],
                input_tokens: reply.input_text_token_count.or(input_tokens),
            }
        }
        Dialect::CohereV3 | Dialect::CohereV4 => {
            let reply: CohereReply<'_> = serde_json::from_slice(body).map_err(|_| Unreadable)?;
            let text = reply.embeddings.get();
            let vectors = if text.starts_with('[') {
                serde_json::from_str(text)
            } else {
                serde_json::from_str(text).map(|by_type: CohereByType| by_type.float)
            };
            let Few::<_, MAX_COHERE_TEXTS>(vectors) = vectors.map_err(|_| Unreadable)?;
            EmbeddingAnswer { vectors, input_tokens }
        }
    };
    let length = answer.vectors.first().map_or(0, Vec::len);
    let is_sane =
        |vector: &Vec<f32>| vector.len() == length && vector.iter().all(|number| number.is_finite());
    if length == 0 || length > MAX_DIMENSIONS || !answer.vectors.iter().all(is_sane) {
        return Err(Unreadable);
    }
    Ok(answer)
}

/// Joins the answers, in the order of the bodies. `inputs` is the number of texts that were asked for.
///
/// # Errors
/// When there is not one vector for each text.
pub fn join(answers: Vec<EmbeddingAnswer>, inputs: usize) -> Result<EmbeddingAnswer, Unreadable> {
    let mut whole = EmbeddingAnswer { vectors: Vec::new(), input_tokens: Some(0) };
    for answer in answers {
        // A sum with a part that is not known is not known.
        let sum = whole.input_tokens.zip(answer.input_tokens);
        whole.input_tokens = sum.map(|(sum, more)| sum.saturating_add(more));
        whole.vectors.extend(answer.vectors);
    }
    if whole.vectors.len() == inputs { Ok(whole) } else { Err(Unreadable) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::translate::capability;

    const TITAN_2: &str = "amazon.titan-embed-text-v2:0";
    const COHERE_4: &str = "us.cohere.embed-v4:0";

    fn asking(inputs: &[&str]) -> EmbeddingRequest {
        EmbeddingRequest {
            inputs: inputs.iter().map(|text| (*text).to_owned()).collect(),
            ..EmbeddingRequest::default()
        }
    }

    fn built(
        model_id: &str,
        request: &EmbeddingRequest,
        drop_unsupported: bool,
    ) -> Result<BuiltEmbeddings, Invalid> {
        let capability = capability::of("converse", model_id, None);
        build(request, &Target { provider: "aws-bedrock", model_id, capability, drop_unsupported })
    }

    fn bodies(model_id: &str, request: &EmbeddingRequest) -> Vec<Value> {
        let built = built(model_id, request, false).unwrap();
        built.bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    fn option(name: &str, value: Value) -> (String, Box<RawValue>) {
        (name.to_owned(), serde_json::value::to_raw_value(&value).unwrap())
    }

    #[test]
    fn dialects_by_name() {
        for (id, dialect) in [
            ("amazon.titan-embed-text-v1", Some(Dialect::TitanV1)),
            (TITAN_2, Some(Dialect::TitanV2)),
            ("cohere.embed-english-v3", Some(Dialect::CohereV3)),
            ("cohere.embed-multilingual-v3:0:512", Some(Dialect::CohereV3)),
            (COHERE_4, Some(Dialect::CohereV4)),
            ("global.cohere.embed-v4:0", Some(Dialect::CohereV4)),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.cohere.embed-v4:0",
                Some(Dialect::CohereV4),
            ),
            ("notcohere.embed-v4:0", None),
            ("xcohere.embed-v4:0", None),
            ("anthropic.claude-3-haiku-20240307-v1:0", None),
            ("", None),
        ] {
            assert_eq!(Dialect::of("bedrock", id), dialect, "{id}");
        }
        assert_eq!(Dialect::of("cohere.embed-v4", "arn:x/abc"), Some(Dialect::CohereV4));
    }

    #[test]
    fn titan_takes_one_text_a_call() {
        let mut request = asking(&["a", "☃\""]);
        assert_eq!(
            bodies("amazon.titan-embed-text-v1", &request),
            [json!({"inputText": "a"}), json!({"inputText": "☃\""})]
        );
        request.dimensions = Some(256);
        request.provider_options = vec![option("normalize", json!(false))];
        assert_eq!(
            bodies(TITAN_2, &request)[1],
            json!({"inputText": "☃\"", "dimensions": 256, "normalize": false})
        );
        assert_eq!(built("amazon.titan-embed-text-v1", &request, false).unwrap_err().field, "dimensions");
    }

    #[test]
    fn cohere_takes_many() {
        let texts: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let mut request =
            EmbeddingRequest { inputs: texts, dimensions: Some(512), ..EmbeddingRequest::default() };
        let written = bodies(COHERE_4, &request);
        let counts: Vec<usize> = written.iter().map(|body| body["texts"].as_array().unwrap().len()).collect();
        assert_eq!(counts, [96, 96, 8]);
        assert_eq!(written[1]["texts"][0], "96");
        request.inputs.truncate(1);
        request.provider_options =
            vec![option("input_type", json!("search_query")), option("truncate", json!("END"))];
        assert_eq!(
            bodies(COHERE_4, &request),
            [json!({"texts": ["0"], "input_type": "search_query", "embedding_types": ["float"],
                "output_dimension": 512, "truncate": "END"})]
        );
        request.provider_options.clear();
        let dropped = built("cohere.embed-english-v3", &request, true).unwrap();
        assert_eq!(dropped.dropped, ["dimensions"]);
        let value: Value = serde_json::from_slice(&dropped.bodies[0]).unwrap();
        assert_eq!(
            value,
            json!({"texts": ["0"], "input_type": "search_document", "embedding_types": ["float"]})
        );
    }

    #[test]
    fn what_is_refused() {
        let many = vec!["a"; 97];
        for (model, request, field) in [
            (TITAN_2, asking(&[]), "input"),
            (TITAN_2, asking(&["a", ""]), "input"),
            (TITAN_2, asking(&many), "input"),
            (COHERE_4, asking(&vec!["a"; 96 * 96 + 1]), "input"),
            ("meta.llama3-70b-instruct-v1:0", asking(&["a"]), "model"),
            (
                TITAN_2,
                EmbeddingRequest { others: vec![option("user", json!("u"))], ..asking(&["a"]) },
                "user",
            ),
            (
                TITAN_2,
                EmbeddingRequest {
                    provider_options: vec![option("inputText", json!("b"))],
                    ..asking(&["a"])
                },
                "provider_options.inputText",
            ),
            (
                COHERE_4,
                EmbeddingRequest { provider_options: vec![option("texts", json!([]))], ..asking(&["a"]) },
                "provider_options.texts",
            ),
        ] {
            assert_eq!(built(model, &request, false).unwrap_err().field, field);
        }
    }

    #[test]
    fn answers() {
        let titan = |body: &str| read(Dialect::TitanV2, body.as_bytes(), None);
        let cohere = |body: &str| read(Dialect::CohereV4, body.as_bytes(), Some(9));
        let one =
            titan(r#"{"embedding":[0.5,-1],"embeddingsByType":{"float":[0.5,-1]},"inputTextTokenCount":3}"#)
                .unwrap();
        assert_eq!((one.vectors.clone(), one.input_tokens), (vec![vec![0.5, -1.0]], Some(3)));
        let two = cohere(r#"{"id":"x","embeddings":{"float":[[1,2],[3,4]]},"texts":["a","b"]}"#).unwrap();
        assert_eq!((two.vectors.len(), two.input_tokens), (2, Some(9)));
        let bare = cohere(r#"{"embeddings":[[1,2]],"response_type":"embeddings_floats"}"#).unwrap();
        assert_eq!(bare.vectors, [[1.0, 2.0]]);
        let whole = join(vec![one, two], 3).unwrap();
        assert_eq!((whole.vectors[2].clone(), whole.input_tokens), (vec![3.0, 4.0], Some(12)));
        let unknown = EmbeddingAnswer { vectors: vec![vec![1.0]], input_tokens: None };
        assert_eq!(join(vec![unknown, bare], 2).unwrap().input_tokens, None);
        assert!(join(Vec::new(), 1).is_err() && join(vec![whole], 4).is_err());
    }

    #[test]
    fn hostile_answers() {
        for body in [
            "",
            "{}",
            "[]",
            "\u{0}",
            r#"{"embedding":[]}"#,
            r#"{"embedding":[1e39]}"#,
            r#"{"embedding":["1"]}"#,
            r#"{"embedding":null}"#,
            r#"{"embedding":[1],"inputTextTokenCount":-1}"#,
            r#"{"embeddings":[]}"#,
            r#"{"embeddings":[[]]}"#,
            r#"{"embeddings":[[1],[1,2]]}"#,
            r#"{"embeddings":{"int8":[[1]]}}"#,
            r#"{"embeddings":{"float":[1]}}"#,
        ] {
            for dialect in [Dialect::TitanV1, Dialect::TitanV2, Dialect::CohereV3, Dialect::CohereV4] {
                assert!(read(dialect, body.as_bytes(), None).is_err(), "{body}");
            }
        }
        let long = format!("{{\"embedding\":[{}1]}}", "1,".repeat(MAX_DIMENSIONS));
        assert!(read(Dialect::TitanV2, long.as_bytes(), None).is_err());
        let deep = format!("{{\"embeddings\":{}", "[".repeat(100_000));
        assert!(read(Dialect::CohereV4, deep.as_bytes(), None).is_err());
    }
}
