//! The provider's answers and errors, headers both ways, request ids, metadata, and what is accounted.

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
use support::{CHAT_ANSWER, Client, Fixture, PROVIDER_KEY, Provider, Response, chat};

fn answering() -> Fixture {
    Fixture::on(Provider::answering(CHAT_ANSWER), "")
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
    // What never reached a provider is no usage.
    assert_eq!(fixture.gateway.wait_for_usage("user", 6)[0]["calls"], 6);
}

#[test]
fn headers_to_the_provider_are_an_allow_list() {
    let fixture = answering();
    let mut client = fixture.connect();
    client.send_request(
        "/v1/chat/completions",
        &fixture.token,
        &format!(
            "content-type: application/json\r\ncookie: a=b\r\nx-tfy-metadata: {{\"a\":\"b\"}}\r\nx-tfy-logging-config: {{\"enabled\":true}}\r\n\
         x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: h\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\n\
         via: 1.1 p\r\nproxy-authorization: Basic x\r\nx-api-key: {}\r\napi-key: k\r\nopenai-organization: org-1\r\nopenai-project: p-1\r\n\
         x-custom: 1\r\norigin: http://o\r\nreferer: http://r\r\nte: trailers\r\nkeep-alive: timeout=5\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\
         upgrade: h2c\r\nx-stainless-lang: python\r\naccept-encoding: gzip, br\r\naccept: application/json\r\nrange: bytes=0-1\r\nx-request-id: mine-1\r\n",
            fixture.token
        ),
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
        for id in
            [None, Some(""), Some("a b"), Some("a\"b"), Some("a\\b"), Some("{x}"), Some("a,b"), Some(&*long)]
        {
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
    let good =
        [r#"{"tfy_log_request":"true"}"#, "{}", r#"{"a":"1","b":"caf\u00e9"}"#, r#" { "a" : "" } "#, &fits];
    for value in good {
        assert_eq!(ask(value).status, 200, "{value}");
    }
    let bad = [
        "",
        "x",
        "{",
        "[]",
        "\"a\"",
        "null",
        "1",
        r#"{"a":1}"#,
        r#"{"a":true}"#,
        r#"{"a":null}"#,
        r#"{"a":{"b":"c"}}"#,
        r#"{"a":["b"]}"#,
        r#"{"a":"b"} x"#,
        &long,
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
    let fixture = Fixture::new(|request, answer| {
        match request.path() {
        "/v1/embeddings" => answer.json(200, r#"{"object":"list","data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#),
        "/v1/responses" => answer.json(200, r#"{"object":"response","status":"completed","usage":{"input_tokens":30,"input_tokens_details":{"cached_tokens":10},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":8},"total_tokens":50}}"#),
        "/v1/completions" => answer.json(200, r#"{"object":"text_completion","choices":[{"text":"eight or so words are counted when none say"}]}"#),
        "/v1/moderations" => answer.json(500, r#"{"error":{"message":"no"}}"#),
        _ => answer.json(200, CHAT_ANSWER),
    }
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
        rows.iter()
            .find(|row| row.to_string().contains(who))
            .unwrap_or_else(|| panic!("{who}: {rows:?}"))
            .clone()
    };
    let app_row = find("\"app\"");
    for (field, value) in
        [("calls", 2), ("errors", 0), ("inputTokens", 13), ("outputTokens", 12), ("estimatedCalls", 0)]
    {
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
