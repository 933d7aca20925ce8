//! Streams, as events of the form in the middle.

use super::*;

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":2,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;
const SEEN_START: &str = r#"Start { id: Some("msg_1"), model: Some("m"), tokens: Some(Tokens { fresh_input: 10, cache_read: 2, cache_write_5m: 0, cache_write_1h: 0, output: 1, reasoning: 0 }) }"#;

fn ended(reason: &str) -> String {
    format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":5}}}}"#
    )
}

fn seen_end(reason: &str) -> Vec<String> {
    vec![
        format!("Finish {{ choice: 0, finish: Finish {{ reason: {reason}, native: None, stop_sequence: None, explanation: None }} }}"),
        "Tokens(Tokens { fresh_input: 10, cache_read: 2, cache_write_5m: 0, cache_write_1h: 0, output: 5, reasoning: 0 })".to_owned(),
        "End".to_owned(),
    ]
}

/// The events between the beginning and the end.
fn between(context: &ReplyContext, events: &[&str], reason: &str, meant: &str) -> Vec<String> {
    let end = ended(reason);
    let all: Vec<&str> =
        [START].into_iter().chain(events.iter().copied()).chain([end.as_str(), STOP]).collect();
    let mut seen = events_of(context, &framed(&all));
    assert_eq!(seen.remove(0), SEEN_START);
    assert_eq!(seen.split_off(seen.len() - 3), seen_end(meant));
    seen
}

#[test]
fn text_thinking_and_calls() {
    let context =
        ReplyContext { json_tool: None, tool_names: vec![("do_it".to_owned(), "do it".to_owned())] };
    let seen = between(
        &context,
        &[
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h\"m"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"r"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"ü"}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":""}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{}}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"server_tool_use","id":"x","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":3}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t1","name":"do_it","input":{}}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
            r#"{"type":"content_block_stop","index":4}"#,
            r#"{"type":"of_next_year","index":"five","delta":3}"#,
            r#"{"type":"content_block_start","index":5,"content_block":{"type":"of_next_year","text":3,"id":[]}}"#,
            r#"{"type":"content_block_delta","index":5,"delta":{"type":"of_next_year_delta","text":{}}}"#,
            r#"{"type":"content_block_stop","index":5}"#,
            r#"{"type":"content_block_start","index":6,"content_block":{"type":"tool_use","id":"t2","name":"f","input":{}}}"#,
            r#"{"type":"content_block_stop","index":6}"#,
            r#"{"type":"content_block_start","index":7,"content_block":{"type":"tool_use","id":"","name":"g","input":{"x": 1}}}"#,
            r#"{"type":"content_block_stop","index":7}"#,
        ],
        "tool_use",
        "ToolCalls",
    );
    let expected = [
        "Ping",
        r#"Thinking { choice: 0, text: "h\"m" }"#,
        r#"ThinkingSignature { choice: 0, signature: "sig" }"#,
        r#"RedactedThinking { choice: 0, data: "r" }"#,
        r#"Text { choice: 0, text: "ü", logprobs: None }"#,
        r#"ToolStart { choice: 0, index: 0, id: "t1", name: "do it", signature: None }"#,
        r#"ToolArguments { choice: 0, index: 0, fragment: "{\"a\":" }"#,
        r#"ToolArguments { choice: 0, index: 0, fragment: "1}" }"#,
        "ToolEnd { choice: 0, index: 0 }",
        r#"ToolStart { choice: 0, index: 1, id: "t2", name: "f", signature: None }"#,
        r#"ToolArguments { choice: 0, index: 1, fragment: "{}" }"#,
        "ToolEnd { choice: 0, index: 1 }",
        r#"ToolStart { choice: 0, index: 2, id: "call_2", name: "g", signature: None }"#,
        r#"ToolArguments { choice: 0, index: 2, fragment: "{\"x\":1}" }"#,
        "ToolEnd { choice: 0, index: 2 }",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn json_through_a_tool() {
    let context = ReplyContext { json_tool: Some("json_answer".to_owned()), tool_names: vec![] };
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"json_answer","input":{}}}"#;
    let piece = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#;
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let seen = between(&context, &[begin, piece, stop], "tool_use", "Stop");
    assert_eq!(seen, [r#"Text { choice: 0, text: "{\"a\":1}", logprobs: None }"#]);
    let seen = between(&context, &[begin, stop], "tool_use", "Stop");
    assert_eq!(seen, [r#"Text { choice: 0, text: "{}", logprobs: None }"#]);
}

#[test]
fn an_answer_that_grew_too_long_in_a_call() {
    let seen = between(
        &ReplyContext::default(),
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#,
        ],
        "max_tokens",
        "Length",
    );
    assert_eq!(seen.last().unwrap(), "ToolEnd { choice: 0, index: 0 }");
}

#[test]
fn a_stream_without_its_end_is_not_ended() {
    let end = ended("end_turn");
    let whole = framed(&[START, &end, STOP]);
    for cut in 0..whole.len() - 4 {
        let seen = events(&ReplyContext::default(), &[&whole.as_bytes()[..cut]]);
        assert!(!seen.iter().any(|event| event == "End"), "{cut} {seen:?}");
    }
}

#[test]
fn errors_in_a_stream() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let seen = events_of(&ReplyContext::default(), &framed(&[START, overloaded, STOP]));
    assert_eq!(seen.len(), 2);
    assert!(
        seen[1].starts_with("Error(") && seen[1].contains("status: 503") && seen[1].contains("Overloaded")
    );
    let again = START.replace("msg_1", "msg_2");
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}"#;
    let orphan =
        r#"{"type":"content_block_delta","index":9,"delta":{"type":"input_json_delta","partial_json":"{"}}"#;
    let end = ended("end_turn");
    for (stream, counts) in [
        (vec![overloaded], 1),
        (vec![block], 1),
        (vec![&*end], 1),
        (vec![STOP], 1),
        (vec![START, STOP], 2),
        (vec![START, block, STOP], 3),
        (vec![START, block, &*again, block, &*end, STOP], 3),
        (vec![START, orphan, &*end, STOP], 2),
        (vec![r#"{"type":"message_start"}"#, STOP], 1),
        (
            vec![
                START,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":3}}"#,
            ],
            2,
        ),
        (
            vec![START, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":3}}"#],
            2,
        ),
        (vec![START, r#"{"type":"content_block_delta","index":"0","delta":{}}"#], 2),
    ] {
        let seen = events_of(&ReplyContext::default(), &framed(&stream));
        assert_eq!(seen.len(), counts, "{seen:#?}");
        assert!(seen.last().unwrap().starts_with("Error("), "{seen:#?}");
    }
    // The beginning twice, of the same answer or before anything came of it, is only said twice.
    for stream in [
        vec![START, START, block, &*end, STOP],
        vec![START, block, START, &*end, STOP],
        vec![START, &*again, &*end, STOP],
    ] {
        let seen = events_of(&ReplyContext::default(), &framed(&stream));
        let starts = seen.iter().filter(|event| event.starts_with("Start")).count();
        assert_eq!((starts, seen.last().unwrap().as_str()), (1, "End"), "{seen:#?}");
    }
}
