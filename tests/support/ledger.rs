//! A provider in two dialects that keeps a ledger of what it served. What it does with a call stands in the call's text, so
//! that caller, provider and record can be compared afterwards by the call's number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::provider::{Answer, Provider, Received};
use super::sse::{DONE, FINISH, text};

/// A sentence of 14 tokens by o200k_base; one is a piece of an answer.
pub const PIECE: &str = "The committee met on Tuesday to talk about the budget for next year.";
/// Its tokens.
pub const PIECE_TOKENS: u64 = 14;

/// What the provider does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A whole answer, with usage.
    Whole,
    /// The same without usage, where the dialect allows it.
    WholeUncounted,
    /// A stream, with usage at its end.
    Stream,
    /// The same without usage, where the dialect allows it.
    StreamUncounted,
    /// An error status.
    Refused(u16),
    /// The connection is closed before a byte of an answer.
    Reset,
    /// The same in the midst of the answer's head.
    HalfHead,
    /// The same in the midst of a body that is no stream.
    HalfBody,
    /// The same after some events of a stream.
    Broken,
    /// An error event after some events of a stream.
    ErrorEvent,
}

/// All of them; the first ones are what mostly happens.
pub const WAYS: [Way; 16] = [
    Way::Whole,
    Way::Stream,
    Way::Whole,
    Way::Stream,
    Way::Stream,
    Way::WholeUncounted,
    Way::StreamUncounted,
    Way::Refused(400),
    Way::Refused(429),
    Way::Refused(500),
    Way::Refused(503),
    Way::Reset,
    Way::HalfHead,
    Way::HalfBody,
    Way::Broken,
    Way::ErrorEvent,
];

impl Way {
    /// Whether the call asks for a stream.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::StreamUncounted | Self::Broken | Self::ErrorEvent)
    }
}

/// What one call is about; its text says it to the provider.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The call's number.
    pub number: u64,
    /// Which of [`WAYS`].
    pub way: usize,
    /// Pieces of text that the answer has.
    pub pieces: u64,
    /// Microseconds before each.
    pub pause_us: u64,
}

impl Script {
    /// What it says.
    pub fn way(self) -> Way {
        WAYS[self.way]
    }

    /// The text of the call's message.
    pub fn text(self) -> String {
        format!("script {} {} {} {} end", self.number, self.way, self.pieces, self.pause_us)
    }

    fn read(body: &str) -> Self {
        let (_, rest) = body.split_once("script ").unwrap();
        let numbers: Vec<u64> = rest.split(' ').take(4).map(|word| word.parse().unwrap()).collect();
        let way = usize::try_from(numbers[1]).unwrap();
        Self { number: numbers[0], way, pieces: numbers[2], pause_us: numbers[3] }
    }

    /// Tokens of input and output that the provider reports.
    pub fn tokens(self) -> (u64, u64) {
        (100 + self.number % 53, 20 + self.number % 31)
    }
}

/// What was served of one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Requests that came.
    pub arrivals: u32,
    /// Pieces of text that were sent.
    pub pieces: u64,
    /// Usage was sent, and the system took it.
    pub said_usage: bool,
}

/// What was served, by the calls' numbers.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<u64, Served>>>);

impl Ledger {
    /// Of one call; nothing when it never came.
    pub fn of(&self, number: u64) -> Served {
        self.0.lock().unwrap().get(&number).copied().unwrap_or_default()
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut Served)) {
        change(self.0.lock().unwrap().entry(number).or_default());
    }

    /// A provider that keeps this ledger: OpenAI's dialect, and Anthropic's under a path that ends with `messages`.
    pub fn provider(&self) -> Provider {
        let ledger = self.clone();
        Provider::start(move |request, answer| ledger.serve(request, answer))
    }

    fn serve(&self, request: &Received, answer: &mut Answer<'_>) {
        let script = Script::read(&request.text());
        self.note(script.number, |served| served.arrivals += 1);
        let is_messages = request.path().split('?').next().unwrap().ends_with("messages");
        pause(script);
        match script.way() {
            Way::Refused(status) => {
                answer.json(status, r#"{"type":"error","error":{"type":"some_error","message":"no"}}"#);
            }
            Way::Reset => answer.close(),
            Way::HalfHead => {
                answer.send("HTTP/1.1 200 OK\r\ncontent-ty");
                answer.close();
            }
            Way::Whole | Way::WholeUncounted | Way::HalfBody => self.whole(script, is_messages, answer),
            Way::Stream | Way::StreamUncounted | Way::Broken | Way::ErrorEvent => {
                self.stream(script, is_messages, answer);
            }
        }
    }

    fn whole(&self, script: Script, is_messages: bool, answer: &mut Answer<'_>) {
        let (input, output) = script.tokens();
        let content = vec![PIECE; usize::try_from(script.pieces).unwrap()].join(" ");
        let counted = script.way() != Way::WholeUncounted || is_messages;
        let usage = match (counted, is_messages) {
            (false, _) => String::new(),
            (true, true) => format!(r#","usage":{{"input_tokens":{input},"output_tokens":{output}}}"#),
            (true, false) => format!(
                r#","usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
                input + output
            ),
        };
        let body = if is_messages {
            format!(
                r#"{{"id":"msg_1","type":"message","role":"assistant","model":"up-model","content":[{{"type":"text","text":"{content}"}}],"stop_reason":"end_turn","stop_sequence":null{usage}}}"#
            )
        } else {
            format!(
                r#"{{"id":"c1","object":"chat.completion","created":1700000000,"model":"up-model","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}]{usage}}}"#
            )
        };
        self.note(script.number, |served| served.pieces = script.pieces);
        if script.way() == Way::HalfBody {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            answer.send(head + &body[..body.len() / 2]);
            answer.close();
            return;
        }
        // Before it goes out: the record may be there before this thread goes on.
        self.note(script.number, |served| served.said_usage = counted);
        answer.json(200, &body);
    }

    fn stream(&self, script: Script, is_messages: bool, answer: &mut Answer<'_>) {
        let (input, output) = script.tokens();
        answer.sse_head();
        if is_messages {
            answer.chunk(event("message_start", &format!(
                r#"{{"type":"message_start","message":{{"id":"msg_1","type":"message","role":"assistant","model":"up-model","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{input},"output_tokens":1}}}}}}"#
            )));
            answer.chunk(event(
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ));
        }
        for _ in 0..script.pieces {
            pause(script);
            self.note(script.number, |served| served.pieces += 1);
            let sent = if is_messages {
                answer.chunk(event("content_block_delta", &format!(
                    r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{PIECE}"}}}}"#
                )))
            } else {
                answer.chunk(text(PIECE))
            };
            if !sent {
                answer.close();
                return;
            }
        }
        match script.way() {
            Way::Broken => return answer.close(),
            Way::ErrorEvent if is_messages => {
                answer.chunk(event(
                    "error",
                    r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
                ));
                answer.last_chunk();
                return;
            }
            Way::ErrorEvent => {
                answer.chunk("data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\"}}\n\n");
                answer.last_chunk();
                return;
            }
            _ => {}
        }
        let counted = script.way() != Way::StreamUncounted || is_messages;
        self.note(script.number, |served| served.said_usage = counted);
        if is_messages {
            answer.chunk(event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#));
            answer.chunk(event("message_delta", &format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
            )));
            answer.chunk(event("message_stop", r#"{"type":"message_stop"}"#));
        } else {
            answer.chunk(FINISH);
            if counted {
                answer.chunk(format!(
                    "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"up-model\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}}}}\n\n",
                    input + output
                ));
            }
            answer.chunk(DONE);
        }
        answer.last_chunk();
    }
}

fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// A provider takes its time.
fn pause(script: Script) {
    if script.pause_us > 0 {
        std::thread::park_timeout(Duration::from_micros(script.pause_us));
    }
}
