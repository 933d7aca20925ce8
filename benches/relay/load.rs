//! The clients: a thread and a kept connection each, the next request as soon as the last answer is whole.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::provider::{CLIENT, Gate, HOLD, content_length, fill, find};

const STACK_BYTES: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Calls of each client before the clock runs.
const WARM_UP: usize = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answers with a length.
    Plain,
    /// Event streams in lock-step with the provider.
    Streams,
}

/// Where to send requests, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// For the tables.
    pub name: &'static str,
    /// The proxy for plain calls.
    pub plain: SocketAddr,
    /// The proxy for streams.
    pub streams: SocketAddr,
    /// The bearer token.
    pub token: String,
    /// What to ask for.
    pub model: &'static str,
}

/// What clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whole answers, or chunks.
    pub units: u64,
    /// Answers that were not 200, and broken connections.
    pub failures: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// From the request to the whole answer, or from the provider's write to the client's read.
    pub latencies_ns: Vec<u32>,
}

impl Seen {
    /// Adds what another saw.
    pub fn add(&mut self, other: Self) {
        self.units += other.units;
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.latencies_ns.extend(other.latencies_ns);
    }

    fn unit(&mut self, latency: Duration) {
        self.units += 1;
        self.latencies_ns.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }
}

/// Clients that are connected, warm, and wait for the word.
pub struct Load {
    threads: Vec<JoinHandle<Seen>>,
    go: Arc<Barrier>,
}

impl Load {
    /// Connects so many clients.
    pub fn prepare(
        target: &Target,
        kind: Kind,
        connections: usize,
        gates: &Arc<[Gate]>,
        time: Duration,
    ) -> Self {
        let ready = Arc::new(Barrier::new(connections + 1));
        let go = Arc::new(Barrier::new(connections + 1));
        let threads = (0..connections)
            .map(|index| {
                let (ready, go) = (Arc::clone(&ready), Arc::clone(&go));
                let (target, gates) = (target.clone(), Arc::clone(gates));
                let run = move || {
                    let mut client = Client::connect(&target, kind, index);
                    for _ in 0..WARM_UP {
                        let mut ignored = Seen::default();
                        client.one_call(&gates[index], Instant::now(), &mut ignored);
                    }
                    ready.wait();
                    go.wait();
                    let mut seen = Seen::default();
                    let until = Instant::now() + time;
                    while Instant::now() < until {
                        client.one_call(&gates[index], until, &mut seen);
                    }
                    seen
                };
                thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap()
            })
            .collect();
        ready.wait();
        Self { threads, go }
    }

    /// Lets them work, and says what they saw in how much time.
    pub fn run(self) -> (Seen, Duration) {
        let began = Instant::now();
        self.go.wait();
        let mut seen = Seen::default();
        for thread in self.threads {
            seen.add(thread.join().unwrap());
        }
        (seen, began.elapsed())
    }
}

struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    kind: Kind,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(target: &Target, kind: Kind, index: usize) -> Self {
        let address = if kind == Kind::Plain { target.plain } else { target.streams };
        let request = request(address, target, kind == Kind::Streams, &index.to_string());
        Self { address, stream: None, kind, request, buffer: Vec::with_capacity(8 * 1024) }
    }

    fn one_call(&mut self, gate: &Gate, until: Instant, seen: &mut Seen) {
        let result = match self.kind {
            Kind::Plain => self.plain(seen),
            Kind::Streams => self.streams(gate, until, seen),
        };
        if let Err(error) = result {
            seen.failures += 1;
            seen.first_failure.get_or_insert_with(|| error.to_string());
            self.stream = None;
        }
    }

    fn send(&mut self) -> io::Result<&mut TcpStream> {
        self.buffer.clear();
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        let stream = self.stream.insert(stream);
        stream.write_all(&self.request)?;
        Ok(stream)
    }

    fn plain(&mut self, seen: &mut Seen) -> io::Result<()> {
        let began = Instant::now();
        self.send()?;
        let end = self.head()?;
        let length = content_length(&self.buffer[..end]).ok_or(io::ErrorKind::InvalidData)?;
        while self.buffer.len() < end + length {
            self.more()?;
        }
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&self.buffer).into_owned()));
        }
        seen.unit(began.elapsed());
        Ok(())
    }

    fn streams(&mut self, gate: &Gate, until: Instant, seen: &mut Seen) -> io::Result<()> {
        gate.reset();
        self.send()?;
        let end = self.head()?;
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            self.more()?;
            return Err(io::Error::other(String::from_utf8_lossy(&self.buffer).into_owned()));
        }
        self.buffer.drain(..end);
        let mut chunks = 0;
        loop {
            // Nothing but an event's end has two line feeds in a row.
            if self.buffer.ends_with(b"\r\n0\r\n\r\n") {
                return Ok(());
            }
            if find(&self.buffer, b"\n\n").is_some() && find(&self.buffer, b"\"content\"").is_some() {
                chunks += 1;
                seen.unit(gate.since_written());
                if Instant::now() >= until {
                    gate.end();
                } else {
                    gate.saw(chunks);
                }
                self.buffer.clear();
            }
            self.more()?;
        }
    }

    fn head(&mut self) -> io::Result<usize> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(at + 4);
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if fill(stream, &mut self.buffer)? == 0 {
            return Err(io::Error::other("the proxy closed the connection"));
        }
        Ok(())
    }
}

/// Opens so many streams and keeps them open, each after its first chunk.
pub fn hold(target: &Target, streams: usize) -> io::Result<Vec<TcpStream>> {
    let request = request(target.streams, target, true, HOLD);
    let mut held = Vec::with_capacity(streams);
    for _ in 0..streams {
        let mut stream = connect(target.streams)?;
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        while find(&answer, b"\n\n").is_none() {
            if fill(&mut stream, &mut answer)? == 0 {
                return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
            }
        }
        held.push(stream);
    }
    Ok(held)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// About 1 KiB of body, and the header lines that the official Python SDK sends.
fn request(address: SocketAddr, target: &Target, stream: bool, client: &str) -> Vec<u8> {
    let Target { token, model, .. } = target;
    let text = "Say in a few words what an organisation gains from keys of its own. ".repeat(11);
    let stream = if stream { ",\"stream\":true" } else { "" };
    let body = format!(
        r#"{{"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{text}{CLIENT}{client}."}}],"model":"{model}","max_tokens":400,"temperature":0.7{stream}}}"#
    );
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 1.99.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.12.3\r\nX-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\nOpenAI-Organization: org-bench\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}
