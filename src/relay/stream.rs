//! Event streams: events pass whole, as soon as they are whole; token counts are read on the way; a stream that
//! breaks off ends with an error event. What happens to an event on the way is a [`Passage`]'s business.

use super::answer::{After, Framing};
use super::passage::{FirstError, Passage};
use super::{Onward, Refusal, ended_by, unwritten, upstream_failure, upstream_refusal};
use crate::domain::Outcome;
use crate::failure::Failure;
use crate::http::Connection;
use crate::net::Interruption;
use crate::upstream::{Exchange, Ready, UpstreamError};

/// How long the last words to a caller may take, in milliseconds.
const LAST_WORDS_MS: u64 = 1_000;

/// Brings a stream back.
pub(super) fn relay(
    mut onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    mut exchange: Exchange,
    mut passage: impl Passage,
) -> Result<After, Refusal> {
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
                    passage.push(exchange.bytes(&range), &mut out, onward.meter);
                }
                Ok(None) => {
                    passage.body_ended(&mut out, onward.meter);
                    break (!passage.is_finished()).then_some(UpstreamError::Broken);
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
            if let Some(error) = passage.first_error() {
                return refused_in_stream(onward, connection, &exchange, &error);
            }
            if let Some(error) = ended
                && !passage.has_begun()
            {
                return Err(upstream_refusal(error, &onward.account, onward.meter));
            }
            // Comments before the first event say nothing yet; the status still can.
            if !passage.has_begun() && !exchange.is_complete() && out.len() <= limits.max_event_bytes {
                continue;
            }
            begun = Some(begin(&mut onward, &exchange));
        }
        let Some((head, framing, after)) = &mut begun else { continue };
        if let Some(error) = ended {
            return Ok(broken(onward, connection, &mut passage, error, (head, out), *framing));
        }
        let ends = exchange.is_complete() || passage.wants_no_more();
        onward.arm_for_caller(connection);
        if write(connection, *framing, head, &out, ends).is_err() {
            let had_everything = out.is_empty() && passage.has_said_all();
            onward.meter.outcome(if had_everything { passage.outcome() } else { unwritten(connection) });
            // Nobody wants the rest of it.
            exchange.abandon();
            return Ok(After::Abort);
        }
        onward.meter.answer_sent(&out);
        head.clear();
        out.clear();
        if ends {
            let after = *after;
            onward.meter.outcome(passage.outcome());
            if !exchange.is_complete() {
                // It may go on for ever, at the account's cost.
                exchange.abandon();
            }
            onward.relay.upstreams.keep(exchange);
            return Ok(after);
        }
    }
}

fn begin(onward: &mut Onward<'_, '_, '_>, exchange: &Exchange) -> (Vec<u8>, Framing, After) {
    let status = exchange.head().status;
    onward.meter.first_byte(true);
    onward.meter.status(status);
    let framing = onward.answer.framing(None);
    let mut head = onward.begin_answer(status, &exchange.head().headers, "text/event-stream; charset=utf-8");
    let after = onward.answer.frame(&mut head, framing);
    (head.finish(), framing, after)
}

/// The first event was an error: the caller gets a real status instead of a stream.
fn refused_in_stream(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    exchange: &Exchange,
    error: &FirstError,
) -> Result<After, Refusal> {
    onward.meter.outcome(Outcome::ProviderError);
    if matches!(error.status, 401 | 403) {
        let account = onward.account;
        return Err(Refusal::after_body(Failure::UpstreamRefused { account, status: error.status }));
    }
    onward.meter.status(error.status);
    let mut head = onward.answer.begin(error.status);
    head.line(b"x-tfy-resolved-model", onward.resolved_model.as_bytes());
    match (exchange.head().headers.one("retry-after"), error.retry_after_s) {
        (Some(value), _) => head.line(b"retry-after", value),
        (None, Some(seconds)) => head.line(b"retry-after", seconds.to_string().as_bytes()),
        (None, None) => {}
    }
    head.line(b"content-type", b"application/json");
    let length = u64::try_from(error.body.len()).unwrap_or(u64::MAX);
    let after = onward.answer.frame(&mut head, Framing::Length(length));
    onward.arm_for_caller(connection);
    onward.meter.answer_sent(&error.body);
    match connection.write(&[&head.finish(), &error.body]) {
        Ok(()) => Ok(after),
        Err(_) => Ok(After::Abort),
    }
}

/// The stream broke off after it had begun: an error event, well separated, and a clean end of the body.
fn broken(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    passage: &mut impl Passage,
    error: UpstreamError,
    (head, unwritten): (&[u8], Vec<u8>),
    framing: Framing,
) -> After {
    let (failure, outcome) = upstream_failure(error, &onward.account);
    // After the end mark nothing is missing: clients hang up there, without waiting for the body's end.
    let was_whole = passage.has_said_all();
    onward.meter.outcome(if was_whole { passage.outcome() } else { outcome });
    let Some(failure) = failure else { return After::Abort };
    let mut out = unwritten;
    if !was_whole {
        onward.meter.failure(&failure);
        passage.last_words(&failure, &mut out);
    }
    onward.meter.answer_sent(&out);
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
