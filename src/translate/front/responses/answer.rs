//! A whole answer, and an error.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::object::{
    Echo, Head, Status, made_id, push_call, push_message, push_reasoning, push_refusal_part, push_response,
    push_text_part,
};
use crate::translate::answer::{Answer, FinishReason, ProviderError};
use crate::translate::conversation::Part;
use crate::translate::front::carried::Carried;
use crate::translate::front::emit::object;
use crate::translate::front::fields::{Fields, compact};
use crate::translate::{Choice, Identity};

/// The JSON body of a 200, without what it would repeat of its request.
#[cfg(test)]
pub fn write(answer: &Answer, identity: &Identity<'_>) -> Vec<u8> {
    write_echoing(answer, identity, &Echo::default())
}

/// The JSON body of a 200. Of several answers the first: this dialect asks for one.
pub fn write_echoing(answer: &Answer, identity: &Identity<'_>, echo: &Echo) -> Vec<u8> {
    let none = Choice::default();
    let choice = answer.choices.first().unwrap_or(&none);
    let head = Head {
        id: answer.id.as_deref().map_or_else(|| made_id(identity).into(), Cow::Borrowed),
        model: answer.model.as_deref().unwrap_or(identity.model).into(),
        created_s: answer.created_s.unwrap_or(identity.created_s),
        echo,
    };
    let output = Output::of(choice, identity.unique);
    let mut out = Vec::with_capacity(output.items.len() + 1024);
    object(&mut out, |response| {
        push_response(response, &head, Status::Ended(&choice.finish), &output.items, answer.tokens.as_ref());
    });
    out
}

/// The JSON body of a provider's failure: OpenAI's error object in the envelope of the public contract, as for chat.
pub fn error(error: &ProviderError) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |body| {
        body.text("status", "failure").text("message", &error.message);
        body.object("error", |fields| {
            let kind = if error.kind.is_empty() { "APIError" } else { &error.kind };
            fields.text("message", &error.message).text("type", kind).json("param", "null");
            match error.code.as_deref().filter(|code| !code.is_empty()) {
                Some(code) => fields.text("code", code),
                None => fields.text("code", &error.status.to_string()),
            };
        });
        body.text("error_origin_level", "api_error");
    });
    out
}

/// Items of a whole answer.
#[derive(Default)]
struct Output<'a> {
    unique: &'a str,
    items: Vec<u8>,
    count: usize,
    /// Parts of the message that is being made.
    content: Vec<u8>,
}

impl<'a> Output<'a> {
    fn of(choice: &Choice, unique: &'a str) -> Self {
        let mut output = Self { unique, ..Self::default() };
        let mut logprobs = choice.logprobs.as_deref().map(|raw| entries_of_logprobs(raw.get()));
        for part in &choice.parts {
            match part {
                // The probabilities of all of the text stand at its first piece: they are not told apart by piece.
                Part::Text { text, .. } if !text.is_empty() => {
                    let entries = logprobs.take().unwrap_or_default();
                    separate(&mut output.content);
                    push_text_part(&mut output.content, text, &entries);
                }
                Part::Refusal { text } => {
                    separate(&mut output.content);
                    push_refusal_part(&mut output.content, text);
                }
                Part::Thinking { text, signature } => {
                    let carried = signature.as_ref().map(|signature| Carried::Thinking {
                        text: text.clone(),
                        signature: Some(signature.clone()),
                    });
                    output.reasoning(text, carried.as_ref());
                }
                Part::RedactedThinking { data } => {
                    output.reasoning("", Some(&Carried::Redacted { data: data.clone() }));
                }
                Part::ToolCall(call) => {
                    if let Some(signature) = &call.signature {
                        let carried = Carried::Call { id: call.id.clone(), signature: signature.clone() };
                        output.reasoning("", Some(&carried));
                    }
                    let id = output.begin("fc");
                    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
                    push_call(&mut output.items, &id, "completed", &call.id, &call.name, arguments);
                }
                // Nothing to say, or nothing that models answer with in this dialect.
                Part::Text { .. } | Part::Image { .. } | Part::Document { .. } => {}
                Part::Audio { .. } | Part::ToolResult(_) => {}
            }
        }
        let cut = matches!(choice.finish.reason, FinishReason::Length | FinishReason::ContentFilter);
        output.end_message(if cut { "incomplete" } else { "completed" });
        output
    }

    /// Begins an item of its own; gives its id.
    fn begin(&mut self, prefix: &str) -> String {
        self.end_message("completed");
        self.next(prefix)
    }

    fn next(&mut self, prefix: &str) -> String {
        separate(&mut self.items);
        let id = format!("{prefix}_{}_{}", self.unique, self.count);
        self.count += 1;
        id
    }

    fn end_message(&mut self, status: &str) {
        if self.content.is_empty() {
            return;
        }
        let content = std::mem::take(&mut self.content);
        let id = self.next("msg");
        push_message(&mut self.items, &id, status, &content);
    }

    fn reasoning(&mut self, text: &str, carried: Option<&Carried>) {
        let id = self.begin("rs");
        push_reasoning(&mut self.items, &id, "completed", text, carried);
    }
}

/// A comma, where something stands before.
pub fn separate(list: &mut Vec<u8>) {
    if !list.is_empty() {
        list.push(b',');
    }
}

/// The entries of log probabilities in chat's form, between the brackets of their list; empty where there are none.
pub fn entries_of_logprobs(chat: &str) -> String {
    let entries =
        Fields::read(chat, "logprobs".to_owned()).ok().and_then(|mut fields| fields.take("content"));
    let list = entries.map(RawValue::get).map(compact).unwrap_or_default();
    list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or_default().to_owned()
}
