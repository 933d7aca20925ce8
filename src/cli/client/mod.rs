//! The client of the management API: over HTTP, over the admin socket, or in process on the store.

mod direct;
mod http;
mod socket;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure::Failure;
use super::input;
use crate::config::Config;

/// Where the management API begins.
const API_ROOT: &str = "/api/svc/v1";

/// How long another command may hold the store before this one gives up.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Objects asked for at once.
const PAGE_OBJECTS: usize = 1000;

/// One way to reach the management API.
pub trait Transport {
    /// Makes one call. The path is below the API's root, with its query.
    ///
    /// # Errors
    /// When there is no answer, or none in JSON; a status that means a refusal is an answer.
    fn call(
        &self,
        method: &str,
        path_and_query: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), ClientError>;

    /// Reads a long answer piece by piece.
    ///
    /// # Errors
    /// When there is no answer, it breaks off, it is a refusal, or the sink takes no more.
    fn stream(&self, path_and_query: &str, sink: Sink<'_>) -> Result<(), Failure>;
}

/// What takes the pieces of a long answer, and says when nobody wants more.
pub type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> Result<(), Failure>;

/// Why there was no answer.
#[derive(Debug)]
pub enum ClientError {
    /// `GATEWAY_TOKEN` is missing or is not one line of ASCII.
    NoToken,
    /// The URL can not be used.
    BadUrl(String),
    /// The file of CA certificates can not be used.
    BadCertificates(String),
    /// Nobody answers there.
    Unreachable {
        /// The URL or the socket.
        place: String,
        /// What the system says.
        cause: String,
    },
    /// The answer is not the management API's.
    NotJson {
        /// The URL or the socket.
        place: String,
        /// The HTTP status.
        status: u16,
    },
    /// A Unix socket's path has at most 107 bytes.
    SocketPathTooLong(PathBuf),
    /// Another process holds the store for longer than this one waits.
    Locked(PathBuf),
    /// The store can not be opened; a sentence that names the folder or file.
    Store(String),
}

impl ClientError {
    /// The HTTP status, when there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::NotJson { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str(
                "set GATEWAY_TOKEN to a token of an admin: a gateway that is reached by URL asks for one",
            ),
            Self::BadUrl(why) => {
                write!(f, "the gateway's URL {why}; write it like https://gateway.example.com")
            }
            Self::BadCertificates(why) => write!(f, "GATEWAY_CA_FILE: {why}"),
            Self::Unreachable { place, cause } => write!(f, "no answer from {place}: {cause}"),
            Self::NotJson { place, status } => {
                write!(
                    f,
                    "{place} answered {status} with something that is not the management API's; is it a gateway?"
                )
            }
            Self::SocketPathTooLong(path) => {
                write!(
                    f,
                    "the path {} is too long for a Unix socket (at most 107 bytes); use a shorter data folder",
                    path.display()
                )
            }
            Self::Locked(data_dir) => write!(
                f,
                "another process holds the store in {} and does not answer on its admin socket; try again when it has ended",
                data_dir.display()
            ),
            Self::Store(cause) => write!(f, "no gateway runs here, and its store can not be opened: {cause}"),
        }
    }
}

/// Opens the way to the gateway that holds the data folder: its admin socket, or the store itself when no
/// server runs.
///
/// # Errors
/// When neither works.
pub fn open_local(config: &Config) -> Result<Box<dyn Transport>, ClientError> {
    let path = config.store.data_dir.join("admin.sock");
    if path.as_os_str().len() > socket::MAX_PATH_BYTES {
        return Err(ClientError::SocketPathTooLong(path));
    }
    let started = Instant::now();
    loop {
        if let Some(transport) = socket::connect(&path)? {
            return Ok(Box::new(transport));
        }
        // The holder is another command, or a server that is starting or ending: its socket may come.
        match direct::open_direct(config) {
            Err(ClientError::Locked(_)) if started.elapsed() < LOCK_WAIT => pause(),
            result => return result,
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a command runs no coroutines, and a file lock has no event to wait for"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Opens the way to a gateway by its URL.
///
/// # Errors
/// When the URL, the token or the CA file can not be used.
pub fn open_url(
    url: &str,
    token: Option<&str>,
    ca_file: Option<&Path>,
) -> Result<Box<dyn Transport>, ClientError> {
    Ok(Box::new(http::HttpTransport::new(url, token, ca_file)?))
}

/// The management API as commands use it.
pub struct Client {
    transport: Box<dyn Transport>,
}

impl Client {
    /// A client over that transport.
    pub fn new(transport: Box<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Makes one call and takes every status but success as a failure.
    ///
    /// # Errors
    /// No answer, or a refusal with the gateway's words.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, answer) = self.transport.call(method, path, body)?;
        if (200..300).contains(&status) { Ok(answer) } else { Err(refusal(status, &answer)) }
    }

    /// Reads a long answer piece by piece.
    ///
    /// # Errors
    /// No answer, one that breaks off, a refusal, or what the sink says.
    pub fn stream(&self, path: &str, sink: Sink<'_>) -> Result<(), Failure> {
        self.transport.stream(path, sink)
    }

    /// One object: the `data` of the answer.
    ///
    /// # Errors
    /// As of `call`.
    pub fn object(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        Ok(data_of(self.call(method, path, body)?))
    }

    /// Whether there is something at a path.
    ///
    /// # Errors
    /// As of `call`, but for 404.
    pub fn exists(&self, path: &str) -> Result<bool, Failure> {
        match self.call("GET", path, None) {
            Ok(_) => Ok(true),
            Err(Failure::Refused { status: 404, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// A whole list, page by page.
    ///
    /// # Errors
    /// As of `call`.
    pub fn list(&self, path: &str, parameters: &[(&str, Option<&str>)]) -> Result<Vec<Value>, Failure> {
        let path = input::with_query(path, parameters);
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let (limit, offset) = (PAGE_OBJECTS.to_string(), rows.len().to_string());
            let page = self.call(
                "GET",
                &input::with_query(&path, &[("limit", Some(&limit)), ("offset", Some(&offset))]),
                None,
            )?;
            let total = page.pointer("/pagination/total").and_then(Value::as_u64);
            let Value::Array(mut data) = data_of(page) else {
                return Err(Failure::Input("the gateway answered without a list".to_owned()));
            };
            let more = !data.is_empty();
            rows.append(&mut data);
            let seen = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            // An answer without a total is whole.
            if !more || total.is_none_or(|total| seen >= total) {
                return Ok(rows);
            }
        }
    }
}

fn refusal(status: u16, answer: &Value) -> Failure {
    let message = match answer.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => format!("the gateway answered {status}"),
    };
    Failure::Refused { status, message }
}

fn data_of(mut answer: Value) -> Value {
    match answer.get_mut("data") {
        Some(data) => data.take(),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Scripted(fn(&str, &str) -> (u16, Value));

    impl Transport for Scripted {
        fn call(&self, method: &str, path: &str, _: Option<&Value>) -> Result<(u16, Value), ClientError> {
            Ok((self.0)(method, path))
        }

        fn stream(&self, path: &str, sink: Sink<'_>) -> Result<(), Failure> {
            sink((self.0)("GET", path).1.to_string().as_bytes())
        }
    }

    #[test]
    fn lists_are_read_to_the_end() {
        let client = Client::new(Box::new(Scripted(|_, path| {
            let offset: u64 = path.rsplit('=').next().unwrap().parse().unwrap();
            assert!(path.starts_with("/users?query=a%26b&limit=1000&offset="), "{path}");
            // Pages may be shorter than the limit.
            let data: Vec<u64> = (offset..2500.min(offset + 700)).collect();
            (200, json!({"data": data, "pagination": {"total": 2500, "offset": offset, "limit": 1000}}))
        })));
        let rows = client.list("/users", &[("query", Some("a&b")), ("x", None)]).unwrap();
        assert_eq!(rows, (0..2500).map(Value::from).collect::<Vec<_>>());
        // A total that is never reached does not loop for ever.
        let client =
            Client::new(Box::new(Scripted(|_, _| (200, json!({"data": [], "pagination": {"total": 9}})))));
        assert!(client.list("/users", &[]).unwrap().is_empty());
        let client = Client::new(Box::new(Scripted(|_, _| (200, json!({"data": [1, 2]})))));
        assert_eq!(client.list("/usage/report", &[]).unwrap().len(), 2);
    }

    #[test]
    fn refusals_keep_the_gateways_words() {
        let client = Client::new(Box::new(Scripted(|_, path| match path {
            "/known" => (200, json!({"data": {"a": 1}})),
            "/odd" => (418, json!("teapot")),
            _ => (404, json!({"statusCode": 404, "message": "no such user"})),
        })));
        assert_eq!(client.object("GET", "/known", None).unwrap(), json!({"a": 1}));
        let failure = client.call("GET", "/x", None).unwrap_err();
        assert_eq!((failure.status(), failure.to_string().as_str()), (Some(404), "no such user"));
        assert!(client.exists("/known").unwrap());
        assert!(!client.exists("/x").unwrap());
        assert_eq!(client.call("GET", "/odd", None).unwrap_err().to_string(), "the gateway answered 418");
    }
}
