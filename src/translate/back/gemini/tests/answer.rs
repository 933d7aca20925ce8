//! Whole answers and errors.

use serde_json::json;

use super::super::{error, read};
use crate::translate::conversation::{Part, Source};
use crate::translate::{Answer, FinishReason, ProviderError, ReplyContext, Tokens, Unreadable};

fn answer(body: &serde_json::Value) -> Answer {
    read(body.to_string().as_bytes(), &ReplyContext::default()).unwrap()
}

#[test]
fn parts_in_their_order() {
    let context = ReplyContext { tool_names: vec![("f_1".into(), "f/1".into())], ..ReplyContext::default() };
    let body = r#"{"candidates":[{"content":{"role":"model","parts":[
        {"text":"I think","thought":true},{"text":" so","thought":true},
        {"text":"Hello ","thoughtSignature":"s0"},{"text":""},{},{"text":"you"},
        {"functionCall":{"name":"f_1","args":{ "b" : [1.0, " x \" y" ], "a":{} }},"thoughtSignature":"s1"},
        {"functionCall":{"name":"g","id":"theirs"}},
        {"functionCall":{"name":"g","id":"theirs","args":null}},
        {"functionCall":{"name":"g","id":"","args":"odd"}},
        {"text":"","thoughtSignature":"s2"},
        {"inlineData":{"mimeType":"image/png","data":"AAAA"}},
        {"executableCode":{"code":"x"}},{"somethingNew":1}]},
        "finishReason":"STOP","index":0,"safetyRatings":[{"category":"NEW"}]}],
        "usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":20,
        "toolUsePromptTokenCount":3,"cachedContentTokenCount":4,"totalTokenCount":38},
        "modelVersion":"gemini-x","responseId":"r1","createTime":"2026-05-04T20:01:02.264968Z"}"#;
    let answer = read(body.as_bytes(), &context).unwrap();
    assert_eq!(answer.id.as_deref(), Some("r1"));
    assert_eq!(answer.model.as_deref(), Some("gemini-x"));
    assert_eq!(answer.created_s, Some(1_777_924_862));
    assert_eq!(
        answer.tokens,
        Some(Tokens { fresh_input: 9, cache_read: 4, output: 25, reasoning: 20, ..Tokens::default() })
    );
    let [choice] = answer.choices.as_slice() else { panic!("{answer:?}") };
    assert_eq!(choice.finish.reason, FinishReason::ToolCalls);
    assert_eq!(choice.finish.native, None);
    let mut ids = Vec::new();
    let shown: Vec<String> = choice
        .parts
        .iter()
        .map(|part| match part {
            Part::Text { text, .. } => format!("text {text}"),
            Part::Thinking { text, signature } => format!("thinking {text} {signature:?}"),
            Part::ToolCall(call) => {
                ids.push(call.id.clone());
                format!("call {} {} {:?}", call.name, call.arguments, call.signature)
            }
            Part::Image { source: Source::Base64 { media_type, data }, .. } => {
                format!("image {media_type} {data}")
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "thinking I think so Some(\"s0\")",
            "text Hello you",
            "call f/1 {\"b\":[1.0,\" x \\\" y\"],\"a\":{}} Some(\"s1\")",
            "call g {} None",
            "call g {} None",
            "call g {} None",
            "thinking  Some(\"s2\")",
            "image image/png AAAA",
        ]
    );
    assert_eq!(ids[1], "theirs");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), 4, "{ids:?}");
    assert!(ids[0].starts_with("call_") && ids[0].len() == 29, "{ids:?}");
    // Another answer, other ids.
    let other = read(body.replace("r1", "r2").as_bytes(), &context).unwrap();
    let Some(Part::ToolCall(call)) = other.choices[0].parts.get(2) else { panic!("{other:?}") };
    assert_ne!(call.id, ids[0]);
}

#[test]
fn reasons_of_the_end() {
    let said = |reason: &str, parts: serde_json::Value| {
        answer(&json!({"candidates": [{"content": {"parts": parts}, "finishReason": reason, "finishMessage": "M"}]}))
            .choices
            .remove(0)
            .finish
    };
    let text = || json!([{"text": "x"}]);
    let call = || json!([{"functionCall": {"name": "f"}}]);
    for (reason, expected, native) in [
        ("STOP", FinishReason::Stop, None),
        ("MAX_TOKENS", FinishReason::Length, None),
        ("SAFETY", FinishReason::ContentFilter, Some("SAFETY")),
        ("SPII", FinishReason::ContentFilter, Some("SPII")),
        ("MODEL_ARMOR", FinishReason::ContentFilter, Some("MODEL_ARMOR")),
        ("MALFORMED_FUNCTION_CALL", FinishReason::Stop, Some("MALFORMED_FUNCTION_CALL")),
        ("BRAND_NEW", FinishReason::Stop, Some("BRAND_NEW")),
        ("FINISH_REASON_UNSPECIFIED", FinishReason::Stop, None),
    ] {
        let finish = said(reason, text());
        assert_eq!((finish.reason, finish.native.as_deref()), (expected, native), "{reason}");
        assert_eq!(finish.explanation.is_some(), expected == FinishReason::ContentFilter, "{reason}");
    }
    assert_eq!(said("STOP", call()).reason, FinishReason::ToolCalls);
    assert_eq!(said("MAX_TOKENS", call()).reason, FinishReason::Length);
    // Nothing was said: fine at a proper end, an error at any other.
    assert_eq!(said("STOP", json!([])).reason, FinishReason::Stop);
    assert_eq!(said("SAFETY", json!([])).reason, FinishReason::ContentFilter);
    for reason in ["MALFORMED_FUNCTION_CALL", "OTHER", "NO_IMAGE", "FINISH_REASON_UNSPECIFIED", ""] {
        let body = json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}]}, "finishReason": reason}]});
        assert_eq!(
            read(body.to_string().as_bytes(), &ReplyContext::default()).unwrap_err(),
            Unreadable,
            "{reason}"
        );
    }
}

#[test]
fn a_blocked_prompt_is_an_answer() {
    let answer = answer(&json!({
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "Not that."},
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
    }));
    let [choice] = answer.choices.as_slice() else { panic!("{answer:?}") };
    assert!(choice.parts.is_empty());
    assert_eq!(choice.finish.reason, FinishReason::ContentFilter);
    assert_eq!(choice.finish.native.as_deref(), Some("PROHIBITED_CONTENT"));
    assert_eq!(choice.finish.explanation.as_deref(), Some("Not that."));
    assert_eq!(answer.tokens.map(|tokens| tokens.input()), Some(5));
    for body in ["{}", r#"{"candidates":[]}"#, r#"{"promptFeedback":{"safetyRatings":[]}}"#] {
        assert_eq!(read(body.as_bytes(), &ReplyContext::default()).unwrap_err(), Unreadable, "{body}");
    }
}

#[test]
fn several_answers_and_log_probabilities() {
    let answer = answer(&json!({"candidates": [
        {"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP", "index": 1},
        {"content": {"parts": [{"text": "a"}]}, "finishReason": "MAX_TOKENS", "logprobsResult": {
            "chosenCandidates": [{"token": "a", "tokenId": 5, "logProbability": -0.5}],
            "topCandidates": [{"candidates": [{"token": "a", "logProbability": -0.5}, {"token": "é", "logProbability": -2.0}]}],
        }},
    ]}));
    assert_eq!(answer.choices[0].finish.reason, FinishReason::Length);
    assert_eq!(answer.choices[1].finish.reason, FinishReason::Stop);
    let logprobs: serde_json::Value =
        serde_json::from_str(answer.choices[0].logprobs.as_ref().unwrap().get()).unwrap();
    assert_eq!(
        logprobs["content"][0],
        json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]},
            {"token": "é", "logprob": -2.0, "bytes": [195, 169]},
        ]})
    );
}

#[test]
fn json_by_a_forced_tool_is_text() {
    let context = ReplyContext { json_tool: Some("json_answer".into()), ..ReplyContext::default() };
    let body = json!({"candidates": [{"content": {"parts": [
        {"functionCall": {"name": "json_answer", "args": {"a": 1}}}]}, "finishReason": "STOP"}]});
    let answer = read(body.to_string().as_bytes(), &context).unwrap();
    assert_eq!(answer.choices[0].finish.reason, FinishReason::Stop);
    assert!(matches!(answer.choices[0].parts.as_slice(), [Part::Text { text, .. }] if text == r#"{"a":1}"#));
}

#[test]
fn tokens_are_counted_once() {
    let tokens = |usage: serde_json::Value| {
        answer(&json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage})).tokens
    };
    let expect = |fresh_input, cache_read, output, reasoning| {
        Some(Tokens { fresh_input, cache_read, output, reasoning, ..Tokens::default() })
    };
    assert_eq!(tokens(json!({})), None);
    assert_eq!(tokens(json!({"promptTokenCount": 7})), expect(7, 0, 0, 0));
    // The thoughts are inside: the total says so.
    let inside = json!({"promptTokenCount": 10, "candidatesTokenCount": 25, "thoughtsTokenCount": 20, "totalTokenCount": 35});
    assert_eq!(tokens(inside), expect(10, 0, 25, 20));
    // More cached than there was.
    assert_eq!(
        tokens(json!({"promptTokenCount": 7, "cachedContentTokenCount": 161, "candidatesTokenCount": 1})),
        expect(0, 7, 1, 0)
    );
    assert_eq!(
        tokens(json!({"promptTokenCount": "7", "candidatesTokenCount": 2.0, "thoughtsTokenCount": null})),
        expect(7, 0, 2, 0)
    );
    assert_eq!(
        tokens(json!({"promptTokenCount": u64::MAX, "toolUsePromptTokenCount": u64::MAX,
            "candidatesTokenCount": u64::MAX, "thoughtsTokenCount": u64::MAX, "cachedContentTokenCount": -5})),
        expect(u64::MAX, 0, u64::MAX, u64::MAX)
    );
}

fn failed(status: u16, body: &serde_json::Value) -> ProviderError {
    error(status, &|_| None, body.to_string().as_bytes())
}

#[test]
fn errors() {
    let info =
        |reason: &str| json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
    let key = failed(
        400,
        &json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT", "details": info("API_KEY_INVALID")}}),
    );
    assert!(key.credential_refused);
    assert_eq!((key.status, key.kind.as_str()), (401, "authentication_error"));
    let bad = failed(400, &json!({"error": {"code": 400, "message": "Bad.", "status": "INVALID_ARGUMENT"}}));
    assert!(!bad.credential_refused);
    assert_eq!(
        (bad.status, bad.kind.as_str(), bad.code.as_deref()),
        (400, "invalid_request_error", Some("INVALID_ARGUMENT"))
    );
    assert_eq!(bad.message, "Bad.");
    let long = failed(
        400,
        &json!({"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}),
    );
    assert_eq!(long.code.as_deref(), Some("context_length_exceeded"));
    let busy = failed(
        429,
        &json!({"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]}}),
    );
    assert_eq!((busy.kind.as_str(), busy.retry_after_s), ("rate_limit_error", Some(35)));
    let day = failed(
        429,
        &json!({"error": {"details": [
        {"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}, {"retryDelay": "3s"}]}}),
    );
    assert_eq!((day.kind.as_str(), day.retry_after_s), ("insufficient_quota", None));
    for delay in ["-1s", "NaNs", "infs", "1e300s", "s", "5", "", "99999999s"] {
        let odd = failed(429, &json!({"error": {"details": [{"retryDelay": delay}]}}));
        assert_eq!(odd.retry_after_s, None, "{delay}");
    }
    let list = failed(
        503,
        &json!([{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}]),
    );
    assert_eq!((list.status, list.message.as_str()), (503, "The model is overloaded."));
    let missing = failed(404, &json!({"error": {"message": "models/x is not found", "status": "NOT_FOUND"}}));
    assert_eq!((missing.status, missing.code.as_deref()), (404, Some("model_not_found")));
    for (status, shown) in
        [(499, 502), (529, 503), (424, 400), (200, 502), (302, 502), (999, 502), (403, 403)]
    {
        assert_eq!(failed(status, &json!({})).status, shown, "{status}");
    }
    for body in [
        "",
        "<html>404</html>",
        "null",
        "[]",
        "{}",
        "[{}]",
        "{\"error\":7}",
        "{\"error\":{\"message\":7}}",
        "\u{0}",
    ] {
        let error = error(404, &|_| None, body.as_bytes());
        assert_eq!(
            (error.status, error.message.as_str()),
            (404, "The provider answered with status 404."),
            "{body}"
        );
    }
    let named = error(500, &|name| (name == "x-request-id").then(|| "r".to_owned()), b"{}");
    assert_eq!(named.request_id.as_deref(), Some("r"));
}

#[test]
fn no_key_comes_through_and_no_message_is_endless() {
    let key = "AIzaSyA1234567890abcdefghijklmnopqrstuv";
    let told = failed(
        400,
        &json!({"error": {"message": format!("Key '{key}' or key={key}, token ya29.a0AfH6SMBxyz0123 is bad")}}),
    );
    assert!(!told.message.contains("AIza") && !told.message.contains("ya29"), "{}", told.message);
    let endless =
        failed(400, &json!({"error": {"message": "é ".repeat(1_000_000), "status": "x".repeat(10_000)}}));
    assert!(endless.message.chars().count() <= 2_000);
    assert!(endless.code.unwrap().len() <= 64);
}
