//! `requests.redb`: for each call its record in clear, so that it can be found, and its bodies sealed, bound to the place
//! and to the record, so that those of one call can not be shown as another's.

use std::path::Path;
use std::time::{Duration, Instant};

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use super::{Body, Found, LogKey, LoggedBodies, LoggedBody, RequestLogError};
use crate::clock::UnixMillis;
use crate::domain::UsageRecord;
use crate::seal::MasterKey;
use crate::store::{StoreError, open_database};
use crate::usage::ReportFilter;

/// (when the call began, number), each 8 bytes big endian -> length of the record in 4 bytes, little endian; the record as
/// JSON; the sealed bodies.
const ENTRIES: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("entries");
/// The first half of the hash of a request id, then the key of an entry.
const BY_ID: TableDefinition<'static, &[u8; 32], ()> = TableDefinition::new("by_id");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const NEXT_SEQ: &str = "next_seq";
const BYTES: &str = "bytes";
const SCHEMA_VERSION: &str = "schema_version";
const SCHEMA: u64 = 1;
const CACHE_BYTES: usize = 1024 * 1024;
/// Entries of one request id that a search looks at: callers choose the ids, so there may be many.
const MAX_LOOKED_AT: usize = 10_000;
/// How long entries of one request id are looked at.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// A value of more than about this has pages of its own, a power of two of them.
const SMALL_VALUE_BYTES: usize = 2048;
/// What an entry takes besides its value.
const ENTRY_BYTES: usize = 128;
const KIND: &str = "request-log";

/// An entry that is ready to be written.
pub(super) struct Entry {
    pub(super) key: [u8; 16],
    pub(super) request_id: String,
    pub(super) value: Vec<u8>,
}

/// What a transaction left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Entries removed, since they were too old or there was too much.
    pub(super) removed: usize,
    /// About the bytes of all entries.
    pub(super) bytes: u64,
}

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Calls that began earlier go.
    pub(super) since: UnixMillis,
    /// About so many bytes.
    pub(super) max_bytes: u64,
    /// Entries removed in one transaction.
    pub(super) step: usize,
}

fn entry_key(at: UnixMillis, seq: u64) -> [u8; 16] {
    (u128::from(at.0) << 64 | u128::from(seq)).to_be_bytes()
}

/// The first half of the hash of an id: nobody makes two that are alike.
fn id_prefix(request_id: &str) -> [u8; 16] {
    let mut prefix = [0; 16];
    for (to, from) in prefix.iter_mut().zip(blake3::hash(request_id.as_bytes()).as_bytes()) {
        *to = *from;
    }
    prefix
}

fn id_key(request_id: &str, key: &[u8; 16]) -> [u8; 32] {
    let mut all = [0; 32];
    for (to, from) in all.iter_mut().zip(id_prefix(request_id).iter().chain(key)) {
        *to = *from;
    }
    all
}

fn entry_of(id_key: &[u8; 32]) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(id_key.iter().skip(16)) {
        *to = *from;
    }
    key
}

/// About what an entry takes on disk.
fn cost(value_bytes: usize) -> u64 {
    let bytes = value_bytes.saturating_add(ENTRY_BYTES);
    let bytes =
        if bytes > SMALL_VALUE_BYTES { bytes.checked_next_power_of_two().unwrap_or(bytes) } else { bytes };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What the bodies of an entry are bound to, besides the record: its place.
fn place(key: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*key))
}

/// Seals the bodies of a call.
pub(super) fn seal(
    master_key: &MasterKey,
    seq: u64,
    record: &UsageRecord,
    (request, answer): (&Body, &Body),
) -> Result<Entry, String> {
    let key = entry_key(record.at, seq);
    let head = serde_json::to_string(record).map_err(|error| error.to_string())?;
    let mut plain = Vec::with_capacity(request.bytes.len() + answer.bytes.len() + 24);
    let kept = u64::try_from(request.bytes.len()).unwrap_or(u64::MAX);
    for number in [kept, request.total_bytes, answer.total_bytes] {
        plain.extend_from_slice(&number.to_le_bytes());
    }
    plain.extend_from_slice(&request.bytes);
    plain.extend_from_slice(&answer.bytes);
    let sealed =
        master_key.seal_bytes(KIND, &place(&key), &head, &plain).map_err(|error| error.to_string())?;
    let length = u32::try_from(head.len()).map_err(|error| error.to_string())?;
    let value = [&length.to_le_bytes()[..], head.as_bytes(), &sealed].concat();
    Ok(Entry { key, request_id: record.request_id.clone(), value })
}

/// The record and the sealed bodies of an entry.
fn parts(value: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = value.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (head, sealed) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(head).ok()?, sealed))
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

fn opened(plain: &[u8]) -> Option<LoggedBodies> {
    let (kept, rest) = number(plain)?;
    let (request_total, rest) = number(rest)?;
    let (answer_total, rest) = number(rest)?;
    let (request, answer) = rest.split_at_checked(usize::try_from(kept).ok()?)?;
    Some(LoggedBodies {
        request: LoggedBody { bytes: request.to_vec(), total_bytes: request_total },
        answer: LoggedBody { bytes: answer.to_vec(), total_bytes: answer_total },
    })
}

/// Opens the file for writing and makes it when it is not there; gives the next number and the bytes of all entries.
pub(super) fn open(path: &Path) -> Result<(Database, u64, u64), StoreError> {
    let database = open_database(path, CACHE_BYTES, false, |transaction| {
        transaction.open_table(ENTRIES)?;
        transaction.open_table(BY_ID)?;
        transaction.open_table(META)?.insert(SCHEMA_VERSION, SCHEMA)?;
        Ok(())
    })?;
    let read = || -> Result<(u64, u64, u64), redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let number = |name: &str| meta.get(name).map(|value| value.map_or(0, |value| value.value()));
        Ok((number(SCHEMA_VERSION)?, number(NEXT_SEQ)?, number(BYTES)?))
    };
    let (schema, next_seq, bytes) = read().map_err(|error| StoreError::from_redb(path, error))?;
    if schema > SCHEMA {
        let found = u32::try_from(schema).unwrap_or(u32::MAX);
        return Err(StoreError::NewerSchema { found, known: 1 });
    }
    Ok((database, next_seq, bytes))
}

/// Opens the file for reading; None when there is none.
pub(super) fn open_for_reading(
    path: &Path,
) -> Result<Option<Box<dyn ReadableDatabase + Send + Sync>>, RequestLogError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error: redb::DatabaseError| RequestLogError::Store(StoreError::from_redb(path, error));
    match builder.open_read_only(path) {
        Ok(database) => Ok(Some(Box::new(database))),
        // What a crash left needs a repair, which needs writing.
        Err(redb::DatabaseError::RepairAborted) => Ok(Some(Box::new(builder.open(path).map_err(failed)?))),
        Err(error) => Err(failed(error)),
    }
}

/// Adds entries, and removes what may not stay, in one transaction.
pub(super) fn write(
    path: &Path,
    database: &Database,
    entries: &[Entry],
    next_seq: u64,
    keep: Keep,
) -> Result<Written, StoreError> {
    let work = || -> Result<Written, redb::Error> {
        let mut transaction = database.begin_write()?;
        // Or a crash would mean a walk over all entries at the next start.
        transaction.set_quick_repair(true);
        let written = change(&transaction, entries, next_seq, keep)?;
        if entries.is_empty() && written.removed == 0 {
            transaction.abort()?;
        } else {
            transaction.commit()?;
        }
        Ok(written)
    };
    work().map_err(|error| StoreError::from_redb(path, error))
}

fn change(
    transaction: &WriteTransaction,
    entries: &[Entry],
    next_seq: u64,
    keep: Keep,
) -> Result<Written, redb::Error> {
    let mut table = transaction.open_table(ENTRIES)?;
    let mut by_id = transaction.open_table(BY_ID)?;
    let mut meta = transaction.open_table(META)?;
    let mut bytes = meta.get(BYTES)?.map_or(0, |value| value.value());
    for entry in entries {
        bytes = bytes.saturating_add(cost(entry.value.len()));
        // One that a failed commit left there all the same.
        if let Some(same) = table.insert(&entry.key, entry.value.as_slice())? {
            bytes = bytes.saturating_sub(cost(same.value().len()));
        }
        by_id.insert(&id_key(&entry.request_id, &entry.key), ())?;
    }
    let oldest = entry_key(keep.since, 0);
    let mut removed = 0;
    while removed < keep.step {
        let first = match table.first()? {
            Some((key, value)) if *key.value() < oldest || bytes > keep.max_bytes => {
                let request_id = parts(value.value())
                    .and_then(|(head, _)| serde_json::from_str::<UsageRecord>(head).ok())
                    .map(|record| record.request_id);
                (*key.value(), cost(value.value().len()), request_id)
            }
            _ => break,
        };
        let (key, cost, request_id) = first;
        table.remove(&key)?;
        if let Some(request_id) = request_id {
            by_id.remove(&id_key(&request_id, &key))?;
        }
        bytes = bytes.saturating_sub(cost);
        removed += 1;
    }
    meta.insert(BYTES, bytes)?;
    meta.insert(NEXT_SEQ, next_seq)?;
    Ok(Written { removed, bytes })
}

/// A reading that says what failed.
struct Reading<'p> {
    path: &'p Path,
    transaction: ReadTransaction,
}

impl<'p> Reading<'p> {
    fn begin(path: &'p Path, database: &dyn ReadableDatabase) -> Result<Self, RequestLogError> {
        let transaction = database.begin_read();
        let transaction = transaction
            .map_err(|error| RequestLogError::Store(StoreError::from_redb(path, redb::Error::from(error))))?;
        Ok(Self { path, transaction })
    }

    fn failed(&self, error: impl Into<redb::Error>) -> RequestLogError {
        RequestLogError::Store(StoreError::from_redb(self.path, error))
    }

    fn damaged(&self) -> RequestLogError {
        RequestLogError::Store(StoreError::Damaged {
            path: self.path.to_owned(),
            what: "an entry can not be read".to_owned(),
        })
    }

    /// Gives the value of an entry to somebody; `None` when it is not there.
    fn entry<T>(
        &self,
        key: &[u8; 16],
        read: impl FnOnce(&str, &[u8]) -> Result<T, RequestLogError>,
    ) -> Result<Option<T>, RequestLogError> {
        let table = match self.transaction.open_table(ENTRIES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let Some(value) = table.get(key).map_err(|error| self.failed(error))? else { return Ok(None) };
        let (head, sealed) = parts(value.value()).ok_or_else(|| self.damaged())?;
        read(head, sealed).map(Some)
    }

    /// The entries of a request id between two keys, the newest first.
    fn of_id(
        &self,
        request_id: &str,
        (first, last): ([u8; 16], [u8; 16]),
        mut visit: impl FnMut([u8; 16]) -> Result<bool, RequestLogError>,
    ) -> Result<(), RequestLogError> {
        let table = match self.transaction.open_table(BY_ID) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        };
        let (first, last) = (id_key(request_id, &first), id_key(request_id, &last));
        if first > last {
            return Ok(());
        }
        let range = table.range::<&[u8; 32]>(&first..=&last).map_err(|error| self.failed(error))?;
        // An entry may be megabytes, and callers choose ids: one that stands often must not hold the others up.
        let deadline = Instant::now() + LOOK_LIMIT;
        for item in range.rev().take(MAX_LOOKED_AT) {
            if Instant::now() >= deadline {
                return Err(RequestLogError::Busy);
            }
            let (key, _) = item.map_err(|error| self.failed(error))?;
            if !visit(entry_of(key.value()))? {
                break;
            }
        }
        Ok(())
    }
}

/// The newest call with that request id that the filter shows.
pub(super) fn find(
    path: &Path,
    database: &dyn ReadableDatabase,
    request_id: &str,
    filter: &ReportFilter,
) -> Result<Option<Found>, RequestLogError> {
    let reading = Reading::begin(path, database)?;
    let (first, last) = filter.span();
    let mut found = None;
    reading.of_id(request_id, (entry_key(first, 0), entry_key(last, u64::MAX)), |key| {
        let record = reading.entry(&key, |head, _| {
            serde_json::from_str::<UsageRecord>(head).map_err(|_| reading.damaged())
        })?;
        found =
            record.and_then(|record| filter.seen(&record)).map(|record| Found { key: LogKey(key), record });
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Whether the bodies of calls are kept.
pub(super) fn are_logged(
    path: &Path,
    database: &dyn ReadableDatabase,
    calls: &[(UnixMillis, String)],
) -> Result<Vec<bool>, RequestLogError> {
    let reading = Reading::begin(path, database)?;
    let is_logged = |(at, request_id): &(UnixMillis, String)| {
        let mut found = false;
        reading.of_id(request_id, (entry_key(*at, 0), entry_key(*at, u64::MAX)), |_| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    };
    calls.iter().map(is_logged).collect()
}

/// Opens the bodies of a call; `None` when they were removed meanwhile.
pub(super) fn bodies(
    path: &Path,
    database: &dyn ReadableDatabase,
    master_key: &MasterKey,
    LogKey(key): LogKey,
) -> Result<Option<LoggedBodies>, RequestLogError> {
    let reading = Reading::begin(path, database)?;
    reading.entry(&key, |head, sealed| {
        let plain =
            master_key.open_bytes(KIND, &place(&key), head, sealed).map_err(RequestLogError::Sealed)?;
        opened(&plain).ok_or_else(|| reading.damaged())
    })
}
