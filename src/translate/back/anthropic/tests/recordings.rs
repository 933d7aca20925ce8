//! Recorded answers and streams of the provider. They are no part of the project; without them nothing is shown here.

use std::path::{Path, PathBuf};

use super::*;
use crate::translate::FinishReason;
use crate::translate::tests::vectors;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|dir| dir.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

/// The counts of a usage object, taken apart by hand.
fn counted(usage: &Value) -> (u64, u64) {
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    let input =
        count("input_tokens") + count("cache_creation_input_tokens") + count("cache_read_input_tokens");
    (input, count("output_tokens"))
}

/// The final usage of a stream: what its end says, else what its beginning said.
fn final_usage(events: &[Value]) -> Value {
    let mut usage = serde_json::Map::new();
    for event in events {
        for told in [&event["message"]["usage"], &event["usage"]] {
            let told = told.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            usage.extend(told.map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    Value::Object(usage)
}

fn data_of(body: &str) -> Vec<Value> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

/// What any whole stream has to be, and the text that it says.
fn check_stream(name: &str, body: &str) {
    let all = data_of(body);
    let seen = events_of(&ReplyContext::default(), body);
    assert!(seen[0].starts_with("Start {"), "{name}: {seen:#?}");
    assert_eq!(seen.last().unwrap(), "End", "{name}: {seen:#?}");
    let count = |what: &str| seen.iter().filter(|event| event.starts_with(what)).count();
    assert_eq!((count("Start"), count("Finish"), count("Error")), (1, 1, 0), "{name}");
    assert_eq!(count("ToolStart"), count("ToolEnd"), "{name}");
    let blocks = |kind: &str| all.iter().filter(|event| event["content_block"]["type"] == kind).count();
    assert_eq!(count("ToolStart"), blocks("tool_use"), "{name}");
    let mut reader = StreamReader::new(ReplyContext::default());
    let (mut text, mut thinking, mut arguments, mut tokens) =
        (String::new(), String::new(), String::new(), None);
    for event in &all {
        let framed = format!("data: {event}\n\n");
        reader.read(framed.as_bytes(), &mut |event| match event {
            crate::translate::Event::Text { text: piece, .. } => text.push_str(&piece),
            crate::translate::Event::Thinking { text: piece, .. } => thinking.push_str(&piece),
            crate::translate::Event::ToolArguments { fragment, .. } => arguments.push_str(&fragment),
            crate::translate::Event::Tokens(counts) => tokens = Some(counts),
            _ => {}
        });
    }
    let joined =
        |key: &str| -> String { all.iter().filter_map(|event| event["delta"][key].as_str()).collect() };
    assert_eq!(text, joined("text"), "{name}");
    assert_eq!(thinking, joined("thinking"), "{name}");
    if blocks("server_tool_use") == 0 && !joined("partial_json").is_empty() {
        assert_eq!(arguments, joined("partial_json"), "{name}");
    }
    let tokens = tokens.unwrap();
    assert_eq!((tokens.input(), tokens.output), counted(&final_usage(&all)), "{name}");
}

#[test]
fn recorded_exchanges() {
    let Some(folder) = vectors::folder() else { return };
    let (mut answers, mut streams, mut errors) = (0, 0, 0);
    for path in files(&folder.join("cassettes/anthropic")) {
        let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for exchange in cassette["exchanges"].as_array().unwrap() {
            let (asked, answered) = (&exchange["request"], &exchange["response"]);
            let name = format!("{} {}", path.display(), asked["path"]);
            let text = answered["body_text"].as_str().unwrap_or_default();
            if !asked["path"].as_str().unwrap().ends_with("/messages") {
                continue;
            }
            match answered["status"].as_u64().unwrap() {
                200 if asked["body_json"]["stream"] == true => {
                    streams += 1;
                    check_stream(&name, text);
                }
                200 => {
                    answers += 1;
                    check_answer(&name, text);
                }
                status => {
                    errors += 1;
                    let status = u16::try_from(status).unwrap();
                    let got = error(status, &|_| None, text.as_bytes());
                    let body: Value = serde_json::from_str(text).unwrap();
                    assert_eq!(
                        (got.status, got.message.as_str()),
                        (status, body["error"]["message"].as_str().unwrap())
                    );
                    assert_eq!(got.request_id.as_deref(), body["request_id"].as_str());
                    let code = match status {
                        400 => "context_length_exceeded",
                        401 => "authentication_error",
                        _ => "model_not_found",
                    };
                    assert_eq!(got.code.as_deref(), Some(code), "{name}");
                }
            }
        }
    }
    assert!(answers >= 15 && streams >= 9 && errors >= 3, "{answers} {streams} {errors}");
}

fn check_answer(name: &str, text: &str) {
    let body: Value = serde_json::from_str(text).unwrap();
    let answer = read(text.as_bytes(), &ReplyContext::default()).unwrap();
    assert_eq!(answer.id.as_deref(), body["id"].as_str(), "{name}");
    assert_eq!(answer.model.as_deref(), body["model"].as_str(), "{name}");
    let tokens = answer.tokens.unwrap();
    assert_eq!((tokens.input(), tokens.output), counted(&body["usage"]), "{name}");
    let choice = &answer.choices[0];
    let called = choice.parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    assert_eq!(called, body["stop_reason"] == "tool_use", "{name}");
    assert_eq!(called, choice.finish.reason == FinishReason::ToolCalls, "{name}");
    for (kind, is_kind) in [
        ("text", (|part| matches!(part, Part::Text { .. })) as fn(&Part) -> bool),
        ("thinking", |part| matches!(part, Part::Thinking { .. })),
        ("tool_use", |part| matches!(part, Part::ToolCall(_))),
    ] {
        let blocks = body["content"].as_array().unwrap();
        let sent = blocks.iter().filter(|block| block["type"] == kind && block["text"] != "").count();
        assert_eq!(choice.parts.iter().filter(|part| is_kind(part)).count(), sent, "{name} {kind}");
    }
}

#[test]
fn streams_of_two_sdks_tests() {
    let Some(folder) = vectors::folder() else { return };
    let mut bodies = Vec::new();
    for path in files(&folder.join("sse/anthropic_sdk")) {
        bodies.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    }
    for path in files(&folder.join("sse/vercel_ai_anthropic")) {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        if name.ends_with(".chunks.txt") {
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            bodies.push((name, framed(&lines)));
        } else {
            check_answer(&name, &text);
        }
    }
    assert!(bodies.len() >= 17, "{}", bodies.len());
    let mut whole = 0;
    for (name, body) in &bodies {
        // An answer that begins again after half of it has passed is an error, not a second answer.
        if name.contains("spliced-message-start") {
            let seen = events_of(&ReplyContext::default(), body);
            assert!(seen.last().unwrap().starts_with("Error("), "{seen:#?}");
            continue;
        }
        check_stream(name, body);
        whole += 1;
    }
    assert!(whole >= 16);
}
