//! ConverseStream: messages of an event stream as events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Text, Usage, finish, made_id};
use super::error::{broken, exception, in_stream};
use crate::http::eventstream::Message;
use crate::translate::{Event, ReplyContext};

/// Blocks that are open at the same time; providers have one.
const MAX_OPEN_BLOCKS: usize = 64;
/// What is held back: a signature until it is whole, words beside an answer in JSON.
const MAX_HELD_BYTES: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start<'a> {
    content_block_index: u64,
    #[serde(default, borrow)]
    start: Option<Begun<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun<'a> {
    #[serde(borrow)]
    tool_use: Option<Tool<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    #[serde(default, borrow)]
    tool_use_id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct More<'a> {
    content_block_index: u64,
    #[serde(borrow)]
    delta: Delta<'a>,
}

/// One of the fields is there; kinds that are not known have none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    tool_use: Option<Input<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Reasoning<'a>>,
}

#[derive(Debug, Deserialize)]
struct Input<'a> {
    #[serde(default, borrow)]
    input: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    signature: Option<Text<'a>>,
    #[serde(borrow)]
    redacted_content: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    content_block_index: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop<'a> {
    #[serde(borrow)]
    stop_reason: Text<'a>,
    #[serde(default, borrow)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    usage: Option<Usage>,
}

/// A block that has begun and has not ended. Those of text need none.
#[derive(Debug)]
enum Open {
    /// A call; whether arguments came.
    Call { index: u32, has_arguments: bool },
    /// The call whose arguments are the answer's text.
    Json { has_arguments: bool },
    /// A second answer in JSON, which has no place.
    Ignored,
    /// A thought; its proof so far.
    Thought { signature: String },
}

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    context: ReplyContext,
    open: BTreeMap<u64, Open>,
    /// Calls so far.
    calls: u32,
    /// Words beside an answer in JSON: they are the answer when no JSON comes.
    held_text: String,
    has_json: bool,
    has_begun: bool,
    has_stopped: bool,
    has_metadata: bool,
    /// The end or an error has been said.
    is_over: bool,
}

impl StreamReader {
    /// Nothing read yet.
    pub fn new(context: ReplyContext) -> Self {
        Self {
            context,
            open: BTreeMap::new(),
            calls: 0,
            held_text: String::new(),
            has_json: false,
            has_begun: false,
            has_stopped: false,
            has_metadata: false,
            is_over: false,
        }
    }

    /// Reads one message.
    pub fn read(&mut self, message: &Message<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over {
            return;
        }
        let failure = match message.text(":message-type") {
            Some("exception") => {
                Some(exception(message.text(":exception-type").unwrap_or_default(), message.payload))
            }
            Some("error") => Some(in_stream(
                message.text(":error-code").unwrap_or_default(),
                message.text(":error-message"),
            )),
            Some("event") => {
                let kind = message.text(":event-type").unwrap_or_default();
                self.event(kind, message.payload, sink).err().map(broken)
            }
            _ => None,
        };
        if let Some(error) = failure {
            self.is_over = true;
            sink(Event::Error(error));
        }
    }

    /// The body has ended. The message that ends an answer may be the last: usage need not come.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.has_stopped && !self.is_over {
            self.is_over = true;
            sink(Event::End);
        }
    }

    fn event(
        &mut self,
        kind: &str,
        payload: &[u8],
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), &'static str> {
        match kind {
            "messageStart" => self.begin(sink),
            "contentBlockStart" => self.block_begins(parse(payload)?, sink)?,
            "contentBlockDelta" => self.delta(parse(payload)?, sink)?,
            "contentBlockStop" => {
                let stop: Stop = parse(payload)?;
                if let Some(block) = self.open.remove(&stop.content_block_index) {
                    close(block, sink);
                }
            }
            "messageStop" => self.stop(&parse(payload)?, sink)?,
            "metadata" => {
                let metadata: Metadata = parse(payload)?;
                self.begin(sink);
                self.has_metadata = true;
                if let Some(usage) = &metadata.usage {
                    sink(Event::Tokens(usage.tokens()));
                }
                if self.has_stopped {
                    self.end(sink);
                }
            }
            // Kinds that come later say nothing that is known here.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.has_begun {
            self.has_begun = true;
            sink(Event::Start { id: None, model: None, tokens: None });
        }
    }

    fn insert(&mut self, index: u64, block: Open) -> Result<(), &'static str> {
        if self.open.len() >= MAX_OPEN_BLOCKS {
            return Err("the answer has too many blocks at once");
        }
        self.open.insert(index, block);
        Ok(())
    }

    fn block_begins(
        &mut self,
        start: Start<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), &'static str> {
        self.begin(sink);
        if self.has_stopped {
            return Err("the answer goes on behind its end");
        }
        if let Some(block) = self.open.remove(&start.content_block_index) {
            close(block, sink);
        }
        let Some(tool) = start.start.and_then(|start| start.tool_use) else { return Ok(()) };
        if self.context.json_tool.as_deref() == Some(tool.name.0.as_ref()) {
            let block = if self.has_json { Open::Ignored } else { Open::Json { has_arguments: false } };
            self.has_json = true;
            return self.insert(start.content_block_index, block);
        }
        let index = self.calls;
        self.insert(start.content_block_index, Open::Call { index, has_arguments: false })?;
        self.calls = index.saturating_add(1);
        let id = match tool.tool_use_id.0 {
            id if id.is_empty() => Cow::Owned(made_id(index as usize)),
            id => id,
        };
        let name = Cow::Borrowed(self.context.callers_tool_name(&tool.name.0));
        sink(Event::ToolStart { choice: 0, index, id, name, signature: None });
        Ok(())
    }

    fn delta(&mut self, more: More<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), &'static str> {
        self.begin(sink);
        if self.has_stopped {
            return Err("the answer goes on behind its end");
        }
        if let Some(text) = more.delta.text.filter(|text| !text.0.is_empty()) {
            if self.context.json_tool.is_some() {
                if self.held_text.len() + text.0.len() > MAX_HELD_BYTES {
                    return Err("the answer in place of JSON is too long");
                }
                self.held_text.push_str(&text.0);
            } else {
                sink(Event::Text { choice: 0, text: text.0, logprobs: None });
            }
        }
        if let Some(fragment) = more.delta.tool_use.map(|tool| tool.input.0).filter(|input| !input.is_empty())
        {
            match self.open.get_mut(&more.content_block_index) {
                Some(Open::Call { index, has_arguments }) => {
                    *has_arguments = true;
                    sink(Event::ToolArguments { choice: 0, index: *index, fragment });
                }
                Some(Open::Json { has_arguments }) => {
                    *has_arguments = true;
                    sink(Event::Text { choice: 0, text: fragment, logprobs: None });
                }
                Some(Open::Ignored) => {}
                _ => return Err("the answer has arguments of a call that did not begin"),
            }
        }
        match more.delta.reasoning_content {
            Some(reasoning) => self.thought(more.content_block_index, reasoning, sink),
            None => Ok(()),
        }
    }

    fn thought(
        &mut self,
        block: u64,
        reasoning: Reasoning<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), &'static str> {
        if let Some(text) = reasoning.text.filter(|text| !text.0.is_empty()) {
            sink(Event::Thinking { choice: 0, text: text.0 });
        }
        if let Some(data) = reasoning.redacted_content.filter(|data| !data.0.is_empty()) {
            sink(Event::RedactedThinking { choice: 0, data: data.0 });
        }
        let Some(piece) = reasoning.signature.filter(|piece| !piece.0.is_empty()) else { return Ok(()) };
        match self.open.get_mut(&block) {
            Some(Open::Thought { signature }) => {
                if signature.len() + piece.0.len() > MAX_HELD_BYTES {
                    return Err("the answer has a signature that is too long");
                }
                signature.push_str(&piece.0);
                Ok(())
            }
            Some(_) => Err("the answer has a thought in a call"),
            None => self.insert(block, Open::Thought { signature: piece.0.into_owned() }),
        }
    }

    fn stop(&mut self, stop: &MessageStop<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), &'static str> {
        self.begin(sink);
        if self.has_stopped {
            return Ok(());
        }
        for (_, block) in std::mem::take(&mut self.open) {
            close(block, sink);
        }
        let fields = stop.additional_model_response_fields.map(RawValue::get);
        let finish = finish(&stop.stop_reason.0, self.calls > 0, fields)
            .ok_or("the model wrote what the provider could not read")?;
        if !self.has_json && !self.held_text.is_empty() {
            let text = std::mem::take(&mut self.held_text);
            sink(Event::Text { choice: 0, text: text.into(), logprobs: None });
        }
        self.has_stopped = true;
        sink(Event::Finish { choice: 0, finish });
        // Usage comes last, but some stand-ins of the provider send it before.
        if self.has_metadata {
            self.end(sink);
        }
        Ok(())
    }
}

fn close(block: Open, sink: &mut dyn FnMut(Event<'_>)) {
    match block {
        Open::Call { index, has_arguments } => {
            if !has_arguments {
                sink(Event::ToolArguments { choice: 0, index, fragment: "{}".into() });
            }
            sink(Event::ToolEnd { choice: 0, index });
        }
        Open::Json { has_arguments: false } => {
            sink(Event::Text { choice: 0, text: "{}".into(), logprobs: None })
        }
        Open::Json { has_arguments: true } | Open::Ignored => {}
        Open::Thought { signature } => {
            sink(Event::ThinkingSignature { choice: 0, signature: signature.into() })
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, &'static str> {
    serde_json::from_slice(payload).map_err(|_| "an event of the stream is not readable")
}
