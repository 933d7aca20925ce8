//! The audit log as a chain: each record holds a keyed hash over the one before and itself, so that a record
//! changed, removed or put in the middle without the master key is found.

use std::path::Path;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::StoreError;
use super::disk::{AUDIT, META, damaged};
use crate::clock::UnixMillis;
use crate::domain::AuditEntry;
use crate::seal::MasterKey;

/// Where the checkpoint of a pruned log stands in the table of metadata.
pub(super) const CHECKPOINT: &str = "audit_checkpoint";
/// Records that one reading looks at.
const MAX_SCANNED: usize = 100_000;
/// Bytes of the records that one reading holds; it ends with the record that passes this.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Records so far; also the number of the last one.
    pub records: u64,
    /// The hash of the last record.
    pub chain: [u8; 32],
}

impl AuditHead {
    /// Of an empty log.
    pub(super) const EMPTY: Self = Self { records: 0, chain: [0; 32] };

    /// The hash as 64 hex digits.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.chain).to_hex().to_string()
    }

    fn link(self, master_key: &MasterKey, entry: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(master_key.audit_key());
        hasher.update(&self.chain);
        hasher.update(entry.as_bytes());
        Self { records: self.records + 1, chain: *hasher.finalize().as_bytes() }
    }

    /// The head after one more entry, and the record to store under its number.
    pub(super) fn append(
        self,
        master_key: &MasterKey,
        entry: &AuditEntry,
    ) -> Result<(Self, Vec<u8>), serde_json::Error> {
        let entry = serde_json::value::to_raw_value(entry)?;
        let next = self.link(master_key, entry.get());
        let record = serde_json::to_vec(&Record { v: 1, chain: next.to_hex(), entry })?;
        Ok((next, record))
    }

    /// The head after a stored record; `None` when the record does not follow.
    pub(super) fn follow(self, master_key: &MasterKey, seq: u64, record: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(record).ok()?;
        let next = self.link(master_key, record.entry.get());
        let given = blake3::Hash::from_hex(&record.chain).ok()?;
        // `Hash` compares in constant time.
        (record.v == 1 && seq == next.records && given == blake3::Hash::from_bytes(next.chain))
            .then_some(next)
    }

    /// The head that a stored record claims; `None` when it can not be read.
    pub(super) fn of_record(seq: u64, record: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(record).ok()?;
        let chain = *blake3::Hash::from_hex(&record.chain).ok()?.as_bytes();
        (record.v == 1).then_some(Self { records: seq, chain })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    chain: String,
    entry: Box<RawValue>,
}

/// The last record that was pruned: where the chain of what is left begins. Its own keyed hash shows that the
/// gateway pruned, not someone who cut the log.
pub(super) struct Checkpoint {
    pub(super) head: AuditHead,
    pub(super) record: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCheckpoint {
    v: u32,
    records: u64,
    chain: String,
    mac: String,
}

impl Checkpoint {
    pub(super) fn new(head: AuditHead, master_key: &MasterKey) -> Result<Self, serde_json::Error> {
        let mac = checkpoint_mac(head, master_key).to_hex().to_string();
        let stored = StoredCheckpoint { v: 1, records: head.records, chain: head.to_hex(), mac };
        Ok(Self { head, record: serde_json::to_string(&stored)? })
    }
}

/// Under a key of its own, so that no link of the chain can pass for one.
fn checkpoint_mac(head: AuditHead, master_key: &MasterKey) -> blake3::Hash {
    let key = blake3::keyed_hash(master_key.audit_key(), b"gateway audit checkpoint");
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(&head.records.to_be_bytes());
    hasher.update(&head.chain);
    hasher.finalize()
}

/// Where the chain on disk begins: after what was pruned.
pub(super) fn start(
    path: &Path,
    transaction: &ReadTransaction,
    master_key: &MasterKey,
) -> Result<AuditHead, StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let table = transaction.open_table(META).map_err(|e| failed(e.into()))?;
    let Some(stored) = table.get(CHECKPOINT).map_err(|e| failed(e.into()))? else {
        return Ok(AuditHead::EMPTY);
    };
    let head = serde_json::from_str(stored.value()).ok().and_then(|stored: StoredCheckpoint| {
        let chain = *blake3::Hash::from_hex(&stored.chain).ok()?.as_bytes();
        let head = AuditHead { records: stored.records, chain };
        let mac = blake3::Hash::from_hex(&stored.mac).ok()?;
        (stored.v == 1 && mac == checkpoint_mac(head, master_key)).then_some(head)
    });
    head.ok_or(StoreError::AuditBroken { seq: 1 })
}

/// A log whose links are all right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditChain {
    /// Where it stands.
    pub head: AuditHead,
    /// Records that retention has removed.
    pub pruned: u64,
    /// Whether the head that was noted earlier is one of its links; true when none was given.
    pub has_noted: bool,
}

/// Walks the audit log and checks every link.
pub(super) fn verify(
    path: &Path,
    database: &Database,
    master_key: &MasterKey,
    noted: Option<&str>,
) -> Result<AuditChain, StoreError> {
    let transaction = database.begin_read().map_err(|error| StoreError::from_redb(path, error))?;
    verify_in(path, &transaction, master_key, noted)
}

/// The same, in one reading.
pub(super) fn verify_in(
    path: &Path,
    transaction: &ReadTransaction,
    master_key: &MasterKey,
    noted: Option<&str>,
) -> Result<AuditChain, StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let table = transaction.open_table(AUDIT).map_err(|e| failed(e.into()))?;
    let mut head = start(path, transaction, master_key)?;
    let pruned = head.records;
    let is_noted = |head: AuditHead| noted.is_none_or(|noted| noted.eq_ignore_ascii_case(&head.to_hex()));
    let mut has_noted = is_noted(head);
    for item in table.iter().map_err(|e| failed(e.into()))? {
        let (seq, record) = item.map_err(|e| failed(e.into()))?;
        head = head
            .follow(master_key, seq.value(), record.value())
            .ok_or(StoreError::AuditBroken { seq: head.records + 1 })?;
        has_noted = has_noted || is_noted(head);
    }
    Ok(AuditChain { head, pruned, has_noted })
}

/// Which entries to read. A text is what the field begins with; the actor is exact.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names are the entry's own")]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub resource: Option<String>,
    /// From this time on.
    pub from: Option<UnixMillis>,
    /// Up to this time, which is not in any more.
    pub to: Option<UnixMillis>,
    /// Only what was refused, or only what was done.
    pub refused: Option<bool>,
    /// Only records with a lower number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl AuditFilter {
    fn takes(&self, entry: &AuditEntry) -> bool {
        let begins = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| text.starts_with(wanted.as_str()))
        };
        self.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
            && begins(&self.action, &entry.action)
            && begins(&self.resource, &entry.resource)
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
            && self.refused.is_none_or(|refused| entry.refused.is_some() == refused)
    }
}

/// Some entries with their numbers, the newest first.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<(u64, AuditEntry)>,
    /// Where to read on with [`AuditFilter::before`]; `None` when there is no more.
    pub next: Option<u64>,
}

/// Reads entries from the newest back; a reading that has looked at much without finding its number of entries
/// ends with what it has.
pub(super) fn read(path: &Path, database: &Database, filter: &AuditFilter) -> Result<AuditPage, StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let table = transaction.open_table(AUDIT).map_err(|e| failed(e.into()))?;
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    let end = filter.before.unwrap_or(u64::MAX);
    for (scanned, item) in table.range(..end).map_err(|e| failed(e.into()))?.rev().enumerate() {
        let (seq, record) = item.map_err(|e| failed(e.into()))?;
        let seq = seq.value();
        if entries.len() >= filter.limit || scanned >= MAX_SCANNED || bytes >= MAX_PAGE_BYTES {
            return Ok(AuditPage { entries, next: Some(seq + 1) });
        }
        let entry = entry_of(record.value())
            .ok_or_else(|| damaged(path, &format!("the audit record {seq} can not be read")))?;
        if filter.takes(&entry) {
            bytes += record.value().len();
            entries.push((seq, entry));
        }
    }
    Ok(AuditPage { entries, next: None })
}

fn entry_of(record: &[u8]) -> Option<AuditEntry> {
    let record: Record = serde_json::from_slice(record).ok()?;
    serde_json::from_str(record.entry.get()).ok()
}

/// The last of the oldest records from before a time, at most `max` of them.
pub(super) fn prunable(
    path: &Path,
    database: &Database,
    master_key: &MasterKey,
    before: UnixMillis,
    max: usize,
) -> Result<Option<AuditHead>, StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let table = transaction.open_table(AUDIT).map_err(|e| failed(e.into()))?;
    let start = start(path, &transaction, master_key)?;
    let mut head = start;
    for item in table.iter().map_err(|e| failed(e.into()))?.take(max) {
        let (seq, record) = item.map_err(|e| failed(e.into()))?;
        let broken = StoreError::AuditBroken { seq: head.records + 1 };
        if entry_of(record.value()).is_some_and(|entry| entry.at >= before) {
            break;
        }
        head = head.follow(master_key, seq.value(), record.value()).ok_or(broken)?;
    }
    Ok((head != start).then_some(head))
}
