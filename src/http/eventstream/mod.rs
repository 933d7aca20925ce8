//! `application/vnd.amazon.eventstream`: messages with headers, a payload and two check sums, cut out of a byte stream.
//!
//! ```text
//! u32 total length | u32 length of the headers | u32 CRC of these 8 bytes | headers | payload | u32 CRC of all before
//! ```
//!
//! Big endian; CRC-32 as in zlib. Messages ignore the borders of chunks and reads. Nothing is held before the lengths
//! in front of it were checked.
//!
//! Written here and not taken from `aws-smithy-eventstream` 0.61: that brings 16 more crates into the lock file and
//! 53 KiB into a binary that does nothing else, allocates every header of every message, and takes two headers of one
//! name. The check sum is a table and a line; `crc32fast` pays off for larger messages than these.

/// Bytes before the headers.
const PRELUDE_BYTES: usize = 12;
/// Bytes that are neither headers nor payload.
const OVERHEAD_BYTES: usize = 16;
/// The limit of the protocol for the headers of one message.
const MAX_HEADERS_BYTES: usize = 128 * 1024;
/// The limit of the protocol for the payload of one message.
const MAX_PAYLOAD_BYTES: usize = 24 * 1024 * 1024;
/// Headers in one message; providers send three.
const MAX_HEADERS: usize = 64;
/// An emptied buffer above this is given back.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// Why bytes are not a message. The stream can not be read beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStreamError {
    /// Lengths that contradict each other.
    BadLength,
    /// Longer than is taken.
    TooLarge,
    /// A check sum says that something was changed on the way.
    BadChecksum,
    /// Headers that are not headers, too many, or two of one name.
    BadHeader,
}

impl std::fmt::Display for EventStreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BadLength => "a message of the event stream has impossible lengths",
            Self::TooLarge => "a message of the event stream is too large",
            Self::BadChecksum => "a message of the event stream has a wrong check sum",
            Self::BadHeader => "a message of the event stream has unreadable headers",
        })
    }
}

impl std::error::Error for EventStreamError {}

/// The value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Types 0 and 1.
    Bool(bool),
    /// Types 2 to 5: 1, 2, 4 or 8 bytes.
    Integer(i64),
    /// Type 6.
    Bytes(&'a [u8]),
    /// Type 7.
    Text(&'a str),
    /// Type 8: milliseconds since 1970.
    Timestamp(i64),
    /// Type 9: 16 bytes.
    Uuid(&'a [u8]),
}

/// One message. Its headers have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    headers: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// All headers, as they were sent.
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: self.headers }
    }

    /// The header of this name, where it is text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.headers().find_map(|header| match header {
            Ok((known, Value::Text(text))) if known == name => Some(text),
            _ => None,
        })
    }
}

/// Walks through headers.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], EventStreamError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(EventStreamError::BadHeader)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A signed number of so many bytes.
    fn number(&mut self, count: usize) -> Result<i64, EventStreamError> {
        let bytes = self.take(count)?;
        let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        let start: i64 = if negative { -1 } else { 0 };
        Ok(bytes.iter().fold(start, |number, byte| (number << 8) | i64::from(*byte)))
    }

    fn with_length(&mut self) -> Result<&'a [u8], EventStreamError> {
        let length = self.take(2)?.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        self.take(length)
    }

    fn header(&mut self) -> Result<(&'a str, Value<'a>), EventStreamError> {
        let length = usize::from(*self.take(1)?.first().ok_or(EventStreamError::BadHeader)?);
        let name = text(self.take(length)?)?;
        if name.is_empty() {
            return Err(EventStreamError::BadHeader);
        }
        let value = match self.take(1)? {
            [0] => Value::Bool(true),
            [1] => Value::Bool(false),
            [2] => Value::Integer(self.number(1)?),
            [3] => Value::Integer(self.number(2)?),
            [4] => Value::Integer(self.number(4)?),
            [5] => Value::Integer(self.number(8)?),
            [6] => Value::Bytes(self.with_length()?),
            [7] => Value::Text(text(self.with_length()?)?),
            [8] => Value::Timestamp(self.number(8)?),
            [9] => Value::Uuid(self.take(16)?),
            _ => return Err(EventStreamError::BadHeader),
        };
        Ok((name, value))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<(&'a str, Value<'a>), EventStreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let header = self.header();
        if header.is_err() {
            self.rest = &[];
        }
        Some(header)
    }
}

fn text(bytes: &[u8]) -> Result<&str, EventStreamError> {
    std::str::from_utf8(bytes).map_err(|_| EventStreamError::BadHeader)
}

/// Collects bytes and hands out messages as soon as they are whole.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Everything before this was handed out.
    start: usize,
    max_message_bytes: usize,
    failed: Option<EventStreamError>,
}

impl Decoder {
    /// A decoder that holds messages of at most this many bytes, and never more than the protocol allows.
    pub fn new(max_message_bytes: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, max_message_bytes, failed: None }
    }

    /// Takes bytes in. What was handed out before is forgotten. Ask for all messages before the next bytes: then at
    /// most one message and these bytes are held.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BUFFER_BYTES);
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; `None` until more bytes come.
    ///
    /// # Errors
    /// For what is no message. The same error comes back for ever: there is no way to find the next one.
    pub fn next(&mut self) -> Result<Option<Message<'_>>, EventStreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let held = self.buffer.get(self.start..).unwrap_or_default();
        match read(held, self.max_message_bytes) {
            Ok(None) => Ok(None),
            Ok(Some((message, length))) => {
                self.start += length;
                Ok(Some(message))
            }
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Bytes of a message that is not whole: when the body has ended, it ended too early unless this is 0.
    pub fn rest_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }
}

fn read(held: &[u8], max_message_bytes: usize) -> Result<Option<(Message<'_>, usize)>, EventStreamError> {
    let (Some(total), Some(headers), Some(prelude_sum)) = (word(held, 0), word(held, 4), word(held, 8))
    else {
        return Ok(None);
    };
    if crc(held.get(..8).unwrap_or_default()) != prelude_sum {
        return Err(EventStreamError::BadChecksum);
    }
    let (total, headers) = (total as usize, headers as usize);
    let payload = total
        .checked_sub(OVERHEAD_BYTES)
        .and_then(|inner| inner.checked_sub(headers))
        .ok_or(EventStreamError::BadLength)?;
    if headers > MAX_HEADERS_BYTES || payload > MAX_PAYLOAD_BYTES || total > max_message_bytes {
        return Err(EventStreamError::TooLarge);
    }
    let Some(whole) = held.get(..total) else { return Ok(None) };
    let Some((before, _)) = whole.split_at_checked(total - 4) else { return Ok(None) };
    if word(whole, total - 4) != Some(crc(before)) {
        return Err(EventStreamError::BadChecksum);
    }
    let inner = before.get(PRELUDE_BYTES..).unwrap_or_default();
    let (headers, payload) = inner.split_at_checked(headers).ok_or(EventStreamError::BadLength)?;
    let message = Message { headers, payload };
    check_headers(&message)?;
    Ok(Some((message, total)))
}

/// All are readable, not too many, and no two have one name.
fn check_headers(message: &Message<'_>) -> Result<(), EventStreamError> {
    for (number, header) in message.headers().enumerate() {
        let (name, _) = header?;
        if number >= MAX_HEADERS
            || message.headers().take(number).any(|h| h.is_ok_and(|(other, _)| other == name))
        {
            return Err(EventStreamError::BadHeader);
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(word))
}

/// CRC-32 (IEEE 802.3, reflected, as in zlib), a byte a step by a table: messages are small.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        (sum >> 8) ^ CRC_TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default()
    })
}

static CRC_TABLE: [u32; 256] = crc_table();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
}

/// Writes a message with text headers. For tests: the gateway sends none.
#[cfg(test)]
pub fn encode(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(u8::try_from(name.len()).unwrap());
        block.extend_from_slice(name.as_bytes());
        block.push(7);
        block.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    encode_raw(&block, payload)
}

/// Writes a message with these bytes as its headers.
#[cfg(test)]
pub fn encode_raw(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = u32::try_from(OVERHEAD_BYTES + headers.len() + payload.len()).unwrap();
    let mut out = total.to_be_bytes().to_vec();
    out.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&crc(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc(&out).to_be_bytes());
    out
}

#[cfg(test)]
mod tests;
