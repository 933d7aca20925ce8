//! What a service manager sees of the gateway: readiness, reload, watchdog, the end, and lines for its journal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails loudly and may block its own thread"
)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Stdio;

use support::{Gateway, Home, PATIENCE};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.0.recv(&mut bytes).expect("a message to the service manager");
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// The next message that is no sign of life.
    fn next_event(&self) -> String {
        loop {
            let message = self.next();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }
}

fn serve(config: &str, more: &[(&str, String)]) -> (Gateway, Manager) {
    let home = Home::new(config);
    let path = home.path("notify");
    let manager = Manager::at(&path);
    let mut variables = vec![("NOTIFY_SOCKET", path.display().to_string())];
    variables.extend_from_slice(more);
    (home.serve_with(&variables), manager)
}

#[test]
fn the_manager_hears_of_start_reload_and_end_in_order() {
    let (mut gateway, manager) = serve("", &[]);
    let ready = format!("READY=1\nSTATUS=listening on http://{}\n", gateway.addr);
    assert_eq!(manager.next(), ready);
    for broken in [false, true, false] {
        let config = gateway.home.config();
        let text = std::fs::read_to_string(&config).unwrap();
        if broken {
            std::fs::write(&config, "nonsense = [").unwrap();
        }
        gateway.signal("HUP");
        let reloading = manager.next();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(manager.next(), ready, "a reload ends whatever it found");
        std::fs::write(&config, text).unwrap();
    }
    gateway.wait_for_log("the configuration stays as it was");
    gateway.signal("TERM");
    let stopping = manager.next();
    // The drain of these tests is 5 s, and 20 s are for the rest.
    assert!(stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000\n"), "{stopping}");
    assert!(gateway.wait().success());
}

#[test]
fn a_reload_reads_the_log_level() {
    let (mut gateway, manager) = serve("log.level = \"error\"\n", &[]);
    manager.next();
    let config = gateway.home.config();
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(!gateway.log().contains("INFO"), "{}", gateway.log());
    std::fs::write(&config, text.replace("\"error\"", "\"info\"")).unwrap();
    gateway.signal("HUP");
    assert!(manager.next().starts_with("RELOADING=1"));
    assert!(manager.next().starts_with("READY=1"));
    std::fs::write(&config, text.replace("\"error\"", "\"info\"") + "relay.max_idle_connections = 3\n")
        .unwrap();
    gateway.signal("HUP");
    manager.next();
    manager.next();
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    let log = gateway.log();
    assert!(log.contains("SIGHUP: log.level was read again"), "{log}");
    assert_eq!(log.matches("they take a restart").count(), 1, "{log}");
}

#[test]
fn signs_of_life_come_at_half_of_the_timeout_and_only_to_who_waits() {
    let (mut gateway, manager) = serve("", &[("WATCHDOG_USEC", "200000".to_owned())]);
    assert!(manager.next_event().starts_with("READY=1"));
    let began = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
    assert!(began.elapsed() >= std::time::Duration::from_millis(300), "{:?}", began.elapsed());
    gateway.signal("TERM");
    assert!(manager.next_event().starts_with("STOPPING=1"));
    assert!(gateway.wait().success());

    // The variables are those of another process.
    let more = [("WATCHDOG_USEC", "1000".to_owned()), ("WATCHDOG_PID", "1".to_owned())];
    let (mut gateway, manager) = serve("", &more);
    assert!(manager.next().starts_with("READY=1"));
    gateway.signal("TERM");
    assert!(manager.next().starts_with("STOPPING=1"), "no sign of life was asked for");
    assert!(gateway.wait().success());
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let home = Home::new("");
    let manager = Manager::at(&home.path("notify"));
    let place = home.path("notify").display().to_string();
    let first = Home::new("").serve();
    std::fs::create_dir_all(home.data_dir().parent().unwrap()).unwrap();
    let config = std::fs::read_to_string(home.config()).unwrap();
    let taken = format!("\"{}\"", first.addr);
    std::fs::write(home.config(), config.replace("\"127.0.0.1:0\"", &taken)).unwrap();
    assert!(home.try_serve_with(&[("NOTIFY_SOCKET", place)]).is_err());
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err(), "nothing was said");
}

#[test]
fn lines_carry_priorities_only_where_standard_error_is_the_journal() {
    for is_journal in [true, false] {
        let home = Home::new("");
        let (journal, stderr) = UnixStream::pair().unwrap();
        let stderr = OwnedFd::from(stderr);
        let stat = std::fs::File::from(stderr.try_clone().unwrap()).metadata().unwrap();
        let inode = if is_journal { stat.ino() } else { stat.ino() + 1 };
        let mut child = home
            .serve_command()
            .env("JOURNAL_STREAM", format!("{}:{inode}", stat.dev()))
            .stderr(Stdio::from(stderr))
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(journal).lines().map(Result::unwrap);
        lines.find(|line| line.contains("listening on")).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        std::process::Command::new("kill").arg("-TERM").arg(pid.to_string()).status().unwrap();
        let stopped = lines.find(|line| line.contains("stopped")).unwrap();
        assert!(child.wait().unwrap().success());
        if is_journal {
            assert!(stopped.starts_with("<6>[gateway::server] stopped"), "{stopped}");
        } else {
            assert!(stopped.starts_with("20") && stopped.contains("INFO"), "{stopped}");
        }
    }
}
