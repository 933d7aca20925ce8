//! Whether the workers still run coroutines: each has one that answers questions.

use std::sync::atomic::{AtomicU64, Ordering};

use super::alarm;

/// The number of the last question.
static ROUND: AtomicU64 = AtomicU64::new(0);

/// A question to every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round(u64);

/// What one worker answered last.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// The worker answers all that was asked so far.
    pub(super) fn beat(&self) {
        self.0.store(ROUND.load(Ordering::Acquire), Ordering::Release);
    }

    fn has_answered(&self, round: Round) -> bool {
        self.0.load(Ordering::Acquire) >= round.0
    }
}

/// Asks every worker for a sign of life. Never waits.
pub fn ask() -> Round {
    let round = Round(ROUND.fetch_add(1, Ordering::AcqRel) + 1);
    alarm::ring_all();
    round
}

/// How many workers have not answered that question yet. While no [`super::Watcher`] was started there are none to ask.
pub fn silent(round: Round) -> usize {
    alarm::pulses().filter(|pulse| !pulse.has_answered(round)).count()
}
