//! The response object, as it stands in a body and in events.

use std::borrow::Cow;

use crate::translate::Identity;
use crate::translate::answer::{Finish, FinishReason, ProviderError, Tokens};
use crate::translate::front::carried::Carried;
use crate::translate::front::emit::{Object, object, push_string};
use crate::translate::front::fields::{Fields, compact};

/// Fields of a request that the answer repeats, with what stands there when nothing is known.
const ECHOED: &[(&str, &str)] = &[
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "null"),
    ("top_p", "null"),
    ("user", "null"),
];

/// Bytes of a request that an answer repeats at most: a stream has them three times.
const MAX_ECHOED_BYTES: usize = 64 << 10;

/// What an answer repeats of its request.
#[derive(Clone, Debug, Default)]
pub struct Echo(Vec<(&'static str, String)>);

impl Echo {
    /// From a request that `read` took; nothing from any other. What is too large to be repeated is left out.
    pub fn read(body: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(body) else { return Self::default() };
        let Ok(mut fields) = Fields::read(text, String::new()) else { return Self::default() };
        let mut room = MAX_ECHOED_BYTES;
        let mut echoed = Vec::new();
        for (name, _) in ECHOED {
            let Some(raw) = fields.take(name) else { continue };
            if let Some(left) = room.checked_sub(raw.get().len()) {
                room = left;
                // Line breaks between tokens would end the data line of an event.
                echoed.push((*name, compact(raw.get())));
            }
        }
        Self(echoed)
    }

    fn of(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, json)| json.as_str())
    }
}

/// What is the same in all response objects of one answer.
#[derive(Debug)]
pub struct Head<'a> {
    /// With its prefix, or the provider's.
    pub id: Cow<'a, str>,
    /// The provider's name, or the caller's.
    pub model: Cow<'a, str>,
    /// Unix seconds.
    pub created_s: u64,
    /// What the answer repeats.
    pub echo: &'a Echo,
}

/// How an answer stands.
#[derive(Clone, Copy, Debug)]
pub enum Status<'a> {
    /// It comes.
    InProgress,
    /// It ended, for this reason.
    Ended(&'a Finish),
    /// The provider failed.
    Failed(&'a ProviderError),
}

impl Status<'_> {
    /// The word in the object, and in the name of the terminal event.
    pub fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Failed(_) => "failed",
            Self::Ended(Finish { reason: FinishReason::Length | FinishReason::ContentFilter, .. }) => {
                "incomplete"
            }
            Self::Ended(_) => "completed",
        }
    }
}

/// The id of an answer that has none of the provider's.
pub fn made_id(identity: &Identity<'_>) -> String {
    format!("resp_{}", identity.unique)
}

/// All fields of a response object. `output`: the items between its brackets.
pub fn push_response(
    response: &mut Object<'_>,
    head: &Head<'_>,
    status: Status<'_>,
    output: &[u8],
    tokens: Option<&Tokens>,
) {
    response.text("id", &head.id).text("object", "response").number("created_at", head.created_s);
    response.text("status", status.word()).json("background", "false");
    match status {
        Status::Failed(error) => {
            response.object("error", |fields| {
                fields.text("code", failed_code(error)).text("message", &error.message);
            });
        }
        _ => {
            response.json("error", "null");
        }
    }
    let incomplete = match status {
        Status::Ended(Finish { reason: FinishReason::Length, .. }) => r#"{"reason":"max_output_tokens"}"#,
        Status::Ended(Finish { reason: FinishReason::ContentFilter, .. }) => r#"{"reason":"content_filter"}"#,
        _ => "null",
    };
    response.json("incomplete_details", incomplete).text("model", &head.model);
    let list = response.key("output");
    list.push(b'[');
    list.extend_from_slice(output);
    list.push(b']');
    for (name, default) in ECHOED {
        response.json(name, head.echo.of(name).unwrap_or(default));
    }
    response.json("previous_response_id", "null").json("service_tier", "null").json("store", "false");
    response.json("truncation", "\"disabled\"");
    match tokens {
        None => response.json("usage", "null"),
        Some(tokens) => response.object("usage", |usage| push_usage(usage, tokens)),
    };
}

fn push_usage(usage: &mut Object<'_>, tokens: &Tokens) {
    usage.number("input_tokens", tokens.input());
    usage.object("input_tokens_details", |details| {
        let writes = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
        details.number("cached_tokens", tokens.cache_read).number("cache_write_tokens", writes);
    });
    usage.number("output_tokens", tokens.output);
    usage.object("output_tokens_details", |details| {
        details.number("reasoning_tokens", tokens.reasoning.min(tokens.output));
    });
    usage.number("total_tokens", tokens.input().saturating_add(tokens.output));
}

/// One of the few codes that the dialect has for an answer that failed.
fn failed_code(error: &ProviderError) -> &'static str {
    match error.status {
        429 => "rate_limit_exceeded",
        400 | 413 | 422 => "invalid_prompt",
        _ => "server_error",
    }
}

/// A content part of text. `logprobs`: the elements between the brackets of a list.
pub fn push_text_part(out: &mut Vec<u8>, text: &str, logprobs: &str) {
    object(out, |part| {
        part.text("type", "output_text").text("text", text).json("annotations", "[]");
        part.json("logprobs", &format!("[{logprobs}]"));
    });
}

/// A content part of a refusal.
pub fn push_refusal_part(out: &mut Vec<u8>, text: &str) {
    object(out, |part| {
        part.text("type", "refusal").text("refusal", text);
    });
}

/// A message of the model. `content`: its parts between the brackets.
pub fn push_message(out: &mut Vec<u8>, id: &str, status: &str, content: &[u8]) {
    object(out, |item| {
        item.text("id", id).text("type", "message").text("status", status).text("role", "assistant");
        let list = item.key("content");
        list.push(b'[');
        list.extend_from_slice(content);
        list.push(b']');
    });
}

/// A call of a function.
pub fn push_call(out: &mut Vec<u8>, id: &str, status: &str, call_id: &str, name: &str, arguments: &str) {
    object(out, |item| {
        item.text("id", id).text("type", "function_call").text("status", status);
        item.text("call_id", call_id).text("name", name).text("arguments", arguments);
    });
}

/// What the model thought: what can be read, and what is to be brought back.
pub fn push_reasoning(out: &mut Vec<u8>, id: &str, status: &str, text: &str, carried: Option<&Carried>) {
    object(out, |item| {
        item.text("id", id).text("type", "reasoning").text("status", status);
        let summary = item.key("summary");
        summary.push(b'[');
        if !text.is_empty() {
            push_summary_part(summary, text);
        }
        summary.push(b']');
        let encrypted = item.key("encrypted_content");
        match carried {
            Some(carried) => push_string(encrypted, &carried.write()),
            None => encrypted.extend_from_slice(b"null"),
        }
    });
}

/// One part of what can be read of thoughts.
pub fn push_summary_part(out: &mut Vec<u8>, text: &str) {
    object(out, |part| {
        part.text("type", "summary_text").text("text", text);
    });
}
