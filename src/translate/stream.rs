//! One stream on its way from a provider's protocol to a caller's dialect: bytes in, bytes out.

use super::answer::{Event, ProviderError};
use super::back::{anthropic, gemini, openai};
use super::dialect::{Back, EventsReader, Front, FrontWriter, MessagesReader};
use super::front::responses::Echo;
use super::{Identity, ReplyContext, Tokens};
use crate::http::eventstream::Decoder;
use crate::http::sse::{self, EventSplitter};
use crate::wire::tokens::Estimate;

/// Translates one stream. What it holds back is bounded by the largest event that it was told of.
#[derive(Debug)]
pub struct Translation {
    reader: Reader,
    writer: FrontWriter,
    state: State,
}

#[derive(Debug)]
enum Reader {
    Events(EventSplitter, Box<EventsReader>),
    Messages(Decoder, MessagesReader),
}

#[derive(Debug, Default)]
struct State {
    /// Something came that is worth a status.
    begun: bool,
    /// The provider's end mark, or an error.
    finished: bool,
    /// The error that came before anything else.
    first_error: Option<ProviderError>,
    errored: bool,
    /// Since the last look.
    tokens: Option<Tokens>,
    output_pieces: u64,
    /// Of all the output so far.
    text: Estimate,
}

impl Translation {
    /// From `back` to `front`; `include_usage` and `echo` are what the request asked to be told. A single event of more than `max_event_bytes` is an error.
    pub fn new(
        front: Front,
        back: Back,
        identity: &Identity<'_>,
        (include_usage, echo): (bool, Echo),
        context: ReplyContext,
        max_event_bytes: usize,
    ) -> Self {
        let events = |reader| Reader::Events(EventSplitter::new(max_event_bytes), Box::new(reader));
        let reader = match back {
            Back::OpenAi => events(EventsReader::OpenAi(openai::StreamReader::new(context))),
            Back::Anthropic => events(EventsReader::Anthropic(anthropic::StreamReader::new(context))),
            Back::Gemini => events(EventsReader::Gemini(gemini::StreamReader::new(context))),
            Back::Converse => Reader::Messages(Decoder::new(max_event_bytes), MessagesReader::new(context)),
        };
        Self { reader, writer: front.stream(identity, include_usage, echo), state: State::default() }
    }

    /// Takes bytes of the provider's body; appends what is whole of them to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { reader, writer, state } = self;
        let mut sink = |event: Event<'_>| state.take(event, writer, out);
        match reader {
            Reader::Events(splitter, reader) => {
                splitter.push(bytes);
                while let Some(event) = splitter.next() {
                    match event {
                        sse::Event::Whole(range) => reader.read(splitter.bytes(&range), &mut sink),
                        sse::Event::Fragment { .. } => sink(Event::Error(unreadable_stream())),
                    }
                }
            }
            Reader::Messages(decoder, reader) => {
                decoder.push(bytes);
                loop {
                    match decoder.next() {
                        Ok(Some(message)) => reader.read(&message, &mut sink),
                        Ok(None) => break,
                        Err(_) => {
                            sink(Event::Error(unreadable_stream()));
                            break;
                        }
                    }
                }
            }
        }
    }

    /// The provider's body has ended as its framing says.
    pub fn body_ended(&mut self, out: &mut Vec<u8>) {
        let Self { reader, writer, state } = self;
        let mut sink = |event: Event<'_>| state.take(event, writer, out);
        match reader {
            Reader::Events(splitter, reader) => {
                let rest = if splitter.is_in_fragments() { &[] } else { splitter.rest() };
                if sse::data(rest).is_some() && crate::wire::events::is_whole(rest) {
                    // Some servers leave out the last empty line.
                    reader.read(rest, &mut sink);
                    reader.end(&[], &mut sink);
                } else {
                    reader.end(rest, &mut sink);
                }
            }
            // A message that is not whole was cut off, whatever came before it.
            Reader::Messages(decoder, _) if decoder.rest_bytes() > 0 => {}
            Reader::Messages(_, reader) => reader.end(&mut sink),
        }
    }

    /// Ends a stream that broke off, with this error.
    pub fn fail(&mut self, error: ProviderError, out: &mut Vec<u8>) {
        self.state.begun = true;
        self.state.take(Event::Error(error), &mut self.writer, out);
    }

    /// Whether something came that is worth a status: more than that the answer begins.
    pub fn has_begun(&self) -> bool {
        self.state.begun
    }

    /// Whether the provider's end mark or its error has come.
    pub fn is_finished(&self) -> bool {
        self.state.finished
    }

    /// Whether the provider put an error into the stream.
    pub fn has_errored(&self) -> bool {
        self.state.errored
    }

    /// The error that came before anything else; it was not written.
    pub fn first_error(&self) -> Option<&ProviderError> {
        self.state.first_error.as_ref()
    }

    /// Counts that came since the last call.
    pub fn take_tokens(&mut self) -> Option<Tokens> {
        self.state.tokens.take()
    }

    /// Pieces of output that came since the last call, and what the text of all of them comes to.
    pub fn take_output(&mut self) -> (u64, Estimate) {
        (std::mem::take(&mut self.state.output_pieces), self.state.text)
    }
}

impl State {
    fn take(&mut self, event: Event<'_>, writer: &mut FrontWriter, out: &mut Vec<u8>) {
        if self.finished {
            // Nothing counts behind the end.
            return;
        }
        match &event {
            Event::Start { tokens, .. } => {
                if let Some(tokens) = tokens {
                    self.tokens = Some(*tokens);
                }
            }
            Event::Ping => {}
            Event::Tokens(tokens) => self.tokens = Some(*tokens),
            Event::Error(error) => {
                self.finished = true;
                self.errored = true;
                if !self.begun {
                    self.first_error = Some(error.clone());
                    return;
                }
            }
            Event::End => {
                self.begun = true;
                self.finished = true;
            }
            Event::Text { text, .. }
            | Event::Refusal { text, .. }
            | Event::Thinking { text, .. }
            | Event::ToolArguments { fragment: text, .. } => {
                self.begun = true;
                self.output_pieces += 1;
                self.text.push(text);
            }
            Event::RedactedThinking { .. } => {
                self.begun = true;
                self.output_pieces += 1;
            }
            Event::ThinkingSignature { .. }
            | Event::ToolStart { .. }
            | Event::ToolEnd { .. }
            | Event::Finish { .. } => self.begun = true,
        }
        writer.write(event, out);
    }
}

fn unreadable_stream() -> ProviderError {
    ProviderError {
        status: 502,
        kind: "api_error".to_owned(),
        message: "The provider's stream can not be read, or one of its events is larger than relay.max_answer_bytes"
            .to_owned(),
        ..ProviderError::default()
    }
}
