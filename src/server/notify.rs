//! What the service manager is told: the protocol of sd_notify(3), which is datagrams with lines of `NAME=value` to the
//! socket that `NOTIFY_SOCKET` names. Without the variable nobody listens, and nothing is sent.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Time beyond the drain that is asked for to stop: for the last words of calls and for the files.
const STOP_RESERVE: Duration = Duration::from_secs(20);

/// The way to the service manager, or to nobody.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    /// Reads the environment that the manager started this process with.
    pub(super) fn from_environment() -> Self {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::at(&name),
            _ => Self::default(),
        }
    }

    /// The manager behind a socket: a path, or `@` and an abstract name. A wrong name is logged and then nobody.
    fn at(name: &OsStr) -> Self {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(name),
            _ => Err(std::io::Error::other("neither a path nor an abstract name")),
        };
        // A manager that does not read must not stop a gateway that works.
        let socket = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        match address.and_then(|address| socket().map(|socket| (socket, address))) {
            Ok(socket) => Self { socket: Some(socket) },
            Err(error) => {
                log::warn!("NOTIFY_SOCKET can not be used, so the service manager is told nothing: {error}");
                Self::default()
            }
        }
    }

    /// Calls are welcome.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Files are being read again; [`ServiceManager::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading files again\n"));
    }

    /// The end has begun and may take the drain's time.
    pub(super) fn stopping(&self, drain: Duration) {
        let micros = drain.saturating_add(STOP_RESERVE).as_micros();
        self.send(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=stopping, calls in flight may end\n"
        ));
    }

    /// The process is alive.
    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            log::warn!("the service manager can not be told: {error}");
        }
    }
}

/// How long the manager waits for a sign of life, when it waits for any from this process.
pub(super) fn watchdog_timeout() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    timeout_for(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id())
}

fn timeout_for(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    // The variables of a parent that was watched are inherited.
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    micros?.parse().ok().filter(|micros| *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let name = format!("gateway-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, place) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
        ] {
            let manager = ServiceManager::at(&place);
            manager.ready("here");
            assert_eq!(received(&socket), "READY=1\nSTATUS=here\n");
            manager.reloading();
            let text = received(&socket);
            let rest = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&text);
            assert!(rest.split('\n').next().unwrap().parse::<u64>().unwrap() > 0);
            manager.stopping(Duration::from_secs(30));
            assert!(received(&socket).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=50000000\n"));
            manager.alive();
            assert_eq!(received(&socket), "WATCHDOG=1\n");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_manager_that_is_not_there_stops_nobody() {
        let long = format!("/{}", "x".repeat(300));
        for place in ["/nowhere/notify", "relative", "@", "", &long, "vsock:2:1"] {
            ServiceManager::at(OsStr::new(place)).ready("here");
        }
        ServiceManager::default().alive();
    }

    #[test]
    fn the_watchdog_is_for_this_process_only() {
        assert_eq!(timeout_for(Some("2000000"), None, 7), Some(Duration::from_secs(2)));
        assert_eq!(timeout_for(Some("2000000"), Some("7"), 7), Some(Duration::from_secs(2)));
        for (micros, pid) in [
            (Some("2000000"), Some("8")),
            (Some("2000000"), Some("")),
            (Some("0"), None),
            (Some("-1"), None),
            (Some("soon"), None),
            (None, Some("7")),
        ] {
            assert_eq!(timeout_for(micros, pid, 7), None, "{micros:?} {pid:?}");
        }
    }
}
