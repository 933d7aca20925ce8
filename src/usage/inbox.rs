//! What the writer is told. A record wakes it only when it is the first of a batch or the one that fills it:
//! at thousands of calls a second a wake-up each would cost more than the writing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::UsageRecord;
use crate::store::Answer;

/// Records that are written without waiting for the interval's end.
pub(super) const MAX_BATCH: usize = 2048;

#[derive(Debug, Default)]
struct State {
    records: Vec<UsageRecord>,
    flushes: Vec<Answer<bool>>,
    stop: bool,
    /// The writer has gone; nothing is taken any more.
    closed: bool,
    /// The writer knows when it will write next, so that one more record need not wake it.
    armed: bool,
}

/// The queue between calls and the writer. Its length is bounded by the slots that calls hold.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

/// What the writer found when it woke.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Records wait.
    pub has_records: bool,
    /// As many as one batch holds.
    pub is_full: bool,
    /// These want to know when all is on disk.
    pub flushes: Vec<Answer<bool>>,
    /// The writer is to end.
    pub stop: bool,
}

impl Inbox {
    /// Leaves a record; gives it back when the writer has gone.
    pub(super) fn push(&self, record: UsageRecord) -> Result<(), Box<UsageRecord>> {
        let mut state = self.state();
        if state.closed {
            return Err(Box::new(record));
        }
        state.records.push(record);
        let wakes = !state.armed || state.records.len() == MAX_BATCH;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Asks to be told when everything before this is on disk; false when the writer has gone.
    pub(super) fn flush(&self, answer: Answer<bool>) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        state.flushes.push(answer);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Tells the writer to end.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.wake.notify_one();
    }

    /// Takes nothing from now on, and gives what is left.
    pub(super) fn close(&self) -> Vec<UsageRecord> {
        let mut state = self.state();
        state.closed = true;
        state.flushes.clear();
        std::mem::take(&mut state.records)
    }

    /// Waits for something to do: a flush, the end, the first record of a batch (`armed` is false then), a
    /// full batch (unless `patient`), or `until`.
    pub(super) fn wait(&self, until: Instant, armed: bool, patient: bool) -> Found {
        let mut state = self.state();
        state.armed = armed;
        loop {
            let is_full = state.records.len() >= MAX_BATCH;
            let left = until.saturating_duration_since(Instant::now());
            let has_work = state.stop || !state.flushes.is_empty();
            let has_records = !state.records.is_empty();
            if has_work || (has_records && !armed) || (is_full && !patient) || left == Duration::ZERO {
                let flushes = std::mem::take(&mut state.flushes);
                return Found { has_records, is_full, flushes, stop: state.stop };
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes all records out.
    pub(super) fn take(&self) -> Vec<UsageRecord> {
        std::mem::take(&mut self.state().records)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
