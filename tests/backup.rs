//! Backups of a gateway that works, and what becomes of them.

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

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::{CHAT_ANSWER, Client, Fixture, Gateway, Home, Lcg, PROVIDER_KEY, chat};

fn fixture() -> Fixture {
    Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER))
}

fn backup_at(home: &Home, name: &str, more: &[&str]) -> PathBuf {
    let path = home.path(name);
    let mut arguments = vec!["backup", path.to_str().unwrap()];
    arguments.extend_from_slice(more);
    home.admin_ok(&arguments);
    path
}

/// What `restore` says, whether it did it or not.
fn restore(home: &Home, backup: &Path, more: &[&str]) -> (bool, String) {
    let mut arguments = vec!["restore", backup.to_str().unwrap()];
    arguments.extend_from_slice(more);
    let output = home.admin(&arguments);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("panicked"), "{text}");
    (output.status.success(), text)
}

/// Puts the master key of one gateway where another looks for it.
fn bring_key(from: &Home, to: &Home) {
    std::fs::create_dir_all(to.data_dir()).unwrap();
    std::fs::set_permissions(to.data_dir(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::copy(from.data_dir().join("master.key"), to.data_dir().join("master.key")).unwrap();
}

fn calls(gateway: &Gateway) -> u64 {
    let rows = support::gateway::rows(&gateway.admin_json(&["usage", "report", "--by", "user"]));
    rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum()
}

#[test]
fn under_load_everything_acknowledged_before_is_in_it() {
    let fixture = fixture();
    let gateway = &fixture.gateway;
    let root = gateway.admin_token();
    for _ in 0..20 {
        assert_eq!(fixture.chat("").status, 200);
    }
    let (stop, made, called) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut sure = 0;
    let mut backup = PathBuf::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let number = made.load(Ordering::SeqCst);
                let body = format!("{{\"email\":\"u{number}@example.com\"}}");
                let mut client = Client::connect(gateway.addr);
                assert_eq!(client.request("POST", "/api/svc/v1/users/register", &root, &body).status, 200);
                made.store(number + 1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(fixture.post("/v1/chat/completions", &chat("main/m", "")).status, 200);
                called.fetch_add(1, Ordering::SeqCst);
            }
        });
        support::eventually("some load", || {
            (made.load(Ordering::SeqCst) > 10 && called.load(Ordering::SeqCst) > 10).then_some(())
        });
        sure = made.load(Ordering::SeqCst);
        backup = backup_at(&gateway.home, "load.backup", &[]);
        let after = made.load(Ordering::SeqCst);
        support::eventually("load that goes on", || (made.load(Ordering::SeqCst) > after + 3).then_some(()));
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&backup).unwrap();
    let key = std::fs::read_to_string(gateway.home.data_dir().join("master.key")).unwrap();
    for secret in [PROVIDER_KEY, key.trim(), fixture.token.as_str()] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a secret is in it");
    }

    let other = Home::new("");
    bring_key(&gateway.home, &other);
    let (done, text) = restore(&other, &backup, &[]);
    assert!(done && text.contains("The gateway can start"), "{text}");
    let restored = other.serve();
    let users = restored.admin_ok(&["user", "list"]);
    for number in 0..sure {
        assert!(users.contains(&format!("u{number}@example.com")), "u{number} of {sure} is missing");
    }
    assert!(calls(&restored) >= 30, "{} calls", calls(&restored));
    // Ada's token opens the same model with the same sealed key; the provider sees it.
    let answer = Client::connect(restored.addr).post(
        "/v1/chat/completions",
        &fixture.token,
        chat("main/m", "").as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let verified = restored.admin_json(&["audit", "verify"]);
    assert_eq!(verified["ok"], true, "{verified}");
    let log = restored.admin_ok(&["audit", "list", "--action", "backup."]);
    assert!(log.contains("backup.create") && log.contains("backup.restore"), "{log}");
    let leftovers: Vec<_> = std::fs::read_dir(restored.home.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("restore"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn a_restore_refuses_what_would_lose_something() {
    let fixture = fixture();
    let home = &fixture.gateway.home;
    let backup = backup_at(home, "a.backup", &[]);
    // Over itself while the server runs, with and without force.
    for more in [&[][..], &["--force"]] {
        let (done, text) = restore(home, &backup, more);
        assert!(!done && text.contains("another gateway process holds"), "{text}");
    }
    // A second backup does not replace the first.
    let again = home.admin(&["backup", backup.to_str().unwrap()]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--force"));
    backup_at(home, "a.backup", &["--force"]);
    assert_eq!(
        std::fs::read_dir(backup.parent().unwrap())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".part"))
            .count(),
        0
    );

    // Another gateway's folder, under another master key.
    let other = Gateway::start();
    other.admin_ok(&["user", "create", "old@example.com"]);
    let other = other.stop();
    let (done, text) = restore(&other, &backup, &[]);
    assert!(!done && text.contains("not empty") && text.contains("--force"), "{text}");
    let (done, text) = restore(&other, &backup, &["--force"]);
    assert!(!done && text.contains("sealed under master key"), "{text}");
    assert!(other.admin_ok(&["user", "list"]).contains("old@example.com"), "nothing was touched");

    // Without any key it is restored and says what is missing; the server says so too.
    let empty = Home::new("");
    let (done, text) = restore(&empty, &backup, &[]);
    assert!(done && text.contains("No master key is here"), "{text}");
    let (empty, _, log) = empty.try_serve().err().expect("no start without a key");
    assert!(log.contains("master key"), "{log}");
    std::fs::copy(home.data_dir().join("master.key"), empty.data_dir().join("master.key")).unwrap();
    let restored = empty.serve();
    assert!(restored.admin_ok(&["user", "list"]).contains("ada@example.com"));
    // The restore is in the audit log as soon as there is a key to chain it with, once.
    let log = restored.admin_ok(&["audit", "list", "--action", "backup.restore"]);
    assert_eq!(log.matches("backup.restore").count(), 1, "{log}");
    let restored = restored.stop().serve();
    let log = restored.admin_ok(&["audit", "list", "--action", "backup.restore"]);
    assert_eq!(log.matches("backup.restore").count(), 1, "{log}");
    assert_eq!(restored.admin_json(&["audit", "verify"])["ok"], true);
}

#[test]
fn what_is_put_aside_is_the_old_state_and_the_key_comes_along_when_asked() {
    let fixture = fixture();
    let backup = backup_at(&fixture.gateway.home, "key.backup", &["--with-master-key"]);
    let other = Gateway::start();
    other.admin_ok(&["user", "create", "old@example.com"]);
    let other = other.stop();
    let (done, text) = restore(&other, &backup, &["--force"]);
    assert!(done && text.contains("before-restore-"), "{text}");
    let aside = std::fs::read_dir(other.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("before-restore-"))
        .unwrap();
    assert!(aside.join("state.redb").exists() && aside.join("master.key").exists());
    let restored = other.serve();
    assert!(restored.admin_ok(&["user", "list"]).contains("ada@example.com"));
    let answer = Client::connect(restored.addr).post(
        "/v1/chat/completions",
        &fixture.token,
        chat("main/m", "").as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let old = restored.stop();
    let aside = aside.to_str().unwrap().to_owned();
    let users = old.admin_ok(&["--data-dir", &aside, "user", "list"]);
    assert!(users.contains("old@example.com"), "{users}");
}

#[test]
fn by_url_an_admin_gets_a_backup_but_not_the_master_key() {
    let fixture = fixture();
    let gateway = &fixture.gateway;
    let root = gateway.admin_token();
    let url = format!("http://{}", gateway.addr);
    let path = gateway.home.path("remote.backup");
    let run = |token: &str, more: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["admin", "--url", &url, "backup", path.to_str().unwrap()])
            .args(more)
            .env("GATEWAY_TOKEN", token)
            .output()
            .unwrap()
    };
    for (token, more) in [(fixture.token.as_str(), &[][..]), (&root, &["--with-master-key"])] {
        let refused = run(token, more);
        assert!(!refused.status.success() && !path.exists(), "{more:?}");
    }
    assert!(run(&root, &[]).status.success());
    let (whole, text) = restore(&gateway.home, &path, &["--check"]);
    assert!(whole && text.contains("checksums right"), "{text}");
    let (refused, text) = restore(&gateway.home, &path, &["--check", "--url", &url]);
    assert!(!refused && !text.contains("checksums"), "{text}");
    let mut client = Client::connect(gateway.addr);
    let wrong = client.request("GET", "/api/svc/v1/backup?withMasterKey=perhaps", &root, "");
    assert_eq!(wrong.status, 400);
    let log = gateway.admin_ok(&["audit", "list", "--refused"]);
    assert!(log.contains("/backup"), "{log}");
}

#[test]
fn a_damaged_backup_touches_nothing() {
    let fixture = fixture();
    let backup = backup_at(&fixture.gateway.home, "whole.backup", &[]);
    let whole = std::fs::read(&backup).unwrap();
    let home = Home::new("");
    bring_key(&fixture.gateway.home, &home);
    let mut random = Lcg(7);
    let broken = home.path("broken.backup");
    for round in 0..12 {
        let mut bytes = whole.clone();
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        if round % 2 == 0 {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1
        }
        std::fs::write(&broken, &bytes).unwrap();
        let (done, text) = restore(&home, &broken, &["--force"]);
        assert!(!done && text.contains("broken.backup"), "byte {at}: {text}");
        let names: Vec<_> =
            std::fs::read_dir(home.data_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["master.key"], "byte {at}");
    }
    for text in ["", "gateway backup 9\n", "[server]\n"] {
        std::fs::write(&broken, text).unwrap();
        assert!(!restore(&home, &broken, &[]).0, "{text:?}");
    }
    assert!(!restore(&home, &home.path("absent"), &[]).0);
    assert!(restore(&home, &backup, &[]).0);
}

#[test]
fn a_backup_without_a_server_is_the_same() {
    let fixture = fixture();
    assert_eq!(fixture.chat("").status, 200);
    let token = fixture.token.clone();
    let Fixture { gateway, provider, .. } = fixture;
    let home = gateway.stop();
    let backup = backup_at(&home, "cold.backup", &[]);
    let other = Home::new("");
    bring_key(&home, &other);
    assert!(restore(&other, &backup, &[]).0);
    let restored = other.serve();
    assert_eq!(calls(&restored), 1);
    let answer =
        Client::connect(restored.addr).post("/v1/chat/completions", &token, chat("main/m", "").as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(provider);
}

#[test]
fn kill_9_in_the_middle_of_a_restore_leaves_the_old_or_the_new() {
    const KILLS: u64 = 24;
    let fixture = fixture();
    for number in 0..40 {
        fixture.gateway.admin_ok(&["user", "create", &format!("new{number}@example.com")]);
    }
    let backup = backup_at(&fixture.gateway.home, "new.backup", &[]);
    let other = Home::new("");
    bring_key(&fixture.gateway.home, &other);
    let other = other.serve();
    for number in 0..40 {
        other.admin_ok(&["user", "create", &format!("old{number}@example.com")]);
    }
    let other = other.stop();
    let old = backup_at(&other, "old.backup", &[]);
    // How long one takes, so that kills fall into all of it.
    let began = std::time::Instant::now();
    assert!(restore(&other, &old, &["--force"]).0);
    let span = u64::try_from(began.elapsed().as_micros()).unwrap();
    let mut random = Lcg(20_261_124);
    let (mut olds, mut news) = (0, 0);
    for round in 0..KILLS {
        let mut command = other.admin_command(&["restore", backup.to_str().unwrap(), "--force"]);
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(Duration::from_micros(random.below(span * 5 / 4)));
        let _ = child.kill();
        child.wait().unwrap();
        let users = other.admin_ok(&["user", "list"]);
        let count =
            |prefix: &str| (0..40).filter(|n| users.contains(&format!("{prefix}{n}@example.com"))).count();
        match (count("old"), count("new")) {
            (40, 0) => olds += 1,
            (0, 40) => {
                news += 1;
                assert!(restore(&other, &old, &["--force"]).0, "round {round}");
            }
            mixed => panic!("round {round}: {mixed:?}"),
        }
        assert_eq!(other.admin_json(&["audit", "verify"])["ok"], true, "round {round}");
    }
    assert_eq!(olds + news, KILLS);
    support::announce(&format!("restores killed: {olds} left the old state, {news} the new"));
}
