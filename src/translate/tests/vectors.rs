//! Where recordings of providers are. They are no part of the project: `GATEWAY_TEST_VECTORS` names their folder.

use std::path::{Path, PathBuf};

/// The folder; says so when it is not there.
pub fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/wire/vectors");
    let path = std::env::var_os("GATEWAY_TEST_VECTORS").map_or_else(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("not run: vectors absent");
    None
}
