//! Limits in words: refusals, header lines, levels and metrics.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::Limits;
use super::counter::{self, Amount};
use super::rule::{Facts, Rule};
use super::rule_is_rate;
use crate::clock::UnixMillis;
use crate::domain::{LimitKind, LimitRule, Measure};
use crate::failure::LimitRefusal;
use crate::store::World;

/// How far one counter of a rule is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Which kind of limit it is.
    pub kind: LimitKind,
    /// The rule.
    pub rule: LimitRule,
    /// What the counter is of; empty: of everything that the rule is about.
    pub entity: String,
    /// Decimal text in the rule's unit: spent by calls that are over.
    pub used: String,
    /// What is spent, in percent of the limit.
    pub percent: u64,
    /// The period.
    pub start: UnixMillis,
    /// Its end.
    pub end: UnixMillis,
}

fn seconds(ms: u64) -> u64 {
    // SDKs (openai and anthropic of 2026) believe at most 60 and else come back at once. A window of a minute is up to
    // 300 ms longer, so who waits 60 seconds may be told once more to wait one.
    let ms = if (60_001..=61_000).contains(&ms) { 60_000 } else { ms };
    ms.div_ceil(1000).max(1)
}

/// A time as OpenAI writes it: `20ms`, `1s`, `6m0s`, `1h2m3s`.
pub(super) fn go_duration(ms: u64) -> String {
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let all = ms.div_ceil(1000);
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The `x-ratelimit-` lines of a rate's counter. Of several counters the tightest is shown.
pub(super) fn lines(
    rule: &Rule,
    level: &counter::Level,
    now: UnixMillis,
    lines: &mut Vec<(&'static str, String)>,
) {
    let names = match rule.spec.unit.measure {
        Measure::Requests => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        Measure::Tokens => {
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
        }
        Measure::Cost => return,
    };
    let remaining = (rule.limit - level.used).max(0);
    let earlier = lines.get(1).and_then(|(_, text)| text.parse::<Amount>().ok());
    if earlier.is_some_and(|earlier| earlier <= remaining) {
        return;
    }
    let reset = go_duration(level.end.0.saturating_sub(now.0));
    *lines = names.into_iter().zip([rule.limit.to_string(), remaining.to_string(), reset]).collect();
}

fn whose(entity: &str) -> String {
    if entity.is_empty() { String::new() } else { format!(" of {entity}") }
}

/// A call does not fit.
pub(super) fn refusal(
    rule: &Rule,
    entity: &str,
    level: &counter::Level,
    wait_ms: u64,
    now: UnixMillis,
) -> LimitRefusal {
    let (id, unit, limit) = (&rule.spec.id, rule.spec.unit, rule.words(rule.limit));
    let whose = whose(entity);
    if rule_is_rate(rule) {
        let mut shown = Vec::new();
        lines(rule, level, now, &mut shown);
        return LimitRefusal {
            is_budget: false,
            message: format!(
                "Rate limit '{id}'{whose} is reached: {limit} {unit}; try again in {}",
                go_duration(wait_ms)
            ),
            retry_after_seconds: seconds(wait_ms),
            lines: shown,
        };
    }
    let message = if level.spent >= rule.limit {
        let (spent, end) = (rule.words(level.spent), level.end.to_iso());
        format!("Budget '{id}'{whose} is used up: {spent} of {limit} {unit}; it begins anew at {end}")
    } else {
        let free = rule.words((rule.limit - level.used).max(0));
        format!(
            "Budget '{id}'{whose} has no room for this call: {free} of {limit} {unit} are not spent or reserved; try again, or lower max_tokens"
        )
    };
    LimitRefusal { is_budget: true, message, retry_after_seconds: seconds(wait_ms), lines: Vec::new() }
}

/// It is not known what is spent.
pub(super) fn not_ready(rule: &Rule, accounting_fails: bool) -> LimitRefusal {
    let why = if accounting_fails {
        "usage can not be written to the disk"
    } else {
        "what was spent is being read"
    };
    LimitRefusal {
        is_budget: true,
        message: format!("Budget '{}' can not be kept at present: {why}; try again", rule.spec.id),
        retry_after_seconds: 1,
        lines: Vec::new(),
    }
}

/// There is no room for one more counter.
pub(super) fn crowded(rule: &Rule) -> LimitRefusal {
    LimitRefusal {
        is_budget: !rule_is_rate(rule),
        message: format!(
            "Rule '{}' counts as many apart as the gateway has room for; try again",
            rule.spec.id
        ),
        retry_after_seconds: 60,
        lines: Vec::new(),
    }
}

fn percent(rule: &Rule, used: Amount) -> u64 {
    let percent = used.saturating_mul(100).checked_div(rule.limit).unwrap_or(100);
    u64::try_from(percent.max(0)).unwrap_or(u64::MAX)
}

fn level(rule: &Rule, entity: String, level: &counter::Level) -> Level {
    let used = rule.words(level.spent);
    Level {
        kind: rule.table.kind(),
        rule: rule.spec.clone(),
        entity,
        used: used.trim_start_matches('$').to_owned(),
        percent: percent(rule, level.spent),
        start: level.start,
        end: level.end,
    }
}

/// The same of an entity, which may have no counter yet.
fn level_of(rule: &Rule, entity: String, now: UnixMillis) -> Level {
    let table = &rule.table;
    let shown = match table.existing(&entity) {
        Some(counter) => counter.level(table, now),
        None => table.untouched(now),
    };
    level(rule, entity, &shown)
}

impl Limits {
    /// Every counter of one kind of limits, by rule and entity, at most `max`. A rule that nobody was counted in yet has
    /// its one counter, if it counts nothing apart.
    pub fn levels(&self, world: &World, kind: LimitKind, now: UnixMillis, max: usize) -> Vec<Level> {
        let mut levels = Vec::new();
        for rule in self.compiled(world, now).of(kind) {
            let mut all = rule.table.all();
            if all.is_empty() && rule.spec.per.is_empty() {
                levels.push(level_of(rule, String::new(), now));
            }
            all.truncate(max.saturating_sub(levels.len()));
            levels.extend(
                all.into_iter()
                    .map(|(entity, counter)| level(rule, entity, &counter.level(&rule.table, now))),
            );
        }
        levels.truncate(max);
        levels
    }

    /// The counters of the budgets that a call would be counted in. Makes none.
    pub fn matched_levels(&self, world: &World, facts: &Facts<'_>, now: UnixMillis) -> Vec<Level> {
        let mut levels = Vec::new();
        for rule in &self.compiled(world, now).budgets {
            levels.extend(rule.entities(facts).into_iter().map(|entity| level_of(rule, entity, now)));
        }
        levels
    }

    /// Metrics in the text form of Prometheus; one line for each budget's fullest counter.
    pub fn metrics_text(&self, world: &World, now: UnixMillis) -> String {
        let told = &self.told;
        let mut out = String::new();
        for (name, help, value) in [
            ("gateway_rate_limit_refusals_total", "Calls refused by a rate limit.", &told.rates_refused),
            ("gateway_budget_refusals_total", "Calls refused by a budget.", &told.budgets_refused),
            ("gateway_budget_alerts_total", "Thresholds of budgets that were passed.", &told.alerts_total),
            (
                "gateway_budget_alerts_sent_total",
                "Alerts that a notification channel has taken.",
                &told.alerts_sent,
            ),
            (
                "gateway_budget_alerts_failed_total",
                "Alerts that a notification channel did not get.",
                &told.alerts_failed,
            ),
            (
                "gateway_budget_unpriced_total",
                "Calls under a budget of money whose price is not known.",
                &told.unpriced,
            ),
            (
                "gateway_limit_counters_full_total",
                "Calls under a rule that had no room for another counter.",
                &told.crowded,
            ),
        ] {
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        let compiled = self.compiled(world, now);
        if !compiled.budgets.is_empty() {
            let name = "gateway_budget_used_percent";
            let _ = writeln!(out, "# HELP {name} The fullest counter of each budget.\n# TYPE {name} gauge");
        }
        for rule in &compiled.budgets {
            let counters = rule.table.all();
            let fullest = counters.iter().map(|(_, counter)| counter.level(&rule.table, now).spent).max();
            let id = rule.spec.id.replace('\\', "\\\\").replace('"', "\\\"");
            let percent = percent(rule, fullest.unwrap_or(0));
            let _ = writeln!(out, "gateway_budget_used_percent{{rule=\"{id}\"}} {percent}");
        }
        out
    }
}
