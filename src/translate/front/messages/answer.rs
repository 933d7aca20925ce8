//! A whole answer, and an error.

use serde_json::value::RawValue;

use crate::failure;
use crate::translate::answer::{Answer, Finish, FinishReason, ProviderError, Tokens};
use crate::translate::conversation::{Part, ToolCall};
use crate::translate::front::carried::Carried;
use crate::translate::front::emit::{Object, object, push_string};
use crate::translate::{Choice, Identity};

/// The JSON body of a 200. Of several answers the first: this dialect asks for one.
pub fn write(answer: &Answer, identity: &Identity<'_>) -> Vec<u8> {
    let none = Choice::default();
    let choice = answer.choices.first().unwrap_or(&none);
    let mut content = vec![b'['];
    let mut called = false;
    let mut refused = false;
    for part in &choice.parts {
        called |= matches!(part, Part::ToolCall(_));
        refused |= matches!(part, Part::Refusal { .. });
        push_part(&mut content, part);
    }
    content.push(b']');

    let mut out = Vec::with_capacity(content.len() + 512);
    object(&mut out, |message| {
        match &answer.id {
            Some(id) => message.text("id", id),
            None => message.text("id", &format!("msg_{}", identity.unique)),
        };
        message.text("type", "message").text("role", "assistant");
        message.text("model", answer.model.as_deref().unwrap_or(identity.model));
        message.key("content").extend_from_slice(&content);
        stop(message, &choice.finish, called, refused);
        message.object("usage", |usage| push_usage(usage, answer.tokens.as_ref()));
    });
    out
}

/// The JSON body of a provider's failure.
pub fn error(error: &ProviderError) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |body| {
        body.text("type", "error");
        push_error(body, error);
    });
    out
}

/// The fields of a body or event that tell of a provider's failure, but for its `type`.
pub fn push_error(body: &mut Object<'_>, error: &ProviderError) {
    body.object("error", |fields| {
        fields.text("type", failure::anthropic_kind(error.status));
        // Clients of this dialect know an overlong prompt by these words, and shorten it.
        const TOO_LONG: &str = "prompt is too long";
        let overlong = error.code.as_deref() == Some("context_length_exceeded");
        if overlong && !error.message.starts_with(TOO_LONG) {
            fields.text("message", &format!("{TOO_LONG}: {}", error.message));
        } else {
            fields.text("message", &error.message);
        }
    });
    body.maybe_text("request_id", error.request_id.as_deref());
}

/// `stop_reason`, `stop_sequence` and `stop_details`.
pub fn stop(fields: &mut Object<'_>, finish: &Finish, called: bool, refused: bool) {
    let native = finish.native.as_deref().unwrap_or_default();
    let reason = match finish.reason {
        FinishReason::ContentFilter => "refusal",
        _ if refused => "refusal",
        FinishReason::Length if native == "model_context_window_exceeded" => "model_context_window_exceeded",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::Stop if called => "tool_use",
        FinishReason::Stop if native == "pause_turn" => "pause_turn",
        FinishReason::Stop if finish.stop_sequence.is_some() => "stop_sequence",
        FinishReason::Stop => "end_turn",
    };
    fields.text("stop_reason", reason);
    fields.maybe_text("stop_sequence", finish.stop_sequence.as_deref());
    if reason == "refusal" {
        fields.object("stop_details", |details| {
            details.text("type", "refusal").json("category", "null");
            details.maybe_text("explanation", finish.explanation.as_deref());
        });
    } else {
        fields.json("stop_details", "null");
    }
}

/// What the whole cost.
pub fn push_usage(usage: &mut Object<'_>, tokens: Option<&Tokens>) {
    push_counts(usage, tokens);
    usage.object("cache_creation", |writes| {
        writes.number("ephemeral_5m_input_tokens", tokens.map_or(0, |tokens| tokens.cache_write_5m));
        writes.number("ephemeral_1h_input_tokens", tokens.map_or(0, |tokens| tokens.cache_write_1h));
    });
    usage.json("service_tier", "null");
}

/// The counts that `message_delta` repeats. What nobody knows is 0, since the dialect needs numbers.
pub fn push_counts(usage: &mut Object<'_>, tokens: Option<&Tokens>) {
    let tokens = tokens.copied().unwrap_or_default();
    usage.number("input_tokens", tokens.fresh_input);
    let writes = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    usage.number("cache_creation_input_tokens", writes);
    usage.number("cache_read_input_tokens", tokens.cache_read);
    usage.number("output_tokens", tokens.output);
    usage.object("output_tokens_details", |details| {
        details.number("thinking_tokens", tokens.reasoning.min(tokens.output));
    });
    usage.json("server_tool_use", "null");
}

/// The block that carries the proof of the thought behind a call, which stands right before the call.
pub fn proof_of_call(id: &str, signature: &str) -> String {
    Carried::Call { id: id.to_owned(), signature: signature.to_owned() }.write()
}

fn push_part(content: &mut Vec<u8>, part: &Part) {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => {
            // Empty text blocks are refused when they are brought back.
            if !text.is_empty() {
                push_block(content, "text", |block| {
                    block.text("text", text).json("citations", "null");
                });
            }
        }
        Part::Thinking { text, signature } => push_block(content, "thinking", |block| {
            block.text("thinking", text).text("signature", signature.as_deref().unwrap_or_default());
        }),
        Part::RedactedThinking { data } => push_block(content, "redacted_thinking", |block| {
            block.text("data", data);
        }),
        Part::ToolCall(call) => {
            if let Some(signature) = &call.signature {
                push_block(content, "redacted_thinking", |block| {
                    block.text("data", &proof_of_call(&call.id, signature));
                });
            }
            push_block(content, "tool_use", |block| {
                block.text("id", &call.id).text("name", &call.name);
                push_input(block.key("input"), call);
            });
        }
        // Models answer with none of these in this dialect.
        Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult(_) => {}
    }
}

fn push_block(content: &mut Vec<u8>, kind: &str, fill: impl FnOnce(&mut Object<'_>)) {
    if content.last() == Some(&b'}') {
        content.push(b',');
    }
    object(content, |block| {
        block.text("type", kind);
        fill(block);
    });
}

/// Arguments as the object that they have to be. What is none comes under the name that Anthropic's documentation
/// gives for broken JSON of a model.
fn push_input(out: &mut Vec<u8>, call: &ToolCall) {
    let arguments = call.arguments.trim();
    if arguments.is_empty() {
        out.extend_from_slice(b"{}");
    } else if arguments.starts_with('{') && serde_json::from_str::<&RawValue>(arguments).is_ok() {
        out.extend_from_slice(arguments.as_bytes());
    } else {
        out.extend_from_slice(b"{\"INVALID_JSON\":");
        push_string(out, &call.arguments);
        out.push(b'}');
    }
}
