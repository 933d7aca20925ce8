//! Requests, answers, streams and errors: a table of pairs, recordings, and what a hostile peer would send.

mod answers;
mod hostile;
mod recordings;
mod requests;
mod streams;

use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::http::sse::{self, EventSplitter};
use crate::translate::conversation::{Conversation, Part, Role, Tool, ToolCall, ToolResult, Turn};
use crate::translate::{Built, Invalid, ReplyContext, Target, capability};

fn target(model_id: &str, drop_unsupported: bool) -> Target<'_> {
    Target {
        provider: "anthropic",
        model_id,
        capability: capability::of("anthropic", model_id, None),
        drop_unsupported,
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
    Part::ToolCall(ToolCall { id, name, arguments, signature: None, cache: None })
}

fn result(call_id: &str, text_of_it: &str) -> Part {
    let parts = if text_of_it.is_empty() { Vec::new() } else { vec![text(text_of_it)] };
    Part::ToolResult(ToolResult { call_id: call_id.to_owned(), parts, is_error: false, cache: None })
}

fn tool(name: &str, parameters: Option<&str>) -> Tool {
    let (description, strict, cache) = (Some("d".to_owned()), None, None);
    Tool { name: name.to_owned(), description, parameters: parameters.map(raw), strict, cache }
}

fn said(turns: Vec<(Role, Vec<Part>)>) -> Conversation {
    let turns = turns
        .into_iter()
        .enumerate()
        .map(|(number, (role, parts))| Turn { role, parts, place: format!("messages[{number}]") })
        .collect();
    Conversation { turns, ..Conversation::default() }
}

fn hello() -> Conversation {
    said(vec![(Role::User, vec![text("hello")])])
}

fn body(built: &Built) -> Value {
    serde_json::from_slice(&built.body).unwrap()
}

fn build_for(model_id: &str, conversation: &Conversation) -> Result<Value, Invalid> {
    build(conversation, &target(model_id, false)).map(|built| body(&built))
}

/// The events that a reader makes of pieces of a body, as text; `|end` when the body has ended.
fn events(context: &ReplyContext, pieces: &[&[u8]]) -> Vec<String> {
    let mut splitter = EventSplitter::new(1 << 20);
    let mut reader = StreamReader::new(context.clone());
    let mut all = Vec::new();
    let mut sink = |event: crate::translate::Event<'_>| all.push(format!("{event:?}"));
    for piece in pieces {
        splitter.push(piece);
        while let Some(event) = splitter.next() {
            if let sse::Event::Whole(range) = event {
                reader.read(splitter.bytes(&range), &mut sink);
            }
        }
    }
    // Recordings may lack the last empty line; the relay hands such an event over as well.
    if !splitter.rest().is_empty() {
        reader.read(splitter.rest(), &mut sink);
    }
    reader.end(&mut sink);
    all
}

/// The events of a body, checked to be the same wherever it is cut and however its lines end.
fn events_of(context: &ReplyContext, body: &str) -> Vec<String> {
    let whole = events(context, &[body.as_bytes()]);
    let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
    assert_eq!(events(context, &bytes), whole, "byte by byte");
    if body.len() < 1_500 {
        for at in 0..body.len() {
            let (a, b) = body.as_bytes().split_at(at);
            assert_eq!(events(context, &[a, b]), whole, "cut at {at}");
        }
    }
    let unix = body.replace("\r\n", "\n");
    for ending in ["\n", "\r\n", "\r"] {
        let other = unix.replace('\n', ending);
        assert_eq!(events(context, &[other.as_bytes()]), whole, "lines end with {ending:?}");
    }
    whole
}

/// A stream of these events, as Anthropic frames them.
fn framed(events: &[&str]) -> String {
    let name = |data: &str| {
        let event: Value = serde_json::from_str(data).unwrap();
        event["type"].as_str().unwrap().to_owned()
    };
    events.iter().map(|data| format!("event: {}\ndata: {data}\n\n", name(data))).collect()
}
