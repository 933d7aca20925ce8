//! Budgets and rate limits. A call reserves what it may use before it begins, in every counter that a rule counts it
//! in, and settles what it has used when it is over; so no number of callers at once gets past a limit by more than
//! one reservation.
//!
//! Counters are in memory. The records of usage are the truth: a counter that is new, after a restart or because its
//! rule is, begins with what they say of its period ([`Limits::load`]). Reservations die with the process.

mod counter;
mod period;
mod rule;
mod show;
#[cfg(test)]
mod tests;
mod window;

pub use rule::Facts;
pub use show::Level;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::UnixMillis;
use crate::domain::{AlertTarget, LimitConfig, LimitKind, Measure, Money, TokenCounts, UsageRecord};
use crate::failure::LimitRefusal;
use crate::store::World;
use crate::usage::Since;
use counter::{Amount, Counter, Held, News, Table};
use rule::Rule;

/// Alerts that wait to be told of; more are only counted.
const MAX_ALERTS: usize = 1_000;

/// Records of calls that seem to begin so much later than the reading of records were written by a clock that ran ahead.
const FUTURE: Duration = Duration::from_secs(60);

/// What a call is thought to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt tokens.
    pub input: u64,
    /// The most that the answer may have.
    pub output: u64,
}

/// How far usage can be accounted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Records can not be written.
    pub fails: bool,
    /// Nothing is served under a budget unless it can be accounted for.
    pub is_needed: bool,
}

/// A threshold that was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The rule's id.
    pub rule: String,
    /// What the counter is of; empty: of everything.
    pub entity: String,
    /// The threshold, in percent of the limit.
    pub percent: u32,
    /// What is spent, in words.
    pub spent: String,
    /// The limit, in words.
    pub limit: String,
    /// Such as `cost_per_month`.
    pub unit: String,
    /// When the period began.
    pub period_start: UnixMillis,
    /// Where it is posted to.
    pub targets: Vec<AlertTarget>,
}

/// What is counted of the limits themselves.
#[derive(Debug, Default)]
struct Told {
    alerts: Mutex<VecDeque<Alert>>,
    alerts_total: AtomicU64,
    alerts_sent: AtomicU64,
    alerts_failed: AtomicU64,
    rates_refused: AtomicU64,
    budgets_refused: AtomicU64,
    /// Calls under a budget of money whose price is not known.
    unpriced: AtomicU64,
    /// Calls under a rule whose table of counters was full.
    crowded: AtomicU64,
}

/// The rules of one state, ready for use.
#[derive(Debug, Default)]
struct Compiled {
    /// It is of some state: not what stands there before the first call.
    is_begun: bool,
    world_revision: u64,
    revisions: [u64; 2],
    rates: Vec<Arc<Rule>>,
    budgets: Vec<Arc<Rule>>,
}

/// The limits in force, and how far they are used.
#[derive(Debug, Default)]
pub struct Limits {
    compiled: ArcSwap<Compiled>,
    /// Counters by the key of their rule. Also held while rules are compiled, by one at a time.
    tables: Mutex<HashMap<String, Arc<Table>>>,
    told: Arc<Told>,
}

/// One counter that a call is counted in.
#[derive(Debug)]
struct Share {
    rule: Arc<Rule>,
    entity: String,
    counter: Arc<Counter>,
    held: Held,
}

/// What a call has reserved. Dropped unsettled it gives everything back: the call has used nothing.
#[derive(Debug, Default)]
pub struct Reservation {
    shares: Vec<Share>,
    told: Option<Arc<Told>>,
    lines: Vec<(&'static str, String)>,
}

impl Limits {
    /// Reserves what a call may use. `facts` is asked only when there are rules, `cost` when one counts money.
    ///
    /// # Errors
    /// Which rule refuses it, and from when on it may be tried again. Nothing is reserved then.
    pub fn reserve<'f>(
        &self,
        world: &World,
        facts: impl FnOnce() -> Option<(Facts<'f>, Estimate)>,
        cost: impl Fn(&TokenCounts) -> Option<Money>,
        accounting: Accounting,
        now: UnixMillis,
    ) -> Result<Reservation, LimitRefusal> {
        let compiled = self.compiled(world, now);
        if compiled.rates.is_empty() && compiled.budgets.is_empty() {
            return Ok(Reservation::default());
        }
        let Some((facts, estimate)) = facts() else { return Ok(Reservation::default()) };
        let told = Some(Arc::clone(&self.told));
        let mut reservation = Reservation { shares: Vec::new(), told, lines: Vec::new() };
        let tokens = TokenCounts { input: estimate.input, output: estimate.output, ..TokenCounts::default() };
        let amount = |rule: &Rule| match rule.spec.unit.measure {
            Measure::Cost => cost(&tokens).map(|cost| cost.units().max(0)),
            _ => Some(used(rule, tokens, None)),
        };
        // The first rule that fits decides, and no further one counts.
        for rule in &compiled.rates {
            let entities = rule.entities(&facts);
            if entities.is_empty() {
                continue;
            }
            for entity in entities {
                self.share(&mut reservation, rule, entity, amount(rule), !rule.spec.audit_mode, now)?;
            }
            break;
        }
        // The first rule that fits decides, all that fit count.
        let mut decides = true;
        for rule in &compiled.budgets {
            let entities = rule.entities(&facts);
            if entities.is_empty() {
                continue;
            }
            let enforces = decides && !rule.spec.audit_mode;
            decides = false;
            if enforces && accounting.is_needed && (accounting.fails || rule.table.is_unknown()) {
                self.told.budgets_refused.fetch_add(1, Ordering::Relaxed);
                return Err(show::not_ready(rule, accounting.fails));
            }
            for entity in entities {
                self.share(&mut reservation, rule, entity, amount(rule), enforces, now)?;
            }
        }
        Ok(reservation)
    }

    /// Counts a call in one counter.
    fn share(
        &self,
        reservation: &mut Reservation,
        rule: &Arc<Rule>,
        entity: String,
        amount: Option<Amount>,
        enforces: bool,
        now: UnixMillis,
    ) -> Result<(), LimitRefusal> {
        let table = &rule.table;
        let Some(counter) = table.counter(&entity, now) else {
            self.told.crowded.fetch_add(1, Ordering::Relaxed);
            return if enforces { Err(show::crowded(rule)) } else { Ok(()) };
        };
        let amount = amount.unwrap_or_else(|| {
            self.told.unpriced.fetch_add(1, Ordering::Relaxed);
            0
        });
        let held = if enforces {
            counter.take(table, now, amount, rule.limit)
        } else {
            Ok(counter.count(table, now, amount))
        };
        let level = || counter.level(table, now);
        match held {
            Ok(held) => {
                if rule_is_rate(rule) {
                    show::lines(rule, &level(), now, &mut reservation.lines);
                }
                reservation.shares.push(Share { rule: Arc::clone(rule), entity, counter, held });
                Ok(())
            }
            Err(wait_ms) => {
                let total =
                    if rule_is_rate(rule) { &self.told.rates_refused } else { &self.told.budgets_refused };
                total.fetch_add(1, Ordering::Relaxed);
                Err(show::refusal(rule, &entity, &level(), wait_ms, now))
            }
        }
    }

    /// The rules of a state. Mostly they are ready; after a change the first call makes them so.
    fn compiled(&self, world: &World, now: UnixMillis) -> Arc<Compiled> {
        let revisions = LimitKind::ALL.map(|kind| world.limits(kind).map_or(0, |config| config.revision));
        let compiled = self.compiled.load();
        // A call on an older state than another one's uses the newer rules.
        if compiled.is_begun
            && (compiled.revisions == revisions || compiled.world_revision > world.revision())
        {
            return Arc::clone(&compiled);
        }
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = self.compiled.load_full();
        if compiled.is_begun
            && (compiled.revisions == revisions || compiled.world_revision > world.revision())
        {
            return compiled;
        }
        let mut kept = HashMap::new();
        let is_start = !compiled.is_begun;
        let [rates, budgets] = LimitKind::ALL.map(|kind| match world.limits(kind) {
            None => Vec::new(),
            Some(config) => compile(config, &tables, &mut kept, now, is_start),
        });
        *tables = kept;
        let compiled = Arc::new(Compiled {
            is_begun: true,
            world_revision: world.revision(),
            revisions,
            rates,
            budgets,
        });
        self.compiled.store(Arc::clone(&compiled));
        compiled
    }

    /// Whether counters wait for what the records say.
    pub fn needs_load(&self, world: &World, now: UnixMillis) -> bool {
        self.compiled(world, now).all().any(|rule| !rule.table.is_loaded())
    }

    /// Fills new counters with what was used by calls that began before the counters were there. `scan` gives what was
    /// used since a time, each call once; what it has to give is on disk. Reads the disk: for an OS thread.
    ///
    /// # Errors
    /// What `scan` says; nothing is changed then, and it may be tried again.
    pub fn load<E>(
        &self,
        world: &World,
        now: UnixMillis,
        scan: impl FnOnce(&Since, &mut dyn FnMut(&UsageRecord)) -> Result<(), E>,
    ) -> Result<(), E> {
        let compiled = self.compiled(world, now);
        let pending: Vec<&Arc<Rule>> = compiled.all().filter(|rule| !rule.table.is_loaded()).collect();
        let Some(from) = pending.iter().map(|rule| rule.table.from(now)).min() else { return Ok(()) };
        let latest = now.plus(FUTURE);
        let mut cuts = std::collections::BTreeSet::new();
        let mut sums_until = UnixMillis(u64::MAX);
        for rule in &pending {
            let table = &rule.table;
            cuts.extend([table.from(now), table.since]);
            sums_until = sums_until.min(table.since);
            if rule_is_rate(rule) {
                // A window slides; an hour together says too little.
                sums_until = sums_until.min(table.from(now));
            }
        }
        let since = Since { from, sums_until, cuts: cuts.into_iter().collect() };
        // Apart from the counters, so that a scan which breaks off leaves nothing behind.
        let mut earlier: HashMap<(usize, String, u64), Amount> = HashMap::new();
        scan(&since, &mut |record| {
            let Some(facts) = Facts::of_record(record, world) else { return };
            for (at, rule) in pending.iter().enumerate() {
                let table = &rule.table;
                // A clock that was put back leaves records of the future; no call of now made them.
                let is_earlier = record.at < table.since || record.at > latest;
                if !is_earlier || record.at < table.from(now) || record.at >= table.until(now) {
                    continue;
                }
                let amount = used(rule, record.tokens, record.cost);
                for entity in rule.entities(&facts) {
                    let sum = earlier.entry((at, entity, table.slot(record.at))).or_default();
                    *sum = sum.saturating_add(amount);
                }
            }
        })?;
        for ((at, entity, slot), amount) in earlier {
            let Some(rule) = pending.get(at) else { continue };
            match rule.table.counter(&entity, now) {
                Some(counter) => {
                    let news = counter.add_earlier(&rule.table, now, slot, amount, &rule.thresholds);
                    if let Some(news) = news {
                        self.told.alert(rule, entity, news);
                    }
                }
                None => {
                    self.told.crowded.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        for rule in pending {
            rule.table.loaded.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// An alert was posted to a channel, or could not be.
    pub fn count_delivery(&self, is_sent: bool) {
        let total = if is_sent { &self.told.alerts_sent } else { &self.told.alerts_failed };
        total.fetch_add(1, Ordering::Relaxed);
    }

    /// Alerts since the last time.
    pub fn take_alerts(&self) -> Vec<Alert> {
        self.told.alerts.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

impl Compiled {
    fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rates.iter().chain(&self.budgets)
    }

    fn of(&self, kind: LimitKind) -> &[Arc<Rule>] {
        match kind {
            LimitKind::Rate => &self.rates,
            LimitKind::Budget => &self.budgets,
        }
    }
}

fn rule_is_rate(rule: &Rule) -> bool {
    matches!(rule.table.kind(), LimitKind::Rate)
}

fn compile(
    config: &LimitConfig,
    tables: &HashMap<String, Arc<Table>>,
    kept: &mut HashMap<String, Arc<Table>>,
    now: UnixMillis,
    is_start: bool,
) -> Vec<Arc<Rule>> {
    let mut rules = Vec::with_capacity(config.rules.len());
    let zone = period::zone(config.zone.as_deref(), config.offset_minutes);
    for spec in &config.rules {
        let key = Rule::key(spec, config);
        let table = tables.get(&key).cloned().unwrap_or_else(|| {
            Arc::new(Table::new(config.kind, spec.unit.period, zone.clone(), now, is_start))
        });
        kept.insert(key, Arc::clone(&table));
        rules.push(Arc::new(Rule::new(spec, table)));
    }
    rules
}

/// What a finished call has used, in a rule's unit. A call whose price is not known counts for no money.
fn used(rule: &Rule, tokens: TokenCounts, cost: Option<Money>) -> Amount {
    match rule.spec.unit.measure {
        Measure::Requests => 1,
        Measure::Tokens => Amount::from(tokens.input.saturating_add(tokens.output)),
        Measure::Cost => cost.unwrap_or(Money::ZERO).units().max(0),
    }
}

impl Reservation {
    /// Lines that the answer's head gets: where the caller stands with the rate that decided.
    pub fn take_lines(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.lines)
    }

    /// The call is over and has used this. `cost` is `None` where no price is known.
    pub fn settle(mut self, tokens: TokenCounts, cost: Option<Money>, now: UnixMillis) {
        self.finish(now, |rule| used(rule, tokens, cost));
    }

    fn finish(&mut self, now: UnixMillis, actual: impl Fn(&Rule) -> Amount) {
        for share in std::mem::take(&mut self.shares) {
            let rule = &share.rule;
            let news = share.counter.settle(&rule.table, now, share.held, actual(rule), &rule.thresholds);
            if let (Some(news), Some(told)) = (news, &self.told) {
                told.alert(rule, share.entity, news);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.shares.is_empty() {
            self.finish(UnixMillis::now(), |_| 0);
        }
    }
}

impl Told {
    fn alert(&self, rule: &Rule, entity: String, news: News) {
        self.alerts_total.fetch_add(1, Ordering::Relaxed);
        let alert = Alert {
            rule: rule.spec.id.clone(),
            entity,
            percent: news.percent,
            spent: rule.words(news.spent),
            limit: rule.words(rule.limit),
            unit: rule.spec.unit.to_string(),
            period_start: news.start,
            targets: rule.spec.alert_targets.clone(),
        };
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if alerts.len() < MAX_ALERTS {
            alerts.push_back(alert);
        }
    }
}
