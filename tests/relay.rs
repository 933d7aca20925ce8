//! The relay: every byte of a request and of an answer, but for the name of the model.

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

use support::client::assert_same_bytes;
use support::{CHAT_ANSWER, Fixture, PROVIDER_KEY, Provider, chat};

/// The inference prefixes of the contract, each with its optional `/v1`.
const PREFIXES: &[&str] =
    &["/api/llm/api/inference/openai", "/api/llm/api/inference/openai/v1", "/api/llm", "/api/llm/v1", "/v1"];

const JSON_ENDPOINTS: &[&str] = &[
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "moderations",
    "rerank",
    "images/generations",
    "audio/speech",
];

const MULTIPART_ENDPOINTS: &[&str] =
    &["images/edits", "images/variations", "audio/transcriptions", "audio/translations"];

fn answering() -> Fixture {
    Fixture::on(Provider::answering(CHAT_ANSWER), "")
}

#[test]
fn only_the_model_value_of_a_request_is_changed() {
    let fixture = answering();
    // `@` stands for the model: the caller's there, the provider's behind.
    let bodies = [
        r#"{"model":"@"}"#,
        "{ \"model\" : \"@\" , \"messages\":[ ] }",
        "\r\n\t {\n  \"messages\": [],\r\n\t\"model\"\t:\n\"@\"  }  \r\n",
        r#"{"a":12345678901234567890,"b":1.0,"c":-0.0,"d":1e400,"e":1E+2,"f":123456789012345678901234567890.5,"model":"@"}"#,
        r#"{"s":"\u0041\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\","model":"@","t":"\u0000"}"#,
        "{\"s\":\"caf\u{e9} \u{1f600} \u{2028}\",\"model\":\"@\"}",
        r#"{"unknown":{"deep":[1,[2,[3,{"model":"inner"}]]]},"model":"@","null":null,"t":true,"f":false}"#,
        r#"{"messages":[{"model":"x","role":"user"},{"MODEL":1}],"model":"@","modelss":["z"],"model ":"w"}"#,
        r#"{"mod\u0065l":"@","x":"\"model\":\"no\""}"#,
        r#"{"x":"} , \"model\": \"no\"","model":"@"}"#,
        r#"{"":"","a":1,"a":2,"model":"@"}"#,
        r#"{"stream":false,"model":"@"}"#,
        r#"{"stream":null,"model":"@"}"#,
    ];
    let mut client = fixture.connect();
    for (number, body) in bodies.iter().enumerate() {
        let sent = body.replace('@', "main/m");
        let response = client.post("/v1/chat/completions", &fixture.token, sent.as_bytes());
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        let got = fixture.provider.wait_for_request(number);
        assert_same_bytes(body, body.replace('@', "up-model").as_bytes(), &got.body);
        assert_eq!(got.path(), "/v1/chat/completions");
        assert_eq!(got.header("authorization").as_deref(), Some(&*format!("Bearer {PROVIDER_KEY}")));
        assert_eq!(got.header("host"), Some(fixture.provider.host_port()));
        assert_eq!(got.header("content-type").as_deref(), Some("application/json"));
    }
    // The name itself may be written with escapes.
    for model in [r"main\/m", r"m\u0061in/m", r"\u006d\u0061\u0069\u006e\u002f\u006d"] {
        let number = fixture.provider.request_count();
        let response = fixture.post("/v1/chat/completions", &chat(model, ""));
        assert_eq!(response.status, 200, "{model}");
        let got = fixture.provider.wait_for_request(number);
        assert_same_bytes(model, chat("up-model", "").as_bytes(), &got.body);
    }
}

#[test]
fn a_body_without_one_plain_model_is_400() {
    let fixture = answering();
    let nested =
        |depth: usize| format!(r#"{{"model":"main/m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("spaces", b"   ".to_vec()),
        ("array", br#"["model"]"#.to_vec()),
        ("string", br#""main/m""#.to_vec()),
        ("number", b"1".to_vec()),
        ("null", b"null".to_vec()),
        ("no model", br#"{"messages":[]}"#.to_vec()),
        ("nested model only", br#"{"x":{"model":"main/m"}}"#.to_vec()),
        ("model a number", br#"{"model":1}"#.to_vec()),
        ("model null", br#"{"model":null}"#.to_vec()),
        ("model an object", br#"{"model":{"id":"main/m"}}"#.to_vec()),
        ("model a list", br#"{"model":["main/m"]}"#.to_vec()),
        ("model empty", br#"{"model":""}"#.to_vec()),
        ("model without account", br#"{"model":"m"}"#.to_vec()),
        ("two models", br#"{"model":"main/m","model":"main/m"}"#.to_vec()),
        ("two models, one escaped", br#"{"model":"main/m","mod\u0065l":"main/other"}"#.to_vec()),
        ("two models, first escaped", br#"{"\u006dodel":"main/other","model":"main/m"}"#.to_vec()),
        ("model in another case too", br#"{"model":"main/m","Model":"big"}"#.to_vec()),
        ("model in another case first", br#"{"MODEL":"big","model":"main/m"}"#.to_vec()),
        ("model in another case, escaped", br#"{"model":"main/m","\u004dodel":"big"}"#.to_vec()),
        ("stream in another case", br#"{"model":"main/m","Stream":true}"#.to_vec()),
        ("stream options in another case", br#"{"model":"main/m","Stream_options":{}}"#.to_vec()),
        ("stream a number", br#"{"model":"main/m","stream":1}"#.to_vec()),
        ("stream a string", br#"{"model":"main/m","stream":"true"}"#.to_vec()),
        ("stream options a list", br#"{"model":"main/m","stream_options":[true]}"#.to_vec()),
        ("include usage a number", br#"{"model":"main/m","stream_options":{"include_usage":1}}"#.to_vec()),
        ("model too long", chat(&format!("main/{}", "m".repeat(252)), "").into_bytes()),
        ("array in the order of the keys", br#"["main/m",false,null,1,1,1]"#.to_vec()),
        ("cut", br#"{"model":"main/m","#.to_vec()),
        ("cut string", br#"{"model":"main/m"#.to_vec()),
        ("rest", br#"{"model":"main/m"} x"#.to_vec()),
        ("two documents", br#"{"model":"main/m"}{"model":"main/m"}"#.to_vec()),
        ("comma at the end", br#"{"model":"main/m",}"#.to_vec()),
        ("single quotes", b"{'model':'main/m'}".to_vec()),
        ("comment", br#"{"model":"main/m"/* */}"#.to_vec()),
        ("raw control", b"{\"model\":\"main/m\",\"x\":\"a\x01b\"}".to_vec()),
        ("bad escape", br#"{"model":"main/m","x":"\q"}"#.to_vec()),
        ("lone surrogate in model", br#"{"model":"main/\ud800"}"#.to_vec()),
        ("bad UTF-8", b"{\"model\":\"main/m\",\"x\":\"\xff\xfe\"}".to_vec()),
        ("bad number", br#"{"model":"main/m","x":01}"#.to_vec()),
        ("NaN", br#"{"model":"main/m","x":NaN}"#.to_vec()),
        ("byte order mark", "\u{feff}{\"model\":\"main/m\"}".as_bytes().to_vec()),
    ];
    let mut wrong = Vec::new();
    for (name, body) in &bodies {
        let response = fixture.connect().post("/v1/chat/completions", &fixture.token, body);
        if response.status != 400 {
            wrong.push(format!("{name}: {} {}", response.status, response.text()));
        } else {
            response.assert_error(400);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fixture.provider.request_count(), 0);
    assert_eq!(fixture.post("/v1/chat/completions", &nested(60)).status, 200, "60 levels are no attack");
    // Relayed or refused, but no stack overflows.
    for depth in [1_000, 100_000, 1_000_000] {
        assert!(
            [200, 400].contains(&fixture.post("/v1/chat/completions", &nested(depth)).status),
            "{depth} levels"
        );
    }
    assert_eq!(fixture.chat("").status, 200);
}

#[test]
fn twenty_mebibytes_each_way() {
    let answer = format!("{{ \"big\" : \"{}\" }}", "\u{e9}\\u0041 x".repeat(2_000_000));
    assert!(answer.len() > 20 << 20 || answer.len() > 20_000_000);
    let copy = answer.clone();
    let fixture = Fixture::new(move |_, to| to.json(200, &copy));
    let body = chat("main/m", &format!(",\"image\":\"{}\"", "QUJD+/".repeat(3_500_000)));
    assert!(body.len() > 20 << 20);
    let response = fixture.post("/v1/chat/completions", &body);
    assert_eq!(response.status, 200);
    assert!(response.complete);
    assert_same_bytes("answer", answer.as_bytes(), &response.body);
    let wanted = body.replacen("main/m", "up-model", 1);
    assert_same_bytes("request", wanted.as_bytes(), &fixture.provider.only_request().body);
}

#[test]
fn answers_are_relayed_byte_for_byte() {
    let bodies: &[(&str, &[u8])] = &[
        ("application/json", b"{ \"a\" : 1.0 ,\r\n\t\"n\":12345678901234567890, \"u\":\"\\u0041\" }\n\n"),
        ("application/json; charset=utf-8", b"{\"unknown\":{\"x_groq\":[]},\"usage\":null}"),
        ("text/plain; charset=utf-8", b"1\n00:00:00,000 --> 00:00:01,000\nnot JSON\n"),
        ("audio/mpeg", b"\xff\xfb\x90\x00\x00\x01\x02\r\n\r\n0\r\n\r\n\x00"),
        ("application/json", b"this says JSON and is not"),
        ("application/json", b""),
        ("text/html", b"<html>hello</html>"),
    ];
    for chunked in [false, true] {
        let fixture = Fixture::new(move |request, answer| {
            let at: usize = request.json()["at"].as_u64().unwrap().try_into().unwrap();
            let (content_type, body) = bodies[at];
            let header = format!("content-type: {content_type}\r\n");
            if chunked {
                answer.send(format!("HTTP/1.1 200 OK\r\n{header}transfer-encoding: chunked\r\n\r\n"));
                for piece in body.chunks(3) {
                    answer.chunk(piece);
                }
                answer.last_chunk();
            } else {
                answer.full(200, &header, body);
            }
        });
        let mut client = fixture.connect();
        for (at, (content_type, body)) in bodies.iter().enumerate() {
            let request = chat("main/m", &format!(",\"at\":{at}"));
            let response = client.post("/v1/chat/completions", &fixture.token, request.as_bytes());
            assert_eq!(response.status, 200, "answer {at}");
            assert!(response.complete);
            assert_eq!(response.header("content-type"), Some(*content_type));
            assert_same_bytes("answer", body, &response.body);
        }
    }
}

#[test]
fn every_endpoint_under_every_prefix() {
    let fixture = Fixture::new(|request, answer| {
        if request.path().ends_with("audio/speech") {
            answer.full(200, "content-type: audio/mpeg\r\n", &[0xff, 0xfb, 0, 1, 2]);
        } else {
            answer.json(200, &format!("{{\"path\":\"{}\"}}", request.path()));
        }
    });
    let (body, content_type) = multipart("main/m", true);
    let mut client = fixture.connect();
    for prefix in PREFIXES {
        for endpoint in JSON_ENDPOINTS {
            let response =
                client.post(&format!("{prefix}/{endpoint}"), &fixture.token, chat("main/m", "").as_bytes());
            assert_eq!(response.status, 200, "{prefix}/{endpoint}: {}", response.text());
            assert_eq!(response.header("x-tfy-resolved-model"), Some("main/m"));
            assert!(response.header("x-request-id").is_some());
            if *endpoint == "audio/speech" {
                assert_eq!(response.body, [0xff, 0xfb, 0, 1, 2]);
            } else {
                assert_eq!(response.json()["path"], format!("/v1/{endpoint}"));
            }
        }
        for endpoint in MULTIPART_ENDPOINTS {
            client.send_request(
                &format!("{prefix}/{endpoint}"),
                &fixture.token,
                &format!("content-type: {content_type}\r\n"),
                &body,
            );
            let response = client.read_response();
            assert_eq!(response.status, 200, "{prefix}/{endpoint}: {}", response.text());
            assert_eq!(response.json()["path"], format!("/v1/{endpoint}"));
        }
        let list = client.get(&format!("{prefix}/models"), &fixture.token);
        assert_eq!(list.status, 200, "{prefix}");
        assert_eq!(list.json()["data"][0]["id"], "main/m");
        for path in [
            format!("{prefix}/nothing"),
            format!("{prefix}/chat"),
            format!("{prefix}/chat/completions/"),
            format!("{prefix}/chat/completions/x"),
        ] {
            let response = client.post(&path, &fixture.token, chat("main/m", "").as_bytes());
            assert_eq!(response.status, 404, "{path}");
            if response.header("connection") == Some("close") {
                client = fixture.connect();
            }
        }
        for (method, path) in [("GET", "chat/completions"), ("DELETE", "embeddings"), ("PUT", "models")] {
            let mut other = fixture.connect();
            let response = other.request(method, &format!("{prefix}/{path}"), &fixture.token, "");
            response.assert_error(405);
            assert!(response.header("allow").is_some());
        }
    }
    assert_eq!(
        fixture.provider.request_count(),
        PREFIXES.len() * (JSON_ENDPOINTS.len() + MULTIPART_ENDPOINTS.len())
    );
}

/// A multipart form with a file whose bytes look like borders.
fn multipart(model: &str, model_last: bool) -> (Vec<u8>, &'static str) {
    let file = b"--XyZ\r\n\r\n--XyZz-not\r\n\x00\xff\xfe content-disposition: form-data; name=\"model\"\r\n";
    let mut file_part =
        b"--XyZzy\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n"
            .to_vec();
    file_part.extend_from_slice(file);
    file_part.extend_from_slice(&[7; 100_000]);
    file_part.extend_from_slice(b"\r\n");
    let model_part =
        format!("--XyZzy\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n").into_bytes();
    let other =
        b"--XyZzy\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nmain/m and more\r\n".to_vec();
    let parts = if model_last { [file_part, other, model_part] } else { [model_part, other, file_part] };
    ([parts.concat(), b"--XyZzy--\r\n".to_vec()].concat(), "multipart/form-data; boundary=XyZzy")
}

#[test]
fn multipart_forms_keep_every_byte_but_the_model() {
    let fixture = answering();
    let mut number = 0;
    for model_last in [true, false] {
        for quoted in [false, true] {
            for chunked in [false, true] {
                let (body, content_type) = multipart("main/m", model_last);
                let content_type =
                    if quoted { content_type.replace("XyZzy", "\"XyZzy\"") } else { content_type.to_owned() };
                let mut client = fixture.connect();
                if chunked {
                    let mut bytes = format!(
                        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n",
                        fixture.token
                    )
                    .into_bytes();
                    for piece in body.chunks(997) {
                        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                        bytes.extend_from_slice(piece);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n\r\n");
                    client.send(&bytes);
                } else {
                    client.send_request(
                        "/v1/audio/transcriptions",
                        &fixture.token,
                        &format!("content-type: {content_type}\r\n"),
                        &body,
                    );
                }
                let response = client.read_response();
                assert_eq!(response.status, 200, "{}", response.text());
                let got = fixture.provider.wait_for_request(number);
                number += 1;
                // The provider is told how the gateway read it, not what the caller wrote.
                let told = "multipart/form-data; boundary=XyZzy";
                assert_eq!(got.header("content-type").as_deref(), Some(told));
                assert_same_bytes("form", &multipart("up-model", model_last).0, &got.body);
            }
        }
    }
}

#[test]
fn a_multipart_form_without_one_model_is_400() {
    let fixture = answering();
    let (good, content_type) = multipart("main/m", true);
    let part = |name: &str, value: &str| {
        format!("--XyZzy\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let end = "--XyZzy--\r\n";
    for (name, content_type, body) in [
        ("no boundary", "multipart/form-data", good.clone()),
        ("empty boundary", "multipart/form-data; boundary=", good.clone()),
        ("JSON type", "application/json", good.clone()),
        ("another boundary", "multipart/form-data; boundary=other", good.clone()),
        ("no model", content_type, (part("prompt", "x") + end).into()),
        ("two models", content_type, (part("model", "main/m") + &part("model", "main/m") + end).into()),
        ("model empty", content_type, (part("model", "") + end).into()),
        ("no end", content_type, part("model", "main/m").into()),
        ("cut", content_type, good[..good.len() - 40].to_vec()),
        (
            // RFC 2046: a line that begins with the boundary is one, whatever follows. Others read it as text.
            "a boundary with more behind it",
            content_type,
            (part("model", "main/m") + "--XyZzy-not\r\n" + &part("prompt", "x") + end).into(),
        ),
        ("empty", content_type, Vec::new()),
    ] {
        let mut client = fixture.connect();
        client.send_request(
            "/v1/audio/transcriptions",
            &fixture.token,
            &format!("content-type: {content_type}\r\n"),
            &body,
        );
        let response = client.read_response();
        assert_eq!(response.status, 400, "{name}: {}", response.text());
        response.assert_error(400);
    }
    assert_eq!(fixture.provider.request_count(), 0);
}

#[test]
fn what_another_reader_could_take_for_another_model_is_refused() {
    let fixture = answering();
    let json = "content-type: application/json\r\n";
    let long = format!("{{\"model\":\"main/{}\"}}", "\\u0001".repeat(100_000));
    for (name, headers, body, status) in [
        ("other case", json, r#"{"model":"main/m","Model":"big"}"#, 400),
        ("other case first", json, r#"{"MODEL":"big","model":"main/m"}"#, 400),
        ("other case, escaped", json, r#"{"model":"main/m","\u004dodel":"big"}"#, 400),
        ("a list", json, r#"["main/m",true]"#, 400),
        ("stream is a number", json, r#"{"model":"main/m","stream":1}"#, 400),
        ("stream is a text", json, r#"{"model":"main/m","stream":"true"}"#, 400),
        ("a long model", json, long.as_str(), 400),
        (
            "another type",
            "content-type: application/x-www-form-urlencoded\r\n",
            r#"{"model":"main/m","x":"&model=big"}"#,
            415,
        ),
        (
            "another charset",
            "content-type: application/json; charset=utf-7\r\n",
            r#"{"model":"main/m"}"#,
            415,
        ),
        (
            "two types",
            "content-type: application/json\r\ncontent-type: text/plain\r\n",
            r#"{"model":"main/m"}"#,
            400,
        ),
    ] {
        let mut client = fixture.connect();
        client.send_request("/v1/chat/completions", &fixture.token, headers, body.as_bytes());
        let response = client.read_response();
        assert_eq!(response.status, status, "{name}: {}", response.text());
        assert!(response.body.len() < 2_000, "{name}: {} bytes of error", response.body.len());
    }
    assert_eq!(fixture.provider.request_count(), 0);
}
