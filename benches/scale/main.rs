//! A store of the size that an organisation grows to, and what it costs. [`ABOUT`] says what is measured and how.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool at a terminal, with parts of the gateway that it does not all use; what fails here ends the run"
)]

#[path = "../../src/archive.rs"]
mod archive;
#[path = "../../src/authn.rs"]
mod authn;
#[path = "../../src/authz/mod.rs"]
mod authz;
#[path = "../../src/catalog.rs"]
mod catalog;
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/domain/mod.rs"]
mod domain;
#[path = "../../src/id.rs"]
mod id;
#[path = "../../src/prices/mod.rs"]
mod prices;
#[path = "../relay/process.rs"]
mod process;
#[path = "../../src/seal.rs"]
mod seal;
#[path = "../../src/secret.rs"]
mod secret;
#[path = "../../src/store/mod.rs"]
mod store;
#[path = "../../src/token.rs"]
mod token;

mod people;
mod served;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clock::UnixMillis;
use domain::{AuditEntry, AuditSource};
use people::{Known, People, Random, Size};
use store::{Change, Key, Options, Store, Write, data_dir};

const ABOUT: &str = "\
A store of 10,000 users, 500 teams, 200 accounts, 2,000 models, 100,000 grants and 1,000,000 tokens: what it costs.
This is no timed test: nothing passes or fails here, and only numbers of one run on one machine compare.
- 'authenticate + authorize' takes token texts in random order, finds the principal, the model's route and the grant.
- 'commit' is a revocation in this process, from the change to its acknowledgement, fsync and all. 'fsync' is 4 KiB
  written and synced in the same folder, in turns with it.
- 'revocation' is DELETE /api/svc/v1/tokens/ID on a kept connection of the real binary, to the end of its answer.
- 'start-up' is from exec to the line that says it listens; 'resident' is VmRSS then, 'peak' VmHWM.
Environment: SCALE_USERS, SCALE_TEAMS, SCALE_ACCOUNTS, SCALE_MODELS, SCALE_GRANTS, SCALE_TOKENS, SCALE_CALLS (200000),
SCALE_REVOCATIONS (200), SCALE_GATEWAY (another binary), SCALE_KEEP (leave the store in target/tmp/scale; the
next run takes it as it is).
";

/// A number of the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Durations of one kind.
#[derive(Default)]
pub struct Timings(Vec<Duration>);

impl Timings {
    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    fn at(&self, share: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
            .get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    fn show(&self, what: &str) {
        println!(
            "{what:<58} median {:>9.3} ms   p95 {:>9.3} ms   worst {:>9.3} ms",
            self.at(50).as_secs_f64() * 1e3,
            self.at(95).as_secs_f64() * 1e3,
            self.at(100).as_secs_f64() * 1e3
        );
    }
}

/// Time on the clock and on the processor; others may have the latter meanwhile.
struct Spent(Instant, u64);

impl Spent {
    fn now() -> Self {
        Self(Instant::now(), process::cpu(std::process::id()).total_ns)
    }

    fn each(&self, count: usize) -> String {
        let cpu = (process::cpu(std::process::id()).total_ns - self.1) as f64 / 1e3 / count as f64;
        format!("{:.3} us each, {cpu:.3} us of CPU", self.0.elapsed().as_secs_f64() * 1e6 / count as f64)
    }
}

fn fresh_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    data_dir::prepare(&folder).unwrap();
    folder
}

fn open(folder: &Path) -> Store {
    Store::open(folder, data_dir::load_master_key(folder, None).unwrap(), Options::default()).unwrap()
}

/// One fsync as the disk does it: what no change can be cheaper than.
pub fn fsync(folder: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("fsync")).unwrap();
    file.write_all(&[7; 4096]).unwrap();
    file.sync_data().unwrap();
}

/// Revokes tokens one by one, each with the fsync of the moment beside it.
fn commits(store: &Store, folder: &Path, ids: &[String], what: &str) {
    let (mut all, mut sync) = (Timings::default(), Timings::default());
    for id in ids {
        let since = Instant::now();
        fsync(folder);
        sync.add(since);
        let key = Key::token(id);
        // A store that was kept has revoked some already.
        let Some(revision) = store.snapshot().revision_of(&key) else { continue };
        let entry = AuditEntry {
            at: UnixMillis::now(),
            actor: "user:root@example.com".into(),
            token_id: None,
            source: AuditSource::Api,
            refused: None,
            count: 1,
            action: "token.revoke".into(),
            resource: format!("token/{id}"),
            before: serde_json::json!({"id": id}),
            after: serde_json::Value::Null,
        };
        let change = Change { writes: vec![Write::Delete(key, revision)], audit: vec![entry] };
        let since = Instant::now();
        store.commit(change).unwrap();
        all.add(since);
    }
    all.show(&format!("commit of a revocation, {what}"));
    sync.show("  an fsync beside each");
}

/// Many different tokens, each asking for a model; the mean of all calls.
fn decisions(store: &Store, known: &[Known], calls: usize, random: &mut Random) {
    let world = store.snapshot();
    let now = UnixMillis::now();
    for (what, wanted) in [
        ("a model by an own grant", Some(true)),
        ("a model by a team's grant", Some(false)),
        ("a model that no grant gives", None),
    ] {
        let mut turns: Vec<(&str, &str)> = Vec::with_capacity(calls);
        while turns.len() < calls {
            let one = &known[random.below(known.len())];
            let model = match wanted {
                Some(true) => &one.own_model,
                Some(false) => &one.team_model,
                None => &one.denied_model,
            };
            turns.push((one.text.as_str(), model.as_str()));
        }
        let since = Spent::now();
        let mut allowed = 0;
        for (text, model) in &turns {
            let principal = authn::authenticate(text, &world, now).unwrap();
            let route = catalog::resolve(model, &world).unwrap();
            allowed += usize::from(black_box(authz::authorize(&principal, &route, &world)).is_ok());
        }
        println!("authenticate + authorize, {what:<32} {} ({allowed} of {calls} allowed)", since.each(calls));
    }
    let since = Spent::now();
    for one in known {
        black_box(authn::authenticate(&one.text, &world, now).unwrap());
    }
    println!("  authenticate alone {:>39} {}, {} tokens", "", since.each(known.len()), known.len());
}

fn make(size: Size) -> (PathBuf, People) {
    let folder = fresh_folder("scale");
    let store = open(&folder);
    let since = Instant::now();
    let people = People::make(&store, size, 100_000);
    println!("made in {:.1} s", since.elapsed().as_secs_f64());
    let since = Instant::now();
    store.close();
    println!("closed in {:.1} s", since.elapsed().as_secs_f64());
    people.keep(&folder);
    (folder, people)
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        print!("{ABOUT}");
        return ExitCode::SUCCESS;
    }
    let size = Size {
        users: number("SCALE_USERS", 10_000),
        teams: number("SCALE_TEAMS", 500),
        accounts: number("SCALE_ACCOUNTS", 200),
        models: number("SCALE_MODELS", 2_000),
        grants: number("SCALE_GRANTS", 100_000),
        tokens: number("SCALE_TOKENS", 1_000_000),
    };
    let (calls, revocations) = (number("SCALE_CALLS", 200_000), number("SCALE_REVOCATIONS", 200));
    print!("{ABOUT}\n{size:?}\n");

    // The same change with ten tokens more than it takes.
    let small = fresh_folder("scale-small");
    let store = open(&small);
    let few = Size { users: 2, teams: 1, accounts: 2, models: 4, grants: 8, tokens: revocations + 10 };
    let people = People::make(&store, few, usize::MAX);
    let ids: Vec<String> = people.ids.into_iter().take(revocations).collect();
    commits(&store, &small, &ids, "few tokens");
    drop(store);

    let (folder, mut people) = match People::kept(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale")) {
        Some(found) => found,
        None => make(size),
    };
    let file = std::fs::metadata(folder.join("state.redb")).unwrap().len();
    println!("state.redb is {} MiB", file / 1024 / 1024);
    let before = process::resident_kib(std::process::id());
    let since = Instant::now();
    let store = open(&folder);
    println!(
        "opened in this process in {:.2} s, {} MiB more resident (freed memory of the making may be used again)",
        since.elapsed().as_secs_f64(),
        process::resident_kib(std::process::id()).saturating_sub(before) / 1024
    );
    let mut random = Random(7);
    decisions(&store, &people.known, calls, &mut random);
    let world = store.snapshot();
    let mut ids = std::mem::take(&mut people.ids);
    ids.retain(|id| world.token(id).is_some_and(|token| token.revoked_at.is_none()));
    drop(world);
    let second = ids.split_off(ids.len() / 2);
    commits(&store, &folder, &ids[..revocations.min(ids.len())], "all the tokens");
    drop(store);

    served::measure(&folder, &people.root, &second[..revocations.min(second.len())]);
    let _ = std::fs::remove_dir_all(&small);
    if std::env::var_os("SCALE_KEEP").is_none() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    ExitCode::SUCCESS
}
