//! The file `state.redb`: making it, opening it, bringing it up to date, and reading all of it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::audit::{self, AuditHead};
use super::copy::CopiedTable;
use super::object::{Key, Object};
use super::records;
use super::world::World;
use super::{Demo, StoreError};
use crate::clock::{self, UnixMillis};
use crate::seal::MasterKey;

pub(super) const OBJECTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("objects");
pub(super) const AUDIT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("audit");
pub(super) const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");

/// What a backup takes of the file: all that is in it.
pub const TABLES: &[&dyn CopiedTable] = &[&OBJECTS, &AUDIT, &META];

const SCHEMA_VERSION: &str = "schema_version";
const MASTER_KEY_ID: &str = "master_key_id";
const DEMO: &str = "demo";
/// The revision of the last change, which may have been a deletion.
pub(super) const REVISION: &str = "revision";

/// The highest time that was seen, in milliseconds; stores of before have none.
pub(super) const HIGHEST_TIME: &str = "highest_time";

const FIRST_SCHEMA: u32 = 1;
pub(super) const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Takes a store from one schema version to the next.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// The steps from version 1 on; a new version adds one.
pub(super) const MIGRATIONS: &[Migration] = &[];

/// An object as it lies in the keyspace.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<O> {
    pub(super) v: u32,
    pub(super) revision: u64,
    pub(super) object: O,
}

/// What was read at open.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) world: World,
    pub(super) audit: AuditHead,
}

/// Takes the lock that a process holds as long as it uses the folder.
///
/// # Errors
/// When another process has it.
pub fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| StoreError::io(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::io(&path, error)),
    }
}

/// Opens a redb file, making it first when there is none. A new one is made under another name and then renamed,
/// so that a crash in the middle leaves nothing that looks like a store.
///
/// # Errors
/// When it is damaged, held by another process, or the disk refuses.
pub fn open_database(
    path: &Path,
    cache_bytes: usize,
    check: bool,
    init: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<Database, StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(check);
    if !path.try_exists().map_err(|e| StoreError::io(path, e))? {
        let new = suffixed(path, ".new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        drop(file.map_err(|e| StoreError::io(&new, e))?);
        let database = builder.create(&new).map_err(|e| failed(e.into()))?;
        let transaction = database.begin_write().map_err(|e| failed(e.into()))?;
        init(&transaction).map_err(failed)?;
        transaction.commit().map_err(|e| failed(e.into()))?;
        database.close().map_err(|e| failed(e.into()))?;
        std::fs::rename(&new, path).map_err(|e| StoreError::io(path, e))?;
        sync_folder_of(path)?;
    }
    builder.open(path).map_err(|e| failed(e.into()))
}

/// Opens `state.redb` and brings it up to date.
pub(super) fn open_state(
    path: &Path,
    master_key: &MasterKey,
    demo: Demo,
    migrations: &[Migration],
) -> Result<Database, StoreError> {
    let known = FIRST_SCHEMA + u32::try_from(migrations.len()).unwrap_or(u32::MAX - FIRST_SCHEMA);
    let init = |transaction: &WriteTransaction| initialise(transaction, master_key, demo, known);
    let database = open_database(path, CACHE_BYTES, true, init)?;
    let found = schema_version(path, &database)?;
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    if found == known {
        return Ok(database);
    }
    // Closed while it is copied, so that the copy is whole.
    database.close().map_err(|e| StoreError::from_redb(path, e))?;
    back_up(path, found)?;
    let database = open_database(path, CACHE_BYTES, true, |_| Ok(()))?;
    migrate(&database, migrations, found, known).map_err(|e| StoreError::from_redb(path, e))?;
    log::info!("the store was taken from schema version {found} to {known}; a backup is beside it");
    Ok(database)
}

/// Makes the tables of a new store.
pub(super) fn initialise(
    transaction: &WriteTransaction,
    master_key: &MasterKey,
    demo: Demo,
    schema: u32,
) -> Result<(), redb::Error> {
    transaction.open_table(OBJECTS)?;
    transaction.open_table(AUDIT)?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(SCHEMA_VERSION, schema.to_string().as_str())?;
    meta.insert(MASTER_KEY_ID, master_key.id())?;
    meta.insert(DEMO, demo.as_str())?;
    meta.insert(REVISION, "0")?;
    Ok(())
}

fn migrate(database: &Database, migrations: &[Migration], found: u32, known: u32) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let done = usize::try_from(found.saturating_sub(FIRST_SCHEMA)).unwrap_or(usize::MAX);
    for step in migrations.iter().skip(done) {
        step(&transaction)?;
    }
    transaction.open_table(META)?.insert(SCHEMA_VERSION, known.to_string().as_str())?;
    transaction.commit()?;
    Ok(())
}

/// Copies the file to `state.redb.v1.backup`; a copy is there under that name only when it is whole.
fn back_up(path: &Path, version: u32) -> Result<(), StoreError> {
    let backup = suffixed(path, &format!(".v{version}.backup"));
    let unfinished = suffixed(&backup, ".new");
    let copied = std::fs::copy(path, &unfinished)
        .and_then(|_| File::open(&unfinished)?.sync_all())
        .and_then(|()| std::fs::rename(&unfinished, &backup));
    copied.map_err(|e| StoreError::io(&backup, e))?;
    sync_folder_of(&backup)
}

fn schema_version(path: &Path, database: &Database) -> Result<u32, StoreError> {
    let transaction = database.begin_read().map_err(|e| StoreError::from_redb(path, e))?;
    read_meta(path, &transaction, SCHEMA_VERSION)?
        .parse()
        .ok()
        .filter(|version| *version >= FIRST_SCHEMA)
        .ok_or_else(|| damaged(path, "its schema version is not a number"))
}

fn read_meta(path: &Path, transaction: &ReadTransaction, key: &str) -> Result<String, StoreError> {
    let table = transaction.open_table(META).map_err(|e| StoreError::from_redb(path, e))?;
    match table.get(key).map_err(|e| StoreError::from_redb(path, e))? {
        Some(value) => Ok(value.value().to_owned()),
        None => Err(damaged(path, &format!("it has no {key}"))),
    }
}

/// The revision of the last change that is on disk.
pub(super) fn read_revision(path: &Path, database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_read().map_err(|e| StoreError::from_redb(path, e))?;
    revision_in(path, &transaction)
}

/// The revision of the last change, in one reading.
pub(super) fn revision_in(path: &Path, transaction: &ReadTransaction) -> Result<u64, StoreError> {
    read_meta(path, transaction, REVISION)?.parse().map_err(|_| damaged(path, "its revision is not a number"))
}

/// Reads everything. One record that can not be read fails it all: a store without it might allow more.
pub(super) fn load(
    path: &Path,
    database: &Database,
    master_key: &MasterKey,
    demo: Demo,
) -> Result<Loaded, StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let stored = read_meta(path, &transaction, MASTER_KEY_ID)?;
    if stored != master_key.id() {
        return Err(StoreError::OtherMasterKey { stored, given: master_key.id().to_owned() });
    }
    let folder = path.parent().unwrap_or(path);
    match (read_meta(path, &transaction, DEMO)?.as_str(), demo) {
        ("yes", Demo::Yes) | ("no", Demo::No) => {}
        ("yes", Demo::No) => return Err(StoreError::IsDemo(folder.to_owned())),
        ("no", Demo::Yes) => return Err(StoreError::NotDemo(folder.to_owned())),
        _ => return Err(damaged(path, "its demo mark is neither yes nor no")),
    }
    let meta = transaction.open_table(META).map_err(|e| failed(e.into()))?;
    if let Some(highest) = meta.get(HIGHEST_TIME).map_err(|e| failed(e.into()))? {
        let highest = highest.value().parse().map_err(|_| damaged(path, "its highest time is no number"))?;
        clock::remember(UnixMillis(highest));
    }
    let mut world = World::default();
    records::read_all(path, database, |object, revision| {
        // Only accounts hold what may not be usable.
        let account = matches!(object, Object::Account(_)).then(|| object.key());
        world.put(object, revision, master_key).map_err(|error| {
            let key = account.as_ref().map_or("", Key::as_str).escape_debug();
            damaged(path, &format!("the record '{key}' can not be read ({error})"))
        })
    })?;
    let revision = read_revision(path, database)?;
    if revision < world.revision() {
        return Err(damaged(path, "an object is newer than the last change"));
    }
    world.advance(revision);
    let audit = transaction.open_table(AUDIT).map_err(|e| failed(e.into()))?;
    let audit = match audit.last().map_err(|e| failed(e.into()))? {
        None => audit::start(path, &transaction, master_key)?,
        Some((seq, record)) => AuditHead::of_record(seq.value(), record.value())
            .ok_or_else(|| damaged(path, "its last audit record can not be read"))?,
    };
    Ok(Loaded { world, audit })
}

pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A rename is safe only when its folder is on disk.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| StoreError::io(folder, e))
}
