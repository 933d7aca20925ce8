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

/// The number of a client whose stream stays open after its first chunk.
pub const HOLD: &str = "hold";
/// What stands before a client's number in its prompt: prompts reach every protocol.
pub const CLIENT: &str = "client number ";
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
    /// One for each client that streams; its index stands in the request's prompt.
    pub gates: Arc<[Gate]>,
}

/// What it answers, ready to be written.
struct Answers {
    plain: Vec<u8>,
    openai: StreamAnswer,
    anthropic: StreamAnswer,
    gemini: StreamAnswer,
    converse: StreamAnswer,
}

/// A stream in one protocol.
struct StreamAnswer {
    /// The head, and what the protocol says before the first chunk.
    begin: Vec<u8>,
    chunk: Vec<u8>,
    end: Vec<u8>,
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
        let common = "x-request-id: req_0000000000000000\r\nopenai-processing-ms: 1\r\n";
        Self {
            plain: format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{common}content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
            openai: StreamAnswer::openai(),
            anthropic: StreamAnswer::anthropic(),
            gemini: StreamAnswer::gemini(),
            converse: StreamAnswer::converse(),
        }
    }

    /// By the request's target, the protocol.
    fn stream(&self, target: &str) -> &StreamAnswer {
        if target.contains("/messages") {
            &self.anthropic
        } else if target.contains(":streamGenerateContent") {
            &self.gemini
        } else if target.contains("/converse-stream") {
            &self.converse
        } else {
            &self.openai
        }
    }
}

impl StreamAnswer {
    fn new(content_type: &str, first: &[Vec<u8>], chunk: &[u8], last: &[Vec<u8>]) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nx-request-id: req_0000000000000000\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let frame = |data: &[u8]| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
        let frames = |pieces: &[Vec<u8>]| pieces.iter().flat_map(|piece| frame(piece)).collect::<Vec<_>>();
        Self {
            begin: [head.into_bytes(), frames(first)].concat(),
            chunk: frame(chunk),
            end: [frames(last), b"0\r\n\r\n".to_vec()].concat(),
        }
    }

    fn openai() -> Self {
        let event = |rest: &str| {
            format!("data: {{\"id\":\"chatcmpl-BnQm3Zt0example0000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"bench-1\",{rest}}}\n\n").into_bytes()
        };
        Self::new(
            "text/event-stream; charset=utf-8",
            &[],
            &event(r#""choices":[{"index":0,"delta":{"content":" word"}}]"#),
            &[
                event(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#),
                event(
                    r#""choices":[],"usage":{"prompt_tokens":213,"completion_tokens":400,"total_tokens":613}"#,
                ),
                b"data: [DONE]\n\n".to_vec(),
            ],
        )
    }

    fn anthropic() -> Self {
        let event = |name: &str, rest: &str| {
            format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n").into_bytes()
        };
        let usage = r#""usage":{"input_tokens":213,"output_tokens":1}"#;
        Self::new(
            "text/event-stream; charset=utf-8",
            &[
                event(
                    "message_start",
                    &format!(
                        r#","message":{{"id":"msg_01BenchBenchBenchBench0000","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,{usage}}}"#
                    ),
                ),
                event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
            ],
            &event("content_block_delta", r#","index":0,"delta":{"type":"text_delta","text":" word"}"#),
            &[
                event("content_block_stop", r#","index":0"#),
                event(
                    "message_delta",
                    r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":400}"#,
                ),
                event("message_stop", ""),
            ],
        )
    }

    fn gemini() -> Self {
        let event = |candidate: &str, usage: &str| {
            format!("data: {{\"candidates\":[{{\"content\":{{\"role\":\"model\",\"parts\":[{{\"text\":\" word\"}}]}}{candidate},\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":213{usage}}},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"bench0000000\"}}\r\n\r\n").into_bytes()
        };
        Self::new(
            "text/event-stream",
            &[],
            &event("", r#","totalTokenCount":213"#),
            &[event(r#","finishReason":"STOP""#, r#","candidatesTokenCount":400,"totalTokenCount":613"#)],
        )
    }

    fn converse() -> Self {
        let message = |name: &str, payload: &str| {
            let mut headers = Vec::new();
            for (key, value) in
                [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")]
            {
                headers.push(u8::try_from(key.len()).unwrap());
                headers.extend_from_slice(key.as_bytes());
                headers.push(7);
                headers.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
                headers.extend_from_slice(value.as_bytes());
            }
            let number = |count: usize| u32::try_from(count).unwrap().to_be_bytes();
            let mut whole = number(16 + headers.len() + payload.len()).to_vec();
            whole.extend_from_slice(&number(headers.len()));
            whole.extend_from_slice(&crc32(&whole).to_be_bytes());
            whole.extend_from_slice(&headers);
            whole.extend_from_slice(payload.as_bytes());
            whole.extend_from_slice(&crc32(&whole).to_be_bytes());
            whole
        };
        Self::new(
            "application/vnd.amazon.eventstream",
            &[message("messageStart", r#"{"p":"abcdefghij","role":"assistant"}"#)],
            &message(
                "contentBlockDelta",
                r#"{"contentBlockIndex":0,"delta":{"text":" word"},"p":"abcdefghijklmnop"}"#,
            ),
            &[
                message("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abcd"}"#),
                message("messageStop", r#"{"p":"abcdefgh","stopReason":"end_turn"}"#),
                message(
                    "metadata",
                    r#"{"metrics":{"latencyMs":1000},"p":"ab","usage":{"inputTokens":213,"outputTokens":400,"totalTokens":613}}"#,
                ),
            ],
        )
    }
}

/// CRC-32 as in ISO 3309, bit by bit: it runs a few times at the start.
fn crc32(bytes: &[u8]) -> u32 {
    let step =
        |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            })
        };
    !bytes.iter().fold(!0, step)
}

fn serve(mut stream: TcpStream, gates: &[Gate], answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    while let Some((target, body)) = read_request(&mut stream, &mut buffer)? {
        let is_stream = target.contains("tream") || find(&body, b"\"stream\":true").is_some();
        if !is_stream {
            stream.write_all(&answers.plain)?;
            continue;
        }
        let user = client_of(&body);
        let answer = answers.stream(&target);
        let first = [answer.begin.as_slice(), &answer.chunk].concat();
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
            gate.write(&mut stream, &answer.chunk)?;
            written += 1;
        }
        stream.write_all(&answer.end)?;
    }
    Ok(())
}

/// The target and body of the next request; both proxies send its length.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(String, Vec<u8>)>> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n").map(|at| at + 4) {
            let length = content_length(&buffer[..end]).ok_or(io::ErrorKind::InvalidData)?;
            if buffer.len() >= end + length {
                let line = buffer[..end].split(|byte| *byte == b'\r').next().unwrap_or_default();
                let target = String::from_utf8_lossy(line).split(' ').nth(1).unwrap_or_default().to_owned();
                let body = buffer[end..end + length].to_vec();
                buffer.drain(..end + length);
                return Ok(Some((target, body)));
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

fn client_of(body: &[u8]) -> &str {
    let rest = find(body, CLIENT.as_bytes()).map_or(&[][..], |at| &body[at + CLIENT.len()..]);
    let end = rest.iter().position(|byte| *byte == b'.').unwrap_or(0);
    std::str::from_utf8(&rest[..end]).unwrap_or_default()
}
