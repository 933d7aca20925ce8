//! A stream of the Messages API: `message_start`, blocks with their deltas, `message_delta`, `message_stop`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Block, Text, arguments, finish, made_id, tokens};
use super::error::{broken, in_stream};
use crate::http::sse;
use crate::translate::{Event, ReplyContext};
use crate::wire::usage::MessagesUsage;

/// Blocks that may be open at one time; providers have one.
const MAX_OPEN_BLOCKS: usize = 8;
/// What is said of an event that no sense can be made of.
const UNREADABLE: &str = "the provider sent an event that can not be read";
/// There is one answer.
const CHOICE: u32 = 0;

/// Any event, as far as it is read.
#[derive(Debug, Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_details: Option<&'a RawValue>,
}

/// A block that has begun and not ended.
#[derive(Debug)]
struct Open {
    index: u64,
    kind: Kind,
    /// Arguments that stood in its first event, instead of the usual empty object.
    whole: Option<String>,
    has_fragments: bool,
    signature: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    /// A call, by its running number.
    Tool(u32),
    /// The call whose arguments are the content.
    Json,
    /// What is not shown.
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    /// The answer has begun; nothing of it has come yet.
    Begun,
    Content,
    /// Its reason to end has come.
    Finished,
    /// Everything was said, or an error.
    Over,
}

type Sink<'s> = &'s mut dyn FnMut(Event<'_>);

/// Reads the events of one stream.
#[derive(Debug)]
pub struct StreamReader {
    context: ReplyContext,
    phase: Phase,
    id: String,
    open: Vec<Open>,
    calls: u32,
    json_seen: bool,
    usage: MessagesUsage,
}

impl StreamReader {
    /// A reader of the answer to the request that gave this context.
    pub fn new(context: ReplyContext) -> Self {
        Self {
            context,
            phase: Phase::Before,
            id: String::new(),
            open: Vec::new(),
            calls: 0,
            json_seen: false,
            usage: MessagesUsage::default(),
        }
    }

    /// Reads one whole event.
    pub fn read(&mut self, event: &[u8], sink: Sink<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        let Some(data) = sse::data(event) else { return };
        // Some proxies end every stream in OpenAI's way.
        if matches!(data.trim_ascii(), b"[DONE]" | b"") {
            return;
        }
        let Ok(wire) = serde_json::from_slice::<Wire<'_>>(&data) else {
            if !is_of_another_kind(&data) {
                self.fail(UNREADABLE, sink);
            }
            return;
        };
        let name = match &*wire.kind {
            "" => sse::name(event).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default(),
            kind => kind,
        };
        match name {
            "content_block_delta" => {
                if let Some(delta) = wire.delta {
                    self.delta(wire.index, delta, sink);
                }
            }
            "content_block_start" => match wire.content_block.map(Block::read) {
                Some(Ok(block)) => self.block(wire.index, block, sink),
                Some(Err(_)) => self.fail(UNREADABLE, sink),
                None => {}
            },
            "content_block_stop" => {
                if let Some(at) = self.open.iter().position(|open| open.index == wire.index) {
                    let open = self.open.remove(at);
                    self.close(open, sink);
                }
            }
            "message_start" => match wire.message.map(|raw| serde_json::from_str(raw.get())) {
                Some(Ok(message)) => self.start(message, sink),
                Some(Err(_)) | None => self.fail(UNREADABLE, sink),
            },
            "message_delta" => self.message_delta(wire.delta, wire.usage, sink),
            "message_stop" => {
                if self.phase != Phase::Finished {
                    return self.fail("the provider ended its answer without a reason", sink);
                }
                self.phase = Phase::Over;
                sink(Event::End);
            }
            "ping" if self.phase != Phase::Before => sink(Event::Ping),
            _ if name == "error" || wire.error.is_some() => {
                self.phase = Phase::Over;
                sink(Event::Error(in_stream(&data)));
            }
            _ => {}
        }
    }

    /// The body has ended. The protocol has an end mark of its own, so this says nothing.
    pub fn end(&mut self, _sink: Sink<'_>) {}

    fn fail(&mut self, message: &str, sink: Sink<'_>) {
        self.phase = Phase::Over;
        sink(Event::Error(broken(message)));
    }

    fn start(&mut self, message: Message<'_>, sink: Sink<'_>) {
        let id = message.id.map(|id| id.0).unwrap_or_default();
        match self.phase {
            Phase::Before => {}
            // Proxies were seen to send it twice.
            Phase::Begun => return,
            _ if id == self.id.as_str() => return,
            // Half of an answer and then another one: what was passed on can not be taken back.
            _ => return self.fail("the provider began its answer again", sink),
        }
        self.phase = Phase::Begun;
        self.id = id.clone().into_owned();
        let counted = message.usage.is_some_and(|raw| self.usage.update(raw.get().as_bytes()));
        sink(Event::Start {
            id: Some(id).filter(|id| !id.is_empty()),
            model: message.model.map(|model| model.0).filter(|model| !model.is_empty()),
            tokens: counted.then(|| tokens(&self.usage)),
        });
    }

    /// Content comes; not before the beginning, and not after the end.
    fn is_content_welcome(&mut self, sink: Sink<'_>) -> bool {
        match self.phase {
            Phase::Before => {
                self.fail("the provider's answer has no beginning", sink);
                false
            }
            Phase::Begun | Phase::Content => {
                self.phase = Phase::Content;
                true
            }
            Phase::Finished | Phase::Over => false,
        }
    }

    fn block(&mut self, index: u64, block: Option<Block<'_>>, sink: Sink<'_>) {
        if !self.is_content_welcome(sink) {
            return;
        }
        if let Some(at) = self.open.iter().position(|open| open.index == index) {
            let open = self.open.remove(at);
            self.close(open, sink);
        }
        if self.open.len() >= MAX_OPEN_BLOCKS {
            return self.fail("the provider's answer has too many blocks at a time", sink);
        }
        let mut open = Open { index, kind: Kind::Hidden, whole: None, has_fragments: false, signature: None };
        let Some(block) = block else {
            self.open.push(open);
            return;
        };
        match &*block.kind {
            "text" => {
                open.kind = Kind::Text;
                text(block.text, sink);
            }
            "thinking" => {
                open.kind = Kind::Thinking;
                thinking(block.thinking, sink);
                open.signature = block.signature.map(|signature| signature.0.into_owned());
            }
            "redacted_thinking" => {
                let data = block.data.map(|data| data.0).unwrap_or_default();
                sink(Event::RedactedThinking { choice: CHOICE, data });
            }
            "tool_use" => {
                let name = block.name.map(|name| name.0).unwrap_or_default();
                open.whole = block.input.map(|input| arguments(input.get())).filter(|input| input != "{}");
                if self.context.json_tool.as_deref() == Some(&*name) {
                    open.kind = if self.json_seen { Kind::Hidden } else { Kind::Json };
                    self.json_seen = true;
                } else {
                    let number = self.calls;
                    self.calls = self.calls.saturating_add(1);
                    open.kind = Kind::Tool(number);
                    let id = block.id.map(|id| id.0).unwrap_or_default();
                    let id = if id.is_empty() { Cow::Owned(made_id(number)) } else { id };
                    let name = Cow::Borrowed(self.context.callers_tool_name(&name));
                    sink(Event::ToolStart { choice: CHOICE, index: number, id, name, signature: None });
                }
            }
            _ => {}
        }
        self.open.push(open);
    }

    fn delta(&mut self, index: u64, delta: Delta<'_>, sink: Sink<'_>) {
        if !self.is_content_welcome(sink) {
            return;
        }
        let open = self.open.iter_mut().find(|open| open.index == index);
        match &*delta.kind {
            "text_delta" => text(delta.text, sink),
            "thinking_delta" => thinking(delta.thinking, sink),
            "signature_delta" => {
                if let Some(open) = open {
                    open.signature = delta.signature.map(|signature| signature.0.into_owned());
                }
            }
            "input_json_delta" => {
                let Some(open) = open else {
                    return self.fail("the provider sent arguments of no call", sink);
                };
                let fragment = delta.partial_json.map(|json| json.0).unwrap_or_default();
                if fragment.is_empty() {
                    return;
                }
                open.has_fragments = true;
                match open.kind {
                    Kind::Tool(index) => sink(Event::ToolArguments { choice: CHOICE, index, fragment }),
                    Kind::Json => sink(Event::Text { choice: CHOICE, text: fragment, logprobs: None }),
                    Kind::Text | Kind::Thinking | Kind::Hidden => {}
                }
            }
            // Citations, and what is not known yet.
            _ => {}
        }
    }

    fn close(&mut self, open: Open, sink: Sink<'_>) {
        let arguments = || Cow::Owned(open.whole.clone().unwrap_or_else(|| "{}".to_owned()));
        match open.kind {
            Kind::Tool(index) => {
                if !open.has_fragments {
                    sink(Event::ToolArguments { choice: CHOICE, index, fragment: arguments() });
                }
                sink(Event::ToolEnd { choice: CHOICE, index });
            }
            Kind::Json => {
                if !open.has_fragments {
                    sink(Event::Text { choice: CHOICE, text: arguments(), logprobs: None });
                }
            }
            Kind::Thinking => {
                if let Some(signature) = open.signature.filter(|signature| !signature.is_empty()) {
                    sink(Event::ThinkingSignature { choice: CHOICE, signature: Cow::Owned(signature) });
                }
            }
            Kind::Text | Kind::Hidden => {}
        }
    }

    fn message_delta(&mut self, delta: Option<Delta<'_>>, usage: Option<&RawValue>, sink: Sink<'_>) {
        if self.phase == Phase::Before {
            return self.fail("the provider's answer has no beginning", sink);
        }
        if let Some(delta) = delta
            && let Some(reason) = delta.stop_reason
            && self.phase != Phase::Finished
        {
            // An answer that grew too long may leave its last block open.
            for open in std::mem::take(&mut self.open) {
                self.close(open, sink);
            }
            self.phase = Phase::Finished;
            let stop_sequence = delta.stop_sequence.map(|text| text.0.into_owned());
            let finish =
                finish(&reason.0, stop_sequence, delta.stop_details, self.json_seen && self.calls == 0);
            sink(Event::Finish { choice: CHOICE, finish });
        }
        if usage.is_some_and(|raw| self.usage.update(raw.get().as_bytes())) {
            sink(Event::Tokens(tokens(&self.usage)));
        }
    }
}

/// No more of an event than tells its kind.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
}

/// Whether an event is one of those that are skipped, which may use the names of others for other things.
fn is_of_another_kind(data: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<Typed<'_>>(data) else { return false };
    match event.kind.as_ref().map(|kind| kind.0.as_ref()) {
        Some("content_block_delta") => {
            let delta = event.delta.and_then(|raw| serde_json::from_str::<Typed<'_>>(raw.get()).ok());
            let kind = delta.as_ref().and_then(|delta| delta.kind.as_ref()).map(|kind| kind.0.as_ref());
            kind.is_some_and(|kind| {
                !matches!(kind, "text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta")
            })
        }
        Some(kind) => !matches!(
            kind,
            "message_start"
                | "message_delta"
                | "message_stop"
                | "content_block_start"
                | "content_block_stop"
                | "error"
        ),
        None => false,
    }
}

fn text(piece: Option<Text<'_>>, sink: Sink<'_>) {
    if let Some(Text(text)) = piece
        && !text.is_empty()
    {
        sink(Event::Text { choice: CHOICE, text, logprobs: None });
    }
}

fn thinking(piece: Option<Text<'_>>, sink: Sink<'_>) {
    if let Some(Text(text)) = piece
        && !text.is_empty()
    {
        sink(Event::Thinking { choice: CHOICE, text });
    }
}
