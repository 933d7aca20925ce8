//! Time, with a clock that is moved: expiry, grace, and a clock that is turned back.

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

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::gateway::{Gateway, Home, token_id};
use support::sse::{assert_ends_with_error, text};
use support::{CHAT_ANSWER, Client, Provider, announce, chat};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A gateway with Ada, who may use `main/m`, and a clock that can be moved. `None` without the binary for it.
struct Scene {
    gateway: Gateway,
    provider: Provider,
}

fn scene(test: &str, provider: Provider) -> Option<Scene> {
    if std::env::var_os("GATEWAY_TEST_CLOCK_BINARY").is_none() {
        announce(&format!("not run: {test} (GATEWAY_TEST_CLOCK_BINARY is not set)"));
        return None;
    }
    let home = Home::new("");
    std::fs::write(home.path("clock"), "0").unwrap();
    let gateway = home.serve();
    gateway.add_account("main", &provider.base_url());
    gateway.admin_ok(&["user", "create", "ada@example.com"]);
    gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "main"]);
    Some(Scene { gateway, provider })
}

/// Moves a clock so far from the real time. The file is there in whole at any moment.
fn move_clock(home: &Home, milliseconds: i64) {
    std::fs::write(home.path("clock.new"), milliseconds.to_string()).unwrap();
    std::fs::rename(home.path("clock.new"), home.path("clock")).unwrap();
}

fn real_now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Scene {
    fn move_to(&self, milliseconds: i64) {
        move_clock(&self.gateway.home, milliseconds);
    }

    fn token(&self, name: &str, more: &[&str]) -> String {
        let mut arguments = vec!["token", "create", "--user", "ada@example.com", "--name", name];
        arguments.extend(more);
        self.gateway.admin_ok(&arguments)
    }

    fn call(&self, token: &str) -> u16 {
        let body = chat("main/m", "");
        Client::connect(self.gateway.addr).post("/v1/chat/completions", token, body.as_bytes()).status
    }

    fn state(&self, token: &str) -> Value {
        self.gateway.admin_json(&["token", "show", token_id(token)])["state"].clone()
    }
}

#[test]
fn expiry_holds_by_the_day_in_utc_and_to_the_second() {
    let Some(scene) = scene("expiry by day and second", Provider::answering(CHAT_ANSWER)) else { return };
    let day = scene.token("by-day", &["--expires", "2031-01-31"]);
    let second = scene.token("by-second", &["--expires", "2031-01-31T08:00:00Z"]);
    // 2031-01-31T08:00:00Z
    let end = 1_927_612_800_000;
    scene.move_to(end - 60_000 - real_now());
    assert_eq!((scene.call(&second), scene.call(&day)), (200, 200));
    scene.move_to(end - real_now());
    assert_eq!((scene.call(&second), scene.call(&day)), (401, 200));
    scene.move_to(end + 16 * HOUR - 60_000 - real_now());
    assert_eq!(scene.call(&day), 200);
    scene.move_to(end + 16 * HOUR - real_now());
    assert_eq!(scene.call(&day), 401);
}

#[test]
fn a_clock_turned_back_revives_nothing() {
    let Some(scene) = scene("a clock turned back", Provider::answering(CHAT_ANSWER)) else { return };
    let root = scene.gateway.admin_token();
    let token = scene.token("short", &["--valid-days", "1"]);
    assert_eq!(scene.call(&token), 200);
    scene.move_to(2 * DAY);
    assert_eq!((scene.call(&token), scene.call(&root)), (401, 200));
    scene.move_to(0);
    assert_eq!(scene.call(&token), 401);
    // The next change has the log say so.
    scene.gateway.admin_ok(&["user", "create", "new@example.com"]);
    assert!(scene.gateway.wait_for_log("runs").contains("clock"));
    // The store remembers, too, after a crash as well.
    let home = scene.gateway.kill();
    let gateway = home.serve();
    let scene = Scene { gateway, ..scene };
    assert!(scene.gateway.wait_for_log("seconds behind the highest time seen").contains("clock reset"));
    assert_eq!((scene.call(&token), scene.state(&token)), (401, json!("expired")));
    let refused = Client::connect(scene.gateway.addr).request("POST", "/api/svc/v1/clock/reset", &root, "");
    assert_eq!(refused.status, 403);
    assert_eq!(scene.call(&token), 401);
    scene.gateway.admin_ok(&["clock", "reset"]);
    assert_eq!((scene.call(&token), scene.state(&token)), (200, json!("expiring")));
    // And that is remembered as well.
    let gateway = scene.gateway.stop().serve();
    let scene = Scene { gateway, ..scene };
    assert_eq!(scene.call(&token), 200);
}

#[test]
fn the_longest_validity_ends_a_token_when_its_days_are_over() {
    let Some(scene) = scene("the longest validity", Provider::answering(CHAT_ANSWER)) else { return };
    let token = scene.token("for-ever", &[]);
    scene.gateway.admin_ok(&["settings", "set", "pat_max_validity_days", "30"]);
    scene.move_to(29 * DAY);
    assert_eq!((scene.call(&token), scene.state(&token)), (200, json!("expiring")));
    scene.move_to(30 * DAY + HOUR);
    assert_eq!((scene.call(&token), scene.state(&token)), (401, json!("expired")));
    // A bound that ends tokens now asks first.
    let other = scene.token("other", &[]);
    scene.move_to(40 * DAY);
    let asked = scene.gateway.admin(&["settings", "set", "pat_max_validity_days", "5"]);
    assert!(!asked.status.success());
    assert!(String::from_utf8_lossy(&asked.stderr).contains(token_id(&other)));
    assert_eq!(scene.call(&other), 200);
    scene.gateway.admin_ok(&["settings", "set", "pat_max_validity_days", "5", "--yes"]);
    assert_eq!(scene.call(&other), 401);
}

#[test]
fn both_secrets_work_until_the_grace_ends() {
    let Some(scene) = scene("the grace of a rotation", Provider::answering(CHAT_ANSWER)) else { return };
    let old = scene.token("laptop", &[]);
    let new = scene.gateway.admin_ok(&["token", "rotate", token_id(&old), "--grace", "24h"]);
    assert_eq!((scene.state(&old), scene.state(&new)), (json!("in grace"), json!("active")));
    scene.move_to(23 * HOUR);
    assert_eq!((scene.call(&old), scene.call(&new)), (200, 200));
    // To the minute, and for each secret of its own: one sees when nobody uses the old one any more.
    let used = |token: &str| {
        let shown = scene.gateway.admin_json(&["token", "show", token_id(token)]);
        shown["lastUsedAt"].as_str().unwrap().to_owned()
    };
    let (old_used, new_used) = (used(&old), used(&new));
    scene.move_to(25 * HOUR);
    assert_eq!((scene.call(&old), scene.call(&new)), (401, 200));
    assert_eq!(scene.state(&old), json!("expired"));
    assert_eq!(used(&old), old_used);
    assert_ne!(used(&new), new_used);
    assert!(used(&new).ends_with(":00.000Z"), "{}", used(&new));
}

#[test]
fn an_expiry_cuts_an_open_stream() {
    let provider = Provider::start(|_, answer| {
        answer.sse_head();
        answer.chunk(text("first"));
        answer.wait("never");
    });
    let Some(scene) = scene("an expiry cuts a stream", provider) else { return };
    let token = scene.token("short", &["--valid-days", "1"]);
    let mut client = Client::connect(scene.gateway.addr);
    client.send_post("/v1/chat/completions", &token, chat("main/m", ",\"stream\":true").as_bytes());
    assert_eq!(client.read_head().status, 200);
    client.read_until("first");
    scene.move_to(DAY + HOUR);
    let moved = std::time::Instant::now();
    let (rest, complete) = client.read_rest();
    assert!(complete && moved.elapsed() < Duration::from_millis(2500), "{:?}", moved.elapsed());
    assert_ends_with_error(&rest);
    scene.gateway.wait_for_outcome("cut", 1);
    drop(scene.provider);
}
