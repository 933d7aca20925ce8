//! An HTTP client that hides nothing: a test writes the bytes of a request and reads the answer piece by piece.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

/// Status line and headers of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// Such as 200.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The one value of a header; a header that stands twice fails the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands twice in {self:?}");
        value
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// The head.
    pub head: Head,
    /// Decoded from its framing.
    pub body: Vec<u8>,
    /// False when the connection ended before the framing said so.
    pub complete: bool,
}

impl Response {
    /// See [`Head::header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text()))
    }

    /// Fails unless this is one of the gateway's own refusals: this status, and the error shape of the contract.
    pub fn assert_error(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(self.complete, "the error body is cut");
        assert_eq!(self.header("content-type").map(|v| v.starts_with("application/json")), Some(true));
        let body = self.json();
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "no error.message in {body}");
        assert!(body["error"]["type"].is_string(), "no error.type in {body}");
        assert_eq!(body["error"]["code"], status.to_string(), "{body}");
    }
}

enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilEnd,
}

/// The connection ended inside a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut;

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
    ended: bool,
}

impl Client {
    /// Connects.
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new(), framing: Framing::None, ended: false }
    }

    /// Writes bytes; the gateway must take them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Writes bytes to a gateway that may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes a JSON request without reading the answer.
    pub fn send_post(&mut self, path: &str, token: &str, body: &[u8]) {
        self.send_request(path, token, "content-type: application/json\r\n", body);
    }

    /// Writes a request with more header lines (each with its line end).
    pub fn send_request(&mut self, path: &str, token: &str, headers: &str, body: &[u8]) {
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
    }

    /// A JSON request and its answer.
    pub fn post(&mut self, path: &str, token: &str, body: &[u8]) -> Response {
        self.send_post(path, token, body);
        self.read_response()
    }

    /// A `GET` and its answer.
    pub fn get(&mut self, path: &str, token: &str) -> Response {
        self.request("GET", path, token, "")
    }

    /// A request of the management API: JSON when there is a body.
    pub fn request(&mut self, method: &str, path: &str, token: &str, body: &str) -> Response {
        let authorization =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let framing = if body.is_empty() && method == "GET" {
            String::new()
        } else {
            format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
        };
        self.send(
            format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n{authorization}{framing}\r\n{body}")
                .as_bytes(),
        );
        self.read_response()
    }

    /// Reads once into the buffer; false at the end of the connection or, with a limit, when it passed.
    fn fill(&mut self, limit: Duration) -> Result<bool, Cut> {
        if self.ended {
            return Ok(false);
        }
        self.stream.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Cut),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    fn fill_or_fail(&mut self, what: &str) -> bool {
        self.fill(PATIENCE).unwrap_or_else(|_| {
            panic!("gave up waiting for {what}; so far {:?}", String::from_utf8_lossy(&self.buffer))
        })
    }

    /// Whether a byte of an answer came within a limit.
    pub fn poll(&mut self, limit: Duration) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        let deadline = Instant::now() + limit;
        while !self.ended && self.buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.fill(left).is_err() {
                break;
            }
        }
        !self.buffer.is_empty()
    }

    /// Reads a status line and headers; `None` when the connection ended before their first byte.
    pub fn try_read_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill_or_fail("the head of an answer") {
                assert!(
                    self.buffer.is_empty(),
                    "cut in the head: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
                return None;
            }
        };
        let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let line = lines.next().unwrap();
        let (version, rest) = line.split_once(' ').unwrap();
        assert!(version == "HTTP/1.1" || version == "HTTP/1.0", "{line}");
        let status = rest.get(..3).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("header line {line:?}"));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let head = Head { status, version: version.to_owned(), headers };
        self.framing = if status < 200 || status == 204 || status == 304 {
            Framing::None
        } else if head.header("transfer-encoding").is_some() {
            assert_eq!(head.header("transfer-encoding"), Some("chunked"));
            assert_eq!(head.header("content-length"), None, "both framings");
            Framing::Chunked
        } else if let Some(length) = head.header("content-length") {
            Framing::Length(length.parse().unwrap())
        } else {
            Framing::UntilEnd
        };
        Some(head)
    }

    /// Reads a status line and headers.
    pub fn read_head(&mut self) -> Head {
        self.try_read_head().expect("the connection ended before an answer")
    }

    /// The next decoded piece of the body; `None` at its proper end.
    pub fn read_some(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        match self.framing {
            Framing::None | Framing::Length(0) => {
                self.framing = Framing::None;
                Ok(None)
            }
            Framing::Length(left) => {
                while self.buffer.is_empty() {
                    if !self.fill_or_fail("a body") {
                        return Err(Cut);
                    }
                }
                let count = self.buffer.len().min(usize::try_from(left).unwrap());
                self.framing = Framing::Length(left - count as u64);
                Ok(Some(self.buffer.drain(..count).collect()))
            }
            Framing::UntilEnd => {
                while self.buffer.is_empty() {
                    if !self.fill_or_fail("a body") {
                        self.framing = Framing::None;
                        return Ok(None);
                    }
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
            Framing::Chunked => self.read_chunk(),
        }
    }

    /// Waits for the whole of the next chunk.
    fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = std::str::from_utf8(&self.buffer[..at]).unwrap();
                let size = usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
                let end = at + 2 + size + 2;
                if self.buffer.len() >= end {
                    assert_eq!(&self.buffer[end - 2..end], b"\r\n", "end of a chunk");
                    let chunk = self.buffer[at + 2..end - 2].to_vec();
                    self.buffer.drain(..end);
                    if size == 0 {
                        self.framing = Framing::None;
                        return Ok(None);
                    }
                    return Ok(Some(chunk));
                }
            }
            if !self.fill_or_fail("a chunk") {
                return Err(Cut);
            }
        }
    }

    /// Reads the body until it holds a text; gives what came.
    pub fn read_until(&mut self, needle: &str) -> Vec<u8> {
        let mut all = Vec::new();
        while find(&all, needle.as_bytes()).is_none() {
            match self.read_some() {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                end => panic!("{end:?} before {needle:?}; so far {:?}", String::from_utf8_lossy(&all)),
            }
        }
        all
    }

    /// The rest of the body and whether it ended properly.
    pub fn read_rest(&mut self) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            match self.read_some() {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) => return (all, true),
                Err(Cut) => return (all, false),
            }
        }
    }

    /// A whole answer; interim ones are skipped.
    pub fn read_response(&mut self) -> Response {
        loop {
            let head = self.read_head();
            if head.status >= 200 {
                let (body, complete) = self.read_rest();
                return Response { status: head.status, head, body, complete };
            }
        }
    }

    /// The answer to a `HEAD`: no body, whatever its headers say.
    pub fn read_bodiless(&mut self) -> Head {
        let head = self.read_head();
        self.framing = Framing::None;
        head
    }

    /// Waits for the end of the connection and gives the bytes before it, undecoded.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill_or_fail("the end of the connection") {}
        std::mem::take(&mut self.buffer)
    }

    /// The end of the request side only.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Hangs up; gives the moment.
    pub fn hang_up(self) -> Instant {
        let now = Instant::now();
        let _ = self.stream.shutdown(Shutdown::Both);
        drop(self.stream);
        now
    }
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Fails with the place of the first difference; bodies may be many megabytes.
pub fn assert_same_bytes(what: &str, wanted: &[u8], got: &[u8]) {
    if wanted != got {
        let at = wanted.iter().zip(got).take_while(|(a, b)| a == b).count();
        let near = |bytes: &[u8]| {
            let from = at.saturating_sub(40);
            String::from_utf8_lossy(&bytes[from..bytes.len().min(at + 80)]).into_owned()
        };
        panic!(
            "{what}: differs at byte {at} ({} wanted, {} got)\nwanted ...{:?}\n   got ...{:?}",
            wanted.len(),
            got.len(),
            near(wanted),
            near(got)
        );
    }
}
