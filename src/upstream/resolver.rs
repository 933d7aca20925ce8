//! Host names to addresses on a thread of its own: getaddrinfo blocks.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::UpstreamError;
use crate::net::{Socket, Watch};

/// Look-ups that may wait; one more is refused.
const MAX_WAITING: usize = 256;
const THREADS: usize = 2;

type Answer = Arc<Mutex<Vec<SocketAddr>>>;

struct Lookup {
    host: String,
    port: u16,
    answer: Answer,
    /// Dropping it wakes the coroutine.
    _done: UnixStream,
}

/// Asks the system's resolver.
#[derive(Debug)]
pub struct Resolver {
    queue: SyncSender<Lookup>,
}

impl Resolver {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (queue, lookups) = sync_channel(MAX_WAITING);
        let lookups = Arc::new(Mutex::new(lookups));
        for _ in 0..THREADS {
            let lookups = Arc::clone(&lookups);
            std::thread::Builder::new().name("resolver".to_owned()).spawn(move || serve(&lookups))?;
        }
        Ok(Self { queue })
    }

    /// The addresses of a host; an address given as text needs no look-up.
    ///
    /// # Errors
    /// `Unreachable` when there are none, `Interrupted` when the watch ended the wait.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        watch: &Arc<Watch>,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (mut signal, done) = Socket::signal(watch).map_err(|_| UpstreamError::Unreachable)?;
        let answer = Answer::default();
        let lookup = Lookup { host: host.to_owned(), port, answer: Arc::clone(&answer), _done: done };
        if self.queue.try_send(lookup).is_err() {
            log::warn!("too many name look-ups wait; one was refused");
            return Err(UpstreamError::Unreachable);
        }
        let waited = signal.read(&mut [0]);
        signal.release();
        if waited.is_err() {
            return Err(watch.interruption().map_or(UpstreamError::Unreachable, UpstreamError::Interrupted));
        }
        let addresses = std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        if addresses.is_empty() { Err(UpstreamError::Unreachable) } else { Ok(addresses) }
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the thread that may block in getaddrinfo")]
fn serve(lookups: &Mutex<Receiver<Lookup>>) {
    loop {
        let next = lookups.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(lookup) = next else { return };
        match (lookup.host.as_str(), lookup.port).to_socket_addrs() {
            Ok(found) => {
                let found = found.take(16).collect();
                *lookup.answer.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
            Err(error) => log::debug!("a host name did not resolve: {error}"),
        }
    }
}
