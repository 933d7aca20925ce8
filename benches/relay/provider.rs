//! The provider behind both proxies: a thread a connection, answers that cost next to nothing.
//!
//! A stream goes in lock-step: the next chunk is written when the client has seen the last one, which it says
//! through a [`Gate`] in this process, past the proxy. So every chunk comes to the proxy alone, whatever its
//! speed, without a timer that would have to guess it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The `user` of a request whose stream stays open after its first chunk.
pub const HOLD: &str = "hold";
/// Chunks of one stream, about as many as an ordinary answer has.
pub const CHUNKS_PER_STREAM: u64 = 400;
const STACK_BYTES: usize = 128 * 1024;
const GIVE_UP: Duration = Duration::from_secs(20);

/// Where one client and the provider meet.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    epoch: Instant,
    written_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    seen: u64,
    over: bool,
}

impl Gate {
    fn new(epoch: Instant) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), epoch, written_ns: AtomicU64::new(0) }
    }

    /// A stream begins.
    pub fn reset(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// The client has seen this many chunks of the stream.
    pub fn saw(&self, chunks: u64) {
        self.state.lock().unwrap().seen = chunks;
        self.changed.notify_one();
    }

    /// The client wants no further chunk.
    pub fn end(&self) {
        self.state.lock().unwrap().over = true;
        self.changed.notify_one();
    }

    /// Time since the newest chunk was written.
    pub fn since_written(&self) -> Duration {
        let written = Duration::from_nanos(self.written_ns.load(Ordering::Acquire));
        self.epoch.elapsed().saturating_sub(written)
    }

    fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap();
        self.written_ns.store(now, Ordering::Release);
        stream.write_all(bytes)
    }

    /// Waits until the client has seen that many; says whether it wants more.
    fn wait(&self, chunks: u64) -> io::Result<bool> {
        let state = self.state.lock().unwrap();
        let waits = |state: &mut State| state.seen < chunks && !state.over;
        let (state, timeout) = self.changed.wait_timeout_while(state, GIVE_UP, waits).unwrap();
        if timeout.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(!state.over) }
    }
}

/// The running provider; it ends with the process.
#[derive(Debug)]
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    /// One for each client that streams; its index is the `user` of the request.
    pub gates: Arc<[Gate]>,
}

/// What it answers, ready to be written.
struct Answers {
    plain: Vec<u8>,
    stream_head: Vec<u8>,
    chunk: Vec<u8>,
    stream_end: Vec<u8>,
}

impl Provider {
    /// Starts it with so many gates.
    pub fn start(gates: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let epoch = Instant::now();
        let gates: Arc<[Gate]> = (0..gates).map(|_| Gate::new(epoch)).collect();
        let answers = Arc::new(Answers::new());
        let shared = Arc::clone(&gates);
        thread::Builder::new().name("provider".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (gates, answers) = (Arc::clone(&shared), Arc::clone(&answers));
                let serve = move || {
                    // A proxy that closes its connection is no failure here.
                    let _ = serve(stream, &gates, &answers);
                };
                thread::Builder::new().stack_size(STACK_BYTES).spawn(serve).unwrap();
            }
        })?;
        Ok(Self { address, gates })
    }
}

impl Answers {
    fn new() -> Self {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(4);
        let body = format!(
            r#"{{"id":"chatcmpl-BnQm3Zt0example0000000000000","object":"chat.completion","created":1750000000,"model":"bench-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":213,"completion_tokens":44,"total_tokens":257,"prompt_tokens_details":{{"cached_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_0000000000"}}"#
        );
        let chunk = "data: {\"id\":\"chatcmpl-BnQm3Zt0example0000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"bench-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n";
        let last = "data: {\"id\":\"chatcmpl-BnQm3Zt0example0000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"bench-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":213,\"completion_tokens\":400,\"total_tokens\":613}}\n\n";
        let frame = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
        let common = "x-request-id: req_0000000000000000\r\nopenai-processing-ms: 1\r\n";
        Self {
            plain: format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{common}content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
            stream_head: format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n{common}transfer-encoding: chunked\r\n\r\n"
            )
            .into_bytes(),
            chunk: frame(chunk).into_bytes(),
            stream_end: format!("{}{}0\r\n\r\n", frame(last), frame("data: [DONE]\n\n")).into_bytes(),
        }
    }
}

fn serve(mut stream: TcpStream, gates: &[Gate], answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    while let Some(body) = read_request(&mut stream, &mut buffer)? {
        if find(&body, b"\"stream\":true").is_none() {
            stream.write_all(&answers.plain)?;
            continue;
        }
        let user = user_of(&body);
        let first = [answers.stream_head.as_slice(), &answers.chunk].concat();
        if user == HOLD {
            stream.write_all(&first)?;
            // Until the proxy closes: the client has gone.
            let _ = stream.read(&mut [0])?;
            return Ok(());
        }
        let gate = user.parse().ok().and_then(|index: usize| gates.get(index));
        let gate = gate.ok_or(io::ErrorKind::InvalidData)?;
        gate.write(&mut stream, &first)?;
        let mut written = 1;
        while gate.wait(written)? && written < CHUNKS_PER_STREAM {
            gate.write(&mut stream, &answers.chunk)?;
            written += 1;
        }
        stream.write_all(&answers.stream_end)?;
    }
    Ok(())
}

/// The body of the next request; both proxies send its length.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n").map(|at| at + 4) {
            let length = content_length(&buffer[..end]).ok_or(io::ErrorKind::InvalidData)?;
            if buffer.len() >= end + length {
                let body = buffer[end..end + length].to_vec();
                buffer.drain(..end + length);
                return Ok(Some(body));
            }
        }
        if fill(stream, buffer)? == 0 {
            return Ok(None);
        }
    }
}

/// Reads what there is onto the end of a buffer.
pub fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 8 * 1024];
    let read = stream.read(&mut piece)?;
    buffer.extend_from_slice(&piece[..read]);
    Ok(read)
}

/// The `content-length` of a head.
pub fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

/// Where a needle begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn user_of(body: &[u8]) -> &str {
    const KEY: &[u8] = b"\"user\":\"";
    let rest = find(body, KEY).map_or(&[][..], |at| &body[at + KEY.len()..]);
    let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
    std::str::from_utf8(&rest[..end]).unwrap_or_default()
}
