//! Calls whose caller and provider speak different dialects, through the real binary: what cuts, limits and passes them.
//! That SDKs understand every pair is tested in `tests/sdk`.

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

use std::time::Instant;

use serde_json::{Value, json};

use support::client::assert_same_bytes;
use support::gateway::{Gateway, token_id};
use support::sse::assert_ends_with_error;
use support::{Client, Provider};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
const END: &str = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn delta(text: &str) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":{}}}}}\n\n",
        Value::from(text)
    )
}

fn message(text: &str) -> String {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 9}})
    .to_string()
}

/// A gateway with one account of Anthropic's protocol, `claude/m`, and a user who may use it.
struct Stage {
    gateway: Gateway,
    provider: Provider,
    token: String,
}

impl Stage {
    fn new(config: &str, provider: Provider) -> Self {
        let gateway = Gateway::with_config(config);
        let manifest = json!({"type": "provider-account/anthropic", "name": "claude", "base_url": provider.base_url(),
            "auth_data": {"type": "api-key", "api_key": "sk-ant-SECRET"},
            "integrations": [{"type": "integration/model/anthropic", "name": "m", "model_id": "claude-sonnet-4-5",
                "model_types": ["chat"]}]});
        let path = gateway.home.path("claude.json");
        std::fs::write(&path, manifest.to_string()).unwrap();
        gateway.admin_ok(&["apply", "-f", path.to_str().unwrap()]);
        gateway.admin_ok(&["user", "create", "ada@example.com"]);
        let token = gateway.user_token("ada@example.com");
        gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "claude"]);
        Self { gateway, provider, token }
    }

    fn post(&self, path: &str, body: &Value) -> support::client::Response {
        Client::connect(self.gateway.addr).post(path, &self.token, body.to_string().as_bytes())
    }

    fn open(&self, path: &str) -> Client {
        let mut client = Client::connect(self.gateway.addr);
        let body = json!({"model": "claude/m", "stream": true, "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}]});
        client.send_post(path, &self.token, body.to_string().as_bytes());
        client
    }
}

fn ask() -> Value {
    json!({"model": "claude/m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
}

#[test]
fn a_chunk_leaves_before_the_next_one_comes() {
    let stage = Stage::new(
        "",
        Provider::start(|_, answer| {
            answer.sse_head();
            answer.chunk(START);
            for number in 0..20 {
                answer.chunk(delta(&format!("piece-{number}.")));
                if !answer.wait("seen") {
                    return;
                }
            }
            answer.chunk(END);
            answer.last_chunk();
        }),
    );
    let mut client = stage.open("/v1/chat/completions");
    assert_eq!(client.read_head().status, 200);
    for number in 0..20 {
        client.read_until(&format!("piece-{number}."));
        stage.provider.signal("seen");
    }
    let (rest, complete) = client.read_rest();
    assert!(complete && rest.ends_with(b"data: [DONE]\n\n"));
    let request = stage.provider.only_request();
    assert_eq!(request.header("x-api-key").as_deref(), Some("sk-ant-SECRET"));
    assert_eq!(request.header("authorization"), None);
    assert_eq!(request.header("anthropic-version").as_deref(), Some("2023-06-01"));
}

#[test]
fn an_answer_too_large_to_translate_is_502() {
    let large = message(&"x".repeat(300_000));
    let stage = Stage::new(
        "relay.max_answer_bytes = 4096",
        Provider::start(move |request, answer| {
            if request.text().contains("\"stream\":true") {
                answer.sse(format!("{START}{}{END}", delta(&"x".repeat(300_000))));
            } else {
                answer.json(200, &large);
            }
        }),
    );
    let response = stage.post("/v1/chat/completions", &ask());
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains("relay.max_answer_bytes"), "{}", response.text());
    let response = stage.open("/v1/chat/completions").read_response();
    assert_eq!(response.status, 502, "{}", response.text());
    // Equal dialects have no such limit.
    assert_eq!(stage.post("/v1/messages", &ask()).status, 200);
}

#[test]
fn an_answer_that_is_none_is_502() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "{\"type\":\"message\"}",
        "<html>",
        "{\"content\":[{\"type\":\"text\",\"text\":7}]}",
    ] {
        let stage = Stage::new(
            "",
            Provider::start(move |_, answer| {
                answer.full(200, "content-type: application/json\r\n", body.as_bytes())
            }),
        );
        let response = stage.post("/v1/chat/completions", &ask());
        assert_eq!(response.status, 502, "{body}: {}", response.text());
    }
}

#[test]
fn a_revoked_token_ends_a_translated_stream_with_an_error_event() {
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let stage = Stage::new(
            "",
            Provider::start(|_, answer| {
                answer.sse_head();
                answer.chunk(START);
                answer.chunk(delta("first"));
                answer.hold();
            }),
        );
        let mut client = stage.open(path);
        assert_eq!(client.read_head().status, 200);
        client.read_until("first");
        let since = Instant::now();
        stage.gateway.admin_ok(&["token", "revoke", token_id(&stage.token)]);
        let (rest, complete) = client.read_rest();
        assert!(complete, "{path}: the body is cut");
        assert!(since.elapsed().as_secs() < 2, "{path}");
        if path == "/v1/messages" {
            let text = String::from_utf8(rest).unwrap();
            let (_, data) = text.rsplit_once("event: error\ndata: ").unwrap_or_else(|| panic!("{text}"));
            let error: Value = serde_json::from_str(data).unwrap();
            assert_eq!(error["type"], "error", "{text}");
        } else {
            assert_ends_with_error(&rest);
        }
        stage.gateway.wait_for_outcome("cut", 1);
    }
}

#[test]
fn a_caller_that_leaves_ends_the_providers_work() {
    let stage = Stage::new(
        "",
        Provider::start(|_, answer| {
            answer.sse_head();
            answer.chunk(START);
            answer.chunk(delta("first"));
            answer.hold();
        }),
    );
    let mut client = stage.open("/v1/chat/completions");
    assert_eq!(client.read_head().status, 200);
    client.read_until("first");
    let connection = stage.provider.only_request().connection;
    let since = client.hang_up();
    stage.provider.assert_closed_within_250_ms(connection, since);
    stage.gateway.wait_for_outcome("caller-gone", 1);
}

#[test]
fn equal_dialects_pass_byte_for_byte() {
    let answer_body = "{ \"id\":\"msg_1\",\"type\":\"message\", \"unknown\": 1.0e2, \"content\":[], \"usage\":{\"input_tokens\":2,\"output_tokens\":3}}";
    let events =
        format!("{START}{}event: new_thing\ndata: {{ \"a\" : 1.00 }}\n\n: note\n\n{END}", delta("x"));
    let wanted = events.clone();
    let stage = Stage::new(
        "",
        Provider::start(move |request, answer| {
            if request.text().contains("\"stream\"") {
                answer.sse(&events);
            } else {
                answer.json(200, answer_body);
            }
        }),
    );
    let asked = "{ \"max_tokens\" : 9.00, \"new\": {\"b\":1,\"a\":12345678901234567890}, \"model\":\"claude/m\", \"messages\":[]}";
    let mut client = Client::connect(stage.gateway.addr);
    let response = client.post("/v1/messages?beta=true", &stage.token, asked.as_bytes());
    assert_same_bytes("the answer", answer_body.as_bytes(), &response.body);
    let request = stage.provider.only_request();
    assert_eq!(request.path(), "/v1/messages?beta=true");
    assert_same_bytes(
        "the request",
        asked.replace("claude/m", "claude-sonnet-4-5").as_bytes(),
        &request.body,
    );
    let mut client = stage.open("/v1/messages");
    assert_eq!(client.read_head().status, 200);
    let (body, complete) = client.read_rest();
    assert!(complete);
    assert_same_bytes("the stream", wanted.as_bytes(), &body);
    let rows = stage.gateway.wait_for_usage("model", 2);
    assert_eq!(
        (rows[0]["inputTokens"].as_u64(), rows[0]["outputTokens"].as_u64()),
        (Some(7), Some(12)),
        "{rows:?}"
    );
}

#[test]
fn bad_requests_are_named_and_never_reach_the_provider() {
    let stage = Stage::new("", Provider::start(|_, answer| answer.json(200, &message("x"))));
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "claude/m"})),
        ("/v1/chat/completions", json!({"model": "claude/m", "messages": "hi"})),
        (
            "/v1/chat/completions",
            json!({"model": "claude/m", "messages": [{"role": "king", "content": "hi"}]}),
        ),
        ("/v1/chat/completions", json!({"model": "claude/m", "messages": [{"role": "user", "content": 7}]})),
        (
            "/v1/chat/completions",
            json!({"model": "claude/m", "messages": [{"role": "user", "content": "hi"}], "n": 2}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "claude/m", "messages": [{"role": "user", "content": "hi"}], "unheard_of": 2}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "claude/m", "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}]}]}),
        ),
        ("/v1/chat/completions", json!({"model": "claude/m", "messages": [], "models": ["other/m"]})),
        ("/v1/messages", json!({"model": "claude/m", "messages": [], "fallbacks": ["other/m"]})),
        ("/v1/responses", json!({"model": "claude/m"})),
        ("/v1/responses", json!({"model": "claude/m", "input": "hi", "previous_response_id": "resp_1"})),
        ("/v1/embeddings", json!({"model": "claude/m", "input": "hi"})),
        ("/v1/moderations", json!({"model": "claude/m", "input": "hi"})),
    ] {
        let response = stage.post(path, &body);
        assert_eq!(response.status, 400, "{path} {body}: {}", response.text());
        assert!(response.json()["error"]["message"].as_str().is_some_and(|text| text.len() > 10));
    }
    let deep = format!("{{\"model\":\"claude/m\",\"messages\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let response =
        Client::connect(stage.gateway.addr).post("/v1/chat/completions", &stage.token, deep.as_bytes());
    assert_eq!(response.status, 400, "{}", response.text());
    assert_eq!(stage.provider.request_count(), 0);
}

#[test]
fn a_refused_credential_is_502_and_hides_the_providers_words() {
    for (status, path) in [(401, "/v1/chat/completions"), (403, "/v1/messages"), (302, "/v1/responses")] {
        let stage = Stage::new(
            "",
            Provider::start(move |_, answer| {
                answer.json(status, "{\"error\":{\"message\":\"bad key sk-ant-SECRET\"}}")
            }),
        );
        let mut body = ask();
        if path == "/v1/responses" {
            body = json!({"model": "claude/m", "input": "hi"});
        }
        let response = stage.post(path, &body);
        assert_eq!(response.status, 502, "{}", response.text());
        assert!(
            response.text().contains("claude") && !response.text().contains("SECRET"),
            "{}",
            response.text()
        );
    }
}
