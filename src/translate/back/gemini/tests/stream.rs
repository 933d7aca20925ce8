//! Streams, event by event.

use serde_json::json;

use super::{events, told};
use crate::translate::{Event, ReplyContext};

fn sse(chunks: &[serde_json::Value], end: &str) -> Vec<u8> {
    chunks.iter().map(|chunk| format!("data: {chunk}{end}{end}")).collect::<String>().into_bytes()
}

fn read(stream: &[u8]) -> Vec<String> {
    let whole = events(stream, stream.len(), ReplyContext::default());
    for step in 1..stream.len().min(400) {
        assert_eq!(events(stream, step, ReplyContext::default()), whole, "step {step}");
    }
    told(&whole)
}

fn parts(parts: serde_json::Value) -> serde_json::Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}}]})
}

#[test]
fn a_stream_as_it_should_be() {
    let chunks = [
        json!({"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": true}]}, "index": 0}],
            "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}, "modelVersion": "gemini-x", "responseId": "r"}),
        parts(json!([{"text": "Hel"}])),
        parts(
            json!([{"text": "lo"}, {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"},
            {"functionCall": {"name": "g"}}]),
        ),
        parts(json!([{"functionCall": {"name": "f", "args": {}}}, {"text": " more"}])),
        json!({"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": "t"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 15}}),
    ];
    for end in ["\n", "\r\n", "\r"] {
        assert_eq!(
            read(&sse(&chunks, end)),
            [
                "start r gemini-x",
                "0 thinking Hm.",
                "0 text Hel",
                "0 text lo",
                "0 call 0 f s",
                "0 arguments 0 {\"a\":1}",
                "0 called 0",
                "0 call 1 g -",
                "0 arguments 1 {}",
                "0 called 1",
                "0 call 2 f -",
                "0 arguments 2 {}",
                "0 called 2",
                "0 text  more",
                "0 signature t",
                "tokens 9 6",
                "0 finish ToolCalls -",
                "end",
            ]
        );
    }
    let ids: std::collections::BTreeSet<String> = events(&sse(&chunks, "\n"), 7, ReplyContext::default())
        .into_iter()
        .filter_map(|event| match event {
            Event::ToolStart { id, .. } => Some(id.into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_reason_in_every_chunk_is_told_once_and_a_later_one_counts() {
    let chunk = |text: &str, reason: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": reason}]});
    let stream = sse(
        &[chunk("a", "STOP"), chunk("b", "STOP"), json!({"candidates": [{"finishReason": "RECITATION"}]})],
        "\n",
    );
    assert_eq!(
        read(&stream),
        ["start - -", "0 text a", "0 text b", "0 finish ContentFilter RECITATION", "end"]
    );
}

#[test]
fn a_cut_stream_has_no_end() {
    let chunks = [
        json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}], "responseId": "r"}),
        json!({"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]}),
    ];
    let whole = sse(&chunks, "\r\n");
    // Up to the last byte of the data it is cut; without the last line ends it is whole.
    for length in 0..whole.len() {
        let seen = told(&events(&whole[..length], 13, ReplyContext::default()));
        let is_whole = length >= whole.len() - 4;
        assert_eq!(seen.contains(&"end".to_owned()), is_whole, "{length}: {seen:?}");
        assert_eq!(seen.iter().any(|line| line.contains("finish")), is_whole);
    }
    // One of two answers has no reason.
    let both = json!({"candidates": [{"finishReason": "STOP"}, {"index": 1, "content": {"parts": [{"text": "x"}]}}]});
    assert_eq!(read(&sse(&[both], "\n")), ["start - -", "1 text x"]);
    assert_eq!(read(b""), Vec::<String>::new());
    assert_eq!(read(b"data: {}\n\n"), ["start - -"]);
    // Behind the last event stands something that is none.
    let mut odd = sse(&chunks, "\n");
    odd.extend_from_slice(b"<html>bad gateway</html>");
    assert!(!read(&odd).contains(&"end".to_owned()));
}

#[test]
fn several_answers() {
    let chunk = json!({"candidates": [
        {"index": 1, "content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"},
        {"content": {"parts": [{"text": "x"}]}, "finishReason": "MAX_TOKENS"}]});
    assert_eq!(
        read(&sse(&[chunk], "\n")),
        [
            "start - -",
            "1 call 0 f -",
            "1 arguments 0 {}",
            "1 called 0",
            "0 text x",
            "0 finish Length -",
            "1 finish ToolCalls -",
            "end",
        ]
    );
}

#[test]
fn blocked_prompts_and_models_that_fail() {
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "No."}, "usageMetadata": {"promptTokenCount": 3}});
    assert_eq!(read(&sse(&[blocked], "\n")), ["start - -", "0 finish ContentFilter SAFETY", "end"]);
    let ratings = json!({"promptFeedback": {"safetyRatings": []}});
    assert_eq!(read(&sse(&[ratings], "\n")), ["start - -"]);
    let failed =
        json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed"}]});
    assert_eq!(
        read(&sse(std::slice::from_ref(&failed), "\n")),
        ["start - -", "error 502 MALFORMED_FUNCTION_CALL"]
    );
    let said = parts(json!([{"text": "x"}]));
    assert_eq!(
        read(&sse(&[said, failed], "\n")),
        ["start - -", "0 text x", "0 finish Stop MALFORMED_FUNCTION_CALL", "end"]
    );
}

#[test]
fn errors_in_a_stream() {
    let said = String::from_utf8(sse(
        &[json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]})],
        "\r\n",
    ))
    .unwrap();
    let error = r#"{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}"#;
    let pretty = "{\r\n  \"error\": {\r\n    \"code\": 503,\r\n    \"status\": \"UNAVAILABLE\"\r\n  }\r\n}";
    for (tail, expected) in [
        (format!("data: {error}\r\n\r\n"), "error 503 UNAVAILABLE"),
        (format!("data: [{error}]\r\n\r\n"), "error 503 UNAVAILABLE"),
        (error.to_owned(), "error 503 UNAVAILABLE"),
        (pretty.to_owned(), "error 503 UNAVAILABLE"),
        (format!("{pretty}\r\n\r\ndata: {{\"candidates\":[]}}\r\n\r\n"), "error 503 UNAVAILABLE"),
        ("{\"error\":".to_owned(), "error 502 -"),
        ("data: {\"candidates\":7}\r\n\r\n".to_owned(), "error 502 -"),
        ("data: nonsense\r\n\r\n".to_owned(), "error 502 -"),
        ("data: {\"candidates\":[{\"index\":4000000000}]}\r\n\r\n".to_owned(), "error 502 -"),
    ] {
        let seen = read(format!("{said}{tail}").as_bytes());
        assert_eq!(seen, ["start - -", "0 text x", expected], "{tail}");
    }
    assert_eq!(read(error.as_bytes()), ["error 503 UNAVAILABLE"]);
}

#[test]
fn signs_of_life_say_nothing() {
    let end = json!({"candidates": [{"finishReason": "STOP"}]});
    let stream =
        format!(": keep-alive\n\ndata:\n\nevent: x\nid: 1\nretry: 5\n\ndata: {end}\n\ndata: [DONE]\n\n");
    assert_eq!(read(stream.as_bytes()), ["ping", "ping", "start - -", "0 finish Stop -", "end"]);
}

#[test]
fn counts_go_up_and_down() {
    let usage = |usage: serde_json::Value| json!({"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": usage});
    let mut chunks = vec![
        usage(
            json!({"promptTokenCount": 46, "candidatesTokenCount": 52, "thoughtsTokenCount": 100, "totalTokenCount": 198}),
        ),
        usage(json!({"promptTokenCount": 46, "totalTokenCount": 46})),
        usage(json!({"trafficType": "ON_DEMAND"})),
        usage(
            json!({"promptTokenCount": 46, "candidatesTokenCount": 60, "thoughtsTokenCount": 29, "totalTokenCount": 135}),
        ),
    ];
    chunks.push(json!({"candidates": [{"finishReason": "STOP"}]}));
    let tokens: Vec<String> =
        read(&sse(&chunks, "\n")).into_iter().filter(|line| line.starts_with("tokens")).collect();
    assert_eq!(tokens, ["tokens 46 89"]);
}

#[test]
fn arguments_in_pieces() {
    let piece = |call: serde_json::Value| parts(json!([{"functionCall": call}]));
    let argument = |path: &str, rest: serde_json::Value| {
        let mut piece = rest;
        piece["jsonPath"] = json!(path);
        json!({"partialArgs": [piece], "willContinue": true})
    };
    let chunks = [
        piece(json!({"name": "f", "willContinue": true})),
        piece(argument("$.city", json!({"stringValue": "San ", "willContinue": true}))),
        piece(argument("$.city", json!({"stringValue": "Francisco", "willContinue": true}))),
        piece(argument("$.city", json!({"stringValue": ""}))),
        piece(argument("$.days[1].n", json!({"numberValue": 7}))),
        piece(argument("$['a key']", json!({"boolValue": true}))),
        piece(argument("$.none", json!({"nullValue": "NULL_VALUE"}))),
        piece(json!({})),
        piece(json!({"name": "g", "willContinue": true})),
        // The next call ends the one before, and so does the end.
        piece(
            json!({"name": "h", "partialArgs": [{"jsonPath": "$.x", "numberValue": 1.5}], "willContinue": true}),
        ),
        json!({"candidates": [{"finishReason": "STOP"}]}),
    ];
    assert_eq!(
        read(&sse(&chunks, "\n")),
        [
            "start - -",
            "0 call 0 f -",
            r#"0 arguments 0 {"a key":true,"city":"San Francisco","days":[null,{"n":7}],"none":null}"#,
            "0 called 0",
            "0 call 1 g -",
            "0 arguments 1 {}",
            "0 called 1",
            "0 call 2 h -",
            r#"0 arguments 2 {"x":1.5}"#,
            "0 called 2",
            "0 finish ToolCalls -",
            "end",
        ]
    );
    for path in [
        "",
        "$",
        "x",
        "$.",
        "$..a",
        "$[",
        "$[x]",
        "$[-1]",
        "$['a",
        "$[0]",
        "$.a[99999999]",
        "$.a[18446744073709551615]",
        "$.a[99999999999999999999]",
        "$.city.x",
        &format!("${}", ".a".repeat(40)),
    ] {
        let mut broken = chunks[..2].to_vec();
        broken.push(piece(argument(path, json!({"stringValue": "x"}))));
        let seen = read(&sse(&broken, "\n"));
        assert_eq!(seen.last().map(String::as_str), Some("error 502 -"), "{path}: {seen:?}");
    }
    // Many far places, and much text, are more than is held.
    let far: Vec<_> =
        (0..200).map(|number| json!({"jsonPath": format!("$.a{number}[9999]"), "boolValue": true})).collect();
    let chunk = piece(json!({"name": "f", "partialArgs": far, "willContinue": true}));
    let seen = told(&events(&sse(&[chunk], "\n"), 4096, ReplyContext::default()));
    assert_eq!(seen.last().map(String::as_str), Some("error 502 -"));
}

#[test]
fn json_by_a_forced_tool_is_text() {
    let context = ReplyContext { json_tool: Some("json_answer".into()), ..ReplyContext::default() };
    let chunk = json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "json_answer", "args": {"a": 1}}}]}, "finishReason": "STOP"}]});
    assert_eq!(
        told(&events(&sse(&[chunk], "\n"), 9, context)),
        ["start - -", r#"0 text {"a":1}"#, "0 finish Stop -", "end"]
    );
}
