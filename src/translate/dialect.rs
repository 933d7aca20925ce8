//! Which front and which back there are, and one name for what each of them does.

use super::answer::{Answer, Event, ProviderError};
use super::back::{anthropic, converse, gemini, openai};
use super::conversation::Conversation;
use super::front::responses::Echo;
use super::front::{chat, messages, responses};
use super::{Built, Identity, Invalid, ReplyContext, Target, Unreadable};
use crate::http::eventstream::Message;

/// A caller's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// OpenAI's chat completions.
    Chat,
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
}

impl Front {
    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with it, by field.
    pub fn read(self, body: &[u8]) -> Result<Conversation, Invalid> {
        match self {
            Self::Chat => chat::read(body),
            Self::Messages => messages::read(body),
            Self::Responses => responses::read(body),
        }
    }

    /// What an answer repeats of its request; nothing in dialects that repeat nothing.
    pub fn echo(self, body: &[u8]) -> Echo {
        match self {
            Self::Responses => Echo::read(body),
            Self::Chat | Self::Messages => Echo::default(),
        }
    }

    /// Writes a whole answer.
    pub fn write(self, answer: &Answer, identity: &Identity<'_>, echo: &Echo) -> Vec<u8> {
        match self {
            Self::Chat => chat::write(answer, identity),
            Self::Messages => messages::write(answer, identity),
            Self::Responses => responses::write_echoing(answer, identity, echo),
        }
    }

    /// Writes a provider's error as the body of an answer.
    pub fn error(self, error: &ProviderError) -> Vec<u8> {
        match self {
            Self::Chat => chat::error(error),
            Self::Messages => messages::error(error),
            Self::Responses => responses::error(error),
        }
    }

    /// Begins a stream.
    pub fn stream(self, identity: &Identity<'_>, include_usage: bool, echo: Echo) -> FrontWriter {
        match self {
            Self::Chat => FrontWriter::Chat(chat::StreamWriter::new(identity, include_usage)),
            Self::Messages => FrontWriter::Messages(messages::StreamWriter::new(identity, include_usage)),
            Self::Responses => FrontWriter::Responses(responses::StreamWriter::echoing(identity, echo)),
        }
    }
}

/// Writes a stream in a caller's dialect.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are the dialects")]
pub enum FrontWriter {
    Chat(chat::StreamWriter),
    Messages(messages::StreamWriter),
    Responses(responses::StreamWriter),
}

impl FrontWriter {
    /// Appends what one event is in this dialect.
    pub fn write(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Chat(writer) => writer.write(event, out),
            Self::Messages(writer) => writer.write(event, out),
            Self::Responses(writer) => writer.write(event, out),
        }
    }
}

/// A provider's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Bedrock's Converse.
    Converse,
    /// Gemini's generateContent.
    Gemini,
}

impl Back {
    /// Its word in the table of capabilities.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Converse => "converse",
            Self::Gemini => "gemini",
        }
    }

    /// Writes a request.
    ///
    /// # Errors
    /// What the provider can not do, by the caller's field.
    pub fn build(self, conversation: &Conversation, target: &Target<'_>) -> Result<Built, Invalid> {
        match self {
            Self::OpenAi => openai::build(conversation, target),
            Self::Anthropic => anthropic::build(conversation, target),
            Self::Converse => converse::build(conversation, target),
            Self::Gemini => gemini::build(conversation, target),
        }
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(self, body: &[u8], context: &ReplyContext) -> Result<Answer, Unreadable> {
        match self {
            Self::OpenAi => openai::read(body, context),
            Self::Anthropic => anthropic::read(body, context),
            Self::Converse => converse::read(body, context),
            Self::Gemini => gemini::read(body, context),
        }
    }

    /// Reads an error. `headers` looks up a line of the answer's head by its lower-case name.
    pub fn error(self, status: u16, headers: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
        match self {
            Self::OpenAi => openai::error(status, headers, body),
            Self::Anthropic => anthropic::error(status, headers, body),
            Self::Converse => converse::error(status, headers, body),
            Self::Gemini => gemini::error(status, headers, body),
        }
    }
}

/// Reads a provider's stream of server-sent events.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are the protocols")]
pub enum EventsReader {
    OpenAi(openai::StreamReader),
    Anthropic(anthropic::StreamReader),
    Gemini(gemini::StreamReader),
}

impl EventsReader {
    /// Reads one whole event.
    pub fn read(&mut self, event: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::OpenAi(reader) => reader.read(event, sink),
            Self::Anthropic(reader) => reader.read(event, sink),
            Self::Gemini(reader) => reader.read(event, sink),
        }
    }

    /// What stood behind the last whole event, and the end.
    pub fn end(&mut self, rest: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::OpenAi(reader) => reader.end(sink),
            Self::Anthropic(reader) => reader.end(sink),
            Self::Gemini(reader) => {
                if !rest.is_empty() {
                    reader.rest(rest, sink);
                }
                reader.end(sink);
            }
        }
    }
}

/// Reads a provider's stream of binary messages.
#[derive(Debug)]
pub struct MessagesReader(converse::StreamReader);

impl MessagesReader {
    /// Of Converse.
    pub fn new(context: ReplyContext) -> Self {
        Self(converse::StreamReader::new(context))
    }

    /// Reads one whole message.
    pub fn read(&mut self, message: &Message<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.0.read(message, sink);
    }

    /// The end.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.0.end(sink);
    }
}
