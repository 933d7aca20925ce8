//! Which configuration a command works with.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::config::Config;

/// The configuration, with the data folder replaced when one was given.
///
/// # Errors
/// What is wrong with the file.
pub fn load(explicit: Option<&str>, data_dir: Option<&str>) -> Result<Config, Failure> {
    if data_dir == Some("") {
        return Err(Failure::Usage("--data-dir needs the name of a folder.".to_owned()));
    }
    let located = Config::locate(explicit.map(Path::new));
    let mut config = located.map_err(|error| Failure::Input(error.to_string()))?;
    if let Some(data_dir) = data_dir {
        config.store.data_dir = PathBuf::from(data_dir);
    }
    Ok(config)
}
