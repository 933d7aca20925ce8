//! The events of a stream.
//!
//! Blocks come one after the other: a block is closed before the next one opens. The reason of the end and the token
//! counts go into one `message_delta`, so it waits for the provider's end mark: counts may come after the reason.

use super::answer::{proof_of_call, push_counts, push_error, push_usage, stop};
use super::waiting::{Call, Full, Waiting};
use crate::translate::Identity;
use crate::translate::answer::{Event, Finish, ProviderError, Tokens};
use crate::translate::front::emit::{Object, event, object};

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    None,
    Text,
    Thinking,
    Call(u32),
}

/// Writes the events of one answer.
#[derive(Debug)]
pub struct StreamWriter {
    id: String,
    model: String,
    started: bool,
    ended: bool,
    open: Open,
    /// The index of the block that is open, or of the next one.
    block: u32,
    waiting: Waiting,
    called: bool,
    refused: bool,
    finish: Option<Finish>,
    tokens: Option<Tokens>,
}

impl StreamWriter {
    /// For one answer. This dialect always has usage.
    pub fn new(identity: &Identity<'_>, _include_usage: bool) -> Self {
        Self {
            id: format!("msg_{}", identity.unique),
            model: identity.model.to_owned(),
            started: false,
            ended: false,
            open: Open::None,
            block: 0,
            waiting: Waiting::default(),
            called: false,
            refused: false,
            finish: None,
            tokens: None,
        }
    }

    /// Appends what an event gives: nothing, or whole events of the dialect. Nothing comes after the end.
    pub fn write(&mut self, step: Event<'_>, out: &mut Vec<u8>) {
        if self.ended || choice_of(&step) != 0 {
            return;
        }
        match step {
            Event::Start { id, model, tokens } => {
                if self.started {
                    return;
                }
                if let Some(id) = id.filter(|id| !id.is_empty()) {
                    self.id = id.into_owned();
                }
                if let Some(model) = model.filter(|model| !model.is_empty()) {
                    self.model = model.into_owned();
                }
                self.tokens = tokens.or(self.tokens);
                self.start(out);
            }
            Event::Text { text, .. } => self.text(&text, out),
            Event::Refusal { text, .. } => {
                self.refused = true;
                self.text(&text, out);
            }
            Event::Thinking { text, .. } => {
                self.think(out);
                self.delta(out, "thinking_delta", "thinking", &text);
            }
            Event::ThinkingSignature { signature, .. } => {
                self.think(out);
                self.delta(out, "signature_delta", "signature", &signature);
                self.close(out);
            }
            Event::RedactedThinking { data, .. } => {
                self.close_all(out);
                self.redacted(&data, out);
            }
            Event::ToolStart { index, id, name, signature, .. } => {
                self.called = true;
                let call = Call {
                    index,
                    id: id.into_owned(),
                    name: name.into_owned(),
                    signature: signature.map(Into::into),
                    ..Call::default()
                };
                if matches!(self.open, Open::Call(_)) {
                    let pushed = self.waiting.push(call);
                    self.refuse_if_full(pushed.map(|()| true), out);
                } else {
                    self.close(out);
                    self.open_call(&call, out);
                }
            }
            Event::ToolArguments { index, fragment, .. } => {
                if self.open == Open::Call(index) {
                    self.delta(out, "input_json_delta", "partial_json", &fragment);
                } else {
                    let appended = self.waiting.append(index, &fragment);
                    self.refuse_if_full(appended, out);
                }
            }
            Event::ToolEnd { index, .. } => {
                if self.open == Open::Call(index) {
                    self.close(out);
                    self.open_waiting(out);
                } else {
                    self.waiting.end(index);
                }
            }
            Event::Finish { finish, .. } => {
                self.start(out);
                self.close_all(out);
                self.finish = Some(finish);
            }
            Event::Tokens(tokens) => self.tokens = Some(tokens),
            Event::Ping => event(out, "ping", |_| {}),
            Event::End => self.end(out),
            Event::Error(error) => self.fail(&error, out),
        }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        event(out, "message_start", |data| {
            data.object("message", |message| {
                message.text("id", &self.id).text("type", "message").text("role", "assistant");
                message.text("model", &self.model).json("content", "[]");
                message
                    .json("stop_reason", "null")
                    .json("stop_sequence", "null")
                    .json("stop_details", "null");
                message.object("usage", |usage| push_usage(usage, self.tokens.as_ref()));
            });
        });
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Open::Text {
            self.close_all(out);
            self.open(Open::Text, out, |block| {
                block.text("type", "text").text("text", "");
            });
        }
        self.delta(out, "text_delta", "text", text);
    }

    fn think(&mut self, out: &mut Vec<u8>) {
        if self.open != Open::Thinking {
            self.close_all(out);
            self.open(Open::Thinking, out, |block| {
                block.text("type", "thinking").text("thinking", "").text("signature", "");
            });
        }
    }

    fn redacted(&mut self, data: &str, out: &mut Vec<u8>) {
        self.open(Open::None, out, |block| {
            block.text("type", "redacted_thinking").text("data", data);
        });
        self.stop_block(out);
    }

    fn open_call(&mut self, call: &Call, out: &mut Vec<u8>) {
        if let Some(signature) = &call.signature {
            self.redacted(&proof_of_call(&call.id, signature), out);
        }
        self.open(Open::Call(call.index), out, |block| {
            block.text("type", "tool_use").text("id", &call.id).text("name", &call.name).json("input", "{}");
        });
        if !call.arguments.is_empty() {
            self.delta(out, "input_json_delta", "partial_json", &call.arguments);
        }
    }

    /// Writes calls that waited, up to the first one that is not whole.
    fn open_waiting(&mut self, out: &mut Vec<u8>) {
        while self.open == Open::None {
            let Some(call) = self.waiting.pop() else { return };
            self.open_call(&call, out);
            if call.ended {
                self.close(out);
            }
        }
    }

    fn open(&mut self, open: Open, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        self.start(out);
        event(out, "content_block_start", |data| {
            data.number("index", self.block.into());
            object(data.key("content_block"), fill);
        });
        self.open = open;
    }

    fn delta(&mut self, out: &mut Vec<u8>, kind: &str, name: &str, text: &str) {
        event(out, "content_block_delta", |data| {
            data.number("index", self.block.into());
            data.object("delta", |delta| {
                delta.text("type", kind).text(name, text);
            });
        });
    }

    fn stop_block(&mut self, out: &mut Vec<u8>) {
        event(out, "content_block_stop", |data| {
            data.number("index", self.block.into());
        });
        self.block = self.block.saturating_add(1);
        self.open = Open::None;
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open != Open::None {
            self.stop_block(out);
        }
    }

    /// Closes what is open and writes what waits: something else begins, so that no more of it will come.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        while let Some(call) = self.waiting.pop() {
            self.open_call(&call, out);
            self.close(out);
        }
    }

    fn refuse_if_full(&mut self, outcome: Result<bool, Full>, out: &mut Vec<u8>) {
        let message = match outcome {
            Ok(true) => return,
            Ok(false) => "The provider sent arguments of a tool call that was not open",
            Err(Full) => "The provider sent more of several tool calls at once than can be put in order",
        };
        self.fail(
            &ProviderError { status: 502, message: message.to_owned(), ..ProviderError::default() },
            out,
        );
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        self.start(out);
        self.close_all(out);
        event(out, "message_delta", |data| {
            data.object("delta", |delta| match &self.finish {
                Some(finish) => stop(delta, finish, self.called, self.refused),
                // The provider gave no reason, and none is made up.
                None => {
                    delta
                        .json("stop_reason", "null")
                        .json("stop_sequence", "null")
                        .json("stop_details", "null");
                }
            });
            data.object("usage", |usage| push_counts(usage, self.tokens.as_ref()));
        });
        event(out, "message_stop", |_| {});
    }

    fn fail(&mut self, error: &ProviderError, out: &mut Vec<u8>) {
        self.ended = true;
        event(out, "error", |data| push_error(data, error));
    }
}

/// Which of several answers an event belongs to; this dialect has only the first.
fn choice_of(step: &Event<'_>) -> u32 {
    match step {
        Event::Text { choice, .. }
        | Event::Refusal { choice, .. }
        | Event::Thinking { choice, .. }
        | Event::ThinkingSignature { choice, .. }
        | Event::RedactedThinking { choice, .. }
        | Event::ToolStart { choice, .. }
        | Event::ToolArguments { choice, .. }
        | Event::ToolEnd { choice, .. }
        | Event::Finish { choice, .. } => *choice,
        Event::Start { .. } | Event::Tokens(_) | Event::Ping | Event::End | Event::Error(_) => 0,
    }
}
