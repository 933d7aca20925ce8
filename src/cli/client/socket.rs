//! The management API over the admin socket: HTTP on a Unix socket, no token.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport as UreqTransport,
};
use ureq::{Agent, Timeout};

use super::http::{config, exchange, stream};
use super::{ClientError, Sink, Transport};
use crate::cli::failure::Failure;

/// What the system takes as a socket's path.
pub const MAX_PATH_BYTES: usize = 107;

/// A gateway that runs on this host.
pub struct SocketTransport {
    agent: Agent,
    place: String,
}

/// Connects to the socket; `None` when no server is behind it.
///
/// # Errors
/// When the socket is there and can not be used.
pub fn connect(path: &Path) -> Result<Option<SocketTransport>, ClientError> {
    let place = path.display().to_string();
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(ClientError::Unreachable { place, cause: error.to_string() }),
    };
    let connector = SocketConnector { path: path.to_owned(), first: Mutex::new(Some(stream)) };
    let agent = Agent::with_parts(config().build(), connector, NoResolver);
    Ok(Some(SocketTransport { agent, place }))
}

impl Transport for SocketTransport {
    fn call(
        &self,
        method: &str,
        path_and_query: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), ClientError> {
        exchange(&self.agent, "http://gateway", None, method, path_and_query, body, &self.place)
    }

    fn stream(&self, path_and_query: &str, sink: Sink<'_>) -> Result<(), Failure> {
        stream(&self.agent, "http://gateway", None, path_and_query, &self.place, sink)
    }
}

/// The host `gateway` is a name for the socket and has no address.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        // ureq wants at least one; the connector does not look at it.
        addresses.push(std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(addresses)
    }
}

#[derive(Debug)]
struct SocketConnector {
    path: PathBuf,
    /// The connection that showed that a server is there.
    first: Mutex<Option<UnixStream>>,
}

impl Connector<()> for SocketConnector {
    type Out = SocketStream;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<SocketStream>, ureq::Error> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = match first {
            Some(stream) => stream,
            None => UnixStream::connect(&self.path)?,
        };
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SocketStream { stream, buffers }))
    }
}

#[derive(Debug)]
struct SocketStream {
    stream: UnixStream,
    buffers: LazyBuffers,
}

fn timed_out(error: std::io::Error, reason: Timeout) -> ureq::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ureq::Error::Timeout(reason),
        _ => ureq::Error::Io(error),
    }
}

impl UreqTransport for SocketStream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| timed_out(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let read = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let amount = read.map_err(|error| timed_out(error, timeout.reason))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // A new connection for every call: connecting is cheap here, and an idle one may have been closed.
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::{answer_once, response};
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn calls_over_a_socket() {
        let dir = std::env::temp_dir().join(format!("gateway-cli-socket-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("admin.sock");
        let _ = std::fs::remove_file(&path);
        assert!(connect(&path).unwrap().is_none());
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let first = answer_once(listener.accept().unwrap().0, &response("200 OK", "{\"data\":[]}"));
            let second = answer_once(listener.accept().unwrap().0, &response("404 Not Found", "{}"));
            (first, second)
        });
        let transport = connect(&path).unwrap().unwrap();
        assert_eq!(transport.call("GET", "/users", None).unwrap(), (200, serde_json::json!({"data": []})));
        let body = serde_json::json!({"email": "x"});
        assert_eq!(transport.call("PATCH", "/users/roles", Some(&body)).unwrap().0, 404);
        let (first, second) = server.join().unwrap();
        assert!(first.starts_with("GET /api/svc/v1/users HTTP/1.1\r\n"), "{first}");
        assert!(first.to_ascii_lowercase().contains("host: gateway\r\n"), "{first}");
        assert!(!first.to_ascii_lowercase().contains("authorization"), "{first}");
        assert!(second.ends_with("{\"email\":\"x\"}"), "{second}");
        // The listener is gone and its file is not: nobody answers.
        assert!(connect(&path).unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
