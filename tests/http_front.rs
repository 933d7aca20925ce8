//! The HTTP/1.1 front: what it takes, what it refuses, and that nothing refused reaches a provider.

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

use support::client::{Client, find};
use support::{CHAT_ANSWER, Fixture, Gateway, Provider, chat, eventually};

/// A provider that answers with the request's own `user` member, so that answers can be told apart.
fn echoing() -> Fixture {
    Fixture::new(|request, answer| {
        let user = request.json()["user"].as_str().unwrap_or_default().to_owned();
        answer.json(200, &format!("{{\"echo\":\"{user}\"}}"));
    })
}

fn head(token: &str, more: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}\r\n"
    )
}

fn post(token: &str, body: &str) -> String {
    format!("{}{body}", head(token, &format!("content-length: {}\r\n", body.len())))
}

fn chunked(body: &str, pieces: &[usize]) -> String {
    let (mut text, mut rest, mut turn) = (String::new(), body, 0);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(pieces[turn % pieces.len()].min(rest.len()));
        text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        (rest, turn) = (tail, turn + 1);
    }
    text + "0\r\n\r\n"
}

#[test]
fn one_connection_serves_many_requests() {
    let fixture = echoing();
    let mut client = fixture.connect();
    for number in 0..20 {
        let body = chat("main/m", &format!(",\"user\":\"u{number}\""));
        let response = client.post("/v1/chat/completions", &fixture.token, body.as_bytes());
        assert_eq!((response.status, response.json()["echo"].as_str()), (200, Some(&*format!("u{number}"))));
        assert_eq!(client.get("/v1/models", &fixture.token).status, 200);
        assert_eq!(client.get("/v1/nothing", &fixture.token).status, 404);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let fixture = echoing();
    let body = |user: &str| chat("main/m", &format!(",\"user\":\"{user}\""));
    let bytes = [
        post(&fixture.token, &body("first")),
        head(&fixture.token, "transfer-encoding: chunked\r\n") + &chunked(&body("second"), &[3]),
        format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", fixture.token),
        post(&fixture.token, &body("third")),
    ]
    .concat();
    let check = |client: &mut Client| {
        assert_eq!(client.read_response().json()["echo"], "first");
        assert_eq!(client.read_response().json()["echo"], "second");
        assert_eq!(client.read_response().json()["data"][0]["id"], "main/m");
        assert_eq!(client.read_response().json()["echo"], "third");
    };
    let mut client = fixture.connect();
    client.send(bytes.as_bytes());
    check(&mut client);
    // The same one byte at a time.
    for byte in bytes.as_bytes() {
        client.send(std::slice::from_ref(byte));
    }
    check(&mut client);
    // The same cut in two at odd places.
    for at in (1..bytes.len()).step_by(37) {
        client.send(&bytes.as_bytes()[..at]);
        client.send(&bytes.as_bytes()[at..]);
        check(&mut client);
    }
}

#[test]
fn expect_continue_comes_only_after_authentication() {
    let fixture = echoing();
    let body = chat("main/m", ",\"user\":\"e\"");
    let more = format!("content-length: {}\r\nexpect: 100-continue\r\n", body.len());

    let mut client = fixture.connect();
    client.send(head(&fixture.token, &more).as_bytes());
    assert_eq!(client.read_head().status, 100);
    assert_eq!(fixture.provider.request_count(), 0);
    client.send(body.as_bytes());
    let response = client.read_response();
    assert_eq!((response.status, response.json()["echo"].as_str()), (200, Some("e")));

    // A caller that does not wait for it, in any letters.
    client.send(
        format!("{}{body}", head(&fixture.token, &more.replace("100-continue", "100-Continue"))).as_bytes(),
    );
    assert_eq!(client.read_response().json()["echo"], "e");

    for (name, token, more, status) in [
        ("bad token", "tfy_pat_nonsense", more.clone(), 401),
        (
            "too large",
            &fixture.token,
            "content-length: 999999999\r\nexpect: 100-continue\r\n".to_owned(),
            413,
        ),
        ("other expectation", &fixture.token, more.replace("100-continue", "200-maybe"), 417),
    ] {
        let mut client = fixture.connect();
        client.send(head(token, &more).as_bytes());
        let first = client.read_head();
        assert_eq!(first.status, status, "{name}: the first answer must be the last");
        assert_eq!(first.header("connection"), Some("close"), "{name}");
    }
    assert_eq!(fixture.provider.request_count(), 2);
}

#[test]
fn http_1_0_is_not_asked_to_continue_nor_sent_chunks() {
    let fixture = Fixture::new(|request, answer| {
        if request.json()["stream"] == true {
            answer.sse(support::sse::text("one") + support::sse::FINISH + support::sse::DONE);
        } else {
            answer.json(200, CHAT_ANSWER);
        }
    });
    let request = |more: &str, body: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {}\r\n{more}content-length: {}\r\n\r\n{body}",
            fixture.token,
            body.len()
        )
    };
    // No Host is needed, and the connection ends after the answer.
    let mut client = fixture.connect();
    client.send(request("expect: 100-continue\r\n", &chat("main/m", "")).as_bytes());
    let response = client.read_response();
    assert_eq!((response.status, response.text().as_str()), (200, CHAT_ANSWER));
    assert!(client.read_to_end().is_empty());

    let mut client = fixture.connect();
    for _ in 0..2 {
        client.send(request("connection: keep-alive\r\n", &chat("main/m", "")).as_bytes());
        let head = client.read_head();
        assert_eq!(head.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
        assert_eq!(client.read_rest(), (CHAT_ANSWER.into(), true));
    }

    // A stream of unknown length ends with the connection.
    client.send(request("connection: keep-alive\r\n", &chat("main/m", ",\"stream\":true")).as_bytes());
    let head = client.read_head();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    let (body, _) = client.read_rest();
    assert_eq!(support::sse::parse(&body).last().unwrap().data, "[DONE]");
}

#[test]
fn chunked_request_bodies_in_odd_forms() {
    let fixture = echoing();
    let body = chat("main/m", ",\"user\":\"caf\u{e9} \u{1f600}\"");
    let len = body.len();
    let forms = [
        ("one chunk", format!("{len:x}\r\n{body}\r\n0\r\n\r\n")),
        ("upper case, leading zeros", format!("000{len:X}\r\n{body}\r\n000\r\n\r\n")),
        ("extension", format!("{len:x};name=value;other=\"quoted; text\"\r\n{body}\r\n0;last\r\n\r\n")),
        ("trailers", format!("{len:x}\r\n{body}\r\n0\r\nx-one: 1\r\nx-two: 2\r\n\r\n")),
    ];
    let mut client = fixture.connect();
    let mut count = 0;
    for (name, form) in forms {
        for coding in ["chunked", "Chunked"] {
            client
                .send((head(&fixture.token, &format!("transfer-encoding: {coding}\r\n")) + &form).as_bytes());
            assert_eq!(client.read_response().status, 200, "{name}");
            count += 1;
        }
    }
    // A chunk a byte, on the bytes: chunk borders may split a character.
    let mut bytes = head(&fixture.token, "transfer-encoding: chunked\r\n").into_bytes();
    for byte in body.as_bytes() {
        bytes.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    client.send(&bytes);
    assert_eq!(client.read_response().status, 200, "a chunk a byte");
    // The framing itself split at every byte.
    let bytes = head(&fixture.token, "transfer-encoding: chunked\r\n").into_bytes();
    let form = format!("{len:x};e=1\r\n{body}\r\n0\r\nx-t: 1\r\n\r\n");
    for at in 1..form.len() {
        client.send(&bytes);
        client.send(&form.as_bytes()[..at]);
        client.send(&form.as_bytes()[at..]);
        assert_eq!(client.read_response().status, 200, "split at {at}");
    }
    let wanted = body.replace("main/m", "up-model");
    let requests = fixture.provider.requests();
    assert_eq!(requests.len(), count + form.len());
    for request in requests {
        assert_eq!(request.text(), wanted, "request {}", request.number);
        assert!(!request.head.contains("x-t"), "a trailer became a header");
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let fixture = echoing();
    let mut client = fixture.connect();
    for path in ["/healthz", "/v1/models", "/v1/models/main/m", "/v1/nothing"] {
        let mut ask = |method: &str| {
            client.send(
                format!(
                    "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
                    fixture.token
                )
                .as_bytes(),
            );
            if method == "HEAD" {
                (client.read_bodiless(), 0)
            } else {
                let response = client.read_response();
                (response.head, response.body.len())
            }
        };
        let (bodiless, _) = ask("HEAD");
        let (full, length) = ask("GET");
        assert_eq!(bodiless.status, full.status, "{path}");
        assert_eq!(bodiless.header("content-type"), full.header("content-type"), "{path}");
        assert_eq!(full.header("content-length"), Some(&*length.to_string()), "{path}");
        if let Some(announced) = bodiless.header("content-length") {
            assert_eq!(announced, length.to_string(), "{path}");
        }
    }
    assert_eq!(client.get("/healthz", "").status, 200);
}

#[test]
fn a_hundred_headers_absolute_targets_and_leading_empty_lines_are_fine() {
    let fixture = echoing();
    let body = chat("main/m", ",\"user\":\"h\"");
    let many: String = (0..94).map(|number| format!("x-header-{number}: value {number}\r\n")).collect();
    let more = format!("{many}content-length: {}\r\n", body.len());
    let mut client = fixture.connect();
    let text = format!("{}{body}", head(&fixture.token, &more));
    assert_eq!(find(text.as_bytes(), b"\r\n\r\n").map(|at| text[..at].matches("\r\n").count()), Some(98));
    client.send(text.replacen("host: gateway", "host: gateway\r\nx-a: 1\r\nx-b: 2", 1).as_bytes());
    assert_eq!(client.read_response().status, 200);
    let auth = format!("authorization: Bearer {}\r\n\r\n", fixture.token);
    for line in [
        "GET http://gateway/v1/models HTTP/1.1\r\nhost: gateway\r\n",
        "\r\nGET /v1/models HTTP/1.1\r\nhost: gateway\r\n",
        "GET /v1/models HTTP/1.1\r\nHOST:gateway\r\nX-Tab:\t a\tb \t\r\nEmpty:\r\n",
        "GET /v1/models?limit=5&x=%20 HTTP/1.1\r\nhost: gateway:8080\r\n",
        "GET /v1/models HTTP/1.1\r\nhost:\r\n",
    ] {
        client.send(format!("{line}{auth}").as_bytes());
        assert_eq!(client.read_response().status, 200, "{line:?}");
    }
}

/// Bytes that are refused: a name, the request, and the statuses that fit.
type Refused = (&'static str, Vec<u8>, &'static [u16]);

fn refused(token: &str) -> Vec<Refused> {
    let body = chat("main/m", "");
    let len = body.len();
    let with = |more: &str, body: &str| format!("{}{body}", head(token, more)).into_bytes();
    let get = |line: &str, more: &str| {
        format!("{line}\r\nhost: x\r\nauthorization: Bearer {token}\r\n{more}\r\n").into_bytes()
    };
    let length = format!("content-length: {len}\r\n");
    let one_chunk = format!("{len:x}\r\n{body}\r\n0\r\n\r\n");
    let te = "transfer-encoding: chunked\r\n";
    let mut table: Vec<Refused> = vec![
        ("length and chunked", with(&format!("{length}{te}"), &one_chunk), &[400]),
        ("chunked and length", with(&format!("{te}{length}"), &one_chunk), &[400]),
        ("two lengths", with(&format!("{length}content-length: {}\r\n", len + 1), &body), &[400]),
        ("two lengths in a line", with(&format!("content-length: {len}, {}\r\n", len + 1), &body), &[400]),
        ("negative length", with("content-length: -1\r\n", &body), &[400]),
        ("plus length", with(&format!("content-length: +{len}\r\n"), &body), &[400]),
        ("hex length", with(&format!("content-length: 0x{len:x}\r\n"), &body), &[400]),
        ("empty length", with("content-length:\r\n", &body), &[400]),
        ("length with a space", with("content-length: 1 0\r\n", &body), &[400]),
        ("length with an exponent", with("content-length: 1e3\r\n", &body), &[400]),
        ("huge length", with("content-length: 99999999999999999999999\r\n", &body), &[400, 413]),
        ("length of 2^64+10", with("content-length: 18446744073709551626\r\n", &body), &[400, 413]),
        ("too large", with("content-length: 100001\r\n", &body), &[413]),
        ("gzip coding", with("transfer-encoding: gzip, chunked\r\n", &one_chunk), &[501, 400]),
        ("unknown coding", with("transfer-encoding: xchunked\r\n", &one_chunk), &[501, 400]),
        ("identity coding", with("transfer-encoding: identity\r\n", &body), &[501, 400]),
        ("chunked twice", with("transfer-encoding: chunked, chunked\r\n", &one_chunk), &[501, 400]),
        ("two codings", with(&format!("{te}transfer-encoding: identity\r\n"), &one_chunk), &[501, 400]),
        ("chunked not last", with("transfer-encoding: chunked, gzip\r\n", &one_chunk), &[501, 400]),
        ("vertical tab coding", with("transfer-encoding: \x0bchunked\r\n", &one_chunk), &[501, 400]),
        ("space before colon", with("transfer-encoding : chunked\r\n", &one_chunk), &[400]),
        ("tab before colon", with(&format!("content-length\t: {len}\r\n"), &body), &[400]),
        ("space before name", with(&format!("{length} x-folded: 1\r\n"), &body), &[400]),
        ("folded line", with(&format!("x-a: 1\r\n  folded\r\n{length}"), &body), &[400]),
        ("folded by tab", with(&format!("x-a: 1\r\n\tfolded\r\n{length}"), &body), &[400]),
        ("bare LF in head", with(&format!("x-a: 1\nx-b: 2\r\n{length}"), &body), &[400]),
        ("bare CR in value", with(&format!("x-a: 1\rx-b: 2\r\n{length}"), &body), &[400]),
        ("NUL in value", with(&format!("x-a: 1\0\r\n{length}"), &body), &[400]),
        ("control in value", with(&format!("x-a: 1\x01\r\n{length}"), &body), &[400]),
        ("delete in value", with(&format!("x-a: 1\x7f\r\n{length}"), &body), &[400]),
        ("NUL in name", with(&format!("x\0a: 1\r\n{length}"), &body), &[400]),
        ("no colon", with(&format!("nocolon\r\n{length}"), &body), &[400]),
        ("empty name", with(&format!(": 1\r\n{length}"), &body), &[400]),
        ("brackets in name", with(&format!("x(a): 1\r\n{length}"), &body), &[400]),
        ("name of non-ASCII", with(&format!("x\u{e9}: 1\r\n{length}"), &body), &[400]),
        ("two hosts", with(&format!("host: other\r\n{length}"), &body), &[400]),
        ("other expectation", with(&format!("expect: a-pony\r\n{length}"), &body), &[417]),
        ("bare LF ends the head", b"GET /healthz HTTP/1.1\nhost: x\n\n".to_vec(), &[400]),
        ("no host", b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("version 2.0", get("GET /healthz HTTP/2.0", ""), &[505]),
        ("version 3", get("GET /healthz HTTP/3", ""), &[505, 400]),
        ("version 0.9", get("GET /healthz HTTP/0.9", ""), &[505, 400]),
        ("lower case version", get("GET /healthz http/1.1", ""), &[400, 505]),
        ("version HTTX", get("GET /healthz HTTX/1.1", ""), &[400, 505]),
        ("no version", get("GET /healthz", ""), &[400, 505]),
        ("two spaces", get("GET  /healthz HTTP/1.1", ""), &[400]),
        ("tab for a space", get("GET\t/healthz HTTP/1.1", ""), &[400]),
        ("space at the end", get("GET /healthz HTTP/1.1 ", ""), &[400, 505]),
        ("space in target", get("GET /heal thz HTTP/1.1", ""), &[400, 505]),
        ("NUL in target", get("GET /heal\0thz HTTP/1.1", ""), &[400]),
        ("space first", get(" GET /healthz HTTP/1.1", ""), &[400]),
        ("empty method", get("/healthz HTTP/1.1", ""), &[400]),
        ("method of controls", get("G\x01T /healthz HTTP/1.1", ""), &[400]),
        ("TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[505, 400]),
        ("target too long", get(&format!("GET /{} HTTP/1.1", "a".repeat(9000)), ""), &[414]),
        ("head too large", get("GET /healthz HTTP/1.1", &format!("x-a: {}\r\n", "a".repeat(9000))), &[431]),
        ("too many headers", get("GET /healthz HTTP/1.1", &"a: 1\r\n".repeat(140)), &[431]),
        ("endless head", [&b"GET /healthz HTTP/1.1\r\nx-a: "[..], &[b'a'; 200_000]].concat(), &[431]),
        (
            "chunked in 1.0",
            String::from_utf8(with(te, &one_chunk)).unwrap().replace("HTTP/1.1", "HTTP/1.0").into(),
            &[400, 411, 501],
        ),
    ];
    for (name, form) in [
        ("chunk size of letters", format!("zz\r\n{body}\r\n0\r\n\r\n")),
        ("negative chunk size", format!("-5\r\n{body}\r\n0\r\n\r\n")),
        ("plus chunk size", format!("+{len:x}\r\n{body}\r\n0\r\n\r\n")),
        ("0x chunk size", format!("0x{len:x}\r\n{body}\r\n0\r\n\r\n")),
        ("empty chunk size", format!("\r\n{body}\r\n0\r\n\r\n")),
        ("space before chunk size", format!(" {len:x}\r\n{body}\r\n0\r\n\r\n")),
        ("chunk size of 2^64", format!("10000000000000000\r\n{body}\r\n0\r\n\r\n")),
        ("no line end after chunk", format!("{len:x}\r\n{body}0\r\n\r\n")),
        ("bare LF after size", format!("{len:x}\n{body}\r\n0\r\n\r\n")),
        ("bare LF after chunk", format!("{len:x}\r\n{body}\n0\r\n\r\n")),
        ("bare CR after size", format!("{len:x}\r{body}\r\n0\r\n\r\n")),
        ("bare LF in extension", format!("{len:x};a\nb\r\n{body}\r\n0\r\n\r\n")),
        ("chunk longer than said", format!("{:x}\r\n{body}\r\n0\r\n\r\n", len - 3)),
        ("bad trailer", format!("{len:x}\r\n{body}\r\n0\r\nbad trailer\r\n\r\n")),
        ("trailer with a space before the colon", format!("{len:x}\r\n{body}\r\n0\r\na : b\r\n\r\n")),
    ] {
        table.push((name, with(te, &form), &[400]));
    }
    table.push(("endless chunk size", with(te, &format!("{}1\r\n", "0".repeat(100_000))), &[400, 413, 431]));
    table.push(("endless extension", with(te, &format!("1;{}", "x".repeat(100_000))), &[400, 413, 431]));
    let endless = format!("{len:x}\r\n{body}\r\n0\r\n{}", "x-t: 1\r\n".repeat(20_000));
    table.push(("endless trailers", with(te, &endless), &[400, 413, 431]));
    table.push((
        "chunked too large",
        with(te, &format!("186a1\r\n{}\r\n0\r\n\r\n", "a".repeat(100_001))),
        &[413],
    ));
    let many = "1000\r\n".to_owned() + &"a".repeat(4096) + "\r\n";
    table.push(("many chunks too large", with(te, &many.repeat(40)), &[413]));
    table
}

#[test]
fn what_breaks_the_grammar_or_a_limit_is_refused_and_closed() {
    let provider = Provider::answering(CHAT_ANSWER);
    let fixture = Fixture::on(
        provider,
        "server.max_body_bytes = 100000\nserver.max_head_bytes = 8192\nserver.max_headers = 128\n",
    );
    let mut failures = Vec::new();
    for (name, mut bytes, statuses) in refused(&fixture.token) {
        // What follows must never be read as a request of its own.
        bytes.extend_from_slice(b"GET /healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n");
        let attempt = || {
            let mut client = fixture.connect();
            let _ = client.try_send(&bytes);
            let response = client.read_response();
            response.assert_error(response.status);
            assert!(statuses.contains(&response.status), "{} is not in {statuses:?}", response.status);
            assert_eq!(response.header("connection"), Some("close"));
            let rest = client.read_to_end();
            assert!(rest.is_empty(), "a second answer: {:?}", String::from_utf8_lossy(&rest));
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            failures.push(format!("{name}: {text}"));
        }
    }
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(fixture.provider.request_count(), 0, "{:?}", fixture.provider.requests());
    assert_eq!(fixture.chat("").status, 200, "the gateway still serves");
}

#[test]
fn a_post_without_a_length_is_411_and_the_framing_stands() {
    let fixture = echoing();
    let mut client = fixture.connect();
    client.send(head(&fixture.token, "").as_bytes());
    client.read_response().assert_error(411);
    assert_eq!(client.get("/v1/models", &fixture.token).status, 200);
    assert_eq!(fixture.provider.request_count(), 0);
}

#[test]
fn unknown_methods_are_refused() {
    let fixture = echoing();
    for (method, path, statuses) in [
        ("BREW", "/v1/models", &[501, 405][..]),
        ("CONNECT", "gateway:443", &[400, 404, 405, 501]),
        ("TRACE", "/v1/models", &[405]),
        ("PATCH", "/v1/chat/completions", &[405]),
        ("DELETE", "/v1/models", &[405]),
        ("get", "/v1/models", &[501, 405]),
    ] {
        let mut client = fixture.connect();
        client.send(
            format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nauthorization: Bearer {}\r\n\r\n",
                fixture.token
            )
            .as_bytes(),
        );
        let response = client.read_response();
        assert!(statuses.contains(&response.status), "{method} {path}: {}", response.status);
        response.assert_error(response.status);
        if response.status == 405 {
            assert!(response.header("allow").is_some(), "{method} {path}: a 405 names what is allowed");
        }
    }
    assert_eq!(fixture.provider.request_count(), 0);
}

#[test]
fn slow_heads_and_bodies_are_408_and_idle_connections_end_quietly() {
    let fixture = Fixture::with_config(
        "server.header_timeout_ms = 400\nserver.body_timeout_ms = 400\nserver.idle_timeout_ms = 600\n",
        |_, answer| answer.json(200, CHAT_ANSWER),
    );
    let body = chat("main/m", "");
    let whole = post(&fixture.token, &body);
    for (name, sent) in [
        ("half a request line", &whole[..9]),
        ("half a head", &whole[..60]),
        ("head only", &whole[..whole.len() - body.len()]),
        ("half a body", &whole[..whole.len() - 5]),
    ] {
        let begun = Instant::now();
        let mut client = fixture.connect();
        client.send(sent.as_bytes());
        let response = client.read_response();
        assert!(begun.elapsed() >= Duration::from_millis(300), "{name}: too early");
        response.assert_error(408);
        assert_eq!(response.header("connection"), Some("close"), "{name}");
        assert!(client.read_to_end().is_empty(), "{name}");
    }
    // Dripping does not prolong it: one byte at a time, for as long as no answer comes.
    for (name, prefix) in [("dripped head", 0), ("dripped body", whole.len() - body.len())] {
        let begun = Instant::now();
        let mut client = fixture.connect();
        client.send(&whole.as_bytes()[..prefix]);
        let mut rest = whole.as_bytes()[prefix..].iter();
        while !client.poll(Duration::from_millis(50)) {
            match rest.next() {
                Some(byte) if client.try_send(&[*byte]) => {}
                _ => break,
            }
        }
        client.read_response().assert_error(408);
        assert!(begun.elapsed() < Duration::from_secs(3), "{name}: {:?}", begun.elapsed());
    }
    // Nothing at all, before the first request and between two.
    let mut client = fixture.connect();
    assert!(client.read_to_end().is_empty(), "an idle connection ends without an answer");
    let mut client = fixture.connect();
    client.send(whole.as_bytes());
    assert_eq!(client.read_response().status, 200);
    assert!(client.read_to_end().is_empty());
    assert_eq!(fixture.provider.request_count(), 1);
}

#[test]
fn a_connection_too_many_is_503_until_one_ends() {
    let gateway = Gateway::with_config("server.max_connections = 4\n");
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(gateway.addr);
        assert_eq!(client.get("/healthz", "").status, 200);
        held.push(client);
    }
    let mut fifth = Client::connect(gateway.addr);
    let response = fifth.read_response();
    response.assert_error(503);
    assert_eq!(response.header("connection"), Some("close"));
    assert!(response.header("retry-after").is_some());
    assert!(fifth.read_to_end().is_empty());
    for client in &mut held {
        assert_eq!(client.get("/healthz", "").status, 200, "those within the limit go on");
    }
    held.pop().unwrap().hang_up();
    eventually("room for one more", || {
        let mut client = Client::connect(gateway.addr);
        client.try_send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        (client.read_response().status == 200).then_some(())
    });
}

#[test]
fn connection_close_is_obeyed() {
    let fixture = echoing();
    for value in ["close", "Close", "keep-alive, close"] {
        let mut client = fixture.connect();
        client.send(format!("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: {value}\r\n\r\n").as_bytes());
        let response = client.read_response();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")), "{value}");
        assert!(client.read_to_end().is_empty());
    }
}

#[test]
fn a_refused_body_does_not_poison_the_next_request() {
    let fixture = echoing();
    // The head alone decides, and its body follows: either it is read away, or the connection ends.
    for (path, token, status) in [
        ("/v1/chat/completions", "wrong", 401),
        ("/v1/nothing", &*fixture.token, 404),
        ("/v1/models", &*fixture.token, 405),
    ] {
        let mut client = fixture.connect();
        let body = "GET /healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n";
        client.send_post(path, token, body.as_bytes());
        let response = client.read_response();
        response.assert_error(status);
        if response.header("connection") == Some("close") {
            assert!(client.read_to_end().is_empty(), "{path}");
        } else {
            assert_eq!(client.get("/v1/models/main/m", &fixture.token).json()["id"], "main/m", "{path}");
        }
    }
}
