//! Access that is taken away cuts the calls that run on it.

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

use std::time::{Duration, Instant};

use support::gateway::token_id;
use support::sse::{DONE, FINISH, assert_ends_with_error, text};
use support::{Client, Fixture, chat};

/// A provider that streams one event and then waits to be told to finish.
fn endless() -> Fixture {
    Fixture::new(|request, answer| {
        if request.json()["stream"] == true {
            answer.sse_head();
            answer.chunk(text("first"));
        }
        answer.say("reached");
        if answer.wait("finish") {
            answer.chunk(FINISH);
            answer.chunk(DONE);
            answer.last_chunk();
        }
    })
}

fn open(fixture: &Fixture, model: &str, token: &str) -> Client {
    let mut client = fixture.connect();
    client.send_post("/v1/chat/completions", token, chat(model, ",\"stream\":true").as_bytes());
    assert_eq!(client.read_head().status, 200);
    client.read_until("first");
    client
}

/// Name, what to do first, what takes the access away, and the status of the next call. `TOKEN` stands for the
/// id of Ada's token.
const CASES: &[(&str, &[&str], &[&str], u16)] = &[
    ("token revoked", &[], &["token revoke TOKEN"], 401),
    ("token rotated without grace", &[], &["token rotate TOKEN --grace 0"], 401),
    ("user deactivated", &[], &["user deactivate ada@example.com"], 401),
    ("user deleted", &[], &["user delete ada@example.com --force"], 401),
    ("grant revoked", &[], &["revoke user:ada@example.com provider-account-access main"], 403),
    ("model removed", &[], &["model remove main/m"], 403),
    ("account deleted", &[], &["provider delete main"], 403),
    (
        "left the team",
        &[
            "team create search",
            "team add-member search ada@example.com",
            "grant team:search provider-account-access main/m",
            "revoke user:ada@example.com provider-account-access main",
        ],
        &["team remove-member search ada@example.com"],
        403,
    ),
    (
        "team deleted",
        &[
            "team create search",
            "team add-member search ada@example.com",
            "grant team:search provider-account-access main",
            "revoke user:ada@example.com provider-account-access main",
        ],
        &["team delete search"],
        403,
    ),
    (
        "one grant of two",
        &["grant user:ada@example.com provider-account-access main/m"],
        &[
            "revoke user:ada@example.com provider-account-access main",
            "revoke user:ada@example.com provider-account-access main/m",
        ],
        403,
    ),
];

#[test]
fn what_takes_access_away_cuts_open_streams() {
    for (name, before, cut, status) in CASES {
        let fixture = endless();
        let admin = |line: &str| {
            let line = line.replace("TOKEN", token_id(&fixture.token));
            fixture.gateway.admin_ok(&line.split(' ').collect::<Vec<_>>());
        };
        before.iter().for_each(|line| admin(line));
        // Bob's stream goes on, unless his access goes as well.
        fixture.gateway.admin_ok(&["user", "create", "bob@example.com", "--role", "admin"]);
        let bob = fixture.gateway.user_token("bob@example.com");
        let mut other = open(&fixture, "main/m", &bob);
        let mut ours = open(&fixture, "main/m", &fixture.token);
        let ours_number = fixture.provider.requests().last().unwrap().connection;
        let (last, first) = cut.split_last().unwrap();
        for line in first {
            admin(line);
            assert!(!ours.poll(Duration::from_millis(200)), "{name}: cut although access remains");
        }
        admin(last);
        let since = Instant::now();
        let (body, complete) = ours.read_rest();
        assert!(since.elapsed() < Duration::from_secs(1), "{name}: cut only after {:?}", since.elapsed());
        assert!(complete, "{name}: the stream has no proper end");
        assert_ends_with_error(&body);
        let took = fixture.provider.wait_closed(ours_number).saturating_duration_since(since);
        assert!(took < Duration::from_secs(1), "{name}: the provider saw it after {took:?}");
        fixture.wait_for_outcome("cut", 1);
        let next = fixture.chat("");
        assert_eq!(next.status, *status, "{name}: {}", next.text());
        if name.starts_with("model") || name.starts_with("account") {
            assert_ends_with_error(&other.read_rest().0);
        } else {
            fixture.provider.signal("finish");
            let (body, complete) = other.read_rest();
            assert!(
                complete && body.ends_with(DONE.as_bytes()),
                "{name}: {:?}",
                String::from_utf8_lossy(&body)
            );
            assert!(!String::from_utf8_lossy(&body).contains("error"), "{name}: the other's stream was cut");
        }
    }
}

#[test]
fn a_call_that_has_no_answer_yet_is_refused() {
    for (cut, status) in [
        ("token revoke TOKEN", 401),
        ("user deactivate ada@example.com", 401),
        ("revoke user:ada@example.com provider-account-access main", 403),
    ] {
        let fixture = endless();
        let mut client = fixture.connect();
        client.send_post("/v1/chat/completions", &fixture.token, chat("main/m", "").as_bytes());
        fixture.provider.wait_for("reached");
        let line = cut.replace("TOKEN", token_id(&fixture.token));
        fixture.gateway.admin_ok(&line.split(' ').collect::<Vec<_>>());
        let since = Instant::now();
        let response = client.read_response();
        assert!(since.elapsed() < Duration::from_secs(1), "{cut}: {:?}", since.elapsed());
        assert!([401, status].contains(&response.status), "{cut}: {}", response.status);
        response.assert_error(response.status);
        fixture.provider.assert_closed_within_250_ms(0, since + Duration::from_millis(750));
    }
}

#[test]
fn a_token_that_expires_cuts_its_stream() {
    let fixture = endless();
    let gateway = &fixture.gateway;
    let soon = std::time::SystemTime::now() + Duration::from_secs(3);
    let seconds = soon.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    let date = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let token = gateway.admin_ok(&[
        "token",
        "create",
        "--user",
        "ada@example.com",
        "--name",
        "short",
        "--expires",
        &date,
    ]);
    let mut client = open(&fixture, "main/m", &token);
    let (rest, complete) = client.read_rest();
    let late = std::time::SystemTime::now().duration_since(soon).unwrap_or_default();
    assert!(complete && late < Duration::from_millis(2500), "{late:?}");
    assert_ends_with_error(&rest);
    let next =
        Client::connect(gateway.addr).post("/v1/chat/completions", &token, chat("main/m", "").as_bytes());
    assert_eq!(next.status, 401);
}

#[test]
fn a_change_that_takes_nothing_away_cuts_nothing() {
    let fixture = endless();
    let mut client = open(&fixture, "main/m", &fixture.token);
    for line in [
        "user create new@example.com",
        "team create search",
        "team add-member search ada@example.com",
        "grant user:ada@example.com provider-account-access main/m",
        "model add main/n --model-id n",
        "token create --user ada@example.com --name second",
        "user deactivate new@example.com",
    ] {
        fixture.gateway.admin_ok(&line.split(' ').collect::<Vec<_>>());
    }
    fixture.provider.signal("finish");
    let (body, complete) = client.read_rest();
    assert!(complete && body.ends_with(DONE.as_bytes()));
    fixture.wait_for_outcome("complete", 1);
}
