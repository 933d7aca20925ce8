//! The audit log of a running gateway.

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
use support::client::Client;
use support::{Gateway, Home};

fn entries(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_was_refused_is_in_the_log_after_a_stop() {
    let gateway = Gateway::start();
    gateway.admin_ok(&["user", "create", "member@x.io"]);
    let member = gateway.user_token("member@x.io");
    let admin = gateway.admin_token();
    let mut client = Client::connect(gateway.addr);
    for _ in 0..5 {
        let path = "/api/svc/v1/users/register";
        assert_eq!(client.request("POST", path, &member, r#"{"email":"evil@x.io"}"#).status, 403);
        assert_eq!(client.request("DELETE", "/api/svc/v1/tokens/nothing", &member, "").status, 404);
    }
    assert_eq!(client.get("/api/svc/v1/audit", &member).status, 403);
    // What the API says is right, and its head is still in the log when the gateway has stopped.
    let verdict = client.get("/api/svc/v1/audit/verify", &admin).json();
    assert_eq!(verdict["ok"], true);
    let head = verdict["head"].as_str().unwrap().to_owned();
    assert_eq!(client.request("DELETE", &format!("/api/svc/v1/tokens/{member}"), &member, "").status, 404);
    let home: Home = gateway.stop();
    home.admin_ok(&["audit", "verify", "--head", &head]);
    let text = home.admin_ok(&["--output", "json", "audit", "list", "--refused"]);
    assert!(!text.contains(&member) && !text.contains("evil"), "{text}");
    let found = entries(&text);
    // Those of one minute are one entry; the minute may have ended in between.
    assert!((2..=4).contains(&found.len()), "{text}");
    let count = |action: &str| -> u64 {
        let of = found.iter().filter(|entry| entry["action"] == action);
        of.map(|entry| entry["count"].as_u64().unwrap()).sum()
    };
    assert_eq!((count("POST /users/register"), count("DELETE /tokens/{id}")), (5, 6));
    for entry in &found {
        assert_eq!((&entry["actor"], &entry["source"]), (&json!("user:member@x.io"), &json!("api")));
        assert_eq!(entry["tokenId"], support::gateway::token_id(&member));
    }
}
