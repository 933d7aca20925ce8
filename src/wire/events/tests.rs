//! Events of every kind, whole, hostile and in pieces.

use serde_json::json;

use super::*;

const OUTPUT: Verdict = Verdict::Pass { is_output: true };
const PASS: Verdict = Verdict::Pass { is_output: false };

#[test]
fn a_chat_stream() {
    let mut reader = EventReader::new(Kind::Chat, true);
    assert_eq!(reader.read(b": hello\n\n"), PASS);
    assert!(!reader.has_begun());
    assert_eq!(reader.read(br#"data: {"choices":[{"index":0,"delta":{"content":"say \"usage\":{ and \"finish_reason\":\"x"}}],"usage":null}"#), OUTPUT);
    assert!(reader.has_begun() && !reader.is_finished());
    assert_eq!(
        reader.read(br#"data: {"choices":[{"delta":{},"finish_reason": "stop"}],"usage":null}"#),
        PASS
    );
    assert!(reader.is_finished());
    assert_eq!(
        reader.read(br#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#),
        Verdict::Hide
    );
    assert_eq!(reader.take_tokens().map(|t| (t.input, t.output)), Some((3, 5)));
    assert_eq!(reader.read(b"data: [DONE]\n\n"), PASS);
    assert_eq!(reader.outcome(), Outcome::Complete);
}

#[test]
fn usage_chunks_of_every_kind() {
    for (event, hidden) in [
        (&br#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#[..], true),
        (br#"data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#, true),
        (br#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#, false),
        (br#"data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#, false),
        (br#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":5}}}"#, false),
    ] {
        let mut reader = EventReader::new(Kind::Chat, true);
        assert_eq!(reader.read(event) == Verdict::Hide, hidden, "{}", String::from_utf8_lossy(event));
        assert_eq!(reader.take_tokens().map(|t| (t.input, t.output)), Some((3, 5)));
        assert_ne!(EventReader::new(Kind::Chat, false).read(event), Verdict::Hide);
    }
}

#[test]
fn errors_first_and_later() {
    for (event, status) in [
        (&br#"data: {"error":{"message":"x","code":429}}"#[..], 429),
        (br#"data: {"error":{"message":"x","code":"503"}}"#, 503),
        (br#"data: {"error":{"message":"x","code":"rate_limit"}}"#, 502),
        (br#"error: {"code":400,"message":"x"}"#, 400),
    ] {
        let mut reader = EventReader::new(Kind::Chat, true);
        reader.read(event);
        assert_eq!(reader.first_error().unwrap().status, status, "{}", String::from_utf8_lossy(event));
    }
    let mut reader = EventReader::new(Kind::Chat, true);
    reader.read(br#"data: {"choices":[{"delta":{"role":"assistant"}}],"error":null}"#);
    reader.read(br#"data: {"error":{"message":"x"}}"#);
    assert_eq!(
        (reader.first_error(), reader.outcome(), reader.is_finished()),
        (None, Outcome::ProviderError, true)
    );
}

#[test]
fn giant_events_are_read_by_their_ends() {
    let event = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"output\":\"{}\",\"usage\":{{\"input_tokens\":22,\"output_tokens\":7}},\"user\":null}}}}\n\n",
        "\\\"usage\\\":{".repeat(50_000)
    );
    for step in [1_000, 100_000, 10_000_000] {
        let mut reader = EventReader::new(Kind::Responses, false);
        let pieces: Vec<_> = event.as_bytes().chunks(step).collect();
        for (n, piece) in pieces.iter().enumerate() {
            assert!(!reader.is_finished());
            reader.read_fragment(piece, n + 1 == pieces.len());
        }
        assert_eq!(reader.take_tokens().map(|t| (t.input, t.output)), Some((22, 7)), "{step}");
        assert_eq!((reader.is_finished(), reader.outcome()), (true, Outcome::Complete));
    }
}

#[test]
fn a_responses_stream() {
    let mut reader = EventReader::new(Kind::Responses, false);
    reader.read(b"event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"error\":null,\"usage\":null}}\n\n");
    reader.read(b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":7,\"delta\":\"x\"}\n\n");
    assert!(!reader.is_finished());
    let failed = String::from_utf8(reader.error_event("m", &json!({}))).unwrap();
    assert!(failed.contains("\"sequence_number\":8") && failed.contains("resp_1"), "{failed}");
    reader.read(b"data: {\"type\":\"response.completed\",\"sequence_number\":8,\"response\":{\"id\":\"resp_1\",\"error\":null,\"usage\":{\"input_tokens\":4,\"output_tokens\":2}}}\n\n");
    assert_eq!(reader.take_tokens().map(|t| (t.input, t.output)), Some((4, 2)));
    assert_eq!((reader.is_finished(), reader.outcome()), (true, Outcome::Complete));
}

#[test]
fn a_messages_stream() {
    let mut reader = EventReader::new(Kind::Messages, true);
    assert_eq!(reader.read(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"), PASS);
    assert!(!reader.has_begun());
    reader.read(br#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":3,"output_tokens":1}}}

"#);
    assert!(reader.has_begun() && !reader.is_finished());
    let early = reader.take_tokens().unwrap();
    assert_eq!((early.input, early.cached, early.output), (18, 3, 1));
    assert_eq!(early.origin, crate::domain::TokenOrigin::Estimated);
    // A text may say what it wants.
    let piece = br#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\"type\":\"message_stop\" \"error\""}}"#;
    for _ in 0..3 {
        assert_eq!(reader.read(piece), OUTPUT);
    }
    assert_eq!(reader.take_tokens().map(|t| (t.input, t.output)), Some((18, 3)));
    assert_eq!(reader.read(b"event: of_next_year\ndata: {\"type\":\"of_next_year\"}\n\n"), PASS);
    let broken = String::from_utf8(reader.error_event("m", &json!({}))).unwrap();
    assert_eq!(
        broken,
        "event: error\ndata: {\"error\":{\"message\":\"m\",\"type\":\"api_error\"},\"type\":\"error\"}\n\n"
    );
    reader.read(br#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7,"output_tokens_details":{"thinking_tokens":2}}}"#);
    assert!(!reader.is_finished());
    let tokens = reader.take_tokens().unwrap();
    assert_eq!((tokens.input, tokens.cached, tokens.output, tokens.reasoning), (18, 3, 7, 2));
    assert_eq!(tokens.origin, crate::domain::TokenOrigin::Reported);
    reader.read(br#"data: {"type":"message_stop"           }"#);
    assert!(reader.is_finished() && reader.has_said_all() && reader.missing_end().is_empty());
    assert_eq!((reader.outcome(), reader.take_tokens()), (Outcome::Complete, None));
}

#[test]
fn messages_streams_that_go_wrong() {
    for (event, status) in [
        (
            &br#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#[..],
            503,
        ),
        (br#"data: {"error":{"type":"rate_limit_error"},"type":"error"}"#, 429),
        (br#"data: {"type":"error","error":{"type":"of_next_year"}}"#, 502),
        (b"event: error\ndata: <html>", 502),
        (b"event: error\ndata: {\"error\":3}", 502),
    ] {
        let mut reader = EventReader::new(Kind::Messages, false);
        reader.read(b": comment\n\n");
        reader.read(b"event: ping\ndata: {}\n\n");
        reader.read(event);
        let error = reader.first_error().unwrap();
        assert_eq!(error.status, status, "{}", String::from_utf8_lossy(event));
        let body: serde_json::Value = serde_json::from_slice(&error.body).unwrap();
        assert_eq!(body["type"], "error");
    }
    let mut reader = EventReader::new(Kind::Messages, false);
    reader.read(br#"data: {"type":"message_start","message":{"usage":null}}"#);
    reader.read(br#"data: {"type":"error","error":{"type":"overloaded_error"}}"#);
    let seen = (reader.first_error(), reader.outcome(), reader.is_finished());
    assert_eq!(seen, (None, Outcome::ProviderError, true));
    // Nothing but the end mark ends it.
    let mut reader = EventReader::new(Kind::Messages, false);
    for event in [
        &b"data: [DONE]"[..],
        b"data: {",
        b"data: \xff",
        b"data: [[[",
        br#"data: {"type":"message_delta","usage":[]}"#,
    ] {
        reader.read(event);
    }
    reader.read_fragment(b"data: {\"type\":\"message_stop\"", false);
    reader.read_fragment(b"}\n\n", true);
    reader.body_ended();
    assert!(!reader.is_finished() && reader.take_tokens().is_none());
}
