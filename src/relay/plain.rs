//! Answers that are no event stream: bytes pass as they come.

use super::answer::{After, Framing};
use super::{Onward, Refusal, ended_by, unwritten, upstream_failure, upstream_refusal};
use crate::domain::Outcome;
use crate::http::{BodyLength, Connection};
use crate::upstream::{Exchange, Ready};
use crate::wire::usage::{self, MemberScanner};

/// The largest usage object that is read.
const MAX_USAGE_BYTES: usize = 16 * 1024;

/// Brings an answer back. `held` is what of its body was read already.
pub(super) fn relay(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    mut exchange: Exchange,
    held: Vec<u8>,
) -> Result<After, Refusal> {
    let limits = onward.relay.upstreams.limits();
    let status = exchange.head().status;
    // The head waits for the body's first byte: a provider that breaks off before it gets a real status.
    let mut piece = None;
    if held.is_empty() {
        onward.arm_for_provider(connection, limits.first_byte_timeout_ms);
        piece = exchange
            .next()
            .map_err(|error| upstream_refusal(ended_by(connection, error), &onward.account, onward.meter))?;
    }
    onward.meter.first_byte(false);
    onward.meter.status(status);
    let length = match exchange.head().body {
        BodyLength::Known(length) => Some(length),
        BodyLength::None => Some(0),
        BodyLength::Chunked | BodyLength::UntilClose => None,
    };
    let framing = match exchange.head().body {
        BodyLength::None => Framing::None,
        _ => onward.answer.framing(length),
    };
    let mut head = onward.begin_answer(status, &exchange.head().headers, "application/json");
    let after = onward.answer.frame(&mut head, framing);
    let is_json = exchange
        .head()
        .headers
        .one("content-type")
        .is_some_and(|kind| memchr::memmem::find(kind, b"json").is_some());
    let mut scanner = (is_json && status < 300).then(|| MemberScanner::new("usage", MAX_USAGE_BYTES));
    if let Some(scanner) = &mut scanner {
        scanner.feed(&held);
    }
    onward.meter.answer_piece(&held);
    let mut head = head.finish();
    let mut prefix = held;
    loop {
        let bytes = match &piece {
            Some(range) => exchange.bytes(range),
            None => &[],
        };
        if let Some(scanner) = &mut scanner {
            scanner.feed(bytes);
        }
        // A look ahead, so that the end goes out with the last bytes.
        let ahead = exchange.ready();
        let bytes = piece.as_ref().map_or(&[][..], |range| exchange.bytes(range));
        onward.meter.answer_piece(bytes);
        onward.arm_for_caller(connection);
        if write(connection, framing, &head, &prefix, bytes, ahead == Ok(Ready::Complete)).is_err() {
            onward.meter.outcome(unwritten(connection));
            return Ok(After::Abort);
        }
        head.clear();
        prefix.clear();
        let next = match ahead {
            Ok(Ready::Complete) => break,
            Ok(Ready::Data(range)) => Ok(Some(range)),
            Ok(Ready::NeedMore) => {
                onward.arm_for_provider(connection, limits.idle_timeout_ms);
                exchange.next()
            }
            Err(error) => Err(error),
        };
        match next {
            Ok(next) => piece = next,
            Err(error) => {
                // A short body or a missing last chunk is how a caller sees that the answer is not whole.
                let (failure, outcome) = upstream_failure(ended_by(connection, error), &onward.account);
                if let Some(failure) = &failure {
                    onward.meter.failure(failure);
                }
                onward.meter.outcome(outcome);
                return Ok(After::Abort);
            }
        }
    }
    if let Some(tokens) = scanner.as_ref().and_then(MemberScanner::value).and_then(usage::parse) {
        onward.meter.tokens(tokens);
    }
    onward.meter.outcome(if status < 400 { Outcome::Complete } else { Outcome::ProviderError });
    onward.relay.upstreams.keep(exchange);
    Ok(after)
}

fn write(
    connection: &mut Connection,
    framing: Framing,
    head: &[u8],
    prefix: &[u8],
    bytes: &[u8],
    ends: bool,
) -> std::io::Result<()> {
    if framing != Framing::Chunked {
        return connection.write(&[head, prefix, bytes]);
    }
    let total = prefix.len() + bytes.len();
    let size = format!("{total:x}\r\n");
    match (total, ends) {
        (0, true) => connection.write(&[head, b"0\r\n\r\n"]),
        (0, false) => connection.write(&[head]),
        (_, true) => connection.write(&[head, size.as_bytes(), prefix, bytes, b"\r\n0\r\n\r\n"]),
        (_, false) => connection.write(&[head, size.as_bytes(), prefix, bytes, b"\r\n"]),
    }
}
