//! The thread that writes `usage.redb`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};

use super::Shared;
use super::aggregate::{Aggregator, hour_of};
use super::encode;
use super::inbox::MAX_BATCH;
use super::last_used::{IdBytes, minute_of};
use super::read::page;
use crate::clock::UnixMillis;
use crate::config;
use crate::domain::UsageRecord;
use crate::store::{StoreError, open_database};

/// (time of the earliest, number of the first), each 8 bytes big endian -> a page of records: one compact JSON
/// object a line, ordered by time. A page costs the tree what a single record would.
pub(super) const RECORDS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("records");
/// Token id -> minute of its last use.
pub(super) const LAST_USED: TableDefinition<'static, &IdBytes, u32> = TableDefinition::new("last_used");
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const NEXT_SEQ: &str = "next_seq";
const SCHEMA_VERSION: &str = "schema_version";
/// 2: hourly sums.
const SCHEMA: u64 = 2;
/// One entry while the hourly sums of a file of before are being made: the page to go on with -> the number from which
/// records have sums already.
pub(super) const BACKFILL: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("backfill");
/// Pages whose sums are made in one transaction.
const BACKFILL_STEP: usize = 8;

const CACHE_BYTES: usize = 2 * 1024 * 1024;
const MAX_PAGE_RECORDS: usize = 256;
/// How much later than a page's first record its last may have begun: calls settle when they end, and
/// `relay.total_timeout_ms` is a day at most.
pub(super) const MAX_PAGE_SPAN_MS: u64 = 25 * 3600 * 1000;
/// Old pages removed in one transaction, so that new ones never wait long.
const PRUNE_STEP: usize = 200;
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
const LAST_USED_INTERVAL: Duration = Duration::from_secs(60);
/// Tokens that nobody used for so long, most of them deleted, are forgotten.
const LAST_USED_KEPT: Duration = Duration::from_secs(800 * 86_400);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const BACKFILL_RETRY: Duration = Duration::from_secs(60);

/// The writing thread's own things.
pub(super) struct Writer {
    shared: Arc<Shared>,
    flush_interval: Duration,
    retention: Duration,
    aggregate_retention: Duration,
    aggregator: Aggregator,
    /// Hourly sums of older records are still to be made, at this time.
    backfill_at: Option<Instant>,
    pending: Vec<UsageRecord>,
    /// When records are written next; None while there are none.
    write_at: Option<Instant>,
    /// The last write failed: the next waits for its time, however many records come.
    failed: bool,
    prune_at: Instant,
    /// When the last uses of tokens are written next.
    last_used_at: Instant,
    /// What the file remembers of them was read.
    last_used_read: bool,
    /// Read from the file once; what a failed write left there must not count twice.
    next_seq: Option<u64>,
}

/// Where a record of that time and number lies.
pub(super) fn record_key(at: UnixMillis, seq: u64) -> [u8; 16] {
    (u128::from(at.0) << 64 | u128::from(seq)).to_be_bytes()
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, config: &config::Usage) -> Self {
        Self {
            shared,
            flush_interval: Duration::from_millis(config.flush_interval_ms),
            retention: Duration::from_secs(config.retention_days.saturating_mul(86_400)),
            aggregate_retention: Duration::from_secs(
                config.aggregate_retention_days.max(config.retention_days).saturating_mul(86_400),
            ),
            aggregator: Aggregator::default(),
            backfill_at: None,
            pending: Vec::new(),
            write_at: None,
            failed: false,
            prune_at: Instant::now(),
            last_used_at: Instant::now() + LAST_USED_INTERVAL,
            last_used_read: false,
            next_seq: None,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        self.try_open();
        loop {
            let wake_at = self.prune_at.min(self.last_used_at);
            let wake_at = self.backfill_at.map_or(wake_at, |backfill_at| backfill_at.min(wake_at));
            let wake_at = self.write_at.map_or(wake_at, |write_at| write_at.min(wake_at));
            let found = self.shared.inbox.wait(wake_at, self.write_at.is_some(), self.failed);
            let now = Instant::now();
            if !found.flushes.is_empty() {
                let written = self.write();
                for answer in found.flushes {
                    answer.send(written);
                }
            } else if found.stop {
                break;
            } else if self.write_at.is_some_and(|write_at| write_at <= now) || (found.is_full && !self.failed)
            {
                self.write();
            } else if found.has_records && self.write_at.is_none() {
                self.write_at = Some(now + self.flush_interval);
            }
            if self.prune_at <= now {
                self.prune();
            }
            if self.backfill_at.is_some_and(|backfill_at| backfill_at <= now) {
                self.backfill();
            }
            if self.last_used_at <= now {
                self.write_last_used();
                self.last_used_at = Instant::now() + LAST_USED_INTERVAL;
            }
        }
        let last = self.shared.inbox.close();
        // A batch that failed is tried as it was: should it be on disk all the same, it must not be there by half twice.
        if self.failed {
            self.write_batch();
        }
        if !self.failed {
            self.pending.extend(last);
            self.pending.sort_by_key(|record| record.at);
            self.write_batch();
        }
        if self.failed {
            log::error!("{} usage records are lost", self.shared.taken.load(Ordering::Acquire));
        }
        self.write_last_used();
        self.close();
    }

    /// Opens the file at the start; until that succeeds nothing can be accounted for.
    fn try_open(&mut self) {
        if let Err(error) = self.open() {
            log::error!("usage records can not be written: {error}; trying again");
            self.close();
            self.shared.failing.store(true, Ordering::Release);
            self.write_at = Some(Instant::now() + RETRY_INTERVAL);
        }
    }

    /// Puts all records that came until now on disk. When that fails they stay, and are tried again.
    fn write(&mut self) -> bool {
        // A batch that failed stays as it is, so that a commit which reached the disk all the same is written over
        // with the same keys; newcomers are the next one.
        if self.failed && !self.write_batch() {
            return false;
        }
        self.pending.extend(self.shared.inbox.take());
        self.pending.sort_by_key(|record| record.at);
        self.write_batch()
    }

    fn write_batch(&mut self) -> bool {
        let result = self.try_write();
        let failed_before = std::mem::replace(&mut self.failed, result.is_err());
        self.shared.failing.store(self.failed, Ordering::Release);
        match result {
            Ok(()) => {
                if failed_before {
                    log::info!("usage records can be written again");
                }
                self.shared.give_back(&self.pending);
                self.pending.clear();
                self.pending.shrink_to(MAX_BATCH);
                self.write_at = None;
                true
            }
            Err(error) => {
                log::error!("usage records can not be written: {error}; trying again");
                // After one failed write redb refuses everything until it is opened again.
                self.close();
                // Also when nothing waits: calls may be refused until a write has succeeded.
                self.write_at = Some(Instant::now() + RETRY_INTERVAL);
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
        let end = first.saturating_add(u64::try_from(self.pending.len()).unwrap_or(0));
        let mut aggregator = std::mem::take(&mut self.aggregator);
        let written = self.transact(|transaction| {
            let mut meta = transaction.open_table(META)?;
            // A commit that failed may have reached the disk all the same: its sums must not be added again.
            if meta.get(NEXT_SEQ)?.is_some_and(|next| next.value() >= end) {
                return Ok(0);
            }
            let mut records = transaction.open_table(RECORDS)?;
            let mut seq = first;
            for page in pages(&self.pending) {
                let mut value = Vec::with_capacity(page.len() * 320);
                for record in page {
                    encode::append(&mut value, record).map_err(std::io::Error::from)?;
                    value.push(b'\n');
                }
                let at = page.first().map(|record| record.at).unwrap_or_default();
                records.insert(&record_key(at, seq), value.as_slice())?;
                seq += u64::try_from(page.len()).unwrap_or(0);
            }
            meta.insert(NEXT_SEQ, seq)?;
            aggregator.add(transaction, &self.pending)
        });
        self.aggregator = aggregator;
        match written {
            Ok(unsorted) => {
                self.count_unsorted(unsorted);
                self.next_seq = Some(end);
                Ok(())
            }
            Err(error) => {
                self.aggregator.forget();
                Err(error)
            }
        }
    }

    fn count_unsorted(&self, calls: u64) {
        if calls > 0 && self.shared.unsorted_calls.fetch_add(calls, Ordering::Relaxed) == 0 {
            log::warn!(
                "an hour has more users, models and endpoints than hourly sums have rows: reports on it show the rest as (other)"
            );
        }
    }

    /// Makes some of the hourly sums that a file of before does not have.
    fn backfill(&mut self) {
        let mut aggregator = std::mem::take(&mut self.aggregator);
        let done = self.open().and_then(|()| {
            self.transact(|transaction| {
                let mut backfill = transaction.open_table(BACKFILL)?;
                let place = backfill.first()?.map(|(key, end_seq)| (*key.value(), end_seq.value()));
                let Some((begin, end_seq)) = place else { return Ok((None, 0)) };
                let table = transaction.open_table(RECORDS)?;
                let (mut records, mut next) = (Vec::new(), None);
                for (number, item) in table.range::<&[u8; 16]>(&begin..)?.enumerate() {
                    let (key, value) = item?;
                    if number == BACKFILL_STEP {
                        next = Some(*key.value());
                        break;
                    }
                    // Later pages were summed when they were written.
                    if seq_of(key.value()) < end_seq {
                        records.extend(page(value.value()).map_err(std::io::Error::from)?);
                    }
                }
                let unsorted = aggregator.add(transaction, &records)?;
                backfill.remove(&begin)?;
                if let Some(next) = next {
                    backfill.insert(&next, end_seq)?;
                }
                Ok((next, unsorted))
            })
        });
        self.aggregator = aggregator;
        self.backfill_at = match done {
            Ok((next, unsorted)) => {
                self.count_unsorted(unsorted);
                if next.is_none() {
                    log::info!("usage: the hourly sums of all older records are made");
                }
                next.map(|_| Instant::now())
            }
            Err(error) => {
                log::error!("hourly sums of older usage records can not be made: {error}; trying again");
                self.aggregator.forget();
                self.close();
                Some(Instant::now() + BACKFILL_RETRY)
            }
        };
    }

    /// Puts on disk which tokens were used since the last time.
    fn write_last_used(&mut self) {
        let changed = self.shared.last_used.take_changed();
        if changed.is_empty() {
            return;
        }
        let written = self.open().and_then(|()| {
            self.transact(|transaction| {
                let mut table = transaction.open_table(LAST_USED)?;
                for (id, minute) in &changed {
                    match minute {
                        Some(minute) => table.insert(id, *minute)?,
                        None => table.remove(id)?,
                    };
                }
                Ok(())
            })
        });
        if let Err(error) = written {
            log::error!("the last uses of tokens can not be written: {error}; trying again");
            self.shared.last_used.put_back(&changed);
            self.close();
        }
    }

    /// Reads when tokens were last used, once, and forgets those of long ago.
    fn read_last_used(&mut self) -> Result<(), StoreError> {
        if self.last_used_read {
            return Ok(());
        }
        let oldest =
            UnixMillis::now().0.saturating_sub(u64::try_from(LAST_USED_KEPT.as_millis()).unwrap_or(0));
        let oldest = minute_of(UnixMillis(oldest));
        let (shared, mut stale) = (Arc::clone(&self.shared), Vec::new());
        self.transact(|transaction| {
            let mut table = transaction.open_table(LAST_USED)?;
            for item in table.iter()? {
                let (id, minute) = item?;
                if minute.value() < oldest {
                    stale.push(*id.value());
                } else {
                    shared.last_used.remember(*id.value(), minute.value());
                }
            }
            for id in &stale {
                table.remove(id)?;
            }
            Ok(())
        })?;
        self.last_used_read = true;
        Ok(())
    }

    /// Removes some of what is older than the retention, and says when to go on.
    fn prune(&mut self) {
        // What is not in the hourly sums yet stays until it is.
        if self.backfill_at.is_some() {
            self.prune_at = Instant::now() + BACKFILL_RETRY;
            return;
        }
        let now = UnixMillis::now();
        let aggregates_ms = u64::try_from(self.aggregate_retention.as_millis()).unwrap_or(u64::MAX);
        let oldest_hour = hour_of(UnixMillis(now.0.saturating_sub(aggregates_ms)));
        let retention_ms = u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX);
        // The whole page must be old.
        let kept_ms = retention_ms.saturating_add(MAX_PAGE_SPAN_MS);
        let end = record_key(UnixMillis(now.0.saturating_sub(kept_ms)), 0);
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
                let sums = self.aggregator.prune(transaction, oldest_hour, PRUNE_STEP)?;
                Ok(old.len().max(sums))
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
            return self.read_last_used();
        }
        let database = open_database(path, CACHE_BYTES, false, |transaction| {
            transaction.open_table(RECORDS)?;
            transaction.open_table(BACKFILL)?;
            transaction.open_table(META)?.insert(SCHEMA_VERSION, SCHEMA)?;
            Ok(())
        })?;
        let (schema, next_seq) = read_meta(&database).map_err(|e| StoreError::from_redb(path, e))?;
        if schema > SCHEMA {
            let found = u32::try_from(schema).unwrap_or(u32::MAX);
            return Err(StoreError::NewerSchema { found, known: 2 });
        }
        self.next_seq = self.next_seq.or(Some(next_seq));
        let unfinished = begin_backfill(&database, schema, next_seq)
            .map_err(|error| StoreError::from_redb(path, error))?;
        *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        if unfinished && self.backfill_at.is_none() {
            log::info!("usage: the hourly sums of older records are being made");
            self.backfill_at = Some(Instant::now());
        }
        self.read_last_used()
    }

    fn close(&self) {
        let database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = database.map(Database::close) {
            log::warn!("closing the usage records: {error}");
        }
    }
}

/// Pages of records that are in the order of their time. None spans more than readers expect, whatever a clock did.
fn pages(mut records: &[UsageRecord]) -> impl Iterator<Item = &[UsageRecord]> {
    std::iter::from_fn(move || {
        let first = records.first()?.at.0;
        let near = |record: &&UsageRecord| record.at.0.saturating_sub(first) <= MAX_PAGE_SPAN_MS;
        let length = records.iter().take(MAX_PAGE_RECORDS).take_while(near).count().max(1);
        let (page, rest) = records.split_at_checked(length)?;
        records = rest;
        Some(page)
    })
}

fn seq_of(key: &[u8; 16]) -> u64 {
    u64::try_from(u128::from_be_bytes(*key) & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}

/// Brings a file of before up to date; whether hourly sums of older records are still to be made.
fn begin_backfill(database: &Database, schema: u64, next_seq: u64) -> Result<bool, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let unfinished = {
        let mut backfill = transaction.open_table(BACKFILL)?;
        if schema < SCHEMA {
            if next_seq > 0 {
                backfill.insert(&[0; 16], next_seq)?;
            }
            transaction.open_table(META)?.insert(SCHEMA_VERSION, SCHEMA)?;
        }
        !backfill.is_empty()?
    };
    transaction.commit()?;
    Ok(unfinished)
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
