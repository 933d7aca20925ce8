//! OpenAI's Chat Completions as a caller's dialect.
//!
//! Beside OpenAI's own fields it takes `provider_options`, and the extensions that many clients write: `top_k`,
//! `thinking`, `reasoning`, `cache_control`, and thinking brought back on assistant messages as `thinking_blocks`,
//! `reasoning_details` or `reasoning_content`.

mod answer;
mod fields;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod turns;

pub use answer::{error, write};
pub use request::read;
pub use stream::StreamWriter;

use crate::translate::json_text::Object;
use crate::translate::{FinishReason, Tokens};

/// OpenAI's word for the end of an answer.
fn finish_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// The usage object: cached tokens are a part of the prompt's, reasoning is a part of the completion's.
fn usage(tokens: &Tokens, out: &mut Vec<u8>) {
    let mut usage = Object::open(out);
    usage.unsigned("prompt_tokens", tokens.input());
    usage.unsigned("completion_tokens", tokens.output);
    usage.unsigned("total_tokens", tokens.input().saturating_add(tokens.output));
    let mut details = Object::open(usage.name("prompt_tokens_details"));
    details.unsigned("cached_tokens", tokens.cache_read);
    details.unsigned("cache_write_tokens", tokens.cache_write_5m.saturating_add(tokens.cache_write_1h));
    details.close();
    let mut details = Object::open(usage.name("completion_tokens_details"));
    details.unsigned("reasoning_tokens", tokens.reasoning.min(tokens.output));
    details.close();
    usage.close();
}

/// A thinking block that its caller brings back unchanged.
fn thinking_block(text: &str, signature: &str, out: &mut Vec<u8>) {
    let mut block = Object::open(out);
    block.string("type", "thinking");
    block.string("thinking", text);
    block.string("signature", signature);
    block.close();
}

/// A thinking block that only the provider can read.
fn redacted_block(data: &str, out: &mut Vec<u8>) {
    let mut block = Object::open(out);
    block.string("type", "redacted_thinking");
    block.string("data", data);
    block.close();
}

/// Where Google's compatible endpoint carries a thought's signature.
fn extra_content(signature: &str, call: &mut Object<'_>) {
    let mut extra = Object::open(call.name("extra_content"));
    let mut google = Object::open(extra.name("google"));
    google.string("thought_signature", signature);
    google.close();
    extra.close();
}
