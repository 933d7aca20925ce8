//! A file that only takes up room. On a full disk it is given up, so that a change, such as a revocation,
//! still finds a place.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

const BALLAST_BYTES: u64 = 1024 * 1024;

/// The file, there or not.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    there: bool,
}

impl Ballast {
    pub(super) fn new(data_dir: &Path) -> Self {
        let mut ballast = Self { path: data_dir.join("ballast"), there: false };
        ballast.restore();
        ballast
    }

    pub(super) fn is_missing(&self) -> bool {
        !self.there
    }

    /// Gives the room back to the disk.
    pub(super) fn release(&mut self) {
        match std::fs::remove_file(&self.path) {
            Ok(()) => log::warn!("gave up {} to find room for a change", self.path.display()),
            Err(error) => log::warn!("{} could not be given up: {error}", self.path.display()),
        }
        self.there = false;
    }

    /// Takes room again when the disk has plenty.
    pub(super) fn restore(&mut self) {
        let whole = std::fs::metadata(&self.path).is_ok_and(|file| file.len() == BALLAST_BYTES);
        self.there = whole || (self.has_room() && self.fill());
    }

    /// Taking the last free bytes would only make the next write fail.
    fn has_room(&self) -> bool {
        let Some(folder) = self.path.parent() else { return false };
        rustix::fs::statvfs(folder)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) > 4 * BALLAST_BYTES)
    }

    fn fill(&self) -> bool {
        let filled = open_private(&self.path).and_then(|file| {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES) {
                Ok(()) => Ok(()),
                // A file system without fallocate: real bytes take real room.
                Err(_) => {
                    let mut file = file;
                    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), BALLAST_BYTES), &mut file)
                        .map(|_| ())
                }
            }
        });
        if filled.is_err() {
            let _ = std::fs::remove_file(&self.path);
        }
        filled.is_ok()
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
