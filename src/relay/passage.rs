//! What happens to a provider's stream on its way to the caller: it passes as it is, or is said again in the
//! caller's dialect.

use super::meter::Meter;
use crate::domain::Outcome;
use crate::failure::Failure;
use crate::http::sse::{self, Event, EventSplitter};
use crate::translate::{Front, ProviderError, Translation};
use crate::wire::events::{self, EventReader, Kind, Verdict};

/// An error that came before anything else of a stream: the caller gets a real status instead.
#[derive(Debug)]
pub(super) struct FirstError {
    /// The status that fits it.
    pub status: u16,
    /// JSON, in the caller's dialect.
    pub body: Vec<u8>,
    /// Seconds, where the provider says so inside the stream.
    pub retry_after_s: Option<u64>,
}

/// The way of one stream.
pub(super) trait Passage {
    /// Takes the next bytes of the provider's body; what is ready for the caller goes into `out`.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>, meter: &mut Meter<'_>);
    /// The provider's body has ended as its framing says.
    fn body_ended(&mut self, out: &mut Vec<u8>, meter: &mut Meter<'_>);
    /// Whether something has come that is worth a status.
    fn has_begun(&self) -> bool;
    /// Whether the stream is whole, or ended with an error that its provider told.
    fn is_finished(&self) -> bool;
    /// Whether the caller's end mark has been written: clients hang up there.
    fn has_said_all(&self) -> bool;
    /// How a stream that ended by itself has ended.
    fn outcome(&self) -> Outcome;
    /// The error that came before anything else.
    fn first_error(&self) -> Option<FirstError>;
    /// The events that end a stream which broke off, for `out`, which holds what was not written yet.
    fn last_words(&mut self, failure: &Failure, out: &mut Vec<u8>);
}

/// Equal dialects: events pass as they came; what policy and accounting need is read on the way.
#[derive(Debug)]
pub(super) struct Relayed {
    splitter: EventSplitter,
    reader: EventReader,
}

impl Relayed {
    /// `hides_usage` is whether the usage chunk was asked for by the gateway alone.
    pub fn new(kind: Kind, hides_usage: bool, max_event_bytes: usize) -> Self {
        Self { splitter: EventSplitter::new(max_event_bytes), reader: EventReader::new(kind, hides_usage) }
    }
}

impl Passage for Relayed {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>, meter: &mut Meter<'_>) {
        self.splitter.push(bytes);
        while let Some(event) = self.splitter.next() {
            match event {
                Event::Whole(range) => take(self.splitter.bytes(&range), &mut self.reader, out, meter),
                Event::Fragment { range, last } => {
                    let piece = self.splitter.bytes(&range);
                    self.reader.read_fragment(piece, last);
                    if let Some(tokens) = self.reader.take_tokens() {
                        meter.tokens(tokens);
                    }
                    meter.output_piece(self.reader.kind(), piece);
                    out.extend_from_slice(piece);
                }
            }
        }
    }

    fn body_ended(&mut self, out: &mut Vec<u8>, meter: &mut Meter<'_>) {
        let rest = self.splitter.rest();
        // Some servers leave out the last empty line.
        if !rest.is_empty() && !self.splitter.is_in_fragments() && events::is_whole(rest) {
            take(rest, &mut self.reader, out, meter);
            out.extend_from_slice(b"\n\n");
        }
        self.reader.body_ended();
        if self.reader.has_errored() {
            out.extend_from_slice(self.reader.missing_end());
        }
    }

    fn has_begun(&self) -> bool {
        self.reader.has_begun()
    }

    fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    fn has_said_all(&self) -> bool {
        self.reader.has_said_all()
    }

    fn outcome(&self) -> Outcome {
        self.reader.outcome()
    }

    fn first_error(&self) -> Option<FirstError> {
        let error = self.reader.first_error()?;
        Some(FirstError { status: error.status, body: error.body, retry_after_s: None })
    }

    fn last_words(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        let separated = out.is_empty() || out.ends_with(b"\n\n") || out.ends_with(b"\r\n\r\n");
        if self.splitter.is_in_fragments() || !separated {
            out.extend_from_slice(b"\n\n");
        }
        if self.reader.has_errored() {
            // The provider said itself what went wrong.
            out.extend_from_slice(self.reader.missing_end());
        } else {
            out.extend_from_slice(&self.reader.error_event(&failure.message(), &failure.openai_json()));
        }
    }
}

/// Takes one event: reads it, and passes it on unless it is the usage chunk that the caller did not ask for.
fn take(event: &[u8], reader: &mut EventReader, out: &mut Vec<u8>, meter: &mut Meter<'_>) {
    let verdict = reader.read(event);
    if reader.has_begun() {
        meter.first_byte(true);
    }
    if let Some(tokens) = reader.take_tokens() {
        meter.tokens(tokens);
    }
    match verdict {
        Verdict::Hide => {}
        Verdict::Pass { is_output } => {
            if is_output {
                meter.output_piece(reader.kind(), event);
            }
            if let Some(event) = sse::without_id_and_retry(event) {
                out.extend_from_slice(&event);
            }
        }
    }
}

/// Different dialects: what the provider says is said again to the caller.
#[derive(Debug)]
pub(super) struct Translated {
    front: Front,
    translation: Translation,
    has_failed: bool,
}

impl Translated {
    /// The way of one stream.
    pub fn new(front: Front, translation: Translation) -> Self {
        Self { front, translation, has_failed: false }
    }

    fn account(&mut self, meter: &mut Meter<'_>) {
        if self.translation.has_begun() {
            meter.first_byte(true);
        }
        if let Some(tokens) = self.translation.take_tokens() {
            meter.tokens(tokens.counts());
        }
        let (pieces, text) = self.translation.take_output();
        meter.output_so_far(pieces, text);
    }
}

impl Passage for Translated {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>, meter: &mut Meter<'_>) {
        self.translation.push(bytes, out);
        self.account(meter);
    }

    fn body_ended(&mut self, out: &mut Vec<u8>, meter: &mut Meter<'_>) {
        self.translation.body_ended(out);
        self.account(meter);
    }

    fn has_begun(&self) -> bool {
        self.translation.has_begun()
    }

    fn is_finished(&self) -> bool {
        self.translation.is_finished()
    }

    fn has_said_all(&self) -> bool {
        self.translation.is_finished()
    }

    fn outcome(&self) -> Outcome {
        if self.translation.has_errored() && !self.has_failed {
            Outcome::ProviderError
        } else {
            Outcome::Complete
        }
    }

    fn first_error(&self) -> Option<FirstError> {
        let error = self.translation.first_error()?;
        Some(FirstError {
            status: if error.credential_refused { 401 } else { error.status },
            body: self.front.error(error),
            retry_after_s: error.retry_after_s,
        })
    }

    fn last_words(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.has_failed = true;
        let error = ProviderError {
            status: failure.status(),
            kind: "api_error".to_owned(),
            message: failure.message().into_owned(),
            ..ProviderError::default()
        };
        self.translation.fail(error, out);
    }
}
