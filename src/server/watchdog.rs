//! Signs of life for the service manager, sent only while every worker and the store's writer answer.
//!
//! A thread that merely runs proves nothing about the others. So a question goes through the same doors as real work: a
//! coroutine of each worker, and the queue of the store's writer. One that does not answer keeps the sign back, and the
//! manager, which hears nothing for its timeout, starts the gateway anew.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::notify::ServiceManager;
use crate::net::pulse;
use crate::store::Store;

/// How often the workers' answers are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Keeps the watchdog going; dropped, it ends it.
#[derive(Debug)]
pub(super) struct Watchdog {
    _stop: Sender<()>,
}

/// Starts to send signs of life at half of the manager's timeout.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(
    manager: Arc<ServiceManager>,
    store: Arc<Store>,
    timeout: Duration,
) -> std::io::Result<Watchdog> {
    let (stop, stopped) = channel();
    let interval = timeout / 2;
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        let mut worst = String::new();
        while let Ok(found) =
            check(&stopped, interval, pulse::ask, pulse::silent, |patience| store.answers(patience))
        {
            match found {
                None => {
                    manager.alive();
                    worst.clear();
                }
                // Once, or a gateway that hangs for long would fill its log.
                Some(problem) if problem != worst => {
                    log::error!("no sign of life is sent: {problem}");
                    worst = problem;
                }
                Some(_) => {}
            }
        }
    })?;
    Ok(Watchdog { _stop: stop })
}

/// Asks everyone, waits for the answers, and takes the whole interval unless somebody is missing; then what is missing.
fn check<R: Copy>(
    stopped: &Receiver<()>,
    interval: Duration,
    ask: impl Fn() -> R,
    silent: impl Fn(R) -> usize,
    store_answers: impl Fn(Duration) -> bool,
) -> Result<Option<String>, RecvTimeoutError> {
    let began = Instant::now();
    let round = ask();
    let mut missing = silent(round);
    while missing > 0 && began.elapsed() < interval {
        pause(stopped, LOOK_INTERVAL)?;
        missing = silent(round);
    }
    // The store gets what is left, and some of it even after a worker was slow.
    let patience = interval.saturating_sub(began.elapsed()).max(interval / 4);
    let stored = store_answers(patience);
    let problem = match (missing, stored) {
        (0, true) => None,
        (0, false) => Some("the store's writer does not answer".to_owned()),
        (missing, true) => Some(format!("{missing} of the workers do not answer")),
        (missing, false) => Some(format!("{missing} of the workers and the store's writer do not answer")),
    };
    pause(stopped, interval.saturating_sub(began.elapsed()))?;
    Ok(problem)
}

/// Waits, or says that the end has come.
fn pause(stopped: &Receiver<()>, time: Duration) -> Result<(), RecvTimeoutError> {
    match stopped.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(RecvTimeoutError::Disconnected),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(40);

    #[test]
    fn only_when_all_answer_is_all_well() {
        let (_stop, stopped) = channel();
        let found = |missing: usize, stored: bool| check(&stopped, INTERVAL, || (), |()| missing, |_| stored);
        assert_eq!(found(0, true), Ok(None));
        assert!(found(1, true).unwrap().unwrap().contains("1 of the workers do not"));
        assert!(found(0, false).unwrap().unwrap().contains("store"));
        assert!(found(2, false).unwrap().unwrap().contains("2 of the workers and the store"));
    }

    #[test]
    fn a_late_answer_counts_and_the_end_ends_it() {
        let (stop, stopped) = channel();
        let looks = Cell::new(0);
        let silent = |()| {
            looks.set(looks.get() + 1);
            usize::from(looks.get() < 3)
        };
        assert_eq!(check(&stopped, Duration::from_secs(1), || (), silent, |_| true), Ok(None));
        drop(stop);
        assert!(check(&stopped, Duration::from_secs(60), || (), |()| 0, |_| true).is_err());
    }
}
