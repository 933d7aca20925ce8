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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use redb::TableHandle as _;

    use super::*;
    use crate::seal::MasterKey;
    use crate::store::tests::Folder;
    use crate::store::{Options, STATE_FILE, STATE_TABLES, Store};
    use crate::usage::{Usage, UsageReader as _};

    fn names(path: &Path) -> BTreeSet<String> {
        let database = Database::open(path).unwrap();
        let transaction = database.begin_read().unwrap();
        assert_eq!(transaction.list_multimap_tables().unwrap().count(), 0);
        transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect()
    }

    #[test]
    fn a_backup_takes_every_table_that_there_is() {
        let folder = Folder::new();
        Store::open(&folder.0, MasterKey::new(&[7; 32]), Options::default()).unwrap().close();
        let usage = Usage::start(&folder.0, &crate::config::Usage::default());
        assert!(usage.copy().unwrap().is_some());
        usage.close();
        for (file, tables) in [(STATE_FILE, STATE_TABLES), (USAGE_FILE, USAGE_TABLES)] {
            let taken: BTreeSet<String> = tables.iter().map(|table| table.name().to_owned()).collect();
            let there = names(&folder.0.join(file));
            assert!(!there.is_empty() && there.is_subset(&taken), "{file}: {there:?} but {taken:?}");
        }
    }
}
