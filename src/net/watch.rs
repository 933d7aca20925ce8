//! One watch per caller's connection, one thread for all of them.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use may::coroutine::JoinHandle;
use may::io::WaitIoWaker;
use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::clock::monotonic_ms;

/// How late a deadline may be noticed, in milliseconds.
const TICK_MS: u64 = 100;
const WAKE_KEY: u64 = u64::MAX;

/// Why a call was cut from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The state no longer allows it.
    AccessRevoked,
    /// The gateway stops.
    Shutdown,
}

/// Why a wait on a socket ended without the socket being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The deadline passed.
    Deadline,
    /// The caller closed its connection.
    CallerGone,
    /// Somebody cut the call.
    Cut(Cut),
}

/// What can end the waits of one connection's coroutine.
#[derive(Default)]
pub struct Watch {
    /// On the monotonic clock; 0 is none.
    deadline_ms: AtomicU64,
    caller_gone: AtomicBool,
    /// Between two requests.
    idle: AtomicBool,
    /// 0 none, 1 access revoked, 2 shutdown.
    cut: AtomicU8,
    /// The coroutine ran to its end, by return or by panic.
    finished: AtomicBool,
    wakers: Mutex<Wakers>,
    coroutine: OnceLock<JoinHandle<()>>,
}

#[derive(Default)]
struct Wakers {
    caller: Option<WaitIoWaker>,
    upstream: Option<WaitIoWaker>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// Sets the deadline of all waits from now on.
    pub fn arm(&self, after_ms: u64) {
        self.deadline_ms.store(monotonic_ms().saturating_add(after_ms), Ordering::Release);
    }

    /// Sets the deadline to a point on the monotonic clock.
    pub fn arm_at(&self, at_ms: u64) {
        self.deadline_ms.store(at_ms, Ordering::Release);
    }

    /// Takes the deadline away.
    pub fn disarm(&self) {
        self.deadline_ms.store(0, Ordering::Release);
    }

    /// Cuts the call; false when it was cut before. The first reason stays until it is taken.
    pub fn cut(&self, reason: Cut) -> bool {
        let code = match reason {
            Cut::AccessRevoked => 1,
            Cut::Shutdown => 2,
        };
        let first = self.cut.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if first {
            self.wake();
        }
        first
    }

    /// Says whether the connection is between two requests.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Release);
    }

    /// Whether the connection is between two requests.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Takes the cut back, once it has been acted on.
    pub fn clear_cut(&self) {
        self.cut.store(0, Ordering::Release);
    }

    /// Whether a wait on a provider's socket should end.
    pub fn interruption(&self) -> Option<Interruption> {
        if self.caller_gone.load(Ordering::Acquire) {
            return Some(Interruption::CallerGone);
        }
        self.caller_side_interruption()
    }

    /// Whether a wait on the caller's own socket should end. That the caller closed its side shows there by
    /// itself, after the bytes that it sent before.
    pub fn caller_side_interruption(&self) -> Option<Interruption> {
        match self.cut.load(Ordering::Acquire) {
            0 => {}
            1 => return Some(Interruption::Cut(Cut::AccessRevoked)),
            _ => return Some(Interruption::Cut(Cut::Shutdown)),
        }
        let deadline = self.deadline_ms.load(Ordering::Acquire);
        (deadline != 0 && monotonic_ms() >= deadline).then_some(Interruption::Deadline)
    }

    pub(super) fn attach_caller(&self, waker: WaitIoWaker) {
        self.wakers().caller = Some(waker);
    }

    pub(super) fn attach_upstream(&self, waker: Option<WaitIoWaker>) {
        self.wakers().upstream = waker;
    }

    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let wakers = self.wakers();
        for waker in [&wakers.upstream, &wakers.caller].into_iter().flatten() {
            waker.wakeup();
        }
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    watch: Option<Arc<Watch>>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// The thread that watches, and the table of what it watches.
pub struct Watcher {
    epoll: std::os::fd::OwnedFd,
    wake: std::os::fd::OwnedFd,
    table: Mutex<Table>,
    open: AtomicUsize,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// A connection's place in the watcher's table; leaving it is dropping this.
#[derive(Debug)]
pub struct Registration {
    watcher: Arc<Watcher>,
    watch: Arc<Watch>,
    key: u64,
}

impl Registration {
    /// The connection's watch.
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.watch.finished.store(true, Ordering::Release);
        let mut table = self.watcher.table();
        if let Some((index, slot)) = table.slot_of(self.key) {
            slot.watch = None;
            slot.generation = slot.generation.wrapping_add(1);
            table.free.push(index);
            self.watcher.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Table {
    fn slot_of(&mut self, key: u64) -> Option<(u32, &mut Slot)> {
        let index = u32::try_from(key & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(key >> 32).ok()?;
        let slot = self.slots.get_mut(usize::try_from(index).ok()?)?;
        (slot.generation == generation && slot.watch.is_some()).then_some((index, slot))
    }
}

impl Watcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no epoll or eventfd.
    pub fn start() -> io::Result<Arc<Self>> {
        let watcher = Arc::new(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            table: Mutex::new(Table::default()),
            open: AtomicUsize::new(0),
        });
        epoll::add(
            &watcher.epoll,
            &watcher.wake,
            epoll::EventData::new_u64(WAKE_KEY),
            epoll::EventFlags::IN,
        )?;
        let on_thread = Arc::clone(&watcher);
        std::thread::Builder::new().name("watcher".to_owned()).spawn(move || on_thread.run())?;
        Ok(watcher)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Begins to watch a caller's socket.
    ///
    /// # Errors
    /// When the system refuses to watch one more descriptor.
    pub fn register(self: &Arc<Self>, caller: &impl AsFd) -> io::Result<Registration> {
        let watch = Arc::new(Watch::default());
        let registration = {
            let mut table = self.table();
            let index = match table.free.pop() {
                Some(index) => index,
                None => {
                    table.slots.push(Slot::default());
                    u32::try_from(table.slots.len() - 1).map_err(io::Error::other)?
                }
            };
            let slot = usize::try_from(index)
                .ok()
                .and_then(|at| table.slots.get_mut(at))
                .ok_or_else(|| io::Error::other("watch table"))?;
            slot.watch = Some(Arc::clone(&watch));
            let key = (u64::from(slot.generation) << 32) | u64::from(index);
            Registration { watcher: Arc::clone(self), watch, key }
        };
        if self.open.fetch_add(1, Ordering::AcqRel) == 0 {
            // The thread sleeps without a tick while nothing is open.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
        epoll::add(
            &self.epoll,
            caller,
            epoll::EventData::new_u64(registration.key),
            epoll::EventFlags::RDHUP | epoll::EventFlags::ET,
        )?;
        Ok(registration)
    }

    /// Remembers the coroutine of a connection, so that one which dies of a stack overflow is noticed: that
    /// skips destructors and keeps locks, so the process must not go on.
    pub fn adopt(watch: &Watch, coroutine: JoinHandle<()>) {
        let _ = watch.coroutine.set(coroutine);
    }

    /// Runs a closure on every watch there is.
    pub fn for_each(&self, mut action: impl FnMut(&Watch)) {
        for watch in self.watches() {
            action(&watch);
        }
    }

    fn watches(&self) -> Vec<Arc<Watch>> {
        self.table().slots.iter().filter_map(|slot| slot.watch.clone()).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(256);
        let mut last_tick = monotonic_ms();
        loop {
            let tick = Duration::from_millis(TICK_MS);
            let timeout = (self.open_connections() > 0)
                .then(|| rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(tick.subsec_nanos()) });
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::error!("the watcher can not wait for events ({error}); deadlines are not kept");
                    return;
                }
            }
            for event in &events {
                let key = event.data.u64();
                if key == WAKE_KEY {
                    let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                    continue;
                }
                let watch = self.table().slot_of(key).and_then(|(_, slot)| slot.watch.clone());
                if let Some(watch) = watch {
                    watch.caller_gone.store(true, Ordering::Release);
                    watch.wake();
                }
            }
            let now = monotonic_ms();
            if now >= last_tick + TICK_MS {
                last_tick = now;
                self.tick(now);
            }
        }
    }

    fn tick(&self, now: u64) {
        for watch in self.watches() {
            let deadline = watch.deadline_ms.load(Ordering::Acquire);
            if deadline != 0 && now >= deadline {
                watch.wake();
            }
            let done = watch.coroutine.get().is_some_and(JoinHandle::is_done);
            if done && !watch.finished.load(Ordering::Acquire) {
                log::error!(
                    "a connection's coroutine overflowed its stack; the process ends, its state is unsound"
                );
                log::logger().flush();
                std::process::abort();
            }
        }
    }
}
