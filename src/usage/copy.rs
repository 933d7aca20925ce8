//! What a backup takes of the accounting.

use std::path::Path;

use redb::{Database, ReadableDatabase};

use super::UsageError;
use super::aggregate::{AGGREGATES, HOURS, NUMBERS, TEXTS};
use super::writer::{BACKFILL, LAST_USED, META, RECORDS};
use crate::store::copy::{CopiedTable, DatabaseCopy};

/// The name of the file, in the data folder and in a backup.
pub const USAGE_FILE: &str = "usage.redb";

/// All that is in the file.
pub const USAGE_TABLES: &[&dyn CopiedTable] =
    &[&RECORDS, &AGGREGATES, &NUMBERS, &TEXTS, &HOURS, &BACKFILL, &LAST_USED, &META];

pub(super) fn begin(path: &Path, database: &Database) -> Result<DatabaseCopy, UsageError> {
    DatabaseCopy::begin(USAGE_FILE, USAGE_TABLES, path, database).map_err(UsageError::Store)
}

pub(super) fn begin_owned(
    path: &Path,
    database: Box<dyn ReadableDatabase + Send + Sync>,
) -> Result<DatabaseCopy, UsageError> {
    DatabaseCopy::begin_owned(USAGE_FILE, USAGE_TABLES, path, database).map_err(UsageError::Store)
}
