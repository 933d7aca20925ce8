//! Streams of `chat.completion.chunk`s, with the variants of the servers that speak it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::failure;
use super::wire::{Call, Content, Count, Text, Usage, blocks, filled, finish, made_id};
use crate::http::sse;
use crate::translate::conversation::Part;
use crate::translate::few::Few;
use crate::translate::{Event, ReplyContext, Tokens};
use crate::wire::tree;

/// Answers of one stream.
const MAX_CHOICES: usize = 128;
/// Tool calls of one answer.
const MAX_CALLS: usize = 1_024;
/// The longest id of a call. Some gateways put signatures into theirs.
const MAX_ID_BYTES: usize = 16 * 1024;
/// Calls of all answers of one stream, whose ids are kept.
const MAX_ALL_CALLS: usize = 4_096;
/// Of what made ids come from.
const MAX_SEED_BYTES: usize = 1_024;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    object: Option<Text<'a>>,
    #[serde(borrow)]
    choices: Option<Few<ChunkChoice<'a>, MAX_CHOICES>>,
    usage: Option<Usage>,
    x_groq: Option<Groq>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// Of an error that stands bare.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Groq {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct ChunkChoice<'a> {
    index: Option<Count>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
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

/// Reads one stream.
#[derive(Debug)]
pub struct StreamReader {
    context: ReplyContext,
    has_begun: bool,
    is_over: bool,
    /// The server's id of the answer, or the first piece of it: what tells it from others.
    seed: Vec<u8>,
    choices: Vec<Choice>,
    tokens: Option<Tokens>,
}

#[derive(Debug)]
struct Choice {
    index: u32,
    calls: Vec<OpenCall>,
    is_finished: bool,
}

#[derive(Debug)]
struct OpenCall {
    /// The server's own number of it.
    key: Option<u64>,
    /// The server's own id; empty where it gave none.
    id: String,
    arguments: Completeness,
    is_ended: bool,
}

/// Whether a JSON text that comes in pieces is whole: its brackets are closed.
#[derive(Clone, Copy, Debug, Default)]
struct Completeness {
    has_begun: bool,
    depth: u32,
    in_string: bool,
    is_escaped: bool,
}

impl Completeness {
    fn push(&mut self, fragment: &str) {
        for byte in fragment.bytes() {
            if self.in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.has_begun |= !byte.is_ascii_whitespace();
        }
    }

    fn is_whole(&self) -> bool {
        self.has_begun && self.depth == 0 && !self.in_string
    }
}

impl StreamReader {
    /// A stream that has not begun.
    pub fn new(context: ReplyContext) -> Self {
        Self {
            context,
            has_begun: false,
            is_over: false,
            seed: Vec::new(),
            choices: Vec::new(),
            tokens: None,
        }
    }

    /// Reads one whole server-sent event.
    pub fn read(&mut self, event: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over {
            return;
        }
        let Some(data) = data(event) else {
            sink(Event::Ping);
            return;
        };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.end(sink);
            // What broke off before it is broken: the relay says so when the body ends.
            self.is_over = true;
            return;
        }
        if data.is_empty() {
            sink(Event::Ping);
            return;
        }
        let chunk = std::str::from_utf8(data).ok().and_then(|text| serde_json::from_str(text).ok());
        match chunk {
            Some(chunk) => self.chunk(chunk, data, sink),
            None => self.fail(data, sink),
        }
    }

    /// The body ended cleanly: the stream is whole if every answer in it said why it ended.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let is_whole = !self.choices.is_empty() && self.choices.iter().all(|choice| choice.is_finished);
        if !self.is_over && is_whole {
            self.is_over = true;
            sink(Event::End);
        }
    }

    /// What is no chunk: an error, or nothing that can be read.
    fn fail(&mut self, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        self.is_over = true;
        let value = tree::small(data).unwrap_or(Value::Null);
        let holder = value.as_array().and_then(|list| list.first()).unwrap_or(&value);
        let is_error = holder.get("error").is_some_and(|error| !error.is_null())
            || holder.get("message").is_some_and(Value::is_string);
        sink(Event::Error(if is_error { failure::from_value(&value, None) } else { failure::unreadable() }));
    }

    fn chunk(&mut self, chunk: Chunk<'_>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let is_error = chunk.object.as_ref().is_some_and(|object| object.0 == "error");
        if is_error || chunk.error.is_some() {
            self.fail(data, sink);
            return;
        }
        if chunk.choices.is_none() && chunk.usage.is_none() {
            match chunk.message {
                Some(_) => self.fail(data, sink),
                None => sink(Event::Ping),
            }
            return;
        }
        let id = filled(&chunk.id);
        let choices = chunk.choices.unwrap_or_default();
        // Azure's first chunk has neither id nor answers.
        if !self.has_begun && (id.is_some() || !choices.0.is_empty()) {
            self.has_begun = true;
            let seed = id.map_or(data, str::as_bytes);
            self.seed.extend(seed.iter().take(MAX_SEED_BYTES));
            let model = filled(&chunk.model).map(Cow::Borrowed);
            sink(Event::Start { id: id.map(Cow::Borrowed), model, tokens: None });
        }
        for choice in choices {
            if !self.is_over {
                self.choice(choice, sink);
            }
        }
        let usage = chunk.usage.or(chunk.x_groq.and_then(|groq| groq.usage));
        if let Some(tokens) = usage.map(|usage| usage.tokens()).filter(|tokens| Some(*tokens) != self.tokens)
            && !self.is_over
        {
            self.tokens = Some(tokens);
            sink(Event::Tokens(tokens));
        }
    }

    fn choice(&mut self, chunk: ChunkChoice<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let calls: usize = self.choices.iter().map(|choice| choice.calls.len()).sum();
        if calls > MAX_ALL_CALLS {
            self.is_over = true;
            sink(Event::Error(failure::unreadable()));
            return;
        }
        let index = chunk.index.and_then(|index| index.0).unwrap_or_default();
        let Some(index) = u32::try_from(index).ok() else { return };
        let place = match self.choices.iter().position(|known| known.index == index) {
            Some(place) => place,
            // Usage chunks and Azure's filter results name an answer without being a piece of it.
            None if chunk.delta.is_none() && filled(&chunk.finish_reason).is_none() => return,
            None if self.choices.len() >= MAX_CHOICES => return,
            None => {
                self.choices.push(Choice { index, calls: Vec::new(), is_finished: false });
                self.choices.len() - 1
            }
        };
        let Some(choice) = self.choices.get_mut(place) else { return };
        if choice.is_finished {
            return;
        }
        if let Some(delta) = chunk.delta {
            choice.delta(delta, chunk.logprobs, (&self.seed, &self.context), sink);
        }
        let Some(word) = filled(&chunk.finish_reason) else { return };
        if word == "error" {
            self.is_over = true;
            sink(Event::Error(failure::from_value(&Value::Null, None)));
            return;
        }
        choice.finish(sink);
        sink(Event::Finish {
            choice: index,
            finish: finish(word, !choice.calls.is_empty(), chunk.stop_reason),
        });
    }
}

impl Choice {
    fn delta(
        &mut self,
        delta: Delta<'_>,
        logprobs: Option<&RawValue>,
        known: (&[u8], &ReplyContext),
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let choice = self.index;
        let thought = filled(&delta.reasoning_content).or(filled(&delta.reasoning));
        if let Some(text) = thought {
            sink(Event::Thinking { choice, text: Cow::Borrowed(text) });
        }
        if delta.thinking_blocks.is_some() || delta.reasoning_details.is_some() {
            // A gateway's whole block repeats what its pieces said; OpenRouter's pieces stand in both fields.
            let is_said = thought.is_some() || delta.thinking_blocks.is_some();
            for block in blocks(delta.thinking_blocks, delta.reasoning_details) {
                match block {
                    Part::Thinking { text, signature } => {
                        if !is_said && !text.is_empty() {
                            sink(Event::Thinking { choice, text: Cow::Owned(text) });
                        }
                        if let Some(signature) = signature {
                            sink(Event::ThinkingSignature { choice, signature: Cow::Owned(signature) });
                        }
                    }
                    Part::RedactedThinking { data } => {
                        sink(Event::RedactedThinking { choice, data: Cow::Owned(data) });
                    }
                    _ => {}
                }
            }
        }
        match delta.content {
            Some(Content::Text(text)) if !text.is_empty() => {
                let logprobs = logprobs.map(|raw| Cow::Borrowed(raw.get()));
                sink(Event::Text { choice, text, logprobs });
            }
            Some(Content::Parts(pieces)) => {
                for piece in pieces {
                    if let Some(text) = piece.thought() {
                        if !text.is_empty() {
                            sink(Event::Thinking { choice, text: Cow::Owned(text) });
                        }
                    } else if let Some(text) = filled(&piece.text) {
                        sink(Event::Text { choice, text: Cow::Borrowed(text), logprobs: None });
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = filled(&delta.refusal) {
            sink(Event::Refusal { choice, text: Cow::Borrowed(text) });
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(&call, known, sink);
        }
    }

    fn call(
        &mut self,
        fragment: &Call<'_>,
        (seed, context): (&[u8], &ReplyContext),
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let choice = self.index;
        let place = match self.open_call(fragment) {
            Some(place) => place,
            None if self.calls.len() >= MAX_CALLS => return,
            None => {
                // Calls come one after the other, except where one is not whole when the next begins.
                for (number, call) in self.calls.iter_mut().enumerate() {
                    if call.arguments.is_whole() {
                        end_call(choice, number, call, sink);
                    }
                }
                let place = self.calls.len();
                // An id is kept to know its call again; one of thousands of bytes is none.
                let id = filled(&fragment.id).filter(|id| id.len() <= MAX_ID_BYTES).unwrap_or_default();
                self.calls.push(OpenCall {
                    key: fragment.index.and_then(|index| index.0),
                    id: id.to_owned(),
                    arguments: Completeness::default(),
                    is_ended: false,
                });
                let id = if id.is_empty() {
                    // Two answers of one stream may call the same.
                    let number = usize::try_from(choice).unwrap_or_default().saturating_mul(MAX_CALLS);
                    Cow::Owned(made_id(seed, number.saturating_add(place)))
                } else {
                    Cow::Borrowed(id)
                };
                sink(Event::ToolStart {
                    choice,
                    index: number_of(place),
                    id,
                    name: Cow::Borrowed(context.callers_tool_name(fragment.name().unwrap_or_default())),
                    signature: fragment.signature().map(Cow::Owned),
                });
                place
            }
        };
        let arguments = fragment.arguments();
        if let Some(call) = self.calls.get_mut(place)
            && !call.is_ended
            && !arguments.is_empty()
        {
            call.arguments.push(&arguments);
            sink(Event::ToolArguments { choice, index: number_of(place), fragment: arguments });
        }
    }

    /// The call that a fragment continues; `None`: it begins one. Servers leave the index out, give all calls the index
    /// 0, or repeat id and name in every fragment.
    fn open_call(&self, fragment: &Call<'_>) -> Option<usize> {
        let id = filled(&fragment.id);
        let begins = |call: &OpenCall| fragment.name().is_some() && id.is_some_and(|id| id != call.id);
        match fragment.index.and_then(|index| index.0) {
            Some(key) => {
                let place = self.calls.iter().rposition(|call| call.key == Some(key))?;
                let is_other = self.calls.get(place).is_some_and(begins);
                (!is_other).then_some(place)
            }
            None => match id {
                Some(id) if fragment.name().is_some() => self.calls.iter().rposition(|call| call.id == id),
                None if fragment.name().is_some() => None,
                _ => self.calls.len().checked_sub(1),
            },
        }
    }

    fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.is_finished = true;
        for (number, call) in self.calls.iter_mut().enumerate() {
            end_call(self.index, number, call, sink);
        }
    }
}

fn end_call(choice: u32, place: usize, call: &mut OpenCall, sink: &mut dyn FnMut(Event<'_>)) {
    if std::mem::replace(&mut call.is_ended, true) {
        return;
    }
    let index = number_of(place);
    if !call.arguments.has_begun {
        sink(Event::ToolArguments { choice, index, fragment: Cow::Borrowed("{}") });
    }
    sink(Event::ToolEnd { choice, index });
}

fn number_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// The data of an event; an `error:` line counts as data where there is none (llama.cpp).
fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let error = || sse::lines(event).find_map(|line| line.strip_prefix(b"error:")).map(Cow::Borrowed);
    sse::data(event).or_else(error)
}
