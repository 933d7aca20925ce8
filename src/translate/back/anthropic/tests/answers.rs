//! Whole answers and errors.

use super::*;
use crate::translate::{Finish, FinishReason, Tokens};

#[test]
fn a_whole_answer() {
    let context =
        ReplyContext { json_tool: None, tool_names: vec![("do_it".to_owned(), "do it".to_owned())] };
    let body = br#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[
        {"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"r"},
        {"type":"text","text":"a"},{"type":"server_tool_use","id":"x","name":"web_search","input":{}},
        {"type":"of_next_year","text":{}},
        {"type":"text","text":"b"},{"type":"text","text":""},
        {"type":"tool_use","id":"t1","name":"do_it","input":{"z": 1.0, "a" : "x \" y"}},
        {"type":"tool_use","id":"","name":"f","input":null}],
        "stop_reason":"tool_use","stop_sequence":null,"stop_details":null,
        "usage":{"input_tokens":10,"cache_creation_input_tokens":7,"cache_read_input_tokens":3,
        "cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":2},"output_tokens":9,
        "output_tokens_details":{"thinking_tokens":4},"server_tool_use":null}}"#;
    let answer = read(body, &context).unwrap();
    assert_eq!((answer.id.as_deref(), answer.model.as_deref()), (Some("msg_1"), Some("claude-x")));
    let tokens = Tokens {
        fresh_input: 10,
        cache_read: 3,
        cache_write_5m: 5,
        cache_write_1h: 2,
        output: 9,
        reasoning: 4,
    };
    assert_eq!(answer.tokens, Some(tokens));
    assert_eq!(answer.tokens.unwrap().input(), 20);
    let parts: Vec<String> = answer.choices[0].parts.iter().map(|part| format!("{part:?}")).collect();
    assert_eq!(parts.len(), 6, "{parts:#?}");
    assert!(parts[0].contains("\"hm\"") && parts[0].contains("\"s\"") && parts[1].contains("\"r\""));
    let Part::ToolCall(call) = &answer.choices[0].parts[4] else { panic!("{parts:?}") };
    assert_eq!(
        (call.id.as_str(), call.name.as_str(), call.arguments.as_str()),
        ("t1", "do it", r#"{"z":1.0,"a":"x \" y"}"#)
    );
    let Part::ToolCall(call) = &answer.choices[0].parts[5] else { panic!("{parts:?}") };
    assert_eq!((call.id.is_empty(), call.arguments.as_str()), (false, "{}"));
    assert_eq!(answer.choices[0].finish.reason, FinishReason::ToolCalls);
}

#[test]
fn reasons_to_end() {
    let ended = |reason: &str| {
        let body = format!(
            "{{\"content\":[],\"stop_sequence\":\"S\",\"stop_reason\":{reason},\"stop_details\":{{\"type\":\"refusal\",\"explanation\":\"E\"}}}}"
        );
        read(body.as_bytes(), &ReplyContext::default()).unwrap().choices.remove(0).finish
    };
    for (reason, meant, says_more) in [
        ("end_turn", FinishReason::Stop, false),
        ("stop_sequence", FinishReason::Stop, false),
        ("pause_turn", FinishReason::Stop, true),
        ("max_tokens", FinishReason::Length, false),
        ("model_context_window_exceeded", FinishReason::Length, true),
        ("tool_use", FinishReason::ToolCalls, false),
        ("refusal", FinishReason::ContentFilter, true),
        ("of_next_year", FinishReason::Stop, true),
    ] {
        let native = says_more.then(|| reason.to_owned());
        let (stop_sequence, explanation) = (Some("S".to_owned()), Some("E".to_owned()));
        let finish = Finish { reason: meant, native, stop_sequence, explanation };
        assert_eq!(ended(&format!("\"{reason}\"")), finish);
    }
    assert_eq!(ended("null").reason, FinishReason::Stop);
}

#[test]
fn json_through_a_tool() {
    let context = ReplyContext { json_tool: Some("json_answer".to_owned()), tool_names: vec![] };
    let answer = |content: &str| {
        let body = format!("{{\"content\":[{content}],\"stop_reason\":\"tool_use\"}}");
        read(body.as_bytes(), &context).unwrap().choices.remove(0)
    };
    let json = r#"{"type":"text","text":"Here:"},{"type":"tool_use","id":"t","name":"json_answer","input":{"a": 1}}"#;
    let choice = answer(json);
    let [Part::Text { text, .. }] = choice.parts.as_slice() else { panic!("{choice:?}") };
    assert_eq!((text.as_str(), choice.finish.reason), ("{\"a\":1}", FinishReason::Stop));
    let choice = answer(r#"{"type":"tool_use","id":"t","name":"other","input":{}}"#);
    assert!(matches!(choice.parts.as_slice(), [Part::ToolCall(_)]));
    assert_eq!(choice.finish.reason, FinishReason::ToolCalls);
}

#[test]
fn what_is_no_answer() {
    for body in [
        &b""[..],
        b"{}",
        b"[]",
        b"null",
        b"{\"content\":null}",
        b"{\"content\":[{\"type\":3}]}",
        b"{\"content\":[]",
        b"<html>",
        b"\xff\xfe",
        br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    ] {
        assert!(read(body, &ReplyContext::default()).is_err(), "{}", String::from_utf8_lossy(body));
    }
    // Counts that are none do not spoil the answer.
    let body =
        br#"{"content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":"x"}}"#;
    assert_eq!(read(body, &ReplyContext::default()).unwrap().tokens, None);
}

#[test]
fn errors_of_every_kind() {
    let headers = |name: &str| match name {
        "request-id" => Some("req_h".to_owned()),
        "retry-after" => Some("7".to_owned()),
        _ => None,
    };
    for (status, kind, message, shown, openai, code) in [
        (400, "invalid_request_error", "bad", 400, "invalid_request_error", "invalid_request_error"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 3 tokens > 2 maximum",
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (
            401,
            "authentication_error",
            "invalid x-api-key",
            401,
            "authentication_error",
            "authentication_error",
        ),
        (402, "billing_error", "pay", 402, "authentication_error", "billing_error"),
        (403, "permission_error", "no", 403, "permission_error", "permission_error"),
        (404, "not_found_error", "model: x", 404, "not_found_error", "model_not_found"),
        (404, "not_found_error", "path", 404, "not_found_error", "not_found_error"),
        (413, "request_too_large", "big", 413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "slow", 429, "rate_limit_error", "rate_limit_error"),
        (500, "api_error", "oops", 500, "server_error", "api_error"),
        (504, "timeout_error", "late", 504, "server_error", "timeout_error"),
        (529, "overloaded_error", "Overloaded", 503, "server_error", "overloaded_error"),
        (418, "of_next_year", "tea", 400, "invalid_request_error", "of_next_year"),
        (424, "of_next_year", "x", 502, "invalid_request_error", "of_next_year"),
    ] {
        let body = format!(
            "{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"{message}\"}},\"request_id\":\"req_b\"}}"
        );
        let got = error(status, &headers, body.as_bytes());
        assert_eq!(
            (got.status, got.kind.as_str(), got.code.as_deref()),
            (shown, openai, Some(code)),
            "{status}"
        );
        assert_eq!((got.message.as_str(), got.request_id.as_deref()), (message, Some("req_h")));
        assert_eq!(got.retry_after_s, Some(7));
        assert_eq!(got.credential_refused, matches!(status, 401 | 402));
    }
    let limit = br#"{"error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}},"request_id":"req_b"}"#;
    let got = error(429, &|_| None, limit);
    assert_eq!(
        (got.code.as_deref(), got.request_id.as_deref()),
        (Some("enforced_spend_limit_reached"), Some("req_b"))
    );
    let huge = format!("{{\"error\":{{\"message\":\"{}\"}}}}", "x".repeat(1_000_000));
    for body in [&b""[..], b"<html>too large</html>", b"{", b"{\"error\":3}", b"\xff", b"[]", huge.as_bytes()]
    {
        let got = error(413, &|_| None, body);
        assert_eq!((got.status, got.kind.as_str()), (413, "invalid_request_error"));
        assert!(!got.message.is_empty() && got.message.len() <= 4_096 && !got.message.contains("html"));
    }
}
