//! Heads of answers.

use std::sync::{Mutex, PoisonError};

use crate::clock::UnixMillis;

/// The standard reason phrase; empty for statuses that have none.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Composes the head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    bytes: Vec<u8>,
}

impl AnswerHead {
    /// Begins with the status line and the date.
    pub fn new(status: u16) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(status.to_string().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(reason(status).as_bytes());
        bytes.extend_from_slice(b"\r\ndate: ");
        append_date(&mut bytes);
        bytes.extend_from_slice(b"\r\n");
        Self { bytes }
    }

    /// Adds a line. A value with a control character is left out: it can not be sent safely.
    pub fn line(&mut self, name: &[u8], value: &[u8]) {
        // All bytes, so that the compiler takes them in wide steps.
        if value.iter().fold(false, |bad, b| bad | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f)) {
            return;
        }
        for part in [name, b": ", value, b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Adds a line as [`AnswerHead::line`] does, its name in small letters.
    pub fn line_in_small_letters(&mut self, name: &[u8], value: &[u8]) {
        let from = self.bytes.len();
        self.line(name, value);
        if let Some(name) = self.bytes.get_mut(from..).and_then(|line| line.get_mut(..name.len())) {
            name.make_ascii_lowercase();
        }
    }

    /// Ends the head.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes
    }
}

/// The date in the form of RFC 9110 section 5.6.7, made once a second.
fn append_date(out: &mut Vec<u8>) {
    static LAST: Mutex<(u64, [u8; 29])> = Mutex::new((0, [b' '; 29]));
    let second = UnixMillis::now().0 / 1000;
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.0 != second {
        let text = i64::try_from(second)
            .ok()
            .and_then(|second| jiff::Timestamp::from_second(second).ok())
            .map(|time| time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            .unwrap_or_default();
        if let Ok(text) = <[u8; 29]>::try_from(text.as_bytes()) {
            *last = (second, text);
        }
    }
    out.extend_from_slice(&last.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let mut head = AnswerHead::new(200);
        head.line(b"x", b"y");
        head.line(b"bad", b"a\r\nb: c");
        head.line_in_small_letters(b"X-UP", b"Y");
        head.line_in_small_letters(b"X-BAD", b"\x7f");
        let text = String::from_utf8(head.finish()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\ndate: "), "{text}");
        assert!(text.ends_with(" GMT\r\nx: y\r\nx-up: Y\r\n\r\n"), "{text}");
    }
}
