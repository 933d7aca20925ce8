//! Tokens, from outside: what is remembered of their use, and the one read that shows a secret.

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
use support::{CHAT_ANSWER, Client, Gateway, Provider, chat};

const API: &str = "/api/svc/v1";

#[test]
fn the_last_use_of_each_secret_is_remembered_across_a_restart() {
    let provider = Provider::answering(CHAT_ANSWER);
    let gateway = Gateway::start();
    let used = gateway.with_model(&provider.base_url());
    let unused = gateway.user_token("ada@example.com");
    let body = chat("main/m", "");
    let answer = Client::connect(gateway.addr).post("/v1/chat/completions", &used, body.as_bytes());
    assert_eq!(answer.status, 200);
    let shown = gateway.admin_json(&["token", "show", token_id(&used)]);
    let time = shown["lastUsedAt"].clone();
    assert!(time.as_str().unwrap().ends_with(":00.000Z"), "{shown}");
    assert_eq!(gateway.admin_json(&["token", "show", token_id(&unused)])["lastUsedAt"], json!(null));
    let home = gateway.stop();
    // Without a server the store is asked itself.
    assert_eq!(home.admin_json(&["token", "show", token_id(&used)])["lastUsedAt"], time);
    let gateway = home.serve();
    support::eventually("what the file remembers", || {
        let shown = gateway.admin_json(&["token", "show", token_id(&used)]);
        (shown["lastUsedAt"] == time).then_some(())
    });
}

#[test]
fn the_first_read_of_a_virtual_accounts_token_is_the_only_one() {
    let gateway = Gateway::start();
    let root = gateway.admin_token();
    gateway.admin_ok(&["virtual-account", "create", "bot"]);
    let path = format!("{API}/virtual-accounts/bot/token");
    // A HEAD shows nothing, so it must mint nothing.
    let mut client = Client::connect(gateway.addr);
    client
        .send(format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {root}\r\n\r\n").as_bytes());
    assert_eq!(client.read_bodiless().status, 405);
    let first = Client::connect(gateway.addr).get(&path, &root);
    assert_eq!((first.status, first.header("cache-control")), (200, Some("no-store")));
    let token = first.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("tfy_va_"));
    assert_eq!(Client::connect(gateway.addr).get(&format!("{API}/session"), &token).status, 200);
    let second = Client::connect(gateway.addr).get(&path, &root);
    assert_eq!(second.status, 410);
    assert!(second.text().contains("regenerate-token") && !second.text().contains(&token));
    let path = format!("{API}/virtual-accounts/bot/regenerate-token");
    let new = Client::connect(gateway.addr).request("POST", &path, &root, r#"{"gracePeriodInDays":0}"#);
    assert_eq!((new.status, new.header("cache-control")), (200, Some("no-store")));
    assert_eq!(Client::connect(gateway.addr).get(&format!("{API}/session"), &token).status, 401);
    gateway.assert_log_lacks(&token);
}
