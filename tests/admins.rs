//! Many admins at once: whatever was acknowledged is there, nothing is lost on what they share, nobody is answered by
//! a state that never was, and one of them always remains.

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

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use serde_json::{Value, json};

use support::gateway::token_id;
use support::{CHAT_ANSWER, Client, Fixture, Gateway, Provider, announce, chat};

const ADMINS: usize = 50;
const ROUNDS: usize = 4;
/// Of them, those that change what the shared application may use, to and fro.
const FLIPPERS: usize = 5;
/// Threads that ask for models all the time.
const CALLERS: usize = 6;
/// How often a change that met another one is tried again.
const TRIES: usize = 100;

/// One person on a connection of the management API.
struct Person {
    client: Client,
    token: String,
    changes: u64,
}

impl Person {
    fn new(gateway: &Gateway, token: &str) -> Self {
        Self { client: Client::connect(gateway.addr), token: token.to_owned(), changes: 0 }
    }

    fn try_once(&mut self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.client.request(method, &format!("/api/svc/v1{path}"), &self.token, &body);
        assert!(response.complete, "{method} {path}: cut");
        (response.status, response.text())
    }

    /// A change, until it is acknowledged. Only "somebody else was faster" and "too many at once" may come before.
    fn change(&mut self, method: &str, path: &str, body: &Value) -> Value {
        for _ in 0..TRIES {
            let (status, text) = self.try_once(method, path, body);
            match status {
                200 => {
                    self.changes += 1;
                    return serde_json::from_str(&text).unwrap();
                }
                409 | 503 => {}
                _ => panic!("{method} {path}: {status} {text}"),
            }
        }
        panic!("{method} {path}: never acknowledged");
    }
}

fn user(admin: usize, round: usize) -> String {
    format!("user-{admin}-{round}@example.com")
}

fn application(name: &str, accounts: &[&str]) -> Value {
    let permissions: Vec<Value> = accounts
        .iter()
        .map(|account| {
            json!({
                "resource_fqn": format!("default:openai:{account}"),
                "resource_type": "provider-account",
                "role_id": "provider-account-access",
            })
        })
        .collect();
    json!({"manifest": {"type": "virtual-account", "name": name, "permissions": permissions}})
}

fn team(name: &str, members: &[String]) -> Value {
    json!({"manifest": {"type": "team", "name": name, "members": members}})
}

/// Whether a user that a round made is still what it was made, at the end of that round.
fn stays(round: usize) -> bool {
    round.is_multiple_of(2)
}

/// What one admin does; gives the number of acknowledged changes.
fn administrate(gateway: &Gateway, token: &str, number: usize) -> u64 {
    let mut admin = Person::new(gateway, token);
    let mut caller = Client::connect(gateway.addr);
    let mut own = Vec::new();
    let app = format!("app-{number}");
    for round in 0..ROUNDS {
        let email = user(number, round);
        admin.change("POST", "/users/register", &json!({"email": email}));
        admin.change("POST", "/teams/shared/members", &json!({"email": email}));
        own.push(email.clone());
        admin.change("PUT", "/teams", &team(&format!("team-{number}"), &own));
        let grant = json!({
            "subject": format!("user:{email}"),
            "role": "provider-account-access",
            "target": "main",
        });
        admin.change("POST", "/grants", &grant);
        // What was acknowledged decides the very next call.
        admin.change("PUT", "/virtual-accounts", &application(&app, &["main"]));
        let new = json!({"virtualAccount": app, "name": format!("token-{round}")});
        let made = admin.change("POST", "/tokens", &new);
        let key = made["token"].as_str().unwrap();
        let call = chat("main/m", "");
        let answer = caller.post("/v1/chat/completions", key, call.as_bytes());
        assert_eq!(answer.status, 200, "a new token, {number}-{round}: {}", answer.text());
        admin.change("DELETE", &format!("/tokens/{}", token_id(key)), &Value::Null);
        let answer = caller.post("/v1/chat/completions", key, call.as_bytes());
        assert_eq!(answer.status, 401, "a revoked token, {number}-{round}: {}", answer.text());
        caller = Client::connect(gateway.addr);
        if !stays(round) {
            admin.change("DELETE", &format!("/teams/shared/members/{email}"), &Value::Null);
            let query = format!("subject=user:{email}&role=provider-account-access&target=main");
            admin.change("DELETE", &format!("/grants?{query}"), &Value::Null);
        }
        if number < FLIPPERS {
            let accounts = if (number + round).is_multiple_of(2) { ["a", "b"] } else { ["c", "d"] };
            admin.change("PUT", "/virtual-accounts", &application("flip", &accounts));
        }
    }
    if number.is_multiple_of(2) {
        admin.change("DELETE", &format!("/virtual-accounts/{app}"), &Value::Null);
    }
    admin.changes
}

/// One caller's requests until the admins are done; gives how many, and in which states it found the application.
fn call(
    gateway: &Gateway,
    ada: &str,
    flip: &str,
    done: &AtomicBool,
    start: usize,
) -> (u64, BTreeSet<String>) {
    let mut client = Client::connect(gateway.addr);
    let (mut count, mut seen) = (0, BTreeSet::new());
    for number in start.. {
        match number % 4 {
            // One answer is one state: both accounts of a pair or none.
            0 => {
                let answer = client.get("/v1/models", flip);
                assert_eq!(answer.status, 200, "{}", answer.text());
                let models = answer.json()["data"].as_array().unwrap().clone();
                let models: Vec<_> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
                let state = models.join(" ");
                assert!(["a/m b/m", "c/m d/m"].contains(&state.as_str()), "no state was ever {state:?}");
                seen.insert(state);
            }
            1 => {
                let model = ["a/m", "d/m"][number / 4 % 2];
                let answer = client.post("/v1/chat/completions", flip, chat(model, "").as_bytes());
                // Allowed by one state and cut by a later one is the third way there is.
                let cut = answer.status == 401 && answer.text().contains("taken away while the call ran");
                assert!(cut || [200, 403].contains(&answer.status), "{model}: {}", answer.text());
                if !answer.complete || answer.header("connection") == Some("close") {
                    client = Client::connect(gateway.addr);
                }
            }
            // Nobody takes anything from Ada.
            _ => {
                let answer = client.post("/v1/chat/completions", ada, chat("main/m", "").as_bytes());
                assert_eq!((answer.status, answer.text().as_str()), (200, CHAT_ANSWER));
            }
        }
        count += 1;
        if done.load(Ordering::Relaxed) {
            break;
        }
    }
    (count, seen)
}

/// Everything that the admins were told is there, is there, and nothing else.
fn assert_all_is_there(gateway: &Gateway, root: &str) {
    let mut root = Person::new(gateway, root);
    let mut show = |path: String| root.try_once("GET", &path, &Value::Null);
    let members = |text: &str| -> BTreeSet<String> {
        let team: Value = serde_json::from_str(text).unwrap();
        let members = team["data"]["members"].as_array().unwrap();
        members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
    };
    let (_, text) = show("/teams/shared".to_owned());
    let all = (0..ADMINS).flat_map(|admin| (0..ROUNDS).map(move |round| (admin, round)));
    let mut wanted: BTreeSet<String> =
        all.filter(|(_, round)| stays(*round)).map(|(admin, round)| user(admin, round)).collect();
    wanted.insert("root@example.com".to_owned());
    assert_eq!(members(&text), wanted, "an update of the shared team is lost");
    for admin in 0..ADMINS {
        let (_, text) = show(format!("/teams/team-{admin}"));
        let own: BTreeSet<String> = (0..ROUNDS).map(|round| user(admin, round)).collect();
        assert_eq!(members(&text), own, "team-{admin}");
        for round in 0..ROUNDS {
            let (status, text) = show(format!("/grants?subject=user:{}", user(admin, round)));
            let grants: Value = serde_json::from_str(&text).unwrap();
            let count = grants["data"].as_array().unwrap().len();
            assert_eq!((status, count), (200, usize::from(stays(round))), "{admin}-{round}: {text}");
        }
        let (status, _) = show(format!("/virtual-accounts/app-{admin}"));
        assert_eq!(status, if admin.is_multiple_of(2) { 404 } else { 200 }, "app-{admin}");
    }
}

#[test]
fn fifty_admins_lose_nothing_and_show_no_torn_state() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "log.level = \"warn\"");
    let (gateway, ada) = (&fixture.gateway, &*fixture.token);
    let root = gateway.admin_token();
    for account in ["a", "b", "c", "d"] {
        gateway.add_account(account, &fixture.provider.base_url());
    }
    let mut first = Person::new(gateway, &root);
    first.change("PUT", "/virtual-accounts", &application("flip", &["a", "b"]));
    let flip = first.change("POST", "/tokens", &json!({"virtualAccount": "flip", "name": "token"}));
    let flip = flip["token"].as_str().unwrap();
    first.change("PUT", "/teams", &team("shared", &["root@example.com".to_owned()]));
    let admins: Vec<String> = (0..ADMINS)
        .map(|number| {
            let email = format!("admin-{number}@example.com");
            gateway.admin_ok(&["user", "create", &email, "--role", "admin"]);
            gateway.user_token(&email)
        })
        .collect();
    let done = AtomicBool::new(false);
    let since = Instant::now();
    let (changes, calls, seen) = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let done = &done;
                scope.spawn(move || call(gateway, ada, flip, done, number))
            })
            .collect();
        let admins: Vec<_> = admins
            .iter()
            .enumerate()
            .map(|(number, token)| scope.spawn(move || administrate(gateway, token, number)))
            .collect();
        let ended: Vec<_> = admins.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        let changes: u64 = ended.into_iter().map(Result::unwrap).sum();
        let (mut calls, mut seen) = (0, BTreeSet::new());
        for thread in callers {
            let (count, states) = thread.join().unwrap();
            calls += count;
            seen.extend(states);
        }
        (changes, calls, seen)
    });
    let took = since.elapsed().as_secs_f64();
    announce(&format!(
        "admins: {changes} changes by {ADMINS} and {calls} requests in {took:.1} s, {:.0} a second",
        calls as f64 / took
    ));
    assert_eq!(seen.len(), 2, "the application was never seen to change: {seen:?}");
    assert_eq!(gateway.metric_sum(|line| line.starts_with("gateway_panics_total ")), 0.0);
    assert_all_is_there(gateway, &root);
    // And it is on disk, with an entry of the audit log for each change.
    let Fixture { gateway, provider, .. } = fixture;
    let home = gateway.stop();
    let text = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(home.config(), text.replace("\"warn\"", "\"info\"")).unwrap();
    let gateway = home.serve();
    assert_all_is_there(&gateway, &root);
    let line = gateway.wait_for_log("the audit log is whole");
    let records = line.split("whole: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(records.parse::<u64>().unwrap() >= changes, "{changes} changes: {line}");
    drop(provider);
}

/// What each may try on an admin: through the API, and the same on the command line.
const ENDS: &[(&str, &str, &str, &str)] = &[
    ("PATCH", "/users/deactivate", "{\"email\":\"WHO\"}", "user deactivate WHO"),
    (
        "PATCH",
        "/users/roles",
        "{\"email\":\"WHO\",\"roles\":[\"tenant-member\"]}",
        "user set-role WHO member",
    ),
    ("DELETE", "/users/WHO", "", "user delete WHO"),
    ("DELETE", "/users/WHO?forceDelete=true", "", "user delete WHO --force"),
];

fn attempt(gateway: &Gateway, token: &str, end: &(&str, &str, &str, &str), who: &str) -> (u16, String) {
    let (method, path, body, _) = end;
    let path = format!("/api/svc/v1{}", path.replace("WHO", who));
    let response = Client::connect(gateway.addr).request(method, &path, token, &body.replace("WHO", who));
    (response.status, response.text())
}

fn active_admins(gateway: &Gateway) -> Vec<String> {
    let users = support::gateway::rows(&gateway.admin_json(&["user", "list"]));
    let admins = users.iter().filter(|user| user["active"] == true && user["roles"][0] == "tenant-admin");
    admins.map(|user| user["email"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_last_active_admin_stays() {
    let gateway = Gateway::start();
    let root = gateway.admin_token();
    // Neither a member nor an admin that was deactivated counts as another one.
    gateway.admin_ok(&["user", "create", "member@example.com"]);
    gateway.admin_ok(&["user", "create", "gone@example.com", "--role", "admin"]);
    gateway.admin_ok(&["user", "deactivate", "gone@example.com"]);
    for end in ENDS {
        let (status, text) = attempt(&gateway, &root, end, "root@example.com");
        assert_eq!(status, 409, "{} {}: {text}", end.0, end.1);
        let line = end.3.replace("WHO", "root@example.com");
        let output = gateway.admin(&line.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{line}");
        assert!(said.contains("last active administrator") || end.1 == "/users/WHO", "{line}: {said}");
        assert_eq!(active_admins(&gateway), ["root@example.com"], "{line}");
    }
    // With another one each of them works.
    gateway.admin_ok(&["user", "activate", "gone@example.com"]);
    gateway.admin_ok(&["user", "deactivate", "root@example.com"]);
    assert_eq!(active_admins(&gateway), ["gone@example.com"]);
    assert_eq!(attempt(&gateway, &root, &ENDS[0], "gone@example.com").0, 401);
}

#[test]
fn two_admins_never_end_each_other() {
    const RACES: usize = 50;
    let gateway = Gateway::start();
    let pair = ["one@example.com", "two@example.com"];
    for email in pair {
        gateway.admin_ok(&["user", "create", email, "--role", "admin"]);
    }
    let tokens: Vec<String> = pair.iter().map(|email| gateway.user_token(email)).collect();
    let mut tokens = tokens;
    let (won, both_refused) = (AtomicU64::new(0), AtomicU64::new(0));
    for race in 0..RACES {
        // Demotion and deactivation in turns, and one of each; deletion takes the tokens, so it comes now and then.
        let ends = match race % 5 {
            0 => [&ENDS[0], &ENDS[0]],
            1 => [&ENDS[1], &ENDS[1]],
            2 => [&ENDS[0], &ENDS[1]],
            3 => [&ENDS[1], &ENDS[0]],
            _ => [&ENDS[3], &ENDS[1]],
        };
        let barrier = Arc::new(Barrier::new(2));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = [(0, 1), (1, 0)]
                .into_iter()
                .map(|(own, other)| {
                    let (gateway, token, barrier) = (&gateway, &tokens[own], Arc::clone(&barrier));
                    let end = ends[own];
                    scope.spawn(move || {
                        barrier.wait();
                        attempt(gateway, token, end, pair[other]).0
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let left = active_admins(&gateway);
        let done = statuses.iter().filter(|status| **status == 200).count();
        assert!(done <= 1, "race {race}: both were done: {statuses:?}");
        assert_eq!(left.len(), 2 - done, "race {race}: {statuses:?} left {left:?}");
        for status in &statuses {
            // The other one was the last, or was faster and the caller is no admin or nobody any more.
            assert!([200, 401, 403, 404, 409].contains(status), "race {race}: {statuses:?}");
        }
        won.fetch_add(done as u64, Ordering::Relaxed);
        both_refused.fetch_add(u64::from(done == 0), Ordering::Relaxed);
        // Both again, with a token that works.
        for (index, email) in pair.iter().enumerate() {
            if left.iter().any(|one| one == email) {
                continue;
            }
            let created = gateway.admin(&["user", "create", email, "--role", "admin"]);
            if !created.status.success() {
                gateway.admin_ok(&["user", "activate", email]);
                gateway.admin_ok(&["user", "set-role", email, "admin"]);
            }
            tokens[index] = gateway.user_token(email);
        }
    }
    announce(&format!("races of two admins: {won:?} of {RACES} had a winner, {both_refused:?} none"));
    assert!(won.load(Ordering::Relaxed) > 0, "nobody ever won: nothing was tried");
}
