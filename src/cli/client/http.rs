//! The management API over HTTP, and what the admin socket shares with it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::Request;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::{API_ROOT, ClientError, Sink, Transport, refusal};
use crate::cli::failure::Failure;
use crate::secret::Secret;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
const STREAM_BUFFER_BYTES: usize = 64 * 1024;
const MAX_CA_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A gateway that is reached by URL.
pub struct HttpTransport {
    agent: Agent,
    base: String,
    token: Secret,
}

impl HttpTransport {
    /// Checks the URL and the token. Without a CA file the public roots are trusted.
    ///
    /// # Errors
    /// What can not be used.
    pub fn new(url: &str, token: Option<&str>, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let base = checked_url(url)?;
        let token = token
            .map(str::trim)
            .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        let token = Secret::new(token.ok_or(ClientError::NoToken)?.to_owned());
        let roots = match ca_file {
            Some(file) => certificates(file)
                .map_err(|why| ClientError::BadCertificates(format!("{}: {why}", file.display())))?,
            None => RootCerts::WebPki,
        };
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = config().tls_config(tls).build().new_agent();
        Ok(Self { agent, base, token })
    }
}

impl Transport for HttpTransport {
    fn call(
        &self,
        method: &str,
        path_and_query: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), ClientError> {
        exchange(&self.agent, &self.base, Some(&self.token), method, path_and_query, body, &self.base)
    }

    fn stream(&self, path_and_query: &str, sink: Sink<'_>) -> Result<(), Failure> {
        stream(&self.agent, &self.base, Some(&self.token), path_and_query, &self.base, sink)
    }
}

/// What both HTTP transports ask of ureq: nothing from the environment, no redirects, statuses as answers.
pub(super) fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(AutoHeaderValue::Provided(Arc::new(
            concat!("gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        )))
        .accept_encoding(AutoHeaderValue::None)
        .timeout_global(Some(CALL_TIMEOUT))
}

/// One request and its answer. `place` is what error messages call the other side.
pub(super) fn exchange(
    agent: &Agent,
    base: &str,
    token: Option<&Secret>,
    method: &str,
    path_and_query: &str,
    body: Option<&Value>,
    place: &str,
) -> Result<(u16, Value), ClientError> {
    let unreachable = |cause: &dyn std::fmt::Display| ClientError::Unreachable {
        place: place.to_owned(),
        cause: cause.to_string(),
    };
    let mut request = Request::builder().method(method).uri(format!("{base}{API_ROOT}{path_and_query}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let answered = match body {
        Some(body) => {
            let request = request.header("content-type", "application/json").body(body.to_string());
            agent.run(request.map_err(|error| unreachable(&error))?)
        }
        None => agent.run(request.body(()).map_err(|error| unreachable(&error))?),
    };
    let mut answer = answered.map_err(|error| unreachable(&error))?;
    let status = answer.status().as_u16();
    let bytes = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
    let bytes = bytes.map_err(|error| unreachable(&error))?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((status, value)),
        Err(_) => Err(ClientError::NotJson { place: place.to_owned(), status }),
    }
}

/// Reads a long answer piece by piece. It may take as long as it wants as long as something comes.
pub(super) fn stream(
    agent: &Agent,
    base: &str,
    token: Option<&Secret>,
    path_and_query: &str,
    place: &str,
    sink: Sink<'_>,
) -> Result<(), Failure> {
    let unreachable = |cause: &dyn std::fmt::Display| ClientError::Unreachable {
        place: place.to_owned(),
        cause: cause.to_string(),
    };
    let mut request = Request::builder().method("GET").uri(format!("{base}{API_ROOT}{path_and_query}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let request = request.body(()).map_err(|error| unreachable(&error))?;
    let request = agent.configure_request(request).timeout_global(None).build();
    let mut answer = agent.run(request).map_err(|error| unreachable(&error))?;
    let status = answer.status().as_u16();
    if status != 200 {
        let bytes = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let bytes = bytes.map_err(|error| unreachable(&error))?;
        return Err(refusal(status, &serde_json::from_slice(&bytes).unwrap_or_default()));
    }
    let mut reader = answer.body_mut().as_reader();
    let mut buffer = vec![0; STREAM_BUFFER_BYTES];
    loop {
        let read = reader.read(&mut buffer).map_err(|error| unreachable(&error))?;
        if read == 0 {
            return Ok(());
        }
        sink(buffer.get(..read).unwrap_or_default())?;
    }
}

/// The URL without a slash at its end. A user name, a query or a fragment in it would be lost or leak.
fn checked_url(url: &str) -> Result<String, ClientError> {
    let wrong = |why: &str| Err(ClientError::BadUrl(why.to_owned()));
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return wrong("has to begin with https:// or http://");
    };
    if rest.contains('@') {
        return wrong("may not hold a user name or a password");
    }
    if rest.contains(['?', '#']) {
        return wrong("may not hold a query or a fragment");
    }
    if rest.starts_with('/') || rest.is_empty() {
        return wrong("names no host");
    }
    let base = url.trim_end_matches('/');
    match base.parse::<ureq::http::Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(base.to_owned()),
        _ => wrong("is not a URL"),
    }
}

fn certificates(file: &Path) -> Result<RootCerts, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_CA_FILE_BYTES {
        return Err("it is over 16 MiB".to_owned());
    }
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| "it is not PEM".to_owned())? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err("it holds no PEM certificate".to_owned()) } else { Ok(RootCerts::from(found)) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    /// Reads one request and gives that answer; returns the request.
    pub fn answer_once(stream: impl Read + Write, answer: &str) -> String {
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            request.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        request.push_str(&String::from_utf8(body).unwrap());
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        request
    }

    pub fn response(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nlocation: http://127.0.0.1:1/\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn a_call_over_http() {
        for (status, body, wanted) in [
            ("200 OK", "{\"a\":1}", Some((200, serde_json::json!({"a": 1})))),
            ("409 Conflict", "{\"message\":\"known\"}", Some((409, serde_json::json!({"message": "known"})))),
            ("302 Found", "{}", Some((302, serde_json::json!({})))),
            ("502 Bad Gateway", "<html>", None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                answer_once(listener.accept().unwrap().0, &response(status, body))
            });
            let transport = HttpTransport::new(&url, Some("tfy_x\n"), None).unwrap();
            let answer = transport.call("POST", "/users/a%40b?x=1", Some(&serde_json::json!({"k": "v"})));
            let request = server.join().unwrap();
            assert!(request.starts_with("POST /prefix/api/svc/v1/users/a%40b?x=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("authorization: Bearer tfy_x\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"k\":\"v\"}"), "{request}");
            match (answer, wanted) {
                (Ok(answer), Some(wanted)) => assert_eq!(answer, wanted),
                (Err(ClientError::NotJson { status: 502, .. }), None) => {}
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn https_works_without_a_process_wide_provider() {
        // Nobody speaks TLS there; what counts is an error and not a panic.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let transport = HttpTransport::new(&url, Some("tfy_x"), None).unwrap();
        let answer = transport.call("GET", "/session", None);
        assert!(matches!(answer, Err(ClientError::Unreachable { .. })), "{answer:?}");
        server.join().unwrap();
    }

    #[test]
    fn what_can_not_be_used_is_refused() {
        let new = |url, token| HttpTransport::new(url, token, None).map(|_| ());
        for url in [
            "gateway.example.com",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x/?a",
            "https://x#a",
            "http:// x",
        ] {
            assert!(matches!(new(url, Some("t")), Err(ClientError::BadUrl(_))), "{url}");
        }
        for token in [None, Some(""), Some(" \n"), Some("a b"), Some("a\r\nb: c")] {
            assert!(matches!(new("https://x", token), Err(ClientError::NoToken)), "{token:?}");
        }
        let missing = HttpTransport::new("https://x", Some("t"), Some(Path::new("/nowhere.pem")));
        assert!(matches!(missing, Err(ClientError::BadCertificates(_))));
        assert!(certificates(Path::new("Cargo.toml")).is_err());
    }
}
