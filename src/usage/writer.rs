//! The thread that writes `usage.redb`.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Message, Shared};
use crate::clock::UnixMillis;
use crate::config;
use crate::domain::UsageRecord;
use crate::store::{StoreError, open_database};

/// (at, seq), each 8 bytes big endian -> a record as compact JSON.
pub(super) const RECORDS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const NEXT_SEQ: &str = "next_seq";
const SCHEMA_VERSION: &str = "schema_version";
const SCHEMA: u64 = 1;

const CACHE_BYTES: usize = 2 * 1024 * 1024;
/// Records that are written without waiting for the interval's end.
const MAX_BATCH: usize = 4096;
/// Old records removed in one transaction, so that new ones never wait long.
const PRUNE_STEP: usize = 2000;
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The writing thread's own things.
pub(super) struct Writer {
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    flush_interval: Duration,
    retention: Duration,
    pending: Vec<UsageRecord>,
    /// When the pending records are written; None while there are none.
    write_at: Option<Instant>,
    prune_at: Instant,
    /// Read from the file once; what a failed write left there must not count twice.
    next_seq: Option<u64>,
}

/// Where a record of that time and number lies.
pub(super) fn record_key(at: UnixMillis, seq: u64) -> [u8; 16] {
    (u128::from(at.0) << 64 | u128::from(seq)).to_be_bytes()
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, messages: Receiver<Message>, config: &config::Usage) -> Self {
        Self {
            shared,
            messages,
            flush_interval: Duration::from_millis(config.flush_interval_ms),
            retention: Duration::from_secs(config.retention_days.saturating_mul(86_400)),
            pending: Vec::new(),
            write_at: None,
            prune_at: Instant::now(),
            next_seq: None,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        if let Err(error) = self.open() {
            log::error!("usage records: {error}; trying again");
        }
        loop {
            let wake_at = self.write_at.map_or(self.prune_at, |write_at| write_at.min(self.prune_at));
            match self.messages.recv_timeout(wake_at.saturating_duration_since(Instant::now())) {
                Ok(Message::Record(record)) => self.take(*record),
                Ok(Message::Flush(answer)) => answer.send(self.write()),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if self.write_at.is_some_and(|write_at| write_at <= now) {
                self.write();
            }
            if self.prune_at <= now {
                self.prune();
            }
        }
        while let Ok(message) = self.messages.try_recv() {
            if let Message::Record(record) = message {
                self.pending.push(*record);
            }
        }
        if !self.write() {
            log::error!("{} usage records are lost", self.pending.len());
        }
        self.close();
    }

    fn take(&mut self, record: UsageRecord) {
        self.pending.push(record);
        let now = Instant::now();
        match self.write_at {
            None => self.write_at = Some(now + self.flush_interval),
            // Not after a failure: then it waits for the retry.
            Some(_) if self.pending.len() == MAX_BATCH => self.write_at = Some(now),
            Some(_) => {}
        }
    }

    /// Puts all pending records on disk. When that fails they stay, and are tried again.
    fn write(&mut self) -> bool {
        match self.try_write() {
            Ok(()) => {
                self.shared.taken.fetch_sub(self.pending.len(), Ordering::AcqRel);
                self.pending.clear();
                self.pending.shrink_to(MAX_BATCH);
                self.write_at = None;
                true
            }
            Err(error) => {
                log::error!("usage records can not be written: {error}; trying again");
                // After one failed write redb refuses everything until it is opened again.
                self.close();
                self.write_at = (!self.pending.is_empty()).then(|| Instant::now() + RETRY_INTERVAL);
                false
            }
        }
    }

    fn try_write(&mut self) -> Result<(), StoreError> {
        self.open()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let first = self.next_seq.unwrap_or(0);
        let next = self.transact(|transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            let mut seq = first;
            for record in &self.pending {
                let value = serde_json::to_vec(record).map_err(std::io::Error::from)?;
                records.insert(&record_key(record.at, seq), value.as_slice())?;
                seq += 1;
            }
            transaction.open_table(META)?.insert(NEXT_SEQ, seq)?;
            Ok(seq)
        })?;
        self.next_seq = Some(next);
        Ok(())
    }

    /// Removes some of what is older than the retention, and says when to go on.
    fn prune(&mut self) {
        let now = UnixMillis::now();
        let retention_ms = u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX);
        let end = record_key(UnixMillis(now.0.saturating_sub(retention_ms)), 0);
        let removed = self.open().and_then(|()| {
            self.transact(|transaction| {
                let mut records = transaction.open_table(RECORDS)?;
                let old: Vec<[u8; 16]> = records
                    .range::<&[u8; 16]>(..&end)?
                    .take(PRUNE_STEP)
                    .map(|item| item.map(|(key, _)| *key.value()))
                    .collect::<Result<_, _>>()?;
                for key in &old {
                    records.remove(key)?;
                }
                Ok(old.len())
            })
        });
        let pause = match removed {
            Ok(removed) if removed < PRUNE_STEP => PRUNE_INTERVAL,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                log::error!("old usage records can not be removed: {error}");
                self.close();
                PRUNE_INTERVAL
            }
        };
        self.prune_at = Instant::now() + pause;
    }

    fn transact<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let failed = |error: redb::Error| StoreError::from_redb(&self.shared.path, error);
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreError::Unavailable)?;
        let mut transaction = database.begin_write().map_err(|e| failed(e.into()))?;
        // Or a crash would mean a walk over all records at the next start.
        transaction.set_quick_repair(true);
        let done = work(&transaction).map_err(failed)?;
        transaction.commit().map_err(|e| failed(e.into()))?;
        Ok(done)
    }

    fn open(&mut self) -> Result<(), StoreError> {
        let path = &self.shared.path;
        if self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let database = open_database(path, CACHE_BYTES, false, |transaction| {
            transaction.open_table(RECORDS)?;
            transaction.open_table(META)?.insert(SCHEMA_VERSION, SCHEMA)?;
            Ok(())
        })?;
        let (schema, next_seq) = read_meta(&database).map_err(|e| StoreError::from_redb(path, e))?;
        if schema != SCHEMA {
            let found = u32::try_from(schema).unwrap_or(u32::MAX);
            return Err(StoreError::NewerSchema { found, known: 1 });
        }
        self.next_seq = self.next_seq.or(Some(next_seq));
        *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(())
    }

    fn close(&self) {
        let database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = database.map(Database::close) {
            log::warn!("closing the usage records: {error}");
        }
    }
}

fn read_meta(database: &Database) -> Result<(u64, u64), redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let schema = meta.get(SCHEMA_VERSION)?.map_or(0, |value| value.value());
    let next_seq = meta.get(NEXT_SEQ)?.map_or(0, |value| value.value());
    Ok((schema, next_seq))
}

/// Opens the file for reading; None when there is none yet.
pub(super) fn open_for_reading(
    path: &std::path::Path,
) -> Result<Option<Box<dyn ReadableDatabase + Send + Sync>>, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    if !path.exists() {
        return Ok(None);
    }
    match builder.open_read_only(path) {
        Ok(database) => Ok(Some(Box::new(database))),
        // What a crash left needs a repair, which needs writing.
        Err(redb::DatabaseError::RepairAborted) => {
            let database = builder.open(path).map_err(|e| StoreError::from_redb(path, e))?;
            Ok(Some(Box::new(database)))
        }
        Err(error) => Err(StoreError::from_redb(path, error)),
    }
}
