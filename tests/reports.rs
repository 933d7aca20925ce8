//! Reports and exports through the real binary: on a file that an older gateway left, in flat memory, and cut to the caller.

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

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use support::gateway::{Gateway, Home, rows};
use support::{Client, eventually};

const RECORDS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const PAGE_RECORDS: u64 = 256;
const MINUTE_MS: u64 = 60_000;

/// The file as a gateway of before hourly sums wrote it, and later ones with teams and costs: a record a second until an
/// hour ago.
fn write_old_file(home: &Home, records: u64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let first = u64::try_from(now).unwrap() - 60 * MINUTE_MS - records * 1000;
    let database = Database::create(home.data_dir().join("usage.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(RECORDS).unwrap();
        for start in (0..records).step_by(PAGE_RECORDS as usize) {
            let mut page = Vec::new();
            for number in start..records.min(start + PAGE_RECORDS) {
                let who = ["ada", "bob", "eve", "zoe"][(number % 4) as usize];
                let account = ["main", "side"][(number / 4 % 2) as usize];
                let mut record = json!({
                    "at": first + number * 1000, "request_id": format!("req-{number}"),
                    "subject": format!("user:{who}@example.com"), "token_id": "0123456789ab", "account": account,
                    "model": format!("{account}/m"), "endpoint": "chat/completions",
                    "tokens": {"input": 10, "output": 5, "cached": 0, "reasoning": 0, "origin": "reported"},
                    "status": 200, "outcome": "complete", "stream": true, "latency_ms": 100, "first_byte_ms": 7,
                });
                if who == "bob" {
                    record["teams"] = json!(["search", "secret"]);
                    record["cost"] = json!("0.25");
                    record["metadata"] = json!({"project": "x,\"y\""});
                }
                serde_json::to_writer(&mut page, &record).unwrap();
                page.push(b'\n');
            }
            let key = (u128::from(first + start * 1000) << 64 | u128::from(start)).to_be_bytes();
            table.insert(&key, page.as_slice()).unwrap();
        }
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema_version", 1).unwrap();
        meta.insert("next_seq", records).unwrap();
    }
    transaction.commit().unwrap();
}

fn with_old_file(records: u64) -> Gateway {
    let home = Home::new("");
    home.admin_ok(&["user", "create", "ada@example.com"]);
    write_old_file(&home, records);
    home.serve()
}

#[test]
fn an_old_file_opens_and_an_export_of_it_takes_no_memory() {
    const COUNT: u64 = 200_000;
    let gateway = with_old_file(COUNT);
    gateway.wait_for_log("the hourly sums of all older records are made");
    let report = rows(&gateway.admin_json(&["usage", "report", "--by", "user"]));
    let calls: Vec<u64> = report.iter().map(|row| row["calls"].as_u64().unwrap()).collect();
    assert_eq!(calls, [COUNT / 4; 4]);
    let costs: Vec<&Value> = report.iter().map(|row| &row["cost"]).collect();
    assert_eq!(costs, [&Value::Null, &json!("12500"), &Value::Null, &Value::Null]);
    let by_records =
        rows(&gateway.admin_json(&["usage", "report", "--by", "token", "--metadata", "project=x,\"y\""]));
    assert_eq!(by_records[0]["calls"], COUNT / 4);

    let export = |arguments: &[&str]| {
        let command = [&["usage", "export"], arguments].concat();
        let mut child = gateway.admin_command(&command).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let mut count = 1_u64;
        let (mut server_kib, mut command_kib) = (0, 0);
        for line in &mut lines {
            line.unwrap();
            count += 1;
            if count.is_multiple_of(20_000) {
                server_kib = gateway.status_kib("VmRSS").max(server_kib);
                let status =
                    std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
                let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let kib = resident.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
                command_kib = kib.unwrap_or(0).max(command_kib);
            }
        }
        assert!(child.wait().unwrap().success());
        (first, count, server_kib, command_kib)
    };
    // The first export may fill pools and caches.
    let (first, count, _, _) = export(&[]);
    assert_eq!(count, COUNT);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&first["requestId"], &first["cost"]), (&json!("req-0"), &Value::Null));
    let before_kib = gateway.status_kib("VmRSS");
    let (header, count, server_kib, command_kib) = export(&["--output", "csv"]);
    assert!(header.starts_with("at,requestId,subject,"), "{header}");
    assert_eq!(count, COUNT + 1);
    support::announce(&format!(
        "export of {COUNT} records: gateway {before_kib} KiB before, {server_kib} KiB during; command {command_kib} KiB"
    ));
    assert!(server_kib < before_kib + 8 * 1024, "{before_kib} KiB -> {server_kib} KiB");
    assert!(command_kib < 64 * 1024, "{command_kib} KiB");
}

#[test]
fn everyone_sees_what_is_theirs() {
    let gateway = with_old_file(800);
    for who in ["bob", "lead", "keeper", "none"] {
        gateway.admin_ok(&["user", "create", &format!("{who}@example.com")]);
    }
    gateway.add_account("side", "http://127.0.0.1:9/v1");
    gateway.admin_ok(&["grant", "user:keeper@example.com", "provider-account-manager", "side"]);
    let admin = gateway.admin_token();
    for (team, managers) in [("search", json!(["lead@example.com"])), ("secret", json!([]))] {
        let body = json!({"manifest": {"type": "team", "name": team, "members": [], "managers": managers}});
        let answer =
            Client::connect(gateway.addr).request("PUT", "/api/svc/v1/teams", &admin, &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let ask = |token: &str, path: &str| {
        let response = Client::connect(gateway.addr).get(&format!("/api/svc/v1/usage/{path}"), token);
        assert_eq!(response.status, 200, "{}", response.text());
        response.text().to_string()
    };
    eventually("the sums", || {
        let all: Value = serde_json::from_str(&ask(&admin, "report?by=user")).unwrap();
        (all["data"].as_array().unwrap().len() == 4).then_some(())
    });
    for (who, calls, users, teams) in [
        ("none", 0, 0, vec![]),
        ("ada", 200, 1, vec![""]),
        ("bob", 200, 1, vec!["search", "secret"]),
        // What another team's name is stays with that team.
        ("lead", 200, 1, vec!["search"]),
        ("keeper", 400, 4, vec![""]),
    ] {
        let token = gateway.user_token(&format!("{who}@example.com"));
        // From the sums and from the records.
        for by in ["user", "user,token"] {
            let report: Value = serde_json::from_str(&ask(&token, &format!("report?by={by}"))).unwrap();
            let report = report["data"].as_array().unwrap().clone();
            let sum: u64 = report.iter().map(|row| row["calls"].as_u64().unwrap()).sum();
            assert_eq!((sum, report.len()), (calls, users), "{who} by {by}");
        }
        let report: Value = serde_json::from_str(&ask(&token, "report?by=team")).unwrap();
        let names: Vec<&str> =
            report["data"].as_array().unwrap().iter().map(|row| row["team"].as_str().unwrap()).collect();
        assert_eq!(names, teams, "{who}");
        let export = ask(&token, "export");
        assert_eq!(export.lines().count() as u64, calls, "{who}");
        let whose: bool = who == "bob" || !export.contains("secret");
        assert!(whose, "{who} sees a team that is not theirs");
        // Filters narrow, they never widen.
        let report: Value =
            serde_json::from_str(&ask(&token, "report?by=account&subject=user:zoe@example.com")).unwrap();
        let sum: u64 =
            report["data"].as_array().unwrap().iter().map(|row| row["calls"].as_u64().unwrap()).sum();
        assert_eq!(sum, if who == "keeper" { 100 } else { 0 }, "{who}");
        let report: Value = serde_json::from_str(&ask(&token, "report?by=user&team=secret")).unwrap();
        assert_eq!(report["data"].as_array().unwrap().len(), usize::from(who == "bob"), "{who}");
    }
    let svg = gateway.admin_ok(&["usage", "plot", "--by", "user"]);
    assert!(svg.starts_with("<svg") && svg.contains("bob@example.com"), "{svg}");
    let csv = gateway.admin_ok(&["usage", "report", "--by", "user", "--output", "csv"]);
    assert!(csv.starts_with("USER,CALLS,") && csv.lines().count() == 5, "{csv}");
}
