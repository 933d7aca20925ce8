//! The audit log as a chain: each record holds a keyed hash over the one before and itself, so that a record
//! changed, removed or put in the middle without the master key is found.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::AuditEntry;
use crate::seal::MasterKey;

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
