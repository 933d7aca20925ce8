//! What the fuzz targets try: every parser and translator that takes bytes of a provider, and those that take a
//! caller's. Nothing may panic, and what is said of one input may not depend on how it was cut.

#![allow(dead_code, unused_imports, missing_docs, reason = "the modules are parts of a larger whole")]

#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/domain/mod.rs"]
mod domain;
#[path = "../../src/http/mod.rs"]
mod http;
#[path = "../../src/id.rs"]
mod id;
#[path = "../../src/metrics.rs"]
mod metrics;
#[path = "../../src/net/mod.rs"]
mod net;
#[path = "../../src/secret.rs"]
mod secret;
#[path = "../../src/translate/mod.rs"]
mod translate;
#[path = "../../src/wire/mod.rs"]
mod wire;

use translate::{Back, Front, Identity, ReplyContext, Target, Translation, capability};

const IDENTITY: Identity<'_> =
    Identity { unique: "0000000000", model: "account/model", created_s: 1_700_000_000 };
const MAX_EVENT_BYTES: usize = 64 * 1024;

fn front(choice: u8) -> Front {
    [Front::Chat, Front::Messages, Front::Responses][usize::from(choice) % 3]
}

fn back(choice: u8) -> Back {
    [Back::OpenAi, Back::Anthropic, Back::Converse, Back::Gemini][usize::from(choice / 3) % 4]
}

fn context(choice: u8) -> ReplyContext {
    let json_tool = (choice >= 128).then(|| "answer".to_owned());
    ReplyContext { json_tool, ..ReplyContext::default() }
}

/// A provider's stream to a caller: two bytes of choice, then the stream.
pub fn provider_stream(data: &[u8]) {
    let [choice, step, bytes @ ..] = data else { return };
    let run = |step: usize| {
        let (front, back) = (front(*choice), back(*choice));
        let mut translation =
            Translation::new(front, back, &IDENTITY, true, context(*choice), MAX_EVENT_BYTES);
        let mut out = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            translation.push(piece, &mut out);
        }
        translation.body_ended(&mut out);
        let said = (translation.is_finished(), translation.has_errored(), translation.first_error().cloned());
        (out, said)
    };
    let whole = run(usize::MAX);
    assert!(std::str::from_utf8(&whole.0).is_ok(), "not UTF-8");
    assert!(run(usize::from(*step % 7) + 1) == whole, "cutting changes what is said");
}

/// A provider's whole answer and its error: a byte of choice, then the body.
pub fn provider_answer(data: &[u8]) {
    let [choice, bytes @ ..] = data else { return };
    let (front, back) = (front(*choice), back(*choice));
    if let Ok(answer) = back.read(bytes, &context(*choice)) {
        let written = front.write(&answer, &IDENTITY);
        assert!(serde_json::from_slice::<serde_json::Value>(&written).is_ok(), "not JSON");
    }
    let status = 400 + u16::from(*choice);
    let error = back.error(status, &|_| None, bytes);
    assert!((400..=599).contains(&error.status), "status {}", error.status);
    assert!(serde_json::from_slice::<serde_json::Value>(&front.error(&error)).is_ok(), "not JSON");
}

/// A provider's bytes before any protocol: heads, chunks, events, binary messages, usage.
pub fn provider_bytes(data: &[u8]) {
    let _ = http::head_end(data, 0);
    let _ = http::ResponseHead::parse(data);
    let mut decoder = http::ChunkedDecoder::default();
    let mut at = 0;
    while let Ok(piece) = decoder.next(data.get(at..).unwrap_or_default()) {
        match piece {
            http::Piece::Data(range) => at += range.end,
            http::Piece::NeedMore(_) | http::Piece::End(_) => break,
        }
    }
    for kind in [wire::events::Kind::Chat, wire::events::Kind::Responses, wire::events::Kind::Messages] {
        let mut reader = wire::events::EventReader::new(kind, true);
        let mut splitter = http::sse::EventSplitter::new(256);
        for piece in data.chunks(100) {
            splitter.push(piece);
            while let Some(event) = splitter.next() {
                match event {
                    http::sse::Event::Whole(range) => {
                        reader.read(splitter.bytes(&range));
                    }
                    http::sse::Event::Fragment { range, last } => {
                        reader.read_fragment(splitter.bytes(&range), last);
                    }
                }
            }
        }
        reader.body_ended();
        let _ = (reader.outcome(), reader.take_tokens(), reader.first_error());
    }
    let mut scanner = wire::usage::MemberScanner::new("usage", 1024);
    data.chunks(7).for_each(|piece| scanner.feed(piece));
    let _ = scanner.value().map(wire::usage::parse);
    let _ = wire::usage::parse(data);
}

/// A caller's request to each provider: a byte of choice, then the body.
pub fn caller_request(data: &[u8]) {
    let [choice, bytes @ ..] = data else { return };
    let _ = wire::request::inspect(bytes);
    let Ok(conversation) = front(*choice).read(bytes) else { return };
    for (back, provider, protocol, model_id) in [
        (Back::OpenAi, "groq", "openai", "llama"),
        (Back::Anthropic, "anthropic", "anthropic", "claude-sonnet-4-5"),
        (Back::Converse, "aws-bedrock", "converse", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
        (Back::Gemini, "google-gemini", "gemini", "gemini-2.5-flash"),
    ] {
        let capability = capability::of(protocol, model_id, None);
        let target =
            Target { provider, model_id, capability: &capability, drop_unsupported: *choice >= 128 };
        if let Ok(built) = back.build(&conversation, &target) {
            assert!(serde_json::from_slice::<serde_json::Value>(&built.body).is_ok(), "not JSON");
        }
    }
}
