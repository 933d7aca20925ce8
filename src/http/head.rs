//! Message heads: where they end, what they say, and what is refused.

use std::ops::Range;

/// A protocol version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No chunked answers; the connection closes unless asked to stay.
    Http10,
    /// RFC 9112.
    Http11,
}

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, and none was announced.
    None,
    /// Exactly this many bytes.
    Known(u64),
    /// Chunked.
    Chunked,
    /// Until the connection closes (responses only).
    UntilClose,
}

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// It breaks the grammar, or can be read in two ways.
    Malformed(&'static str),
    /// More bytes or lines than allowed.
    TooLarge,
    /// The target alone is longer than a head may be.
    TargetTooLong,
    /// Another version than 1.0 and 1.1.
    Version,
    /// A method that nothing here has.
    Method,
    /// A transfer coding other than chunked.
    TransferCoding,
    /// An expectation other than `100-continue`.
    Expectation,
}

/// Finds the end of a head: the index after its empty line. `searched` bytes were looked at by an earlier call.
///
/// # Errors
/// For a bare CR or LF or a NUL, as soon as one is there, so that a head that never ends is refused at once.
pub fn head_end(input: &[u8], searched: usize) -> Result<Option<usize>, HeadError> {
    // A pair may straddle the border of two reads.
    let mut at = searched.saturating_sub(3);
    while let Some(found) = input.get(at..).and_then(|rest| memchr::memchr3(b'\r', b'\n', 0, rest)) {
        let here = at + found;
        if input.get(here) != Some(&b'\r') {
            // A line feed whose carriage return was seen by the earlier call is in order.
            let paired = input.get(here) == Some(&b'\n') && here > 0 && input.get(here - 1) == Some(&b'\r');
            if !paired {
                return Err(HeadError::Malformed("The head has a bare line feed or a NUL"));
            }
            at = here + 1;
            continue;
        }
        match input.get(here + 1) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(HeadError::Malformed("The head has a bare carriage return")),
        }
        if input.get(here + 2..here + 4) == Some(b"\r\n") {
            return Ok(Some(here + 4));
        }
        at = here + 2;
    }
    Ok(None)
}

/// Header lines, in order, as places in the text of their head.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    lines: Vec<(Range<usize>, Range<usize>)>,
}

/// Header lines hold tokens: only their number is shown.
impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Headers({} lines)", self.lines.len())
    }
}

impl Headers {
    fn take(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
            start..start + part.len()
        };
        let lines = parsed.iter().map(|line| (place(line.name.as_bytes()), place(line.value))).collect();
        Self { text: head.to_vec(), lines }
    }

    fn text_at(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// All lines: name as it was sent, and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|(name, value)| (self.text_at(name), self.text_at(value)))
    }

    /// All values of a header, the name in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let mut at = 0;
        std::iter::from_fn(move || self.find(name, &mut at))
    }

    /// The value of a header that stands exactly once.
    pub fn one(&self, name: &str) -> Option<&[u8]> {
        let mut at = 0;
        let value = self.find(name, &mut at)?;
        self.find(name, &mut at).is_none().then_some(value)
    }

    /// The next value of a header from a line on. A call looks a dozen names up in about twenty lines, so this is a plain
    /// loop that looks at a name only where its length is right.
    fn find(&self, name: &str, at: &mut usize) -> Option<&[u8]> {
        while let Some((key, value)) = self.lines.get(*at) {
            *at += 1;
            if key.end.wrapping_sub(key.start) == name.len() && is_name(self.text_at(key), name) {
                return Some(self.text_at(value));
            }
        }
        None
    }

    /// Whether a comma-separated header holds a token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Whether a header line has this name, in any case.
pub fn is_name(key: &[u8], name: &str) -> bool {
    key.len() == name.len() && key.eq_ignore_ascii_case(name.as_bytes())
}

/// How a body is delimited, from the headers alone. RFC 9112 section 6.
fn announced_length(headers: &Headers, version: Version) -> Result<BodyLength, HeadError> {
    let mut lengths = headers.all("content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(HeadError::Malformed("More than one Content-Length"));
    }
    let mut codings = headers.all("transfer-encoding").flat_map(|value| value.split(|b| *b == b','));
    let coding = codings.next().map(<[u8]>::trim_ascii);
    let another = codings.next().is_some();
    match (length, coding) {
        (Some(_), Some(_)) => Err(HeadError::Malformed("Both Content-Length and Transfer-Encoding")),
        (None, None) => Ok(BodyLength::None),
        (Some(digits), None) => {
            let text = std::str::from_utf8(digits).unwrap_or_default();
            let is_number = (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            match text.parse() {
                Ok(length) if is_number => Ok(BodyLength::Known(length)),
                _ => Err(HeadError::Malformed("Content-Length is not a number")),
            }
        }
        (None, Some(_)) if version == Version::Http10 => {
            Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0"))
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") && !another => {
            Ok(BodyLength::Chunked)
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
            Err(HeadError::Malformed("A transfer coding after chunked"))
        }
        (None, Some(_)) => Err(HeadError::TransferCoding),
    }
}

/// Those that no path takes are known as well, so that each path can say which it takes instead.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"];

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// One of the methods that are known.
    pub method: &'static str,
    target: Range<usize>,
    /// Protocol version.
    pub version: Version,
    /// Header lines.
    pub headers: Headers,
    /// How the body is delimited.
    pub body: BodyLength,
    /// The caller waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The connection may serve another request after this one.
    pub keep_alive: bool,
}

impl RequestHead {
    /// Reads a head; `head` is all of it, with its empty line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(head: &[u8], max_headers: usize) -> Result<Self, HeadError> {
        let mut few = [httparse::EMPTY_HEADER; 64];
        let mut many;
        let mut storage: &mut [httparse::Header<'_>] = &mut few;
        let mut attempt = httparse::Request::new(storage);
        let mut result = attempt.parse(head);
        if result == Err(httparse::Error::TooManyHeaders) && max_headers > 64 {
            many = vec![httparse::EMPTY_HEADER; max_headers];
            storage = &mut many;
            attempt = httparse::Request::new(storage);
            result = attempt.parse(head);
        }
        match result {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(HeadError::Malformed("The head is not complete")),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(httparse::Error::Version) => return Err(version_error(head)),
            Err(_) => return Err(HeadError::Malformed("The head is not HTTP/1.1")),
        }
        if attempt.headers.len() > max_headers {
            return Err(HeadError::TooLarge);
        }
        let version = if attempt.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let method = attempt.method.unwrap_or_default();
        let method = METHODS.into_iter().find(|known| *known == method).ok_or(HeadError::Method)?;
        let path = attempt.path.unwrap_or_default();
        let start = path.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        let target = origin_form(path).map_or(start..start, |skip| start + skip..start + path.len());
        if target.is_empty() {
            return Err(HeadError::Malformed("The target is neither a path nor a URL"));
        }
        let headers = Headers::take(head, attempt.headers);
        let hosts = headers.all("host").count();
        if hosts > 1 || (hosts == 0 && version == Version::Http11) {
            return Err(HeadError::Malformed("Exactly one Host header is needed"));
        }
        let body = announced_length(&headers, version)?;
        let mut expects = headers.all("expect");
        let expects_continue = match expects.next() {
            None => false,
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") && expects.next().is_none() => {
                version == Version::Http11
            }
            Some(_) => return Err(HeadError::Expectation),
        };
        drop(expects);
        let keep_alive = match version {
            Version::Http11 => !headers.has_token("connection", "close"),
            Version::Http10 => headers.has_token("connection", "keep-alive"),
        };
        Ok(Self { method, target, version, headers, body, expects_continue, keep_alive })
    }

    /// The path, percent-encoded as it came.
    pub fn path(&self) -> &str {
        self.target().split(['?', '#']).next().unwrap_or_default()
    }

    /// The query without its question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query.split('#').next().unwrap_or_default())
    }

    fn target(&self) -> &str {
        // httparse lets only visible ASCII and bytes above it through; the latter are no path of ours.
        std::str::from_utf8(self.headers.text_at(&self.target)).unwrap_or("/%")
    }
}

/// `HTTP/x.y` that is well formed is another version; anything else is no HTTP.
fn version_error(head: &[u8]) -> HeadError {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let last = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
    match last.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => HeadError::Version,
        Some([major]) if major.is_ascii_digit() => HeadError::Version,
        _ => HeadError::Malformed("The request line is not HTTP"),
    }
}

/// How much of an absolute-form target stands before its path; 0 for a path. RFC 9112 section 3.2.
fn origin_form(target: &str) -> Option<usize> {
    if target.starts_with('/') {
        return Some(0);
    }
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme))?;
    let path = target.get(scheme.len()..)?.find('/')?;
    Some(scheme.len() + path)
}

/// The head of a provider's response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub headers: Headers,
    /// How the body is delimited.
    pub body: BodyLength,
    /// The connection may be kept for another request.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Reads a head; `head` is all of it, with its empty line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(head: &[u8]) -> Result<Self, HeadError> {
        let mut storage = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut storage);
        match response.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(HeadError::Malformed("The head is not complete")),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(_) => return Err(HeadError::Malformed("The head is not HTTP/1.1")),
        }
        let status = response.code.unwrap_or_default();
        if !(100..=599).contains(&status) {
            return Err(HeadError::Malformed("The status is not one"));
        }
        let version = if response.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let headers = Headers::take(head, response.headers);
        let announced = announced_length(&headers, version)?;
        let (body, mut keep_alive) = match (status, announced) {
            (100..=199 | 204 | 304, _) => (BodyLength::None, true),
            (_, BodyLength::None) => (BodyLength::UntilClose, false),
            (_, length) => (length, true),
        };
        keep_alive &= match version {
            Version::Http11 => !headers.has_token("connection", "close"),
            Version::Http10 => headers.has_token("connection", "keep-alive"),
        };
        Ok(Self { status, headers, body, keep_alive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_heads_in_pieces_of_every_size() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        let mut searched = 0;
        for length in 0..=head.len() {
            let end = head_end(&head[..length], searched).unwrap();
            assert_eq!(end, (length >= 27).then_some(27), "{length}");
            if end.is_some() {
                break;
            }
            searched = length;
        }
        for bad in [
            &b"GET / HTTP/1.1\nHost: x\n\n"[..],
            b"GET / HTTP/1.1\r\nA: \rb\r\n\r\n",
            b"G\0",
            b"\n",
            b"a\r\r\n",
        ] {
            assert!(head_end(bad, 0).is_err());
            let mut searched = 0;
            let each = (0..=bad.len()).any(|length| {
                let result = head_end(&bad[..length], searched);
                searched = length;
                result.is_err()
            });
            assert!(each, "byte by byte");
        }
    }

    fn parse(head: &str) -> Result<RequestHead, HeadError> {
        RequestHead::parse(head.as_bytes(), 128)
    }

    #[test]
    fn request_heads() {
        let head =
            parse("POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nExpect: 100-Continue\r\n\r\n")
                .unwrap();
        assert_eq!((head.method, head.path(), head.query()), ("POST", "/v1/x", "a=b"));
        assert_eq!((head.body, head.expects_continue, head.keep_alive), (BodyLength::Known(12), true, true));
        let head = parse("GET http://h/p HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
        assert_eq!((head.path(), head.keep_alive, head.body), ("/p", true, BodyLength::None));
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert!(!parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n").unwrap().keep_alive);
        let many: String = (0..100).map(|n| format!("X-{n}: {n}\r\n")).collect();
        assert_eq!(
            parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).unwrap().headers.iter().count(),
            101
        );
    }

    #[test]
    fn refused_heads() {
        let with = |lines: &str| parse(&format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")).unwrap_err();
        for bad in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 1 1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            "X: a\r\n b\r\n",
            "X : a\r\n",
            ": a\r\n",
            "X\r\n",
            "Host: other\r\n",
        ] {
            assert!(matches!(with(bad), HeadError::Malformed(_)), "{bad}: {:?}", with(bad));
        }
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n"), HeadError::TransferCoding);
        assert_eq!(with("Transfer-Encoding: identity\r\n"), HeadError::TransferCoding);
        assert_eq!(with("Expect: 200-ok\r\n"), HeadError::Expectation);
        assert_eq!(parse("GET / HTTP/2.0\r\nHost: h\r\n\r\n").unwrap_err(), HeadError::Version);
        assert_eq!(parse("GET / HTTP/1.2\r\nHost: h\r\n\r\n").unwrap_err(), HeadError::Version);
        assert_eq!(parse("BREW / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap_err(), HeadError::Method);
        // Known, and for each path to refuse with the methods that it takes.
        assert_eq!(parse("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().method, "TRACE");
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET /\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: h\r\n\r\n",
            "hello\r\n\r\n",
        ] {
            assert!(
                matches!(parse(bad), Err(HeadError::Malformed(_))),
                "{bad}: {:?}",
                parse(bad).map(|_| ())
            );
        }
        let many: String = (0..128).map(|n| format!("X-{n}: {n}\r\n")).collect();
        assert_eq!(with(&many), HeadError::TooLarge);
    }

    #[test]
    fn response_heads() {
        let parse = |text: &str| ResponseHead::parse(text.as_bytes());
        let head = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((head.status, head.body, head.keep_alive), (200, BodyLength::Chunked, true));
        let head = parse("HTTP/1.0 200 OK\r\n\r\n").unwrap();
        assert_eq!((head.body, head.keep_alive), (BodyLength::UntilClose, false));
        assert_eq!(parse("HTTP/1.1 204 X\r\n\r\n").unwrap().body, BodyLength::None);
        for bad in [
            "HTTP/1.1 999 X\r\n\r\n",
            "<html>\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
