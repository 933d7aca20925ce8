use std::collections::BTreeSet;

use redb::{ReadableTable, TableDefinition};

use super::file::{Entry, Keep};
use super::*;
use crate::domain::UsageScope;
use crate::seal::MasterKey;
use crate::store::tests::Folder;
use crate::usage::tests::record;

const DAY_MS: u64 = 86_400_000;
const KIB: usize = 1024;
const PLENTY: Duration = Duration::from_secs(20);
const ENTRIES: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("entries");

fn config() -> config::RequestLog {
    config::RequestLog {
        max_body_bytes: 64 * KIB,
        max_held_bytes: 1024 * KIB,
        retention_days: 1,
        max_total_bytes: 64 * 1024 * 1024,
    }
}

fn store(key: u8) -> Arc<Store> {
    Arc::new(Store::in_memory(MasterKey::new(&[key; 32])))
}

fn start(folder: &Folder, config: &config::RequestLog) -> RequestLog {
    RequestLog::start(&folder.0, config, store(7))
}

fn call(request_id: &str, subject: &str, at: u64) -> UsageRecord {
    let mut record = record(subject, "main/m", at);
    request_id.clone_into(&mut record.request_id);
    record
}

fn now() -> u64 {
    UnixMillis::now().0
}

/// Keeps the bodies of one call.
fn keep(log: &RequestLog, record: UsageRecord, request: &[u8], answer: &[&[u8]]) {
    let mut capture = log.capture(request).expect("there is room");
    for piece in answer {
        capture.answer(piece);
    }
    capture.finish(record);
}

fn all() -> ReportFilter {
    ReportFilter { flush: true, scope: UsageScope::All, ..ReportFilter::default() }
}

fn bodies(log: &RequestLog, request_id: &str) -> LoggedBodies {
    let found = log.find(request_id, &all()).unwrap().expect("the bodies are kept");
    log.bodies(found.key).unwrap().unwrap()
}

/// Whether any file of the folder holds a text.
fn on_disk(folder: &Folder, text: &[u8]) -> bool {
    std::fs::read_dir(&folder.0).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        memchr::memmem::find(&bytes, text).is_some()
    })
}

#[test]
fn what_is_kept_is_sealed_and_comes_back_as_it_was() {
    let folder = Folder::new();
    let log = start(&folder, &config());
    assert!(log.find("r1", &all()).unwrap().is_none());
    log.flush(PLENTY).unwrap();
    assert!(!folder.0.join(FILE_NAME).exists(), "there is a file without anything to keep");
    let at = now();
    keep(&log, call("r1", "user:ada@x.io", at), b"a secret prompt", &[b"a secret ", b"", b"answer\xff\0"]);
    keep(&log, call("r2", "user:ada@x.io", at + 1), b"", &[]);
    let kept = bodies(&log, "r1");
    assert_eq!((&kept.request.bytes[..], kept.request.total_bytes), (&b"a secret prompt"[..], 15));
    assert_eq!(kept.answer.bytes, b"a secret answer\xff\0");
    assert!(!kept.request.is_truncated() && !kept.answer.is_truncated());
    assert!(!format!("{kept:?}").contains("secret"));
    assert_eq!(bodies(&log, "r2").answer, LoggedBody { bytes: Vec::new(), total_bytes: 0 });
    let asked = [("r1", at), ("r1", at + 1), ("r2", at + 1), ("r3", at)];
    let asked = asked.map(|(id, at)| (UnixMillis(at), id.to_owned())).to_vec();
    assert_eq!(log.are_logged(asked.clone(), true).unwrap(), [true, false, true, false]);
    assert_eq!(log.counts().written, 2);
    assert_eq!(log.counts().held_bytes, 0);
    log.close();
    assert!(on_disk(&folder, b"user:ada@x.io") && !on_disk(&folder, b"a secret"));
    // The same from the file alone, and nothing with another key.
    let file = RequestLogFile::new(&folder.0, store(7));
    let key = file.find("r1", &all()).unwrap().unwrap().key;
    assert_eq!(file.bodies(key).unwrap().unwrap(), kept);
    assert_eq!(file.are_logged(asked, true).unwrap(), [true, false, true, false]);
    let other = RequestLogFile::new(&folder.0, store(8));
    let refused = other.bodies(key).unwrap_err();
    assert!(matches!(refused, RequestLogError::Sealed(SealError::OtherKey)), "{refused}");
}

#[test]
fn a_restart_goes_on_with_other_places() {
    let folder = Folder::new();
    let at = now();
    for round in ["one", "two", "three"] {
        let log = start(&folder, &config());
        keep(&log, call("same", "user:ada@x.io", at), round.as_bytes(), &[]);
        assert_eq!(bodies(&log, "same").request.bytes, round.as_bytes());
        log.close();
        assert!(log.capture(b"late").is_some_and(|capture| {
            capture.finish(call("late", "user:ada@x.io", at));
            log.counts().dropped == 1
        }));
    }
    let log = start(&folder, &config());
    log.flush(PLENTY).unwrap();
    let database = log.shared.database.read().unwrap();
    let transaction = redb::ReadableDatabase::begin_read(database.as_ref().unwrap()).unwrap();
    let table = transaction.open_table(ENTRIES).unwrap();
    assert_eq!(table.iter().unwrap().count(), 3);
}

#[test]
fn long_bodies_are_cut_and_say_how_long_they_were() {
    let folder = Folder::new();
    let log = start(&folder, &config());
    let long = vec![b'x'; 100 * KIB];
    keep(&log, call("r", "user:ada@x.io", now()), &long, &[&long[..60 * KIB], &long[..60 * KIB], b"end"]);
    let kept = bodies(&log, "r");
    for (body, total) in [(&kept.request, 100 * KIB), (&kept.answer, 120 * KIB + 3)] {
        assert_eq!((body.bytes.len(), body.total_bytes), (64 * KIB, total as u64));
        assert!(body.is_truncated());
    }
}

#[test]
fn all_bodies_have_one_bound() {
    let folder = Folder::new();
    let log = start(&folder, &config::RequestLog { max_held_bytes: 160 * KIB, ..config() });
    let body = vec![b'x'; 64 * KIB];
    let first = log.capture(&body).unwrap();
    let mut second = log.capture(&body).unwrap();
    assert!(log.capture(&body).is_none());
    assert_eq!(log.counts().dropped, 1);
    // The answer finds no room any more: the whole of it is given up, and its room is there for others.
    second.answer(&body);
    assert_eq!(log.counts().held_bytes, 64 * KIB as u64);
    second.answer(b"more");
    second.finish(call("second", "user:ada@x.io", now()));
    assert_eq!(log.counts().dropped, 2);
    first.finish(call("first", "user:ada@x.io", now()));
    assert_eq!(bodies(&log, "first").request.bytes, body);
    assert!(log.find("second", &all()).unwrap().is_none());
    // A call that never came to anything leaves nothing.
    drop(log.capture(&body).unwrap());
    log.flush(PLENTY).unwrap();
    assert_eq!((log.counts().held_bytes, log.counts().written), (0, 1));
}

#[test]
fn a_thousand_small_events_are_not_copied_over_and_over() {
    let folder = Folder::new();
    let log = start(&folder, &config());
    let mut capture = log.capture(b"{}").unwrap();
    let mut rooms = BTreeSet::new();
    for _ in 0..5000 {
        capture.answer(b"data: x\n\n");
        rooms.insert(log.counts().held_bytes);
    }
    assert!(rooms.len() < 20, "{rooms:?}");
    capture.finish(call("r", "user:ada@x.io", now()));
    assert_eq!(bodies(&log, "r").answer.bytes, b"data: x\n\n".repeat(5000));
}

#[test]
fn an_id_that_others_use_too_hides_nothing() {
    let folder = Folder::new();
    let log = start(&folder, &config());
    let at = now();
    keep(&log, call("r", "user:ada@x.io", at), b"old", &[]);
    keep(&log, call("r", "user:ada@x.io", at + 1), b"hers", &[]);
    for number in 0..200 {
        keep(&log, call("r", "user:eve@x.io", at + 2 + number), b"not hers", &[]);
    }
    let as_ada = ReportFilter {
        scope: UsageScope::Limited {
            subject: "user:ada@x.io".into(),
            teams: BTreeSet::new(),
            accounts: BTreeSet::new(),
        },
        ..all()
    };
    let found = log.find("r", &as_ada).unwrap().unwrap();
    assert_eq!(log.bodies(found.key).unwrap().unwrap().request.bytes, b"hers");
    let earlier = ReportFilter { to: Some(UnixMillis(at)), ..as_ada };
    let found = log.find("r", &earlier).unwrap().unwrap();
    assert_eq!(log.bodies(found.key).unwrap().unwrap().request.bytes, b"old");
    assert!(log.find("r", &ReportFilter { flush: true, ..ReportFilter::default() }).unwrap().is_none());
}

#[test]
fn bodies_past_retention_are_removed() {
    let folder = Folder::new();
    let log = start(&folder, &config());
    keep(&log, call("old", "user:ada@x.io", now() - 2 * DAY_MS), b"old", &[]);
    keep(&log, call("new", "user:ada@x.io", now() - DAY_MS / 2), b"new", &[]);
    assert_eq!(bodies(&log, "new").request.bytes, b"new");
    assert!(log.find("old", &all()).unwrap().is_none());
    log.close();
    // A long rest is looked at when the gateway starts.
    let kept = config::RequestLog { retention_days: 30, ..config() };
    let log = start(&folder, &kept);
    for number in 0..250 {
        keep(&log, call("old", "user:ada@x.io", now() - 2 * DAY_MS + number), b"old", &[]);
    }
    assert!(log.find("old", &all()).unwrap().is_some());
    log.close();
    let log = start(&folder, &config());
    while log.find("old", &all()).unwrap().is_some() {
        log.flush(PLENTY).unwrap();
    }
    assert_eq!(bodies(&log, "new").request.bytes, b"new");
}

#[test]
fn the_oldest_go_when_there_is_too_much() {
    let folder = Folder::new();
    let max_total_bytes = 1024 * 1024;
    let log = start(&folder, &config::RequestLog { max_total_bytes, ..config() });
    let at = now();
    for number in 0..100 {
        // A quarter of a page's power of two is lost to what redb rounds up to; the bound is on what is taken.
        keep(&log, call(&format!("r{number}"), "user:ada@x.io", at + number), &vec![b'x'; 30 * KIB], &[]);
        if number % 10 == 9 {
            log.flush(PLENTY).unwrap();
            assert!(log.counts().disk_bytes <= max_total_bytes, "{}", log.counts().disk_bytes);
        }
    }
    let is_kept = |number: u64| log.find(&format!("r{number}"), &all()).unwrap().is_some();
    assert!(is_kept(99) && is_kept(75) && !is_kept(0) && !is_kept(60));
    assert!(log.counts().disk_bytes > max_total_bytes / 2);
    log.close();
    let length = std::fs::metadata(folder.0.join(FILE_NAME)).unwrap().len();
    assert!(length < 3 * max_total_bytes, "the file has {length} bytes");
}

#[test]
fn one_transaction_removes_so_many_at_most() {
    let folder = Folder::new();
    let path = folder.0.join(FILE_NAME);
    let (database, next_seq, bytes) = file::open(&path).unwrap();
    assert_eq!((next_seq, bytes), (0, 0));
    let nothing = capture::Body::default();
    let key = MasterKey::new(&[7; 32]);
    let entries: Vec<Entry> = (0..10)
        .map(|seq| {
            file::seal(&key, seq, &call("r", "user:a@x.io", 1000 + seq), (&nothing, &nothing)).unwrap()
        })
        .collect();
    let keep = Keep { since: UnixMillis(0), max_bytes: u64::MAX, step: 4 };
    let written = file::write(&path, &database, &entries, 10, keep).unwrap();
    assert_eq!(written.removed, 0);
    // What a commit wrote that seemed to fail is written over and counts once.
    assert_eq!(file::write(&path, &database, &entries, 10, keep).unwrap().bytes, written.bytes);
    let keep = Keep { since: UnixMillis(1006), ..keep };
    let removed = [0; 3].map(|_| file::write(&path, &database, &[], 10, keep).unwrap());
    assert_eq!(removed.map(|written| written.removed), [4, 2, 0]);
    let none = Keep { max_bytes: 0, step: 100, ..keep };
    assert_eq!(file::write(&path, &database, &[], 10, none).unwrap(), file::Written { removed: 4, bytes: 0 });
}

#[test]
fn what_was_moved_or_changed_does_not_open() {
    let folder = Folder::new();
    let log = start(&folder, &config());
    let at = now();
    keep(&log, call("r1", "user:ada@x.io", at), b"hers", &[]);
    keep(&log, call("r2", "user:eve@x.io", at + 1), b"not hers", &[]);
    let keys = ["r1", "r2"].map(|id| log.find(id, &all()).unwrap().unwrap().key);
    log.close();
    let path = folder.0.join(FILE_NAME);
    let change = |work: &dyn Fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>| {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(ENTRIES).unwrap();
            let values = keys.map(|key| table.get(&key.0).unwrap().unwrap().value().to_vec());
            for (key, value) in keys.iter().zip(work(values.to_vec())) {
                table.insert(&key.0, value.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    };
    let read = |key: LogKey| RequestLogFile::new(&folder.0, store(7)).bodies(key);
    assert_eq!(read(keys[0]).unwrap().unwrap().request.bytes, b"hers");
    // The bodies of another in the place of hers; a record that names her in front of them; garbage.
    let swap = |values: Vec<Vec<u8>>| vec![values[1].clone(), values[0].clone()];
    change(&swap);
    assert!(keys.iter().all(|key| matches!(read(*key), Err(RequestLogError::Sealed(SealError::Damaged)))));
    change(&swap);
    change(&|values| {
        let text = String::from_utf8_lossy(&values[1]).into_owned();
        let at = text.find("user:eve@x.io").unwrap();
        let mut forged = values[1].clone();
        forged[at..at + 13].copy_from_slice(b"user:ada@x.io");
        vec![values[0].clone(), forged]
    });
    assert!(matches!(read(keys[1]), Err(RequestLogError::Sealed(SealError::Damaged))));
    change(&|values| vec![vec![0xff; 3], values[0][..values[0].len() - 1].to_vec()]);
    assert!(matches!(read(keys[0]), Err(RequestLogError::Store(StoreError::Damaged { .. }))));
    assert!(matches!(read(keys[1]), Err(RequestLogError::Sealed(SealError::Damaged))));
}

#[test]
fn a_disk_that_refuses_loses_nothing_while_there_is_room() {
    let folder = Folder::new();
    let path = folder.0.join(FILE_NAME);
    // Nothing can be opened where a folder is.
    std::fs::create_dir(&path).unwrap();
    let log = start(&folder, &config::RequestLog { max_held_bytes: 32 * KIB, ..config() });
    keep(&log, call("r", "user:ada@x.io", now()), b"kept", &[&[b'x'; 16 * KIB]]);
    assert!(matches!(log.flush(PLENTY), Err(RequestLogError::Unavailable)));
    assert!(matches!(log.find("r", &all()), Err(RequestLogError::Unavailable)));
    assert!(log.counts().held_bytes > 0 && log.capture(&[b'x'; 16 * KIB]).is_none());
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(bodies(&log, "r").request.bytes, b"kept");
    assert_eq!((log.counts().held_bytes, log.counts().written, log.counts().dropped), (0, 1, 1));
}
