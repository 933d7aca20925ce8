//! The events of a stream.
//!
//! The dialect repeats at the end of each part, each item and the whole what came before, so that all of it is held,
//! within a limit. The terminal event has the token counts and waits for the provider's end mark.

use super::answer::{entries_of_logprobs, separate};
use super::object::{
    Echo, Head, Status, made_id, push_call, push_message, push_reasoning, push_refusal_part, push_response,
    push_summary_part, push_text_part,
};
use crate::translate::Identity;
use crate::translate::answer::{Event, Finish, FinishReason, ProviderError, Tokens};
use crate::translate::front::carried::Carried;
use crate::translate::front::emit::{Object, event};

/// Bytes of one answer that are held.
const MAX_HELD_BYTES: usize = 8 << 20;
/// Items of one answer.
const MAX_ITEMS: usize = 4096;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
}

/// What text or thoughts go to.
#[derive(Debug)]
enum Open {
    None,
    Message { place: usize, kind: Kind, text: String, logprobs: String, number: u64, done: Vec<u8> },
    Reasoning { place: usize, text: String },
}

/// A call that is not whole.
#[derive(Debug)]
struct Call {
    place: usize,
    index: u32,
    id: String,
    name: String,
    arguments: String,
}

/// Writes the events of one answer.
#[derive(Debug)]
pub struct StreamWriter {
    unique: String,
    id: String,
    model: String,
    created_s: u64,
    echo: Echo,
    sequence: u64,
    started: bool,
    ended: bool,
    open: Open,
    calls: Vec<Call>,
    /// Items by their places; empty while they are open.
    items: Vec<Vec<u8>>,
    held_bytes: usize,
    finish: Option<Finish>,
    tokens: Option<Tokens>,
}

impl StreamWriter {
    /// For one answer, without what it would repeat of its request. This dialect always has usage.
    #[cfg(test)]
    pub fn new(identity: &Identity<'_>, _include_usage: bool) -> Self {
        Self::echoing(identity, Echo::default())
    }

    /// For one answer.
    pub fn echoing(identity: &Identity<'_>, echo: Echo) -> Self {
        Self {
            unique: identity.unique.to_owned(),
            id: made_id(identity),
            model: identity.model.to_owned(),
            created_s: identity.created_s,
            echo,
            sequence: 0,
            started: false,
            ended: false,
            open: Open::None,
            calls: Vec::new(),
            items: Vec::new(),
            held_bytes: 0,
            finish: None,
            tokens: None,
        }
    }

    /// Appends what an event gives: nothing, or whole events of the dialect. Nothing comes after the end.
    pub fn write(&mut self, step: Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match step {
            Event::Start { id, model, tokens } if !self.started => {
                if let Some(id) = id.filter(|id| !id.is_empty()) {
                    self.id = id.into_owned();
                }
                if let Some(model) = model.filter(|model| !model.is_empty()) {
                    self.model = model.into_owned();
                }
                self.tokens = tokens.or(self.tokens);
                self.start(out);
            }
            Event::Text { choice: 0, text, logprobs } => {
                let entries = logprobs.map(|chat| entries_of_logprobs(&chat)).unwrap_or_default();
                self.say(Kind::Text, &text, &entries, out);
            }
            Event::Refusal { choice: 0, text } => self.say(Kind::Refusal, &text, "", out),
            Event::Thinking { choice: 0, text } => self.think(&text, out),
            Event::ThinkingSignature { choice: 0, signature } => self.sign(signature.into_owned(), out),
            Event::RedactedThinking { choice: 0, data } => {
                self.carry(&Carried::Redacted { data: data.into_owned() }, out);
            }
            Event::ToolStart { choice: 0, index, id, name, signature } => {
                if let Some(signature) = signature {
                    let carried =
                        Carried::Call { id: id.clone().into_owned(), signature: signature.into_owned() };
                    self.carry(&carried, out);
                }
                self.call(index, id.into_owned(), name.into_owned(), out);
            }
            Event::ToolArguments { choice: 0, index, fragment } => self.append(index, &fragment, out),
            Event::ToolEnd { choice: 0, index } => {
                if let Some(place) = self.calls.iter().position(|call| call.index == index) {
                    let call = self.calls.remove(place);
                    self.end_call(&call, "completed", out);
                }
            }
            Event::Finish { choice: 0, finish } => {
                self.start(out);
                let cut = matches!(finish.reason, FinishReason::Length | FinishReason::ContentFilter);
                self.close_all(if cut { "incomplete" } else { "completed" }, out);
                self.finish = Some(finish);
            }
            Event::Tokens(tokens) => self.tokens = Some(tokens),
            // A comment: the dialect has no event for it.
            Event::Ping => out.extend_from_slice(b": keep-alive\n\n"),
            Event::End => {
                self.start(out);
                self.close_all("completed", out);
                let finish = self.finish.take().unwrap_or_default();
                self.end(Status::Ended(&finish), out);
            }
            Event::Error(error) => self.fail(&error, out),
            // Other answers than the first, which nobody asked for, and a second start.
            _ => {}
        }
    }

    fn emit(&mut self, out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let sequence = self.sequence;
        self.sequence += 1;
        event(out, name, |data| {
            data.number("sequence_number", sequence);
            fill(data);
        });
    }

    fn emit_response(&mut self, out: &mut Vec<u8>, name: &str, status: Status<'_>) {
        let mut output = Vec::new();
        for item in self.items.iter().filter(|item| !item.is_empty()) {
            separate(&mut output);
            output.extend_from_slice(item);
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let head = Head {
            id: self.id.as_str().into(),
            model: self.model.as_str().into(),
            created_s: self.created_s,
            echo: &self.echo,
        };
        let ended = !matches!(status, Status::InProgress);
        let tokens = self.tokens.as_ref().filter(|_| ended);
        event(out, name, |data| {
            data.number("sequence_number", sequence);
            data.object("response", |response| push_response(response, &head, status, &output, tokens));
        });
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.emit_response(out, "response.created", Status::InProgress);
        self.emit_response(out, "response.in_progress", Status::InProgress);
    }

    fn end(&mut self, status: Status<'_>, out: &mut Vec<u8>) {
        self.ended = true;
        self.emit_response(out, &format!("response.{}", status.word()), status);
        self.items = Vec::new();
    }

    fn fail(&mut self, error: &ProviderError, out: &mut Vec<u8>) {
        self.start(out);
        self.end(Status::Failed(error), out);
    }

    /// Counts what is held; `false`: it was too much, and the answer ended with a failure.
    fn hold(&mut self, bytes: usize, out: &mut Vec<u8>) -> bool {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        let fits = self.held_bytes <= MAX_HELD_BYTES && self.items.len() < MAX_ITEMS;
        if !fits {
            self.refuse("The answer is longer than can be repeated at its end in this dialect", out);
        }
        fits
    }

    fn refuse(&mut self, message: &str, out: &mut Vec<u8>) {
        let error = ProviderError { status: 502, message: message.to_owned(), ..ProviderError::default() };
        self.fail(&error, out);
    }

    fn item_id(&self, prefix: &str, place: usize) -> String {
        format!("{prefix}_{}_{place}", self.unique)
    }

    /// Gives a new item its place and tells of it.
    fn add(&mut self, prefix: &str, out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>, &str)) -> usize {
        self.start(out);
        let place = self.items.len();
        self.items.push(Vec::new());
        let id = self.item_id(prefix, place);
        self.emit(out, "response.output_item.added", |data| {
            data.number("output_index", place as u64);
            push(data.key("item"), &id);
        });
        place
    }

    /// Tells that an item is whole and keeps it for the end.
    fn done(&mut self, prefix: &str, place: usize, out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>, &str)) {
        let mut item = Vec::new();
        push(&mut item, &self.item_id(prefix, place));
        self.emit(out, "response.output_item.done", |data| {
            data.number("output_index", place as u64);
            data.key("item").extend_from_slice(&item);
        });
        if let Some(slot) = self.items.get_mut(place) {
            *slot = item;
        }
    }

    fn say(&mut self, wanted: Kind, more: &str, entries: &str, out: &mut Vec<u8>) {
        if !self.hold(more.len() + entries.len(), out) {
            return;
        }
        if matches!(self.open, Open::Reasoning { .. }) {
            self.close("completed", out);
        }
        if let Open::None = self.open {
            let place = self.add("msg", out, |item, id| push_message(item, id, "in_progress", b""));
            self.open = Open::Message {
                place,
                kind: wanted,
                text: String::new(),
                logprobs: String::new(),
                number: 0,
                done: Vec::new(),
            };
            self.add_part(wanted, place, 0, out);
        }
        let Open::Message { place, kind, number, .. } = &mut self.open else { return };
        let (place, mut part) = (*place, *number);
        if *kind != wanted {
            self.end_part(out);
            part += 1;
            if let Open::Message { kind, number, .. } = &mut self.open {
                (*kind, *number) = (wanted, part);
            }
            self.add_part(wanted, place, part, out);
        }
        if let Open::Message { text, logprobs, .. } = &mut self.open {
            text.push_str(more);
            if !logprobs.is_empty() && !entries.is_empty() {
                logprobs.push(',');
            }
            logprobs.push_str(entries);
        }
        let id = self.item_id("msg", place);
        let name = match wanted {
            Kind::Text => "response.output_text.delta",
            Kind::Refusal => "response.refusal.delta",
        };
        self.emit(out, name, |data| {
            data.text("item_id", &id).number("output_index", place as u64).number("content_index", part);
            data.text("delta", more);
            if wanted == Kind::Text {
                data.json("logprobs", &format!("[{entries}]"));
            }
        });
    }

    fn add_part(&mut self, kind: Kind, place: usize, number: u64, out: &mut Vec<u8>) {
        let id = self.item_id("msg", place);
        self.emit(out, "response.content_part.added", |data| {
            data.text("item_id", &id).number("output_index", place as u64).number("content_index", number);
            push_part(data.key("part"), kind, "", "");
        });
    }

    fn end_part(&mut self, out: &mut Vec<u8>) {
        let Open::Message { place, kind, text, logprobs, number, done } = &mut self.open else { return };
        let (place, kind, number) = (*place, *kind, *number);
        let (text, logprobs) = (std::mem::take(text), std::mem::take(logprobs));
        separate(done);
        push_part(done, kind, &text, &logprobs);
        let id = self.item_id("msg", place);
        let at = |data: &mut Object<'_>| {
            data.text("item_id", &id).number("output_index", place as u64).number("content_index", number);
        };
        match kind {
            Kind::Text => self.emit(out, "response.output_text.done", |data| {
                at(data);
                data.text("text", &text).json("logprobs", &format!("[{logprobs}]"));
            }),
            Kind::Refusal => self.emit(out, "response.refusal.done", |data| {
                at(data);
                data.text("refusal", &text);
            }),
        }
        self.emit(out, "response.content_part.done", |data| {
            at(data);
            push_part(data.key("part"), kind, &text, &logprobs);
        });
    }

    fn think(&mut self, more: &str, out: &mut Vec<u8>) {
        if !self.hold(more.len(), out) {
            return;
        }
        if !matches!(self.open, Open::Reasoning { .. }) {
            self.close("completed", out);
            let place = self.add("rs", out, |item, id| push_reasoning(item, id, "in_progress", "", None));
            self.open = Open::Reasoning { place, text: String::new() };
            let id = self.item_id("rs", place);
            self.emit(out, "response.reasoning_summary_part.added", |data| {
                data.text("item_id", &id).number("output_index", place as u64).number("summary_index", 0);
                push_summary_part(data.key("part"), "");
            });
        }
        let Open::Reasoning { place, text } = &mut self.open else { return };
        text.push_str(more);
        let place = *place;
        let id = self.item_id("rs", place);
        self.emit(out, "response.reasoning_summary_text.delta", |data| {
            data.text("item_id", &id).number("output_index", place as u64).number("summary_index", 0);
            data.text("delta", more);
        });
    }

    fn sign(&mut self, signature: String, out: &mut Vec<u8>) {
        if !self.hold(signature.len(), out) {
            return;
        }
        match &self.open {
            Open::Reasoning { .. } => self.end_reasoning(Some(signature), "completed", out),
            _ => self.carry(&Carried::Thinking { text: String::new(), signature: Some(signature) }, out),
        }
    }

    fn end_reasoning(&mut self, signature: Option<String>, status: &str, out: &mut Vec<u8>) {
        let Open::Reasoning { place, text } = std::mem::replace(&mut self.open, Open::None) else { return };
        let id = self.item_id("rs", place);
        let at = |data: &mut Object<'_>| {
            data.text("item_id", &id).number("output_index", place as u64).number("summary_index", 0);
        };
        self.emit(out, "response.reasoning_summary_text.done", |data| {
            at(data);
            data.text("text", &text);
        });
        self.emit(out, "response.reasoning_summary_part.done", |data| {
            at(data);
            push_summary_part(data.key("part"), &text);
        });
        let carried =
            signature.map(|signature| Carried::Thinking { text: text.clone(), signature: Some(signature) });
        self.done("rs", place, out, |item, id| push_reasoning(item, id, status, &text, carried.as_ref()));
    }

    /// A reasoning item without words.
    fn carry(&mut self, carried: &Carried, out: &mut Vec<u8>) {
        self.close("completed", out);
        if !self.hold(carried.write().len(), out) {
            return;
        }
        let place = self.add("rs", out, |item, id| push_reasoning(item, id, "in_progress", "", None));
        self.done("rs", place, out, |item, id| push_reasoning(item, id, "completed", "", Some(carried)));
    }

    fn call(&mut self, index: u32, id: String, name: String, out: &mut Vec<u8>) {
        if self.ended || !self.hold(id.len() + name.len(), out) {
            return;
        }
        self.close("completed", out);
        let place = self.add("fc", out, |item, own| push_call(item, own, "in_progress", &id, &name, ""));
        self.calls.push(Call { place, index, id, name, arguments: String::new() });
    }

    fn append(&mut self, index: u32, fragment: &str, out: &mut Vec<u8>) {
        if !self.hold(fragment.len(), out) {
            return;
        }
        let Some(call) = self.calls.iter_mut().find(|call| call.index == index) else {
            return self.refuse("The provider sent arguments of a tool call that was not open", out);
        };
        call.arguments.push_str(fragment);
        let place = call.place;
        let id = self.item_id("fc", place);
        self.emit(out, "response.function_call_arguments.delta", |data| {
            data.text("item_id", &id).number("output_index", place as u64).text("delta", fragment);
        });
    }

    fn end_call(&mut self, call: &Call, status: &str, out: &mut Vec<u8>) {
        let id = self.item_id("fc", call.place);
        self.emit(out, "response.function_call_arguments.done", |data| {
            data.text("item_id", &id).number("output_index", call.place as u64);
            data.text("name", &call.name).text("arguments", &call.arguments);
        });
        self.done("fc", call.place, out, |item, id| {
            push_call(item, id, status, &call.id, &call.name, &call.arguments);
        });
    }

    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        match &self.open {
            Open::None => {}
            Open::Reasoning { .. } => self.end_reasoning(None, status, out),
            Open::Message { .. } => {
                self.end_part(out);
                if let Open::Message { place, done, .. } = std::mem::replace(&mut self.open, Open::None) {
                    self.done("msg", place, out, |item, id| push_message(item, id, status, &done));
                }
            }
        }
    }

    fn close_all(&mut self, status: &str, out: &mut Vec<u8>) {
        self.close(status, out);
        for call in std::mem::take(&mut self.calls) {
            self.end_call(&call, status, out);
        }
    }
}

fn push_part(out: &mut Vec<u8>, kind: Kind, text: &str, logprobs: &str) {
    match kind {
        Kind::Text => push_text_part(out, text, logprobs),
        Kind::Refusal => push_refusal_part(out, text),
    }
}
