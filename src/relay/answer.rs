//! Answers to a caller: whole ones, and the beginnings of long ones.

use crate::failure::{Dialect, Failure};
use crate::http::{AnswerHead, Connection, RequestHead, Version};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    KeepAlive,
    /// Close so that the caller still gets the answer.
    Close,
    /// The answer is not whole, and the caller must notice: close at once.
    Abort,
}

/// What every answer to one request has in common.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The request.
    pub head: &'a RequestHead,
    /// For `x-request-id`.
    pub request_id: &'a str,
    /// Another request may follow.
    pub keep_alive: bool,
    /// Lines that every answer to it has: where the caller stands with a rate limit.
    pub limit_lines: &'a [(&'static str, String)],
}

/// How the end of a long answer is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The connection closes (HTTP/1.0).
    Close,
    /// The status says that there is no body (204, 304).
    None,
}

impl Answer<'_> {
    /// The framing for an answer whose length is or is not known.
    pub fn framing(&self, length: Option<u64>) -> Framing {
        match (length, self.head.version) {
            (Some(length), _) => Framing::Length(length),
            (None, Version::Http11) => Framing::Chunked,
            (None, Version::Http10) => Framing::Close,
        }
    }

    /// Begins a head with what every answer has.
    pub fn begin(&self, status: u16) -> AnswerHead {
        let mut head = AnswerHead::new(status);
        head.line(b"x-request-id", self.request_id.as_bytes());
        for (name, value) in self.limit_lines {
            head.line(name.as_bytes(), value.as_bytes());
        }
        head
    }

    /// Adds the lines for framing and connection; says what becomes of the connection.
    pub fn frame(&self, head: &mut AnswerHead, framing: Framing) -> After {
        match framing {
            Framing::Length(length) => head.line(b"content-length", length.to_string().as_bytes()),
            Framing::Chunked => head.line(b"transfer-encoding", b"chunked"),
            Framing::Close | Framing::None => {}
        }
        if !self.keep_alive || framing == Framing::Close {
            head.line(b"connection", b"close");
            return After::Close;
        }
        if self.head.version == Version::Http10 {
            head.line(b"connection", b"keep-alive");
        }
        After::KeepAlive
    }

    /// Writes a whole answer.
    pub fn write(
        &self,
        connection: &mut Connection,
        status: u16,
        lines: &[(&str, &str)],
        body: &[u8],
        idle_timeout_ms: u64,
    ) -> After {
        let mut head = self.begin(status);
        for (name, value) in lines {
            head.line(name.as_bytes(), value.as_bytes());
        }
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let after = self.frame(&mut head, Framing::Length(length));
        connection.watch().arm(idle_timeout_ms);
        let body = if self.head.method == "HEAD" { &[] } else { body };
        match connection.write(&[&head.finish(), body]) {
            Ok(()) => after,
            Err(_) => After::Abort,
        }
    }

    /// Writes an answer of unknown length: the first piece and those that come until there are none. One that breaks off
    /// ends the connection, so that the caller notices.
    pub fn write_pieces(
        &self,
        connection: &mut Connection,
        lines: &[(&str, &str)],
        first: String,
        mut more: impl FnMut() -> Result<Option<Vec<u8>>, ()>,
        idle_timeout_ms: u64,
    ) -> After {
        let mut head = self.begin(200);
        for (name, value) in lines {
            head.line(name.as_bytes(), value.as_bytes());
        }
        let framing = self.framing(None);
        let after = self.frame(&mut head, framing);
        connection.watch().arm(idle_timeout_ms);
        if connection.write(&[&head.finish()]).is_err() {
            return After::Abort;
        }
        if self.head.method == "HEAD" {
            return after;
        }
        let mut piece = first.into_bytes();
        loop {
            let size = format!("{:x}\r\n", piece.len());
            connection.watch().arm(idle_timeout_ms);
            let written = match framing {
                // An empty chunk would be the end.
                _ if piece.is_empty() => Ok(()),
                Framing::Chunked => connection.write(&[size.as_bytes(), &piece, b"\r\n"]),
                _ => connection.write(&[&piece]),
            };
            // The disk has no deadline.
            connection.watch().disarm();
            if written.is_err() {
                return After::Abort;
            }
            piece = match more() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(()) => return After::Abort,
            };
        }
        connection.watch().arm(idle_timeout_ms);
        let end: &[u8] = if framing == Framing::Chunked { b"0\r\n\r\n" } else { b"" };
        if connection.write(&[end]).is_err() { After::Abort } else { after }
    }

    /// Writes a failure in a dialect.
    pub fn refuse(
        &self,
        connection: &mut Connection,
        failure: &Failure,
        dialect: Dialect,
        resolved_model: Option<&str>,
        idle_timeout_ms: u64,
    ) -> After {
        let rendered = failure.render(dialect);
        let mut lines = vec![("content-type", "application/json")];
        lines.extend(rendered.header);
        lines.extend(rendered.lines.iter().map(|(name, value)| (*name, value.as_str())));
        lines.extend(resolved_model.map(|model| ("x-tfy-resolved-model", model)));
        self.write(connection, rendered.status, &lines, rendered.body.as_bytes(), idle_timeout_ms)
    }
}

/// For a form's answer, which a browser shows as it comes: nothing that a provider sends may run there.
pub(super) fn sandbox() -> [(&'static str, String); 2] {
    [
        ("content-security-policy", "sandbox; default-src 'none'".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
    ]
}
