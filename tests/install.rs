//! `install.sh` as a person runs it, with a prefix of its own and a binary that is there already.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic like the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_gateway");

fn install(arguments: &[&str]) -> (Option<i32>, String, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
    let Output { status, stdout, stderr } = Command::new("sh").arg(script).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An empty folder, which is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Every file with its mode, its inode and its time of change.
    fn content(&self) -> BTreeMap<PathBuf, (u32, u64, i64)> {
        fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, (u32, u64, i64)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let about = path.metadata().unwrap();
                if about.is_dir() {
                    collect(&path, found);
                } else {
                    found.insert(path, (about.permissions().mode() & 0o777, about.ino(), about.ctime_nsec()));
                }
            }
        }
        let mut found = BTreeMap::new();
        collect(&self.0, &mut found);
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn installs_once_and_changes_nothing_the_second_time() {
    let prefix = Folder::new("install prefix");
    let (code, stdout, stderr) = install(&["--prefix", prefix.path(), "--binary", BINARY]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let first = prefix.content();
    let modes: Vec<_> = first
        .iter()
        .map(|(path, (mode, ..))| (path.strip_prefix(&prefix.0).unwrap().to_str().unwrap(), *mode))
        .collect();
    assert_eq!(modes, [("bin/gateway", 0o755), ("etc/gateway/config.toml", 0o644)]);
    assert_eq!(std::fs::read(prefix.0.join("bin/gateway")).unwrap(), std::fs::read(BINARY).unwrap());
    assert!(stdout.contains("installed") && stdout.contains("Next:"), "{stdout}");

    let (code, stdout, _) = install(&["--prefix", prefix.path(), "--binary", BINARY]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("unchanged") && stdout.contains("kept") && !stdout.contains("installed"),
        "{stdout}"
    );
    assert_eq!(prefix.content(), first);
}

#[test]
fn a_configuration_that_is_there_is_kept() {
    let prefix = Folder::new("install_config");
    let config = prefix.0.join("etc/gateway/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "# mine\n").unwrap();
    let (code, stdout, _) = install(&["--prefix", prefix.path(), "--binary", BINARY]);
    assert_eq!(code, Some(0), "{stdout}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "# mine\n");
}

#[test]
fn misuse_is_told_and_installs_nothing() {
    let prefix = Folder::new("install_misuse");
    for wrong in [&["--prefix"][..], &["--prefix", ""], &["--unknown"], &["extra"]] {
        let (code, stdout, stderr) = install(wrong);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(stderr.contains("--help"), "{wrong:?}: {stderr}");
    }
    let (code, _, stderr) = install(&["--prefix", prefix.path(), "--binary", "/nonexistent/gateway"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("/nonexistent/gateway is not there"), "{stderr}");
    assert!(prefix.content().is_empty());
    let (code, stdout, _) = install(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("--prefix DIR"), "{stdout}");
}
