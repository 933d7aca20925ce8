//! Wakes a coroutine that waits on a socket, from any thread, on the worker that the socket belongs to.
//!
//! The runtime touches a socket's state for a moment after it has handed the waiting coroutine over. Woken on
//! another core, the coroutine could end within that moment and take the socket with it. So each worker has a
//! coroutine that does the waking there, one thing after the other.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use may::io::{CoIo, WaitIo, WaitIoWaker};

use super::pulse::Pulse;

/// What wakes the coroutine that waits on one socket.
pub(super) struct Waker {
    waker: WaitIoWaker,
    worker: usize,
}

impl Waker {
    /// For a socket of this worker.
    pub(super) fn new(waker: WaitIoWaker, worker: usize) -> Arc<Self> {
        Arc::new(Self { waker, worker })
    }

    /// Wakes the coroutine soon.
    pub(super) fn wake(self: &Arc<Self>) {
        let Some(bells) = BELLS.get() else { return };
        let Some(bell) = bells.get(self.worker) else { return };
        let mut waiting = bell.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let rings = waiting.is_empty();
        waiting.push(Arc::clone(self));
        drop(waiting);
        if rings {
            // A full pipe is rung already.
            let _ = (&bell.rope).write(&[0]);
        }
    }
}

struct Bell {
    waiting: Arc<Mutex<Vec<Arc<Waker>>>>,
    rope: UnixStream,
    pulse: Arc<Pulse>,
}

static BELLS: OnceLock<Vec<Bell>> = OnceLock::new();

/// Wakes the coroutine of every worker for a sign of life.
pub(super) fn ring_all() {
    for bell in BELLS.get().into_iter().flatten() {
        // A full pipe is rung already.
        let _ = (&bell.rope).write(&[0]);
    }
}

/// What each worker answered.
pub(super) fn pulses() -> impl Iterator<Item = &'static Pulse> {
    BELLS.get().into_iter().flatten().map(|bell| bell.pulse.as_ref())
}

/// Starts one waking coroutine a worker, once a process.
pub(super) fn start() -> io::Result<()> {
    if BELLS.get().is_some() {
        return Ok(());
    }
    let workers = may::config().get_workers();
    let bells = (0..workers).map(|worker| bell(worker, workers)).collect::<io::Result<Vec<_>>>()?;
    // Another thread may have been first; its bells are as good.
    let _ = BELLS.set(bells);
    Ok(())
}

fn bell(worker: usize, workers: usize) -> io::Result<Bell> {
    let (listening, rope) = UnixStream::pair()?;
    rope.set_nonblocking(true)?;
    let mut listening = listening;
    for _ in 0..8 {
        let raw = listening.as_raw_fd();
        if usize::try_from(raw).unwrap_or(0) % workers.max(1) == worker {
            break;
        }
        listening = rustix::io::fcntl_dupfd_cloexec(&listening, raw.saturating_add(1))?.into();
    }
    listening.set_nonblocking(true)?;
    let waiting = Arc::new(Mutex::new(Vec::<Arc<Waker>>::new()));
    let called = Arc::clone(&waiting);
    let pulse = Arc::new(Pulse::default());
    let beating = Arc::clone(&pulse);
    let io = CoIo::new(listening).map_err(|error| io::Error::other(error.to_string()))?;
    let _ = may::go!(move || {
        loop {
            match io.inner().read(&mut [0; 64]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    io.wait_io();
                    continue;
                }
                Err(_) => continue,
            }
            beating.beat();
            let all = std::mem::take(&mut *called.lock().unwrap_or_else(PoisonError::into_inner));
            for waker in all {
                waker.waker.wakeup();
            }
        }
    });
    Ok(Bell { waiting, rope, pulse })
}
