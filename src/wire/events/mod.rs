//! What the gateway needs to know of each event of a provider's stream: is it the end, an error, the usage
//! chunk. Most events are told by a byte search; only the few that matter are parsed.

mod chat;
mod messages;
mod responses;

use std::sync::LazyLock;

use memchr::memmem;
use serde_json::json;
use serde_json::value::RawValue;

use chat::{Choice, Chunk, error_status, wrapped};
use responses::{is_failure, is_terminal};

use crate::domain::{Outcome, TokenCounts};
use crate::http::sse;
use crate::wire::usage::{self, MessagesUsage};

pub use messages::error_status as messages_error_status;

/// How the end of a stream is recognised, and in which dialect an error is put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Chunks with a `finish_reason`, then `[DONE]`.
    Chat,
    /// Named events with a terminal one.
    Responses,
    /// Anthropic's events, from `message_start` to `message_stop`.
    Messages,
    /// Other events; a clean end of the body is the end.
    Other,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the caller.
    Pass {
        /// It carries a piece of output.
        is_output: bool,
    },
    /// It is the usage chunk that the caller did not ask for.
    Hide,
}

/// An error that came as the first event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The status that fits it.
    pub status: u16,
    /// The event's data.
    pub body: Vec<u8>,
}

/// Reads the events of one stream.
#[derive(Debug)]
pub struct EventReader {
    kind: Kind,
    hides_usage: bool,
    begun: bool,
    first_error: Option<StreamError>,
    end_seen: bool,
    done_seen: bool,
    body_ended: bool,
    errored: bool,
    tokens: Option<TokenCounts>,
    last_sequence: u64,
    response_id: String,
    giant: Option<Giant>,
    messages_usage: MessagesUsage,
    /// Pieces of output in a Messages stream.
    messages_pieces: u64,
    /// The final counts of a Messages stream have come.
    messages_are_final: bool,
}

/// An event that passes in pieces.
#[derive(Debug, Default)]
struct Giant {
    is_terminal: bool,
    is_failure: bool,
    /// Its last bytes, where a usage object stands.
    tail: Vec<u8>,
}

/// Bytes kept of the end of a giant event.
const GIANT_TAIL_BYTES: usize = 16 * 1024;

impl EventReader {
    /// A reader for a stream of this kind.
    pub fn new(kind: Kind, hides_usage: bool) -> Self {
        Self {
            kind,
            hides_usage,
            begun: false,
            first_error: None,
            end_seen: false,
            done_seen: false,
            body_ended: false,
            errored: false,
            tokens: None,
            last_sequence: 0,
            response_id: String::new(),
            giant: None,
            messages_usage: MessagesUsage::default(),
            messages_pieces: 0,
            messages_are_final: false,
        }
    }

    /// Whose events they are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads an event.
    pub fn read(&mut self, event: &[u8]) -> Verdict {
        let pass = Verdict::Pass { is_output: false };
        let Some(data) = sse::data(event) else {
            // One engine has sent errors under a field name of their own.
            let error = sse::lines(event).find_map(|line| line.strip_prefix(b"error:"));
            if let Some(error) = error {
                self.error(error.trim_ascii());
            }
            return pass;
        };
        if self.kind == Kind::Messages {
            return self.read_messages(event, &data);
        }
        let is_first = !self.begun;
        self.begun = true;
        if data.trim_ascii() == b"[DONE]" {
            self.end_seen = true;
            self.done_seen = true;
            return pass;
        }
        let finishes = has_member(&data, &FINDERS.finish_reason, b'"');
        if self.kind == Kind::Chat && finishes {
            self.end_seen = true;
        }
        // Older servers send an error without a wrapper, told by its `object` only.
        let has_error = FINDERS.error.find(&data).is_some();
        let has_usage = has_member(&data, &FINDERS.usage, b'{');
        let is_terminal = self.kind == Kind::Responses && is_terminal(event, &data);
        if self.kind == Kind::Responses {
            self.track(&data, is_first);
        }
        if !(has_error || has_usage || is_terminal) {
            return Verdict::Pass { is_output: !finishes };
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&data) else {
            return Verdict::Pass { is_output: !finishes };
        };
        if is_terminal {
            self.end_seen = true;
            self.errored |= is_failure(event, &data);
        }
        let bare_error = chunk.object.is_some_and(|object| object.get() == "\"error\"");
        if (chunk.error.is_some() || bare_error) && self.kind != Kind::Responses {
            if is_first {
                self.begun = false;
            }
            self.error(&data);
            return pass;
        }
        let raw = chunk
            .usage
            .or_else(|| chunk.response.as_ref().and_then(|nested| nested.usage))
            .or_else(|| chunk.x_groq.as_ref().and_then(|nested| nested.usage));
        let Some(tokens) = raw.and_then(|raw| usage::parse(raw.get().as_bytes())) else {
            return Verdict::Pass { is_output: !finishes };
        };
        self.tokens = Some(tokens);
        let nothing_else = self.kind == Kind::Chat
            && chunk.choices.as_ref().is_none_or(|all| all.iter().all(Choice::is_empty));
        if nothing_else && self.hides_usage {
            return Verdict::Hide;
        }
        Verdict::Pass { is_output: !nothing_else && !finishes && self.kind == Kind::Chat }
    }

    /// Reads a piece of an event that is too large to be held: what kind it is from its beginning, counts from
    /// its end.
    pub fn read_fragment(&mut self, piece: &[u8], last: bool) {
        self.begun = true;
        if self.kind == Kind::Messages {
            // Its end mark, its counts and its errors are small.
            if last {
                self.messages_piece();
            }
            return;
        }
        let is_responses = self.kind == Kind::Responses;
        let giant = self.giant.get_or_insert_with(|| {
            let beginning = piece.get(..4096).unwrap_or(piece);
            Giant {
                is_terminal: is_responses && is_terminal(beginning, beginning),
                is_failure: is_responses && is_failure(beginning, beginning),
                tail: Vec::new(),
            }
        });
        giant.tail.extend_from_slice(piece);
        let surplus = giant.tail.len().saturating_sub(GIANT_TAIL_BYTES);
        giant.tail.drain(..surplus);
        if !last {
            return;
        }
        let Some(giant) = self.giant.take() else { return };
        self.end_seen |= giant.is_terminal;
        self.errored |= giant.is_failure;
        if self.kind == Kind::Chat && has_member(&giant.tail, &FINDERS.finish_reason, b'"') {
            self.end_seen = true;
        }
        const KEY: &[u8] = b"\"usage\":";
        let value = memmem::rfind(&giant.tail, KEY).and_then(|at| giant.tail.get(at + KEY.len()..));
        let object = value.and_then(|value| {
            serde_json::Deserializer::from_slice(value).into_iter::<Box<RawValue>>().next()?.ok()
        });
        if let Some(tokens) = object.and_then(|object| usage::parse(object.get().as_bytes())) {
            self.tokens = Some(tokens);
        }
    }

    /// The body has ended as its framing says.
    pub fn body_ended(&mut self) {
        self.body_ended = true;
    }

    /// Whether a first event has come that is no error.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the stream is whole.
    pub fn is_finished(&self) -> bool {
        self.end_seen || (self.kind == Kind::Other && self.body_ended)
    }

    /// The error that came before anything else.
    pub fn first_error(&self) -> Option<StreamError> {
        self.first_error.clone()
    }

    /// Counts that came since the last call.
    pub fn take_tokens(&mut self) -> Option<TokenCounts> {
        self.tokens.take()
    }

    /// Whether the provider put an error into the stream.
    pub fn has_errored(&self) -> bool {
        self.errored
    }

    /// Whether the stream's own end mark has come: `[DONE]`, or the terminal event.
    pub fn has_said_all(&self) -> bool {
        match self.kind {
            Kind::Chat => self.done_seen,
            Kind::Responses | Kind::Messages => self.end_seen,
            Kind::Other => false,
        }
    }

    /// What an errored stream still needs behind it, so that its reader stops.
    pub fn missing_end(&self) -> &'static [u8] {
        if self.kind == Kind::Chat && !self.done_seen { b"data: [DONE]\n\n" } else { b"" }
    }

    /// How a stream that ended by itself has ended.
    pub fn outcome(&self) -> Outcome {
        if self.errored { Outcome::ProviderError } else { Outcome::Complete }
    }

    /// The events that end a stream which broke off.
    pub fn error_event(&self, message: &str, envelope: &serde_json::Value) -> Vec<u8> {
        match self.kind {
            Kind::Chat => format!("data: {envelope}\n\ndata: [DONE]\n\n"),
            Kind::Responses => {
                let event = json!({
                    "type": "response.failed",
                    "sequence_number": self.last_sequence.saturating_add(1),
                    "response": {
                        "id": self.response_id,
                        "object": "response",
                        "status": "failed",
                        "error": {"code": "server_error", "message": message},
                        "output": [],
                    },
                });
                format!("event: response.failed\ndata: {event}\n\n")
            }
            Kind::Messages => messages::error_event(message),
            Kind::Other => format!("event: error\ndata: {envelope}\n\n"),
        }
        .into_bytes()
    }

    fn error(&mut self, data: &[u8]) {
        if !self.begun && self.first_error.is_none() {
            self.first_error = Some(StreamError { status: error_status(data), body: wrapped(data) });
        }
        self.errored = true;
        self.end_seen = true;
    }
}

/// What is looked for in every event, made ready once.
struct Finders {
    error: memmem::Finder<'static>,
    finish_reason: memmem::Finder<'static>,
    usage: memmem::Finder<'static>,
}

static FINDERS: LazyLock<Finders> = LazyLock::new(|| Finders {
    error: memmem::Finder::new(b"\"error\""),
    finish_reason: memmem::Finder::new(b"\"finish_reason\":"),
    usage: memmem::Finder::new(b"\"usage\":"),
});

/// Whether a member's value begins with this byte, wherever the member stands.
fn has_member(data: &[u8], member: &memmem::Finder<'_>, first: u8) -> bool {
    member.find_iter(data).any(|at| {
        let value = data.get(at + member.needle().len()..).unwrap_or_default();
        value.iter().find(|b| !b.is_ascii_whitespace()) == Some(&first)
    })
}

/// Whether the last bytes of a body are an event that lacks only its empty line.
pub fn is_whole(rest: &[u8]) -> bool {
    sse::data(rest).is_none_or(|data| {
        data.trim_ascii() == b"[DONE]" || serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok()
    })
}

#[cfg(test)]
mod tests;
