//! What all fronts are tested with: the same answers and streams, written in each dialect and compared with
//! `tests/golden/fronts/`, which the SDKs of the dialects read too (`tests/sdk/test_fronts.py`).
//! `GATEWAY_UPDATE_GOLDEN=1` writes the files anew; read the difference before you keep it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::translate::answer::{Answer, Choice, Event, Finish, FinishReason, ProviderError, Tokens};
use crate::translate::conversation::{Part, ToolCall};
use crate::translate::tests::vectors;
use crate::translate::{Identity, front::fields};

/// The same in all tests.
pub const IDENTITY: Identity<'static> = Identity { unique: "u1", model: "main/m", created_s: 1_700_000_000 };

const TOKENS: Tokens =
    Tokens { fresh_input: 10, cache_read: 20, cache_write_5m: 3, cache_write_1h: 4, output: 9, reasoning: 5 };

fn finish(reason: FinishReason) -> Event<'static> {
    Event::Finish { choice: 0, finish: Finish { reason, ..Finish::default() } }
}

fn start() -> Event<'static> {
    Event::Start { id: Some("prov-1".into()), model: Some("their-model".into()), tokens: None }
}

fn text(text: &'static str) -> Event<'static> {
    Event::Text { choice: 0, text: text.into(), logprobs: None }
}

fn thinking(text: &'static str) -> Event<'static> {
    Event::Thinking { choice: 0, text: text.into() }
}

fn signature(signature: &'static str) -> Event<'static> {
    Event::ThinkingSignature { choice: 0, signature: signature.into() }
}

fn tool(index: u32, id: &'static str, signature: Option<&'static str>) -> Event<'static> {
    let signature = signature.map(Into::into);
    Event::ToolStart { choice: 0, index, id: id.into(), name: "weather".into(), signature }
}

fn arguments(index: u32, fragment: &'static str) -> Event<'static> {
    Event::ToolArguments { choice: 0, index, fragment: fragment.into() }
}

fn tool_end(index: u32) -> Event<'static> {
    Event::ToolEnd { choice: 0, index }
}

fn failure() -> ProviderError {
    ProviderError {
        status: 503,
        kind: "server_error".to_owned(),
        code: None,
        message: "Overloaded \"now\"\nline".to_owned(),
        request_id: Some("req_9".to_owned()),
        ..ProviderError::default()
    }
}

/// Streams by name.
pub fn streams() -> Vec<(&'static str, Vec<Event<'static>>)> {
    let logprobs =
        r#"{"content":[{"token":"A","logprob":-0.5,"bytes":[65],"top_logprobs":[]}],"refusal":null}"#;
    let ended = [finish(FinishReason::ToolCalls), Event::Tokens(TOKENS), Event::End];
    vec![
        (
            "text",
            vec![
                start(),
                Event::Ping,
                text("Héllo "),
                text("wörld\n\u{1f30d} \"q\"\u{2028}"),
                finish(FinishReason::Stop),
                Event::Tokens(TOKENS),
                Event::End,
            ],
        ),
        (
            "thinking_and_tools",
            [
                Event::Start {
                    id: None,
                    model: None,
                    tokens: Some(Tokens { fresh_input: 7, output: 1, ..Tokens::default() }),
                },
                thinking("Let me "),
                thinking("see."),
                signature("c2lnbmF0dXJl"),
                Event::RedactedThinking { choice: 0, data: "b3BhcXVl".into() },
                signature("b25seQ=="),
                text("I look."),
                tool(0, "call_a", None),
                arguments(0, "{\"city\":"),
                arguments(0, "\"Oslo\"}"),
                tool_end(0),
                tool(1, "call_b", Some("Z2VtaW5p")),
                arguments(1, "{}"),
                tool_end(1),
            ]
            .into_iter()
            .chain(ended.clone())
            .collect(),
        ),
        (
            "parallel_tools",
            [
                start(),
                tool(0, "call_a", None),
                arguments(0, "{\"city\":"),
                tool(1, "call_b", None),
                arguments(1, "{\"city\":\"Rome\""),
                tool(2, "call_c", None),
                arguments(0, "\"Oslo\"}"),
                arguments(1, "}"),
                tool_end(0),
                arguments(2, "{}"),
                tool_end(1),
                tool_end(2),
            ]
            .into_iter()
            .chain(ended.clone())
            .collect(),
        ),
        (
            "tools_that_end_at_the_end",
            [
                start(),
                tool(0, "call_a", None),
                arguments(0, "{}"),
                tool(1, "call_b", None),
                arguments(1, "{}"),
            ]
            .into_iter()
            .chain(ended)
            .collect(),
        ),
        (
            "refusal",
            vec![
                start(),
                text("Well, "),
                Event::Refusal { choice: 0, text: "I can't ".into() },
                Event::Refusal { choice: 0, text: "do that.".into() },
                finish(FinishReason::Stop),
                Event::End,
            ],
        ),
        (
            "filtered",
            vec![
                start(),
                Event::Finish {
                    choice: 0,
                    finish: Finish {
                        reason: FinishReason::ContentFilter,
                        explanation: Some("Not this.".to_owned()),
                        ..Finish::default()
                    },
                },
                Event::Tokens(TOKENS),
                Event::End,
            ],
        ),
        (
            "length",
            vec![
                start(),
                text("It goes on"),
                finish(FinishReason::Length),
                Event::Tokens(TOKENS),
                Event::End,
            ],
        ),
        (
            "stop_sequence",
            vec![
                text("One"),
                Event::Finish {
                    choice: 0,
                    finish: Finish { stop_sequence: Some("END".to_owned()), ..Finish::default() },
                },
                Event::End,
            ],
        ),
        (
            "logprobs",
            vec![
                start(),
                Event::Text { choice: 0, text: "A".into(), logprobs: Some(logprobs.into()) },
                Event::Text { choice: 0, text: "A".into(), logprobs: Some(logprobs.into()) },
                finish(FinishReason::Stop),
                Event::End,
            ],
        ),
        (
            "thoughts_without_proof",
            vec![start(), thinking("Hm."), text("So."), finish(FinishReason::Stop), Event::End],
        ),
        ("empty", vec![start(), finish(FinishReason::Stop), Event::End]),
        ("error_at_once", vec![Event::Error(failure())]),
        ("error_midway", vec![start(), text("Half"), Event::Error(failure())]),
        ("arguments_of_no_call", vec![start(), text("Half"), arguments(3, "{}"), text("more"), Event::End]),
    ]
}

/// Steps in an order that no provider has, the same for the same seed. Never an end.
pub fn disorder(seed: u64, count: usize) -> Vec<Event<'static>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut steps = Vec::new();
    for _ in 0..count {
        let index = u32::try_from(random(4)).unwrap();
        steps.push(match random(14) {
            0 => start(),
            1 | 2 => text("t"),
            3 => Event::Refusal { choice: 0, text: "r".into() },
            4 | 5 => thinking("h"),
            6 => signature("s"),
            7 => Event::RedactedThinking { choice: 0, data: "d".into() },
            8 => tool(index, "i", None),
            9 => tool(index, "i", Some("s")),
            10 => tool_end(index),
            11 => Event::Tokens(TOKENS),
            12 => Event::Text { choice: 1, text: "other".into(), logprobs: None },
            _ => finish(FinishReason::Stop),
        });
        if matches!(steps.last(), Some(Event::ToolStart { .. })) && random(2) == 0 {
            steps.push(arguments(index, "{}"));
        }
    }
    steps
}

/// Whole answers by name.
pub fn answers() -> Vec<(&'static str, Answer)> {
    let text = |text: &str| Part::Text { text: text.to_owned(), cache: None };
    let call = |id: &str, arguments: &str, signature: Option<&str>| {
        Part::ToolCall(ToolCall {
            id: id.to_owned(),
            name: "weather".to_owned(),
            arguments: arguments.to_owned(),
            signature: signature.map(str::to_owned),
            cache: None,
        })
    };
    let answer = |parts: Vec<Part>, finish: Finish| Answer {
        tokens: Some(TOKENS),
        choices: vec![Choice { parts, finish, logprobs: None }],
        ..Answer::default()
    };
    let reason = |reason| Finish { reason, ..Finish::default() };
    let logprobs =
        r#"{"content": [ {"token":"A","logprob":-0.5,"bytes":[65],"top_logprobs":[]} ],"refusal":null}"#;
    vec![
        (
            "text",
            Answer {
                id: Some("prov-1".to_owned()),
                model: Some("their-model".to_owned()),
                created_s: Some(5),
                ..answer(vec![text("Héllo\n\"q\""), text(""), text(" more")], reason(FinishReason::Stop))
            },
        ),
        (
            "everything",
            answer(
                vec![
                    Part::Thinking { text: "Let me see.".to_owned(), signature: Some("c2ln".to_owned()) },
                    Part::RedactedThinking { data: "b3BhcXVl".to_owned() },
                    Part::Thinking { text: String::new(), signature: Some("b25seQ==".to_owned()) },
                    Part::Thinking { text: "Unproven.".to_owned(), signature: None },
                    text("I look."),
                    call("call_a", "{\"n\": 1.0, \"big\": 12345678901234567890123}", None),
                    call("call_b", " ", Some("Z2VtaW5p")),
                    call("call_c", "{\"broken\":", None),
                    call("call_d", "[1]", None),
                ],
                reason(FinishReason::Stop),
            ),
        ),
        ("refusal", answer(vec![Part::Refusal { text: "I can't.".to_owned() }], reason(FinishReason::Stop))),
        ("length", answer(vec![text("It goes on")], reason(FinishReason::Length))),
        (
            "logprobs",
            Answer {
                choices: vec![Choice {
                    parts: vec![text("A")],
                    finish: reason(FinishReason::Stop),
                    logprobs: serde_json::from_str(logprobs).ok(),
                }],
                ..Answer::default()
            },
        ),
        ("empty", Answer::default()),
    ]
}

/// Compares with a golden file.
pub fn compare(dialect: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fronts").join(dialect);
    let path = folder.join(name);
    if std::env::var_os("GATEWAY_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&golden), "{dialect}/{name}");
}

/// The names and data of all events; fails where an event is not whole or not named as its type.
pub fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"), "{text:?}");
    let mut events = Vec::new();
    for event in text.split_terminator("\n\n") {
        if event.starts_with(':') {
            continue;
        }
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"], "{event}");
        events.push(data);
    }
    events
}

/// Fails where blocks of Messages overlap, have gaps in their numbers, or are still open at the end.
pub fn check_blocks(name: &str, bytes: &[u8]) {
    let mut open = None;
    let mut next = 0;
    let events = events(bytes);
    for (number, event) in events.iter().enumerate() {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "message_start" => assert!(next == 0 && open.is_none(), "{name}"),
            "content_block_start" => {
                assert_eq!((index, open), (Some(next), None), "{name}");
                open = index;
                next += 1;
            }
            "content_block_delta" => assert_eq!(index, open, "{name}"),
            "content_block_stop" => assert_eq!(index, open.take(), "{name}"),
            "message_delta" => assert!(open.is_none(), "{name}"),
            "message_stop" | "error" => assert_eq!(number + 1, events.len(), "{name}"),
            "ping" => {}
            other => panic!("{name}: {other}"),
        }
    }
}

/// Fails where events of Responses are out of number, an item is told of before it began or twice, or the end repeats something
/// else than what came.
pub fn check_items(name: &str, bytes: &[u8]) {
    let events = events(bytes);
    let mut added: BTreeMap<u64, Value> = BTreeMap::new();
    let mut done: BTreeMap<u64, Value> = BTreeMap::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{name}");
        let kind = event["type"].as_str().unwrap();
        let place = event["output_index"].as_u64();
        match (kind, place) {
            ("response.created", _) => assert_eq!(number, 0, "{name}"),
            ("response.in_progress", _) => assert_eq!(number, 1, "{name}"),
            ("response.output_item.added", Some(place)) => {
                assert_eq!(place, added.len() as u64, "{name}");
                added.insert(place, event["item"]["id"].clone());
            }
            ("response.output_item.done", Some(place)) => {
                assert_eq!(event["item"]["id"], added[&place], "{name}");
                assert!(done.insert(place, event["item"].clone()).is_none(), "{name}");
            }
            (_, Some(place)) => {
                assert_eq!(event["item_id"], added[&place], "{name}");
                assert!(!done.contains_key(&place), "{name}: {kind}");
            }
            (_, None) => assert_eq!(number + 1, events.len(), "{name}"),
        }
    }
    let last = events.last().unwrap();
    let kind = last["type"].as_str().unwrap();
    assert!(["response.completed", "response.incomplete", "response.failed"].contains(&kind), "{name}");
    assert_eq!(kind, format!("response.{}", last["response"]["status"].as_str().unwrap()));
    assert!(kind == "response.failed" || done.len() == added.len(), "{name}");
    let output: Vec<&Value> = last["response"]["output"].as_array().unwrap().iter().collect();
    assert_eq!(output, done.values().collect::<Vec<_>>(), "{name}");
}

/// Bodies of requests that were recorded, by a part of the endpoint's path; with the names of their files.
pub fn recorded_requests(folder: &str, endpoint: &str) -> Vec<(String, Vec<u8>)> {
    let Some(root) = vectors::folder() else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut bodies = Vec::new();
    for path in paths {
        let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for exchange in cassette["exchanges"].as_array().unwrap() {
            let request = &exchange["request"];
            if request["path"].as_str().is_some_and(|path| path.contains(endpoint))
                && request["body_json"].is_object()
            {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                bodies.push((name, request["body_json"].to_string().into_bytes()));
            }
        }
    }
    assert!(bodies.len() > 1, "{folder} has recordings of {endpoint}");
    bodies
}

/// Bodies that no front takes, and that none may fall over.
pub fn hostile() -> Vec<Vec<u8>> {
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000)).into_bytes();
    vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"{}".to_vec(),
        b"{} {}".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{\"model\":\"a\",\"model\":\"b\"}".to_vec(),
        b"{\"model\":\"\\ud800\"}".to_vec(),
        b"{\"model\":1}".to_vec(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!("{{{}\"model\":\"a\"}}", (0..5000).map(|n| format!("\"k{n}\":0,")).collect::<String>())
            .into_bytes(),
    ]
}

/// Replaces each value of a good body in turn by each of a few bad ones, and cuts it at many places; hands all to `read`.
pub fn mutate(good: &Value, read: &dyn Fn(&[u8])) {
    let bad =
        ["null", "0", "-1", "1.5", "true", "\"\"", "\"x\"", "[]", "[0]", "[[]]", "{}", "{\"type\":\"x\"}"];
    let bad: Vec<Value> = bad.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let mut pointers = Vec::new();
    let mut queue = vec![String::new()];
    while let Some(pointer) = queue.pop() {
        match good.pointer(&pointer).unwrap() {
            Value::Object(fields) => queue.extend(fields.keys().map(|key| format!("{pointer}/{key}"))),
            Value::Array(elements) => {
                queue.extend((0..elements.len()).map(|place| format!("{pointer}/{place}")))
            }
            _ => {}
        }
        pointers.push(pointer);
    }
    for pointer in pointers {
        for value in &bad {
            let mut body = good.clone();
            *body.pointer_mut(&pointer).unwrap() = value.clone();
            read(body.to_string().as_bytes());
        }
    }
    let whole = good.to_string();
    for cut in (0..whole.len()).step_by(7) {
        read(&whole.as_bytes()[..cut]);
    }
}

#[test]
fn white_space_goes_and_texts_stay() {
    assert_eq!(
        fields::compact(" { \"a b\\\" \" : [ 1 , 2.50 ] ,\n\"\\\\\" : \" \" } "),
        "{\"a b\\\" \":[1,2.50],\"\\\\\":\" \"}"
    );
}
