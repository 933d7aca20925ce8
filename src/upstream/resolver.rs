//! Host names to addresses on threads of their own: getaddrinfo blocks. One look-up a host at a time, however many
//! wait for it, so that one dead name server holds one thread.

use std::collections::HashMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::UpstreamError;
use crate::clock::monotonic_ms;
use crate::net::{Socket, Watch};

/// Hosts that may wait for a thread; one more is refused.
const MAX_QUEUED_HOSTS: usize = 256;
const THREADS: usize = 4;
/// How long an answer is good for other calls, and how long a failure is.
const KEEP: Duration = Duration::from_secs(5);
const KEEP_FAILURE: Duration = Duration::from_secs(1);
const MAX_KEPT: usize = 256;

type Key = (String, u16);
type Answer = Arc<Mutex<Vec<SocketAddr>>>;

/// One coroutine that waits. Dropping `done` wakes it.
struct Waiter {
    answer: Answer,
    _done: UnixStream,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Key, Vec<Waiter>>,
    /// Addresses, and until when they are good.
    kept: HashMap<Key, (Vec<SocketAddr>, u64)>,
}

/// Asks the system's resolver.
pub struct Resolver {
    queue: SyncSender<Key>,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (queue, keys) = sync_channel(MAX_QUEUED_HOSTS);
        let keys = Arc::new(Mutex::new(keys));
        let state = Arc::<Mutex<State>>::default();
        for _ in 0..THREADS {
            let (keys, state) = (Arc::clone(&keys), Arc::clone(&state));
            std::thread::Builder::new().name("resolver".to_owned()).spawn(move || serve(&keys, &state))?;
        }
        Ok(Self { queue, state })
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
        let key = (host.to_owned(), port);
        if let Some((addresses, until)) = lock(&self.state).kept.get(&key)
            && monotonic_ms() < *until
        {
            return found(addresses.clone());
        }
        let (mut signal, done) = Socket::signal(watch).map_err(|_| UpstreamError::Unreachable)?;
        let answer = Answer::default();
        {
            let mut state = lock(&self.state);
            let waiter = Waiter { answer: Arc::clone(&answer), _done: done };
            if let Some(waiters) = state.waiting.get_mut(&key) {
                waiters.push(waiter);
            } else {
                if self.queue.try_send(key.clone()).is_err() {
                    log::warn!("too many host names wait to be looked up; one was refused");
                    signal.release();
                    return Err(UpstreamError::Unreachable);
                }
                state.waiting.insert(key, vec![waiter]);
            }
        }
        let waited = signal.read(&mut [0]);
        signal.release();
        if waited.is_err() {
            return Err(watch.interruption().map_or(UpstreamError::Unreachable, UpstreamError::Interrupted));
        }
        let addresses = std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        found(addresses)
    }
}

fn found(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, UpstreamError> {
    if addresses.is_empty() { Err(UpstreamError::Unreachable) } else { Ok(addresses) }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::disallowed_methods, reason = "these are the threads that may block in getaddrinfo")]
fn serve(keys: &Mutex<Receiver<Key>>, state: &Mutex<State>) {
    loop {
        let next = keys.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(key) = next else { return };
        // Nobody waits any more: a host that hangs is not asked for those who have left.
        let left = {
            let mut state = lock(state);
            let is_wanted = state
                .waiting
                .get(&key)
                .is_some_and(|waiters| waiters.iter().any(|waiter| Arc::strong_count(&waiter.answer) > 1));
            if is_wanted { None } else { Some(state.waiting.remove(&key)) }
        };
        if left.is_some() {
            continue;
        }
        let addresses: Vec<SocketAddr> = (key.0.as_str(), key.1)
            .to_socket_addrs()
            .map(|found| found.take(16).collect())
            .unwrap_or_default();
        let mut state = lock(state);
        let waiters = state.waiting.remove(&key).unwrap_or_default();
        for waiter in &waiters {
            (*waiter.answer.lock().unwrap_or_else(PoisonError::into_inner)).clone_from(&addresses);
        }
        let now = monotonic_ms();
        if state.kept.len() >= MAX_KEPT {
            state.kept.retain(|_, (_, until)| now < *until);
        }
        if state.kept.len() < MAX_KEPT {
            let keep = if addresses.is_empty() { KEEP_FAILURE } else { KEEP };
            let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(0);
            state.kept.insert(key, (addresses, now.saturating_add(keep_ms)));
        }
        drop(state);
        // The answers are in place before anyone is woken.
        drop(waiters);
    }
}
