//! The disk fails at every operation in turn: what was acknowledged is there, and half a change never is.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use redb::{Builder, StorageBackend};

use super::tests::{key, put, user};
use super::*;

/// A disk in memory that outlives its database and fails when told to.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Mutex<Vec<u8>>,
    /// Operations until the first that fails; negative while failing.
    until: AtomicI64,
    /// How many fail then.
    failures: AtomicI64,
    /// A failing write still leaves its bytes, and a failing sync has synced.
    does_it_anyway: bool,
}

impl Disk {
    fn fail(&self, after: i64, failures: i64) {
        self.0.failures.store(failures, Ordering::SeqCst);
        self.0.until.store(after, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.fail(i64::MAX, 0);
    }

    fn change(&self, work: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let until = self.0.until.fetch_sub(1, Ordering::SeqCst);
        let fails = until <= 0 && until > -self.0.failures.load(Ordering::SeqCst);
        if !fails || self.0.does_it_anyway {
            work(&mut self.0.bytes.lock().unwrap());
        }
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn open(&self) -> Result<Database, StoreError> {
        let opened = Builder::new().create_with_backend(self.clone());
        opened.map_err(|error| StoreError::from_redb(Path::new("memory"), error))
    }

    /// What a process that starts now would see.
    fn read(&self) -> World {
        let copy = Disk::default();
        *copy.0.bytes.lock().unwrap() = self.0.bytes.lock().unwrap().clone();
        copy.heal();
        let database = copy.open().unwrap();
        disk::load(Path::new("memory"), &database, &key(), Demo::No).unwrap().world
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (bytes, start) = (self.0.bytes.lock().unwrap(), offset as usize);
        out.copy_from_slice(bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|bytes| bytes.resize(len as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|_| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|bytes| bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data))
    }
}

fn email(number: usize) -> String {
    format!("u{number}@example.com")
}

/// Commits with `failures` failing operations after `after` good ones; returns how many commits were refused.
fn run(does_it_anyway: bool, after: i64, failures: i64) -> usize {
    let disk = Disk(Arc::new(Inner { does_it_anyway, ..Inner::default() }));
    disk.heal();
    let again = disk.clone();
    let store = Store::on_database(key(), disk.open().unwrap(), move || again.open());
    store.commit(put(user("ada@example.com"))).unwrap();
    disk.fail(after, failures);
    let done: Vec<bool> = (0..3).map(|number| store.commit(put(user(&email(number)))).is_ok()).collect();
    disk.heal();
    store.commit(put(user("eve@example.com"))).unwrap();
    let (world, on_disk) = (store.snapshot(), disk.read());
    let context = format!("{does_it_anyway} {after} {failures} {done:?}");
    assert_eq!(format!("{world:?}"), format!("{on_disk:?}"), "{context}");
    for (number, done) in done.iter().enumerate() {
        if *done {
            assert!(world.user(&email(number)).is_some(), "{context}");
        } else if after == 0 && !does_it_anyway {
            // Not even the first byte was written. Later on a refused change may be there, but whole.
            assert!(world.user(&email(number)).is_none(), "{context}");
        }
    }
    assert!(world.user("ada@example.com").is_some() && world.user("eve@example.com").is_some());
    let audited = store.verify_audit_chain().unwrap().records;
    assert_eq!(audited, world.users().count() as u64, "{context}");
    done.iter().filter(|done| !**done).count()
}

#[test]
fn every_single_failure_is_overcome() {
    for does_it_anyway in [false, true] {
        for after in 0..60 {
            assert_eq!(run(does_it_anyway, after, 1), 0, "{does_it_anyway} {after}");
        }
    }
}

#[test]
fn a_disk_that_stays_away_refuses_and_comes_back() {
    for does_it_anyway in [false, true] {
        let refused: usize = (0..40)
            .flat_map(|after| [2, 3, 5, 8, 13, 1000].map(|failures| run(does_it_anyway, after, failures)))
            .sum();
        assert!(refused > 0);
    }
}

#[test]
fn a_writer_that_hangs_does_not_answer_and_a_question_leaves_no_trace() {
    let disk = Disk::default();
    disk.heal();
    let again = disk.clone();
    let store = Arc::new(Store::on_database(key(), disk.open().unwrap(), move || again.open()));
    let revision = store.commit(put(user("ada@x.io"))).unwrap();
    assert!(store.answers(Duration::from_secs(20)));
    assert_eq!(store.snapshot().revision(), revision);
    assert_eq!(disk.read().revision(), revision);

    let held = disk.0.bytes.lock().unwrap();
    let here = Arc::clone(&store);
    let change = std::thread::spawn(move || here.commit(put(user("bob@x.io"))).unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    // Until the change has reached the disk the writer is free to answer.
    while store.answers(Duration::from_millis(20)) {
        assert!(std::time::Instant::now() < deadline, "the writer answers from a disk that hangs");
    }
    drop(held);
    assert_eq!(change.join().unwrap(), revision + 1);
    assert!(store.answers(Duration::from_secs(20)));
    // A disk that refuses is no reason to start anew: that would not mend it.
    disk.fail(0, i64::MAX - 1);
    assert!(store.commit(put(user("eve@x.io"))).is_err());
    assert!(store.answers(Duration::from_secs(20)));
}
