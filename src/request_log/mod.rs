//! The bodies of requests and answers, where they are asked for: copied while they pass, within bounds; sealed and written
//! to `requests.redb` by a thread of its own; read by those who may. A call never waits for any of it, and a body that
//! finds no room is not kept.

mod capture;
mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::Database;

pub use capture::Capture;

use crate::clock::UnixMillis;
use crate::config;
use crate::domain::UsageRecord;
use crate::seal::SealError;
use crate::store::{Answer, Store, StoreError, handoff};
use crate::usage::ReportFilter;
use crate::usage::offload::{Offload, OffloadError};
use capture::Body;
use writer::Writer;

/// Calls whose bodies wait for the disk; the bodies of more are not kept.
const MAX_QUEUED: usize = 4096;
/// How long a reading waits for bodies on their way to the disk.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
const FILE_NAME: &str = "requests.redb";

/// Why bodies can not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestLogError {
    /// Too many readings at once.
    Busy,
    /// The disk is slow, full or gone.
    Unavailable,
    /// An entry can not be understood, or the disk refused.
    Store(StoreError),
    /// The bodies do not open.
    Sealed(SealError),
    /// The reading broke off; the log says why.
    Failed,
}

impl fmt::Display for RequestLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many readings of the request log at once; try again"),
            Self::Unavailable => f.write_str("bodies can not reach the disk; check the disk and try again"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Sealed(SealError::OtherKey) => f.write_str(
                "the bodies are sealed under another master key; start with the right store.master_key_file",
            ),
            Self::Sealed(_) => {
                f.write_str("the bodies do not open; they were changed or moved outside the gateway")
            }
            Self::Failed => f.write_str("the reading broke off; the gateway's log says why"),
        }
    }
}

impl std::error::Error for RequestLogError {}

/// Where the bodies of a call are: when it began, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogKey([u8; 16]);

/// A call whose bodies are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its bodies are.
    pub key: LogKey,
    /// Its record, as far as it may be seen.
    pub record: UsageRecord,
}

/// What was kept of one body.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedBody {
    /// The bytes as the caller sent or got them; of a long body its beginning.
    pub bytes: Vec<u8>,
    /// How many bytes the body had.
    pub total_bytes: u64,
}

impl LoggedBody {
    /// Whether only the beginning was kept.
    pub fn is_truncated(&self) -> bool {
        self.total_bytes > u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for LoggedBody {
    /// Sizes only: what is in it belongs into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoggedBody({} of {} bytes)", self.bytes.len(), self.total_bytes)
    }
}

/// What was kept of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBodies {
    /// As the caller sent it, whatever the provider was sent.
    pub request: LoggedBody,
    /// As the caller got it; a stream with all its events.
    pub answer: LoggedBody,
}

/// One that can read the log: the running one, or the file of a gateway that is not running.
pub trait RequestLogReader: Send + Sync + fmt::Debug {
    /// The newest call with that request id among those that the filter shows, if its bodies are kept.
    ///
    /// # Errors
    /// When the log can not be read.
    fn find(&self, request_id: &str, filter: &ReportFilter) -> Result<Option<Found>, RequestLogError>;

    /// Whether the bodies of calls are kept, each named by its beginning and its request id. With `flush` what waits is
    /// written first.
    ///
    /// # Errors
    /// When the log can not be read.
    fn are_logged(&self, calls: Vec<(UnixMillis, String)>, flush: bool)
    -> Result<Vec<bool>, RequestLogError>;

    /// The bodies; `None` when they were removed meanwhile.
    ///
    /// # Errors
    /// When the log can not be read, or they do not open.
    fn bodies(&self, key: LogKey) -> Result<Option<LoggedBodies>, RequestLogError>;
}

/// A call on its way to the disk.
struct Pending {
    capture: Capture,
    record: UsageRecord,
}

/// What the writer is told.
#[derive(Default)]
struct Inbox {
    calls: Vec<Pending>,
    flushes: Vec<Answer<bool>>,
    stop: bool,
    closed: bool,
}

/// What captures, the writer and the readers share.
struct Shared {
    path: PathBuf,
    max_body_bytes: usize,
    max_held_bytes: usize,
    /// Bytes of memory that captures hold, those in the queue among them.
    held_bytes: AtomicUsize,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    written: AtomicU64,
    dropped: AtomicU64,
    /// About the bytes on disk.
    disk_bytes: AtomicU64,
    /// A drop was said in the log, and nothing was written since.
    dropping: AtomicBool,
    /// None until the writer has it open, which it does when there is something to write or to read.
    database: RwLock<Option<Database>>,
    store: Arc<Store>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for bytes; false when there is none.
    fn take_room(&self, bytes: usize) -> bool {
        let taken = self.held_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            held.checked_add(bytes).filter(|held| *held <= self.max_held_bytes)
        });
        taken.is_ok()
    }

    /// Counts a call whose bodies are not kept, and says so once until something is written again.
    fn drop_one(&self, why: &str) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if !self.dropping.swap(true, Ordering::AcqRel) {
            log::warn!(
                "request log: the bodies of calls are not kept: {why}; gateway_request_log_dropped_total counts them"
            );
        }
    }

    /// Hands a call to the writer. Never waits.
    fn push(&self, pending: Pending) {
        let mut inbox = self.inbox();
        if inbox.closed || inbox.calls.len() >= MAX_QUEUED {
            drop(inbox);
            self.drop_one("too many wait for the disk");
            return;
        }
        inbox.calls.push(pending);
        let wakes = inbox.calls.len() == 1;
        drop(inbox);
        if wakes {
            self.wake.notify_one();
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLogCounts {
    /// Calls whose bodies were written, by this process.
    pub written: u64,
    /// Calls whose bodies were to be kept and are not, of this process.
    pub dropped: u64,
    /// Bytes of memory that bodies hold now.
    pub held_bytes: u64,
    /// About the bytes of bodies on disk; 0 until the file was opened.
    pub disk_bytes: u64,
}

/// The running request log.
#[derive(Debug)]
pub struct RequestLog {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    offload: Offload,
}

impl RequestLog {
    /// Starts the writer. Without anything to keep there is no file.
    pub fn start(data_dir: &Path, config: &config::RequestLog, store: Arc<Store>) -> Self {
        let shared = Arc::new(Shared {
            path: data_dir.join(FILE_NAME),
            max_body_bytes: config.max_body_bytes,
            max_held_bytes: config.max_held_bytes,
            held_bytes: AtomicUsize::new(0),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
            dropping: AtomicBool::new(false),
            database: RwLock::new(None),
            store,
        });
        let writer = Writer::new(Arc::clone(&shared), config);
        let thread = std::thread::Builder::new()
            .name("request-log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| {
                log::error!("no thread for the request log, which keeps nothing: {error}");
                shared.inbox().closed = true;
            })
            .ok();
        Self { shared, writer: Mutex::new(thread), offload: Offload::default() }
    }

    /// Begins to keep the bodies of a call; `None` when there is no room for its request.
    pub fn capture(&self, request: &[u8]) -> Option<Capture> {
        let capture = Capture::begin(&self.shared, request);
        if capture.is_none() {
            self.shared.drop_one("request_log.max_held_bytes are held");
        }
        capture
    }

    /// What is counted.
    pub fn counts(&self) -> RequestLogCounts {
        let shared = &self.shared;
        RequestLogCounts {
            written: shared.written.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            held_bytes: u64::try_from(shared.held_bytes.load(Ordering::Acquire)).unwrap_or(u64::MAX),
            disk_bytes: shared.disk_bytes.load(Ordering::Relaxed),
        }
    }

    /// Waits until the bodies of every call that ended before this are on disk. From a coroutine or a thread.
    ///
    /// # Errors
    /// When that did not happen in time, or the disk refuses.
    pub fn flush(&self, timeout: Duration) -> Result<(), RequestLogError> {
        let (answer, waiter) = handoff();
        {
            let mut inbox = self.shared.inbox();
            if inbox.closed {
                return Err(RequestLogError::Unavailable);
            }
            inbox.flushes.push(answer);
        }
        self.shared.wake.notify_one();
        match waiter.wait(Some(timeout)) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(RequestLogError::Unavailable),
        }
    }

    /// Writes what there is and ends the writer. Blocks its thread.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        self.shared.inbox().stop = true;
        self.shared.wake.notify_one();
        if writer.join().is_err() {
            log::error!("the writer of the request log panicked");
        }
    }

    /// Reads on a thread of its own.
    fn read<T: Send + Default + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Database) -> Result<T, RequestLogError> + Send + 'static,
    ) -> Result<T, RequestLogError> {
        let shared = Arc::clone(&self.shared);
        let read = self.offload.run(move || {
            let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref() {
                Some(database) => work(&shared, database),
                // Nothing was ever kept.
                None if !shared.path.exists() => Ok(T::default()),
                None => Err(RequestLogError::Unavailable),
            }
        });
        match read {
            Ok(result) => result,
            Err(OffloadError::Busy) => Err(RequestLogError::Busy),
            Err(OffloadError::Failed) => Err(RequestLogError::Failed),
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl RequestLogReader for RequestLog {
    fn find(&self, request_id: &str, filter: &ReportFilter) -> Result<Option<Found>, RequestLogError> {
        if filter.flush {
            self.flush(FLUSH_TIMEOUT)?;
        }
        let (request_id, filter) = (request_id.to_owned(), filter.clone());
        self.read(move |shared, database| file::find(&shared.path, database, &request_id, &filter))
    }

    fn are_logged(
        &self,
        calls: Vec<(UnixMillis, String)>,
        flush: bool,
    ) -> Result<Vec<bool>, RequestLogError> {
        if flush {
            self.flush(FLUSH_TIMEOUT)?;
        }
        let count = calls.len();
        let mut logged =
            self.read(move |shared, database| file::are_logged(&shared.path, database, &calls))?;
        logged.resize(count, false);
        Ok(logged)
    }

    fn bodies(&self, key: LogKey) -> Result<Option<LoggedBodies>, RequestLogError> {
        self.read(move |shared, database| {
            file::bodies(&shared.path, database, shared.store.master_key(), key)
        })
    }
}

/// `requests.redb` of a gateway that is not running. Readings block their thread.
#[derive(Debug)]
pub struct RequestLogFile {
    path: PathBuf,
    store: Arc<Store>,
}

impl RequestLogFile {
    /// The file in that data folder; it need not be there.
    pub fn new(data_dir: &Path, store: Arc<Store>) -> Self {
        Self { path: data_dir.join(FILE_NAME), store }
    }
}

impl RequestLogReader for RequestLogFile {
    fn find(&self, request_id: &str, filter: &ReportFilter) -> Result<Option<Found>, RequestLogError> {
        match file::open_for_reading(&self.path)? {
            Some(database) => file::find(&self.path, &*database, request_id, filter),
            None => Ok(None),
        }
    }

    fn are_logged(&self, calls: Vec<(UnixMillis, String)>, _: bool) -> Result<Vec<bool>, RequestLogError> {
        match file::open_for_reading(&self.path)? {
            Some(database) => file::are_logged(&self.path, &*database, &calls),
            None => Ok(vec![false; calls.len()]),
        }
    }

    fn bodies(&self, key: LogKey) -> Result<Option<LoggedBodies>, RequestLogError> {
        match file::open_for_reading(&self.path)? {
            Some(database) => file::bodies(&self.path, &*database, self.store.master_key(), key),
            None => Ok(None),
        }
    }
}
