//! The relay: bytes in, bytes out, and what must not travel either way.

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

use support::client::assert_same_bytes;
use support::gateway::token_id;
use support::{CHAT_ANSWER, Client, Fixture, Gateway, PROVIDER_KEY, Provider, Response, chat};

/// The inference prefixes of the contract, each with its optional `/v1`.
const PREFIXES: &[&str] = &[
    "/api/llm/api/inference/openai",
    "/api/llm/api/inference/openai/v1",
    "/api/llm",
    "/api/llm/v1",
    "/v1",
];

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
        r#"{"messages":[{"model":"x","role":"user"},{"model":1}],"model":"@","MODEL":"y","models":["z"],"model ":"w"}"#,
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
    let nested = |depth: usize| format!(r#"{{"model":"main/m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
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
        ("nested a hundred thousand deep", nested(100_000).into_bytes()),
        ("stream not a boolean", br#"{"model":"main/m","stream":"yes"}"#.to_vec()),
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
    let file = b"--XyZ\r\n\r\n--XyZzy-not\r\n\x00\xff\xfe content-disposition: form-data; name=\"model\"\r\n";
    let mut file_part =
        b"--XyZzy\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n"
            .to_vec();
    file_part.extend_from_slice(file);
    file_part.extend_from_slice(&[7; 100_000]);
    file_part.extend_from_slice(b"\r\n");
    let model_part =
        format!("--XyZzy\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n").into_bytes();
    let other = b"--XyZzy\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nmain/m and more\r\n".to_vec();
    let parts =
        if model_last { [file_part, other, model_part] } else { [model_part, other, file_part] };
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
                assert_eq!(got.header("content-type"), Some(content_type));
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
fn models_are_listed_and_shown_to_those_who_may_use_them() {
    let fixture = answering();
    let gateway = &fixture.gateway;
    gateway.add_account("other", &fixture.provider.base_url());
    gateway.admin_ok(&["model", "add", "other/family/big:7b", "--model-id", "big"]);
    gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "other/family/big:7b"]);
    let mut client = fixture.connect();
    let list = client.get("/v1/models", &fixture.token).json();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["main/m", "other/family/big:7b"]);
    for model in list["data"].as_array().unwrap() {
        assert_eq!(model["object"], "model");
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
    }
    for path in ["main/m", "main%2Fm", "other/family/big:7b", "other%2Ffamily%2Fbig%3A7b"] {
        let one = client.get(&format!("/v1/models/{path}"), &fixture.token);
        assert_eq!(one.status, 200, "{path}");
        assert!(list["data"].as_array().unwrap().contains(&one.json()), "{path}: {}", one.text());
    }
    // Forbidden and absent are the same.
    let answers: Vec<String> = ["other/m", "other/x", "gone/m", "main"]
        .into_iter()
        .map(|name| {
            let response = client.get(&format!("/v1/models/{name}"), &fixture.token);
            response.assert_error(404);
            response.text().replace(name, "NAME")
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    gateway.admin_ok(&["user", "create", "bob@example.com"]);
    let bob = gateway.user_token("bob@example.com");
    assert_eq!(client.get("/v1/models", &bob).json()["data"], json!([]));
}

/// Everything of an answer that may not differ between two refusals.
fn comparable(response: &Response, name: &str) -> (u16, Vec<(String, String)>, String) {
    let headers = response
        .head
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id", "content-length"].contains(&name.as_str()))
        .cloned()
        .collect();
    (response.status, headers, response.text().replace(name, "NAME"))
}

#[test]
fn unknown_and_forbidden_models_answer_with_the_same_words() {
    let fixture = answering();
    fixture.gateway.add_account("secret", &fixture.provider.base_url());
    fixture.gateway.admin_ok(&["model", "add", "secret/n", "--model-id", "n"]);
    let answers: Vec<_> = ["secret/m", "secret/n", "secret/none", "none/m", "main/none", "main/M", "main/m/x"]
        .into_iter()
        .map(|name| {
            let response = fixture.post("/v1/chat/completions", &chat(name, ""));
            response.assert_error(403);
            let body = response.json();
            let words =
                format!("User ada@example.com is not authorized to access model {name} or model does not exist");
            assert_eq!(body["error"]["message"], *words);
            assert_eq!(body["message"], *words);
            assert_eq!((&body["status"], &body["error"]["type"]), (&json!("failure"), &json!("AuthorizationError")));
            comparable(&response, name)
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(fixture.provider.request_count(), 0);
}

#[test]
fn bad_tokens_are_401_with_the_same_words() {
    let fixture = answering();
    let elsewhere = Gateway::start();
    elsewhere.admin_ok(&["user", "create", "ada@example.com"]);
    let foreign = elsewhere.user_token("ada@example.com");
    let gateway = &fixture.gateway;
    let revoked = gateway.user_token("ada@example.com");
    gateway.admin_ok(&["token", "revoke", token_id(&revoked)]);
    gateway.admin_ok(&["user", "create", "gone@example.com"]);
    let gone = gateway.user_token("gone@example.com");
    gateway.admin_ok(&["user", "deactivate", "gone@example.com"]);
    let good = &fixture.token;
    let mut mistyped = good.clone();
    let last = if mistyped.pop() == Some('x') { 'y' } else { 'x' };
    mistyped.push(last);
    // The public id of one token with the secret of another.
    let mixed = format!("tfy_pat_{}_{}", token_id(good), foreign.rsplit('_').next().unwrap());
    let lines = [
        String::new(),
        "authorization:\r\n".to_owned(),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer \r\n".to_owned(),
        format!("authorization: {good}\r\n"),
        format!("authorization: Basic {good}\r\n"),
        format!("authorization: Bearer{good}\r\n"),
        format!("authorization: Bearer {good} x\r\n"),
        format!("authorization: Bearer {mistyped}\r\n"),
        format!("authorization: Bearer {}\r\n", &good[..good.len() - 1]),
        format!("authorization: Bearer {}\r\n", good.replace("tfy_pat_", "tfy_va_")),
        format!("authorization: Bearer {}\r\n", good.to_uppercase()),
        format!("authorization: Bearer {foreign}\r\n"),
        format!("authorization: Bearer {mixed}\r\n"),
        format!("authorization: Bearer {revoked}\r\n"),
        format!("authorization: Bearer {gone}\r\n"),
        format!("authorization: Bearer {PROVIDER_KEY}\r\n"),
        "authorization: Bearer sk-1234\r\n".to_owned(),
        format!("x-token: {good}\r\n"),
        format!("cookie: token={good}\r\n"),
    ];
    let body = chat("main/m", "");
    let answers: Vec<_> = lines
        .iter()
        .map(|line| {
            let mut client = fixture.connect();
            client.send(
                format!(
                    "POST /v1/chat/completions?token={good} HTTP/1.1\r\nhost: x\r\n{line}content-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
            let response = client.read_response();
            assert_eq!(response.status, 401, "{line:?}");
            response.assert_error(401);
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            comparable(&response, "-")
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(fixture.provider.request_count(), 0);
    // The scheme's letters do not matter.
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let mut client = fixture.connect();
        client.send(
            format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: {scheme} {good}\r\n\r\n").as_bytes(),
        );
        assert_eq!(client.read_response().status, 200, "{scheme}");
    }
    for secret in [good, &revoked, &gone, &foreign] {
        fixture.gateway.assert_log_lacks(secret.rsplit('_').next().unwrap());
    }
}

#[test]
fn the_providers_errors_pass_byte_for_byte() {
    let fixture = Fixture::new(|request, answer| {
        let status = u16::try_from(request.json()["status"].as_u64().unwrap()).unwrap();
        answer.full(
            status,
            "content-type: application/json; charset=utf-8\r\nretry-after: 17\r\nretry-after-ms: 17000\r\n\
             x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 6m0s\r\n\
             x-request-id: req_of_provider\r\nset-cookie: session=1\r\nset-cookie: other=2\r\n\
             connection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nserver: nginx\r\n",
            format!("{{ \"error\" : {{\"message\":\"no \\u0041 {status}\",\"code\": 1.0}} }}\n").as_bytes(),
        );
    });
    for status in [400, 404, 408, 409, 410, 413, 422, 429, 500, 502, 503, 504, 529] {
        for stream in ["", ",\"stream\":true"] {
            let response = fixture.chat(&format!(",\"status\":{status}{stream}"));
            assert_eq!(response.status, status);
            let wanted = format!("{{ \"error\" : {{\"message\":\"no \\u0041 {status}\",\"code\": 1.0}} }}\n");
            assert_same_bytes("error", wanted.as_bytes(), &response.body);
            for (name, value) in [
                ("content-type", "application/json; charset=utf-8"),
                ("retry-after", "17"),
                ("retry-after-ms", "17000"),
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
                ("x-upstream-request-id", "req_of_provider"),
                ("x-tfy-resolved-model", "main/m"),
            ] {
                assert_eq!(response.header(name), Some(value), "{status} {name}");
            }
            assert!(response.header("x-request-id").is_some_and(|id| id != "req_of_provider"));
            for name in ["set-cookie", "x-hop", "keep-alive"] {
                assert_eq!(response.header(name), None, "{name}");
            }
        }
    }
}

#[test]
fn a_refusal_of_the_gateways_own_key_is_502_and_says_whose() {
    let fixture = Fixture::new(|request, answer| {
        let status = u16::try_from(request.json()["status"].as_u64().unwrap()).unwrap();
        let key = request.header("authorization").unwrap();
        answer.full(
            status,
            &format!("content-type: application/json\r\nlocation: http://{0}/x\r\nwww-authenticate: {key}\r\nx-request-id: {key}\r\n", request.header("host").unwrap()),
            format!("{{\"error\":{{\"message\":\"Incorrect API key provided: {key}\"}}}}").as_bytes(),
        );
    });
    for status in [401, 403, 300, 301, 302, 303, 307, 308] {
        let response = fixture.chat(&format!(",\"status\":{status}"));
        response.assert_error(502);
        assert!(response.text().contains("'main'"), "{}", response.text());
        assert_private(&fixture, &response);
    }
    assert_eq!(fixture.provider.request_count(), 8, "nothing is retried or followed");
}

/// Neither the provider's key nor its address, nor a trace of its answer's own headers.
fn assert_private(fixture: &Fixture, response: &Response) {
    let all = format!("{:?} {}", response.head, response.text());
    for secret in [PROVIDER_KEY, &fixture.provider.host_port(), &fixture.provider.addr.port().to_string()] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    assert_eq!(response.header("location"), None);
    fixture.gateway.assert_log_lacks(PROVIDER_KEY);
    fixture.gateway.assert_log_lacks(&fixture.token);
}

#[test]
fn an_unreachable_provider_is_502_and_a_slow_one_504() {
    let fixture = Fixture::with_config("relay.first_byte_timeout_ms = 300\n", |request, answer| {
        match request.json()["how"].as_str() {
            Some("head only") => {
                answer.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n");
            }
            Some("half a head") => {
                answer.send("HTTP/1.1 200 OK\r\ncontent-");
            }
            _ => {}
        }
        answer.hold();
    });
    for how in ["nothing", "head only", "half a head"] {
        for stream in ["", ",\"stream\":true"] {
            let response = fixture.chat(&format!(",\"how\":\"{how}\"{stream}"));
            response.assert_error(504);
            assert!(response.text().contains("'main'"), "{}", response.text());
            assert_eq!(response.header("x-tfy-resolved-model"), Some("main/m"));
            assert_private(&fixture, &response);
        }
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fixture.gateway.add_account("closed", &format!("http://{closed}/v1"));
    fixture.gateway.add_account("nameless", "http://no-such-host.invalid/v1");
    for account in ["closed", "nameless"] {
        fixture.gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", account]);
        let response = fixture.post("/v1/chat/completions", &chat(&format!("{account}/m"), ""));
        response.assert_error(502);
        assert!(response.text().contains(&format!("'{account}'")), "{}", response.text());
        assert!(!response.text().contains(&closed.to_string()) && !response.text().contains("no-such-host"));
        assert_private(&fixture, &response);
    }
    fixture.wait_for_outcome("provider-failed", 8);
}

#[test]
fn headers_to_the_provider_are_an_allow_list() {
    let fixture = answering();
    let mut client = fixture.connect();
    client.send_request(
        "/v1/chat/completions",
        &fixture.token,
        "content-type: application/json\r\ncookie: a=b\r\nx-tfy-metadata: {\"a\":\"b\"}\r\nx-tfy-logging-config: {\"enabled\":true}\r\n\
         x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: h\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\n\
         via: 1.1 p\r\nproxy-authorization: Basic x\r\nx-api-key: k\r\napi-key: k\r\nopenai-organization: org-1\r\nopenai-project: p-1\r\n\
         x-custom: 1\r\norigin: http://o\r\nreferer: http://r\r\nte: trailers\r\nkeep-alive: timeout=5\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\
         upgrade: h2c\r\nx-stainless-lang: python\r\naccept-encoding: gzip, br\r\naccept: application/json\r\nrange: bytes=0-1\r\nx-request-id: mine-1\r\n",
        chat("main/m", "").as_bytes(),
    );
    let response = client.read_response();
    assert_eq!(response.status, 200, "{}", response.text());
    let got = fixture.provider.only_request();
    let allowed = [
        "host",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "x-request-id",
        "connection",
        "openai-beta",
        "idempotency-key",
    ];
    for (name, value) in got.headers() {
        assert!(allowed.contains(&name.as_str()), "{name}: {value} reached the provider");
        assert!(!value.contains(&fixture.token), "the caller's token reached the provider");
    }
    assert_eq!(got.header("authorization").as_deref(), Some(&*format!("Bearer {PROVIDER_KEY}")));
    let encoding = got.header("accept-encoding");
    assert!(encoding.is_none() || encoding.as_deref() == Some("identity"), "{encoding:?}");
    assert!(!got.head.contains(&fixture.token));
}

#[test]
fn request_ids_are_echoed_when_sane() {
    let fixture = answering();
    let ask = |id: Option<&str>, body: &str| {
        let mut client = fixture.connect();
        let line = id.map(|id| format!("x-request-id: {id}\r\n")).unwrap_or_default();
        client.send_request("/v1/chat/completions", &fixture.token, &line, body.as_bytes());
        let response = client.read_response();
        response.header("x-request-id").expect("x-request-id").to_owned()
    };
    let good = chat("main/m", "");
    for body in [&*good, "{}", &chat("none/m", "")] {
        for id in ["abc", "A-b_c.9", "0191e7a2-6f0b-7c3e-9a51-123456789abc"] {
            assert_eq!(ask(Some(id), body), id);
        }
        let mut seen = std::collections::HashSet::new();
        let long = "a".repeat(1000);
        for id in [None, Some(""), Some("a b"), Some("a\"b"), Some("a\\b"), Some("{x}"), Some("a,b"), Some(&*long)] {
            let own = ask(id, body);
            assert_ne!(Some(&*own), id);
            assert!(own.len() >= 8 && own.len() <= 128, "{own}");
            assert!(seen.insert(own), "an id given twice");
        }
    }
}

#[test]
fn metadata_is_a_json_object_of_strings() {
    let fixture = answering();
    let ask = |value: &str| {
        let mut client = fixture.connect();
        client.send_request(
            "/v1/chat/completions",
            &fixture.token,
            &format!("X-TFY-METADATA: {value}\r\n"),
            chat("main/m", "").as_bytes(),
        );
        client.read_response()
    };
    let fits = format!("{{\"k\":\"{}\"}}", "x".repeat(128));
    let long = format!("{{\"k\":\"{}\"}}", "x".repeat(129));
    let good = [r#"{"tfy_log_request":"true"}"#, "{}", r#"{"a":"1","b":"caf\u00e9"}"#, r#" { "a" : "" } "#, &fits];
    for value in good {
        assert_eq!(ask(value).status, 200, "{value}");
    }
    let bad = [
        "", "x", "{", "[]", "\"a\"", "null", "1", r#"{"a":1}"#, r#"{"a":true}"#, r#"{"a":null}"#, r#"{"a":{"b":"c"}}"#,
        r#"{"a":["b"]}"#, r#"{"a":"b"} x"#, r#"{"a":"b","a":"c"}"#, &long,
    ];
    for value in bad {
        let response = ask(value);
        assert_eq!(response.status, 400, "{value}: {}", response.text());
        response.assert_error(400);
        let message = response.json()["error"]["message"].as_str().unwrap().to_ascii_lowercase();
        assert!(message.contains("x-tfy-metadata"), "{value}: {message}");
    }
    assert_eq!(fixture.provider.request_count(), good.len());
}

#[test]
fn the_usage_report_shows_calls_by_person_application_and_model() {
    let fixture = Fixture::new(|request, answer| match request.path() {
        "/v1/embeddings" => answer.json(200, r#"{"object":"list","data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#),
        "/v1/responses" => answer.json(200, r#"{"object":"response","status":"completed","usage":{"input_tokens":30,"input_tokens_details":{"cached_tokens":10},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":8},"total_tokens":50}}"#),
        "/v1/completions" => answer.json(200, r#"{"object":"text_completion","choices":[{"text":"eight or so words are counted when none say"}]}"#),
        "/v1/moderations" => answer.json(500, r#"{"error":{"message":"no"}}"#),
        _ => answer.json(200, CHAT_ANSWER),
    });
    let gateway = &fixture.gateway;
    gateway.admin_ok(&["virtual-account", "create", "app"]);
    gateway.admin_ok(&["grant", "virtualaccount:app", "provider-account-access", "main/m"]);
    let app = gateway.admin_ok(&["token", "create", "--virtual-account", "app", "--name", "tok"]);
    let call = |path: &str, token: &str| {
        Client::connect(gateway.addr).post(path, token, chat("main/m", "").as_bytes()).status
    };
    assert_eq!(call("/v1/chat/completions", &app), 200);
    assert_eq!(call("/v1/embeddings", &app), 200);
    assert_eq!(call("/v1/responses", &fixture.token), 200);
    assert_eq!(call("/v1/moderations", &fixture.token), 500);
    assert_eq!(fixture.post("/v1/chat/completions", &chat("none/m", "")).status, 403);
    let rows = gateway.wait_for_usage("user,virtual-account,model", 4);
    let find = |who: &str| -> Value {
        rows.iter().find(|row| row.to_string().contains(who)).unwrap_or_else(|| panic!("{who}: {rows:?}")).clone()
    };
    let app_row = find("\"app\"");
    for (field, value) in [("calls", 2), ("errors", 0), ("inputTokens", 13), ("outputTokens", 12), ("estimatedCalls", 0)] {
        assert_eq!(app_row[field], value, "{field} in {app_row}");
    }
    let ada = find("ada@example.com");
    for (field, value) in [
        ("calls", 2),
        ("errors", 1),
        ("inputTokens", 30),
        ("outputTokens", 20),
        ("cachedTokens", 10),
        ("reasoningTokens", 8),
        ("estimatedCalls", 0),
    ] {
        assert_eq!(ada[field], value, "{field} in {ada}");
    }
    assert!(ada.to_string().contains("main/m"));
    // An answer that says nothing of usage is estimated, and says so.
    assert_eq!(call("/v1/completions", &app), 200);
    let rows = gateway.wait_for_usage("virtual-account", 5);
    let row = rows.iter().find(|row| row.to_string().contains("\"app\"")).unwrap();
    assert_eq!((&row["calls"], &row["estimatedCalls"]), (&json!(3), &json!(1)), "{row}");
    assert!(row["outputTokens"].as_u64() > Some(12), "{row}");
    // It is on disk: the same after a restart.
    let Fixture { gateway, .. } = fixture;
    let gateway = gateway.stop().serve();
    let again = gateway.wait_for_usage("virtual-account", 5);
    assert_eq!(again.len(), rows.len());
}
