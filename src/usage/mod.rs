//! Accounting: a place for a record is taken before a call begins, so that settling it can not fail or wait.
//! A writer of its own puts records into `usage.redb` in batches; a crash loses at most one flush interval.

mod aggregate;
mod copy;
mod encode;
mod export;
mod figures;
mod group;
mod histogram;
mod inbox;
mod last_used;
pub mod offload;
mod read;
mod recent;
mod report;
mod scan;
mod writer;

#[cfg(test)]
mod aggregate_tests;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use copy::{USAGE_FILE, USAGE_TABLES};
pub use export::{ExportCursor, ExportPage};
pub use figures::Figures;
pub use recent::{RecentCursor, RecentFilter, RecentPage};
pub use report::{GroupKey, MAX_KEYS, ReportFilter, ReportRow, UsageFile, UsageReader};
pub use scan::Since;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::Database;

use crate::clock::UnixMillis;
use crate::config;
use crate::domain::{UsageRecord, UsageScope};
use crate::id::TokenId;
use crate::store::copy::DatabaseCopy;
use crate::store::{NoAnswer, StoreError, handoff};
use inbox::Inbox;
use last_used::LastUsed;
use offload::{Offload, OffloadError};
use writer::Writer;

/// Bytes of metadata in records that are not on disk yet; what a caller sends beyond that is left out of the record, so
/// that a disk that fails for long does not fill the memory.
const MAX_QUEUED_METADATA_BYTES: usize = 32 * 1024 * 1024;
/// How long one report may read: others wait for it, and so would the file for its old pages.
const REPORT_TIME_LIMIT: Duration = Duration::from_secs(30);
/// The same for those who see only a part of it: what they ask for must not keep admins waiting for long.
const MEMBERS_REPORT_TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long a report waits for records on their way to the disk.
const REPORT_FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// As many calls run as records can be kept; no further call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// Why usage can not be read or flushed.
#[derive(Debug)]
#[non_exhaustive]
pub enum UsageError {
    /// Too many reports at once.
    Busy,
    /// The records are not on disk yet: the disk is slow, full or gone.
    Unavailable,
    /// The report would have more rows than there is room for.
    TooManyRows,
    /// The report would have to read more than there is time for.
    TooLong,
    /// A record can not be understood, or the disk refused.
    Store(StoreError),
    /// The report broke off; the log says why.
    Failed,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many reports are being made; try again"),
            Self::Unavailable => {
                f.write_str("usage records can not reach the disk; check the disk and try again")
            }
            Self::TooManyRows => {
                write!(f, "the report has more than {} rows; ask for fewer keys or days", report::MAX_ROWS)
            }
            Self::TooLong => write!(
                f,
                "the report reads for more than {} s ({} s for admins); ask for fewer days, or for keys that hourly sums have",
                MEMBERS_REPORT_TIME_LIMIT.as_secs(),
                REPORT_TIME_LIMIT.as_secs()
            ),
            Self::Store(error) => write!(f, "{error}"),
            Self::Failed => f.write_str("the report broke off; the gateway's log says why"),
        }
    }
}

impl std::error::Error for UsageError {}

/// What the writer, the slots and the readers share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    max_records: usize,
    /// Places taken, by calls in flight and by records that are not on disk yet.
    taken: AtomicUsize,
    inbox: Inbox,
    /// Bytes of metadata in the inbox and in what the writer holds.
    metadata_bytes: AtomicUsize,
    /// Calls that were served although nothing could be accounted for.
    unaccounted_calls: AtomicU64,
    last_used: LastUsed,
    /// Calls that found no row of their own in the hourly sums.
    unsorted_calls: AtomicU64,
    /// The last write failed.
    failing: AtomicBool,
    /// None until the writer has it open.
    database: RwLock<Option<Database>>,
}

impl Shared {
    /// These records are on disk: their places are free.
    fn give_back(&self, records: &[UsageRecord]) {
        self.taken.fetch_sub(records.len(), Ordering::AcqRel);
        let bytes = records.iter().map(metadata_bytes).sum();
        self.metadata_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Leaves the metadata out of a record when too much waits already.
    fn bound_metadata(&self, record: &mut UsageRecord) {
        let bytes = metadata_bytes(record);
        let fits = |queued: usize| {
            let all = queued.saturating_add(bytes);
            (all <= MAX_QUEUED_METADATA_BYTES).then_some(all)
        };
        if bytes > 0 && self.metadata_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            record.metadata.clear();
        }
    }
}

/// What a record's metadata takes, about.
fn metadata_bytes(record: &UsageRecord) -> usize {
    record.metadata.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum()
}

/// A place for one record. Dropped unsettled it is free again.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Slot {
    shared: Arc<Shared>,
    /// There is a place to give back.
    has_place: bool,
    /// The record will be counted, not kept.
    is_unaccounted: bool,
}

impl Slot {
    /// Hands the record to the writer. Never waits; only after shutdown is it lost, which the log then says.
    pub fn settle(mut self, mut record: UsageRecord) {
        if self.is_unaccounted {
            if self.shared.unaccounted_calls.fetch_add(1, Ordering::Relaxed) == 0 {
                log::error!(
                    "calls are served without a record: usage can not be written, all places are taken, and limits_when_accounting_fails is 'serve'"
                );
            }
            return;
        }
        self.shared.bound_metadata(&mut record);
        match self.shared.inbox.push(record) {
            // The writer gives the place back once the record is on disk.
            Ok(()) => self.has_place = false,
            Err(_) => log::error!("a usage record came after the end and is lost"),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.has_place {
            self.shared.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The running accounting.
#[derive(Debug)]
pub struct Usage {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    offload: Offload,
    /// Who waits for a report, admins left out: one at a time each, so that nobody takes all places.
    waiting: Mutex<HashSet<String>>,
}

/// Whose report is being made.
struct Turn<'u>(&'u Usage, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Usage {
    /// Starts the writer, which opens `usage.redb` by itself: this never waits for the disk. Until it is open
    /// records queue up within their bound.
    pub fn start(data_dir: &Path, config: &config::Usage) -> Self {
        let shared = Arc::new(Shared {
            path: data_dir.join(USAGE_FILE),
            max_records: config.max_queued_records,
            taken: AtomicUsize::new(0),
            inbox: Inbox::default(),
            metadata_bytes: AtomicUsize::new(0),
            unaccounted_calls: AtomicU64::new(0),
            last_used: LastUsed::default(),
            unsorted_calls: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            database: RwLock::new(None),
        });
        let writer = Writer::new(Arc::clone(&shared), config);
        let thread = std::thread::Builder::new()
            .name("usage-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| log::error!("no thread for usage records: {error}"))
            .ok();
        Self { shared, writer: Mutex::new(thread), offload: Offload::default(), waiting: Mutex::default() }
    }

    /// Takes a place for the record of a call that is about to begin.
    ///
    /// # Errors
    /// When all `usage.max_queued_records` are taken.
    pub fn reserve(&self) -> Result<Slot, NoRoom> {
        self.shared
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.shared.max_records).then_some(taken + 1)
            })
            .map_err(|_| NoRoom)?;
        Ok(Slot { shared: Arc::clone(&self.shared), has_place: true, is_unaccounted: false })
    }

    /// Lets a call begin that will leave no record but a count: for when records can not be written, no place is free,
    /// and calls are to be served all the same.
    pub fn without_record(&self) -> Slot {
        Slot { shared: Arc::clone(&self.shared), has_place: false, is_unaccounted: true }
    }

    /// Calls of this process that were served and left no record.
    pub fn unaccounted_calls(&self) -> u64 {
        self.shared.unaccounted_calls.load(Ordering::Relaxed)
    }

    /// Whether records could not be written when that was last tried.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Acquire)
    }

    /// A token was used just now.
    pub fn token_used(&self, token: &TokenId, now: UnixMillis) {
        self.shared.last_used.see(token, now);
    }

    /// Forgets when tokens that are no more were last used. `state` gives what tells whether a token is there, of the
    /// present state each time.
    pub fn forget_tokens<K: Fn(&TokenId) -> bool>(&self, state: impl Fn() -> K) {
        let forgotten = self.shared.last_used.forget(state);
        if forgotten > 0 {
            log::debug!("the last uses of {forgotten} tokens that are no more were forgotten");
        }
    }

    /// Uses of tokens whose time was not kept, because those of too many are.
    pub fn unrecorded_uses(&self) -> u64 {
        self.shared.last_used.unrecorded()
    }

    /// Calls of this process that found no row of their own in the hourly sums: reports from those count them, and
    /// do not say whose they were.
    pub fn unsorted_calls(&self) -> u64 {
        self.shared.unsorted_calls.load(Ordering::Relaxed)
    }

    /// Places taken: calls in flight and records that are not on disk yet.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Acquire)
    }

    /// Waits until every record settled before this is on disk. From a coroutine or a thread.
    ///
    /// # Errors
    /// When that did not happen in time, or the disk refuses.
    pub fn flush(&self, timeout: Duration) -> Result<(), UsageError> {
        let (answer, waiter) = handoff();
        if !self.shared.inbox.flush(answer) {
            return Err(UsageError::Unavailable);
        }
        match waiter.wait(Some(timeout)) {
            Ok(true) => Ok(()),
            Ok(false) | Err(NoAnswer::Lost | NoAnswer::TimedOut) => Err(UsageError::Unavailable),
        }
    }

    /// Writes what there is and ends the writer. Records settled later are lost. Blocks its thread.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        self.shared.inbox.stop();
        if writer.join().is_err() {
            log::error!("the writer of usage records panicked");
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.close();
    }
}

impl UsageReader for Usage {
    fn last_used(&self, token: &TokenId) -> Option<UnixMillis> {
        self.shared.last_used.get(token)
    }

    fn copy(&self) -> Result<Option<DatabaseCopy>, UsageError> {
        // What was settled before is in it.
        self.flush(REPORT_FLUSH_TIMEOUT)?;
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        copy::begin(&self.shared.path, database.as_ref().ok_or(UsageError::Unavailable)?).map(Some)
    }

    fn session_used(&self, session: &TokenId, now: UnixMillis) {
        self.token_used(session, now);
    }

    /// Reads on a thread of its own.
    fn report(&self, filter: &ReportFilter) -> Result<Vec<ReportRow>, UsageError> {
        if filter.flush {
            self.flush(REPORT_FLUSH_TIMEOUT)?;
        }
        let (_turn, limit) = match &filter.scope {
            UsageScope::All => (None, REPORT_TIME_LIMIT),
            UsageScope::Limited { subject, .. } => (Some(self.turn(subject)?), MEMBERS_REPORT_TIME_LIMIT),
        };
        let filter = filter.clone();
        self.read(move |path, database| report::read(path, database, &filter, Some(limit)))
    }

    /// Reads on a thread of its own, as reports do, which take turns with it.
    fn export(&self, filter: &ReportFilter, from: Option<ExportCursor>) -> Result<ExportPage, UsageError> {
        if filter.flush && from.is_none() {
            self.flush(REPORT_FLUSH_TIMEOUT)?;
        }
        let filter = filter.clone();
        self.read(move |path, database| export::read(path, database, &filter, from))
    }

    /// Reads on a thread of its own, as reports do, which take turns with it.
    fn recent(&self, filter: &RecentFilter) -> Result<RecentPage, UsageError> {
        if filter.calls.flush && filter.before.is_none() {
            self.flush(REPORT_FLUSH_TIMEOUT)?;
        }
        let (_turn, limit) = match &filter.calls.scope {
            UsageScope::All => (None, REPORT_TIME_LIMIT),
            UsageScope::Limited { subject, .. } => {
                (Some(self.turn(&format!("recent {subject}"))?), MEMBERS_REPORT_TIME_LIMIT)
            }
        };
        let filter = filter.clone();
        self.read(move |path, database| recent::read(path, database, &filter, Some(limit)))
    }
}

impl Usage {
    fn turn(&self, subject: &str) -> Result<Turn<'_>, UsageError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.insert(subject.to_owned());
        drop(waiting);
        is_first.then(|| Turn(self, subject.to_owned())).ok_or(UsageError::Busy)
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Database) -> Result<T, UsageError> + Send + 'static,
    ) -> Result<T, UsageError> {
        let shared = Arc::clone(&self.shared);
        let read = self.offload.run(move || {
            let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_ref().ok_or(UsageError::Unavailable)?;
            work(&shared.path, database)
        });
        match read {
            Ok(result) => result,
            Err(OffloadError::Busy) => Err(UsageError::Busy),
            Err(OffloadError::Failed) => Err(UsageError::Failed),
        }
    }
}
