//! The management API in process, on the store itself, while no server holds it.

use super::{ClientError, Transport};
use crate::config::Config;

/// Opens the store as its owner.
///
/// # Errors
/// When the store is locked, is another user's or can not be opened.
pub fn open_direct(config: &Config) -> Result<Box<dyn Transport>, ClientError> {
    let _uid = owner_uid(&config.store.data_dir)?;
    Err(ClientError::NotAvailable)
}

/// This process's user id, which has to be the data folder's owner. A missing folder is made.
fn owner_uid(data_dir: &std::path::Path) -> Result<u32, ClientError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    let wrong = |error: std::io::Error| ClientError::Store {
        data_dir: data_dir.to_owned(),
        cause: error.to_string(),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(wrong)?;
    let owner_uid = std::fs::metadata(data_dir).map_err(wrong)?.uid();
    let uid = rustix::process::geteuid().as_raw();
    if uid == owner_uid {
        Ok(uid)
    } else {
        Err(ClientError::NotOwner { data_dir: data_dir.to_owned(), owner_uid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn a_missing_folder_is_made_private() {
        let root = std::env::temp_dir().join(format!("gateway-cli-direct-{}", std::process::id()));
        let dir = root.join("a/b");
        owner_uid(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn another_users_folder_is_refused() {
        // Nobody runs tests as the owner of this but root, who owns it; then there is nothing to see.
        if !rustix::process::geteuid().is_root() {
            assert!(matches!(owner_uid(Path::new("/")), Err(ClientError::NotOwner { owner_uid: 0, .. })));
        }
    }
}
