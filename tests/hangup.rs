//! Either side hangs up, at every stage of a call.

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

use std::time::{Duration, Instant};

use support::sse::{DONE, FINISH, assert_ends_with_error, text};
use support::{CHAT_ANSWER, Client, Fixture, Provider, chat};

/// Where the provider stands when the caller hangs up. It says `reached` there and waits.
fn stopping_at(stage: &'static str) -> Fixture {
    Fixture::new(move |_, answer| {
        match stage {
            "before the answer" | "before the answer of a stream" => {}
            "after half a head" => {
                answer.send("HTTP/1.1 200 OK\r\ncontent-ty");
            }
            "after the head of a stream" => answer.sse_head(),
            "after a comment" => {
                answer.sse_head();
                answer.chunk(": wait\n\n");
            }
            "in mid stream" => {
                answer.sse_head();
                answer.chunk(text("first"));
            }
            "inside an event" => {
                answer.sse_head();
                answer.chunk(text("first") + "data: {\"half\":");
            }
            "after the finish reason" => {
                answer.sse_head();
                answer.chunk(text("first") + FINISH);
            }
            "in the middle of a plain body" => {
                answer.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{first");
            }
            "in the middle of audio" => {
                answer.send(
                    "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n",
                );
                answer.chunk("first");
            }
            other => panic!("{other}"),
        }
        answer.say("reached");
        answer.hold();
    })
}

const STAGES: &[&str] = &[
    "before the answer",
    "before the answer of a stream",
    "after half a head",
    "after the head of a stream",
    "after a comment",
    "in mid stream",
    "inside an event",
    "after the finish reason",
    "in the middle of a plain body",
    "in the middle of audio",
];

/// A call that is under way, and has reached its stage on both sides.
fn call(fixture: &Fixture, stage: &str) -> Client {
    let mut client = fixture.connect();
    let more = if stage.contains("stream")
        || stage.contains("event")
        || stage.contains("comment")
        || stage.contains("finish")
    {
        ",\"stream\":true"
    } else {
        ""
    };
    client.send_post("/v1/chat/completions", &fixture.token, chat("main/m", more).as_bytes());
    fixture.provider.wait_for("reached");
    if ["in mid stream", "inside an event", "after the finish reason"].contains(&stage)
        || stage.starts_with("in the middle")
    {
        assert_eq!(client.read_head().status, 200);
        client.read_until("first");
    }
    client
}

#[test]
fn the_provider_sees_the_caller_hang_up_within_250_ms() {
    let mut wrong = Vec::new();
    for stage in STAGES {
        let fixture = stopping_at(stage);
        for round in 0..3 {
            let client = call(&fixture, stage);
            let since = client.hang_up();
            let connection = fixture.provider.requests().last().unwrap().connection;
            let took = fixture.provider.wait_closed(connection).saturating_duration_since(since);
            if took > Duration::from_millis(250) {
                wrong.push(format!("{stage}, round {round}: {took:?}"));
            }
        }
        fixture.wait_for_outcome("caller-gone", 3);
        let rows = fixture.gateway.wait_for_usage("user", 3);
        assert_eq!(rows[0]["calls"], 3, "{stage}: one record a call");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn who_hangs_up_after_the_end_mark_has_had_everything() {
    // The SDKs stop reading at `[DONE]`; providers may be slow, or rude, with the end of the body.
    for provider_cuts in [false, true] {
        let fixture = Fixture::new(move |_, answer| {
            answer.sse_head();
            answer.chunk(text("first") + FINISH + DONE);
            if provider_cuts {
                answer.close();
            } else {
                answer.hold();
            }
        });
        let (mut client, _) = fixture.open_stream("");
        if provider_cuts {
            let (body, complete) = client.read_rest();
            assert!(complete && body == (text("first") + FINISH + DONE).as_bytes());
        } else {
            client.read_until("[DONE]");
            let since = client.hang_up();
            fixture.provider.assert_closed_within_250_ms(0, since);
        }
        fixture.wait_for_outcome("complete", 1);
        assert_eq!(fixture.gateway.wait_for_usage("user", 1)[0]["errors"], 0);
    }
}

#[test]
fn more_bytes_from_the_caller_do_not_hide_that_it_hung_up() {
    for stage in ["before the answer", "in mid stream"] {
        let fixture = stopping_at(stage);
        let mut client = call(&fixture, stage);
        // The next request is on its way already, whole or in part.
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/mod");
        let since = client.hang_up();
        fixture.provider.assert_closed_within_250_ms(0, since);
        fixture.wait_for_outcome("caller-gone", 1);
    }
}

#[test]
fn a_pipelining_caller_has_not_hung_up() {
    let fixture = Fixture::new(|_, answer| {
        answer.say("reached");
        answer.wait("go");
        answer.json(200, CHAT_ANSWER);
    });
    let mut client = fixture.connect();
    client.send_post("/v1/chat/completions", &fixture.token, chat("main/m", "").as_bytes());
    fixture.provider.wait_for("reached");
    client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!client.poll(Duration::from_millis(300)), "nothing to answer yet");
    fixture.provider.signal("go");
    assert_eq!(client.read_response().text(), CHAT_ANSWER);
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn an_upload_that_stops_reaches_no_provider() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let body = chat("main/m", &format!(",\"x\":\"{}\"", "a".repeat(3 << 20)));
    for share in [0, 1, 2] {
        let mut client = fixture.connect();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            fixture.token,
            body.len()
        );
        client.send(head.as_bytes());
        client.send(&body.as_bytes()[..body.len() * share / 3]);
        client.hang_up();
    }
    assert_eq!(fixture.chat("").status, 200);
    assert_eq!(fixture.provider.request_count(), 1);
    assert_eq!(fixture.gateway.wait_for_usage("user", 1)[0]["calls"], 1);
}

#[test]
fn a_caller_that_does_not_read_is_dropped_and_fills_no_memory() {
    let fixture = Fixture::with_config("server.idle_timeout_ms = 500\n", |_, answer| {
        answer.sse_head();
        let event = text(&"x".repeat(60_000));
        // Stops when the gateway stops reading (the write times out or fails) or at 256 MiB.
        for _ in 0..4096 {
            if !answer.chunk(&event) {
                break;
            }
        }
        answer.say("stopped");
    });
    let mut client = fixture.connect();
    client.send_post("/v1/chat/completions", &fixture.token, chat("main/m", ",\"stream\":true").as_bytes());
    fixture.provider.wait_for("stopped");
    let written = fixture.provider.written();
    assert!(written < 64 << 20, "the gateway took {written} bytes for a caller that read none");
    fixture.wait_for_outcome("caller-gone", 1);
    drop(client);
}

#[test]
fn a_slow_reader_gets_everything() {
    // More than all socket buffers hold, read only after the provider has stopped for want of room.
    let fixture = Fixture::new(|_, answer| {
        answer.sse_head();
        for _ in 0..400 {
            answer.chunk(text(&"x".repeat(60_000)));
        }
        answer.chunk(FINISH);
        answer.chunk(DONE);
        answer.last_chunk();
    });
    let (mut client, head) = fixture.open_stream("");
    assert_eq!(head.status, 200);
    let mut total = 0;
    while let Some(piece) = client.read_some().unwrap() {
        total += piece.len();
    }
    assert_eq!(total, 400 * text(&"x".repeat(60_000)).len() + FINISH.len() + DONE.len());
}

/// What the caller must get when the provider breaks off.
enum Wanted {
    /// This status with the gateway's own error.
    Status(u16),
    /// A 200 whose body is visibly cut: the framing does not end.
    Cut,
    /// A 200 stream with an error event and a proper end.
    ErrorEvent,
    /// This body, whole.
    Whole(&'static str),
}

#[test]
fn the_provider_hangs_up_at_every_stage() {
    let sse = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = text("first");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let stages: Vec<(&str, Vec<u8>, Wanted)> = vec![
        ("before a byte", vec![], Wanted::Status(502)),
        ("in the status line", b"HTTP/1".to_vec(), Wanted::Status(502)),
        ("in the head", b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), Wanted::Status(502)),
        ("after the head", format!("{json}content-length: 10\r\n\r\n").into(), Wanted::Status(502)),
        (
            "after the head of chunks",
            format!("{json}transfer-encoding: chunked\r\n\r\n").into(),
            Wanted::Status(502),
        ),
        ("in the body", format!("{json}content-length: 10\r\n\r\n{{\"a\"").into(), Wanted::Cut),
        ("in a chunk", format!("{json}transfer-encoding: chunked\r\n\r\na\r\n{{\"a\"").into(), Wanted::Cut),
        (
            "after a chunk",
            format!("{json}transfer-encoding: chunked\r\n\r\n4\r\n{{\"a\"\r\n").into(),
            Wanted::Cut,
        ),
        (
            "before the last line",
            format!("{json}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n").into(),
            Wanted::Cut,
        ),
        ("body by close", format!("{json}\r\n{{\"whole\":1}}").into(), Wanted::Whole("{\"whole\":1}")),
        ("stream: after the head", sse.into(), Wanted::Status(502)),
        ("stream: in the first chunk size", format!("{sse}1").into(), Wanted::Status(502)),
        ("stream: in the first event", format!("{sse}ff\r\ndata: {{\"a").into(), Wanted::Status(502)),
        ("stream: after a comment", format!("{sse}8\r\n: wait\n\n\r\n").into(), Wanted::Status(502)),
        ("stream: after an event", format!("{sse}{chunk}").into(), Wanted::ErrorEvent),
        ("stream: in a chunk size", format!("{sse}{chunk}1f").into(), Wanted::ErrorEvent),
        ("stream: in an event", format!("{sse}{chunk}ff\r\ndata: {{\"a\":\"").into(), Wanted::ErrorEvent),
        (
            "stream: between the line ends",
            format!("{sse}{chunk}c\r\ndata: {{\"a\":1").into(),
            Wanted::ErrorEvent,
        ),
        (
            "stream: by close",
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{event}").into(),
            Wanted::ErrorEvent,
        ),
    ];
    for (name, bytes, wanted) in stages {
        let is_stream = name.starts_with("stream");
        let provider = Provider::on_connection(move |connection| {
            if connection.read_request().is_some() {
                connection.send(&bytes);
            }
        });
        let fixture = Fixture::on(provider, "");
        let more = if is_stream { ",\"stream\":true" } else { "" };
        let response = fixture.chat(more);
        match wanted {
            Wanted::Status(status) => {
                assert_eq!(response.status, status, "{name}: {}", response.text());
                response.assert_error(status);
                assert!(response.text().contains("'main'"), "{name}");
                assert!(!response.text().contains(&fixture.provider.host_port()), "{name}");
            }
            Wanted::Cut => {
                assert!(!response.complete, "{name}: a broken answer looks whole: {}", response.text());
            }
            Wanted::ErrorEvent => {
                assert_eq!(response.status, 200, "{name}");
                assert!(response.complete, "{name}: the stream is not ended");
                assert_ends_with_error(&response.body);
            }
            Wanted::Whole(body) => {
                assert_eq!((response.status, &*response.text()), (200, body), "{name}");
                assert!(response.complete, "{name}");
            }
        }
        let outcome = if matches!(wanted, Wanted::Whole(_)) { "complete" } else { "provider-failed" };
        fixture.wait_for_outcome(outcome, 1);
        assert_eq!(fixture.gateway.wait_for_usage("user", 1)[0]["calls"], 1, "{name}");
    }
}

#[test]
fn a_provider_that_accepts_and_closes_is_502() {
    let provider = Provider::on_connection(|_| {});
    let fixture = Fixture::on(provider, "");
    for more in ["", ",\"stream\":true"] {
        fixture.chat(more).assert_error(502);
    }
    // Also while a large body is on its way to it.
    let response = fixture.chat(&format!(",\"x\":\"{}\"", "a".repeat(8 << 20)));
    response.assert_error(502);
    fixture.wait_for_outcome("provider-failed", 3);
}

#[test]
fn answers_that_are_not_http_are_502() {
    let json = "content-type: application/json\r\n";
    for (name, bytes) in [
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("TLS alert", b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
        ("HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n".to_vec()),
        ("no version", b"200 OK\r\n\r\n{}".to_vec()),
        ("status of letters", b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("status 99", b"HTTP/1.1 99 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("status 1000", b"HTTP/1.1 1000 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("header without colon", b"HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("NUL in a header", b"HTTP/1.1 200 OK\r\na: \0\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("two lengths", format!("HTTP/1.1 200 OK\r\n{json}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}x").into()),
        ("both framings", format!("HTTP/1.1 200 OK\r\n{json}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").into()),
        ("bad length", format!("HTTP/1.1 200 OK\r\n{json}content-length: -2\r\n\r\n{{}}").into()),
        ("bad chunk size", format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n").into()),
        ("unknown coding", format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: gzip\r\n\r\n{{}}").into()),
        ("endless head", [&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'a'; 1 << 20]].concat()),
        ("endless headers", [&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(100_000)].concat()),
        ("switching protocols", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_vec()),
        ("endless 100s", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000)),
    ] {
        let provider = Provider::on_connection(move |connection| {
            if connection.read_request().is_some() {
                connection.send(&bytes);
            }
        });
        let fixture = Fixture::on(provider, "");
        for more in ["", ",\"stream\":true"] {
            let response = fixture.chat(more);
            assert_eq!(response.status, 502, "{name}: {}", response.text());
            response.assert_error(502);
        }
        fixture.wait_for_outcome("provider-failed", 2);
    }
}

#[test]
fn odd_answers_that_are_http_pass() {
    for (name, bytes, status, body) in [
        (
            "interim answers",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            200,
            "{}",
        ),
        ("no reason", "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n{}", 200, "{}"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n{\"a\":1}", 200, "{\"a\":1}"),
        ("no content type", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, "{}"),
        ("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "trailers and extensions",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nx-t: 1\r\n\r\n",
            200,
            "{}",
        ),
        (
            "bytes after the body",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON",
            200,
            "{}",
        ),
    ] {
        let provider = Provider::on_connection(move |connection| {
            while connection.read_request().is_some() {
                connection.send(bytes.as_bytes());
                if !bytes.contains("POISON") {
                    return;
                }
            }
        });
        let fixture = Fixture::on(provider, "");
        for _ in 0..2 {
            let response = fixture.chat("");
            assert_eq!((response.status, &*response.text()), (status, body), "{name}");
            assert!(response.complete, "{name}");
            assert_eq!(response.header("x-t"), None);
        }
    }
}

#[test]
fn an_idle_connection_that_the_provider_closed_is_replaced() {
    let provider = Provider::on_connection(|connection| {
        // One answer that says nothing of closing, then the end.
        if connection.read_request().is_some() {
            let bytes =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{CHAT_ANSWER}", CHAT_ANSWER.len());
            connection.send(bytes.as_bytes());
        }
    });
    let fixture = Fixture::on(provider, "");
    let mut client = fixture.connect();
    for round in 0..50 {
        let response = client.post("/v1/chat/completions", &fixture.token, chat("main/m", "").as_bytes());
        assert_eq!(response.status, 200, "round {round}: {}", response.text());
    }
    assert_eq!(fixture.provider.request_count(), 50, "no request was sent twice");
}

#[test]
fn connections_to_a_provider_are_used_again() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let mut client = fixture.connect();
    for _ in 0..20 {
        client.post("/v1/chat/completions", &fixture.token, chat("main/m", "").as_bytes());
    }
    assert_eq!(fixture.provider.connection_count(), 1);
}

#[test]
fn an_answer_that_comes_before_the_whole_request_passes() {
    let provider = Provider::on_connection(|connection| {
        if connection.read_head().is_some() {
            connection
                .send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large");
        }
    });
    let fixture = Fixture::on(provider, "");
    let begun = Instant::now();
    let response = fixture.chat(&format!(",\"x\":\"{}\"", "a".repeat(100_000)));
    assert!([413, 502].contains(&response.status), "{}", response.status);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
