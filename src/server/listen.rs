//! The sockets that are listened on, and the loops that accept.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use may::coroutine;
use may::io::WaitIoWaker;

use super::front::{self, Surface};
use super::{Gateway, StartError};
use crate::net::{Listener, Watcher};

/// How long accepting pauses when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are being told that there is no room.
const MAX_REFUSALS: usize = 64;
/// Bytes of a Unix socket's path, the ending NUL not counted.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Binds the main listener. A demo takes another port when the configured one is in use.
pub(super) fn bind_main(address: SocketAddr, demo: bool) -> Result<(Listener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { what: "server.listen", place: address.to_string(), error };
    let bound = match TcpListener::bind(address) {
        Err(error) if demo && error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind((address.ip(), 0))
        }
        other => other,
    };
    let listener = bound.map_err(failed)?;
    let address = listener.local_addr()?;
    Ok((Listener::tcp(listener)?, address))
}

/// Binds the admin socket with mode 0600. A socket left over by a crash is removed: whoever calls this holds
/// the store's lock, so nobody serves on it.
pub(super) fn bind_admin(path: &Path) -> Result<Listener, StartError> {
    let failed =
        |error| StartError::Listen { what: "admin socket", place: path.display().to_string(), error };
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        let text =
            format!("the path is longer than {MAX_SOCKET_PATH_BYTES} bytes; choose a shorter store.data_dir");
        return Err(failed(io::Error::other(text)));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The mode must hold from the first moment, so it is the mask that makes it.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    Ok(Listener::unix(bound.map_err(failed)?)?)
}

/// Accepts connections until the gateway drains; each gets a coroutine.
pub(super) fn accept_on(gateway: &Arc<Gateway>, listener: Listener, surface: Surface) -> WaitIoWaker {
    let waker = listener.waker();
    let gateway = Arc::clone(gateway);
    let body = move || {
        let mut failing = false;
        while !gateway.draining.load(Ordering::Acquire) {
            match listener.accept_unless(|| gateway.draining.load(Ordering::Acquire)) {
                Ok(None) => break,
                Ok(Some((stream, peer))) => {
                    failing = false;
                    connect(&gateway, stream, peer, surface);
                }
                Err(error) => {
                    if !failing {
                        log::error!("accepting connections fails ({error}); trying again until it works");
                    }
                    failing = true;
                    coroutine::sleep(ACCEPT_PAUSE);
                }
            }
        }
    };
    let _ = may::go!(body);
    waker
}

fn connect(gateway: &Arc<Gateway>, stream: crate::net::Stream, peer: Option<SocketAddr>, surface: Surface) {
    let metrics = &gateway.relay.metrics;
    metrics.connections_accepted.fetch_add(1, Ordering::Relaxed);
    let registration = match gateway.watcher.register(&stream) {
        Ok(registration) => registration,
        Err(error) => {
            log::error!("a connection can not be watched and is closed: {error}");
            return;
        }
    };
    // Those that are refused get a sentence, up to a bound of their own; then silence is all there is room for.
    if surface == Surface::Main && gateway.watcher.open_connections() > gateway.max_connections + MAX_REFUSALS
    {
        metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // The administrator of the host gets in however many connections there are.
    let refuses = surface == Surface::Main && gateway.watcher.open_connections() > gateway.max_connections;
    if refuses {
        metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
    }
    let watch = Arc::clone(registration.watch());
    let gateway = Arc::clone(gateway);
    let body = move || {
        let panics = Arc::clone(&gateway.relay.metrics);
        let run = std::panic::AssertUnwindSafe(|| {
            front::serve(&gateway, stream, peer, registration, surface, refuses);
        });
        if std::panic::catch_unwind(run).is_err() {
            panics.panics.fetch_add(1, Ordering::Relaxed);
        }
    };
    match may::go!(coroutine::Builder::new(), body) {
        Ok(handle) => Watcher::adopt(&watch, handle),
        Err(error) => log::error!("no coroutine for a connection: {error}"),
    }
}
