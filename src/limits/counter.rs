//! Counters: one for each rule and each of what it counts apart.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;

use super::period;
use super::window::Window;
use crate::clock::UnixMillis;
use crate::domain::{LimitKind, Period};

/// Locks of one rule's table: workers seldom want the same one.
const SHARDS: usize = 16;
/// Counters of one shard; so 160,000 of a rule.
const MAX_SHARD: usize = 10_000;

/// What a counter counts in: requests, tokens, or 10^-18 dollars.
pub(super) type Amount = i128;

/// What was spent in the present period of a calendar.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// The period.
    pub start: UnixMillis,
    /// The first of the next one.
    pub end: UnixMillis,
    /// By calls that are over.
    pub spent: Amount,
    /// By calls that run, as far as was thought.
    pub reserved: Amount,
    /// The threshold that was last told of in this period.
    pub told: Threshold,
}

/// A part of the limit that somebody is told of when it is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Threshold {
    /// Of the limit.
    pub percent: u32,
    /// The same in the counters' unit.
    pub amount: Amount,
}

#[derive(Debug)]
enum State {
    Window(Window),
    Spending(Spending),
}

/// One counter.
#[derive(Debug)]
pub(super) struct Counter {
    state: Mutex<State>,
}

/// What a call holds of a counter: the slot of a window, or the start of a period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Slot, or milliseconds.
    pub at: u64,
    /// How much.
    pub amount: Amount,
}

/// Thresholds were passed that nobody was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The highest one.
    pub percent: u32,
    /// What is spent.
    pub spent: Amount,
    /// The period.
    pub start: UnixMillis,
}

/// A counter as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Spent and reserved.
    pub used: Amount,
    /// Without what is only reserved.
    pub spent: Amount,
    /// The period; of a window, the last one's length until now.
    pub start: UnixMillis,
    /// Its end; of a window, when it is empty.
    pub end: UnixMillis,
}

/// What a rule's counters have in common, whatever its limit is changed to.
#[derive(Debug)]
pub(super) struct Table {
    kind: LimitKind,
    period: Period,
    zone: TimeZone,
    /// Calls that began before are taken from the records; later ones are counted as they come.
    pub since: UnixMillis,
    /// Until those of before are in nobody knows what was spent. A rule that comes while the gateway runs lets calls pass
    /// meanwhile, as they did a moment ago.
    is_of_start: bool,
    /// Those of before are in.
    pub loaded: AtomicBool,
    hasher: RandomState,
    shards: [Mutex<HashMap<String, Arc<Counter>>>; SHARDS],
}

fn count(amount: Amount) -> u64 {
    u64::try_from(amount.max(0)).unwrap_or(u64::MAX)
}

impl Table {
    /// An empty one.
    pub(super) fn new(
        kind: LimitKind,
        period: Period,
        zone: TimeZone,
        since: UnixMillis,
        is_of_start: bool,
    ) -> Self {
        Self {
            kind,
            period,
            zone,
            since,
            is_of_start,
            loaded: AtomicBool::new(false),
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Budgets or rates.
    pub(super) fn kind(&self) -> LimitKind {
        self.kind
    }

    /// The length of the window, in milliseconds.
    pub(super) fn length_ms(&self) -> u64 {
        match self.period {
            Period::Minute => 60_000,
            Period::Hour => 3_600_000,
            _ => 86_400_000,
        }
    }

    /// The period that a time is in.
    pub(super) fn bounds(&self, at: UnixMillis) -> (UnixMillis, UnixMillis) {
        period::bounds(self.period, at, &self.zone)
    }

    /// The first time that counts now.
    pub(super) fn from(&self, now: UnixMillis) -> UnixMillis {
        match self.kind {
            LimitKind::Budget => self.bounds(now).0,
            LimitKind::Rate => UnixMillis(now.0.saturating_sub(self.length_ms())),
        }
    }

    /// The first time that counts no more: the end of a period. Of a window, now, as it ends where it is looked at.
    pub(super) fn until(&self, now: UnixMillis) -> UnixMillis {
        match self.kind {
            LimitKind::Budget => self.bounds(now).1,
            LimitKind::Rate => UnixMillis(now.0.saturating_add(1)),
        }
    }

    /// What of a time is added together when records are read: a slot of a window.
    pub(super) fn slot(&self, at: UnixMillis) -> u64 {
        match self.kind {
            LimitKind::Budget => 0,
            LimitKind::Rate => Window::new(self.length_ms()).slot(at.0),
        }
    }

    /// The counter of an entity, made when there is none. `None`: there is no room for another one.
    pub(super) fn counter(&self, entity: &str, now: UnixMillis) -> Option<Arc<Counter>> {
        let mut shard = self.shard(entity);
        if let Some(counter) = shard.get(entity) {
            return Some(Arc::clone(counter));
        }
        if shard.len() >= MAX_SHARD {
            shard.retain(|_, counter| Arc::strong_count(counter) > 1 || !counter.is_over(now));
        }
        if shard.len() >= MAX_SHARD {
            return None;
        }
        let state = match self.kind {
            LimitKind::Budget => State::Spending(Spending::default()),
            LimitKind::Rate => State::Window(Window::new(self.length_ms())),
        };
        let counter = Arc::new(Counter { state: Mutex::new(state) });
        shard.insert(entity.to_owned(), Arc::clone(&counter));
        Some(counter)
    }

    /// The counter of an entity, if it has one.
    pub(super) fn existing(&self, entity: &str) -> Option<Arc<Counter>> {
        self.shard(entity).get(entity).cloned()
    }

    /// How a counter stands that nothing was counted in.
    pub(super) fn untouched(&self, now: UnixMillis) -> Level {
        let (start, end) = match self.kind {
            LimitKind::Budget => self.bounds(now),
            LimitKind::Rate => (self.from(now), now),
        };
        Level { used: 0, spent: 0, start, end }
    }

    /// All of them, by entity.
    pub(super) fn all(&self) -> Vec<(String, Arc<Counter>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().map(|(entity, counter)| (entity.clone(), Arc::clone(counter))));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn shard(&self, entity: &str) -> MutexGuard<'_, HashMap<String, Arc<Counter>>> {
        let hash = usize::try_from(self.hasher.hash_one(entity) & 0xffff).unwrap_or(0);
        let [first, ..] = &self.shards;
        let shard = self.shards.get(hash % SHARDS).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls must wait for the records of before.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_of_start && !self.is_loaded()
    }

    /// Whether the records of before were read.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }
}

impl Counter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, now: UnixMillis) -> bool {
        match &mut *self.state() {
            State::Window(window) => window.taken(now.0) == 0,
            State::Spending(spending) => spending.end <= now,
        }
    }

    /// Takes an amount when it fits. Of a period's last bit one call may take more than is left, so that it is of use;
    /// of a window, one call may take all.
    ///
    /// # Errors
    /// Milliseconds until it may fit.
    pub(super) fn take(
        &self,
        table: &Table,
        now: UnixMillis,
        amount: Amount,
        limit: Amount,
    ) -> Result<Held, u64> {
        match &mut *self.state() {
            State::Window(window) => {
                let amount = count(amount).min(count(limit));
                let amount = if limit <= 0 { 1 } else { amount };
                let at = window.take(now.0, amount, count(limit))?;
                Ok(Held { at, amount: Amount::from(amount) })
            }
            State::Spending(spending) => {
                spending.roll(table, now);
                let used = spending.spent.saturating_add(spending.reserved);
                let fits = used.saturating_add(amount) <= limit && used < limit;
                let is_last = spending.reserved == 0 && spending.spent < limit;
                if fits || is_last {
                    spending.reserved = spending.reserved.saturating_add(amount);
                    return Ok(Held { at: spending.start.0, amount });
                }
                if spending.spent < limit {
                    // What is only reserved may come back any moment.
                    return Err(1_000);
                }
                Err(spending.end.0.saturating_sub(now.0).max(1))
            }
        }
    }

    /// Takes an amount, whatever the limit.
    pub(super) fn count(&self, table: &Table, now: UnixMillis, amount: Amount) -> Held {
        match &mut *self.state() {
            State::Window(window) => {
                window.taken(now.0);
                Held { at: window.add(now.0, count(amount)), amount }
            }
            State::Spending(spending) => {
                spending.roll(table, now);
                spending.reserved = spending.reserved.saturating_add(amount);
                Held { at: spending.start.0, amount }
            }
        }
    }

    /// What was held is over, and was this in truth. Gives the thresholds that were passed by it, if nobody was told yet.
    pub(super) fn settle(
        &self,
        table: &Table,
        now: UnixMillis,
        held: Held,
        actual: Amount,
        thresholds: &[Threshold],
    ) -> Option<News> {
        match &mut *self.state() {
            State::Window(window) => {
                window.taken(now.0);
                window.correct(held.at, count(held.amount), count(actual), now.0);
                None
            }
            State::Spending(spending) => {
                spending.roll(table, now);
                if spending.start.0 != held.at {
                    // It belongs to the period in which it began, and that is over.
                    return None;
                }
                spending.reserved = spending.reserved.saturating_sub(held.amount);
                spending.spent = spending.spent.saturating_add(actual);
                spending.news(thresholds)
            }
        }
    }

    /// Adds what the records of before say. Gives the thresholds that a rule which is new finds passed.
    pub(super) fn add_earlier(
        &self,
        table: &Table,
        now: UnixMillis,
        slot: u64,
        amount: Amount,
        thresholds: &[Threshold],
    ) -> Option<News> {
        match &mut *self.state() {
            State::Window(window) => {
                window.add_to(slot, count(amount));
                window.taken(now.0);
                None
            }
            State::Spending(spending) => {
                spending.roll(table, now);
                if now < spending.start {
                    // A call rolled it on while the records were read: they are of a period that is over.
                    return None;
                }
                spending.spent = spending.spent.saturating_add(amount);
                // Who was told before a restart is not told again; of a rule that is new nobody was told.
                spending.news(thresholds).filter(|_| !table.is_of_start)
            }
        }
    }

    /// Where it stands.
    pub(super) fn level(&self, table: &Table, now: UnixMillis) -> Level {
        match &mut *self.state() {
            State::Window(window) => {
                let used = Amount::from(window.taken(now.0));
                let end = UnixMillis(now.0.saturating_add(window.reset_ms(now.0)));
                Level { used, spent: used, start: table.from(now), end }
            }
            State::Spending(spending) => {
                spending.roll(table, now);
                let used = spending.spent.saturating_add(spending.reserved);
                Level { used, spent: spending.spent, start: spending.start, end: spending.end }
            }
        }
    }
}

impl Spending {
    /// Which thresholds are passed that nobody was told of; from now on somebody is.
    fn news(&mut self, thresholds: &[Threshold]) -> Option<News> {
        let passed = *thresholds.iter().rev().find(|threshold| self.spent >= threshold.amount)?;
        // The limit and the thresholds may have changed since: what is further in either way is news.
        let told = &mut self.told;
        let is_news = passed.percent > told.percent || passed.amount > told.amount;
        let percent = passed.percent.max(told.percent);
        *told = Threshold { percent, amount: passed.amount.max(told.amount) };
        is_news.then_some(News { percent: passed.percent, spent: self.spent, start: self.start })
    }

    /// Begins anew when the period is over.
    fn roll(&mut self, table: &Table, now: UnixMillis) {
        if now >= self.end {
            let (start, end) = table.bounds(now);
            *self = Self { start, end, ..Self::default() };
        }
    }
}
