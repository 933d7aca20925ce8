//! The truth on disk and its copy in memory: a redb keyspace, one writer thread, and the published snapshot.

mod account;
mod audit;
mod ballast;
pub mod copy;
pub mod data_dir;
mod disk;
mod error;
mod grants;
mod handoff;
mod named;
mod object;
mod records;
pub mod swap;
mod tokens;
mod world;
mod writer;

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use account::{Account, CLIENT_KEY_FIELD, CREDENTIAL_FIELD, model_credential_field};
pub use audit::{AuditChain, AuditFilter, AuditHead, AuditPage};
pub use disk::TABLES as STATE_TABLES;
pub use disk::{lock, open_database};
pub use error::StoreError;
pub use handoff::{Answer, NoAnswer, handoff};
pub use object::{Change, Expect, Key, Object, Write};
pub use world::{Versioned, World, WorldError};

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use redb::Database;

use crate::clock::UnixMillis;
use crate::seal::MasterKey;
use ballast::Ballast;
use copy::DatabaseCopy;
use disk::Loaded;
use writer::{Job, Reopen, Writer};

/// Changes that wait for the writer; one more is answered [`CommitError::Busy`].
const MAX_QUEUED_CHANGES: usize = 1024;

/// Why a change was not committed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// An object is not as the change supposed.
    Conflict(Key),
    /// Too many changes wait for the disk, or the store is closed.
    Busy,
    /// The disk refused. Nothing changed, unless the disk failed in the very moment of the commit: then what
    /// the disk has decides as soon as it can be read again.
    Disk,
    /// The change holds an object that can not be used.
    Invalid(WorldError),
}

/// Whether the store is one that `serve --demo` made, or is to be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demo {
    /// It is.
    Yes,
    /// It is not.
    #[default]
    No,
}

impl Demo {
    fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
        }
    }
}

/// How to open a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A demo's store is opened as a demo only, any other never.
    pub demo: Demo,
}

/// The state at one moment.
#[derive(Debug)]
pub struct StateCopy {
    /// Its rows.
    pub copy: DatabaseCopy,
    /// Its revision.
    pub revision: u64,
    /// The head of its audit log; empty when that is broken.
    pub audit: AuditHead,
    /// The first audit record that does not follow from the one before.
    pub broken_at: Option<u64>,
}

/// The name of the state's database.
pub const STATE_FILE: &str = "state.redb";

/// What the writer and the callers share.
#[derive(Debug)]
struct Shared {
    current: ArcSwap<World>,
    master_key: MasterKey,
    /// None while the writer has it closed. Callers read, only the writer opens and closes.
    database: RwLock<Option<Database>>,
    revision: Mutex<u64>,
    published: Condvar,
}

impl Shared {
    fn publish(&self, world: World) {
        let revision = world.revision();
        self.current.store(Arc::new(world));
        *self.revision.lock().unwrap_or_else(PoisonError::into_inner) = revision;
        self.published.notify_all();
    }
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    path: PathBuf,
    jobs: Mutex<Option<SyncSender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens `state.redb` in a folder that [`data_dir::prepare`] has seen, making it when there is none.
    ///
    /// # Errors
    /// When another process holds it, it needs another key or version, or anything in it can not be read.
    pub fn open(data_dir: &Path, master_key: MasterKey, options: Options) -> Result<Self, StoreError> {
        Self::open_with(data_dir, master_key, options, disk::MIGRATIONS)
    }

    fn open_with(
        data_dir: &Path,
        master_key: MasterKey,
        options: Options,
        migrations: &[disk::Migration],
    ) -> Result<Self, StoreError> {
        let lock = disk::lock(data_dir)?;
        swap::finish(data_dir)?;
        let path = data_dir.join(STATE_FILE);
        let mut ballast = Ballast::new(data_dir);
        let open = || disk::open_state(&path, &master_key, options.demo, migrations);
        let database = match open() {
            // Even opening writes: on a full disk it needs the ballast's room.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                ballast.release();
                open()?
            }
            other => other?,
        };
        let loaded = disk::load(&path, &database, &master_key, options.demo)?;
        // It was there a moment ago: when it is not, that is no reason to make a new, empty one.
        let file = path.clone();
        let reopen = move || {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(disk::CACHE_BYTES);
            builder.open(&file).map_err(|error| StoreError::from_redb(&file, error))
        };
        Self::start(path, master_key, database, loaded, |shared, jobs, path, audit| Writer {
            shared,
            jobs,
            path,
            reopen: Box::new(reopen) as Reopen,
            audit,
            ballast: Some(ballast),
            in_doubt: None,
            warned_at: None,
            lock: Some(lock),
        })
    }

    /// A store in memory, with the same writer as one on disk.
    #[cfg(test)]
    pub fn in_memory(master_key: MasterKey) -> Self {
        let database =
            redb::Builder::new().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        Self::on_database(master_key, database, || Err(StoreError::Unavailable))
    }

    #[cfg(test)]
    fn on_database(
        master_key: MasterKey,
        database: Database,
        reopen: impl Fn() -> Result<Database, StoreError> + Send + 'static,
    ) -> Self {
        let path = PathBuf::from("memory");
        let transaction = database.begin_write().unwrap();
        disk::initialise(&transaction, &master_key, Demo::No, 1).unwrap();
        transaction.commit().unwrap();
        let loaded = disk::load(&path, &database, &master_key, Demo::No).unwrap();
        Self::start(path, master_key, database, loaded, |shared, jobs, path, audit| Writer {
            shared,
            jobs,
            path,
            reopen: Box::new(reopen),
            audit,
            ballast: None,
            in_doubt: None,
            warned_at: None,
            lock: None,
        })
        .unwrap()
    }

    fn start(
        path: PathBuf,
        master_key: MasterKey,
        database: Database,
        loaded: Loaded,
        writer: impl FnOnce(Arc<Shared>, Receiver<Job>, PathBuf, AuditHead) -> Writer,
    ) -> Result<Self, StoreError> {
        let (sender, jobs) = sync_channel(MAX_QUEUED_CHANGES);
        let shared = Arc::new(Shared {
            revision: Mutex::new(loaded.world.revision()),
            current: ArcSwap::from_pointee(loaded.world),
            master_key,
            database: RwLock::new(Some(database)),
            published: Condvar::new(),
        });
        let writer = writer(Arc::clone(&shared), jobs, path.clone(), loaded.audit);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::io(&path, error))?;
        Ok(Self { shared, path, jobs: Mutex::new(Some(sender)), writer: Mutex::new(Some(thread)) })
    }

    /// The present state. Hold it for one call, not longer.
    pub fn snapshot(&self) -> Arc<World> {
        self.shared.current.load_full()
    }

    /// The key that seals credentials.
    pub fn master_key(&self) -> &MasterKey {
        &self.shared.master_key
    }

    /// The state that a change would make of another, as far as can be told without committing it. What the change
    /// supposes is not checked.
    ///
    /// # Errors
    /// When the change holds an object that can not be used.
    pub fn preview(&self, world: &World, change: &Change) -> Result<World, WorldError> {
        let mut after = world.clone();
        let revision = world.revision().saturating_add(1);
        for write in &change.writes {
            match write {
                Write::Put(object, _) => after.put(object.clone(), revision, &self.shared.master_key)?,
                Write::Delete(key, _) => after.remove(key, revision),
                Write::Check(..) | Write::PruneAudit(_) => {}
            }
        }
        Ok(after)
    }

    /// Commits a change: on disk with fsync, then published, then this returns its revision. Waits without
    /// blocking a worker when called in a coroutine.
    ///
    /// # Errors
    /// Nothing of the change has happened then; see [`CommitError::Disk`] for the one exception.
    pub fn commit(&self, change: Change) -> Result<u64, CommitError> {
        let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Err(CommitError::Busy);
        };
        let (answer, waiter) = handoff();
        match jobs.try_send(Job { change, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(CommitError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(CommitError::Disk),
        }
        // While a clone of the sender lives the writer does not stop.
        drop(jobs);
        waiter.wait(None).unwrap_or(Err(CommitError::Disk))
    }

    /// Whether the writer answers in time, whatever it has to say of its disk. A change that holds nothing passes through
    /// it and leaves no trace. Blocks its thread: not for a worker.
    pub fn answers(&self, patience: Duration) -> bool {
        let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            // Closed, which is how it ends.
            return true;
        };
        let (answer, waiter) = handoff();
        let sent = jobs.try_send(Job { change: Change::default(), answer });
        drop(jobs);
        sent.is_ok() && waiter.wait(Some(patience)).is_ok()
    }

    /// Waits until the revision is past `seen`, at most that long, and returns the present one. Blocks its thread:
    /// for a thread of its own, not for a coroutine.
    pub fn wait_for_revision(&self, seen: u64, timeout: Duration) -> u64 {
        let revision = self.shared.revision.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.shared.published.wait_timeout_while(revision, timeout, |revision| *revision <= seen);
        let (revision, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *revision
    }

    /// Checks every link of the audit log. Reads the disk: for an OS thread.
    ///
    /// # Errors
    /// The first record that does not follow, or the disk's refusal.
    pub fn verify_audit_chain(&self) -> Result<AuditHead, StoreError> {
        self.audit_chain(None).map(|chain| chain.head)
    }

    /// Checks every link of the audit log, and whether a head that was noted earlier is in it. Reads the disk: for
    /// an OS thread.
    ///
    /// # Errors
    /// The first record that does not follow, or the disk's refusal.
    pub fn audit_chain(&self, noted: Option<&str>) -> Result<AuditChain, StoreError> {
        self.on_disk(|path, database| audit::verify(path, database, &self.shared.master_key, noted))
    }

    /// The state as it is now, for a backup, with where its audit log stands: the head and the first record that does not
    /// follow. Reads all of the audit log: for an OS thread.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn copy(&self) -> Result<StateCopy, StoreError> {
        let copy =
            self.on_disk(|path, database| DatabaseCopy::begin(STATE_FILE, disk::TABLES, path, database))?;
        // No lock while so much is read: a change that failed has the database opened again.
        let revision = disk::revision_in(&self.path, copy.transaction())?;
        let verified = audit::verify_in(&self.path, copy.transaction(), self.master_key(), None);
        let (audit, broken_at) = match verified {
            Ok(chain) => (chain.head, None),
            Err(StoreError::AuditBroken { seq }) => (AuditHead::EMPTY, Some(seq)),
            Err(error) => return Err(error),
        };
        Ok(StateCopy { copy, revision, audit, broken_at })
    }

    /// Entries of the audit log, the newest first. Reads the disk: for an OS thread.
    ///
    /// # Errors
    /// A record that can not be read, or the disk's refusal.
    pub fn read_audit(&self, filter: &AuditFilter) -> Result<AuditPage, StoreError> {
        self.on_disk(|path, database| audit::read(path, database, filter))
    }

    /// The last of the oldest audit records, at most `max`, that are from before a time; for [`Write::PruneAudit`].
    /// Their links are checked: what was tampered with is not pruned away. Reads the disk: for an OS thread.
    ///
    /// # Errors
    /// A record that does not follow, or the disk's refusal.
    pub fn prunable_audit(&self, before: UnixMillis, max: usize) -> Result<Option<AuditHead>, StoreError> {
        self.on_disk(|path, database| audit::prunable(path, database, &self.shared.master_key, before, max))
    }

    fn on_disk<T>(
        &self,
        read: impl FnOnce(&Path, &Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        read(&self.path, database.as_ref().ok_or(StoreError::Unavailable)?)
    }

    /// Finishes what is queued, closes the files and gives the folder free. Later commits are refused; the
    /// snapshot stays. Blocks its thread.
    pub fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            log::error!("the store's writer panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
