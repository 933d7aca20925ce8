//! One request to a provider and its answer.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use super::{AuthHeader, UpstreamError};
use crate::http::{BodyLength, ChunkedDecoder, Piece, ResponseHead, head_end};
use crate::net::{Transport, slices, write_request};
use crate::secret::Secret;

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MIN_READ_BYTES: usize = 4 * 1024;
const MAX_READ_BYTES: usize = 64 * 1024;
/// The shortest part of a credential that is looked for in errors, in bytes.
const MIN_SECRET_BYTES: usize = 8;
/// Interim answers before the real one.
const MAX_INTERIM_HEADS: usize = 16;

/// An answer whose head has come.
#[derive(Debug)]
pub struct Exchange {
    transport: Transport,
    head: ResponseHead,
    buffer: Vec<u8>,
    /// Everything before this was used.
    start: usize,
    /// Bytes asked for with the next read; grows while reads fill it.
    read_bytes: usize,
    left: Left,
    request_was_sent: bool,
    /// What of a credential the request showed.
    secrets: Vec<Secret>,
    key: (Arc<str>, u64),
    worker: usize,
}

/// What can be had of a body without waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Bytes, at this place.
    Data(Range<usize>),
    /// There are no more.
    Complete,
    /// The provider has to send more.
    NeedMore,
}

#[derive(Debug)]
enum Left {
    Nothing,
    Bytes(u64),
    Chunks(ChunkedDecoder),
    UntilClose,
}

impl Exchange {
    /// Sends the request in one write where the socket takes it, and waits for the answer's head.
    pub(super) fn start(
        mut transport: Transport,
        request: &[&[u8]],
        key: (Arc<str>, u64),
        worker: usize,
    ) -> Result<Self, UpstreamError> {
        // A provider may answer before it has read everything, and close: then its answer is what counts.
        let mut slices = slices(request);
        let mut rest = slices.as_mut_slice();
        let mut request_was_sent = write_request(&mut transport, &mut rest).unwrap_or(false);
        let mut buffer = Vec::new();
        let mut start = 0;
        let mut interim = 0;
        let mut searched = 0;
        let head = loop {
            let unread = buffer.get(start..).unwrap_or_default();
            match head_end(unread, searched).map_err(|_| UpstreamError::Invalid)? {
                Some(end) => {
                    let text = unread.get(..end).unwrap_or_default();
                    let head = ResponseHead::parse(text).map_err(|_| UpstreamError::Invalid)?;
                    start += end;
                    searched = 0;
                    if head.status != 101 && (100..200).contains(&head.status) && interim < MAX_INTERIM_HEADS
                    {
                        interim += 1;
                        if !request_was_sent {
                            // It was only an interim word; the rest of the request is still wanted.
                            request_was_sent = write_request(&mut transport, &mut rest).unwrap_or(false);
                        }
                        continue;
                    }
                    if head.status < 200 {
                        return Err(UpstreamError::Invalid);
                    }
                    break head;
                }
                None if unread.len() > MAX_HEAD_BYTES => return Err(UpstreamError::Invalid),
                None => searched = unread.len(),
            }
            let nothing_came = buffer.is_empty();
            match fill(&mut transport, &mut buffer, MIN_READ_BYTES) {
                Ok(0) | Err(_) if nothing_came => return Err(UpstreamError::Unreachable),
                Ok(0) | Err(_) => return Err(UpstreamError::Broken),
                Ok(_) => {}
            }
        };
        let left = match head.body {
            BodyLength::None | BodyLength::Known(0) => Left::Nothing,
            BodyLength::Known(length) => Left::Bytes(length),
            BodyLength::Chunked => Left::Chunks(ChunkedDecoder::default()),
            BodyLength::UntilClose => Left::UntilClose,
        };
        Ok(Self {
            transport,
            head,
            buffer,
            start,
            read_bytes: MIN_READ_BYTES,
            left,
            request_was_sent,
            secrets: Vec::new(),
            key,
            worker,
        })
    }

    /// Remembers what of a credential the request showed in its header lines.
    pub fn remember(&mut self, shown: &[AuthHeader]) {
        self.secrets = shown.iter().filter_map(|(_, value)| secret_part(value.expose())).collect();
    }

    /// What of a credential the request showed: an error that repeats it is not told as it is.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// The answer's head.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// What can be had of the body without waiting. Places that were given before stay good.
    ///
    /// # Errors
    /// `Broken` when the body's framing is wrong.
    pub fn ready(&mut self) -> Result<Ready, UpstreamError> {
        let unread = self.buffer.get(self.start..).unwrap_or_default();
        match &mut self.left {
            Left::Nothing => Ok(Ready::Complete),
            Left::Bytes(_) | Left::UntilClose if unread.is_empty() => Ok(Ready::NeedMore),
            Left::Bytes(left) => {
                let taken = unread.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= u64::try_from(taken).unwrap_or(0);
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                Ok(Ready::Data(self.take(taken)))
            }
            Left::UntilClose => {
                let taken = unread.len();
                Ok(Ready::Data(self.take(taken)))
            }
            Left::Chunks(decoder) => match decoder.next(unread).map_err(|_| UpstreamError::Broken)? {
                Piece::Data(range) => {
                    let range = self.start + range.start..self.start + range.end;
                    self.start = range.end;
                    Ok(Ready::Data(range))
                }
                Piece::End(used) => {
                    self.start += used;
                    self.left = Left::Nothing;
                    Ok(Ready::Complete)
                }
                Piece::NeedMore(used) => {
                    self.start += used;
                    Ok(Ready::NeedMore)
                }
            },
        }
    }

    /// The next bytes of the body, as they come; `None` when it is complete. Read them with
    /// [`Exchange::bytes`].
    ///
    /// # Errors
    /// `Broken` when the connection ended before the body did, or its framing is wrong. The watch says when it
    /// was an interruption.
    pub fn next(&mut self) -> Result<Option<Range<usize>>, UpstreamError> {
        loop {
            match self.ready()? {
                Ready::Data(range) => return Ok(Some(range)),
                Ready::Complete => return Ok(None),
                Ready::NeedMore => self.read_more()?,
            }
        }
    }

    fn read_more(&mut self) -> Result<(), UpstreamError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let before = self.buffer.len();
        match fill(&mut self.transport, &mut self.buffer, self.read_bytes) {
            Ok(0) if matches!(self.left, Left::UntilClose) => {
                self.left = Left::Nothing;
                Ok(())
            }
            Ok(0) | Err(_) => Err(UpstreamError::Broken),
            Ok(read) => {
                if read == self.read_bytes && before == 0 {
                    self.read_bytes = (self.read_bytes * 4).min(MAX_READ_BYTES);
                }
                Ok(())
            }
        }
    }

    /// The bytes at a place that [`Exchange::next`] gave, until it is called again.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buffer.get(range.clone()).unwrap_or_default()
    }

    /// Whether the body has been read to its end.
    pub fn is_complete(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Ends the provider's connection now; nobody wants the rest.
    pub fn abandon(&mut self) {
        self.transport.socket().shutdown();
        self.left = Left::Nothing;
        self.request_was_sent = false;
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        let range = self.start..self.start + length;
        self.start = range.end;
        range
    }

    pub(super) fn into_reusable(self) -> Option<(Transport, (Arc<str>, u64), usize)> {
        let clean = self.request_was_sent
            && self.head.keep_alive
            && self.head.body != BodyLength::UntilClose
            && matches!(self.left, Left::Nothing)
            && self.start == self.buffer.len();
        if clean {
            Some((self.transport, self.key, self.worker))
        } else {
            self.transport.socket().release();
            None
        }
    }
}

/// Of a header line what is secret: a key or token without its scheme, a signature. What is shorter than a word is not
/// looked for.
fn secret_part(value: &str) -> Option<Secret> {
    let part = match value.split_once("Signature=") {
        Some((_, signature)) => signature,
        None => value.rsplit(' ').next().unwrap_or_default(),
    };
    (part.len() >= MIN_SECRET_BYTES).then(|| Secret::new(part.to_owned()))
}

fn fill(transport: &mut Transport, buffer: &mut Vec<u8>, bytes: usize) -> std::io::Result<usize> {
    let from = buffer.len();
    buffer.resize(from + bytes, 0);
    let result = transport.read(buffer.get_mut(from..).unwrap_or_default());
    buffer.truncate(from + result.as_ref().map_or(0, |read| *read));
    result
}
