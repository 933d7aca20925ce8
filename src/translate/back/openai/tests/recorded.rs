//! Recorded traffic: every request reads and is built again, every answer and stream is read and written again, with
//! the same meaning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::translate::tests::vectors;

struct Recording {
    name: String,
    request: Option<Value>,
    status: u16,
    body: Vec<u8>,
    is_stream: bool,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// All chat exchanges; none, loudly, when the recordings are absent.
fn recordings() -> Vec<Recording> {
    let Some(folder) = vectors::folder() else { return Vec::new() };
    let mut found = Vec::new();
    for part in [
        "cassettes/openai",
        "cassettes/azure",
        "cassettes/openai_compatible",
        "cassettes/gemini_openai_compat",
        "llamacpp",
    ] {
        for path in files(&folder.join(part)) {
            let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for exchange in cassette["exchanges"].as_array().into_iter().flatten() {
                let target = exchange["request"]["path"].as_str().unwrap_or_default();
                if !target.ends_with("/chat/completions") {
                    continue;
                }
                let body = exchange["response"]["body_text"].as_str().unwrap_or_default();
                found.push(Recording {
                    name: path.file_name().unwrap().to_string_lossy().into_owned(),
                    request: exchange["request"].get("body_json").filter(|body| body.is_object()).cloned(),
                    status: u16::try_from(exchange["response"]["status"].as_u64().unwrap()).unwrap(),
                    is_stream: body.contains("data: {") && !body.trim_start().starts_with(['{', '[']),
                    body: body.as_bytes().to_vec(),
                });
            }
        }
    }
    for part in ["openai", "azure", "groq", "mistral", "deepseek", "xai"] {
        for path in files(&folder.join(format!("sse/vercel_ai_{part}"))) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let is_stream = name.ends_with(".chunks.txt");
            let first: Value =
                serde_json::from_str(if is_stream { text.lines().next().unwrap() } else { &text }).unwrap();
            if first["choices"].is_array() {
                let lines: String = text.lines().map(|line| format!("data: {line}\n\n")).collect();
                let body = if is_stream { lines + "data: [DONE]\n\n" } else { text };
                found.push(Recording {
                    name,
                    request: None,
                    status: 200,
                    body: body.into_bytes(),
                    is_stream,
                });
            }
        }
    }
    assert!(found.len() > 100, "the recordings were not found: {}", found.len());
    found
}

/// Without what says nothing, so that two forms of the same request are equal.
fn plain(mut request: Value) -> Value {
    request.as_object_mut().unwrap().retain(|name, _| name != "model" && name != "stream_options");
    for old in ["max_completion_tokens", "max_tokens"] {
        if let Some(most) = request.as_object_mut().unwrap().remove(old) {
            request["longest"] = most;
        }
    }
    if request["tools"] == json!([]) {
        request.as_object_mut().unwrap().retain(|name, _| name != "tools" && name != "tool_choice");
    }
    for value in request.as_object_mut().unwrap().values_mut() {
        if let Some(number) = value.as_f64() {
            *value = json!(number);
        }
    }
    for tool in request.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        tool["type"] = json!("function");
    }
    // OpenAI needs a name, so that one is made.
    if let Some(form) = request.pointer_mut("/response_format/json_schema").and_then(Value::as_object_mut) {
        form.entry("name").or_insert_with(|| json!("answer"));
    }
    if request["stream"] == false {
        request.as_object_mut().unwrap().remove("stream");
    }
    if let Some(stop) = request.get_mut("stop").filter(|stop| stop.is_string()) {
        *stop = json!([stop.clone()]);
    }
    for message in request["messages"].as_array_mut().unwrap() {
        let message = message.as_object_mut().unwrap();
        message.retain(|name, value| !(value.is_null() || name == "reasoning_content" && value == ""));
        if message["role"] == "developer" {
            message.insert("role".into(), json!("system"));
        }
        let single = message.get("content").and_then(|content| match content.as_array()?.as_slice() {
            [part] if part["type"] == "text" => Some(part["text"].clone()),
            _ => None,
        });
        if let Some(text) = single {
            message.insert("content".into(), text);
        }
        if message["role"] == "assistant"
            && message.contains_key("tool_calls")
            && message.get("content") == Some(&json!(""))
        {
            message.remove("content");
        }
        for part in message.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
            part.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            call.as_object_mut().unwrap().remove("index");
            call["type"] = json!("function");
        }
    }
    request
}

#[test]
fn every_request_reads_and_is_built_again() {
    let capability = Capability::default();
    let (mut read, mut same) = (0, 0);
    for recording in recordings() {
        let Some(request) = recording.request else { continue };
        let name = &recording.name;
        if recording.status == 400 && chat::read(request.to_string().as_bytes()).is_err() {
            continue;
        }
        let conversation =
            chat::read(request.to_string().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        read += 1;
        let built = build(&conversation, &target(&capability, true)).unwrap();
        let body: Value = serde_json::from_slice(&built.body).unwrap();
        let is_thinking = ["reasoning", "thinking"].iter().any(|field| request.get(field).is_some());
        if built.dropped.is_empty() && !is_thinking && !request.to_string().contains("reasoning_details") {
            assert_eq!(plain(body), plain(request), "{name}");
            same += 1;
        }
    }
    assert!(read == 0 || (read > 100 && same > 80), "read {read}, the same {same}");
}

/// Text, refusal, calls (id, name, arguments) and end.
type ChoiceMeaning = (String, String, Vec<[String; 3]>, String);

/// What an answer means: of each choice its text, refusal, calls and end, and the token counts.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    choices: BTreeMap<u64, ChoiceMeaning>,
    thoughts: String,
    tokens: Option<(u64, u64)>,
}

impl Meaning {
    fn message(&mut self, choice: &Value, message: &Value) {
        let entry = self.choices.entry(choice["index"].as_u64().unwrap()).or_default();
        match &message["content"] {
            Value::String(text) => entry.0.push_str(text),
            Value::Array(parts) => {
                for part in parts {
                    entry.0.push_str(part["text"].as_str().unwrap_or_default());
                    for thought in part["thinking"].as_array().into_iter().flatten() {
                        self.thoughts.push_str(thought["text"].as_str().unwrap());
                    }
                }
            }
            _ => {}
        }
        entry.1.push_str(message["refusal"].as_str().unwrap_or_default());
        let thought = message["reasoning_content"].as_str().or(message["reasoning"].as_str());
        self.thoughts.push_str(thought.unwrap_or_default());
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let function = &call["function"];
            let (id, name, arguments) =
                (text(&call["id"]), text(&function["name"]), text(&function["arguments"]));
            let is_new = !name.is_empty() && !entry.2.iter().any(|known| known[0] == id);
            if is_new {
                entry.2.push([id, name, arguments]);
            } else {
                entry.2.last_mut().unwrap()[2].push_str(&arguments);
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            entry.3 = reason.to_owned();
        }
    }

    fn usage(&mut self, body: &Value) {
        let usage = if body["usage"].is_object() { &body["usage"] } else { &body["x_groq"]["usage"] };
        if let Some(prompt) = usage["prompt_tokens"].as_u64() {
            let completion = usage["completion_tokens"].as_u64().unwrap_or_default();
            let hidden =
                usage["total_tokens"].as_u64().unwrap_or_default().saturating_sub(prompt + completion);
            self.tokens = Some((prompt, completion + hidden));
        }
    }

    /// Calls end as calls, and reasons are OpenAI's.
    fn usual(mut self) -> Self {
        for choice in self.choices.values_mut() {
            if choice.3 == "stop" && !choice.2.is_empty() {
                choice.3 = "tool_calls".into();
            }
            for call in &mut choice.2 {
                if call[2].is_empty() {
                    call[2] = "{}".into();
                }
                if call[0].is_empty() || call[0].starts_with("call_made_") {
                    call[0] = "made".into();
                }
            }
        }
        self
    }
}

fn meaning_of_stream(bytes: &[u8]) -> Meaning {
    let mut meaning = Meaning::default();
    for line in std::str::from_utf8(bytes).unwrap().lines() {
        let Some(Ok(chunk)) = line.strip_prefix("data:").map(serde_json::from_str::<Value>) else { continue };
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            if choice["delta"].is_object() {
                meaning.message(choice, &choice["delta"]);
            }
        }
        meaning.usage(&chunk);
    }
    meaning.usual()
}

fn meaning_of_answer(bytes: &[u8]) -> Meaning {
    let body: Value = serde_json::from_slice(bytes).unwrap();
    let mut meaning = Meaning::default();
    for choice in body["choices"].as_array().unwrap() {
        meaning.message(choice, &choice["message"]);
    }
    meaning.usage(&body);
    meaning.usual()
}

const IDENTITY: Identity<'static> = Identity { unique: "u", model: "m", created_s: 1 };

#[test]
fn every_answer_keeps_its_meaning() {
    let mut count = 0;
    for recording in recordings() {
        if recording.is_stream || recording.body.is_empty() {
            continue;
        }
        let name = &recording.name;
        if recording.status != 200 || recording.body.starts_with(b"{\"error\"") {
            let failure = error(recording.status, &|_| None, &recording.body);
            assert!((400..600).contains(&failure.status) && !failure.message.is_empty(), "{name}");
            continue;
        }
        let answer = read(&recording.body, &ReplyContext::default()).unwrap_or_else(|_| panic!("{name}"));
        let written = chat::write(&answer, &IDENTITY);
        assert_eq!(meaning_of_answer(&written), meaning_of_answer(&recording.body), "{name}");
        count += 1;
    }
    assert!(count == 0 || count > 60, "{count}");
}

#[test]
fn every_stream_keeps_its_meaning_however_it_is_cut() {
    let mut count = 0;
    for recording in recordings() {
        if !recording.is_stream {
            continue;
        }
        let name = &recording.name;
        let whole = events(&recording.body, usize::MAX);
        for piece in [1, 2, 3, 7, 1_000] {
            assert_eq!(events(&recording.body, piece), whole, "{name} in pieces of {piece}");
        }
        for end in (0..recording.body.len()).step_by(1 + recording.body.len() / 300) {
            let cut = events(&recording.body[..end], usize::MAX);
            let is_end = |event: &Event<'_>| matches!(event, Event::End | Event::Error(_));
            let common = cut.iter().zip(&whole).take_while(|(cut, whole)| cut == whole).count();
            // A cut event is a sign of life or an error, and behind a finish the end follows.
            assert!(cut.len() <= common + 2, "{name} cut at {end}: an event that the whole has not");
            assert!(cut.iter().filter(|event| is_end(event)).count() <= 1);
        }
        let mut writer = chat::StreamWriter::new(&IDENTITY, true);
        let mut written = Vec::new();
        for event in whole.iter().cloned() {
            writer.write(event, &mut written);
        }
        if let Some(Event::Error(failure)) = whole.last() {
            assert!(!failure.message.is_empty());
            continue;
        }
        assert_eq!(whole.last(), Some(&Event::End), "{name}");
        assert!(written.ends_with(b"data: [DONE]\n\n"));
        assert_eq!(meaning_of_stream(&written), meaning_of_stream(&recording.body), "{name}");
        count += 1;
    }
    assert!(count == 0 || count > 15, "{count}");
}
