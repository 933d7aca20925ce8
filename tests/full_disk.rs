//! No room for usage records while the gateway serves: what is refused, what is served, and that it comes back with nothing
//! missing. The room is bounded by the process's largest file size, which needs no rights.

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

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use support::client::{Client, Response};
use support::gateway::rows;
use support::{CHAT_ANSWER, Fixture, Gateway, Provider, chat, eventually};

const PLACES: u64 = 50;
/// More calls than the room is for.
const MANY: u64 = 3_000;

/// Lets no file of the gateway grow beyond so many bytes, or all of them.
fn room(gateway: &Gateway, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

/// A call whose record is large.
fn call(gateway: &Gateway, token: &str) -> Response {
    let mut client = Client::connect(gateway.addr);
    let metadata: serde_json::Map<String, Value> =
        (0..64).map(|key| (format!("key-{key}"), Value::from("x".repeat(128)))).collect();
    let headers =
        format!("content-type: application/json\r\nx-tfy-metadata: {}\r\n", Value::Object(metadata));
    client.send_request("/v1/chat/completions", token, &headers, chat("main/m", "").as_bytes());
    client.read_response()
}

struct Scene {
    fixture: Fixture,
    /// Somebody whom no budget is about.
    free: String,
    /// Calls that were served.
    served: u64,
}

/// A gateway that has just run out of room for records.
fn out_of_room(settings: &[&str]) -> Scene {
    let config = format!("usage.max_queued_records = {PLACES}\n");
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), &config);
    let gateway = &fixture.gateway;
    gateway.admin_ok(&["user", "create", "bob@example.com"]);
    gateway.admin_ok(&["grant", "user:bob@example.com", "provider-account-access", "main"]);
    let free = gateway.user_token("bob@example.com");
    let file = gateway.home.path("budgets.json");
    let rule = json!({"id": "ada", "when": {"subjects": ["user:ada@example.com"]}, "limit_to": 1_000_000_000,
        "unit": "tokens_per_month"});
    let manifest = json!({"type": "gateway-budget-config", "name": "budgets", "rules": [rule]});
    std::fs::write(&file, manifest.to_string()).unwrap();
    gateway.admin_ok(&["apply", "-f", file.to_str().unwrap()]);
    if !settings.is_empty() {
        gateway.admin_ok(settings);
    }
    assert_eq!(call(gateway, &fixture.token).status, 200);
    gateway.wait_for_usage("user", 1);
    assert!(gateway.metrics().contains("\ngateway_usage_failing 0\n"));
    let size = std::fs::metadata(gateway.home.data_dir().join("usage.redb")).unwrap().len();
    room(gateway, Some(size));
    let mut served = 1;
    while !gateway.metrics().contains("\ngateway_usage_failing 1\n") {
        assert_eq!(call(gateway, &free).status, 200);
        served += 1;
        assert!(served < MANY, "the room is never used up");
    }
    gateway.wait_for_log("ERROR [gateway::usage::writer] usage records can not be written");
    Scene { fixture, free, served }
}

/// Gives the room back, and waits until records can be written.
fn room_again(gateway: &Gateway) {
    room(gateway, None);
    gateway.wait_for_log("usage records can be written again");
    eventually("accounting", || gateway.metrics().contains("\ngateway_usage_failing 0\n").then_some(()));
}

fn recorded(gateway: &Gateway) -> u64 {
    let report = rows(&gateway.admin_json(&["usage", "report", "--by", "endpoint"]));
    let sums = report.iter().map(|row| row["calls"].as_u64().unwrap()).sum();
    // One by one too.
    assert_eq!(gateway.admin_ok(&["usage", "export"]).lines().count() as u64, sums);
    sums
}

#[test]
fn calls_under_a_budget_are_refused_until_there_is_room() {
    let Scene { fixture, free, mut served } = out_of_room(&[]);
    let gateway = &fixture.gateway;
    let refused = call(gateway, &fixture.token);
    refused.assert_error(429);
    assert!(refused.text().contains("usage can not be written to the disk"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    // Others go on until all places are taken by records that wait.
    let last = loop {
        let answer = call(gateway, &free);
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < MANY, "calls go on without records");
    };
    last.assert_error(503);
    assert!(last.text().contains("no room to account"), "{}", last.text());
    // Nobody calls any more; it comes back by itself.
    room_again(gateway);
    assert_eq!(call(gateway, &fixture.token).status, 200);
    assert_eq!(recorded(gateway), served + 1, "nothing is missing and nothing is there twice");
    assert!(gateway.metrics().contains("\ngateway_usage_unaccounted_calls_total 0\n"));
    let used = gateway.admin_json(&["budget", "show", "ada"]);
    assert_eq!(rows(&used)[0]["used"], json!(2 * 21));
}

#[test]
fn by_a_setting_all_calls_are_served_without_room() {
    let settings = ["settings", "set", "limits_when_accounting_fails", "serve"];
    let Scene { fixture, free, mut served } = out_of_room(&settings);
    let gateway = &fixture.gateway;
    for _ in 0..PLACES {
        for token in [&fixture.token, &free] {
            let answer = call(gateway, token);
            assert_eq!(answer.status, 200, "{}", answer.text());
            served += 1;
        }
    }
    gateway.wait_for_log("calls are served without a record");
    room_again(gateway);
    assert_eq!(call(gateway, &fixture.token).status, 200);
    let unaccounted = gateway.metric_sum(|line| line.starts_with("gateway_usage_unaccounted_calls_total"));
    let recorded = recorded(gateway);
    assert_eq!(recorded + unaccounted as u64, served + 1, "{unaccounted} left no record");
    assert!(unaccounted >= PLACES as f64, "{unaccounted}");
}
