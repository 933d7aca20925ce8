//! kill -9 at random points: what was acknowledged is there afterwards, and nothing is there by half.

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

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::gateway::{rows, token_id};
use support::{CHAT_ANSWER, Client, Fixture, Gateway, Home, Lcg, Provider, announce, chat};

const KILLS: u64 = 100;
const SEED: u64 = 20_261_123;

/// What a change did to a user, as far as the test knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Acknowledged: it must be there, with token and grant.
    There,
    /// Deletion acknowledged: nothing of it may be there.
    Gone,
    /// A change was under way at the kill: all of it or nothing of it.
    Open,
}

/// A user with a token and a grant; deleting it takes all three in one commit.
struct Person {
    email: String,
    token: Option<String>,
    granted: bool,
    fate: Fate,
}

/// One step of the work, over HTTP or with the command line; false when it was not acknowledged.
trait Work {
    fn create_user(&mut self, email: &str) -> bool;
    fn create_token(&mut self, email: &str) -> Option<String>;
    fn grant(&mut self, email: &str) -> bool;
    fn delete(&mut self, email: &str) -> bool;
}

struct Http<'a> {
    gateway: &'a Gateway,
    root: &'a str,
}

impl Http<'_> {
    fn send(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let mut stream = std::net::TcpStream::connect(self.gateway.addr).ok()?;
        let text = format!(
            "{method} /api/svc/v1{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.root,
            body.len()
        );
        std::io::Write::write_all(&mut stream, text.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        // A cut body is not an acknowledgement.
        serde_json::from_str(body).ok()
    }
}

impl Work for Http<'_> {
    fn create_user(&mut self, email: &str) -> bool {
        self.send("POST", "/users/register", &format!("{{\"email\":\"{email}\"}}")).is_some()
    }
    fn create_token(&mut self, email: &str) -> Option<String> {
        let made = self.send("POST", "/tokens", &format!("{{\"user\":\"{email}\",\"name\":\"tok\"}}"))?;
        Some(made["token"].as_str()?.to_owned())
    }
    fn grant(&mut self, email: &str) -> bool {
        let body = format!(
            "{{\"subject\":\"user:{email}\",\"role\":\"provider-account-access\",\"target\":\"main\"}}"
        );
        self.send("POST", "/grants", &body).is_some()
    }
    fn delete(&mut self, email: &str) -> bool {
        self.send("DELETE", &format!("/users/{email}?forceDelete=true"), "").is_some()
    }
}

/// The command line; over the socket while the server lives, directly on the store once it is dead.
struct CommandLine<'a> {
    home: &'a Home,
}

impl CommandLine<'_> {
    fn run(&self, arguments: &[&str]) -> Option<String> {
        let output = self.home.admin(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains("panicked"), "{text}");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Work for CommandLine<'_> {
    fn create_user(&mut self, email: &str) -> bool {
        self.run(&["user", "create", email]).is_some()
    }
    fn create_token(&mut self, email: &str) -> Option<String> {
        self.run(&["token", "create", "--user", email, "--name", "tok"])
    }
    fn grant(&mut self, email: &str) -> bool {
        self.run(&["grant", &format!("user:{email}"), "provider-account-access", "main"]).is_some()
    }
    fn delete(&mut self, email: &str) -> bool {
        self.run(&["user", "delete", email, "--force"]).is_some()
    }
}

/// Makes and unmakes people until a change is not acknowledged or the round is over.
fn work(
    work: &mut dyn Work,
    people: &mut Vec<Person>,
    random: &mut Lcg,
    limit: usize,
    dead: &dyn Fn() -> bool,
) {
    for _ in 0..limit {
        if dead() {
            return;
        }
        let there: Vec<usize> =
            (0..people.len()).filter(|&at| people[at].fate == Fate::There && people[at].granted).collect();
        if !there.is_empty() && random.below(4) == 0 {
            let at = there[usize::try_from(random.below(there.len() as u64)).unwrap()];
            let person = &mut people[at];
            person.fate = Fate::Open;
            if !work.delete(&person.email) {
                return;
            }
            person.fate = Fate::Gone;
            continue;
        }
        let email = format!("p{}@example.com", people.len());
        people.push(Person { email: email.clone(), token: None, granted: false, fate: Fate::Open });
        let person = people.last_mut().unwrap();
        if !work.create_user(&email) {
            return;
        }
        person.fate = Fate::There;
        let Some(token) = work.create_token(&email) else { return };
        person.token = Some(token);
        if !work.grant(&email) {
            return;
        }
        person.granted = true;
    }
}

/// Compares what is there with what was acknowledged. Open changes are settled by what is there.
fn check(gateway: &Gateway, people: &mut [Person], kill: u64) {
    let listed = |arguments: &[&str]| rows(&gateway.admin_json(arguments));
    let users: Vec<String> =
        listed(&["user", "list"]).iter().map(|u| u["email"].as_str().unwrap().to_owned()).collect();
    let mut grants: BTreeMap<String, usize> = BTreeMap::new();
    for grant in listed(&["grants"]) {
        *grants.entry(grant["subject"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut tokens: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for token in listed(&["token", "list"]) {
        let owner = token["owner"].as_str().unwrap().to_owned();
        tokens.entry(owner).or_default().push(token["id"].as_str().unwrap().to_owned());
    }
    for person in people.iter_mut() {
        let subject = format!("user:{}", person.email);
        let there = users.contains(&person.email);
        let granted = grants.get(&subject).copied().unwrap_or(0);
        let owned = tokens.get(&subject).cloned().unwrap_or_default();
        let state = format!("kill {kill}: {subject}: user {there}, {granted} grants, tokens {owned:?}");
        match person.fate {
            Fate::There => assert!(there, "an acknowledged user is lost: {state}"),
            Fate::Gone => assert!(!there, "a deleted user is back: {state}"),
            Fate::Open => person.fate = if there { Fate::There } else { Fate::Gone },
        }
        if !there {
            assert!(granted == 0 && owned.is_empty(), "half a deletion: {state}");
            continue;
        }
        if let Some(token) = &person.token {
            assert!(owned.iter().any(|id| id == token_id(token)), "an acknowledged token is lost: {state}");
        }
        if person.granted {
            assert_eq!(granted, 1, "an acknowledged grant is lost: {state}");
        }
    }
}

/// The pages of a list must hold all people of a round.
fn prune(people: &mut [Person], work: &mut dyn Work) {
    if people.iter().filter(|person| person.fate == Fate::There).count() > 60 {
        for person in people.iter_mut().filter(|person| person.fate == Fate::There) {
            assert!(work.delete(&person.email), "{}", person.email);
            person.fate = Fate::Gone;
        }
    }
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_acknowledged() {
    let mut random = Lcg(SEED);
    let mut people = Vec::new();
    let gateway = Gateway::start();
    gateway.add_account("main", "http://127.0.0.1:9/v1");
    let root = gateway.admin_token();
    // Then tokens can be made over HTTP, too.
    gateway.admin_ok(&["settings", "set", "pat_may_mint", "true"]);
    let mut home = gateway.stop();
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let gateway = home.serve();
        check(&gateway, &mut people, kill);
        for person in people.iter().filter(|person| person.fate == Fate::There).take(1) {
            if let Some(token) = &person.token {
                assert_eq!(
                    Client::connect(gateway.addr).get("/v1/models", token).status,
                    200,
                    "{}",
                    person.email
                );
            }
        }
        prune(&mut people, &mut Http { gateway: &gateway, root: &root });
        // The killer waits a random time unless the round is over first.
        let wait = Duration::from_micros(random.below(if kill % 2 == 0 { 60_000 } else { 250_000 }));
        let (over, ended) = mpsc::channel::<()>();
        let pid = gateway.pid().to_string();
        let killed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mark = std::sync::Arc::clone(&killed);
        let killer = std::thread::spawn(move || {
            let _ = ended.recv_timeout(wait);
            mark.store(true, std::sync::atomic::Ordering::SeqCst);
            let status = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            assert!(status.success());
        });
        let before = people.len();
        let dead = || killed.load(std::sync::atomic::Ordering::SeqCst);
        if kill % 2 == 0 {
            work(&mut Http { gateway: &gateway, root: &root }, &mut people, &mut random, 400, &dead);
        } else {
            work(&mut CommandLine { home: &gateway.home }, &mut people, &mut random, 40, &dead);
        }
        acknowledged += people[before..].iter().filter(|person| person.fate == Fate::There).count();
        let _ = over.send(());
        killer.join().unwrap();
        home = gateway.kill();
    }
    let gateway = home.serve();
    check(&gateway, &mut people, KILLS);
    announce(&format!(
        "{KILLS} kills, {} people begun, {acknowledged} acknowledged, seed {SEED}",
        people.len()
    ));
    assert!(acknowledged > 50, "the kills came before any work: {acknowledged}");
}

#[test]
fn killing_the_command_line_itself_leaves_no_half_change() {
    let mut random = Lcg(SEED + 1);
    let home = Home::new("");
    let mut sure = Vec::new();
    for round in 0..30 {
        let email = format!("d{round}@example.com");
        let mut child = home
            .admin_command(&["user", "create", &email])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::park_timeout(Duration::from_micros(random.below(40_000)));
        let _ = child.kill();
        if child.wait().unwrap().success() {
            sure.push(email);
        }
        // The store opens, and says what it has.
        let users = rows(&home.admin_json(&["user", "list"]));
        for email in &sure {
            assert!(users.iter().any(|user| user["email"] == **email), "{email} is lost");
        }
    }
}

/// `usage.flush_interval_ms` here, and what a commit may take on a busy machine.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
const SLACK: Duration = Duration::from_millis(800);

#[test]
fn a_kill_loses_at_most_the_last_interval_of_usage() {
    let config = format!("usage.flush_interval_ms = {}", FLUSH_INTERVAL.as_millis());
    let mut random = Lcg(SEED + 2);
    for round in 0..3 {
        let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), &config);
        let body = chat("main/m", "");
        let mut client = fixture.connect();
        let mut ends = Vec::new();
        let until = Instant::now() + Duration::from_millis(1_500 + random.below(400));
        while Instant::now() < until {
            assert_eq!(client.post("/v1/chat/completions", &fixture.token, body.as_bytes()).status, 200);
            ends.push(Instant::now());
        }
        let killed = Instant::now();
        let Fixture { gateway, .. } = fixture;
        let gateway = gateway.kill().serve();
        let report = gateway.admin_json(&["usage", "report", "--by", "model"]);
        let kept = rows(&report).iter().filter_map(|row| row["calls"].as_u64()).sum::<u64>();
        let made = ends.len() as u64;
        let sure = ends.iter().filter(|end| **end + FLUSH_INTERVAL + SLACK < killed).count() as u64;
        let first_lost = ends.get(usize::try_from(kept).unwrap());
        announce(&format!(
            "round {round}: {made} calls, {kept} on disk after kill -9, {} lost, the oldest {:?} before the kill (interval {FLUSH_INTERVAL:?})",
            made - kept,
            first_lost.map(|end| killed.duration_since(*end))
        ));
        assert!(kept <= made && sure <= kept, "{sure} calls had to be on disk, {kept} are");
        assert!(sure > 0, "the round was too short to show anything");
    }
}
