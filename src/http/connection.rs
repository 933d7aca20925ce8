//! A caller's connection: requests in, answers out, within limits.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::chunked::{ChunkedDecoder, Piece};
use super::head::{BodyLength, HeadError, RequestHead, head_end};
use crate::net::{Registration, Transport, Watch, write_all_pieces};

const READ_BYTES: usize = 8 * 1024;
/// An unread body up to this size is read and dropped, so that the connection can stay.
const MAX_DISCARDED_BYTES: u64 = 64 * 1024;

/// What a caller may send, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a head.
    pub max_head_bytes: usize,
    /// Header lines.
    pub max_headers: usize,
    /// Bytes of a body.
    pub max_body_bytes: u64,
    /// From a head's first byte to its end.
    pub header_timeout_ms: u64,
    /// From a head's end to the body's.
    pub body_timeout_ms: u64,
    /// Between requests.
    pub idle_timeout_ms: u64,
}

/// Why no request came.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The caller closed, or the connection broke.
    Closed,
    /// The head or body was late.
    Timeout,
    /// The head was refused.
    Head(HeadError),
    /// The body's chunks are none.
    Chunk,
    /// The body is larger than allowed.
    TooLarge,
    /// All buffered bodies together are as large as allowed.
    NoRoom,
}

/// How many bytes of request bodies all calls may buffer together.
#[derive(Debug)]
pub struct BodyBudget {
    used: AtomicUsize,
    max_bytes: usize,
}

impl BodyBudget {
    /// A budget of this many bytes.
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max_bytes })
    }

    /// Bytes in use now.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct BodyReservation {
    budget: Arc<BodyBudget>,
    bytes: usize,
}

impl BodyReservation {
    fn new(budget: &Arc<BodyBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// A part for what is made of a body.
    ///
    /// # Errors
    /// `NoRoom` when the budget has no more.
    pub fn take(budget: &Arc<BodyBudget>, bytes: usize) -> Result<Self, ReadError> {
        let mut reservation = Self::new(budget);
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    fn grow(&mut self, more: usize) -> Result<(), ReadError> {
        let before = self.budget.used.fetch_add(more, Ordering::AcqRel);
        if before.saturating_add(more) > self.budget.max_bytes {
            self.budget.used.fetch_sub(more, Ordering::AcqRel);
            return Err(ReadError::NoRoom);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A whole request body and its part of the budget.
pub struct BufferedBody {
    /// The body.
    pub bytes: Vec<u8>,
    reservation: BodyReservation,
}

impl BufferedBody {
    /// Nothing yet.
    pub fn empty(budget: &Arc<BodyBudget>) -> Self {
        Self { bytes: Vec::new(), reservation: BodyReservation::new(budget) }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// `NoRoom` when all bodies together hold as much as they may.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.reservation.grow(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// A body is a prompt: only its size is shown.
impl std::fmt::Debug for BufferedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferedBody({} bytes)", self.bytes.len())
    }
}

/// One caller's connection.
pub struct Connection {
    transport: Transport,
    registration: Registration,
    /// Room to read into, never cleared: to fill it with zeros for each read would cost as much as the reading.
    input: Vec<u8>,
    /// Everything before this was used.
    start: usize,
    /// Nothing from here on was read.
    end: usize,
}

impl Connection {
    /// A fresh connection.
    pub fn new(transport: Transport, registration: Registration) -> Self {
        Self { transport, registration, input: Vec::new(), start: 0, end: 0 }
    }

    /// The connection's watch.
    pub fn watch(&self) -> &Arc<Watch> {
        self.registration.watch()
    }

    /// What bytes travel through.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The next request's head; `None` when the caller is done.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read_head(&mut self, limits: &Limits) -> Result<Option<RequestHead>, ReadError> {
        let watch = Arc::clone(self.watch());
        self.compact();
        let mut searched = 0;
        let mut timed = false;
        watch.arm(limits.idle_timeout_ms);
        loop {
            // RFC 9112 section 2.2: an empty line before a request is ignored.
            if searched == 0 {
                while self.unread().starts_with(b"\r\n") {
                    self.start += 2;
                }
                self.compact();
            }
            let unread = self.unread();
            watch.set_idle(unread.is_empty());
            if !unread.is_empty() && !timed {
                timed = true;
                watch.arm(limits.header_timeout_ms);
            }
            if unread != b"\r"
                && let Some(end) = head_end(unread, searched).map_err(ReadError::Head)?
            {
                if end > limits.max_head_bytes {
                    return Err(ReadError::Head(too_large(unread, limits)));
                }
                let head = unread.get(..end).unwrap_or_default();
                let head = RequestHead::parse(head, limits.max_headers).map_err(ReadError::Head)?;
                self.start += end;
                return Ok(Some(head));
            }
            if unread.len() > limits.max_head_bytes {
                return Err(ReadError::Head(too_large(unread, limits)));
            }
            searched = unread.len();
            let was_empty = unread.is_empty();
            match self.fill() {
                Ok(0) if was_empty => return Ok(None),
                Ok(0) => return Err(ReadError::Closed),
                Ok(_) => {}
                // Idle for too long, or the gateway stops.
                Err(_) if was_empty => return Ok(None),
                Err(error) => return Err(read_error(&error)),
            }
        }
    }

    /// The body that belongs to a head, whole. Sends `100 Continue` first where it is waited for.
    ///
    /// # Errors
    /// Why there is none; the framing is lost then.
    pub fn read_body(
        &mut self,
        head: &RequestHead,
        limits: &Limits,
        budget: &Arc<BodyBudget>,
    ) -> Result<BufferedBody, ReadError> {
        let mut reservation = BodyReservation::new(budget);
        if let BodyLength::Known(length) = head.body
            && length > limits.max_body_bytes
        {
            return Err(ReadError::TooLarge);
        }
        self.watch().arm(limits.body_timeout_ms);
        if head.expects_continue && self.unread().is_empty() && head.body != BodyLength::None {
            write_all_pieces(&mut self.transport, &[b"HTTP/1.1 100 Continue\r\n\r\n"])
                .map_err(|error| read_error(&error))?;
        }
        let bytes = match head.body {
            BodyLength::None | BodyLength::UntilClose => Vec::new(),
            BodyLength::Known(length) => {
                let length = usize::try_from(length).map_err(|_| ReadError::TooLarge)?;
                self.read_known(length, &mut reservation)?
            }
            BodyLength::Chunked => self.read_chunked(limits.max_body_bytes, &mut reservation)?,
        };
        self.watch().disarm();
        Ok(BufferedBody { bytes, reservation })
    }

    fn read_known(&mut self, length: usize, reservation: &mut BodyReservation) -> Result<Vec<u8>, ReadError> {
        let ready = self.unread().len().min(length);
        reservation.grow(ready)?;
        let mut body = Vec::with_capacity(length);
        body.extend_from_slice(self.unread().get(..ready).unwrap_or_default());
        self.start += ready;
        while body.len() < length {
            // Into the body itself: a large body is in memory once. The budget is taken as the bytes come,
            // so that an announcement alone takes nothing from others.
            let from = body.len();
            let step = (length - from).min(64 * 1024);
            reservation.grow(step)?;
            body.resize(from + step, 0);
            let read = self
                .transport
                .read(body.get_mut(from..).unwrap_or_default())
                .map_err(|error| read_error(&error))?;
            if read == 0 {
                return Err(ReadError::Closed);
            }
            body.truncate(from + read);
            let unused = step - read;
            reservation.bytes -= unused;
            reservation.budget.used.fetch_sub(unused, Ordering::AcqRel);
        }
        Ok(body)
    }

    fn read_chunked(
        &mut self,
        max_bytes: u64,
        reservation: &mut BodyReservation,
    ) -> Result<Vec<u8>, ReadError> {
        let mut decoder = ChunkedDecoder::default();
        let mut body = Vec::new();
        loop {
            match decoder.next(self.unread()).map_err(|_| ReadError::Chunk)? {
                Piece::Data(range) => {
                    let total = body.len().saturating_add(range.len());
                    if u64::try_from(total).unwrap_or(u64::MAX) > max_bytes {
                        return Err(ReadError::TooLarge);
                    }
                    reservation.grow(range.len())?;
                    body.extend_from_slice(self.unread().get(range.clone()).unwrap_or_default());
                    self.start += range.end;
                }
                Piece::End(used) => {
                    self.start += used;
                    return Ok(body);
                }
                Piece::NeedMore(used) => {
                    self.start += used;
                    self.compact();
                    match self.fill() {
                        Ok(0) => return Err(ReadError::Closed),
                        Ok(_) => {}
                        Err(error) => return Err(read_error(&error)),
                    }
                }
            }
        }
    }

    /// Reads and drops a body that nobody wants. False when that is not worth it or failed: the connection
    /// must close then.
    pub fn discard_body(&mut self, head: &RequestHead, limits: &Limits) -> bool {
        match head.body {
            BodyLength::None => true,
            // The caller may or may not send it after a final answer; closing is the one unambiguous way.
            _ if head.expects_continue => false,
            BodyLength::Known(length) if length <= MAX_DISCARDED_BYTES => {
                let budget = BodyBudget::new(usize::MAX);
                self.read_body(head, limits, &budget).is_ok()
            }
            _ => false,
        }
    }

    /// Writes pieces of an answer. A caller that does not take them in time is given up.
    ///
    /// # Errors
    /// What the transport said.
    pub fn write(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        write_all_pieces(&mut self.transport, pieces)
    }

    /// Ends the connection so that the caller can still read the last answer: says goodbye, then reads what is
    /// on its way, within bounds, because closing with unread bytes would reset the connection.
    pub fn close_gently(mut self) {
        self.watch().clear_cut();
        self.watch().arm(1_000);
        self.transport.close();
        let mut dropped = 0;
        let mut buffer = [0; 4096];
        while dropped < 1024 * 1024 {
            match self.transport.socket_mut().read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => dropped += read,
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    fn compact(&mut self) {
        if self.start >= self.end {
            self.end = 0;
            // An idle connection keeps no large buffer.
            if self.input.len() > READ_BYTES {
                self.input.truncate(READ_BYTES);
                self.input.shrink_to(READ_BYTES);
            }
        } else if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
        }
        self.start = 0;
    }

    fn fill(&mut self) -> io::Result<usize> {
        let room = self.end + READ_BYTES;
        if self.input.len() < room {
            self.input.resize(room, 0);
        }
        let result = self.transport.read(self.input.get_mut(self.end..room).unwrap_or_default());
        self.end += result.as_ref().map_or(0, |read| *read);
        result
    }
}

/// A request line that alone is larger than a head may be is a target that is too long.
fn too_large(head: &[u8], limits: &Limits) -> HeadError {
    match memchr::memchr(b'\n', head) {
        Some(end) if end < limits.max_head_bytes => HeadError::TooLarge,
        _ => HeadError::TargetTooLong,
    }
}

fn read_error(error: &io::Error) -> ReadError {
    if error.kind() == io::ErrorKind::TimedOut { ReadError::Timeout } else { ReadError::Closed }
}
