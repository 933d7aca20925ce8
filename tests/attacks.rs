//! What callers and providers may send to hurt a gateway that translates, through the real binary: it answers, tells no
//! key, counts what was used, and lives.

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

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use support::client::Response;
use support::gateway::Gateway;
use support::{Client, Provider, Received};

const KEY: &str = "sk-KEY-SECRET-0123456789";
const ACCOUNTS: [&str; 4] = ["claude", "compat", "bed", "gem"];
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];

/// Status, header lines and body of the provider's next answers.
type Script = Arc<Mutex<(u16, String, Vec<u8>)>>;

/// A gateway with an account of each protocol, and one provider behind all of them that says what it is told to.
struct Stage {
    gateway: Gateway,
    provider: Provider,
    token: String,
    script: Script,
}

impl Stage {
    fn new(config: &str) -> Self {
        let script = Script::default();
        let said = Arc::clone(&script);
        let provider = Provider::start(move |request, answer| {
            let (status, headers, body) = said.lock().unwrap().clone();
            let body = match String::from_utf8(body) {
                Ok(text) => text.replace("{ECHO}", &shown(request)).into_bytes(),
                Err(error) => error.into_bytes(),
            };
            answer.full(status, &headers.replace("{ECHO}", &shown(request)), &body);
        });
        Self::with(config, provider, script)
    }

    fn with(config: &str, provider: Provider, script: Script) -> Self {
        let gateway = Gateway::with_config(config);
        let account = |kind: &str, name: &str, model_kind: &str, models: [&str; 2], more: Value| {
            let model = |name: &str, id: &str, kind: &str| json!({"type": format!("integration/model/{model_kind}"), "name": name, "model_id": id, "model_types": [kind]});
            let mut manifest = json!({"type": format!("provider-account/{kind}"), "name": name, "base_url": provider.base_url(),
                "auth_data": {"type": "api-key", "api_key": KEY},
                "integrations": [model("m", models[0], "chat"), model("e", models[1], "embedding")]});
            manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            manifest
        };
        let keys = json!({"region": "us-east-1", "auth_data": {"type": "access-key-based", "access_key_id": "AKIAEXAMPLE", "secret_access_key": KEY}});
        let manifests = json!([
            account("anthropic", "claude", "anthropic", ["claude-sonnet-4-5", "none"], json!({})),
            account("groq", "compat", "groq", ["llama-3.3-70b", "embedding"], json!({})),
            account(
                "aws-bedrock",
                "bed",
                "bedrock",
                ["us.anthropic.claude-sonnet-4-20250514-v1:0", "amazon.titan-embed-text-v2:0"],
                keys
            ),
            account(
                "google-gemini",
                "gem",
                "gemini",
                ["gemini-2.0-flash", "gemini-embedding-001"],
                json!({"auth_data": {"type": "api-key", "apiKey": KEY}})
            ),
        ]);
        let path = gateway.home.path("accounts.json");
        std::fs::write(&path, manifests.to_string()).unwrap();
        gateway.admin_ok(&["apply", "-f", path.to_str().unwrap()]);
        gateway.admin_ok(&["user", "create", "ada@example.com"]);
        let token = gateway.user_token("ada@example.com");
        for account in ACCOUNTS {
            gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", account]);
        }
        Self { gateway, provider, token, script }
    }

    fn says(&self, status: u16, headers: &str, body: impl AsRef<[u8]>) {
        *self.script.lock().unwrap() = (status, headers.to_owned(), body.as_ref().to_vec());
    }

    fn post(&self, path: &str, body: &str) -> Response {
        Client::connect(self.gateway.addr).post(path, &self.token, body.as_bytes())
    }

    /// It has not died, of a stack that overflowed or anything else.
    fn assert_alive(&self, after: &str) {
        assert_eq!(self.gateway.ops("/healthz").status, 200, "{after}");
    }
}

/// The header that carries the credential of a request, as it came.
fn shown(request: &Received) -> String {
    let value = |name| request.header(name);
    value("authorization").or(value("x-api-key")).or(value("x-goog-api-key")).unwrap_or_default()
}

/// What of it is secret.
fn secret(request: &Received) -> String {
    let shown = shown(request);
    shown.rsplit([' ', '=']).next().unwrap().to_owned()
}

/// A question for a path, with more members.
fn ask(path: &str, account: &str, more: &str) -> String {
    let rest = match path {
        "/v1/chat/completions" => r#""messages":[{"role":"user","content":"hi"}]"#,
        "/v1/messages" => r#""max_tokens":9,"messages":[{"role":"user","content":"hi"}]"#,
        _ => r#""input":"hi""#,
    };
    format!(r#"{{"model":"{account}/m",{rest}{more}}}"#)
}

fn nested(depth: usize) -> String {
    let half = depth / 2;
    format!("{}1{}", "[{\"a\":".repeat(half), "}]".repeat(half))
}

const JSON: &str = "content-type: application/json\r\n";
const SSE: &str = "content-type: text/event-stream\r\n";

#[test]
fn deep_requests_leave_the_gateway_alive() {
    let stage = Stage::new("");
    stage.says(500, JSON, "{}");
    for depth in [30, 58, 90, 100, 120, 126, 130, 20_000] {
        let deep = nested(depth);
        let schema =
            format!(r#"{{"type":"object","properties":{{"x":{deep}}},"additionalProperties":false}}"#);
        let text = Value::from(format!("{{\"x\":{deep}}}"));
        for account in ACCOUNTS {
            for (path, more) in [
                (
                    PATHS[0],
                    format!(
                        r#","tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}]"#
                    ),
                ),
                (
                    PATHS[0],
                    format!(
                        r#","response_format":{{"type":"json_schema","json_schema":{{"name":"f","strict":true,"schema":{schema}}}}}"#
                    ),
                ),
                (
                    PATHS[0],
                    format!(
                        r#","user":"u","provider_options":{{"metadata":{schema},"generationConfig":{schema},"output_config":{schema},"additionalModelRequestFields":{schema}}}"#
                    ),
                ),
                (PATHS[0], format!(r#","unknown":{deep}"#)),
                (PATHS[1], format!(r#","tools":[{{"name":"f","strict":true,"input_schema":{schema}}}]"#)),
                (
                    PATHS[1],
                    format!(r#","output_config":{{"format":{{"type":"json_schema","schema":{schema}}}}}"#),
                ),
                (
                    PATHS[2],
                    format!(
                        r#","tools":[{{"type":"function","name":"f","strict":true,"parameters":{schema}}}]"#
                    ),
                ),
                (
                    PATHS[2],
                    format!(
                        r#","text":{{"format":{{"type":"json_schema","name":"f","strict":true,"schema":{schema}}}}}"#
                    ),
                ),
            ] {
                let response = stage.post(path, &ask(path, account, &more));
                assert!(
                    [400, 500, 502].contains(&response.status),
                    "{account} {depth} {more:.60}: {}",
                    response.text()
                );
            }
            let turns = format!(
                r#"{{"model":"{account}/m","messages":[{{"role":"user","content":"x"}},{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":{text}}}}}]}},{{"role":"tool","tool_call_id":"1","content":{text}}}]}}"#
            );
            let response = stage.post(PATHS[0], &turns);
            assert!([400, 500, 502].contains(&response.status), "{account} {depth}: {}", response.text());
            stage.post(
                "/v1/messages/count_tokens",
                &ask(PATHS[1], account, &format!(r#","tools":[{{"name":"f","input_schema":{schema}}}]"#)),
            );
        }
        stage.assert_alive(&format!("depth {depth}"));
    }
}

#[test]
fn deep_answers_leave_the_gateway_alive() {
    let stage = Stage::new("");
    for depth in [30, 58, 90, 120, 126, 130, 20_000] {
        let deep = nested(depth);
        for body in [
            deep.clone(),
            format!(r#"{{"error":{{"message":"x","type":"y","details":{deep},"param":{deep}}}}}"#),
            format!(
                r#"{{"type":"message","content":[{{"type":"tool_use","id":"1","name":"f","input":{{"a":{deep}}}}}],"stop_reason":"tool_use"}}"#
            ),
            format!(
                r#"{{"choices":[{{"index":0,"message":{{"tool_calls":[{{"function":{{"name":"f","arguments":{deep}}}}}]}},"delta":{{"x":{deep}}},"finish_reason":"stop"}}]}}"#
            ),
            format!(
                r#"{{"output":{{"message":{{"content":[{{"toolUse":{{"toolUseId":"1","name":"f","input":{{"a":{deep}}}}}}}]}}}},"stopReason":"tool_use"}}"#
            ),
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{{"a":{deep}}}}}}}]}},"finishReason":"STOP"}}]}}"#
            ),
        ] {
            for account in ACCOUNTS {
                for path in PATHS {
                    stage.says(200, JSON, &body);
                    stage.post(path, &ask(path, account, ""));
                    stage.says(400, JSON, &body);
                    let response = stage.post(path, &ask(path, account, ""));
                    assert_eq!(response.status, 400, "{account} {path} {depth}: {}", response.text());
                    stage.says(200, SSE, format!("data: {body}\n\n"));
                    stage.post(path, &ask(path, account, r#","stream":true"#));
                }
            }
        }
        stage.assert_alive(&format!("depth {depth}"));
    }
}

#[test]
fn a_key_that_a_provider_repeats_reaches_nobody() {
    let stage = Stage::new("");
    for body in [
        json!({"error": {"type": "invalid_request_error", "code": "{ECHO}", "message": "bad header: {ECHO}"}}),
        json!({"message": "the headers were authorization: {ECHO}"}),
        json!({"error": {"type": "authentication_error", "message": "bad key {ECHO}"}}),
    ] {
        for account in ACCOUNTS {
            for path in PATHS {
                // Equal dialects pass as they are.
                if (account, path) == ("claude", PATHS[1]) || (account, path) == ("compat", PATHS[0]) {
                    continue;
                }
                for status in [400, 401, 403, 404, 429, 500, 503] {
                    stage.says(
                        status,
                        &format!("{JSON}x-request-id: r-1\r\nx-echo: {{ECHO}}\r\n"),
                        body.to_string(),
                    );
                    let response = stage.post(path, &ask(path, account, ""));
                    assert!(response.status >= 400);
                    let secret = secret(stage.provider.requests().last().unwrap());
                    assert!(secret.len() > 20);
                    assert!(
                        !response.text().contains(&secret),
                        "{account} {path} {status}: {}",
                        response.text()
                    );
                    assert!(!format!("{:?}", response.head.headers).contains(&secret));
                }
                stage.says(200, SSE, format!("data: {body}\n\n"));
                let response = stage.post(path, &ask(path, account, r#","stream":true"#));
                let secret = secret(stage.provider.requests().last().unwrap());
                assert!(!response.text().contains(&secret), "{account} {path}: {}", response.text());
            }
        }
    }
    stage.gateway.assert_log_lacks("SECRET");
}

#[test]
fn answers_of_another_kind_than_was_asked_for_are_an_error_and_the_connection_goes_on() {
    let stage = Stage::new("");
    let mut client = Client::connect(stage.gateway.addr);
    let good = r#"{"id":"1","choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let cases: [(u16, &str, &[u8]); 9] = [
        (200, "content-type: application/json\r\ncontent-encoding: gzip\r\n", b"\x1f\x8b\x08\x00"),
        (204, "", b""),
        (200, JSON, b""),
        (200, JSON, br#"{"error":{"message":"no","type":"server_error"}}"#),
        (200, SSE, b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"),
        (200, SSE, b": only comments\n\n: more\n\n"),
        (200, "content-type: text/html\r\n", b"<html>"),
        (302, "location: http://127.0.0.1:1/\r\n", b""),
        (418, "content-type: text/html\r\n", b"<html>teapot"),
    ];
    for (status, headers, body) in cases {
        for stream in ["", r#","stream":true"#] {
            stage.says(status, headers, body);
            let response = client.post(PATHS[1], &stage.token, ask(PATHS[1], "compat", stream).as_bytes());
            let told = response.text();
            // An event stream that breaks off begins well and ends with an error event.
            let is_told = response.status >= 400 || told.contains("event: error");
            assert!(is_told, "{status} {headers:?} {stream}: {} {told}", response.status);
            assert!(!told.contains("\"message_stop\""), "{told}");
            stage.says(200, JSON, good);
            let response = client.post(PATHS[1], &stage.token, ask(PATHS[1], "compat", "").as_bytes());
            assert_eq!(response.status, 200, "after {status} {headers:?}: {}", response.text());
            assert_eq!(response.json()["content"][0]["text"], "hello");
        }
    }
    // A whole answer to a wish for a stream.
    stage.says(200, JSON, good);
    let response =
        client.post(PATHS[1], &stage.token, ask(PATHS[1], "compat", r#","stream":true"#).as_bytes());
    assert!(response.status == 502 || response.text().contains("event: error"), "{}", response.text());
    stage.assert_alive("odd answers");
}

#[test]
fn embeddings_count_each_call_that_was_made() {
    let stage = Stage::new("relay.max_answer_bytes = 4096");
    stage.says(200, JSON, r#"{"embedding":[0.5,1],"inputTextTokenCount":3}"#);
    let response = stage.post("/v1/embeddings", r#"{"model":"bed/e","input":["a","b","c"]}"#);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(stage.provider.request_count(), 3);
    let rows = stage.gateway.wait_for_usage("model", 1);
    assert_eq!(rows[0]["inputTokens"], 9, "{rows:?}");
    // Each answer is small enough, all together are not: what came before is counted all the same.
    let numbers = vec!["0.5"; 500].join(",");
    stage.says(200, JSON, format!(r#"{{"embedding":[{numbers}],"inputTextTokenCount":3}}"#));
    let response = stage.post("/v1/embeddings", r#"{"model":"bed/e","input":["a","b","c","d","e","f"]}"#);
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains("max_answer_bytes"), "{}", response.text());
    assert_eq!(stage.provider.request_count(), 3 + 3, "it stops there");
    let rows = stage.gateway.wait_for_usage("model", 2);
    assert_eq!(rows[0]["inputTokens"], 9 + 6, "{rows:?}");
}

#[test]
fn a_long_name_of_a_field_is_not_repeated() {
    let stage = Stage::new("");
    let name = "x".repeat(1_000_000);
    for path in PATHS {
        let response = stage.post(path, &ask(path, "gem", &format!(r#","{name}":1"#)));
        assert_eq!(response.status, 400);
        assert!(response.body.len() < 4_096, "{path}: {} bytes", response.body.len());
    }
    assert_eq!(stage.provider.request_count(), 0);
}

#[test]
fn a_caller_can_not_name_another_model_on_the_way() {
    let stage = Stage::new("");
    stage.says(500, JSON, "{}");
    for account in ACCOUNTS {
        for path in PATHS {
            for name in ["model", "mod\\u0065l", "modelId"] {
                stage.post(
                    path,
                    &ask(path, account, &format!(r#","provider_options":{{"{name}":"forbidden-model"}}"#)),
                );
                stage.post(path, &ask(path, account, &format!(r#","{name}":"forbidden-model""#)));
            }
        }
    }
    for request in stage.provider.requests() {
        let equal = request.text().contains("provider_options");
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(equal || body["model"] != "forbidden-model", "{}", request.text());
        assert!(!request.path().contains("forbidden"), "{}", request.path());
    }
}

#[test]
fn a_stream_that_can_not_be_read_is_given_up() {
    let provider = Provider::start(|_, answer| {
        answer.sse_head();
        answer.chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"first\"}}]}\n\n");
        answer.chunk("data: {\"choices\":7}\n\n");
        answer.hold();
    });
    let stage = Stage::with("", provider, Script::default());
    let mut client = Client::connect(stage.gateway.addr);
    client.send_post(PATHS[1], &stage.token, ask(PATHS[1], "compat", r#","stream":true"#).as_bytes());
    assert_eq!(client.read_head().status, 200);
    let (body, complete) = client.read_rest();
    let text = String::from_utf8(body).unwrap();
    assert!(complete && text.contains("first") && text.contains("event: error"), "{text}");
    // The provider does not work on for nobody, and the caller's connection is good for the next call.
    stage.provider.wait_closed(stage.provider.only_request().connection);
    client.send_post(PATHS[1], &stage.token, br#"{"model":"no/m"}"#);
    assert_eq!(client.read_response().status, 403);
}

#[test]
fn openrouter_is_asked_for_no_other_model() {
    let stage = Stage::new("");
    stage.says(200, JSON, support::CHAT_ANSWER);
    let manifest = json!({"type": "provider-account/openrouter", "name": "router", "base_url": stage.provider.base_url(),
        "auth_data": {"type": "api-key", "api_key": KEY},
        "integrations": [{"type": "integration/model/openrouter", "name": "m", "model_id": "a/cheap", "model_types": ["chat"]},
            {"type": "integration/model/openrouter", "name": "dear", "model_id": "a/dear", "model_types": ["chat"]}]});
    let path = stage.gateway.home.path("router.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    stage.gateway.admin_ok(&["apply", "-f", path.to_str().unwrap()]);
    stage.gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "router/m"]);
    for (path, more) in [
        (PATHS[0], r#","models":["a/dear"]"#),
        (PATHS[0], r#","mod\u0065ls":["a/dear"]"#),
        (PATHS[0], r#","preset":"dear""#),
        (PATHS[0], r#","fallbacks":["a/dear"]"#),
        (PATHS[1], r#","models":["a/dear"]"#),
        (PATHS[1], r#","provider_options":{"models":["a/dear"]}"#),
        (PATHS[1], r#","provider_options":{"preset":"dear"}"#),
        (PATHS[2], r#","provider_options":{"models":["a/dear"]}"#),
    ] {
        let response = stage.post(path, &ask(path, "router", more));
        assert_eq!(response.status, 400, "{path} {more}: {}", response.text());
    }
    assert_eq!(stage.provider.request_count(), 0);
    for more in ["", r#","models":null,"preset":null"#] {
        assert_eq!(stage.post(PATHS[0], &ask(PATHS[0], "router", more)).status, 200, "{more}");
    }
}

#[test]
fn what_is_made_of_a_body_counts_as_the_body_does() {
    let stage = Stage::new("server.max_buffered_bytes = 1500000\nserver.max_body_bytes = 1400000");
    stage.says(500, JSON, "{}");
    let long = |path, account, bytes| ask(path, account, &format!(r#","user":"{}""#, "x".repeat(bytes)));
    // As it is it fits, twice it does not.
    assert_eq!(stage.post(PATHS[0], &long(PATHS[0], "compat", 1_000_000)).status, 500);
    let response = stage.post(PATHS[0], &long(PATHS[0], "gem", 1_000_000));
    assert_eq!(response.status, 503, "{}", response.text());
    let texts = format!(r#"{{"model":"gem/e","input":"{}"}}"#, "x".repeat(1_000_000));
    assert_eq!(stage.post("/v1/embeddings", &texts).status, 503);
    assert_eq!(stage.provider.request_count(), 1);
    // What was refused gives its room back.
    for _ in 0..4 {
        assert_ne!(stage.post(PATHS[0], &long(PATHS[0], "gem", 500_000)).status, 503);
    }
}
