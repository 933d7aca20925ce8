//! Who is refused, and in which words: forbidden and unknown look the same.

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

use serde_json::json;

use support::gateway::token_id;
use support::{CHAT_ANSWER, Fixture, Gateway, PROVIDER_KEY, Provider, Response, chat};

fn answering() -> Fixture {
    Fixture::on(Provider::answering(CHAT_ANSWER), "")
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
    let answers: Vec<_> =
        ["secret/m", "secret/n", "secret/none", "none/m", "main/none", "main/M", "main/m/x"]
            .into_iter()
            .map(|name| {
                let response = fixture.post("/v1/chat/completions", &chat(name, ""));
                response.assert_error(403);
                let body = response.json();
                let words = format!(
                    "User ada@example.com is not authorized to access model {name} or model does not exist"
                );
                assert_eq!(body["error"]["message"], *words);
                assert_eq!(body["message"], *words);
                assert_eq!(
                    (&body["status"], &body["error"]["type"]),
                    (&json!("failure"), &json!("AuthorizationError"))
                );
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
        "x-api-key:\r\n".to_owned(),
        format!("x-api-key: {mistyped}\r\n"),
        format!("x-api-key: Bearer {good}\r\n"),
        format!("x-api-key: {good}\r\nx-api-key: {good}\r\n"),
        format!("x-api-key: {good}\r\nauthorization: Bearer {mistyped}\r\n"),
        format!("x-api-key: {mistyped}\r\nauthorization: Bearer {good}\r\n"),
        format!("x-api-key: {good}\r\nauthorization: Basic {good}\r\n"),
        format!("x-api-key:\r\nauthorization: Bearer {good}\r\n"),
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
            format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: {scheme} {good}\r\n\r\n")
                .as_bytes(),
        );
        assert_eq!(client.read_response().status, 200, "{scheme}");
    }
    for secret in [good, &revoked, &gone, &foreign] {
        fixture.gateway.assert_log_lacks(secret.rsplit('_').next().unwrap());
    }
}

#[test]
fn a_key_may_stand_in_either_header_and_the_tenant_in_the_path() {
    let fixture = answering();
    let good = &fixture.token;
    let other = fixture.gateway.user_token("ada@example.com");
    let ask = |path: &str, line: &str| {
        let mut client = fixture.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n{line}\r\n").as_bytes());
        client.read_response().status
    };
    for (line, status) in [
        (format!("authorization: Bearer {good}\r\n"), 200),
        (format!("x-api-key: {good}\r\n"), 200),
        (format!("X-Api-Key: {good}\r\nAuthorization: bearer {good}\r\n"), 200),
        // Both are good, and they are not the same.
        (format!("x-api-key: {good}\r\nauthorization: Bearer {other}\r\n"), 401),
    ] {
        for path in ["/v1/models", "/api/llm/models", "/api/llm/v1/models", "/api/svc/v1/session"] {
            assert_eq!(ask(path, &line), status, "{path} {line}");
        }
    }
    let session = fixture.connect().get("/api/svc/v1/session", good).json();
    let tenant = session["tenantInfo"]["tenantName"].as_str().unwrap();
    let line = format!("x-api-key: {good}\r\n");
    for (path, status) in [
        (format!("/api/llm/{tenant}/models"), 200),
        (format!("/api/llm/{tenant}/v1/models"), 200),
        (format!("/api/llm/{tenant}"), 404),
        (format!("/api/llm/{tenant}x/models"), 404),
        ("/api/llm/another/models".to_owned(), 404),
    ] {
        assert_eq!(ask(&path, &line), status, "{path}");
    }
}
