//! Why the store can not be opened or read. Each is one sentence that says what to do.

use std::fmt;
use std::path::PathBuf;

/// Why the store can not be opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    Locked(PathBuf),
    /// It was written by a later version.
    NewerSchema {
        /// What the file says.
        found: u32,
        /// The newest that this binary knows.
        known: u32,
    },
    /// It was made under another master key.
    OtherMasterKey {
        /// The id that the file has.
        stored: String,
        /// The id of the key that was given.
        given: String,
    },
    /// It was made by `serve --demo` and is not opened as one.
    IsDemo(PathBuf),
    /// It was not made by `serve --demo` and is opened as one.
    NotDemo(PathBuf),
    /// The data folder can not be used as it is.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The master key can not be had.
    MasterKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The disk refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file, or a record in it, can not be understood.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What and where.
        what: String,
    },
    /// The audit log was changed outside the gateway.
    AuditBroken {
        /// The first record that does not follow from the one before.
        seq: u64,
    },
    /// The store is closed, or waits for the disk to come back.
    Unavailable,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => write!(
                f,
                "another gateway process holds this data folder ({}); stop that process, or use its admin socket",
                path.display()
            ),
            Self::NewerSchema { found, known } => write!(
                f,
                "the store has schema version {found} and this gateway knows {known}; start the newer gateway that wrote it, or restore a backup"
            ),
            Self::OtherMasterKey { stored, given } => write!(
                f,
                "the store was made under master key {stored} and the given one is {given}; start with the right store.master_key_file"
            ),
            Self::IsDemo(path) => write!(
                f,
                "{} holds a demo; start with --demo, or set store.data_dir to another folder",
                path.display()
            ),
            Self::NotDemo(path) => write!(
                f,
                "{} was not made by a demo; start without --demo, or set store.data_dir to another folder",
                path.display()
            ),
            Self::Folder { path, problem } => write!(f, "data folder {}: {problem}", path.display()),
            Self::MasterKey { path, problem } => write!(f, "master key file {}: {problem}", path.display()),
            Self::Io { path, source } => {
                write!(f, "{}: {source}; check the disk and the folder's owner", path.display())
            }
            Self::Damaged { path, what } => {
                write!(f, "{} is damaged: {what}; restore a backup", path.display())
            }
            Self::AuditBroken { seq } => write!(
                f,
                "audit record {seq} does not follow from the one before; the log was changed outside the gateway, compare it with a backup"
            ),
            Self::Unavailable => {
                f.write_str("the store is closed or waits for its disk; check the disk and try again")
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl StoreError {
    /// What redb says, about a file.
    pub(crate) fn from_redb(path: &std::path::Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::Locked(path),
            redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
                Self::Damaged { path, what: source.to_string() }
            }
            redb::Error::Io(source) => Self::Io { path, source },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Unavailable,
            other => Self::Damaged { path, what: other.to_string() },
        }
    }

    /// What the system says, about a file.
    pub(super) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
