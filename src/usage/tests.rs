use std::collections::BTreeMap;

use super::*;
use crate::clock::UnixMillis;
use crate::domain::*;
use crate::id::{Email, TeamName};
use crate::seal::MasterKey;
use crate::store::tests::Folder;
use crate::store::{Change, Expect, Object, Store, Write};

pub(super) const DAY_MS: u64 = 86_400_000;

pub(crate) fn config() -> config::Usage {
    config::Usage {
        max_queued_records: 1000,
        flush_interval_ms: 1,
        retention_days: 90,
        aggregate_retention_days: 800,
    }
}

pub(crate) fn record(subject: &str, model: &str, at: u64) -> UsageRecord {
    UsageRecord {
        at: UnixMillis(at),
        request_id: "r".to_owned(),
        subject: subject.to_owned(),
        token_id: "0".repeat(12),
        account: model.split('/').next().unwrap().to_owned(),
        model: model.to_owned(),
        endpoint: "chat/completions".to_owned(),
        tokens: TokenCounts {
            input: 10,
            output: 3,
            cached: 4,
            cache_write: 0,
            reasoning: 1,
            origin: TokenOrigin::Reported,
        },
        status: 200,
        outcome: Outcome::Complete,
        stream: true,
        latency_ms: 100,
        first_byte_ms: Some(5),
        metadata: BTreeMap::new(),
        teams: Vec::new(),
        model_asked: None,
        cost: None,
        error_kind: None,
        request_bytes: 0,
        answer_bytes: 0,
    }
}

pub(super) fn by(keys: &[GroupKey]) -> ReportFilter {
    ReportFilter { group_by: keys.to_vec(), flush: true, scope: UsageScope::All, ..ReportFilter::default() }
}

pub(super) fn calls(rows: &[ReportRow]) -> Vec<(String, u64)> {
    rows.iter().map(|row| (row.group.join("|"), row.figures.calls)).collect()
}

pub(super) fn expected(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
    rows.iter().map(|(group, calls)| ((*group).to_owned(), *calls)).collect()
}

fn fill(usage: &Usage) -> u64 {
    let today = UnixMillis::now().0 / DAY_MS * DAY_MS;
    for (subject, model, at) in [
        ("user:ada@example.com", "main/a", today),
        ("user:ada@example.com", "main/b", today),
        ("user:bob@example.com", "main/a", today - 1),
        ("virtualaccount:ci-bot", "other/a", today),
    ] {
        usage.reserve().unwrap().settle(record(subject, model, at));
    }
    let mut failed = record("user:bob@example.com", "main/a", today);
    failed.outcome = Outcome::CallerGone;
    failed.tokens.origin = TokenOrigin::Estimated;
    usage.reserve().unwrap().settle(failed);
    today
}

#[test]
fn reports_group_and_sum() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config());
    let today = fill(&usage);
    let report = |filter: &ReportFilter| calls(&usage.report(filter).unwrap());
    let all = usage.report(&by(&[])).unwrap();
    let [row] = all.as_slice() else { panic!("{all:?}") };
    let sums = &row.figures;
    assert_eq!((sums.calls, sums.errors, sums.estimated_calls, sums.unpriced_calls), (5, 1, 1, 5));
    assert_eq!((sums.input_tokens, sums.output_tokens, sums.cached_tokens), (50, 15, 20));
    assert_eq!((sums.reasoning_tokens, sums.latency_ms, sums.mean_latency_ms()), (5, 500, 100));
    assert_eq!(sums.first_bytes.percentile_ms(95), Some(5));
    assert_eq!(
        report(&by(&[GroupKey::User])),
        expected(&[("", 1), ("ada@example.com", 2), ("bob@example.com", 2)])
    );
    assert_eq!(report(&by(&[GroupKey::VirtualAccount])), expected(&[("", 4), ("ci-bot", 1)]));
    assert_eq!(
        report(&by(&[GroupKey::Account, GroupKey::Model])),
        expected(&[("main|main/a", 3), ("main|main/b", 1), ("other|other/a", 1)])
    );
    let day = |at| UnixMillis(at).to_iso()[..10].to_owned();
    assert_eq!(report(&by(&[GroupKey::Day])), expected(&[(&day(today - 1), 1), (&day(today), 4)]));
    let only = ReportFilter { subject: Some("user:bob@example.com".to_owned()), ..by(&[]) };
    assert_eq!(report(&only), expected(&[("", 2)]));
    // Both ends are part of it.
    let (first, last) = (Some(UnixMillis(today - 1)), Some(UnixMillis(today)));
    for (from, to, calls) in [(first, first, 1), (last, last, 4), (first, last, 5), (None, first, 1)] {
        assert_eq!(report(&ReportFilter { from, to, ..by(&[]) }), expected(&[("", calls)]));
    }
    assert!(usage.report(&ReportFilter { from: last, to: first, ..by(&[]) }).unwrap().is_empty());
}

#[test]
fn a_call_counts_in_every_team_of_its_user() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config());
    fill(&usage);
    let store = Store::in_memory(MasterKey::new(&[7; 32]));
    for (team, members) in
        [("red", &["ada@example.com", "bob@example.com"][..]), ("blue", &["ada@example.com"])]
    {
        let team = Team {
            manifest: None,
            name: TeamName::parse(team).unwrap(),
            description: String::new(),
            members: members.iter().map(|email| Email::parse(email).unwrap()).collect(),
            managers: Default::default(),
            created_at: UnixMillis(1),
            updated_at: UnixMillis(1),
        };
        let writes = vec![Write::Put(Object::Team(team), Expect::Absent)];
        store.commit(Change { writes, audit: vec![] }).unwrap();
    }
    let filter = ReportFilter { world: Some(store.snapshot()), ..by(&[GroupKey::Team]) };
    assert_eq!(calls(&usage.report(&filter).unwrap()), expected(&[("", 1), ("blue", 2), ("red", 4)]));
}

#[test]
fn places_are_bounded_and_come_back() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config::Usage { max_queued_records: 3, ..config() });
    let mut slots: Vec<Slot> = (0..3).map(|_| usage.reserve().unwrap()).collect();
    assert_eq!(usage.reserve().unwrap_err(), NoRoom);
    drop(slots.pop());
    slots.push(usage.reserve().unwrap());
    for slot in slots {
        // Settled on another thread than it was taken on.
        let settle = move || slot.settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
        std::thread::spawn(settle).join().unwrap();
    }
    usage.flush(Duration::from_secs(60)).unwrap();
    assert_eq!(usage.taken(), 0);
    assert!(usage.reserve().is_ok());
}

#[test]
fn a_record_without_a_disk_keeps_its_place() {
    let folder = Folder::new();
    let missing = folder.0.join("missing");
    let usage = Usage::start(&missing, &config());
    usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
    assert!(matches!(usage.flush(Duration::from_secs(60)), Err(UsageError::Unavailable)));
    assert!(usage.is_failing());
    // This one comes after a batch that failed, and waits behind it.
    usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
    assert_eq!(usage.taken(), 2);
    // Once the disk is back nothing is missing.
    std::fs::create_dir(&missing).unwrap();
    assert_eq!(calls(&usage.report(&by(&[])).unwrap()), expected(&[("", 2)]));
    assert_eq!(usage.taken(), 0);
    assert!(!usage.is_failing());
}

fn wait_until(what: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn without_a_disk_accounting_fails_from_the_start_and_comes_back_by_itself() {
    let folder = Folder::new();
    let missing = folder.0.join("missing");
    let usage = Usage::start(&missing, &config());
    // Nobody calls, since whoever is under a budget is refused.
    wait_until(|| usage.is_failing());
    std::fs::create_dir(&missing).unwrap();
    wait_until(|| !usage.is_failing());
}

#[test]
fn records_that_wait_at_the_end_are_written_behind_a_batch_that_failed() {
    let folder = Folder::new();
    let missing = folder.0.join("missing");
    let usage = Usage::start(&missing, &config());
    let one =
        || usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
    one();
    assert!(usage.flush(Duration::from_secs(60)).is_err());
    one();
    std::fs::create_dir(&missing).unwrap();
    usage.close();
    for keys in [vec![], vec![GroupKey::Token]] {
        assert_eq!(UsageFile::new(&missing).report(&by(&keys)).unwrap()[0].figures.calls, 2);
    }
}

#[test]
fn metadata_that_waits_for_a_disk_is_bounded_and_the_rest_of_the_record_stays() {
    let folder = Folder::new();
    let missing = folder.0.join("missing");
    let usage = Usage::start(&missing, &config());
    let mut large = record("user:ada@example.com", "main/a", UnixMillis::now().0);
    large.metadata = (0..64).map(|key| (format!("{key}"), "x".repeat(510))).collect();
    let fit = MAX_QUEUED_METADATA_BYTES / metadata_bytes(&large);
    assert!(fit > 900, "the test needs as many places: {fit}");
    let usage_of_many = |count: usize| {
        for _ in 0..count {
            usage.reserve().unwrap().settle(large.clone());
        }
    };
    usage_of_many(1_000);
    let without = usage.shared.metadata_bytes.load(Ordering::Acquire);
    assert!(without <= MAX_QUEUED_METADATA_BYTES, "{without}");
    std::fs::create_dir(&missing).unwrap();
    usage.flush(Duration::from_secs(60)).unwrap();
    assert_eq!(usage.shared.metadata_bytes.load(Ordering::Acquire), 0);
    usage_of_many(1);
    assert_eq!(usage.report(&by(&[])).unwrap()[0].figures.calls, 1_001);
}

#[test]
fn a_call_that_is_served_without_a_record_is_counted() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config::Usage { max_queued_records: 1, ..config() });
    let only = usage.reserve().unwrap();
    drop(usage.without_record());
    assert_eq!((usage.unaccounted_calls(), usage.taken()), (0, 1));
    usage.without_record().settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
    assert_eq!((usage.unaccounted_calls(), usage.taken()), (1, 1));
    only.settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
    assert_eq!(calls(&usage.report(&by(&[])).unwrap()), expected(&[("", 1)]));
}

#[test]
fn a_report_that_reads_for_too_long_breaks_off() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config());
    fill(&usage);
    usage.flush(Duration::from_secs(60)).unwrap();
    let path = usage.shared.path.clone();
    let database = usage.shared.database.read().unwrap();
    for keys in [vec![], vec![GroupKey::Token]] {
        let read = |limit| report::read(&path, database.as_ref().unwrap(), &by(&keys), limit);
        assert!(matches!(read(Some(Duration::ZERO)), Err(UsageError::TooLong)), "{keys:?}");
        assert_eq!(read(Some(REPORT_TIME_LIMIT)).unwrap()[0].figures.calls, 5);
        assert_eq!(read(None).unwrap()[0].figures.calls, 5);
    }
}

#[test]
fn records_stay_and_the_file_is_read_directly() {
    let folder = Folder::new();
    assert!(UsageFile::new(&folder.0).report(&by(&[])).unwrap().is_empty());
    for round in 1..=2 {
        let usage = Usage::start(&folder.0, &config());
        // The same time twice, in another run too, is another record.
        usage.reserve().unwrap().settle(record(
            "user:ada@example.com",
            "main/a",
            UnixMillis::now().0 / DAY_MS * DAY_MS,
        ));
        usage.flush(Duration::from_secs(60)).unwrap();
        let error = UsageFile::new(&folder.0).report(&by(&[])).unwrap_err();
        assert!(matches!(error, UsageError::Store(StoreError::Locked(_))), "{error}");
        usage.close();
        assert_eq!(calls(&UsageFile::new(&folder.0).report(&by(&[])).unwrap()), expected(&[("", round)]));
    }
}

#[test]
fn settled_records_are_written_at_the_end() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config::Usage { flush_interval_ms: 3_600_000, ..config() });
    fill(&usage);
    let late = usage.reserve().unwrap();
    usage.close();
    late.settle(record("user:ada@example.com", "main/a", UnixMillis::now().0));
    assert_eq!(usage.taken(), 0);
    assert_eq!(calls(&UsageFile::new(&folder.0).report(&by(&[])).unwrap()), expected(&[("", 5)]));
}

#[test]
fn records_past_retention_are_removed() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config::Usage { max_queued_records: 10_000, ..config() });
    let now = UnixMillis::now().0;
    for number in 0..5000 {
        usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", now - 93 * DAY_MS + number));
    }
    usage.flush(Duration::from_secs(60)).unwrap();
    usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", now - 89 * DAY_MS));
    usage.flush(Duration::from_secs(60)).unwrap();
    drop(usage);
    // The next start prunes whole pages; records are taken in between.
    let usage = Usage::start(&folder.0, &config());
    let records = by(&[GroupKey::Token]);
    let left =
        (0..100).map(|_| calls(&usage.report(&records).unwrap())).find(|left| left.iter().all(|l| l.1 == 1));
    assert_eq!(left, Some(expected(&[("000000000000", 1)])));
}

#[test]
fn coroutines_settle_and_report() {
    may::config().set_workers(2);
    let folder = Folder::new();
    let usage = Arc::new(Usage::start(&folder.0, &config()));
    let coroutines: Vec<_> = (0..20)
        .map(|_| {
            let usage = Arc::clone(&usage);
            may::go!(move || {
                usage.reserve().unwrap().settle(record(
                    "user:ada@example.com",
                    "main/a",
                    UnixMillis::now().0,
                ));
                // A call just finished is in the report.
                assert!(usage.report(&by(&[])).unwrap()[0].figures.calls >= 1);
            })
        })
        .collect();
    for coroutine in coroutines {
        coroutine.join().unwrap();
    }
    assert_eq!(calls(&usage.report(&by(&[])).unwrap()), expected(&[("", 20)]));
}

#[test]
fn what_a_crash_leaves_is_read() {
    let (folder, crashed) = (Folder::new(), Folder::new());
    let usage = Usage::start(&folder.0, &config());
    fill(&usage);
    usage.flush(Duration::from_secs(60)).unwrap();
    // The file as it is at this moment, never closed.
    std::fs::copy(folder.0.join("usage.redb"), crashed.0.join("usage.redb")).unwrap();
    assert_eq!(calls(&UsageFile::new(&crashed.0).report(&by(&[])).unwrap()), expected(&[("", 5)]));
    assert_eq!(calls(&Usage::start(&crashed.0, &config()).report(&by(&[])).unwrap()), expected(&[("", 5)]));
}

#[test]
fn the_last_use_of_a_deleted_token_leaves_the_disk() {
    let folder = Folder::new();
    let [kept, gone] = ["keptkeptkept", "gonegonegone"].map(|id| TokenId::parse(id).unwrap());
    let start = || {
        let usage = Usage::start(&folder.0, &config());
        usage.flush(Duration::from_secs(60)).unwrap();
        usage
    };
    let usage = start();
    usage.token_used(&kept, UnixMillis::now());
    usage.token_used(&gone, UnixMillis::now());
    usage.close();
    let usage = start();
    assert!(usage.last_used(&gone).is_some());
    usage.forget_tokens(|| |id: &TokenId| *id == kept);
    assert!(usage.last_used(&gone).is_none());
    usage.close();
    let usage = start();
    assert!(usage.last_used(&kept).is_some());
    assert!(usage.last_used(&gone).is_none());
    assert_eq!(usage.unrecorded_uses(), 0);
}

#[test]
fn a_member_waits_for_one_report_at_a_time_and_admins_for_none() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config());
    fill(&usage);
    let limited = |subject: &str| ReportFilter {
        scope: UsageScope::Limited {
            subject: subject.to_owned(),
            teams: Default::default(),
            accounts: Default::default(),
        },
        ..by(&[])
    };
    let turn = usage.turn("user:bob@example.com").unwrap();
    assert!(matches!(usage.report(&limited("user:bob@example.com")), Err(UsageError::Busy)));
    assert_eq!(usage.report(&limited("user:ada@example.com")).unwrap()[0].figures.calls, 2);
    assert_eq!(usage.report(&by(&[])).unwrap()[0].figures.calls, 5);
    drop(turn);
    for _ in 0..2 {
        assert_eq!(usage.report(&limited("user:bob@example.com")).unwrap()[0].figures.calls, 2);
    }
}
