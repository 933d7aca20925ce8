//! The thread that writes `requests.redb`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use redb::Database;

use super::file::{self, Entry, Keep};
use super::{Pending, Shared};
use crate::clock::UnixMillis;
use crate::config;
use crate::store::StoreError;

/// How long the first of a batch waits for others: what a crash can lose.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Calls of one transaction.
const MAX_BATCH: usize = 64;
/// Bytes of bodies in one transaction, but for the last.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Entries removed in one transaction, so that new ones never wait long.
const PRUNE_STEP: usize = 100;
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// From one failed attempt at it to the next.
const PRUNE_RETRY: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The writing thread's own things.
pub(super) struct Writer {
    shared: Arc<Shared>,
    retention_ms: u64,
    max_total_bytes: u64,
    /// Taken out of the queue and not on disk yet.
    pending: Vec<Pending>,
    /// Read from the file once; what a failed write left there must not count twice.
    next_seq: Option<u64>,
    write_at: Option<Instant>,
    /// `None`: there is no file.
    prune_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, config: &config::RequestLog) -> Self {
        Self {
            shared,
            retention_ms: config.retention_days.saturating_mul(86_400_000),
            max_total_bytes: config.max_total_bytes,
            pending: Vec::new(),
            next_seq: None,
            write_at: None,
            prune_at: None,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        if self.shared.path.exists() {
            self.prune_at = Some(Instant::now());
        }
        loop {
            let flushes = {
                let shared = Arc::clone(&self.shared);
                let mut inbox = shared.inbox();
                loop {
                    if inbox.stop || !inbox.flushes.is_empty() {
                        break;
                    }
                    let now = Instant::now();
                    if self.write_at.is_none() && !inbox.calls.is_empty() {
                        self.write_at = Some(now + FLUSH_INTERVAL);
                    }
                    let wake_at = [self.write_at, self.prune_at].into_iter().flatten().min();
                    let left = wake_at.map(|at| at.saturating_duration_since(now));
                    inbox = match left {
                        Some(Duration::ZERO) => break,
                        Some(left) => {
                            shared.wake.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0
                        }
                        None => shared.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                    };
                }
                if inbox.stop {
                    break;
                }
                std::mem::take(&mut inbox.flushes)
            };
            let now = Instant::now();
            // First: it opens a file that is there, which whoever flushes is about to read.
            if self.prune_at.is_some_and(|at| at <= now) {
                self.prune();
            }
            if !flushes.is_empty() || self.write_at.is_some_and(|at| at <= now) {
                let written = self.write();
                for answer in flushes {
                    answer.send(written);
                }
            }
        }
        {
            let mut inbox = self.shared.inbox();
            inbox.closed = true;
            inbox.flushes.clear();
        }
        if !self.write() {
            let lost = self.pending.len() + self.shared.inbox().calls.len();
            log::error!("request log: the bodies of {lost} calls are lost");
        }
        self.pending.clear();
        self.shared.inbox().calls.clear();
        self.close();
    }

    /// Puts all that waits on disk, some at a time. When that fails it stays, and is tried again.
    fn write(&mut self) -> bool {
        loop {
            if self.pending.is_empty() {
                let mut inbox = self.shared.inbox();
                let (mut count, mut bytes) = (0, 0_usize);
                for call in inbox.calls.iter().take(MAX_BATCH) {
                    if bytes >= MAX_BATCH_BYTES {
                        break;
                    }
                    count += 1;
                    bytes = bytes.saturating_add(call.capture.request.bytes.len());
                    bytes = bytes.saturating_add(call.capture.answer.bytes.len());
                }
                self.pending = inbox.calls.drain(..count).collect();
            }
            if self.pending.is_empty() {
                self.write_at = None;
                // After a failure the file is closed; who waits for a reading wants it open again.
                return self.prune_at.is_none() || self.open().is_ok();
            }
            match self.try_write() {
                Ok(()) => {
                    let count = u64::try_from(self.pending.len()).unwrap_or(0);
                    self.shared.written.fetch_add(count, Ordering::Relaxed);
                    self.shared.dropping.store(false, Ordering::Release);
                    self.pending.clear();
                }
                Err(error) => {
                    log::error!("request log: bodies can not be written: {error}; trying again");
                    // After one failed write redb refuses everything until it is opened again.
                    self.close();
                    self.write_at = Some(Instant::now() + RETRY_INTERVAL);
                    return false;
                }
            }
        }
    }

    fn try_write(&mut self) -> Result<(), StoreError> {
        self.open()?;
        let first = self.next_seq.unwrap_or(0);
        let mut entries: Vec<Entry> = Vec::with_capacity(self.pending.len());
        for (call, seq) in self.pending.iter().zip(first..) {
            let bodies = (&call.capture.request, &call.capture.answer);
            match file::seal(self.shared.store.master_key(), seq, &call.record, bodies) {
                Ok(entry) => entries.push(entry),
                // It would fail the next time as well.
                Err(error) => {
                    log::error!("request log: bodies can not be sealed and are not kept: {error}");
                    self.shared.drop_one("they can not be sealed");
                }
            }
        }
        let next = first.saturating_add(u64::try_from(self.pending.len()).unwrap_or(0));
        self.change(&entries, next, PRUNE_STEP + entries.len())?;
        self.next_seq = Some(next);
        Ok(())
    }

    /// Removes some of what is too old or too much, and says when to go on.
    fn prune(&mut self) {
        let removed = self.open().and_then(|()| self.change(&[], self.next_seq.unwrap_or(0), PRUNE_STEP));
        let pause = match removed {
            Ok(removed) if removed < PRUNE_STEP => PRUNE_INTERVAL,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                log::error!("request log: old bodies can not be removed: {error}");
                self.close();
                PRUNE_RETRY
            }
        };
        self.prune_at = Some(Instant::now() + pause);
    }

    /// One transaction; how many entries it removed.
    fn change(&self, entries: &[Entry], next_seq: u64, step: usize) -> Result<usize, StoreError> {
        let since = UnixMillis(UnixMillis::now().0.saturating_sub(self.retention_ms));
        let keep = Keep { since, max_bytes: self.max_total_bytes, step };
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreError::Unavailable)?;
        let written = file::write(&self.shared.path, database, entries, next_seq, keep)?;
        self.shared.disk_bytes.store(written.bytes, Ordering::Relaxed);
        Ok(written.removed)
    }

    fn open(&mut self) -> Result<(), StoreError> {
        if self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let (database, next_seq, bytes) = file::open(&self.shared.path)?;
        self.next_seq = self.next_seq.or(Some(next_seq));
        self.shared.disk_bytes.store(bytes, Ordering::Relaxed);
        *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        self.prune_at.get_or_insert(Instant::now() + PRUNE_INTERVAL);
        Ok(())
    }

    fn close(&self) {
        let database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = database.map(Database::close) {
            log::warn!("closing the request log: {error}");
        }
    }
}
