use serde_json::{Value, json};

use super::super::read;
use super::{exchanges, files};
use crate::translate::conversation::{Part, ToolCall};
use crate::translate::{Answer, FinishReason, ReplyContext, Tokens};

fn answer(body: &Value) -> Answer {
    read(body.to_string().as_bytes(), &ReplyContext::default()).unwrap()
}

fn reply(content: Value, stop_reason: &str) -> Value {
    json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop_reason,
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}, "metrics": {"latencyMs": 1}})
}

fn words(parts: &[Part]) -> String {
    parts
        .iter()
        .filter_map(|part| if let Part::Text { text, .. } = part { Some(text.as_str()) } else { None })
        .collect()
}

/// What an answer holds, by another way than the code under test.
fn check(name: &str, body: &Value) {
    let answer = answer(body);
    let content = body["output"]["message"]["content"].as_array().unwrap();
    let [choice] = answer.choices.as_slice() else { panic!("{name}") };
    let text: String = content.iter().filter_map(|block| block["text"].as_str()).collect();
    assert_eq!(words(&choice.parts), text, "{name}");
    let calls: Vec<(&str, Value)> = choice
        .parts
        .iter()
        .filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
        .map(|call| (call.id.as_str(), serde_json::from_str(&call.arguments).unwrap()))
        .collect();
    let expected: Vec<(&str, Value)> = content
        .iter()
        .filter_map(|block| block.get("toolUse"))
        .map(|call| (call["toolUseId"].as_str().unwrap(), call["input"].clone()))
        .collect();
    assert_eq!(calls, expected, "{name}");
    let thoughts = choice.parts.iter().filter(|part| matches!(part, Part::Thinking { .. })).count();
    assert_eq!(
        thoughts,
        content.iter().filter(|block| !block["reasoningContent"].is_null()).count(),
        "{name}"
    );
    let reason = if body["stopReason"] == "tool_use" { FinishReason::ToolCalls } else { FinishReason::Stop };
    assert_eq!(choice.finish.reason, reason, "{name}");
    let usage = &body["usage"];
    let tokens = answer.tokens.unwrap();
    assert_eq!(tokens.input() + tokens.output, usage["totalTokens"].as_u64().unwrap(), "{name}");
    assert_eq!(tokens.cache_read, usage["cacheReadInputTokens"].as_u64().unwrap_or(0), "{name}");
}

#[test]
fn recorded_answers() {
    let mut count = 0;
    for (name, exchange) in exchanges("bedrock.converse") {
        if exchange["response"]["status"] == 200 {
            check(&name, &serde_json::from_str(exchange["response"]["body_text"].as_str().unwrap()).unwrap());
            count += 1;
        }
    }
    for (name, bytes) in files_of_sdk(".json") {
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        if body["output"].is_object() {
            check(&name, &body);
            count += 1;
        }
    }
    assert!(count == 0 || count >= 15, "{count}");
}

fn files_of_sdk(end: &str) -> Vec<(String, Vec<u8>)> {
    files("sse/vercel_ai_amazon-bedrock", "", end)
}

#[test]
fn all_parts_in_their_order() {
    let body = reply(
        json!([
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
            {"reasoningContent": {"reasoningText": {"text": "", "signature": "c2ln"}}},
            {"reasoningContent": {"reasoningText": {"text": "unsigned"}}},
            {"reasoningContent": {"redactedContent": "AAAA"}},
            {"text": ""},
            {"text": "a\nb"},
            {"citationsContent": {"content": [{"text": "cited"}], "citations": [{"location": {}}]}},
            {"toolUse": {"toolUseId": "t1", "name": "x", "input": {"b": 1, "a": 1.0}}},
            {"toolUse": {"name": "y"}},
            {"somethingNew": {"text": 1}},
        ]),
        "end_turn",
    );
    let context = ReplyContext { json_tool: None, tool_names: vec![("x".to_owned(), "X.x".to_owned())] };
    let body = body.to_string().replace(r#"{"a":1.0,"b":1}"#, r#"{"b": 1, "a": 1.0}"#);
    let answer = read(body.as_bytes(), &context).unwrap();
    let choice = &answer.choices[0];
    let mut shown = String::new();
    for part in &choice.parts {
        match part {
            Part::Text { text, .. } => shown += &format!("text {text:?}\n"),
            Part::Thinking { text, signature } => shown += &format!("thinking {text:?} {signature:?}\n"),
            Part::RedactedThinking { data } => shown += &format!("redacted {data}\n"),
            Part::ToolCall(ToolCall { id, name, arguments, .. }) => {
                shown += &format!("call {id} {name} {arguments}\n")
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        shown,
        "thinking \"hm\" Some(\"c2ln\")\nthinking \"\" Some(\"c2ln\")\nthinking \"unsigned\" None\nredacted AAAA\n\
         text \"a\\nb\"\ntext \"cited\"\ncall t1 X.x {\"b\": 1, \"a\": 1.0}\ncall tooluse_1 y {}\n"
    );
    assert_eq!(choice.finish.reason, FinishReason::ToolCalls, "calls were made, whatever the reason says");
}

#[test]
fn reasons() {
    for (native, reason, keeps) in [
        ("end_turn", FinishReason::Stop, false),
        ("stop_sequence", FinishReason::Stop, true),
        ("max_tokens", FinishReason::Length, false),
        ("model_context_window_exceeded", FinishReason::Length, true),
        ("guardrail_intervened", FinishReason::ContentFilter, true),
        ("content_filtered", FinishReason::ContentFilter, true),
        ("something_new", FinishReason::Stop, true),
    ] {
        let finish = answer(&reply(json!([{"text": "a"}]), native)).choices.remove(0).finish;
        assert_eq!((finish.reason, finish.native.as_deref()), (reason, keeps.then_some(native)));
    }
    for native in ["malformed_model_output", "malformed_tool_use"] {
        assert!(read(reply(json!([]), native).to_string().as_bytes(), &ReplyContext::default()).is_err());
    }
    let mut body = reply(json!([{"text": "a"}]), "stop_sequence");
    body["additionalModelResponseFields"] = json!({"stop_sequence": "END"});
    assert_eq!(answer(&body).choices[0].finish.stop_sequence.as_deref(), Some("END"));
    body["additionalModelResponseFields"] = json!({"delta": {"stop_sequence": "END"}});
    assert_eq!(answer(&body).choices[0].finish.stop_sequence.as_deref(), Some("END"));
    body["additionalModelResponseFields"] = json!([1]);
    assert_eq!(answer(&body).choices[0].finish.stop_sequence, None);
}

#[test]
fn usage_is_counted_once() {
    let mut body = reply(json!([{"text": "a"}]), "end_turn");
    body["usage"] = json!({"inputTokens": 2, "outputTokens": 5, "totalTokens": 1339, "cacheReadInputTokens": 10,
        "cacheReadInputTokenCount": 10, "cacheWriteInputTokens": 1322, "cacheWriteInputTokenCount": 1322,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 1000}, {"ttl": "5m", "inputTokens": 322}], "serverToolUsage": {}});
    let expected = Tokens {
        fresh_input: 2,
        cache_read: 10,
        cache_write_5m: 322,
        cache_write_1h: 1000,
        output: 5,
        reasoning: 0,
    };
    assert_eq!(answer(&body).tokens, Some(expected));
    body["usage"] = json!({"cacheWriteInputTokens": 1, "cacheDetails": [{"ttl": "1h", "inputTokens": u64::MAX}, {"ttl": "1h", "inputTokens": 5}]});
    assert_eq!(answer(&body).tokens.unwrap().input(), 1);
    body.as_object_mut().unwrap().remove("usage");
    assert_eq!(answer(&body).tokens, None);
}

#[test]
fn json_through_a_tool() {
    let context = ReplyContext { json_tool: Some("json".to_owned()), tool_names: vec![] };
    let read = |content: Value| {
        super::super::read(reply(content, "tool_use").to_string().as_bytes(), &context).unwrap()
    };
    let called =
        read(json!([{"text": "Here:"}, {"toolUse": {"toolUseId": "1", "name": "json", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": "2", "name": "json", "input": {"a": 2}}}]));
    assert_eq!(words(&called.choices[0].parts), "{\"a\":1}");
    assert_eq!(called.choices[0].finish.reason, FinishReason::Stop);
    let other = read(json!([{"toolUse": {"toolUseId": "1", "name": "x", "input": {}}}]));
    assert_eq!(other.choices[0].finish.reason, FinishReason::ToolCalls);
    let words_only = read(json!([{"text": "no"}]));
    assert_eq!(words(&words_only.choices[0].parts), "no");
}

#[test]
fn what_is_no_answer() {
    let deep = format!("{{\"output\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "{\"message\":\"x\"}",
        "{\"output\":{}}",
        "{\"output\":{\"message\":{\"content\":[]}}}",
        "{\"output\":{\"message\":{\"content\":{}}},\"stopReason\":\"end_turn\"}",
        "{\"output\":{\"message\":{\"content\":[]}},\"stopReason\":\"end_turn\",\"usage\":{\"inputTokens\":-1}}",
        "\u{feff}{}",
        deep.as_str(),
    ] {
        assert!(read(body.as_bytes(), &ReplyContext::default()).is_err(), "{}", &body[..body.len().min(80)]);
    }
    let whole =
        reply(json!([{"text": "☃"}, {"toolUse": {"toolUseId": "1", "name": "x", "input": {}}}]), "tool_use")
            .to_string();
    for cut in 0..whole.len() {
        assert!(read(&whole.as_bytes()[..cut], &ReplyContext::default()).is_err());
    }
}
