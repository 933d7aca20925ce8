//! Whole answers and errors, as JSON.

use super::{extra_content, finish_word, redacted_block, thinking_block, usage};
use crate::translate::conversation::{Part, Source, ToolCall};
use crate::translate::json_text::{Object, array, string, unsigned};
use crate::translate::{Answer, Choice, Identity, ProviderError};

/// The body of a 200.
pub fn write(answer: &Answer, identity: &Identity<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    let mut body = Object::open(&mut out);
    match answer.id.as_deref().filter(|id| !id.is_empty()) {
        Some(id) => body.string("id", id),
        None => body.string("id", &format!("chatcmpl-{}", identity.unique)),
    }
    body.string("object", "chat.completion");
    body.unsigned("created", answer.created_s.unwrap_or(identity.created_s));
    body.string("model", answer.model.as_deref().filter(|model| !model.is_empty()).unwrap_or(identity.model));
    array(answer.choices.iter().enumerate(), body.name("choices"), |(index, choice), out| {
        write_choice(index, choice, out);
    });
    if let Some(tokens) = &answer.tokens {
        usage(tokens, body.name("usage"));
    }
    body.close();
    out
}

fn write_choice(index: usize, choice: &Choice, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    unsigned(u64::try_from(index).unwrap_or_default(), object.name("index"));
    write_message(choice, object.name("message"));
    object.json("logprobs", choice.logprobs.as_ref().map_or("null", |raw| raw.get()));
    object.string("finish_reason", finish_word(choice.finish.reason));
    object.close();
}

fn write_message(choice: &Choice, out: &mut Vec<u8>) {
    let mut text = String::new();
    let mut refusal = String::new();
    let mut thinking = String::new();
    let mut blocks: Vec<&Part> = Vec::new();
    let mut calls: Vec<&ToolCall> = Vec::new();
    let mut images: Vec<&Source> = Vec::new();
    let mut has_text = false;
    for part in &choice.parts {
        match part {
            Part::Text { text: more, .. } => {
                has_text = true;
                text.push_str(more);
            }
            Part::Refusal { text: more } => refusal.push_str(more),
            Part::Thinking { text: more, signature } => {
                thinking.push_str(more);
                if signature.is_some() {
                    blocks.push(part);
                }
            }
            Part::RedactedThinking { .. } => blocks.push(part),
            Part::ToolCall(call) => calls.push(call),
            Part::Image { source, .. } => images.push(source),
            // No provider answers with these.
            Part::Document { .. } | Part::Audio { .. } | Part::ToolResult(_) => {}
        }
    }
    if refusal.is_empty()
        && let Some(explanation) = &choice.finish.explanation
    {
        refusal.push_str(explanation);
    }
    let mut message = Object::open(out);
    message.string("role", "assistant");
    if has_text || (calls.is_empty() && refusal.is_empty()) {
        message.string("content", &text);
    } else {
        message.json("content", "null");
    }
    if refusal.is_empty() {
        message.json("refusal", "null");
    } else {
        message.string("refusal", &refusal);
    }
    if !thinking.is_empty() {
        message.string("reasoning_content", &thinking);
    }
    if !blocks.is_empty() {
        array(blocks, message.name("thinking_blocks"), |part, out| match part {
            Part::RedactedThinking { data } => redacted_block(data, out),
            Part::Thinking { text, signature } => {
                thinking_block(text, signature.as_deref().unwrap_or_default(), out);
            }
            _ => out.extend_from_slice(b"null"),
        });
    }
    if !images.is_empty() {
        array(images, message.name("images"), write_image);
    }
    if !calls.is_empty() {
        array(calls, message.name("tool_calls"), write_call);
    }
    message.close();
}

/// OpenRouter's form, since OpenAI's chat has none for pictures in answers.
fn write_image(source: &Source, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "image_url");
    let mut image = Object::open(object.name("image_url"));
    match source {
        Source::Base64 { media_type, data } => {
            image.string("url", &format!("data:{media_type};base64,{data}"))
        }
        Source::Url(url) | Source::FileId(url) | Source::Text(url) => image.string("url", url),
    }
    image.close();
    object.close();
}

fn write_call(call: &ToolCall, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("id", &call.id);
    object.string("type", "function");
    let mut function = Object::open(object.name("function"));
    function.string("name", &call.name);
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    function.string("arguments", arguments);
    function.close();
    if let Some(signature) = &call.signature {
        extra_content(signature, &mut object);
    }
    object.close();
}

/// The body of a non-200: OpenAI's error object inside the envelope of the public contract.
pub fn error(error: &ProviderError) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut body = Object::open(&mut out);
    body.string("status", "failure");
    body.string("message", &error.message);
    let mut object = Object::open(body.name("error"));
    object.string("message", &error.message);
    object.string("type", if error.kind.is_empty() { "APIError" } else { &error.kind });
    object.json("param", "null");
    match error.code.as_deref().filter(|code| !code.is_empty()) {
        Some(code) => string(code, object.name("code")),
        None => string(&error.status.to_string(), object.name("code")),
    }
    object.close();
    body.string("error_origin_level", "api_error");
    body.close();
    out
}
