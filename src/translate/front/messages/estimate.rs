//! An estimate of the tokens of a request, for providers that count none.

use crate::translate::conversation::{Conversation, Format, Part, Source};
use crate::translate::front::emit::object;

/// Bytes of ASCII text in a token: four is the usual figure for English; code and JSON have fewer.
const ASCII_BYTES_IN_A_TOKEN: u64 = 4;
/// The role and the borders of a turn.
const TOKENS_OF_A_TURN: u64 = 4;
/// The frame of one tool's description.
const TOKENS_OF_A_TOOL: u64 = 12;
/// What providers tell a model of tools in general.
const TOKENS_OF_TOOLS: u64 = 300;
/// The most that Anthropic documents for one picture that it does not scale down.
const TOKENS_OF_AN_IMAGE: u64 = 1_600;
/// A page of a PDF, in the middle of the documented 1,500 to 3,000.
const TOKENS_OF_A_PAGE: u64 = 2_000;
/// Base64 of a usual page of a PDF.
const BYTES_OF_A_PAGE: u64 = 100_000;

/// About how many tokens a request has: four ASCII characters are a token, each other character is one, and pictures
/// and documents have fixed prices. It is not what a provider will count, and leans to more rather than less.
pub fn estimate_tokens(conversation: &Conversation) -> u64 {
    let mut tokens: u64 = 0;
    for turn in &conversation.turns {
        tokens = tokens.saturating_add(TOKENS_OF_A_TURN).saturating_add(of_parts(&turn.parts));
    }
    if !conversation.tools.is_empty() {
        tokens = tokens.saturating_add(TOKENS_OF_TOOLS);
    }
    for tool in &conversation.tools {
        let schema = tool.parameters.as_ref().map_or(0, |schema| of_text(schema.get()));
        let description = of_text(tool.description.as_deref().unwrap_or_default());
        tokens = tokens.saturating_add(TOKENS_OF_A_TOOL + of_text(&tool.name) + description + schema);
    }
    if let Some(Format::JsonSchema { schema, .. }) = &conversation.format {
        tokens = tokens.saturating_add(of_text(schema.get()));
    }
    tokens
}

/// The JSON body of a 200 of `POST /v1/messages/count_tokens`.
pub fn write_count(tokens: u64) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |body| {
        body.number("input_tokens", tokens);
    });
    out
}

fn of_text(text: &str) -> u64 {
    let (mut ascii, mut others) = (0_u64, 0_u64);
    for character in text.chars() {
        if character.is_ascii() { ascii += 1 } else { others += 1 }
    }
    ascii.div_ceil(ASCII_BYTES_IN_A_TOKEN).saturating_add(others)
}

fn of_parts(parts: &[Part]) -> u64 {
    parts.iter().map(of_part).fold(0, u64::saturating_add)
}

fn of_part(part: &Part) -> u64 {
    match part {
        Part::Text { text, .. } | Part::Thinking { text, .. } | Part::Refusal { text } => of_text(text),
        Part::Image { .. } => TOKENS_OF_AN_IMAGE,
        Part::Document { source: Source::Text(text), .. } => of_text(text),
        Part::Document { source: Source::Base64 { data, .. }, .. } => {
            (data.len() as u64).div_ceil(BYTES_OF_A_PAGE).max(1).saturating_mul(TOKENS_OF_A_PAGE)
        }
        Part::Document { .. } => TOKENS_OF_A_PAGE,
        Part::Audio { data, .. } => of_text(data).div_ceil(16),
        Part::ToolCall(call) => of_text(&call.name).saturating_add(of_text(&call.arguments)),
        // The parts of a result hold no results: no front reads one into another.
        Part::ToolResult(result) => {
            let inner = result.parts.iter().map(|part| match part {
                Part::Text { text, .. } => of_text(text),
                Part::Document { source: Source::Text(text), .. } => of_text(text),
                _ => TOKENS_OF_AN_IMAGE,
            });
            inner.fold(TOKENS_OF_A_TURN, u64::saturating_add)
        }
        Part::RedactedThinking { data } => of_text(data),
    }
}
