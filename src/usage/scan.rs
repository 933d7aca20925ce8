//! Records one after the other, for those who count them anew.

use std::path::Path;
use std::sync::PoisonError;

use redb::{ReadableDatabase, TableError};

use super::writer::{MAX_PAGE_SPAN_MS, RECORDS, open_for_reading, record_key};
use super::{REPORT_FLUSH_TIMEOUT, Usage, UsageError, UsageFile};
use crate::clock::UnixMillis;
use crate::domain::UsageRecord;
use crate::store::StoreError;

impl Usage {
    /// Gives each record of a call that began then or later, once, those settled before this among them. Reads the
    /// disk: for an OS thread.
    ///
    /// # Errors
    /// When records can not be written or read.
    pub fn scan(&self, from: UnixMillis, sink: &mut dyn FnMut(&UsageRecord)) -> Result<(), UsageError> {
        self.flush(REPORT_FLUSH_TIMEOUT)?;
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        scan(&self.shared.path, database.as_ref().ok_or(UsageError::Unavailable)?, from, sink)
    }
}

impl UsageFile {
    /// The same, of a gateway that is not running.
    ///
    /// # Errors
    /// When records can not be read.
    pub fn scan(&self, from: UnixMillis, sink: &mut dyn FnMut(&UsageRecord)) -> Result<(), UsageError> {
        match open_for_reading(self.path()).map_err(UsageError::Store)? {
            Some(database) => scan(self.path(), &*database, from, sink),
            None => Ok(()),
        }
    }
}

fn scan(
    path: &Path,
    database: &dyn ReadableDatabase,
    from: UnixMillis,
    sink: &mut dyn FnMut(&UsageRecord),
) -> Result<(), UsageError> {
    let failed = |error: redb::Error| UsageError::Store(StoreError::from_redb(path, error));
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let table = match transaction.open_table(RECORDS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(failed(error.into())),
    };
    // A page that begins before the time asked for may reach into it.
    let first = record_key(UnixMillis(from.0.saturating_sub(MAX_PAGE_SPAN_MS)), 0);
    for item in table.range::<&[u8; 16]>(&first..).map_err(|e| failed(e.into()))? {
        let (_, value) = item.map_err(|e| failed(e.into()))?;
        for record in serde_json::Deserializer::from_slice(value.value()).into_iter::<UsageRecord>() {
            let record = record.map_err(|error| {
                let what = format!("a usage record can not be read ({error})");
                UsageError::Store(StoreError::Damaged { path: path.to_owned(), what })
            })?;
            if record.at >= from {
                sink(&record);
            }
        }
    }
    Ok(())
}
