//! Counters, gauges and histograms in the Prometheus text format, with a bounded number of label sets.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::Money;

/// Upper bounds of the latency histograms, in milliseconds.
const BUCKETS_MS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Labels {
    account: String,
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    sum_ms: u64,
}

impl Histogram {
    fn add(&mut self, value_ms: u64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS_MS) {
            *bucket += u64::from(value_ms <= bound);
        }
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(value_ms);
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        for (count, bound) in self.buckets.iter().zip(BUCKETS_MS) {
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", seconds(bound));
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", seconds(self.sum_ms));
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", self.count);
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[derive(Clone, Debug, Default)]
struct Series {
    latency: Histogram,
    first_byte: Histogram,
    input_tokens: u64,
    output_tokens: u64,
    spend: Money,
    unpriced: u64,
}

/// One finished call, as metrics see it.
#[derive(Clone, Copy, Debug)]
pub struct CallSample<'a> {
    /// Provider account.
    pub account: &'a str,
    /// `account/name`.
    pub model: &'a str,
    /// How it ended.
    pub outcome: &'static str,
    /// The whole call.
    pub latency_ms: u64,
    /// To the provider's first body byte.
    pub first_byte_ms: Option<u64>,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Completion tokens.
    pub output_tokens: u64,
    /// What it cost; `None` is unknown.
    pub cost: Option<Money>,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    calls: Mutex<HashMap<Labels, Series>>,
    max_label_sets: usize,
    refused: Mutex<HashMap<u16, u64>>,
    /// Calls in flight to providers.
    pub in_flight: AtomicU64,
    /// Connections refused because `server.max_connections` was reached.
    pub connections_refused: AtomicU64,
    /// Connections accepted.
    pub connections_accepted: AtomicU64,
    /// Calls cut because access was taken away.
    pub calls_cut: AtomicU64,
    /// Coroutines that ended in a panic.
    pub panics: AtomicU64,
}

impl Metrics {
    /// Counters at zero, with room for this many label sets; calls beyond are counted as `other`.
    pub fn new(max_label_sets: usize) -> Self {
        Self {
            calls: Mutex::default(),
            max_label_sets,
            refused: Mutex::default(),
            in_flight: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            calls_cut: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    /// Counts a call that reached a provider.
    pub fn call(&self, sample: &CallSample<'_>) {
        let mut labels = Labels {
            account: sample.account.to_owned(),
            model: sample.model.to_owned(),
            outcome: sample.outcome,
        };
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= self.max_label_sets && !calls.contains_key(&labels) {
            labels =
                Labels { account: "other".to_owned(), model: "other".to_owned(), outcome: sample.outcome };
        }
        let series = calls.entry(labels).or_default();
        series.latency.add(sample.latency_ms);
        if let Some(first_byte_ms) = sample.first_byte_ms {
            series.first_byte.add(first_byte_ms);
        }
        series.input_tokens += sample.input_tokens;
        series.output_tokens += sample.output_tokens;
        match sample.cost {
            Some(cost) => series.spend = series.spend.plus(cost),
            None => series.unpriced += 1,
        }
    }

    /// Counts a request that the gateway itself refused.
    pub fn refused(&self, status: u16) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// The text that Prometheus reads, followed by these further gauges.
    pub fn render(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut out = String::with_capacity(4096);
        let calls = {
            let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let mut calls: Vec<_> = calls.iter().map(|(l, s)| (l.clone(), s.clone())).collect();
            calls.sort_by(|a, b| a.0.cmp(&b.0));
            calls
        };
        let text = |labels: &Labels| {
            format!(
                "account=\"{}\",model=\"{}\",outcome=\"{}\"",
                escape(&labels.account),
                escape(&labels.model),
                labels.outcome
            )
        };
        header(&mut out, "gateway_requests_total", "counter", "Calls that reached a provider.");
        for (labels, series) in &calls {
            let _ = writeln!(out, "gateway_requests_total{{{}}} {}", text(labels), series.latency.count);
        }
        header(&mut out, "gateway_request_duration_seconds", "histogram", "Time of whole calls.");
        for (labels, series) in &calls {
            series.latency.render(&mut out, "gateway_request_duration_seconds", &text(labels));
        }
        header(
            &mut out,
            "gateway_first_byte_seconds",
            "histogram",
            "Time to the provider's first body byte.",
        );
        for (labels, series) in &calls {
            series.first_byte.render(&mut out, "gateway_first_byte_seconds", &text(labels));
        }
        header(&mut out, "gateway_tokens_total", "counter", "Tokens by direction.");
        for (labels, series) in &calls {
            let labels = text(labels);
            let _ =
                writeln!(out, "gateway_tokens_total{{{labels},direction=\"input\"}} {}", series.input_tokens);
            let _ = writeln!(
                out,
                "gateway_tokens_total{{{labels},direction=\"output\"}} {}",
                series.output_tokens
            );
        }
        header(&mut out, "gateway_spend_usd_total", "counter", "US dollars, of calls whose price is known.");
        for (labels, series) in &calls {
            let _ = writeln!(out, "gateway_spend_usd_total{{{}}} {}", text(labels), series.spend);
        }
        header(&mut out, "gateway_unpriced_calls_total", "counter", "Calls whose cost is unknown.");
        for (labels, series) in &calls {
            let _ = writeln!(out, "gateway_unpriced_calls_total{{{}}} {}", text(labels), series.unpriced);
        }
        header(&mut out, "gateway_refused_total", "counter", "Requests refused by the gateway, by status.");
        let mut refused: Vec<_> = {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.iter().map(|(status, count)| (*status, *count)).collect()
        };
        refused.sort_unstable();
        for (status, count) in refused {
            let _ = writeln!(out, "gateway_refused_total{{status=\"{status}\"}} {count}");
        }
        for (name, help, counter) in [
            ("gateway_connections_accepted_total", "Connections accepted.", &self.connections_accepted),
            (
                "gateway_connections_refused_total",
                "Connections beyond server.max_connections.",
                &self.connections_refused,
            ),
            ("gateway_calls_cut_total", "Calls cut because access was taken away.", &self.calls_cut),
            ("gateway_panics_total", "Connections that ended in a panic; report these.", &self.panics),
        ] {
            header(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        header(&mut out, "gateway_in_flight", "gauge", "Calls in flight to providers.");
        let _ = writeln!(out, "gateway_in_flight {}", self.in_flight.load(Ordering::Relaxed));
        for (name, help, value) in gauges {
            header(&mut out, name, if name.ends_with("_total") { "counter" } else { "gauge" }, help);
            let _ = writeln!(out, "{name} {value}");
        }
        out
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_bounded() {
        let metrics = Metrics::new(2);
        for n in 0..10 {
            let model = format!("main/m{n}");
            metrics.call(&CallSample {
                account: "main",
                model: &model,
                outcome: "complete",
                latency_ms: 7,
                first_byte_ms: Some(3),
                input_tokens: 1,
                output_tokens: 2,
                cost: (n % 2 == 0).then(|| Money::whole(1)),
            });
        }
        let text = metrics.render(&[("gateway_x", "X.", 4)]);
        assert!(
            text.contains(r#"gateway_requests_total{account="other",model="other",outcome="complete"} 8"#),
            "{text}"
        );
        assert!(text.contains(r#"gateway_request_duration_seconds_bucket{account="main",model="main/m0",outcome="complete",le="0.010"} 1"#));
        assert_eq!(text.matches("gateway_requests_total{").count(), 3);
        assert!(text.contains("gateway_x 4"));
        let other = r#"{account="other",model="other",outcome="complete"} 4"#;
        assert!(text.contains(&format!("gateway_spend_usd_total{other}")), "{text}");
        assert!(text.contains(&format!("gateway_unpriced_calls_total{other}")), "{text}");
    }
}
