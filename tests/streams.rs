//! Streams of server-sent events: timing, splitting, usage, broken ends, and recorded traffic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails loudly and may block its own thread"
)]

mod support;

use serde_json::{Value, json};

use support::client::{assert_same_bytes, find};
use support::sse::{ASK_USAGE, DONE, FINISH, USAGE, assert_ends_with_error, parse, text};
use support::vectors::{self, Vector};
use support::{Client, Fixture, Provider, announce, chat};

/// A provider that streams the same bytes to every request.
fn streaming(body: impl Into<Vec<u8>>) -> Fixture {
    let body = body.into();
    Fixture::new(move |_, answer| answer.sse(&body))
}

/// The whole body that a caller gets; it must end properly.
fn stream(fixture: &Fixture, more: &str) -> Vec<u8> {
    let (mut client, head) = fixture.open_stream(more);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type").map(|v| v.starts_with("text/event-stream")), Some(true));
    let (body, complete) = client.read_rest();
    assert!(complete, "the body is cut: {:?}", String::from_utf8_lossy(&body));
    body
}

#[test]
fn a_chunk_leaves_before_the_next_one_comes() {
    for more in ["", ASK_USAGE] {
        let fixture = Fixture::new(|_, answer| {
            answer.sse_head();
            for number in 0..30 {
                answer.chunk(text(&format!("piece-{number}.")));
                if !answer.wait("seen") {
                    return;
                }
            }
            answer.chunk(FINISH);
            answer.wait("seen");
            answer.chunk(USAGE);
            answer.chunk(DONE);
            answer.last_chunk();
        });
        let (mut client, head) = fixture.open_stream(more);
        assert_eq!(head.status, 200);
        for number in 0..30 {
            client.read_until(&format!("piece-{number}."));
            fixture.provider.signal("seen");
        }
        client.read_until("\"stop\"");
        fixture.provider.signal("seen");
        let (rest, complete) = client.read_rest();
        assert!(complete && find(&rest, b"[DONE]").is_some());
    }
}

#[test]
fn chunks_of_other_bodies_leave_at_once_too() {
    let fixture = Fixture::new(|_, answer| {
        answer.send("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n");
        for number in 0..10 {
            answer.chunk(format!("frame-{number}."));
            if !answer.wait("seen") {
                return;
            }
        }
        answer.last_chunk();
    });
    let mut client = fixture.connect();
    client.send_post("/v1/audio/speech", &fixture.token, chat("main/m", "").as_bytes());
    assert_eq!(client.read_head().header("content-type"), Some("audio/mpeg"));
    for number in 0..10 {
        client.read_until(&format!("frame-{number}."));
        fixture.provider.signal("seen");
    }
    assert_eq!(client.read_rest(), (Vec::new(), true));
}

#[test]
fn a_stream_split_at_every_byte_arrives_the_same() {
    let whole = [
        ": a comment first\n\n",
        &text("caf\u{e9} \u{1f600} \u{4e2d}"),
        "event: x\r\ndata: {\"a\":\r\ndata: \"crlf\"}\r\n\r\n",
        ": ping\n",
        "data:{\"no\":\"space\"}\n\n",
        FINISH,
        USAGE,
        DONE,
    ]
    .concat();
    let bytes = whole.clone().into_bytes();
    let count = bytes.len();
    let fixture = Fixture::new(move |request, answer| {
        let at: usize = request.json()["seed"].as_u64().unwrap().try_into().unwrap();
        answer.sse_head();
        if at == 0 {
            for byte in &bytes {
                answer.chunk([*byte]);
            }
        } else {
            answer.chunk(&bytes[..at]);
            answer.chunk(&bytes[at..]);
        }
        answer.last_chunk();
    });
    let hidden = whole.replace(USAGE, "");
    for (more, wanted) in [(ASK_USAGE, &whole), ("", &hidden)] {
        for at in 0..count {
            let body = stream(&fixture, &format!("{more},\"seed\":{at}"));
            assert_same_bytes(&format!("split at {at} of {count}"), wanted.as_bytes(), &body);
        }
    }
}

#[test]
fn comments_crlf_and_unknown_events_pass() {
    for whole in [
        [": OPENROUTER PROCESSING\n\n".repeat(40), text("a"), FINISH.into(), USAGE.into(), DONE.into()].concat(),
        [text("a"), FINISH.into(), USAGE.into(), DONE.into()].concat().replace('\n', "\r\n"),
        [text("a").replace('\n', "\r\n"), FINISH.into(), USAGE.replace('\n', "\r\n"), DONE.into()].concat(),
        // Chunks of Azure: no choices, an empty id, a choice without delta.
        [
            "data: {\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"finish_reason\":null,\"content_filter_results\":{}}]}\n\n",
            &text("a"),
            "event: something.new\ndata: {\"type\":\"something.new\"}\n\n",
            FINISH,
            USAGE,
            DONE,
        ]
        .concat(),
    ] {
        let fixture = streaming(whole.clone());
        assert_same_bytes("asked", whole.as_bytes(), &stream(&fixture, ASK_USAGE));
        let hidden = whole.replace(USAGE, "").replace(&USAGE.replace('\n', "\r\n"), "");
        assert_same_bytes("not asked", hidden.as_bytes(), &stream(&fixture, ""));
    }
}

#[test]
fn a_giant_event_passes() {
    let giant = text(&"\u{e9}x\\n".repeat(500_000));
    assert!(giant.len() > 2 << 20);
    let whole = [giant, text("after"), FINISH.into(), USAGE.into(), DONE.into()].concat();
    let fixture = streaming(whole.clone());
    assert_same_bytes("asked", whole.as_bytes(), &stream(&fixture, ASK_USAGE));
    assert_same_bytes("not asked", whole.replace(USAGE, "").as_bytes(), &stream(&fixture, ""));
}

/// Whether `got` is `original` with one run of bytes put in.
fn is_one_insertion(original: &[u8], got: &[u8]) -> bool {
    let front = original.iter().zip(got).take_while(|(a, b)| a == b).count();
    let back = original.iter().rev().zip(got.iter().rev()).take_while(|(a, b)| a == b).count();
    got.len() > original.len() && front + back >= original.len()
}

#[test]
fn usage_is_asked_for_and_kept_from_those_who_did_not_ask() {
    let whole = [text("a"), FINISH.into(), USAGE.into(), DONE.into()].concat();
    let fixture = streaming(whole.clone());
    let mut calls = 0;
    for (more, asked) in [
        ("", false),
        (",\"stream_options\":null", false),
        (",\"stream_options\":{}", false),
        (",\"stream_options\":{\"include_usage\":false}", false),
        (",\"stream_options\":{\"include_obfuscation\":false}", false),
        (ASK_USAGE, true),
        (",\"stream_options\" : { \"include_obfuscation\" : true , \"include_usage\" : true }", true),
    ] {
        let body = stream(&fixture, more);
        let wanted = if asked { whole.clone() } else { whole.replace(USAGE, "") };
        assert_same_bytes(more, wanted.as_bytes(), &body);
        let got = fixture.provider.wait_for_request(calls);
        calls += 1;
        assert_eq!(got.json()["stream_options"]["include_usage"], true, "{}", got.text());
        let sent = chat("up-model", &format!(",\"stream\":true{more}"));
        if asked {
            assert_same_bytes("nothing to add", sent.as_bytes(), &got.body);
        } else if !more.contains("stream_options") || more.contains("{}") || more.contains("obfuscation") {
            assert!(is_one_insertion(sent.as_bytes(), &got.body), "{sent}\n{}", got.text());
        }
        if more.contains("obfuscation") {
            assert!(got.json()["stream_options"]["include_obfuscation"].is_boolean());
        }
    }
    // Completions take it as well; the others do not know it, and plain calls do not want it.
    for (path, more, wanted) in [
        ("/v1/completions", ",\"stream\":true", true),
        ("/v1/responses", ",\"stream\":true", false),
        ("/v1/chat/completions", "", false),
        ("/v1/chat/completions", ",\"stream\":false", false),
        ("/v1/embeddings", "", false),
    ] {
        fixture.post(path, &chat("main/m", more));
        let got = fixture.provider.wait_for_request(calls);
        calls += 1;
        assert_eq!(got.json()["stream_options"].is_object(), wanted, "{path} {more}: {}", got.text());
    }
    // Hidden or shown, it is counted.
    let rows = fixture.gateway.wait_for_usage("user", calls as u64);
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["inputTokens"].as_u64() >= Some(7 * 8), "{rows:?}");
}

#[test]
fn usage_that_stands_in_other_chunks_is_not_taken_away() {
    let last = FINISH.replace(
        "\"stop\"}]}",
        "\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}",
    );
    let with_null = text("a").replace("}]}", "}],\"usage\":null}");
    let whole = [with_null, last, DONE.into()].concat();
    let fixture = streaming(whole.clone());
    assert_same_bytes("not asked", whole.as_bytes(), &stream(&fixture, ""));
    assert_same_bytes("asked", whole.as_bytes(), &stream(&fixture, ASK_USAGE));
    let rows = fixture.gateway.wait_for_usage("user", 2);
    assert_eq!((&rows[0]["inputTokens"], &rows[0]["outputTokens"]), (&json!(6), &json!(8)), "{rows:?}");
}

#[test]
fn a_provider_that_refuses_stream_options_is_asked_again_without() {
    let whole = [text("a"), FINISH.into(), DONE.into()].concat();
    let answer_body = whole.clone();
    let fixture = Fixture::new(move |request, answer| {
        let body = request.json();
        if body["stream_options"].is_object() {
            answer.json(
                400,
                r#"{"error":{"message":"Unknown parameter: 'stream_options'.","param":"stream_options"}}"#,
            );
        } else if body["seed"] == 1 {
            answer.json(400, r#"{"error":{"message":"still no, for another reason"}}"#);
        } else {
            answer.sse(&answer_body);
        }
    });
    assert_same_bytes("second try", whole.as_bytes(), &stream(&fixture, ""));
    assert_eq!(fixture.provider.request_count(), 2);
    let again = fixture.provider.wait_for_request(1);
    assert_same_bytes("again", chat("up-model", ",\"stream\":true").as_bytes(), &again.body);
    // One call, one record.
    assert_eq!(fixture.gateway.wait_for_usage("user", 1)[0]["calls"], 1);
    // Only once.
    let (mut client, head) = fixture.open_stream(",\"seed\":1");
    assert_eq!(head.status, 400);
    assert!(String::from_utf8(client.read_rest().0).unwrap().contains("still no"));
    assert_eq!(fixture.provider.request_count(), 4);
    // The caller's own wish is the caller's own fault.
    let (mut client, head) = fixture.open_stream(ASK_USAGE);
    assert_eq!(head.status, 400);
    assert!(String::from_utf8(client.read_rest().0).unwrap().contains("Unknown parameter"));
    assert_eq!(fixture.provider.request_count(), 5);
}

#[test]
fn a_400_for_another_reason_is_not_tried_again() {
    let fixture =
        Fixture::new(|_, answer| answer.json(400, r#"{"error":{"message":"max_tokens is too large"}}"#));
    let (mut client, head) = fixture.open_stream("");
    assert_eq!(head.status, 400);
    assert_eq!(client.read_rest().0, br#"{"error":{"message":"max_tokens is too large"}}"#);
    assert_eq!(fixture.provider.request_count(), 1);
}

#[test]
fn an_error_in_the_first_event_gets_a_real_status() {
    for (name, body, statuses) in [
        (
            "data",
            "data: {\"error\":{\"message\":\"overloaded-77\",\"code\":503}}\n\ndata: [DONE]\n\n",
            &[503, 502][..],
        ),
        (
            "429",
            "data: {\"error\":{\"message\":\"overloaded-77\",\"code\":429}}\n\ndata: [DONE]\n\n",
            &[429, 502],
        ),
        (
            "comments first",
            ": wait\n\n: wait\n\ndata: {\"error\":{\"message\":\"overloaded-77\"}}\n\n",
            &[502, 500],
        ),
        ("event name", "event: error\ndata: {\"error\":{\"message\":\"overloaded-77\"}}\n\n", &[502, 500]),
        (
            "field name of llama.cpp",
            "error: {\"code\":500,\"message\":\"overloaded-77\",\"type\":\"server_error\"}\n\n",
            &[502, 500],
        ),
        (
            "code is a string",
            "data: {\"error\":{\"message\":\"overloaded-77\",\"code\":\"engine_overloaded\"}}\n\n",
            &[502, 500, 503],
        ),
        (
            "no wrapper",
            "data: {\"object\":\"error\",\"message\":\"overloaded-77\",\"code\":500}\n\n",
            &[502, 500],
        ),
    ] {
        let fixture = streaming(body);
        let (mut client, head) = fixture.open_stream("");
        let (answer, complete) = client.read_rest();
        let answer = String::from_utf8(answer).unwrap();
        assert!(statuses.contains(&head.status), "{name}: {} {answer}", head.status);
        assert!(complete);
        assert_eq!(
            head.header("content-type").map(|v| v.starts_with("application/json")),
            Some(true),
            "{name}"
        );
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("overloaded-77"), "{name}: {answer}");
        fixture.wait_for_outcome("provider-error", 1);
    }
}

#[test]
fn an_error_in_a_later_event_passes() {
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n";
    for end in [DONE, ""] {
        let whole = [text("a"), error.into(), end.into()].concat();
        let fixture = streaming(whole.clone());
        let body = stream(&fixture, "");
        assert!(
            body.starts_with([text("a"), error.into()].concat().as_bytes()),
            "{:?}",
            String::from_utf8_lossy(&body)
        );
        assert_eq!(assert_ends_with_error(&body), "out of memory");
    }
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_event() {
    // What comes before the end, and whether the body ends properly.
    for (name, sent, clean) in [
        ("cut after an event", text("a"), false),
        ("ended after an event", text("a"), true),
        ("cut inside an event", text("a") + "data: {\"id\":\"c1\",\"choi", false),
        ("ended inside an event", text("a") + "data: {\"id\":\"c1\",\"choi", true),
        ("cut inside a character", text("a"), false),
        ("cut after a line", text("a") + "data: {\"id\":\"c1\"}\n", false),
        ("ended after a role only", text(""), true),
    ] {
        let mut bytes = sent.clone().into_bytes();
        if name.contains("character") {
            bytes.extend_from_slice(b"data: {\"x\":\"caf\xc3");
        }
        let fixture = Fixture::new(move |_, answer| {
            answer.sse_head();
            answer.chunk(&bytes);
            if clean {
                answer.last_chunk();
            } else {
                answer.close();
            }
        });
        for more in ["", ASK_USAGE] {
            let body = stream(&fixture, more);
            assert!(
                body.starts_with(text(if name.contains("role") { "" } else { "a" }).as_bytes()),
                "{name}"
            );
            let message = assert_ends_with_error(&body);
            assert!(message.contains("'main'"), "{name}: {message}");
            assert!(!message.contains(&fixture.provider.host_port()));
        }
        fixture.wait_for_outcome("provider-failed", 2);
    }
}

#[test]
fn a_stream_with_a_finish_reason_is_complete_without_done() {
    let whole = text("a") + FINISH;
    let fixture = streaming(whole.clone());
    let body = stream(&fixture, "");
    let rest = body.strip_prefix(whole.as_bytes()).expect("the provider's events");
    assert!(rest.is_empty() || rest == DONE.as_bytes(), "{:?}", String::from_utf8_lossy(rest));
    fixture.wait_for_outcome("complete", 1);
}

#[test]
fn a_last_event_without_its_empty_line_is_finished() {
    for end in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r\n"] {
        let fixture = streaming(text("a") + FINISH + end);
        let body = stream(&fixture, "");
        assert_same_bytes(end, (text("a") + FINISH).as_bytes(), &body[..text("a").len() + FINISH.len()]);
        assert_eq!(parse(&body).last().unwrap().data, "[DONE]", "{end:?}");
        fixture.wait_for_outcome("complete", 1);
    }
}

#[test]
fn a_responses_stream_passes_and_a_broken_one_fails_in_its_own_dialect() {
    let events = |last: &str| {
        [
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\"}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"hi\"}\n\n",
            last,
        ]
        .concat()
    };
    let completed = events(
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"usage\":{\"input_tokens\":11,\"output_tokens\":13,\"total_tokens\":24}}}\n\n",
    );
    let fixture = streaming(completed.clone());
    let request = chat("main/m", ",\"stream\":true");
    let response = fixture.post("/v1/responses", &request);
    assert_same_bytes("whole", completed.as_bytes(), &response.body);
    let rows = fixture.gateway.wait_for_usage("user", 1);
    assert_eq!((&rows[0]["inputTokens"], &rows[0]["outputTokens"]), (&json!(11), &json!(13)), "{rows:?}");

    let broken = streaming(events(""));
    let response = broken.post("/v1/responses", &request);
    assert!(response.complete && response.body.starts_with(events("").as_bytes()));
    let last = parse(&response.body).pop().unwrap();
    let data = last.json();
    let kind = data["type"].as_str().unwrap().to_owned();
    assert!(kind == "error" || kind == "response.failed", "{data}");
    assert_eq!(last.name.as_deref(), Some(&*kind));
    assert!(data.to_string().contains("'main'"), "{data}");
    broken.wait_for_outcome("provider-failed", 1);
}

#[test]
fn a_silent_stream_is_ended_by_its_limits() {
    for config in ["relay.idle_timeout_ms = 300\n", "relay.total_timeout_ms = 600\n"] {
        let fixture = Fixture::with_config(config, |_, answer| {
            answer.sse_head();
            answer.chunk(text("a"));
            answer.hold();
        });
        let body = stream(&fixture, "");
        assert!(assert_ends_with_error(&body).contains("'main'"));
        fixture.wait_for_outcome("provider-failed", 1);
    }
}

#[test]
fn a_stream_request_answered_with_plain_json_passes() {
    let fixture = Fixture::on(Provider::answering(support::CHAT_ANSWER), "");
    let (mut client, head) = fixture.open_stream("");
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    assert_eq!(client.read_rest().0, support::CHAT_ANSWER.as_bytes());
    let rows = fixture.gateway.wait_for_usage("user", 1);
    assert_eq!(rows[0]["outputTokens"], 12);
}

#[test]
fn an_event_stream_nobody_asked_for_passes_too() {
    let whole = [text("a"), FINISH.into(), USAGE.into(), DONE.into()].concat();
    let fixture = streaming(whole.clone());
    let response = fixture.chat("");
    assert_same_bytes("body", whole.as_bytes(), &response.body);
}

/// How a recorded stream ends, by its own words.
fn ending(body: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n");
    let mut data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    let is_error = |data: &str| {
        serde_json::from_str::<Value>(data)
            .is_ok_and(|v| !v["error"].is_null() || v["type"] == "error" || v["object"] == "error")
    };
    if data.next().is_some_and(is_error) {
        "error first"
    } else if text.contains("\"finish_reason\":\"")
        || text.contains("\"finish_reason\": \"")
        || ["response.completed", "response.incomplete", "response.failed"].iter().any(|t| text.contains(t))
    {
        "complete"
    } else {
        "unfinished"
    }
}

#[test]
fn recorded_answers_pass_byte_for_byte() {
    let vectors: Vec<Vector> = vectors::openai();
    if vectors.is_empty() {
        return;
    }
    // The request says which recording to play, and in pieces of which size.
    let recordings: std::sync::Arc<Vec<Vector>> = std::sync::Arc::new(vectors);
    let played = std::sync::Arc::clone(&recordings);
    let fixture = Fixture::new(move |request, answer| {
        let body = request.json();
        let number = |key: &str| usize::try_from(body[key].as_u64().unwrap()).unwrap();
        let vector = &played[number("vector")];
        answer.send(format!(
            "HTTP/1.1 {} Recorded\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            vector.status, vector.content_type
        ));
        for piece in vector.body.chunks(number("piece")) {
            answer.chunk(piece);
        }
        answer.last_chunk();
    });
    let mut counts = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    let mut client = fixture.connect();
    for (number, vector) in recordings.iter().enumerate() {
        let events = vector.content_type.starts_with("text/event-stream");
        for piece in [usize::MAX >> 1, 7, 1] {
            let options = if events && !vector.endpoint.starts_with("res") { ASK_USAGE } else { "" };
            let more = format!(",\"stream\":{events}{options},\"vector\":{number},\"piece\":{piece}");
            let path = format!("/v1/{}", vector.endpoint);
            let response = client.post(&path, &fixture.token, chat("main/m", &more).as_bytes());
            let kind = if events { ending(&vector.body) } else { "plain" };
            let right = match kind {
                _ if matches!(vector.status, 401 | 403) => response.status == 502,
                "error first" => response.status >= 400,
                "unfinished" => response.status == 200 && response.body.starts_with(&vector.body),
                _ => response.status == vector.status && response.body == vector.body,
            };
            if !right || !response.complete {
                wrong.push(format!("{} in pieces of {piece} ({kind}): {}", vector.name, response.status));
            }
            *counts.entry(kind).or_insert(0) += 1;
            if response.header("connection") == Some("close") {
                client = Client::connect(fixture.gateway.addr);
            }
        }
    }
    announce(&format!("recordings: {} run in three sizes of pieces: {counts:?}", recordings.len()));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
