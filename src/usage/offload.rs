//! Work that blocks its thread, such as reading the disk, done on a thread of its own while a coroutine waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use crate::store::handoff;

/// Pieces of work that wait; one more is refused.
const MAX_QUEUED: usize = 32;

type Work = Box<dyn FnOnce() + Send>;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadError {
    /// Too much work waits.
    Busy,
    /// The work panicked, or the thread is gone.
    Failed,
}

/// One thread with a bounded queue, started at its first use. It ends when this is dropped.
#[derive(Debug, Default)]
pub struct Offload {
    queue: Mutex<Option<SyncSender<Work>>>,
}

impl Offload {
    /// Does the work on the thread and waits for it without blocking a worker. From a thread it works as well.
    ///
    /// # Errors
    /// When too much waits already, or the work panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, OffloadError> {
        let (answer, waiter) = handoff();
        // A panic drops the answer, which the waiter hears of.
        let work: Work = Box::new(move || answer.send(work()));
        match self.queue()?.try_send(work) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(OffloadError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(OffloadError::Failed),
        }
        waiter.wait(None).map_err(|_| OffloadError::Failed)
    }

    fn queue(&self) -> Result<SyncSender<Work>, OffloadError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*queue {
            return Ok(queue.clone());
        }
        let (sender, receiver) = sync_channel::<Work>(MAX_QUEUED);
        std::thread::Builder::new()
            .name("offload".to_owned())
            .spawn(move || {
                while let Ok(work) = receiver.recv() {
                    if catch_unwind(AssertUnwindSafe(work)).is_err() {
                        log::error!("work on the offload thread panicked");
                    }
                }
            })
            .map_err(|error| {
                log::error!("no thread for blocking work: {error}");
                OffloadError::Failed
            })?;
        *queue = Some(sender.clone());
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn results_come_back_and_a_panic_hurts_only_its_caller() {
        may::config().set_workers(2);
        let offload = Arc::new(Offload::default());
        assert_eq!(offload.run(|| 1 + 1), Ok(2));
        assert_eq!(offload.run(|| panic!("on purpose")), Err::<(), _>(OffloadError::Failed));
        let here = Arc::clone(&offload);
        let coroutine = may::go!(move || here.run(|| std::thread::current().name().map(str::to_owned)));
        assert_eq!(coroutine.join().unwrap(), Ok(Some("offload".to_owned())));
    }

    #[test]
    fn the_queue_is_bounded() {
        let offload = Offload::default();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let (begun, began) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                offload.run(move || {
                    begun.send(()).unwrap();
                    gate.recv().unwrap();
                })
            });
            began.recv().unwrap();
            let queue = offload.queue().unwrap();
            for _ in 0..MAX_QUEUED {
                queue.try_send(Box::new(|| ())).unwrap();
            }
            assert_eq!(offload.run(|| ()), Err(OffloadError::Busy));
            release.send(()).unwrap();
            assert_eq!(first.join().unwrap(), Ok(()));
        });
    }
}
