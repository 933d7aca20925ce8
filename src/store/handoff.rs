//! One value from a thread to a waiter that is a coroutine or a thread: a coroutine gives its worker back
//! while it waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use may::sync::Blocker;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The answering side went away without one.
    Lost,
    /// It did not come in time.
    TimedOut,
}

#[derive(Debug)]
enum State<T> {
    Waiting,
    Answered(T),
    Lost,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    blocker: Blocker,
}

impl<T> Shared<T> {
    fn settle(&self, state: State<T>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.blocker.unpark();
    }
}

/// The side that answers. Dropped without an answer, it tells the waiter so.
#[derive(Debug)]
pub struct Answer<T>(Option<Arc<Shared<T>>>);

/// The side that waits; it has to be the coroutine or thread that called [`handoff`].
#[derive(Debug)]
pub struct Waiter<T>(Arc<Shared<T>>);

/// Makes both sides, for the calling coroutine or thread to wait on.
pub fn handoff<T>() -> (Answer<T>, Waiter<T>) {
    let shared = Arc::new(Shared { state: Mutex::new(State::Waiting), blocker: Blocker::new(true) });
    (Answer(Some(Arc::clone(&shared))), Waiter(shared))
}

impl<T> Answer<T> {
    /// Hands the value over.
    pub fn send(mut self, value: T) {
        if let Some(shared) = self.0.take() {
            shared.settle(State::Answered(value));
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.settle(State::Lost);
        }
    }
}

impl<T> Waiter<T> {
    /// Waits for the value; without a timeout the answering side has to be one that surely answers or drops.
    ///
    /// # Errors
    /// When there will be no value, or none came in time.
    pub fn wait(self, timeout: Option<Duration>) -> Result<T, NoAnswer> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            {
                let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                match std::mem::replace(&mut *state, State::Waiting) {
                    State::Answered(value) => return Ok(value),
                    State::Lost => return Err(NoAnswer::Lost),
                    State::Waiting => {}
                }
            }
            let left = match deadline {
                None => None,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    // The runtime cuts to milliseconds, where 0 means for ever.
                    Some(left) => Some(left + Duration::from_millis(1)),
                    None => return Err(NoAnswer::TimedOut),
                },
            };
            // A wake-up for another reason is possible, so the state decides, not the result.
            let _ = self.0.blocker.park(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_a_loss_and_a_timeout() {
        let (answer, waiter) = handoff();
        let thread = std::thread::spawn(move || answer.send(7));
        assert_eq!(waiter.wait(None), Ok(7));
        thread.join().unwrap();

        let (answer, waiter) = handoff::<u8>();
        drop(answer);
        assert_eq!(waiter.wait(None), Err(NoAnswer::Lost));

        let (answer, waiter) = handoff::<u8>();
        assert_eq!(waiter.wait(Some(Duration::from_millis(5))), Err(NoAnswer::TimedOut));
        answer.send(1);
    }
}
