//! Whole answers.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Call, Content, Count, Text, Usage, blocks, filled, finish, made_id};
use crate::translate::conversation::{Part, ToolCall};
use crate::translate::few::Few;
use crate::translate::{Answer, Choice, ReplyContext, Unreadable};

/// Answers of one body.
const MAX_CHOICES: usize = 128;
/// Tool calls of one answer.
const MAX_CALLS: usize = 4_096;

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    model: Option<Text<'a>>,
    created: Option<Count>,
    #[serde(borrow)]
    choices: Option<Few<WholeChoice<'a>, MAX_CHOICES>>,
    usage: Option<Usage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WholeChoice<'a> {
    index: Option<Count>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    refusal: Option<Text<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow)]
    thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Few<Call<'a>, MAX_CALLS>>,
}

/// Reads the body of a 200.
///
/// # Errors
/// If it holds no answer; a 200 that holds an error (OpenRouter) is one too, and `error` reads it.
pub fn read(body: &[u8], context: &ReplyContext) -> Result<Answer, Unreadable> {
    // DeepSeek and OpenRouter keep a connection alive with empty lines, which JSON allows before it.
    let text = std::str::from_utf8(body).map_err(|_| Unreadable)?;
    let whole: Whole<'_> = serde_json::from_str(text).map_err(|_| Unreadable)?;
    let Few(mut choices) = whole.choices.ok_or(Unreadable)?;
    if whole.error.is_some() && choices.iter().all(|choice| choice.message.is_none()) {
        return Err(Unreadable);
    }
    choices.sort_by_key(|choice| choice.index.and_then(|index| index.0));
    // A body is hashed once, and not for each call that has no id.
    let hash = blake3::hash(if whole.id.is_some() { &[] } else { body });
    let seed = match filled(&whole.id) {
        Some(id) => id.as_bytes(),
        None => hash.as_bytes().as_slice(),
    };
    Ok(Answer {
        id: filled(&whole.id).map(str::to_owned),
        model: filled(&whole.model).map(str::to_owned),
        created_s: whole.created.and_then(|created| created.0),
        choices: choices.into_iter().map(|choice| read_choice(choice, seed, context)).collect(),
        tokens: whole.usage.map(|usage| usage.tokens()),
    })
}

fn read_choice(choice: WholeChoice<'_>, seed: &[u8], context: &ReplyContext) -> Choice {
    let mut parts = Vec::new();
    let mut has_calls = false;
    // Two answers of one body may call the same.
    let index = choice.index.and_then(|index| usize::try_from(index.0?).ok()).unwrap_or_default();
    let first_number = index.saturating_mul(1_024);
    if let Some(message) = choice.message {
        let thoughts = filled(&message.reasoning_content).or(filled(&message.reasoning));
        let told = blocks(message.thinking_blocks, message.reasoning_details);
        if told.iter().any(|part| matches!(part, Part::Thinking { text, .. } if !text.is_empty())) {
            parts.extend(told);
        } else {
            // Blocks without text hold the proof of the text beside them.
            let mut told = told;
            if let Some(text) = thoughts {
                match told.iter_mut().find(|part| matches!(part, Part::Thinking { .. })) {
                    Some(Part::Thinking { text: empty, .. }) => text.clone_into(empty),
                    _ => told.insert(0, Part::Thinking { text: text.to_owned(), signature: None }),
                }
            }
            parts.extend(told);
        }
        match message.content {
            Some(Content::Text(text)) if !text.is_empty() => {
                parts.push(Part::Text { text: text.into_owned(), cache: None });
            }
            Some(Content::Parts(pieces)) => {
                for piece in pieces {
                    if let Some(text) = piece.thought() {
                        parts.push(Part::Thinking { text, signature: None });
                    } else if let Some(text) = filled(&piece.text) {
                        parts.push(Part::Text { text: text.to_owned(), cache: None });
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = filled(&message.refusal) {
            parts.push(Part::Refusal { text: text.to_owned() });
        }
        for (number, call) in message.tool_calls.into_iter().flatten().enumerate() {
            has_calls = true;
            let arguments = call.arguments();
            parts.push(Part::ToolCall(ToolCall {
                id: filled(&call.id)
                    .map_or_else(|| made_id(seed, first_number.saturating_add(number)), str::to_owned),
                name: context.callers_tool_name(call.name().unwrap_or_default()).to_owned(),
                arguments: if arguments.trim().is_empty() { "{}".to_owned() } else { arguments.into_owned() },
                signature: call.signature(),
                cache: None,
            }));
        }
    }
    Choice {
        parts,
        finish: finish(filled(&choice.finish_reason).unwrap_or("stop"), has_calls, choice.stop_reason),
        logprobs: choice.logprobs.map(ToOwned::to_owned),
    }
}
