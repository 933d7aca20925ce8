//! A whole answer of Converse, and what streams share with it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::translate::conversation::{Part, ToolCall};
use crate::translate::few::Few;
use crate::translate::{Answer, Choice, Finish, FinishReason, ReplyContext, Tokens, Unreadable};

/// Blocks of one answer.
const MAX_BLOCKS: usize = 16_384;
/// Pieces of one text with citations.
const MAX_CITED: usize = 1_024;
/// Times that a cache may last; there are two.
const MAX_CACHE_DETAILS: usize = 64;

/// Text that is borrowed from the JSON where nothing in it is escaped.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    #[serde(borrow)]
    stop_reason: Text<'a>,
    usage: Option<Usage>,
    #[serde(default, borrow)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    content: Few<Block<'a>, MAX_BLOCKS>,
}

/// One of the fields is there; kinds that are not known have none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Reasoning<'a>>,
    #[serde(borrow)]
    citations_content: Option<Cited<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    #[serde(default, borrow)]
    tool_use_id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning<'a> {
    #[serde(borrow)]
    reasoning_text: Option<ReasoningText<'a>>,
    #[serde(borrow)]
    redacted_content: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct ReasoningText<'a> {
    #[serde(default, borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    signature: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Cited<'a> {
    #[serde(default, borrow)]
    content: Few<CitedText<'a>, MAX_CITED>,
}

#[derive(Debug, Deserialize)]
struct CitedText<'a> {
    #[serde(default, borrow)]
    text: Text<'a>,
}

/// `usage`. Older answers repeat the counts of the cache under other names: those are not read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Few<CacheDetail, MAX_CACHE_DETAILS>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    ttl: Option<String>,
    input_tokens: Option<u64>,
}

impl Usage {
    /// Input excludes what a cache held and what was written to one, unless the total says otherwise; output includes
    /// reasoning, of which nothing is said.
    pub(super) fn tokens(&self) -> Tokens {
        let input = self.input_tokens.unwrap_or(0);
        let output = self.output_tokens.unwrap_or(0);
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_write_input_tokens.unwrap_or(0);
        let cached = read.saturating_add(written);
        let is_inside = cached > 0 && self.total_tokens == input.checked_add(output);
        let details = self.cache_details.iter().flat_map(|few| &few.0);
        let for_an_hour = details
            .filter(|detail| detail.ttl.as_deref() == Some("1h"))
            .fold(0_u64, |sum, detail| sum.saturating_add(detail.input_tokens.unwrap_or(0)))
            .min(written);
        Tokens {
            fresh_input: if is_inside { input.saturating_sub(cached) } else { input },
            cache_read: read,
            cache_write_5m: written - for_an_hour,
            cache_write_1h: for_an_hour,
            output,
            reasoning: 0,
        }
    }
}

/// Reads the body of a 200. The provider gives no id, no model and no time.
///
/// # Errors
/// For what is no answer, and for one that says that the model wrote nonsense.
pub fn read(body: &[u8], context: &ReplyContext) -> Result<Answer, Unreadable> {
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(|_| Unreadable)?;
    let mut parts = Vec::with_capacity(reply.output.message.content.0.len());
    let mut json = None;
    let mut calls = 0_usize;
    for block in reply.output.message.content {
        if let Some(text) = block.text {
            push_text(text.0, &mut parts);
        }
        for cited in block.citations_content.into_iter().flat_map(|cited| cited.content) {
            push_text(cited.text.0, &mut parts);
        }
        if let Some(reasoning) = block.reasoning_content {
            push_reasoning(reasoning, &mut parts);
        }
        let Some(call) = block.tool_use else { continue };
        let arguments = call.input.map_or("{}", RawValue::get);
        if context.json_tool.as_deref() == Some(call.name.0.as_ref()) {
            json.get_or_insert_with(|| arguments.to_owned());
            continue;
        }
        let id = match call.tool_use_id.0 {
            id if id.is_empty() => made_id(calls),
            id => id.into_owned(),
        };
        calls += 1;
        parts.push(Part::ToolCall(ToolCall {
            id,
            name: context.callers_tool_name(&call.name.0).to_owned(),
            arguments: arguments.to_owned(),
            signature: None,
            cache: None,
        }));
    }
    if let Some(text) = json {
        // What the model said around its answer is not a part of the JSON.
        parts.retain(|part| !matches!(part, Part::Text { .. }));
        parts.push(Part::Text { text, cache: None });
    }
    let fields = reply.additional_model_response_fields.map(RawValue::get);
    let finish = finish(&reply.stop_reason.0, calls > 0, fields).ok_or(Unreadable)?;
    Ok(Answer {
        choices: vec![Choice { parts, finish, logprobs: None }],
        tokens: reply.usage.as_ref().map(Usage::tokens),
        ..Answer::default()
    })
}

fn push_text(text: Cow<'_, str>, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text { text: text.into_owned(), cache: None });
    }
}

fn push_reasoning(reasoning: Reasoning<'_>, parts: &mut Vec<Part>) {
    if let Some(thought) = reasoning.reasoning_text {
        let signature =
            thought.signature.map(|signature| signature.0.into_owned()).filter(|text| !text.is_empty());
        if signature.is_some() || !thought.text.0.is_empty() {
            parts.push(Part::Thinking { text: thought.text.0.into_owned(), signature });
        }
    }
    if let Some(data) = reasoning.redacted_content.filter(|data| !data.0.is_empty()) {
        parts.push(Part::RedactedThinking { data: data.0.into_owned() });
    }
}

/// For a call without an id: unique in its answer.
pub(super) fn made_id(number: usize) -> String {
    format!("tooluse_{number}")
}

#[derive(Debug, Default, Deserialize)]
struct ModelFields {
    stop_sequence: Option<String>,
    delta: Option<Delta>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    stop_sequence: Option<String>,
}

/// Why the answer ended; `None`: the model wrote what the provider could not read.
pub(super) fn finish(stop_reason: &str, calls_tools: bool, model_fields: Option<&str>) -> Option<Finish> {
    let mut reason = match stop_reason {
        "malformed_model_output" | "malformed_tool_use" => return None,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        // `tool_use` without a call is the call that is the answer's JSON.
        _ => FinishReason::Stop,
    };
    if reason == FinishReason::Stop && calls_tools {
        reason = FinishReason::ToolCalls;
    }
    let says_more = !matches!(stop_reason, "end_turn" | "max_tokens" | "tool_use");
    let fields: ModelFields =
        model_fields.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let stop_sequence = fields.stop_sequence.or(fields.delta.and_then(|delta| delta.stop_sequence));
    Some(Finish {
        reason,
        native: says_more.then(|| stop_reason.chars().take(64).collect()),
        stop_sequence: stop_sequence.filter(|_| stop_reason == "stop_sequence"),
        explanation: None,
    })
}
