//! A whole answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::translate::conversation::{Part, ToolCall};
use crate::translate::{Answer, Choice, Finish, FinishReason, ReplyContext, Tokens, Unreadable};
use crate::wire::usage::MessagesUsage;

/// Text that stays where it is in the provider's bytes when it has no escapes. (`Option<Cow>` would always copy.)
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// An answer, as far as it is read.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Typed<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

/// A block of a kind that is read.
#[derive(Debug, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) data: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) input: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    /// Reads a block. One of another kind is nothing: it may use the same names for other things.
    pub(super) fn read(raw: &'a RawValue) -> Result<Option<Self>, Unreadable> {
        let typed: Typed<'_> = serde_json::from_str(raw.get()).map_err(|_| Unreadable)?;
        if !matches!(&*typed.kind, "text" | "thinking" | "redacted_thinking" | "tool_use") {
            return Ok(None);
        }
        serde_json::from_str(raw.get()).map(Some).map_err(|_| Unreadable)
    }
}

/// Reads the body of an answer with status 200.
///
/// # Errors
/// When it is no message.
pub fn read(body: &[u8], context: &ReplyContext) -> Result<Answer, Unreadable> {
    let message: Message<'_> = serde_json::from_slice(body).map_err(|_| Unreadable)?;
    let mut parts = Vec::new();
    let mut json = None;
    let mut calls = 0_u32;
    for raw in message.content {
        let Some(block) = Block::read(raw)? else { continue };
        let text = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned()).unwrap_or_default();
        match &*block.kind {
            "text" => match text(block.text) {
                text if text.is_empty() => {}
                text => parts.push(Part::Text { text, cache: None }),
            },
            "thinking" => parts.push(Part::Thinking {
                text: text(block.thinking),
                signature: block.signature.map(|signature| signature.0.into_owned()),
            }),
            "redacted_thinking" => parts.push(Part::RedactedThinking { data: text(block.data) }),
            "tool_use" => {
                let arguments = block.input.map_or_else(|| "{}".to_owned(), |input| arguments(input.get()));
                let name = text(block.name);
                if context.json_tool.as_deref() == Some(name.as_str()) {
                    json.get_or_insert(arguments);
                    continue;
                }
                let id = match text(block.id) {
                    id if id.is_empty() => made_id(calls),
                    id => id,
                };
                calls = calls.saturating_add(1);
                let name = context.callers_tool_name(&name).to_owned();
                parts.push(Part::ToolCall(ToolCall { id, name, arguments, signature: None, cache: None }));
            }
            _ => {}
        }
    }
    if let Some(text) = json {
        // Words beside it would make the content no JSON.
        parts.retain(|part| !matches!(part, Part::Text { .. }));
        parts.push(Part::Text { text, cache: None });
    }
    let owned = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned());
    let finish = finish(
        message.stop_reason.as_ref().map_or("", |reason| &reason.0),
        owned(message.stop_sequence),
        message.stop_details,
        context.json_tool.is_some() && calls == 0,
    );
    let mut usage = MessagesUsage::default();
    let is_counted = message.usage.is_some_and(|raw| usage.update(raw.get().as_bytes()));
    Ok(Answer {
        id: owned(message.id).filter(|id| !id.is_empty()),
        model: owned(message.model).filter(|model| !model.is_empty()),
        created_s: None,
        choices: vec![Choice { parts, finish, logprobs: None }],
        tokens: is_counted.then(|| tokens(&usage)),
    })
}

/// An id for a call that came without one.
pub(super) fn made_id(number: u32) -> String {
    format!("call_{number}")
}

/// Arguments as compact JSON text of an object.
pub(super) fn arguments(json: &str) -> String {
    if json.trim() == "null" {
        return "{}".to_owned();
    }
    let mut compact = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        compact.push(c);
    }
    compact
}

#[derive(Debug, Default, Deserialize)]
struct StopDetails {
    #[serde(default)]
    explanation: Option<String>,
}

/// Why an answer ended. With `json_only` a call of the tool for JSON is the answer itself.
pub(super) fn finish(
    stop_reason: &str,
    stop_sequence: Option<String>,
    stop_details: Option<&RawValue>,
    json_only: bool,
) -> Finish {
    let says_more = Some(stop_reason.to_owned());
    let (reason, native) = match stop_reason {
        "end_turn" | "stop_sequence" | "" => (FinishReason::Stop, None),
        "max_tokens" => (FinishReason::Length, None),
        "model_context_window_exceeded" => (FinishReason::Length, says_more),
        "tool_use" if json_only => (FinishReason::Stop, None),
        "tool_use" => (FinishReason::ToolCalls, None),
        "refusal" => (FinishReason::ContentFilter, says_more),
        // `pause_turn`, and what is not known yet.
        _ => (FinishReason::Stop, says_more),
    };
    let details = stop_details.and_then(|raw| serde_json::from_str::<StopDetails>(raw.get()).ok());
    Finish { reason, native, stop_sequence, explanation: details.and_then(|details| details.explanation) }
}

/// Five disjoint counters.
pub(super) fn tokens(usage: &MessagesUsage) -> Tokens {
    let written = usage.cache_write.unwrap_or(0);
    let cache_write_1h = usage.cache_write_1h.unwrap_or(0).min(written);
    let output = usage.output.unwrap_or(0);
    Tokens {
        fresh_input: usage.fresh_input.unwrap_or(0),
        cache_read: usage.cache_read.unwrap_or(0),
        cache_write_5m: written - cache_write_1h,
        cache_write_1h,
        output,
        reasoning: usage.thinking.unwrap_or(0).min(output),
    }
}
