//! Which configuration a command works with.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::config::Config;

const DEFAULT_FILE: &str = "/etc/gateway/config.toml";

/// The file that holds the configuration: the one asked for, else `$GATEWAY_CONFIG`, else the default one if
/// there is one; `None` is the built-in defaults.
pub fn locate(explicit: Option<&str>) -> Option<PathBuf> {
    let from_environment =
        || std::env::var_os("GATEWAY_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
    explicit.map(PathBuf::from).or_else(from_environment).or_else(default)
}

/// The configuration, with the data folder replaced when one was given.
///
/// # Errors
/// What is wrong with the file.
pub fn load(explicit: Option<&str>, data_dir: Option<&str>) -> Result<Config, Failure> {
    let mut config = match locate(explicit) {
        Some(file) => from_file(&file)?,
        None => Config::default(),
    };
    if let Some(data_dir) = data_dir {
        if data_dir.is_empty() {
            return Err(Failure::Usage("--data-dir needs the name of a folder.".to_owned()));
        }
        config.store.data_dir = PathBuf::from(data_dir);
    }
    Ok(config)
}

/// Reads one file.
///
/// # Errors
/// What is wrong with it, with its name.
pub fn from_file(file: &Path) -> Result<Config, Failure> {
    // Stands in for `Config::from_file` until the parts are joined.
    let wrong = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    toml::from_str(&text).map_err(|error| wrong(&error))
}
