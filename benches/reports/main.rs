//! A month of a million records, and limits at the highest rate. [`ABOUT`] says what is measured and how.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool at a terminal; what fails here ends the run"
)]

#[path = "../relay/process.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod process;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};
use serde_json::json;

use support::{CHAT_ANSWER, Client, Fixture, Gateway, Home, Lcg, Provider, chat};

const ABOUT: &str = "\
Usage of a month: a million records of 200 users, each with 3 of 20 models, in a usage.redb that the real binary serves.
This is no timed test: nothing passes or fails here; aims are printed beside the figures of one run on one machine.
- 'report' is GET /api/svc/v1/usage/report on a kept connection, from the request to the whole answer, 21 times; 'CPU' is
  that of the gateway for one, which other work on the machine changes little.
- 'export' reads all records as NDJSON; resident memory of the gateway is VmRSS before, at most during, and after.
- 'rate' sends calls from 16 connections as fast as they go, three times as many as a limit of one minute allows.
- 'budget' sends calls from 64 connections against tokens for a part of them.
Environment: REPORTS_RECORDS (1000000), REPORTS_LIMIT (20000), GATEWAY_TEST_BINARY (another binary).
";

const RECORDS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const AGGREGATES: TableDefinition<'static, &[u8; 21], &[u8]> = TableDefinition::new("aggregates");
const PAGE_RECORDS: u64 = 256;
const USERS: u64 = 200;
const MODELS: u64 = 20;
const MODELS_OF_USER: u64 = 3;
const HOURS: u64 = 30 * 24;
const HOUR_MS: u64 = 3_600_000;

/// A number of the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The records of a month until an hour ago, as a gateway of before hourly sums wrote them; the bytes of their text.
fn write_records(home: &Home, records: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let first = u64::try_from(now).unwrap() - (HOURS + 1) * HOUR_MS;
    let (step_us, mut random, mut bytes) = (HOURS * HOUR_MS * 1000 / records, Lcg(7), 0);
    let database = Database::create(home.data_dir().join("usage.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(RECORDS).unwrap();
        for start in (0..records).step_by(usize::try_from(PAGE_RECORDS).unwrap()) {
            let mut page = Vec::new();
            let at = |record: u64| first + record * step_us / 1000;
            for record in start..records.min(start + PAGE_RECORDS) {
                let user = random.below(USERS);
                let model = (user + random.below(MODELS_OF_USER)) % MODELS;
                let (input, output) = (200 + random.below(4_000), 20 + random.below(800));
                // Written by hand: a million values would take longer than all that is measured.
                let _ = writeln!(
                    page,
                    r#"{{"at":{},"request_id":"req-{:x}-{record:x}","subject":"user:person.{user}@example.com","token_id":"{user:012}","account":"main","model":"main/model-{model}","endpoint":"chat/completions","tokens":{{"input":{input},"output":{output},"cached":{},"cache_write":0,"reasoning":0,"origin":"reported"}},"status":200,"outcome":"complete","stream":{},"latency_ms":{},"first_byte_ms":{},"metadata":{{"project":"project-{}"}},"teams":["team-{}"],"cost":"0.{:06}","request_bytes":{},"answer_bytes":{}}}"#,
                    at(record),
                    random.below(1 << 30),
                    input / 2,
                    record % 2 == 0,
                    200 + random.below(20_000),
                    100 + random.below(2_000),
                    random.below(20),
                    user % 12,
                    input * 2 + output * 8,
                    input * 4,
                    output * 200
                );
            }
            bytes += page.len() as u64;
            let key = (u128::from(at(start)) << 64 | u128::from(start)).to_be_bytes();
            table.insert(&key, page.as_slice()).unwrap();
        }
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema_version", 1).unwrap();
        meta.insert("next_seq", records).unwrap();
    }
    transaction.commit().unwrap();
    bytes
}

fn file_bytes(home: &Home) -> u64 {
    std::fs::metadata(home.data_dir().join("usage.redb")).unwrap().len()
}

/// How long a report takes, 21 times; gives the CPU time of one.
fn report(gateway: &Gateway, admin: &str, what: &str, query: &str, aim: &str) -> Duration {
    let mut client = Client::connect(gateway.addr);
    let mut all: Vec<Duration> = Vec::new();
    let mut rows = 0;
    let before_ns = process::cpu(gateway.pid()).total_ns;
    for _ in 0..21 {
        let since = Instant::now();
        let answer = client.get(&format!("/api/svc/v1/usage/report?{query}"), admin);
        all.push(since.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
        rows = answer.json()["data"].as_array().unwrap().len();
    }
    let cpu_ms = (process::cpu(gateway.pid()).total_ns - before_ns) as f64 / 21e6;
    all.sort_unstable();
    let ms = |place: usize| all[place].as_secs_f64() * 1e3;
    println!(
        "report {what:<44} {rows:>5} rows, median {:>7.1} ms, worst {:>7.1} ms, {cpu_ms:>7.1} ms of CPU{aim}",
        ms(10),
        ms(20)
    );
    Duration::from_secs_f64(cpu_ms / 1e3)
}

/// Reads all records; their number, and the gateway's memory.
fn export(gateway: &Gateway, admin: &str) {
    let before_kib = gateway.status_kib("VmRSS");
    let mut stream = TcpStream::connect(gateway.addr).unwrap();
    let request = format!(
        "GET /api/svc/v1/usage/export HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {admin}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let (since, mut piece) = (Instant::now(), vec![0; 1 << 18]);
    let (mut lines, mut bytes, mut most_kib, mut looks) = (0_u64, 0_u64, 0, 0_u64);
    loop {
        let count = stream.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        bytes += count as u64;
        lines += piece[..count].windows(2).filter(|two| *two == b"}\n").count() as u64;
        if bytes >> 22 > looks {
            looks = bytes >> 22;
            most_kib = gateway.status_kib("VmRSS").max(most_kib);
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    println!(
        "export of about {lines} records, {} MiB in {seconds:.1} s; resident {before_kib} KiB before, {most_kib} KiB at most during, {} KiB after (aim: flat)",
        bytes >> 20,
        gateway.status_kib("VmRSS")
    );
}

fn month(records: u64) {
    let home = Home::new("");
    home.admin_ok(&["user", "create", "root@example.com", "--role", "admin"]);
    let admin = home.admin_ok(&["token", "create", "--user", "root@example.com", "--name", "bench"]);
    let since = Instant::now();
    let text = write_records(&home, records);
    println!("{records} records written in {:.1} s", since.elapsed().as_secs_f64());
    let size = file_bytes(&home);
    println!(
        "on disk: {} bytes a record ({} of text); 100 million records take {} GiB",
        size / records,
        text / records,
        size / records * 100_000_000 / (1 << 30)
    );
    let since = Instant::now();
    let gateway = home.serve();
    while !gateway.log().contains("the hourly sums of all older records are made") {
        assert!(since.elapsed() < Duration::from_secs(1_800), "the sums take too long");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("hourly sums of all of them made beside the serving in {:.1} s", since.elapsed().as_secs_f64());
    let cpu =
        report(&gateway, &admin, "by user and model, the month", "by=user,model", " (aim: under 200 ms)");
    report(&gateway, &admin, "by day and model, the month", "by=day,model", "");
    report(&gateway, &admin, "by team and user, the month", "by=team,user", "");
    let day = |days: u64| {
        let at = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        jiff::Timestamp::try_from(at).unwrap().to_string()
    };
    let query = format!("by=metadata.project&from={}&to={}", day(3), day(2));
    report(&gateway, &admin, "by metadata, one day, from the records", &query, "");
    export(&gateway, &admin);
    export(&gateway, &admin);
    let home = gateway.stop();
    let database = Database::open(home.data_dir().join("usage.redb")).unwrap();
    let table = database.begin_read().unwrap().open_table(AGGREGATES).unwrap();
    let stats = table.stats().unwrap();
    let rows = table.len().unwrap();
    let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
    let full = HOURS * USERS * MODELS_OF_USER;
    println!(
        "hourly sums: {rows} rows of {} bytes; {HOURS} hours of {} pairs of user and model can have {full}, with any number of records",
        bytes / rows.max(1),
        USERS * MODELS_OF_USER
    );
    let each = cpu.as_secs_f64() / rows as f64;
    println!(
        "so a month of 100 million records takes {:.0} ms of CPU by user and model; with all 20,000 rows of every hour {:.1} s (aim: seconds)",
        each * full as f64 * 1e3,
        each * (HOURS * 20_000) as f64
    );
}

/// Sends calls from so many connections, until as many were answered; how many were served, and how long it took.
fn flood(fixture: &Fixture, connections: u64, calls: u64) -> (u64, u64, Duration) {
    let (begun, served, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let since = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = fixture.connect();
                let body = chat("main/m", ",\"max_tokens\":2");
                while begun.fetch_add(1, Ordering::Relaxed) < calls {
                    let answer = client.post("/v1/chat/completions", &fixture.token, body.as_bytes());
                    match answer.status {
                        200 => served.fetch_add(1, Ordering::Relaxed),
                        429 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}: {}", answer.text()),
                    };
                }
            });
        }
    });
    (served.into_inner(), refused.into_inner(), since.elapsed())
}

fn limited(kind: &str, rule: serde_json::Value) -> Fixture {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "usage.flush_interval_ms = 1000\n");
    let file = fixture.gateway.home.path("limits.json");
    let manifest = json!({"type": kind, "name": "limits", "rules": [rule]});
    std::fs::write(&file, manifest.to_string()).unwrap();
    fixture.gateway.admin_ok(&["apply", "-f", file.to_str().unwrap()]);
    fixture
}

fn limits(limit: u64) {
    let rule = json!({"id": "r", "when": {}, "limit_to": limit, "unit": "requests_per_minute"});
    let fixture = limited("gateway-rate-limiting-config", rule);
    let (served, refused, took) = flood(&fixture, 16, limit * 3);
    let seconds = took.as_secs_f64();
    println!(
        "rate: {served} of {} calls served under a limit of {limit} a minute, {refused} refused, in {seconds:.1} s at {:.0} a second{} (aim: within 1%)",
        limit * 3,
        (limit * 3) as f64 / seconds,
        if seconds > 60.0 { "; longer than the window, so that more may pass" } else { "" }
    );
    // 21 tokens a call, as they are reserved and used.
    let wanted = limit / 4;
    let rule = json!({"id": "b", "when": {}, "limit_to": wanted * 21 + 10, "unit": "tokens_per_month"});
    let fixture = limited("gateway-budget-config", rule);
    let (served, refused, took) = flood(&fixture, 64, wanted * 2);
    println!(
        "budget: {served} calls served with tokens for {wanted} and a half, {refused} refused, in {:.1} s (aim: at most one more)",
        took.as_secs_f64()
    );
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        print!("{ABOUT}");
        return ExitCode::SUCCESS;
    }
    print!("{ABOUT}");
    month(number("REPORTS_RECORDS", 1_000_000));
    limits(number("REPORTS_LIMIT", 20_000));
    ExitCode::SUCCESS
}
