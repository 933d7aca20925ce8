//! The measure of one call: it has its place in the usage queue before the call begins, and settles when it is
//! dropped, whatever ended the call.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::authz::Permit;
use crate::clock::{UnixMillis, monotonic_ms};
use crate::domain::{Outcome, TokenCounts, TokenOrigin, UsageRecord};
use crate::limits::Reservation;
use crate::metrics::{CallSample, Metrics};
use crate::usage::Slot;

/// Measures one call.
#[derive(Debug)]
pub struct Meter<'a> {
    metrics: &'a Metrics,
    slot: Option<Slot>,
    record: UsageRecord,
    started_ms: u64,
    reached_provider: bool,
    /// Bytes of the request body, for an estimate.
    request_bytes: u64,
    /// Events with output seen, for an estimate.
    output_pieces: u64,
    /// Bytes of an answer that is no stream, for an estimate.
    answer_bytes: u64,
    /// Why the call was refused or failed, as the caller is told.
    reason: Option<String>,
    estimates: bool,
    /// What the call holds of budgets and rate limits.
    reservation: Option<Reservation>,
}

impl<'a> Meter<'a> {
    /// Begins to measure.
    pub fn start(metrics: &'a Metrics, slot: Slot, permit: &Permit, call: MeteredCall<'_>) -> Self {
        metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        let principal = permit.principal();
        let record = UsageRecord {
            at: UnixMillis::now(),
            request_id: call.request_id.to_owned(),
            subject: principal.subject_text(),
            token_id: principal.token_id().map(ToString::to_string).unwrap_or_default(),
            account: permit.route().account.spec.name.to_string(),
            model: permit.route().resolved_name(),
            endpoint: call.endpoint.to_owned(),
            tokens: TokenCounts::default(),
            status: 499,
            outcome: Outcome::ProviderFailed,
            stream: false,
            latency_ms: 0,
            first_byte_ms: None,
            metadata: call.metadata,
            teams: Vec::new(),
            model_asked: None,
            cost: None,
            error_kind: None,
            request_bytes: 0,
            answer_bytes: 0,
        };
        Self {
            metrics,
            slot: Some(slot),
            record,
            started_ms: call.started_ms,
            reached_provider: false,
            request_bytes: u64::try_from(call.request_bytes).unwrap_or(u64::MAX),
            output_pieces: 0,
            answer_bytes: 0,
            reason: None,
            estimates: call.estimates,
            reservation: None,
        }
    }

    /// The call holds this of budgets and rate limits, until it settles.
    pub fn under(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }

    /// The request went out.
    pub fn reached_provider(&mut self) {
        self.reached_provider = true;
    }

    /// The provider's first body byte or event has come.
    pub fn first_byte(&mut self, stream: bool) {
        self.record.stream = stream;
        self.record.first_byte_ms.get_or_insert(monotonic_ms().saturating_sub(self.started_ms));
    }

    /// What the caller is answered.
    pub fn status(&mut self, status: u16) {
        self.record.status = status;
    }

    /// How the call ended.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.record.outcome = outcome;
    }

    /// The provider reported these counts; later ones replace earlier ones.
    pub fn tokens(&mut self, tokens: TokenCounts) {
        self.record.tokens = tokens;
    }

    /// A piece of output passed.
    pub fn output_piece(&mut self) {
        self.output_pieces += 1;
    }

    /// So many bytes of an answer that is no stream passed.
    pub fn answer_bytes(&mut self, bytes: usize) {
        self.answer_bytes += u64::try_from(bytes).unwrap_or(0);
    }

    /// The caller is told this instead of an answer.
    pub fn refused(&mut self, status: u16, reason: String) {
        self.record.status = status;
        self.reason = Some(reason);
    }

    fn settle(&mut self) {
        self.record.latency_ms = monotonic_ms().saturating_sub(self.started_ms);
        let answered = self.record.status < 400 || self.record.outcome != Outcome::ProviderError;
        let produced = self.output_pieces > 0 || self.record.outcome == Outcome::Complete;
        if self.record.tokens.origin == TokenOrigin::None && self.estimates && answered && produced {
            // About four bytes a token in English text and JSON, and one event a token in a stream.
            self.record.tokens = TokenCounts {
                input: self.request_bytes / 4,
                output: if self.record.stream { self.output_pieces } else { self.answer_bytes / 4 },
                origin: TokenOrigin::Estimated,
                ..TokenCounts::default()
            };
        }
        let record = &self.record;
        self.metrics.call(&CallSample {
            account: &record.account,
            model: &record.model,
            outcome: record.outcome.as_str(),
            latency_ms: record.latency_ms,
            first_byte_ms: record.first_byte_ms,
            input_tokens: record.tokens.input,
            output_tokens: record.tokens.output,
        });
        log::info!(
            "call {} {} {} {} status={} outcome={} stream={} latency_ms={} first_byte_ms={} input_tokens={} output_tokens={} origin={:?}{}",
            record.request_id,
            record.subject,
            record.endpoint,
            record.model,
            record.status,
            record.outcome.as_str(),
            record.stream,
            record.latency_ms,
            record.first_byte_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
            record.tokens.input,
            record.tokens.output,
            record.tokens.origin,
            self.reason.as_ref().map_or_else(String::new, |reason| format!(" reason={reason}")),
        );
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.settle();
        // A call that never got as far as the provider has used nothing.
        if let Some(reservation) = self.reservation.take().filter(|_| self.reached_provider) {
            reservation.settle(self.record.tokens, self.record.cost, UnixMillis::now());
        }
        let Some(slot) = self.slot.take().filter(|_| self.reached_provider) else { return };
        slot.settle(self.record.take());
    }
}

/// What a meter is told of a call when it begins.
#[derive(Debug)]
pub struct MeteredCall<'a> {
    /// What the caller is told.
    pub request_id: &'a str,
    /// Such as `chat/completions`.
    pub endpoint: &'a str,
    /// `X-TFY-METADATA`.
    pub metadata: BTreeMap<String, String>,
    /// When the call's head had come, on the monotonic clock.
    pub started_ms: u64,
    /// Bytes of the body.
    pub request_bytes: usize,
    /// Missing token counts are estimated.
    pub estimates: bool,
}
