//! Event streams: events pass whole, as soon as they are whole; token counts are read on the way; a stream that
//! breaks off ends with an error event.

use super::answer::{After, Framing};
use super::{Onward, Refusal, ended_by, headers, unwritten, upstream_failure, upstream_refusal};
use crate::domain::Outcome;
use crate::failure::Failure;
use crate::http::sse::{self, Event, EventSplitter};
use crate::http::{AnswerHead, Connection};
use crate::net::Interruption;
use crate::upstream::{Exchange, Ready, UpstreamError};
use crate::wire::events::{self, EventReader, Kind, StreamError, Verdict};

/// How long the last words to a caller may take, in milliseconds.
const LAST_WORDS_MS: u64 = 1_000;

/// Brings a stream back. `hides_usage` is whether the usage chunk was asked for by the gateway alone.
pub(super) fn relay(
    mut onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    mut exchange: Exchange,
    kind: Kind,
    hides_usage: bool,
) -> Result<After, Refusal> {
    let mut splitter = EventSplitter::new(onward.relay.upstreams.limits().max_event_bytes);
    let mut reader = EventReader::new(kind, hides_usage);
    let mut out = Vec::new();
    let mut begun = None;
    let limits = onward.relay.upstreams.limits();
    loop {
        let limit_ms = if begun.is_none() { limits.first_byte_timeout_ms } else { limits.idle_timeout_ms };
        onward.arm_for_provider(connection, limit_ms);
        let mut next = exchange.next();
        // All that is here already goes out with one write; that is at most what one read took.
        let ended = loop {
            match next {
                Ok(Some(range)) => {
                    splitter.push(exchange.bytes(&range));
                    collect(&mut splitter, &mut reader, &mut out, &mut onward);
                }
                Ok(None) => {
                    finish(&splitter, &mut reader, &mut out, &mut onward);
                    break (!reader.is_finished()).then_some(UpstreamError::Broken);
                }
                Err(error) => break Some(ended_by(connection, error)),
            }
            next = match exchange.ready() {
                Ok(Ready::NeedMore) => break None,
                Ok(Ready::Data(range)) => Ok(Some(range)),
                Ok(Ready::Complete) => Ok(None),
                Err(error) => Err(error),
            };
        };
        if begun.is_none() {
            if let Some(error) = reader.first_error() {
                return refused_in_stream(onward, connection, &exchange, &error);
            }
            if let Some(error) = ended
                && !reader.has_begun()
            {
                return Err(upstream_refusal(error, &onward.account, onward.meter));
            }
            // Comments before the first event say nothing yet; the status still can.
            if !reader.has_begun() && !exchange.is_complete() && out.len() <= limits.max_event_bytes {
                continue;
            }
            begun = Some(begin(&mut onward, &exchange));
        }
        let Some((head, framing, after)) = &mut begun else { continue };
        if let Some(error) = ended {
            let fragment = splitter.is_in_fragments();
            return Ok(broken(onward, connection, &reader, error, (head, &out), *framing, fragment));
        }
        let ends = exchange.is_complete();
        onward.arm_for_caller(connection);
        if write(connection, *framing, head, &out, ends).is_err() {
            let had_everything = out.is_empty() && reader.has_said_all();
            onward.meter.outcome(if had_everything { reader.outcome() } else { unwritten(connection) });
            // Nobody wants the rest of it.
            exchange.abandon();
            return Ok(After::Abort);
        }
        head.clear();
        out.clear();
        if ends {
            let after = *after;
            onward.meter.outcome(reader.outcome());
            onward.relay.upstreams.keep(exchange);
            return Ok(after);
        }
    }
}

/// Takes every event that is whole.
fn collect(
    splitter: &mut EventSplitter,
    reader: &mut EventReader,
    out: &mut Vec<u8>,
    onward: &mut Onward<'_, '_, '_>,
) {
    while let Some(event) = splitter.next() {
        match event {
            Event::Whole(range) => take(splitter.bytes(&range), reader, out, onward),
            Event::Fragment { range, last } => {
                reader.read_fragment(splitter.bytes(&range), last);
                if let Some(tokens) = reader.take_tokens() {
                    onward.meter.tokens(tokens);
                }
                onward.meter.output_piece();
                out.extend_from_slice(splitter.bytes(&range));
            }
        }
    }
}

/// Takes one event: reads it, and passes it on unless it is the usage chunk that the caller did not ask for.
fn take(event: &[u8], reader: &mut EventReader, out: &mut Vec<u8>, onward: &mut Onward<'_, '_, '_>) {
    let verdict = reader.read(event);
    if reader.has_begun() {
        onward.meter.first_byte(true);
    }
    if let Some(tokens) = reader.take_tokens() {
        onward.meter.tokens(tokens);
    }
    match verdict {
        Verdict::Hide => {}
        Verdict::Pass { is_output } => {
            if is_output {
                onward.meter.output_piece();
            }
            if let Some(event) = sse::without_id_and_retry(event) {
                out.extend_from_slice(&event);
            }
        }
    }
}

/// The body's end: some servers leave out the last empty line.
fn finish(
    splitter: &EventSplitter,
    reader: &mut EventReader,
    out: &mut Vec<u8>,
    onward: &mut Onward<'_, '_, '_>,
) {
    let rest = splitter.rest();
    if !rest.is_empty() && !splitter.is_in_fragments() && events::is_whole(rest) {
        take(rest, reader, out, onward);
        out.extend_from_slice(b"\n\n");
    }
    reader.body_ended();
    if reader.has_errored() {
        out.extend_from_slice(reader.missing_end());
    }
}

fn begin(onward: &mut Onward<'_, '_, '_>, exchange: &Exchange) -> (Vec<u8>, Framing, After) {
    let status = exchange.head().status;
    onward.meter.first_byte(true);
    onward.meter.status(status);
    let framing = onward.answer.framing(None);
    let mut head: AnswerHead = onward.answer.begin(status);
    head.line(b"x-tfy-resolved-model", onward.resolved_model.as_bytes());
    headers::to_caller(&exchange.head().headers, &mut head);
    let after = onward.answer.frame(&mut head, framing);
    (head.finish(), framing, after)
}

/// The first event was an error: the caller gets a real status instead of a stream.
fn refused_in_stream(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    exchange: &Exchange,
    error: &StreamError,
) -> Result<After, Refusal> {
    onward.meter.outcome(Outcome::ProviderError);
    if matches!(error.status, 401 | 403) {
        let account = onward.account;
        return Err(Refusal::after_body(Failure::UpstreamRefused { account, status: error.status }));
    }
    onward.meter.status(error.status);
    let mut head = onward.answer.begin(error.status);
    head.line(b"x-tfy-resolved-model", onward.resolved_model.as_bytes());
    for (name, value) in exchange.head().headers.iter() {
        if name.eq_ignore_ascii_case(b"retry-after") {
            head.line(b"retry-after", value);
        }
    }
    head.line(b"content-type", b"application/json");
    let length = u64::try_from(error.body.len()).unwrap_or(u64::MAX);
    let after = onward.answer.frame(&mut head, Framing::Length(length));
    onward.arm_for_caller(connection);
    match connection.write(&[&head.finish(), &error.body]) {
        Ok(()) => Ok(after),
        Err(_) => Ok(After::Abort),
    }
}

/// The stream broke off after it had begun: an error event, well separated, and a clean end of the body.
fn broken(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    reader: &EventReader,
    error: UpstreamError,
    (head, unwritten): (&[u8], &[u8]),
    framing: Framing,
    in_fragment: bool,
) -> After {
    let (failure, outcome) = upstream_failure(error, &onward.account);
    // After the end mark nothing is missing: clients hang up there, without waiting for the body's end.
    let was_whole = reader.has_said_all();
    onward.meter.outcome(if was_whole { reader.outcome() } else { outcome });
    let Some(failure) = failure else { return After::Abort };
    let mut out = unwritten.to_vec();
    if in_fragment || !(out.is_empty() || out.ends_with(b"\n\n") || out.ends_with(b"\r\n\r\n")) {
        out.extend_from_slice(b"\n\n");
    }
    if was_whole {
        // Only the body's end is still to be said.
    } else if reader.has_errored() {
        // The provider said itself what went wrong.
        out.extend_from_slice(reader.missing_end());
    } else {
        out.extend_from_slice(&reader.error_event(&failure.message(), &failure.openai_json()));
    }
    // What cut the call must not cut its last words.
    connection.watch().clear_cut();
    connection.watch().arm(LAST_WORDS_MS);
    let written = write(connection, framing, head, &out, true);
    match (written, error) {
        (Err(_), _) => After::Abort,
        (Ok(()), UpstreamError::Interrupted(Interruption::Cut(_))) => After::Close,
        (Ok(()), _) if framing == Framing::Close || !onward.answer.keep_alive => After::Close,
        (Ok(()), _) => After::KeepAlive,
    }
}

fn write(
    connection: &mut Connection,
    framing: Framing,
    head: &[u8],
    bytes: &[u8],
    ends: bool,
) -> std::io::Result<()> {
    if framing != Framing::Chunked {
        return connection.write(&[head, bytes]);
    }
    let size = format!("{:x}\r\n", bytes.len());
    match (bytes.is_empty(), ends) {
        (true, true) => connection.write(&[head, b"0\r\n\r\n"]),
        (true, false) => connection.write(&[head]),
        (false, true) => connection.write(&[head, size.as_bytes(), bytes, b"\r\n0\r\n\r\n"]),
        (false, false) => connection.write(&[head, size.as_bytes(), bytes, b"\r\n"]),
    }
}
