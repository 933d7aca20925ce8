//! Recorded traffic of real providers, which is not part of the repository.

use std::path::PathBuf;

/// The folder of the recordings: `GATEWAY_TEST_VECTORS`, else `../shared/wire/vectors`. Says so when it is absent.
pub fn folder() -> Option<PathBuf> {
    let path = std::env::var_os("GATEWAY_TEST_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/wire/vectors"),
        PathBuf::from,
    );
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("not run: vectors absent");
    None
}
