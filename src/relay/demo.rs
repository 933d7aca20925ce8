//! The built-in provider of a demo: says the last user message back, word by word, with honest counts of words.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::answer::{After, Answer, Framing};
use super::endpoint::Endpoint;
use super::meter::Meter;
use crate::authz::Permit;
use crate::clock::UnixMillis;
use crate::domain::{Outcome, TokenCounts, TokenOrigin};
use crate::failure::Failure;
use crate::http::Connection;
use crate::wire::tree;

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Value,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts
                .iter()
                .filter_map(|part| part.get("text").and_then(Value::as_str))
                .collect::<Vec<_>>()
                .join(" "),
            _ => String::new(),
        }
    }
}

/// Answers a permitted call without any network.
pub(super) fn answer(
    connection: &mut Connection,
    answer: &Answer<'_>,
    endpoint: &Endpoint,
    permit: &Permit,
    body: &[u8],
    meter: &mut Meter<'_>,
) -> Result<After, Refusal> {
    if endpoint.path != "chat/completions" {
        return Err(Refusal::after_body(Failure::BadRequest(
            "The demo's model answers chat/completions only".into(),
        )));
    }
    let body = Some(body).filter(|body| !tree::nests_deeper_than(body, tree::MAX_DEPTH));
    let request: Request = serde_json::from_slice(body.unwrap_or_default()).map_err(|_| {
        Refusal::after_body(Failure::BadRequest("'messages' is not a list of messages".into()))
    })?;
    let said = request.messages.iter().rev().find(|message| message.role == "user").map(Message::text);
    let Some(said) = said else {
        return Err(Refusal::after_body(Failure::BadRequest("There is no user message to say back".into())));
    };
    let words: Vec<&str> = said.split_inclusive(char::is_whitespace).collect();
    let count = |text: &str| u64::try_from(text.split_whitespace().count()).unwrap_or(0);
    let input = request.messages.iter().map(|message| count(&message.text())).sum();
    let output = u64::try_from(words.len()).unwrap_or(0);
    meter.reached_provider();
    meter.status(200);
    meter.tokens(TokenCounts { input, output, origin: TokenOrigin::Reported, ..TokenCounts::default() });
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let streams = request.stream == Some(true);
    meter.first_byte(streams);
    let mut head = answer.begin(200);
    let model = permit.route().resolved_name();
    head.line(b"x-tfy-resolved-model", model.as_bytes());
    let common = json!({
        "id": format!("chatcmpl-{}", answer.request_id),
        "created": UnixMillis::now().0 / 1000,
        "model": permit.route().model_id(),
    });
    let with = |object: &str, more: Value| {
        let mut all = json!({"object": object});
        if let Value::Object(all) = &mut all {
            let parts = [common.as_object(), more.as_object()];
            all.extend(
                parts.into_iter().flatten().flatten().map(|(key, value)| (key.clone(), value.clone())),
            );
        }
        all
    };
    if !streams {
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": said, "refusal": null},
            "logprobs": null, "finish_reason": "stop"});
        let body = with("chat.completion", json!({"choices": [choice], "usage": usage})).to_string();
        head.line(b"content-type", b"application/json");
        let length = u64::try_from(body.len()).unwrap_or(0);
        let after = answer.frame(&mut head, Framing::Length(length));
        meter.answer_sent(body.as_bytes());
        return Ok(match connection.write(&[&head.finish(), body.as_bytes()]) {
            Ok(()) => {
                meter.outcome(Outcome::Complete);
                after
            }
            Err(_) => gone(meter),
        });
    }
    let wants_usage = request.stream_options.and_then(|options| options.include_usage) == Some(true);
    head.line(b"content-type", b"text/event-stream");
    let framing = answer.framing(None);
    let after = answer.frame(&mut head, framing);
    // One event at a time: a message of many words must not become as many events in memory.
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        with("chat.completion.chunk", json!({"choices": [choice]})).to_string()
    };
    let first = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    let said = words.iter().map(|word| chunk(json!({"content": word}), Value::Null));
    let last = chunk(json!({}), json!("stop"));
    let counted = wants_usage
        .then(|| with("chat.completion.chunk", json!({"choices": [], "usage": usage})).to_string());
    let events = std::iter::once(first)
        .chain(said)
        .chain(std::iter::once(last))
        .chain(counted)
        .chain(std::iter::once("[DONE]".to_owned()));
    if connection.write(&[&head.finish()]).is_err() {
        return Ok(gone(meter));
    }
    for event in events {
        let event = format!("data: {event}\n\n");
        if write_event(connection, framing, &event).is_err() {
            return Ok(gone(meter));
        }
        meter.answer_sent(event.as_bytes());
    }
    if framing == Framing::Chunked && connection.write(&[b"0\r\n\r\n"]).is_err() {
        return Ok(gone(meter));
    }
    meter.outcome(Outcome::Complete);
    Ok(after)
}

fn write_event(connection: &mut Connection, framing: Framing, event: &str) -> std::io::Result<()> {
    if framing == Framing::Chunked {
        connection.write(&[format!("{:x}\r\n", event.len()).as_bytes(), event.as_bytes(), b"\r\n"])
    } else {
        connection.write(&[event.as_bytes()])
    }
}

fn gone(meter: &mut Meter<'_>) -> After {
    meter.outcome(Outcome::CallerGone);
    After::Abort
}
