//! A scripted provider: every byte it received is kept, every byte it answers is decided by a test, and it notes
//! the moment at which its peer closed a connection.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::client::find;

/// The stack of a connection's threads: tests open thousands.
const STACK_BYTES: usize = 192 * 1024;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which connection, counted from 0.
    pub connection: usize,
    /// Which request of all, counted from 0.
    pub number: usize,
    /// Request line and headers with their line ends, byte for byte.
    pub head: String,
    /// The body, decoded from its framing.
    pub body: Vec<u8>,
}

impl Received {
    /// Such as `POST`.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// The request target.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// Names in lower case, in order.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.head
            .trim_end()
            .split("\r\n")
            .skip(1)
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect()
    }

    /// The one value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut found = self.headers().into_iter().filter(|(n, _)| n == name).map(|(_, value)| value);
        let value = found.next();
        assert!(found.next().is_none(), "{name} stands twice in {:?}", self.head);
        value
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Received>,
    connections: usize,
    closed: HashMap<usize, Instant>,
    signals: HashMap<String, usize>,
    written: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until the state gives an answer; `None` when it did not in time.
    fn wait<T>(&self, limit: Duration, mut ask: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = ask(&mut state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.ended.load(Ordering::Relaxed) {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

type Script = dyn Fn(&Received, &mut Answer<'_>) + Send + Sync;
type OnConnection = dyn Fn(&mut Connection) + Send + Sync;

/// A provider that listens until it is dropped.
pub struct Provider {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Provider {
    /// Calls the script for each request, with connections kept alive as HTTP/1.1 says.
    pub fn start(script: impl Fn(&Received, &mut Answer<'_>) + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        Self::on_connection(move |connection| {
            while let Some(request) = connection.read_request() {
                let close = request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
                let mut answer = Answer { connection, closed: false };
                script(&request, &mut answer);
                if answer.closed || close {
                    return;
                }
            }
        })
    }

    /// Calls a function for each connection, which reads and writes as it likes; it is closed at the end.
    pub fn on_connection(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let script: Arc<OnConnection> = Arc::new(script);
        let for_accept = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_accept.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let mut number = 0;
                for_accept.update(|state| {
                    number = state.connections;
                    state.connections += 1;
                });
                let mut connection = Connection::new(stream, number, Arc::clone(&for_accept));
                let script = Arc::clone(&script);
                spawn(move || {
                    script(&mut connection);
                    connection.close();
                });
            }
        });
        Self { addr, shared }
    }

    /// Answers every request with the same JSON.
    pub fn answering(body: &'static str) -> Self {
        Self::start(move |_, answer| answer.json(200, body))
    }

    /// What a provider account has as its base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// `host:port`, which the gateway must not show to callers.
    pub fn host_port(&self) -> String {
        self.addr.to_string()
    }

    /// Lets one [`Answer::wait`] for this event go on.
    pub fn signal(&self, event: &str) {
        self.shared.update(|state| *state.signals.entry(event.to_owned()).or_default() += 1);
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// How many requests came so far.
    pub fn request_count(&self) -> usize {
        self.shared.state.lock().unwrap().requests.len()
    }

    /// The only request there was.
    pub fn only_request(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }

    /// The request of this number, once it came.
    pub fn wait_for_request(&self, number: usize) -> Received {
        self.shared
            .wait(PATIENCE, |state| state.requests.get(number).cloned())
            .unwrap_or_else(|| panic!("request {number} never reached the provider"))
    }

    /// How many connections were accepted so far.
    pub fn connection_count(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    /// Waits for connections.
    pub fn wait_for_connections(&self, count: usize) {
        self.shared
            .wait(PATIENCE, |state| (state.connections >= count).then_some(()))
            .unwrap_or_else(|| panic!("no {count} connections"));
    }

    /// Bytes that were written to the gateway so far.
    pub fn written(&self) -> u64 {
        self.shared.state.lock().unwrap().written
    }

    /// Waits until a script said an event with [`Answer::say`].
    pub fn wait_for(&self, event: &str) {
        let wait = self.shared.wait(PATIENCE, |state| {
            let count = state.signals.get_mut(event)?;
            *count = count.checked_sub(1)?;
            Some(())
        });
        assert!(wait.is_some(), "the provider never said {event}");
    }

    /// When the gateway closed a connection, once it did.
    pub fn wait_closed(&self, connection: usize) -> Instant {
        self.shared
            .wait(PATIENCE, |state| state.closed.get(&connection).copied())
            .unwrap_or_else(|| panic!("connection {connection} was never closed"))
    }

    /// Fails unless the gateway closed a connection within 250 ms of a moment.
    pub fn assert_closed_within_250_ms(&self, connection: usize, since: Instant) {
        let took = self.wait_closed(connection).saturating_duration_since(since);
        assert!(took <= Duration::from_millis(250), "connection {connection} was closed only after {took:?}");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        // Wakes the accept loop.
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap();
}

#[derive(Default)]
struct Inbox {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

/// One accepted connection. A thread reads all the time, so that the peer's end is seen while a script waits.
pub struct Connection {
    /// Counted from 0.
    pub number: usize,
    stream: TcpStream,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
}

impl Connection {
    fn new(stream: TcpStream, number: usize, shared: Arc<Shared>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let inbox = Arc::new(Inbox::default());
        let mut reader = stream.try_clone().unwrap();
        let (sink, state) = (Arc::clone(&inbox), Arc::clone(&shared));
        spawn(move || {
            let mut piece = vec![0; 16 * 1024];
            loop {
                let count = reader.read(&mut piece).unwrap_or(0);
                if count == 0 {
                    let now = Instant::now();
                    state.update(|state| {
                        state.closed.insert(number, now);
                    });
                }
                let mut inbox = sink.state.lock().unwrap();
                inbox.0.extend_from_slice(&piece[..count]);
                inbox.1 = count == 0;
                sink.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self { number, stream, inbox, shared }
    }

    /// Takes bytes from what came, once `take` finds enough; `None` at the peer's end.
    fn take(&mut self, mut take: impl FnMut(&mut Vec<u8>) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut inbox = self.inbox.state.lock().unwrap();
        loop {
            if let Some(taken) = take(&mut inbox.0) {
                return Some(taken);
            }
            if inbox.1 || self.shared.ended.load(Ordering::Relaxed) {
                return None;
            }
            inbox = self.inbox.changed.wait_timeout(inbox, Duration::from_secs(1)).unwrap().0;
        }
    }

    fn take_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        self.take(|inbox| (inbox.len() >= count).then(|| inbox.drain(..count).collect()))
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        self.take(|inbox| find(inbox, b"\r\n").map(|at| inbox.drain(..at + 2).collect()))
    }

    /// Reads a request's head; `None` when the peer closed.
    pub fn read_head(&mut self) -> Option<String> {
        let head = self.take(|inbox| find(inbox, b"\r\n\r\n").map(|at| inbox.drain(..at + 4).collect()))?;
        Some(String::from_utf8(head).unwrap())
    }

    /// Reads a whole request and notes it.
    pub fn read_request(&mut self) -> Option<Received> {
        let head = self.read_head()?;
        let mut request = Received { connection: self.number, number: 0, head, body: Vec::new() };
        if request.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            assert_eq!(request.header("content-length"), None, "both framings: {}", request.head);
            loop {
                let line = self.take_line()?;
                let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
                let chunk = self.take_exactly(size + 2)?;
                request.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = request.header("content-length") {
            request.body = self.take_exactly(length.parse().unwrap())?;
        }
        self.shared.update(|state| {
            request.number = state.requests.len();
            state.requests.push(request.clone());
        });
        Some(request)
    }

    /// Writes bytes; false when the peer is gone.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let done = self.stream.write_all(bytes).is_ok();
        self.shared.update(|state| state.written += bytes.len() as u64);
        done
    }

    /// Closes both ways.
    pub fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// What a script does with one request.
pub struct Answer<'a> {
    connection: &'a mut Connection,
    closed: bool,
}

impl Answer<'_> {
    /// Writes bytes as they are; false when the gateway is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.connection.send(bytes.as_ref())
    }

    /// A JSON answer with its length.
    pub fn json(&mut self, status: u16, body: &str) {
        self.full(status, "content-type: application/json\r\n", body.as_bytes());
    }

    /// An answer with its length and these header lines (each with its line end).
    pub fn full(&mut self, status: u16, headers: &str, body: &[u8]) {
        let mut bytes =
            format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n", body.len())
                .into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
    }

    /// The head of a chunked stream of events.
    pub fn sse_head(&mut self) {
        self.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    /// One chunk.
    pub fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.send(&framed)
    }

    /// The end of a chunked body.
    pub fn last_chunk(&mut self) {
        self.send("0\r\n\r\n");
    }

    /// A whole stream of events in one chunk.
    pub fn sse(&mut self, events: impl AsRef<[u8]>) {
        self.sse_head();
        self.chunk(events);
        self.last_chunk();
    }

    /// Waits until the test signals an event or the gateway closed the connection; false in the latter case.
    pub fn wait(&mut self, event: &str) -> bool {
        let number = self.connection.number;
        self.connection
            .shared
            .wait(PATIENCE, |state| {
                if let Some(count) = state.signals.get_mut(event).filter(|count| **count > 0) {
                    *count -= 1;
                    return Some(true);
                }
                state.closed.contains_key(&number).then_some(false)
            })
            .unwrap_or(false)
    }

    /// Waits until the gateway closes the connection.
    pub fn hold(&mut self) {
        self.wait("an event that no test signals");
        self.close();
    }

    /// Tells the test that this place was reached.
    pub fn say(&mut self, event: &str) {
        self.connection.shared.update(|state| *state.signals.entry(event.to_owned()).or_default() += 1);
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        self.connection.close();
        self.closed = true;
    }
}
