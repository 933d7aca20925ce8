//! The data folder and the master key in it: both private to one user, or refused.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoreError;
use super::disk::sync_folder_of;
use crate::seal::MasterKey;

const KEY_HEX_CHARS: usize = 64;
/// The name of the master key in the folder.
pub const KEY_FILE: &str = "master.key";
const CREDENTIAL: &str = "gateway-master-key";

/// Makes the folder with mode 0700, or checks that it is private to the user that runs this process.
///
/// # Errors
/// When it belongs to another user or others may look into it.
pub fn prepare(data_dir: &Path) -> Result<(), StoreError> {
    let refuse = |problem: String| StoreError::Folder { path: data_dir.to_owned(), problem };
    match DirBuilder::new().recursive(true).mode(0o700).create(data_dir) {
        Ok(()) => {}
        // Something else has that name; told apart below.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(refuse(format!("it can not be made ({error}); make it, or set store.data_dir")));
        }
    }
    let folder = std::fs::metadata(data_dir).map_err(|e| StoreError::io(data_dir, e))?;
    if !folder.is_dir() {
        return Err(refuse("it is not a folder; set store.data_dir to one".to_owned()));
    }
    let uid = rustix::process::geteuid().as_raw();
    if folder.uid() != uid {
        return Err(refuse(format!(
            "it belongs to uid {} and this process runs as uid {uid}; run as its owner, such as with sudo -u",
            folder.uid()
        )));
    }
    if folder.mode() & 0o077 == 0 {
        return Ok(());
    }
    // Nothing can have leaked from an empty folder; otherwise a person has to look.
    let empty = std::fs::read_dir(data_dir).map_err(|e| StoreError::io(data_dir, e))?.next().is_none();
    if empty {
        let private = Permissions::from_mode(0o700);
        return std::fs::set_permissions(data_dir, private).map_err(|e| StoreError::io(data_dir, e));
    }
    Err(refuse(format!(
        "others may look into it (mode {:04o}); run chmod 700 on it, and think about who has seen the master key",
        folder.mode() & 0o7777
    )))
}

/// The master key: from `store.master_key_file`, else the systemd credential `gateway-master-key`, else
/// `master.key` in the folder, which is made at the first start.
///
/// # Errors
/// When it can not be read, is not one, or others may read it.
pub fn load_master_key(data_dir: &Path, configured: Option<&Path>) -> Result<MasterKey, StoreError> {
    load_from(data_dir, configured, std::env::var_os("CREDENTIALS_DIRECTORY"))
}

fn load_from(
    data_dir: &Path,
    configured: Option<&Path>,
    credentials: Option<OsString>,
) -> Result<MasterKey, StoreError> {
    if let Some(path) = configured {
        return read(path, 0o077);
    }
    let credential = credentials.map(|folder| PathBuf::from(folder).join(CREDENTIAL));
    if let Some(path) = credential.filter(|path| path.exists()) {
        // systemd gives access by ACL, whose mask shows as the group's bits.
        return read(&path, 0o007);
    }
    let path = data_dir.join(KEY_FILE);
    if path.try_exists().map_err(|e| StoreError::io(&path, e))? {
        return read(&path, 0o077);
    }
    if data_dir.join("state.redb").exists() {
        let problem = "it is missing, and the store beside it needs it; restore it from its backup, or set store.master_key_file";
        return Err(StoreError::MasterKey { path, problem: problem.to_owned() });
    }
    make(&path)?;
    read(&path, 0o077)
}

/// Where a master key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// `store.master_key_file`, or a credential of systemd.
    Elsewhere,
    /// `master.key` in the data folder.
    Folder,
}

/// The master key that is there already, and where; see [`load_master_key`]. None is made.
///
/// # Errors
/// When it can not be read, is not one, or others may read it.
pub fn find_master_key(
    data_dir: &Path,
    configured: Option<&Path>,
) -> Result<Option<(MasterKey, KeyPlace)>, StoreError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let elsewhere = configured.is_some()
        || credentials.as_ref().is_some_and(|folder| Path::new(folder).join(CREDENTIAL).exists());
    if elsewhere {
        return load_from(data_dir, configured, credentials).map(|key| Some((key, KeyPlace::Elsewhere)));
    }
    let path = data_dir.join(KEY_FILE);
    if !path.try_exists().map_err(|e| StoreError::io(&path, e))? {
        return Ok(None);
    }
    read(&path, 0o077).map(|key| Some((key, KeyPlace::Folder)))
}

/// The master key that 64 hex digits stand for; `None` when they do not.
pub fn key_of_hex(text: &str) -> Option<MasterKey> {
    let digits = text.as_bytes();
    if digits.len() != KEY_HEX_CHARS {
        return None;
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let mut value = 0;
        for digit in pair {
            value = value * 16 + char::from(*digit).to_digit(16)?;
        }
        *byte = u8::try_from(value).ok()?;
    }
    Some(MasterKey::new(&bytes))
}

/// Writes a master key to a file that must not be there yet, private to this user, safe on disk.
///
/// # Errors
/// When the disk refuses.
pub fn write_master_key(path: &Path, hex: &Zeroizing<String>) -> Result<(), StoreError> {
    let failed = |error| StoreError::io(path, error);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(hex.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Writes a new key under another name and links it into place: there is never half a key, and of two processes
/// that start at once both go on with the same one.
fn make(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io(path, error);
    let bytes = MasterKey::generate().map_err(|error| StoreError::MasterKey {
        path: path.to_owned(),
        problem: format!("it can not be made: {error}"),
    })?;
    let mut text = MasterKey::new(&bytes).to_hex();
    text.push('\n');
    let new = path.with_extension(format!("key.{}.new", std::process::id()));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new).map_err(failed)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
        _ => sync_folder_of(path),
    }
}

fn read(path: &Path, forbidden_mode: u32) -> Result<MasterKey, StoreError> {
    let refuse = |problem: String| StoreError::MasterKey { path: path.to_owned(), problem };
    let unreadable = |error| refuse(format!("it can not be read ({error}); check its path and owner"));
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    if mode & forbidden_mode != 0 {
        return Err(refuse(format!("others may read it (mode {:04o}); run chmod 600 on it", mode & 0o7777)));
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_HEX_CHARS));
    let limit = u64::try_from(2 * KEY_HEX_CHARS).unwrap_or(u64::MAX);
    file.take(limit).read_to_string(&mut text).map_err(unreadable)?;
    key_of_hex(text.trim_end()).ok_or_else(|| {
        refuse("it is not a master key, which is 64 hex digits; restore it from its backup".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_folder_is_private_or_refused() {
        let folder = Folder::new();
        let data = folder.0.join("a/b");
        prepare(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        set_mode(&data, 0o755);
        prepare(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        std::fs::write(data.join("x"), "").unwrap();
        for open in [0o755, 0o701, 0o710] {
            set_mode(&data, open);
            assert!(prepare(&data).unwrap_err().to_string().contains("chmod 700"));
        }
        assert!(matches!(prepare(&data.join("x")), Err(StoreError::Folder { .. })));
        assert!(matches!(prepare(&data.join("x/y")), Err(StoreError::Folder { .. })));
    }

    #[test]
    fn a_key_is_made_once_and_private() {
        let folder = Folder::new();
        let id = load_from(&folder.0, None, None).unwrap().id().to_owned();
        let path = folder.0.join("master.key");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim_end().len(), 64);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
        assert_eq!(load_from(&folder.0, None, None).unwrap().id(), id);
        set_mode(&path, 0o640);
        assert!(load_from(&folder.0, None, None).unwrap_err().to_string().contains("chmod 600"));
        // A lost key is not replaced by one that opens nothing.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(folder.0.join("state.redb"), "").unwrap();
        assert!(load_from(&folder.0, None, None).unwrap_err().to_string().contains("missing"));
        assert!(!path.exists());
    }

    #[test]
    fn the_configured_key_goes_first_then_the_credential() {
        let folder = Folder::new();
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.0.join(name);
            std::fs::write(&path, text).unwrap();
            set_mode(&path, mode);
            path
        };
        let configured = write("configured", &"0a".repeat(32), 0o400);
        let credential = write(CREDENTIAL, &format!("{}\n", "0B".repeat(32)), 0o440);
        let credentials = || Some(folder.0.clone().into_os_string());
        let id = |byte| MasterKey::new(&[byte; 32]).id().to_owned();
        assert_eq!(load_from(&folder.0, Some(&configured), credentials()).unwrap().id(), id(10));
        assert_eq!(load_from(&folder.0, None, credentials()).unwrap().id(), id(11));
        set_mode(&credential, 0o444);
        assert!(load_from(&folder.0, None, credentials()).is_err());
        for wrong in ["", "0a", &"0a".repeat(31), &"0a".repeat(33), &"0g".repeat(32), &"é".repeat(32)] {
            let path = write("wrong", wrong, 0o600);
            let error = load_from(&folder.0, Some(&path), None).unwrap_err().to_string();
            assert!(error.contains("64 hex digits"), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "the error shows the key");
        }
        let absent = folder.0.join("absent");
        assert!(matches!(load_from(&folder.0, Some(&absent), None), Err(StoreError::MasterKey { .. })));
    }
}
