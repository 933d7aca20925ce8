//! Server-sent events for scripts, and a parser that judges what the gateway sent.

use serde_json::Value;

/// One event of a chat stream with a piece of text.
pub fn text(content: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"up-model\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The event with the finish reason.
pub const FINISH: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"up-model\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// The usage chunk, 7 + 5 tokens.
pub const USAGE: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"up-model\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12}}\n\n";

/// The end mark.
pub const DONE: &str = "data: [DONE]\n\n";

/// The request member that asks for the usage chunk.
pub const ASK_USAGE: &str = ",\"stream_options\":{\"include_usage\":true}";

/// One event: its name, and its data lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field.
    pub name: Option<String>,
    /// The `data:` fields.
    pub data: String,
}

impl Event {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {:?}", self.data))
    }
}

/// Takes a whole body apart as the standard says; an unfinished last event fails the test.
pub fn parse(body: &[u8]) -> Vec<Event> {
    let text = std::str::from_utf8(body).expect("a stream of events is UTF-8").replace("\r\n", "\n");
    let mut events = Vec::new();
    let (mut name, mut data) = (None, Vec::new());
    assert!(text.is_empty() || text.ends_with("\n\n"), "the last event is not finished: {text:?}");
    for line in text.split('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                events.push(Event { name: name.take(), data: data.join("\n") });
            }
            name = None;
            data = Vec::new();
        } else if let Some(value) = line.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value).to_owned());
        } else if let Some(value) = line.strip_prefix("event:") {
            name = Some(value.trim().to_owned());
        } else {
            assert!(line.starts_with(':'), "line {line:?}");
        }
    }
    events
}

/// Fails unless a chat stream ends with an error event in the contract's shape and then `[DONE]`; gives the
/// error's message.
pub fn assert_ends_with_error(body: &[u8]) -> String {
    let events = parse(body);
    let count = events.len();
    assert!(count >= 2, "no error event: {:?}", String::from_utf8_lossy(body));
    assert_eq!(events[count - 1].data, "[DONE]", "{:?}", String::from_utf8_lossy(body));
    let error = events[count - 2].json();
    let message = error["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(!message.is_empty(), "no error.message in {error}");
    for event in &events[..count - 2] {
        assert!(event.json()["error"].is_null(), "more than one error: {event:?}");
    }
    message
}
