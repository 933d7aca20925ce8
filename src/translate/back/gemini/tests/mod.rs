//! What Google is told and what is understood of it, by fixtures of our own, by recordings, and by hostile input.

mod answer;
mod embedding;
mod hostile;
mod recordings;
mod request;
mod schema;
mod stream;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::http::sse::{self, EventSplitter};
use crate::translate::conversation::{Conversation, Part, Role, ToolCall, ToolResult, Turn};
use crate::translate::{Capability, Event, Invalid, ReplyContext, Target, capability};

pub const GEMINI: &str = "google-gemini";
pub const VERTEX: &str = "google-vertex";

pub fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

pub fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

pub fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), ..ToolCall::default() }
}

pub fn result(call_id: &str, said: &str) -> Part {
    Part::ToolResult(ToolResult { call_id: call_id.into(), parts: vec![text(said)], ..ToolResult::default() })
}

pub fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, parts, place: "messages[7]".to_owned() }
}

pub fn says(said: &str) -> Conversation {
    Conversation { turns: vec![turn(Role::User, vec![text(said)])], ..Conversation::default() }
}

/// The capability of a model of that name.
pub fn of(model_id: &str) -> Capability {
    capability::of("gemini", model_id, None).clone()
}

pub fn build_for(
    provider: &'static str,
    model_id: &str,
    drop_unsupported: bool,
    conversation: &Conversation,
) -> Result<(Value, Vec<String>, ReplyContext), Invalid> {
    let capability = of(model_id);
    let target = Target { provider, model_id, capability: &capability, drop_unsupported };
    let built = super::build(conversation, &target)?;
    Ok((serde_json::from_slice(&built.body).unwrap(), built.dropped, built.context))
}

pub fn built(conversation: &Conversation) -> Value {
    build_for(GEMINI, "gemini-2.5-flash", false, conversation).unwrap().0
}

pub fn refused(conversation: &Conversation) -> Invalid {
    build_for(GEMINI, "gemini-2.5-flash", false, conversation).unwrap_err()
}

/// What a stream says when its bytes arrive in pieces of this size.
pub fn events(stream: &[u8], step: usize, context: ReplyContext) -> Vec<Event<'static>> {
    let mut reader = super::StreamReader::new(context);
    let mut splitter = EventSplitter::new(8 * 1024 * 1024);
    let mut seen = Vec::new();
    let mut sink = |event: Event<'_>| seen.push(owned(event));
    for piece in stream.chunks(step.max(1)) {
        splitter.push(piece);
        while let Some(event) = splitter.next() {
            match event {
                sse::Event::Whole(range) => reader.read(splitter.bytes(&range), &mut sink),
                sse::Event::Fragment { .. } => panic!("an event of 8 MiB in a test"),
            }
        }
    }
    reader.rest(splitter.rest(), &mut sink);
    reader.end(&mut sink);
    seen
}

pub fn owned(event: Event<'_>) -> Event<'static> {
    use std::borrow::Cow;
    fn own(text: Cow<'_, str>) -> Cow<'static, str> {
        Cow::Owned(text.into_owned())
    }
    match event {
        Event::Start { id, model, tokens } => Event::Start { id: id.map(own), model: model.map(own), tokens },
        Event::Text { choice, text, logprobs } => {
            Event::Text { choice, text: own(text), logprobs: logprobs.map(own) }
        }
        Event::Refusal { choice, text } => Event::Refusal { choice, text: own(text) },
        Event::Thinking { choice, text } => Event::Thinking { choice, text: own(text) },
        Event::ThinkingSignature { choice, signature } => {
            Event::ThinkingSignature { choice, signature: own(signature) }
        }
        Event::RedactedThinking { choice, data } => Event::RedactedThinking { choice, data: own(data) },
        Event::ToolStart { choice, index, id, name, signature } => {
            Event::ToolStart { choice, index, id: own(id), name: own(name), signature: signature.map(own) }
        }
        Event::ToolArguments { choice, index, fragment } => {
            Event::ToolArguments { choice, index, fragment: own(fragment) }
        }
        Event::ToolEnd { choice, index } => Event::ToolEnd { choice, index },
        Event::Finish { choice, finish } => Event::Finish { choice, finish },
        Event::Tokens(tokens) => Event::Tokens(tokens),
        Event::Ping => Event::Ping,
        Event::End => Event::End,
        Event::Error(error) => Event::Error(error),
    }
}

/// A short form of events that can be read in a test.
pub fn told(events: &[Event<'_>]) -> Vec<String> {
    let line = |event: &Event<'_>| match event {
        Event::Start { id, model, .. } => {
            format!("start {} {}", id.as_deref().unwrap_or("-"), model.as_deref().unwrap_or("-"))
        }
        Event::Text { choice, text, .. } => format!("{choice} text {text}"),
        Event::Refusal { choice, text } => format!("{choice} refusal {text}"),
        Event::Thinking { choice, text } => format!("{choice} thinking {text}"),
        Event::ThinkingSignature { choice, signature } => format!("{choice} signature {signature}"),
        Event::RedactedThinking { choice, data } => format!("{choice} redacted {data}"),
        Event::ToolStart { choice, index, name, signature, .. } => {
            format!("{choice} call {index} {name} {}", signature.as_deref().unwrap_or("-"))
        }
        Event::ToolArguments { choice, index, fragment } => format!("{choice} arguments {index} {fragment}"),
        Event::ToolEnd { choice, index } => format!("{choice} called {index}"),
        Event::Finish { choice, finish } => {
            format!("{choice} finish {:?} {}", finish.reason, finish.native.as_deref().unwrap_or("-"))
        }
        Event::Tokens(tokens) => format!("tokens {} {}", tokens.input(), tokens.output),
        Event::Ping => "ping".to_owned(),
        Event::End => "end".to_owned(),
        Event::Error(error) => format!("error {} {}", error.status, error.code.as_deref().unwrap_or("-")),
    };
    events.iter().map(line).collect()
}
