//! Recorded traffic of each provider through its back and then through the fronts of Messages and Responses.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tests::{IDENTITY, check_blocks, check_items, events, recorded_requests};
use crate::translate::front::responses::Echo;
use crate::translate::tests::vectors;
use crate::translate::{Back, Front, ReplyContext, Target, Translation, capability};

const FOLDERS: [(&str, Back, &str); 8] = [
    ("cassettes/anthropic", Back::Anthropic, "/v1/messages"),
    ("cassettes/gemini", Back::Gemini, "enerateContent"),
    ("cassettes/vertex", Back::Gemini, "enerateContent"),
    ("cassettes/bedrock", Back::Converse, "/converse"),
    ("cassettes/openai", Back::OpenAi, "/chat/completions"),
    ("cassettes/azure", Back::OpenAi, "/chat/completions"),
    ("cassettes/openai_compatible", Back::OpenAi, "/chat/completions"),
    ("llamacpp", Back::OpenAi, "/chat/completions"),
];

/// An answer that was recorded.
struct Recorded {
    name: String,
    back: Back,
    is_stream: bool,
    body: Vec<u8>,
}

fn recorded() -> Vec<Recorded> {
    let Some(root) = vectors::folder() else { return Vec::new() };
    let mut all = Vec::new();
    for (folder, back, endpoint) in FOLDERS {
        let mut paths: Vec<_> =
            std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for (number, exchange) in cassette["exchanges"].as_array().into_iter().flatten().enumerate() {
                let response = &exchange["response"];
                let asked = exchange["request"]["path"].as_str().unwrap_or_default();
                if response["status"] != 200 || !asked.contains(endpoint) || asked.contains("count") {
                    continue;
                }
                let body = match (response["body_text"].as_str(), response["body_base64"].as_str()) {
                    (Some(text), _) => text.as_bytes().to_vec(),
                    (None, Some(base64)) => decoded(base64),
                    (None, None) => continue,
                };
                let kind = response["headers"].to_string().to_ascii_lowercase();
                let is_stream = kind.contains("event-stream") || kind.contains("eventstream");
                let name = format!("{}#{number}", path.file_name().unwrap().to_string_lossy());
                all.push(Recorded { name, back, is_stream, body });
            }
        }
    }
    assert!(all.len() > 50, "{}", all.len());
    all
}

fn decoded(base64: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = base64.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let bits = four.iter().enumerate().fold(0, |bits, (place, digit)| bits | digit << (18 - 6 * place));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

/// What a front writes for a recorded stream, and whether the provider's end was seen and was no error.
fn translated(front: Front, recorded: &Recorded, piece: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut translation = Translation::new(
        front,
        recorded.back,
        &IDENTITY,
        (true, Echo::default()),
        ReplyContext::default(),
        1 << 20,
    );
    recorded.body.chunks(piece).for_each(|bytes| translation.push(bytes, &mut out));
    translation.body_ended(&mut out);
    (out, translation.is_finished() && !translation.has_errored())
}

/// Content, reason and usage of a Messages stream, as a client adds them up.
fn added_up(bytes: &[u8]) -> (BTreeMap<u64, Value>, Value, Value) {
    let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
    let (mut reason, mut usage) = (Value::Null, Value::Null);
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    for line in text.lines().filter_map(|line| line.strip_prefix("data:")) {
        let event: Value = serde_json::from_str(line).unwrap();
        let index = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "content_block_start" => {
                let mut block = event["content_block"].clone();
                block.as_object_mut().unwrap().retain(|name, value| {
                    !value.is_null() && !["input", "caller", "citations"].contains(&name.as_str())
                });
                blocks.insert(index, block);
            }
            "content_block_delta" => {
                for (name, value) in event["delta"].as_object().unwrap() {
                    let (true, Some(more)) = (name != "type", value.as_str()) else { continue };
                    let whole = blocks.get_mut(&index).unwrap().as_object_mut().unwrap();
                    let so_far = whole.entry(name).or_insert_with(|| "".into());
                    *so_far = format!("{}{more}", so_far.as_str().unwrap()).into();
                }
            }
            "message_delta" => {
                reason = event["delta"]["stop_reason"].clone();
                usage = event["usage"]["output_tokens"].clone();
            }
            _ => {}
        }
    }
    (blocks, reason, usage)
}

#[test]
fn recorded_streams_are_whole_in_both_dialects() {
    let mut whole = 0;
    let all = recorded();
    for stream in all.iter().filter(|recorded| recorded.is_stream) {
        let (messages, ended) = translated(Front::Messages, stream, 7);
        check_blocks(&stream.name, &messages);
        let (responses, _) = translated(Front::Responses, stream, 7);
        assert_eq!(messages.ends_with(b"data: {\"type\":\"message_stop\"}\n\n"), ended, "{}", stream.name);
        if ended {
            check_items(&stream.name, &responses);
            let last = events(&messages).pop().unwrap();
            assert_eq!(last["type"], "message_stop", "{}", stream.name);
            whole += 1;
        }
        assert_eq!(translated(Front::Messages, stream, 4096).0, messages, "{}", stream.name);
    }
    assert!(all.is_empty() || whole > 20, "{whole}");
}

#[test]
fn anthropics_own_streams_say_the_same_again() {
    let (all, mut compared) = (recorded(), 0);
    for stream in &all {
        let hosted = String::from_utf8_lossy(&stream.body).contains("server_tool_use\",\"id");
        if !stream.is_stream || stream.back != Back::Anthropic || hosted {
            continue;
        }
        let (again, ended) = translated(Front::Messages, stream, 100);
        assert!(ended, "{}", stream.name);
        assert_eq!(added_up(&again), added_up(&stream.body), "{}", stream.name);
        compared += 1;
    }
    assert!(all.is_empty() || compared > 5, "{compared}");
}

#[test]
fn recorded_answers_are_written_in_both_dialects() {
    for answer in recorded().iter().filter(|recorded| !recorded.is_stream) {
        let Ok(read) = answer.back.read(&answer.body, &ReplyContext::default()) else {
            panic!("{} can not be read", answer.name);
        };
        for (front, kind) in [(Front::Messages, "message"), (Front::Responses, "response")] {
            let body: Value =
                serde_json::from_slice(&front.write(&read, &IDENTITY, &Echo::default())).unwrap();
            let said = if front == Front::Messages { &body["type"] } else { &body["object"] };
            assert_eq!(said, kind, "{}", answer.name);
        }
    }
}

#[test]
fn recorded_requests_are_built_for_every_provider() {
    let (mut built, mut refused) = (0, Vec::new());
    for (front, folder, endpoint) in [
        (Front::Messages, "cassettes/anthropic", "/v1/messages"),
        (Front::Responses, "cassettes/openai", "/responses"),
    ] {
        for (name, body) in recorded_requests(folder, endpoint) {
            let Ok(conversation) = front.read(&body) else { continue };
            for (back, word, model_id) in [
                (Back::OpenAi, "openai", "gpt-4o"),
                (Back::Anthropic, "anthropic", "claude-sonnet-4-5"),
                (Back::Converse, "converse", "amazon.nova-pro-v1:0"),
                (Back::Gemini, "gemini", "gemini-2.5-flash"),
            ] {
                let capability = capability::of(word, model_id, None);
                let target = Target { provider: "p", model_id, capability, drop_unsupported: true };
                match back.build(&conversation, &target) {
                    Ok(request) => {
                        assert!(serde_json::from_slice::<Value>(&request.body).is_ok(), "{name} {back:?}");
                        built += 1;
                    }
                    Err(refusal) => refused.push(format!("{name} {back:?}: {refusal}")),
                }
            }
        }
    }
    refused.iter().for_each(|refusal| println!("{refusal}"));
    assert!(refused.len() * 5 <= built, "{built} built, refused: {refused:#?}");
}
