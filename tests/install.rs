//! `install.sh` as a person runs it, with a prefix of its own and a binary that is there already. What needs root, a
//! service's user and whole file systems is in `packaging/test`.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic like the test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

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
        .filter(|(path, _)| !path.starts_with("share/"))
        .collect();
    assert_eq!(
        modes,
        [
            ("bin/gateway", 0o755),
            ("etc/gateway/config.toml", 0o644),
            ("lib/gateway/install.sh", 0o755),
            ("lib/gateway/manifest", 0o644),
        ]
    );
    assert!(first.contains_key(&prefix.0.join("share/doc/gateway/config.example.toml")));
    let config = std::fs::read_to_string(prefix.0.join("etc/gateway/config.toml")).unwrap();
    assert!(config.contains(&format!("\ndata_dir = \"{}/var/lib/gateway\"\n", prefix.path())), "{config}");
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
    let odd = format!("{}/a\"b", prefix.path());
    for wrong in [
        &["--prefix"][..],
        &["--prefix", ""],
        &["--unknown"],
        &["extra"],
        &["--purge"],
        &["--wait", "soon"],
        &["--user", "--prefix", prefix.path()],
        &["--root", "/nonexistent"],
        &["--prefix", &odd],
    ] {
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

/// A prefix with an installed gateway whose operators' listener is on a free port, and with data: one user.
fn installed(name: &str) -> Folder {
    let prefix = Folder::new(name);
    let (code, stdout, stderr) = install(&["--prefix", prefix.path(), "--binary", BINARY]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let config = prefix.0.join("etc/gateway/config.toml");
    let port = free_port();
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("#listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:0\"")
        .replace("#listen = \"127.0.0.1:9464\"", &format!("listen = \"127.0.0.1:{port}\""));
    std::fs::write(&config, text).unwrap();
    admin(&prefix, &["user", "create", "ada@example.com", "--role", "admin"]);
    prefix
}

/// A loopback port below the range that the system gives to outgoing connections.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id().wrapping_mul(97) % 11_000).unwrap();
    loop {
        let port = 20_000 + first + TAKEN.fetch_add(1, Ordering::Relaxed) % 1_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `gateway admin` of the installed version, without a server.
fn admin(prefix: &Folder, arguments: &[&str]) -> String {
    let done = Command::new(prefix.0.join("bin/gateway"))
        .args(["admin", "--config"])
        .arg(prefix.0.join("etc/gateway/config.toml"))
        .args(arguments)
        .env_remove("GATEWAY_URL")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The same program with a byte more: another version, as far as the installer can see.
fn other_version(folder: &Folder) -> String {
    let path = folder.0.join("other");
    let mut bytes = std::fs::read(BINARY).unwrap();
    bytes.push(b'\n');
    write_program(&path, &bytes);
    path.to_str().unwrap().to_owned()
}

/// A version that says what a good one says, and does this when it is to serve.
fn broken_version(folder: &Folder, serve: &str) -> String {
    let path = folder.0.join("broken");
    write_program(
        &path,
        format!("#!/bin/sh\ncase $1 in serve) {serve} ;; --version) echo gateway 9.9.9 ;; *) exec '{BINARY}' \"$@\" ;; esac\n")
            .as_bytes(),
    );
    path.to_str().unwrap().to_owned()
}

fn write_program(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_upgrade_is_asked_for_and_keeps_configuration_and_data() {
    let prefix = installed("install_upgrade");
    let scratch = Folder::new("install_upgrade_versions");
    let other = other_version(&scratch);
    let config = std::fs::read(prefix.0.join("etc/gateway/config.toml")).unwrap();
    let before = prefix.content();

    let (code, _, stderr) = install(&["--prefix", prefix.path(), "--binary", &other]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--upgrade") && stderr.contains("Nothing was changed"), "{stderr}");
    assert_eq!(prefix.content(), before);

    let (code, stdout, stderr) = install(&["--prefix", prefix.path(), "--binary", &other, "--upgrade"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_eq!(std::fs::read(prefix.0.join("bin/gateway")).unwrap(), std::fs::read(&other).unwrap());
    assert_eq!(std::fs::read(prefix.0.join("etc/gateway/config.toml")).unwrap(), config);
    assert!(admin(&prefix, &["user", "list"]).contains("ada@example.com"));
    let backups = prefix.0.join("var/backups/gateway");
    assert_eq!(backups.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let backup = std::fs::read_dir(backups).unwrap().next().unwrap().unwrap().path();
    assert!(backup.join("data/state.redb").exists() && backup.join("config.toml").exists());
    assert_eq!(
        std::fs::read(backup.join("files").join(prefix.path().trim_start_matches('/')).join("bin/gateway"))
            .unwrap(),
        std::fs::read(BINARY).unwrap()
    );
}

#[test]
fn a_version_that_does_not_become_ready_goes_back() {
    let prefix = installed("install_back");
    let scratch = Folder::new("install_back_versions");
    let data = prefix.0.join("var/lib/gateway/state.redb");
    let spoil = format!("echo spoiled >'{}'; exit 1", data.display());
    for serve in ["echo no thanks >&2; exit 1", "exec sleep 600", &spoil] {
        let before = std::fs::read(&data).unwrap();
        let broken = broken_version(&scratch, serve);
        let (code, stdout, stderr) =
            install(&["--prefix", prefix.path(), "--binary", &broken, "--upgrade", "--wait", "1"]);
        assert_eq!(code, Some(1), "{serve}: {stdout}{stderr}");
        assert!(stderr.contains("went back to version"), "{serve}: {stderr}");
        assert_eq!(
            std::fs::read(prefix.0.join("bin/gateway")).unwrap(),
            std::fs::read(BINARY).unwrap(),
            "{serve}"
        );
        assert!(std::fs::read(&data).unwrap() == before, "{serve}: the data is not what it was");
        assert!(admin(&prefix, &["user", "list"]).contains("ada@example.com"));
        std::fs::remove_dir_all(prefix.0.join("var/backups")).unwrap();
    }
}

#[test]
fn an_interrupted_upgrade_goes_back() {
    let prefix = installed("install_interrupted");
    let scratch = Folder::new("install_interrupted_versions");
    let data = prefix.0.join("var/lib/gateway/state.redb");
    let before = std::fs::read(&data).unwrap();
    let broken = broken_version(&scratch, "exec sleep 600");
    let mut running = Command::new("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"))
        .args(["--prefix", prefix.path(), "--binary", &broken, "--upgrade", "--wait", "600"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The last file is in its place: it waits for the new version.
    let stdout = BufReader::new(running.stdout.take().unwrap());
    assert!(stdout.lines().any(|line| line.unwrap().ends_with("lib/gateway/manifest")));
    let killed = Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let done = running.wait_with_output().unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("went back to version"), "{stderr}");
    assert_eq!(std::fs::read(prefix.0.join("bin/gateway")).unwrap(), std::fs::read(BINARY).unwrap());
    assert!(std::fs::read(&data).unwrap() == before);
}

#[test]
fn what_does_not_take_the_configuration_or_does_not_run_changes_nothing() {
    let prefix = installed("install_refused");
    let scratch = Folder::new("install_refused_versions");
    let other = other_version(&scratch);
    let config = prefix.0.join("etc/gateway/config.toml");
    std::fs::write(&config, "unknown = 1\n").unwrap();
    let before = prefix.content();
    let (code, _, stderr) = install(&["--prefix", prefix.path(), "--binary", &other, "--upgrade"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("does not take") && stderr.contains("unknown"), "{stderr}");
    let no_program = scratch.0.join("text");
    write_program(&no_program, b"\x7fELF of another machine");
    let (code, _, stderr) =
        install(&["--prefix", prefix.path(), "--binary", no_program.to_str().unwrap(), "--upgrade"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("does not run on this machine"), "{stderr}");
    assert_eq!(prefix.content(), before);
}

#[test]
fn uninstall_keeps_what_is_the_operators_and_purge_keeps_nothing() {
    let prefix = installed("install_gone");
    let (code, stdout, _) = install(&["--prefix", prefix.path(), "--uninstall"]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(!prefix.0.join("bin").exists() && !prefix.0.join("share").exists());
    assert!(
        prefix.0.join("etc/gateway/config.toml").exists()
            && prefix.0.join("var/lib/gateway/state.redb").exists()
    );
    // A file of the operator's is nobody else's to remove.
    std::fs::write(prefix.0.join("etc/gateway/notes"), "mine").unwrap();
    let (code, stdout, _) = install(&["--prefix", prefix.path(), "--uninstall", "--purge"]);
    assert_eq!(code, Some(0), "{stdout}");
    let left: Vec<_> = prefix.content().into_keys().collect();
    assert_eq!(left, [prefix.0.join("etc/gateway/notes")]);
    let (code, stdout, _) = install(&["--prefix", prefix.path(), "--uninstall"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("Nothing is installed"), "{stdout}");
}

#[test]
fn a_release_that_is_not_what_was_released_is_refused() {
    let scratch = Folder::new("install_release");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let release = scratch.0.join("release");
    std::fs::create_dir_all(release.join("packaging")).unwrap();
    for name in ["install.sh", "config.example.toml", "LICENSE", "packaging/gateway.service"] {
        std::fs::copy(root.join(name), release.join(name)).unwrap();
    }
    std::fs::copy(BINARY, release.join("gateway")).unwrap();
    let sums = Command::new("sh")
        .args(["-c", "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum"])
        .current_dir(&release)
        .output()
        .unwrap();
    std::fs::write(release.join("SHA256SUMS"), sums.stdout).unwrap();
    let prefix = scratch.0.join("prefix");
    let from =
        |source: &Path| install(&["--prefix", prefix.to_str().unwrap(), "--from", source.to_str().unwrap()]);

    std::fs::write(release.join("LICENSE"), "another").unwrap();
    let (code, _, stderr) = from(&release);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a checksum is wrong") && stderr.contains("LICENSE"), "{stderr}");
    std::fs::copy(root.join("LICENSE"), release.join("LICENSE")).unwrap();

    let more = release.join("packaging/more");
    std::fs::write(&more, "").unwrap();
    let (code, _, stderr) = from(&release);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("does not hold exactly the files"), "{stderr}");
    std::fs::remove_file(&more).unwrap();

    std::os::unix::fs::symlink("/etc/passwd", &more).unwrap();
    let (code, _, stderr) = from(&release);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("neither a file nor a folder"), "{stderr}");
    std::fs::remove_file(&more).unwrap();
    assert!(!prefix.exists());

    let (code, stdout, stderr) = from(&release);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("verified") && prefix.join("bin/gateway").exists(), "{stdout}");
}
