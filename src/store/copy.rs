//! Rows of a database out of one reading and into a new one, whatever their types: for backups.

use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{
    Database, Durability, Key, ReadTransaction, ReadableDatabase, TableDefinition, TableError, TableHandle,
    Value, WriteTransaction,
};

use super::StoreError;
use crate::archive::{push_row, rows_of};

/// A table whose rows can be copied.
pub trait CopiedTable: Sync {
    /// Its name in the database and in a backup.
    fn name(&self) -> &str;

    /// Appends rows behind a key to a payload until it is large enough. A table that is not there has no rows.
    ///
    /// # Errors
    /// What the database says.
    fn read(
        &self,
        transaction: &ReadTransaction,
        after: Option<&[u8]>,
        enough_bytes: usize,
        payload: &mut Vec<u8>,
    ) -> Result<CopiedRows, redb::Error>;

    /// Whether every row of a payload can be a row of this table.
    fn takes(&self, payload: &[u8]) -> bool;

    /// Makes the table and puts the rows of a payload into it. Rows that it does not take are left out: ask first.
    ///
    /// # Errors
    /// What the database says.
    fn write(&self, transaction: &WriteTransaction, payload: &[u8]) -> Result<(), redb::Error>;
}

/// What one reading of a table gave.
#[derive(Debug, Default)]
pub struct CopiedRows {
    /// How many rows.
    pub rows: u64,
    /// The key of the last one; `None` when the table has no more.
    pub last: Option<Vec<u8>>,
}

impl<K: Key + Sync + 'static, V: Value + Sync + 'static> CopiedTable for TableDefinition<'static, K, V> {
    fn name(&self) -> &str {
        TableHandle::name(self)
    }

    fn read(
        &self,
        transaction: &ReadTransaction,
        after: Option<&[u8]>,
        enough_bytes: usize,
        payload: &mut Vec<u8>,
    ) -> Result<CopiedRows, redb::Error> {
        let table = match transaction.open_table(*self) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(CopiedRows::default()),
            Err(error) => return Err(error.into()),
        };
        let begin = after.map_or(Bound::Unbounded, |key| Bound::Excluded(K::from_bytes(key)));
        let mut found = CopiedRows::default();
        for item in table.range::<K::SelfType<'_>>((begin, Bound::Unbounded))? {
            let (key, value) = item?;
            let (key, value) = (key.value(), value.value());
            let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
            push_row(payload, key.as_ref(), value.as_ref());
            found.rows += 1;
            if payload.len() >= enough_bytes {
                found.last = Some(key.as_ref().to_vec());
                break;
            }
        }
        Ok(found)
    }

    fn takes(&self, payload: &[u8]) -> bool {
        rows_of(payload).all(|row| row.is_ok_and(|(key, value)| fits::<K>(key) && fits::<V>(value)))
    }

    fn write(&self, transaction: &WriteTransaction, payload: &[u8]) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(*self)?;
        for (key, value) in rows_of(payload).flatten() {
            if fits::<K>(key) && fits::<V>(value) {
                table.insert(K::from_bytes(key), V::from_bytes(value))?;
            }
        }
        Ok(())
    }
}

/// Whether bytes can be a value of that type: redb's own conversions panic on what can not.
fn fits<T: Value>(bytes: &[u8]) -> bool {
    if let Some(width) = T::fixed_width() {
        return bytes.len() == width;
    }
    T::type_name() != <&str as Value>::type_name() || std::str::from_utf8(bytes).is_ok()
}

/// One database as it was at one moment, on its way into a backup. While it lives the database keeps the pages of that
/// moment; changes go on beside it.
pub struct DatabaseCopy {
    /// The name in a backup, such as `state.redb`.
    pub file: &'static str,
    /// Its tables.
    pub tables: &'static [&'static dyn CopiedTable],
    transaction: ReadTransaction,
    path: PathBuf,
    /// What has to stay open as long as the reading, when nobody else keeps it.
    _database: Option<Box<dyn ReadableDatabase + Send + Sync>>,
}

impl fmt::Debug for DatabaseCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseCopy").field("file", &self.file).finish_non_exhaustive()
    }
}

impl DatabaseCopy {
    /// Of a database that somebody else keeps open.
    ///
    /// # Errors
    /// What the database says.
    pub fn begin(
        file: &'static str,
        tables: &'static [&'static dyn CopiedTable],
        path: &Path,
        database: &dyn ReadableDatabase,
    ) -> Result<Self, StoreError> {
        let transaction = database.begin_read().map_err(|error| StoreError::from_redb(path, error))?;
        Ok(Self { file, tables, transaction, path: path.to_owned(), _database: None })
    }

    /// Of a database that this alone keeps open.
    ///
    /// # Errors
    /// What the database says.
    pub fn begin_owned(
        file: &'static str,
        tables: &'static [&'static dyn CopiedTable],
        path: &Path,
        database: Box<dyn ReadableDatabase + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let mut copy = Self::begin(file, tables, path, &*database)?;
        copy._database = Some(database);
        Ok(copy)
    }

    /// The reading itself.
    pub(super) fn transaction(&self) -> &ReadTransaction {
        &self.transaction
    }

    /// Some rows of a table behind a key, as a payload.
    ///
    /// # Errors
    /// What the database says: it was closed meanwhile, or the disk refused.
    pub fn rows(
        &self,
        table: &dyn CopiedTable,
        after: Option<&[u8]>,
        enough_bytes: usize,
    ) -> Result<(Vec<u8>, CopiedRows), StoreError> {
        let mut payload = Vec::new();
        let found = table.read(&self.transaction, after, enough_bytes, &mut payload);
        Ok((payload, found.map_err(|error| StoreError::from_redb(&self.path, error))?))
    }
}

/// A new database that is being filled from a backup.
pub struct NewDatabase {
    database: Database,
    path: PathBuf,
}

impl fmt::Debug for NewDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewDatabase").field("path", &self.path).finish_non_exhaustive()
    }
}

impl NewDatabase {
    /// Makes the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let database = super::open_database(path, super::disk::CACHE_BYTES, false, |_| Ok(()))?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// Puts rows into a table; an empty payload makes the table only. Not yet safe on disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add(&self, table: &dyn CopiedTable, payload: &[u8]) -> Result<(), StoreError> {
        let failed = |error: redb::Error| StoreError::from_redb(&self.path, error);
        let mut transaction = self.database.begin_write().map_err(|e| failed(e.into()))?;
        transaction.set_durability(Durability::None).map_err(|e| failed(e.into()))?;
        table.write(&transaction, payload).map_err(failed)?;
        transaction.commit().map_err(|e| failed(e.into()))
    }

    /// Puts everything on disk, closes the file and opens it once more, with every page's checksum checked.
    ///
    /// # Errors
    /// When the disk refuses, or what it has is not what was written.
    pub fn finish(self) -> Result<(), StoreError> {
        let path = self.path;
        let failed = |error: redb::Error| StoreError::from_redb(&path, error);
        let mut transaction = self.database.begin_write().map_err(|e| failed(e.into()))?;
        // Or the next start would walk over all of it.
        transaction.set_quick_repair(true);
        transaction.commit().map_err(|e| failed(e.into()))?;
        self.database.close().map_err(|e| failed(e.into()))?;
        let mut database = redb::Database::open(&path).map_err(|e| failed(e.into()))?;
        match database.check_integrity() {
            Ok(true) => database.close().map_err(|e| failed(e.into())),
            Ok(false) => Err(super::disk::damaged(&path, "the disk does not give back what was written")),
            Err(error) => Err(failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    #[test]
    fn rows_come_in_pieces_and_make_the_same_table() {
        const TABLE: TableDefinition<'static, u64, &str> = TableDefinition::new("t");
        let folder = Folder::new();
        let database = Database::create(folder.0.join("a")).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for number in 0..1000 {
                table.insert(number, format!("value {number}").as_str()).unwrap();
            }
        }
        transaction.commit().unwrap();
        let copy = DatabaseCopy::begin("a", &[&TABLE], Path::new("a"), &database).unwrap();
        // Changes after the moment are not in it, and are not in its way.
        let transaction = database.begin_write().unwrap();
        transaction.open_table(TABLE).unwrap().insert(5000, "later").unwrap();
        transaction.commit().unwrap();
        let new = NewDatabase::create(&folder.0.join("b")).unwrap();
        let (mut after, mut pieces, mut rows) = (None, 0, 0);
        loop {
            let (payload, found) = copy.rows(&TABLE, after.as_deref(), 500).unwrap();
            assert!(payload.len() < 600 && TABLE.takes(&payload));
            new.add(&TABLE, &payload).unwrap();
            (pieces, rows) = (pieces + 1, rows + found.rows);
            match found.last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        assert!(rows == 1000 && pieces > 20, "{rows} rows in {pieces} pieces");
        new.finish().unwrap();
        let database = Database::open(folder.0.join("b")).unwrap();
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        use redb::{ReadableTable as _, ReadableTableMetadata as _};
        assert_eq!(table.len().unwrap(), 1000);
        assert_eq!(table.get(999).unwrap().unwrap().value(), "value 999");
        assert!(table.first().unwrap().is_some());
    }

    #[test]
    fn a_row_of_another_shape_is_not_taken() {
        const TEXT: TableDefinition<'static, u64, &str> = TableDefinition::new("t");
        const FIXED: TableDefinition<'static, &[u8; 16], u32> = TableDefinition::new("f");
        let row = |key: &[u8], value: &[u8]| {
            let mut payload = Vec::new();
            push_row(&mut payload, key, value);
            payload
        };
        assert!(TEXT.takes(&row(&[0; 8], "é".as_bytes())) && TEXT.takes(&[]));
        assert!(!TEXT.takes(&row(&[0; 7], b"x")) && !TEXT.takes(&row(&[0; 8], &[0xff])));
        assert!(FIXED.takes(&row(&[0; 16], &[0; 4])) && !FIXED.takes(&row(&[0; 16], &[0; 5])));
        assert!(!FIXED.takes(&row(&[0; 16], &[0; 4])[..5]));
        // Written all the same, it is left out: nothing panics.
        let folder = Folder::new();
        let new = NewDatabase::create(&folder.0.join("b")).unwrap();
        new.add(&TEXT, &row(&[0; 7], &[0xff])).unwrap();
        new.finish().unwrap();
    }
}
