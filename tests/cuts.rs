//! What ends a call in flight besides what `revocation.rs` tries: applications, manifests, roles and expiries. Each
//! is cut within a second, with a well-formed error event, and accounted as far as it got.

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

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use support::gateway::token_id;
use support::sse::{ASK_USAGE, DONE, FINISH, assert_ends_with_error, text};
use support::{Client, Fixture, chat};

const API: &str = "/api/svc/v1";

/// A gateway whose provider streams one event and then waits, and an admin on its management API.
struct Stage {
    fixture: Fixture,
    root: String,
}

/// One caller's open stream.
struct Stream {
    client: Client,
    provider_connection: usize,
}

impl Stage {
    fn new() -> Self {
        let fixture = Fixture::new(|_, answer| {
            answer.sse_head();
            answer.chunk(text("first"));
            if answer.wait("finish") {
                answer.chunk(FINISH);
                answer.chunk(DONE);
                answer.last_chunk();
            }
        });
        let root = fixture.gateway.admin_token();
        Self { fixture, root }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = Client::connect(self.fixture.gateway.addr).request(
            method,
            &format!("{API}{path}"),
            &self.root,
            &body,
        );
        assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
        response.json()
    }

    /// An application and its token; it may use `main/m` by its own manifest.
    fn application(&self, name: &str, expiration: Option<&str>) -> String {
        self.ask("PUT", "/virtual-accounts", &manifest(name, &["main"], expiration));
        let made = self.ask("POST", "/tokens", &json!({"virtualAccount": name, "name": "first"}));
        made["token"].as_str().unwrap().to_owned()
    }

    /// A user with a token and no grant.
    fn user(&self, email: &str) -> String {
        self.ask("POST", "/users/register", &json!({"email": email}));
        self.fixture.gateway.user_token(email)
    }

    fn grant(&self, subject: &str, role: &str, target: &str) {
        self.ask("POST", "/grants", &json!({"subject": subject, "role": role, "target": target}));
    }

    fn open(&self, token: &str) -> Stream {
        let mut client = self.fixture.connect();
        let body = chat("main/m", &format!(",\"stream\":true{ASK_USAGE}"));
        client.send_post("/v1/chat/completions", token, body.as_bytes());
        assert_eq!(client.read_head().status, 200);
        client.read_until("first");
        Stream { client, provider_connection: self.fixture.provider.requests().last().unwrap().connection }
    }

    /// The stream must end by itself within a second of the cut, well formed and accounted.
    fn assert_cut(&self, what: &str, mut stream: Stream, token: &str, subject: &str, next: u16) {
        let since = Instant::now();
        let (body, complete) = stream.client.read_rest();
        let took = since.elapsed();
        assert!(took < Duration::from_secs(1), "{what}: cut only after {took:?}");
        self.assert_ended(what, &body, complete, stream.provider_connection, since);
        let response =
            self.fixture.connect().post("/v1/chat/completions", token, chat("main/m", "").as_bytes());
        assert_eq!(response.status, next, "{what}: {}", response.text());
        self.assert_accounted(what, subject);
    }

    fn assert_ended(&self, what: &str, body: &[u8], complete: bool, connection: usize, since: Instant) {
        assert!(complete, "{what}: the stream has no proper end");
        assert_ends_with_error(body);
        let took = self.fixture.provider.wait_closed(connection).saturating_duration_since(since);
        assert!(took < Duration::from_secs(1), "{what}: the provider saw it after {took:?}");
    }

    /// The one call of this subject is in the usage report with the text that it got.
    fn assert_accounted(&self, what: &str, subject: &str) {
        let row = support::eventually(&format!("{what}: usage of {subject}"), || {
            let report =
                self.fixture.gateway.admin_json(&["usage", "report", "--by", "user,virtual-account"]);
            support::gateway::rows(&report).into_iter().find(|row| row.to_string().contains(subject))
        });
        assert_eq!(row["calls"], 1, "{what}: {row}");
        assert!(row["outputTokens"].as_u64() > Some(0), "{what}: what the caller got is not counted: {row}");
    }
}

fn manifest(name: &str, accounts: &[&str], expiration: Option<&str>) -> Value {
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
    let mut manifest = json!({"type": "virtual-account", "name": name, "permissions": permissions});
    if let Some(date) = expiration {
        manifest["expiration_date"] = date.into();
    }
    json!({"manifest": manifest})
}

/// A time from now on as ISO 8601 with milliseconds.
fn iso(time: SystemTime) -> String {
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{}.{:03}", millis / 1000, millis % 1000), "+%Y-%m-%dT%H:%M:%S.%3NZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn applications_are_cut_when_they_lose_what_they_have() {
    let stage = Stage::new();
    stage.fixture.gateway.add_account("other", &stage.fixture.provider.base_url());
    // Another application's stream goes on through all of it.
    let bystander = stage.application("bystander", None);
    let mut untouched = stage.open(&bystander);
    let cases: &[(&str, &str, u16)] = &[
        ("app-deleted", "the virtual account deleted", 401),
        ("app-token", "its token revoked", 401),
        ("app-narrowed", "its manifest applied without the account", 403),
        ("app-revoked", "its grant revoked", 403),
        ("app-expired", "its manifest applied with a date that is past", 401),
    ];
    for (name, what, next) in cases {
        let token = stage.application(name, None);
        if *name == "app-revoked" {
            // Beside what its manifest gives, which is taken away first.
            stage.grant(&format!("virtualaccount:{name}"), "provider-account-access", "main/m");
            stage.ask("PUT", "/virtual-accounts", &manifest(name, &["other"], None));
        }
        let stream = stage.open(&token);
        match *name {
            "app-deleted" => {
                stage.ask("DELETE", &format!("/virtual-accounts/{name}"), &Value::Null);
            }
            "app-token" => {
                stage.ask("DELETE", &format!("/tokens/{}", token_id(&token)), &Value::Null);
            }
            "app-narrowed" => {
                stage.ask("PUT", "/virtual-accounts", &manifest(name, &["other"], None));
            }
            "app-revoked" => {
                let query =
                    format!("subject=virtualaccount:{name}&role=provider-account-access&target=main/m");
                stage.ask("DELETE", &format!("/grants?{query}"), &Value::Null);
            }
            _ => {
                stage.ask("PUT", "/virtual-accounts", &manifest(name, &["main"], Some("2020-01-31")));
            }
        }
        stage.assert_cut(what, stream, &token, name, *next);
    }
    assert!(!untouched.client.poll(Duration::ZERO), "the bystander's stream was touched");
    stage.fixture.provider.signal("finish");
    let (body, complete) = untouched.client.read_rest();
    assert!(complete && body.ends_with(DONE.as_bytes()) && !String::from_utf8_lossy(&body).contains("error"));
}

#[test]
fn users_are_cut_when_a_role_or_a_team_goes() {
    let stage = Stage::new();
    let member = |name: &str, members: &[&str]| json!({"manifest": {"type": "team", "name": name, "members": members}});
    // A team's manifest applied without the member.
    let token = stage.user("applied@example.com");
    stage.ask("PUT", "/teams", &member("applied", &["applied@example.com"]));
    stage.grant("team:applied", "provider-account-access", "main/m");
    let stream = stage.open(&token);
    stage.ask("PUT", "/teams", &member("applied", &["root@example.com"]));
    stage.assert_cut("the team applied without them", stream, &token, "applied@example.com", 403);

    // A manager uses the models by that role alone.
    let token = stage.user("manager@example.com");
    stage.grant("user:manager@example.com", "provider-account-manager", "main");
    let stream = stage.open(&token);
    let query = "subject=user:manager@example.com&role=provider-account-manager&target=main";
    stage.ask("DELETE", &format!("/grants?{query}"), &Value::Null);
    stage.assert_cut("the manager role revoked", stream, &token, "manager@example.com", 403);

    // An admin uses every model by being one.
    let token = stage.user("demoted@example.com");
    let role = |role: &str| json!({"email": "demoted@example.com", "roles": [role]});
    stage.ask("PATCH", "/users/roles", &role("tenant-admin"));
    let stream = stage.open(&token);
    stage.ask("PATCH", "/users/roles", &role("tenant-member"));
    stage.assert_cut("the admin demoted", stream, &token, "demoted@example.com", 403);

    // What everyone may use.
    let token = stage.user("anyone@example.com");
    stage.grant("team:everyone", "provider-account-access", "main/m");
    let stream = stage.open(&token);
    let query = "subject=team:everyone&role=provider-account-access&target=main/m";
    stage.ask("DELETE", &format!("/grants?{query}"), &Value::Null);
    stage.assert_cut("everyone's grant revoked", stream, &token, "anyone@example.com", 403);

    // Two teams: the stream lives as long as one of them gives it.
    let token = stage.user("twice@example.com");
    for team in ["one", "two"] {
        stage.ask("PUT", "/teams", &member(team, &["twice@example.com"]));
        stage.grant(&format!("team:{team}"), "provider-account-access", "main");
    }
    let mut stream = stage.open(&token);
    stage.ask("DELETE", "/teams/one/members/twice@example.com", &Value::Null);
    assert!(!stream.client.poll(Duration::from_millis(200)), "cut although the other team remains");
    stage.ask("DELETE", "/teams/two", &Value::Null);
    stage.assert_cut("the last of two teams deleted", stream, &token, "twice@example.com", 403);
}

#[test]
fn an_expiry_cuts_by_itself_and_to_the_second() {
    let stage = Stage::new();
    let shortened = stage.application("app-shortened", None);
    let mut third = stage.open(&shortened);
    let end = SystemTime::now() + Duration::from_secs(2);
    // The application's own end.
    let owner = stage.application("app-ending", Some(&iso(end)));
    // The end of one token of two; the other one goes on.
    let lasting = stage.application("app-lasting", None);
    let body = json!({"virtualAccount": "app-lasting", "name": "second", "expirationDate": iso(end)});
    let made = stage.ask("POST", "/tokens", &body);
    let ending = made["token"].as_str().unwrap().to_owned();
    let (mut first, mut second, mut other) = (stage.open(&owner), stage.open(&ending), stage.open(&lasting));
    // An end that comes while the stream is open.
    stage.ask("PUT", "/virtual-accounts", &manifest("app-shortened", &["main"], Some(&iso(end))));
    for (what, stream, token) in [
        ("app-ending", &mut first, &owner),
        ("the second token", &mut second, &ending),
        ("app-shortened", &mut third, &shortened),
    ] {
        let (body, complete) = stream.client.read_rest();
        let late = SystemTime::now().duration_since(end);
        let late = late.unwrap_or_else(|early| panic!("{what}: cut too early, by {:?}", early.duration()));
        assert!(late < Duration::from_secs(1), "{what}: cut only after {late:?}");
        stage.assert_ended(what, &body, complete, stream.provider_connection, Instant::now());
        let next = stage.fixture.connect().post("/v1/chat/completions", token, chat("main/m", "").as_bytes());
        assert_eq!(next.status, 401, "{what}: {}", next.text());
    }
    stage.assert_accounted("app-ending", "app-ending");
    stage.assert_accounted("app-shortened", "app-shortened");
    assert!(!other.client.poll(Duration::ZERO), "the other token's stream was touched");
    stage.fixture.provider.signal("finish");
    let (body, complete) = other.client.read_rest();
    assert!(complete && body.ends_with(DONE.as_bytes()), "{:?}", String::from_utf8_lossy(&body));
}
