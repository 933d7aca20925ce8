//! A backup becomes a data folder again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::archive::{ArchiveError, Decoder, Header, Piece};
use crate::clock::UnixMillis;
use crate::domain::{AuditEntry, AuditSource, Principal};
use crate::seal::MasterKey;
use crate::store::copy::{CopiedTable, NewDatabase};
use crate::store::data_dir::{self, KEY_FILE, KeyPlace};
use crate::store::{Change, Demo, Options, STATE_FILE, STATE_TABLES, Store, StoreError, lock, swap};
use crate::usage::{USAGE_FILE, USAGE_TABLES};

/// What a backup can hold: databases and their tables. Logged bodies are not among them: they have a retention of their
/// own, which a backup would outlive. A new part is added here and in `Manage::backup`.
const PARTS: &[(&str, &[&dyn CopiedTable])] = &[(STATE_FILE, STATE_TABLES), (USAGE_FILE, USAGE_TABLES)];
const RESTORE_ACTION: &str = "backup.restore";
/// What may be in a data folder that counts as empty: nothing of it is state.
const HARMLESS: [&str; 6] = ["lock", "ballast", "admin.sock", KEY_FILE, "restore.new", "lost+found"];
/// The audit entry of a restore that was made without the master key, until there is one to chain it with.
const NOTE_FILE: &str = "restored.json";
const MAX_NOTE_BYTES: u64 = 64 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Why a backup was not restored. Nothing in the data folder has changed then.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The backup can not be used.
    Archive(PathBuf, ArchiveError),
    /// It holds something that this version does not know.
    Unknown(PathBuf, String),
    /// The data folder holds something.
    NotEmpty(PathBuf, String),
    /// The master key that is here is not the one that the backup is sealed under.
    OtherKey {
        /// Of the key that is here.
        here: String,
        /// Of the key that is needed.
        needed: String,
    },
    /// The folder or the disk.
    Store(StoreError),
    /// The restored audit log does not take the entry of the restore.
    NotAudited,
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Unknown(path, what) => write!(
                f,
                "{} holds '{what}', which this gateway does not know; restore it with the version that made it",
                path.display()
            ),
            Self::NotEmpty(path, what) => write!(
                f,
                "{} is not empty (it holds {what}); with --force what is there is put aside in the same folder, not deleted",
                path.display()
            ),
            Self::OtherKey { here, needed } => write!(
                f,
                "the backup is sealed under master key {needed} and the one here is {here}; put the right one in its place, or take this one away and bring the right one later"
            ),
            Self::Store(error) => write!(f, "{error}"),
            Self::NotAudited => {
                f.write_str("the restored store does not take an audit entry; the log above says why")
            }
        }
    }
}

impl From<StoreError> for RecoveryError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a whole backup holds.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What it is of.
    pub header: Header,
    /// Whether the master key is in it.
    pub has_key: bool,
    /// Rows of each table, as `state.redb/objects`.
    pub rows: Vec<(String, u64)>,
    /// Its size.
    pub bytes: u64,
}

/// What a restore did.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What was in the backup.
    pub summary: Summary,
    /// Where the files of before are; `None` when there were none.
    pub aside: Option<PathBuf>,
    /// Whether a master key was here, so that everything was opened with it and the audit log was verified.
    pub verified_with_key: bool,
}

/// What the parts of a backup are given to.
trait Sink {
    fn file(
        &mut self,
        name: &'static str,
        tables: &'static [&'static dyn CopiedTable],
    ) -> Result<(), StoreError>;
    fn rows(&mut self, table: &'static dyn CopiedTable, payload: &[u8]) -> Result<(), StoreError>;
    fn end(&mut self) -> Result<(), StoreError>;
}

/// Takes nothing: only to see that the backup is whole.
struct Nowhere;

impl Sink for Nowhere {
    fn file(&mut self, _: &'static str, _: &'static [&'static dyn CopiedTable]) -> Result<(), StoreError> {
        Ok(())
    }
    fn rows(&mut self, _: &'static dyn CopiedTable, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Makes databases in a folder.
struct Databases {
    folder: PathBuf,
    open: Option<NewDatabase>,
    made: Vec<String>,
}

impl Sink for Databases {
    fn file(
        &mut self,
        name: &'static str,
        tables: &'static [&'static dyn CopiedTable],
    ) -> Result<(), StoreError> {
        self.end()?;
        let database = NewDatabase::create(&self.folder.join(name))?;
        for table in tables {
            database.add(*table, &[])?;
        }
        self.open = Some(database);
        self.made.push(name.to_owned());
        Ok(())
    }

    fn rows(&mut self, table: &'static dyn CopiedTable, payload: &[u8]) -> Result<(), StoreError> {
        self.open.as_ref().map_or(Ok(()), |database| database.add(table, payload))
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.open.take().map_or(Ok(()), NewDatabase::finish)
    }
}

/// Reads a backup from its first byte to its last and checks everything that can be checked without its master key.
///
/// # Errors
/// What is wrong with it.
pub fn verify(path: &Path) -> Result<Summary, RecoveryError> {
    read(path, &mut Nowhere).map(|(summary, _)| summary)
}

type Key = Option<Zeroizing<String>>;

fn read(path: &Path, sink: &mut dyn Sink) -> Result<(Summary, Key), RecoveryError> {
    let wrong = |error: ArchiveError| RecoveryError::Archive(path.to_owned(), error);
    let unknown = |what: String| {
        // Whoever made the file chose the name.
        RecoveryError::Unknown(path.to_owned(), what.escape_debug().take(100).collect())
    };
    let damaged = |what| wrong(ArchiveError::Damaged(what));
    let file = File::open(path).map_err(|error| wrong(ArchiveError::Io(error)))?;
    let bytes = file.metadata().map_err(|error| wrong(ArchiveError::Io(error)))?.size();
    let mut decoder = Decoder::new(BufReader::with_capacity(READ_BUFFER_BYTES, file)).map_err(wrong)?;
    let (mut header, mut key, mut rows): (Option<Header>, Key, Vec<(String, u64)>) = (None, None, Vec::new());
    let mut part: Option<(&'static str, &'static [&'static dyn CopiedTable])> = None;
    let mut table: Option<&'static dyn CopiedTable> = None;
    let mut seen: Vec<&'static str> = Vec::new();
    loop {
        match decoder.next_piece().map_err(wrong)? {
            // What is told of it has to fit into a line and into the note of a restore.
            Piece::Header(found)
                if found.at.len() > 64 || found.gateway.len() > 64 || found.tenant.len() > 1024 =>
            {
                return Err(damaged("its header is too long"));
            }
            Piece::Header(found) => header = Some(*found),
            Piece::Key(hex) => {
                let id = data_dir::key_of_hex(&hex).map(|key| key.id().to_owned());
                if id.is_none()
                    || id.as_deref() != header.as_ref().map(|header| header.master_key_id.as_str())
                {
                    return Err(damaged("its master key is not the one that it is sealed under"));
                }
                key = Some(hex);
            }
            Piece::File(name) => {
                let found = PARTS.iter().find(|(file, _)| *file == name).copied();
                let (file, tables) = found.ok_or_else(|| unknown(name))?;
                if seen.contains(&file) {
                    return Err(damaged("a database comes twice"));
                }
                seen.push(file);
                part = Some((file, tables));
                sink.file(file, tables)?;
            }
            Piece::Table(name) => {
                let (file, tables) = part.ok_or_else(|| damaged("a table without a database"))?;
                let found = tables.iter().find(|table| table.name() == name).copied();
                let full = format!("{file}/{name}");
                if rows.iter().any(|(name, _)| *name == full) {
                    return Err(damaged("a table comes twice"));
                }
                table = Some(found.ok_or_else(|| unknown(full.clone()))?);
                rows.push((full, 0));
            }
            Piece::Rows(payload) => {
                let table = table.filter(|table| table.takes(&payload));
                sink.rows(table.ok_or_else(|| damaged("a row that its table can not hold"))?, &payload)?;
                if let Some((_, count)) = rows.last_mut() {
                    let more = crate::archive::rows_of(&payload).count();
                    *count = count.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
                }
            }
            Piece::TableEnd => table = None,
            Piece::End => break,
        }
    }
    sink.end()?;
    if !seen.contains(&STATE_FILE) {
        return Err(damaged("the state is not in it"));
    }
    let header = header.ok_or_else(|| damaged("its header is missing"))?;
    Ok((Summary { header, has_key: key.is_some(), rows, bytes }, key))
}

/// Restores a backup into a data folder: all of it, or nothing. The backup is read to its end before anything is
/// touched. What was there is put aside. `configured` is `store.master_key_file`.
///
/// # Errors
/// Why not; a server that uses the folder is one reason.
pub fn restore(
    path: &Path,
    data_dir: &Path,
    configured: Option<&Path>,
    force: bool,
) -> Result<Restored, RecoveryError> {
    let (summary, backup_key) = read(path, &mut Nowhere)?;
    data_dir::prepare(data_dir)?;
    let _lock = lock(data_dir)?;
    // Of an earlier restore that was interrupted after it was decided.
    swap::finish(data_dir)?;
    let there = occupants(data_dir)?;
    if let (false, Some(first)) = (force, there.first()) {
        return Err(RecoveryError::NotEmpty(data_dir.to_owned(), first.clone()));
    }
    let key = choose_key(data_dir, configured, &summary.header.master_key_id, backup_key.as_ref())?;
    let staging = swap::stage(data_dir)?;
    let staged = fill(path, &staging, &summary, key);
    let (mut new, verified_with_key) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            swap::abandon(data_dir);
            return Err(error);
        }
    };
    if !verified_with_key {
        write_note(&staging.join(NOTE_FILE), &summary.header)?;
        new.push(NOTE_FILE.to_owned());
    }
    let goes = |name: &String| is_database(name) || name == NOTE_FILE;
    let mut old: Vec<String> = there.into_iter().filter(goes).collect();
    let own_key = data_dir.join(KEY_FILE);
    if let Some(hex) = backup_key.filter(|_| configured.is_none()) {
        let present = data_dir::find_master_key(data_dir, None).ok().flatten();
        let fits = present.is_some_and(|(key, _)| key.id() == summary.header.master_key_id);
        if !fits {
            data_dir::write_master_key(&staging.join(KEY_FILE), &hex)?;
            new.push(KEY_FILE.to_owned());
            if own_key.exists() {
                old.push(KEY_FILE.to_owned());
            }
        }
    }
    let aside = format!("before-restore-{}", UnixMillis::now().0);
    let has_old = !old.is_empty();
    swap::commit(data_dir, &aside, new, old)?;
    let aside = data_dir.join(aside);
    if !has_old {
        // Empty; one that is not stays.
        let _ = std::fs::remove_dir(&aside);
    }
    Ok(Restored { summary, aside: has_old.then_some(aside), verified_with_key })
}

fn write_note(path: &Path, header: &Header) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), source };
    let text = serde_json::to_vec(&entry(header)).map_err(|error| failed(error.into()))?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
}

/// Puts a restore that was made without the master key into the audit log, once the store is open. What can not be done
/// is logged and done the next time.
pub fn record_restore(store: &Store, data_dir: &Path) {
    let path = data_dir.join(NOTE_FILE);
    let Ok(file) = File::open(&path) else { return };
    let mut text = String::new();
    let read = file.take(MAX_NOTE_BYTES).read_to_string(&mut text);
    let entry = read.ok().and_then(|_| serde_json::from_str::<AuditEntry>(&text).ok());
    let Some(entry) = entry.filter(|entry| entry.action == RESTORE_ACTION) else {
        log::error!("{} can not be read; the restore that it is of is not in the audit log", path.display());
        return;
    };
    if store.commit(Change { writes: Vec::new(), audit: vec![entry] }).is_err() {
        log::error!("a restore could not be put into the audit log; the next start tries again");
    } else if let Err(error) = std::fs::remove_file(&path) {
        log::warn!("{} can not be removed: {error}", path.display());
    }
}

/// What is in the folder and is not harmless, in order.
fn occupants(data_dir: &Path) -> Result<Vec<String>, RecoveryError> {
    let failed = |source| StoreError::Io { path: data_dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(data_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !HARMLESS.contains(&name.as_str()) && !name.starts_with("before-restore-") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_database(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "redb")
}

/// The key to open the restored store with: the one that is here, else the backup's own, else none.
fn choose_key(
    data_dir: &Path,
    configured: Option<&Path>,
    needed: &str,
    backup_key: Option<&Zeroizing<String>>,
) -> Result<Option<MasterKey>, RecoveryError> {
    let from_backup = backup_key.and_then(|hex| data_dir::key_of_hex(hex));
    match data_dir::find_master_key(data_dir, configured)? {
        Some((key, _)) if key.id() == needed => Ok(Some(key)),
        // A key in the folder itself can be put aside for the backup's.
        Some((_, KeyPlace::Folder)) if from_backup.is_some() => Ok(from_backup),
        Some((key, _)) => {
            Err(RecoveryError::OtherKey { here: key.id().to_owned(), needed: needed.to_owned() })
        }
        None => Ok(from_backup),
    }
}

/// Makes the databases in the staging folder, and opens the store once when there is a key: all credentials' shapes and
/// the audit log are checked then, and the restore becomes its newest entry.
fn fill(
    path: &Path,
    staging: &Path,
    before: &Summary,
    key: Option<MasterKey>,
) -> Result<(Vec<String>, bool), RecoveryError> {
    let mut databases = Databases { folder: staging.to_owned(), open: None, made: Vec::new() };
    let (summary, _) = read(path, &mut databases)?;
    if summary.header != before.header {
        let changed = ArchiveError::Damaged("it changed while it was read");
        return Err(RecoveryError::Archive(path.to_owned(), changed));
    }
    let Some(key) = key else { return Ok((databases.made, false)) };
    let store = open(staging, key)?;
    // A log that was broken when the backup was made was told of then, and is restored as it was.
    if before.header.audit_broken_at.is_none() {
        store.verify_audit_chain()?;
    }
    let change = Change { writes: Vec::new(), audit: vec![entry(&summary.header)] };
    store.commit(change).map_err(|_| RecoveryError::NotAudited)?;
    store.close();
    drop(store);
    // What the store put beside its file belongs to a folder that is in use.
    for name in ["lock", "ballast"] {
        let _ = std::fs::remove_file(staging.join(name));
    }
    Ok((databases.made, true))
}

fn open(staging: &Path, key: MasterKey) -> Result<Store, StoreError> {
    let again = data_dir::key_of_hex(&key.to_hex());
    match (Store::open(staging, key, Options { demo: Demo::No }), again) {
        (Err(StoreError::IsDemo(_)), Some(key)) => Store::open(staging, key, Options { demo: Demo::Yes }),
        (other, _) => other,
    }
}

fn entry(header: &Header) -> AuditEntry {
    let uid = rustix::process::geteuid().as_raw();
    AuditEntry {
        at: UnixMillis::now(),
        actor: Principal::LocalAdministrator { uid }.subject_text(),
        token_id: None,
        source: AuditSource::Socket,
        refused: None,
        count: 1,
        action: RESTORE_ACTION.to_owned(),
        resource: "backup".to_owned(),
        before: Value::Null,
        after: json!({"madeAt": header.at, "revision": header.revision}),
    }
}
