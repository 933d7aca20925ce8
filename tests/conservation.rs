//! Conservation: after thousands of calls with hang-ups, errors and broken streams of the provider, revocations,
//! deactivations, restarts and kill -9, the records say what the provider's ledger says, less only what a kill may lose, and
//! nothing twice; hourly sums and budgets say what the records say.
//!
//! `GATEWAY_TEST_SEED` repeats a run as far as the machine lets it.

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

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::gateway::{rows, token_id};
use support::ledger::{Ledger, PIECE_TOKENS, Script, Served, WAYS, Way};
use support::{Client, Gateway, Home, Lcg, PATIENCE, announce, eventually};

const SEED: u64 = 20_261_124;
/// Lives of the gateway; all but the last end by a kill or a signal.
const LIVES: usize = 8;
const CALLERS: u64 = 16;
/// Calls of one life, about.
const CALLS_OF_LIFE: u64 = 600;
/// Calls between two things that an admin does.
const CALLS_OF_ACT: u64 = 25;
const USERS: usize = 6;

const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// What noticing a hang-up and a commit may take on a busy machine.
const SLACK: Duration = Duration::from_millis(1_000);
/// Records are written in the order of the calls' ends, which their callers see so much earlier or later.
const SKEW: Duration = Duration::from_millis(300);

/// What callers send: the path, the model, and whether the provider's dialect is Anthropic's.
const KINDS: [(&str, &str, bool); 4] = [
    ("chat/completions", "main/p", false),
    ("chat/completions", "claude/c", true),
    ("messages", "claude/c", true),
    ("messages", "main/p", false),
];

/// Where callers find the gateway.
#[derive(Default)]
struct Stage {
    life: usize,
    addr: Option<SocketAddr>,
    tokens: Vec<String>,
    begun: u64,
    is_over: bool,
}

#[derive(Default)]
struct Scene {
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Scene {
    fn change(&self, change: impl FnOnce(&mut Stage)) {
        change(&mut self.stage.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until so many calls were begun.
    fn wait_for_begun(&self, count: u64) {
        let stage = self.stage.lock().unwrap();
        let wait = self.changed.wait_timeout_while(stage, PATIENCE * 3, |stage| stage.begun < count).unwrap();
        assert!(!wait.1.timed_out(), "the callers stand still at {}", wait.0.begun);
    }
}

/// A call as its caller saw it.
struct Call {
    script: Script,
    kind: usize,
    user: usize,
    life: usize,
    ended: Instant,
    /// None: no whole head came.
    status: Option<u16>,
    /// The answer came to its proper end.
    is_complete: bool,
}

/// When a caller goes away.
enum Patience {
    Whole,
    HalfRequest,
    Bytes(usize),
    Time(Duration),
}

/// Sends a request and reads until the end, or as long as the caller's patience lasts. Nothing here fails: the gateway may
/// be gone at any moment.
fn perform(addr: SocketAddr, request: &[u8], patience: &Patience) -> (Option<u16>, bool) {
    let Ok(mut stream) = TcpStream::connect(addr) else { return (None, false) };
    let _ = stream.set_nodelay(true);
    let begun = Instant::now();
    let sent = match patience {
        Patience::HalfRequest => &request[..request.len() - 10],
        _ => request,
    };
    if stream.write_all(sent).is_err() || matches!(patience, Patience::HalfRequest) {
        return (None, false);
    }
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = match patience {
            Patience::Bytes(count) if answer.len() >= *count => break,
            Patience::Time(time) => time.saturating_sub(begun.elapsed()),
            _ => PATIENCE,
        };
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return (None, false) };
    let head = head.to_ascii_lowercase();
    let is_complete = match head.split("content-length: ").nth(1) {
        Some(length) => length.lines().next().unwrap().parse() == Ok(body.len()),
        None => body.ends_with("\r\n0\r\n\r\n"),
    };
    (head.get(9..12).and_then(|status| status.parse().ok()), is_complete)
}

fn caller(scene: &Scene, numbers: &Mutex<u64>, mut random: Lcg, calls: &Mutex<Vec<Call>>) {
    loop {
        let (addr, life, tokens) = {
            let stage = scene.stage.lock().unwrap();
            let waits = |stage: &mut Stage| !stage.is_over && stage.addr.is_none();
            let mut stage = scene.changed.wait_while(stage, waits).unwrap();
            let Some(addr) = stage.addr.filter(|_| !stage.is_over) else { return };
            stage.begun += 1;
            (addr, stage.life, stage.tokens.clone())
        };
        scene.changed.notify_all();
        let number = {
            let mut next = numbers.lock().unwrap();
            *next += 1;
            *next
        };
        let script = Script {
            number,
            way: usize::try_from(random.below(WAYS.len() as u64)).unwrap(),
            pieces: 1 + random.below(6),
            pause_us: [0, 0, 300, 4_000][random.below(4) as usize],
        };
        let kind = random.below(4) as usize;
        let user = random.below(USERS as u64) as usize;
        let patience = match random.below(10) {
            0 => Patience::Bytes(1 + random.below(1_500) as usize),
            1 => Patience::Time(Duration::from_micros(1 + random.below(25_000))),
            2 if random.below(3) == 0 => Patience::HalfRequest,
            _ => Patience::Whole,
        };
        let (path, model, _) = KINDS[kind];
        let stream = if script.way().is_stream() { ",\"stream\":true" } else { "" };
        let body = format!(
            r#"{{"model":"{model}","max_tokens":500,"messages":[{{"role":"user","content":"{}"}}]{stream}}}"#,
            script.text()
        );
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\nx-request-id: call-{number}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            tokens[user],
            body.len()
        );
        let (status, is_complete) = perform(addr, request.as_bytes(), &patience);
        let is_complete = is_complete && !matches!(patience, Patience::Bytes(_) | Patience::Time(_));
        let call = Call { script, kind, user, life, ended: Instant::now(), status, is_complete };
        if status.is_none() {
            // Perhaps nobody is there any more: not so fast.
            let stage = scene.stage.lock().unwrap();
            let same = |stage: &mut Stage| stage.life == life && stage.addr.is_some();
            drop(scene.changed.wait_timeout_while(stage, Duration::from_millis(5), same).unwrap());
        }
        calls.lock().unwrap().push(call);
    }
}

fn email(user: usize) -> String {
    format!("u{user}@example.com")
}

/// What an admin does over HTTP.
struct Admin<'a> {
    addr: SocketAddr,
    root: &'a str,
    names: &'a mut u64,
}

impl Admin<'_> {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut client = Client::connect(self.addr);
        let answer = client.request(method, &format!("/api/svc/v1{path}"), self.root, &text);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }

    fn new_token(&mut self, user: usize) -> String {
        *self.names += 1;
        let body = json!({"user": email(user), "name": format!("token-{}", self.names)});
        self.ask("POST", "/tokens", &body)["token"].as_str().unwrap().to_owned()
    }

    /// Takes the access of somebody away, in the midst of their calls, and gives it back.
    fn act(&mut self, scene: &Scene, random: &mut Lcg) {
        let user = random.below(USERS as u64) as usize;
        let old = scene.stage.lock().unwrap().tokens[user].clone();
        if random.below(2) == 0 {
            self.ask("DELETE", &format!("/tokens/{}", token_id(&old)), &Value::Null);
        } else {
            self.ask("PATCH", "/users/deactivate", &json!({"email": email(user)}));
            self.ask("PATCH", "/users/activate", &json!({"email": email(user)}));
        }
        let token = self.new_token(user);
        scene.change(|stage| stage.tokens[user] = token);
    }
}

/// How a life of the gateway ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Killed(Instant),
    Stopped,
}

fn prepare(provider: &str) -> (Home, String) {
    let config = format!("usage.flush_interval_ms = {}\n", FLUSH_INTERVAL.as_millis());
    let gateway = Gateway::with_config(&config);
    let prices = ["--input-price", "1", "--output-price", "2"];
    for (account, kind, model) in [("main", "openai", "main/p"), ("claude", "anthropic", "claude/c")] {
        let create = ["provider", "create", account, "--type", kind, "--base-url", provider];
        gateway.admin_ok(&[&create[..], &["--api-key-env", "GATEWAY_TEST_PROVIDER_KEY"]].concat());
        gateway.admin_ok(&[&["model", "add", model, "--model-id", "up-model"][..], &prices].concat());
    }
    for user in 0..USERS {
        gateway.admin_ok(&["user", "create", &email(user)]);
        for account in ["main", "claude"] {
            gateway.admin_ok(&[
                "grant",
                &format!("user:{}", email(user)),
                "provider-account-access",
                account,
            ]);
        }
    }
    let file = gateway.home.path("budgets.json");
    // So wide that nothing is refused, so that all of their counting is seen.
    let rules = json!([
        {"id": "tokens", "when": {}, "limit_to": 1_000_000_000_000_u64, "unit": "tokens_per_quarter",
         "budget_applies_per": ["user"]},
        {"id": "cost", "when": {}, "limit_to": 1_000_000, "unit": "cost_per_quarter"},
    ]);
    let manifest = json!({"type": "gateway-budget-config", "name": "budgets", "rules": rules});
    std::fs::write(&file, manifest.to_string()).unwrap();
    gateway.admin_ok(&["apply", "-f", file.to_str().unwrap()]);
    let root = gateway.admin_token();
    gateway.admin_ok(&["settings", "set", "pat_may_mint", "true"]);
    (gateway.stop(), root)
}

/// A decimal number of dollars, in millionths; all prices here are whole ones.
fn micros(text: &str) -> u64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<6}").parse().unwrap_or_else(|_| panic!("no amount: {text}"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cost(record: &Value) -> u64 {
    record["cost"].as_str().map_or(0, micros)
}

fn records(home: &Home) -> Vec<Value> {
    home.admin_ok(&["usage", "export"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What budgets and hourly sums say must be what the records say.
fn sums_differ(home: &Home, records: &[Value]) -> Option<String> {
    let number = |record: &Value, name: &str| record[name].as_u64().unwrap();
    let used = |budget: &str| {
        let shown = home.admin_json(&["budget", "show", budget]);
        let each = |row: &Value| (text(&row["entity"]), micros(&text(&row["used"])) / 1_000_000);
        rows(&shown).iter().map(each).filter(|(_, used)| *used > 0).collect::<BTreeMap<_, _>>()
    };
    let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        let sum = number(record, "inputTokens") + number(record, "outputTokens");
        *tokens.entry(text(&record["subject"])).or_default() += sum;
    }
    tokens.retain(|_, sum| *sum > 0);
    if used("tokens") != tokens {
        return Some(format!("the budget says {:?}, the records {tokens:?}", used("tokens")));
    }
    let all: u64 = records.iter().map(cost).sum();
    let shown = home.admin_json(&["budget", "show", "cost"]);
    let spent = rows(&shown).first().map_or(0, |row| micros(&text(&row["used"])));
    if spent != all {
        return Some(format!("the budget says {spent} millionths of a dollar, the records {all}"));
    }
    // Whole hours, so these are the hourly sums.
    let report = rows(&home.admin_json(&["usage", "report", "--by", "user,model,endpoint,outcome"]));
    let mut reported = BTreeMap::new();
    for row in &report {
        let key = ["user", "model", "endpoint", "outcome"].map(|name| text(&row[name]));
        let names = ["calls", "errors", "estimatedCalls", "unpricedCalls", "inputTokens", "outputTokens"];
        let sums = names.map(|name| number(row, name));
        reported.insert(key, (sums, row["cost"].as_str().map_or(0, micros)));
    }
    let mut summed = BTreeMap::new();
    for record in records {
        let user = text(&record["subject"]).strip_prefix("user:").unwrap().to_owned();
        let key = [user, text(&record["model"]), text(&record["endpoint"]), text(&record["outcome"])];
        let (sums, money): &mut ([u64; 6], u64) = summed.entry(key).or_default();
        let values = [
            1,
            u64::from(record["outcome"] != "complete"),
            u64::from(record["tokenOrigin"] == "estimated"),
            u64::from(record["cost"].is_null()),
            number(record, "inputTokens"),
            number(record, "outputTokens"),
        ];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
        *money += cost(record);
    }
    (reported != summed).then(|| format!("the hourly sums say {reported:?}, the records {summed:?}"))
}

/// Compares one record with what its caller and the provider saw.
fn check(call: &Call, served: Served, record: &Value) {
    let (_, model, is_anthropic) = KINDS[call.kind];
    let way = call.script.way();
    let context = || {
        let Call { script, kind, status, is_complete, .. } = call;
        format!(
            "{script:?} {way:?} kind {kind}: caller saw {status:?} whole {is_complete}; {served:?}; {record}"
        )
    };
    assert_eq!(text(&record["subject"]), format!("user:{}", email(call.user)), "{}", context());
    assert_eq!(record["model"], model, "{}", context());
    let (input, output) = (record["inputTokens"].as_u64().unwrap(), record["outputTokens"].as_u64().unwrap());
    let (origin, outcome) = (text(&record["tokenOrigin"]), text(&record["outcome"]));
    let has_pieces = |share: u64| PIECE_TOKENS * served.pieces * share / 10;
    match origin.as_str() {
        "reported" => {
            assert!(served.said_usage && (input, output) == call.script.tokens(), "{}", context());
        }
        "estimated" => {
            // Never more than was sent; the estimate is off by a few percent, and an answer has names around its text.
            assert!(served.arrivals > 0 && input > 0, "{}", context());
            assert!(output <= has_pieces(14) + 40, "{}", context());
        }
        _ => assert!(origin == "none" && input == 0 && output == 0, "{}", context()),
    }
    let priced = origin != "none" || outcome == "provider-error";
    assert_eq!(record["cost"].as_str().map(micros), priced.then_some(input + 2 * output), "{}", context());
    if served.arrivals == 0 {
        assert!(origin == "none" && outcome != "complete", "{}", context());
    }
    if !call.is_complete || ["cut", "caller-gone"].contains(&outcome.as_str()) {
        return;
    }
    // The caller has the whole answer, so that everything about it is known.
    let is_counted = is_anthropic || !matches!(way, Way::WholeUncounted | Way::StreamUncounted);
    let (wanted_outcome, wanted_origin) = match way {
        Way::Whole | Way::WholeUncounted | Way::Stream | Way::StreamUncounted => {
            ("complete", if is_counted { "reported" } else { "estimated" })
        }
        Way::Refused(_) => ("provider-error", "none"),
        Way::Reset | Way::HalfHead | Way::HalfBody => ("provider-failed", "none"),
        Way::Broken => ("provider-failed", "estimated"),
        Way::ErrorEvent => ("provider-error", "estimated"),
    };
    assert_eq!((outcome.as_str(), origin.as_str()), (wanted_outcome, wanted_origin), "{}", context());
    if origin == "estimated" {
        assert!(output >= has_pieces(6), "{}", context());
    }
}

/// Compares everything; gives what there is to tell.
fn check_all(calls: &[Call], ends: &[End], ledger: &Ledger, records: &[Value]) -> String {
    let mut by_id: HashMap<String, &Value> = HashMap::new();
    for record in records {
        let id = text(&record["requestId"]);
        assert!(by_id.insert(id.clone(), record).is_none(), "{id} is there twice");
    }
    // The last call of each life that left a record.
    let mut newest: HashMap<usize, Instant> = HashMap::new();
    for call in calls.iter().filter(|call| by_id.contains_key(&format!("call-{}", call.script.number))) {
        let last = newest.entry(call.life).or_insert(call.ended);
        *last = (*last).max(call.ended);
    }
    let (mut lost, mut oldest_lost) = (0, Duration::ZERO);
    let (mut served_calls, mut whole) = (0, 0);
    let (mut recorded, mut ledgered) = ((0, 0), (0, 0));
    let mut origins: BTreeMap<String, u64> = BTreeMap::new();
    for call in calls {
        let number = call.script.number;
        let served = ledger.of(number);
        // A connection that is used again may have been closed meanwhile: a request that got no byte of an answer on one is
        // sent once more on a new one, and the first was not served.
        let most = if call.script.way() == Way::Reset { 2 } else { 1 };
        assert!(served.arrivals <= most, "call {number} was served {} times", served.arrivals);
        served_calls += u64::from(served.arrivals > 0);
        let Some(record) = by_id.remove(&format!("call-{number}")) else {
            if served.arrivals == 0 {
                continue;
            }
            let Some(End::Killed(at)) = ends.get(call.life) else {
                panic!("call {number} ({:?}) was served and has no record", call.script)
            };
            let window = FLUSH_INTERVAL + SLACK;
            assert!(call.ended + window > *at, "call {number} ended {:?} before a kill", *at - call.ended);
            let is_newest = newest.get(&call.life).is_none_or(|last| call.ended + SKEW > *last);
            assert!(is_newest, "call {number} is lost, and calls that ended long after it are not");
            oldest_lost = oldest_lost.max(at.saturating_duration_since(call.ended));
            lost += 1;
            continue;
        };
        check(call, served, record);
        *origins.entry(text(&record["tokenOrigin"])).or_default() += 1;
        if call.is_complete && call.status == Some(200) && record["tokenOrigin"] == "reported" {
            whole += 1;
            let (input, output) = call.script.tokens();
            ledgered = (ledgered.0 + input, ledgered.1 + output);
            let number = |name: &str| record[name].as_u64().unwrap();
            recorded = (recorded.0 + number("inputTokens"), recorded.1 + number("outputTokens"));
        }
    }
    assert!(by_id.is_empty(), "records of calls that nobody made: {:?}", by_id.keys());
    assert_eq!(recorded, ledgered);
    assert!(whole > 0 && origins.len() == 3, "{origins:?}");
    format!(
        "{} calls, {served_calls} served, {} records ({origins:?}), {lost} lost to kills, at most {oldest_lost:?} after their end; {whole} whole ones with {recorded:?} tokens in and out, as in the ledger",
        calls.len(),
        records.len()
    )
}

#[test]
fn the_records_are_what_was_served() {
    let seed = std::env::var("GATEWAY_TEST_SEED").map_or(SEED, |text| text.parse().unwrap());
    announce(&format!("conservation: seed {seed}"));
    let begun = Instant::now();
    let mut random = Lcg(seed);
    let ledger = Ledger::default();
    let provider = ledger.provider();
    let (mut home, root) = prepare(&provider.base_url());
    let (scene, numbers, calls) = (Scene::default(), Mutex::new(0), Mutex::new(Vec::new()));
    let (mut ends, mut names, mut acts) = (Vec::new(), 0, 0);
    let gateway = std::thread::scope(|scope| {
        let finish = Finish(&scene);
        for number in 0..CALLERS {
            let random = Lcg(seed.wrapping_add(1 + number).wrapping_mul(7_919));
            let (scene, numbers, calls) = (&scene, &numbers, &calls);
            scope.spawn(move || caller(scene, numbers, random, calls));
        }
        for life in 0..LIVES {
            let gateway = home.serve();
            if let Some(difference) = sums_differ(&gateway.home, &records(&gateway.home)) {
                panic!("after the start of life {life}: {difference}");
            }
            let mut admin = Admin { addr: gateway.addr, root: &root, names: &mut names };
            let tokens = (0..USERS).map(|user| admin.new_token(user)).collect();
            scene.change(|stage| (stage.life, stage.addr, stage.tokens) = (life, Some(gateway.addr), tokens));
            let until = scene.stage.lock().unwrap().begun + CALLS_OF_LIFE / 2 + random.below(CALLS_OF_LIFE);
            loop {
                let next = scene.stage.lock().unwrap().begun + CALLS_OF_ACT;
                if next >= until {
                    break;
                }
                scene.wait_for_begun(next);
                admin.act(&scene, &mut random);
                acts += 1;
            }
            scene.wait_for_begun(until);
            if life + 1 == LIVES {
                drop(finish);
                return gateway;
            }
            // Both ends are seen, whatever the seed.
            if life == 1 || (life > 1 && random.below(2) == 0) {
                home = gateway.stop();
                ends.push(End::Stopped);
            } else {
                ends.push(End::Killed(Instant::now()));
                home = gateway.kill();
            }
            scene.change(|stage| stage.addr = None);
        }
        unreachable!("the last life returns")
    });
    // All callers are gone; the last hang-ups are noticed in a moment.
    eventually("the end of all calls", || {
        gateway.metrics().contains("\ngateway_usage_queue 0\n").then_some(())
    });
    let kept = records(&gateway.home);
    assert_eq!(sums_differ(&gateway.home, &kept), None);
    let home = gateway.stop();
    assert_eq!(sums_differ(&home, &kept), None, "with the gateway stopped");
    let calls = calls.into_inner().unwrap();
    let said = check_all(&calls, &ends, &ledger, &kept);
    let kills = ends.iter().filter(|end| **end != End::Stopped).count();
    announce(&format!(
        "conservation: {said}; {kills} kills, {} stops, {acts} revocations and deactivations, {:.1} s",
        ends.len() - kills,
        begun.elapsed().as_secs_f64()
    ));
    assert!(kills > 0 && kills < ends.len() && calls.len() > 1_000);
}

/// Sends the callers home, also when the test fails.
struct Finish<'a>(&'a Scene);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.change(|stage| (stage.is_over, stage.addr) = (true, None));
    }
}
