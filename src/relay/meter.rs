//! The measure of one call: it has its place in the usage queue before the call begins, and settles when it is
//! dropped, whatever ended the call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::authz::{Permit, Route};
use crate::clock::{UnixMillis, monotonic_ms};
use crate::domain::{Money, Outcome, Principal, TokenCounts, TokenOrigin, UsageRecord};
use crate::failure::Failure;
use crate::limits::Reservation;
use crate::metrics::{CallSample, Metrics};
use crate::prices::{self, Catalogue};
use crate::request_log::Capture;
use crate::store::World;
use crate::usage::Slot;
use crate::wire::events::Kind;
use crate::wire::tokens::{self, Estimate, SAMPLE_BYTES};

/// Teams that a record names; who is in more is counted for the first of them.
const MAX_TEAMS: usize = 64;

/// Measures one call.
#[derive(Debug)]
pub struct Meter<'a> {
    metrics: &'a Metrics,
    slot: Option<Slot>,
    record: UsageRecord,
    started_ms: u64,
    reached_provider: bool,
    /// What prices the call.
    route: Route,
    catalogue: Arc<Catalogue>,
    /// The beginning of the request's body, for an estimate.
    request_sample: Vec<u8>,
    /// Events with output seen, for an estimate.
    output_pieces: u64,
    /// The text of a stream, for an estimate.
    output: Estimate,
    /// The beginning of an answer that is no stream, for an estimate.
    answer_sample: Vec<u8>,
    /// What kept the caller from a whole answer, where that is known better than by status and outcome.
    error_kind: Option<&'static str>,
    /// Why the call was refused or failed, as the caller is told.
    reason: Option<String>,
    estimates: bool,
    /// What the call holds of budgets and rate limits.
    reservation: Option<Reservation>,
    /// Where the bodies of the call are kept; boxed, since hardly any are.
    capture: Option<Box<Capture>>,
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
            teams: match principal {
                Principal::User { user, .. } => {
                    let teams = call.world.teams_of(user.email.as_str());
                    teams.take(MAX_TEAMS).map(ToString::to_string).collect()
                }
                Principal::VirtualAccount { .. } | Principal::LocalAdministrator { .. } => Vec::new(),
            },
            model_asked: None,
            cost: None,
            error_kind: None,
            request_bytes: u64::try_from(call.body.len()).unwrap_or(u64::MAX),
            answer_bytes: 0,
        };
        let asked = (call.model_asked != record.model).then(|| call.model_asked.to_owned());
        let record = UsageRecord { model_asked: asked, ..record };
        Self {
            metrics,
            slot: Some(slot),
            record,
            started_ms: call.started_ms,
            reached_provider: false,
            route: permit.route().clone(),
            catalogue: Arc::clone(call.world.catalogue()),
            request_sample: if call.estimates { beginning(call.body).to_vec() } else { Vec::new() },
            output_pieces: 0,
            output: Estimate::default(),
            answer_sample: Vec::new(),
            error_kind: None,
            reason: None,
            estimates: call.estimates,
            reservation: None,
            capture: None,
        }
    }

    /// The call holds this of budgets and rate limits, until it settles.
    pub fn under(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }

    /// The bodies of the call are kept here, if it reaches a provider.
    pub fn keep_bodies(&mut self, capture: Capture) {
        self.capture = Some(Box::new(capture));
    }

    /// Whether the bodies of the call are kept.
    pub fn keeps_bodies(&self) -> bool {
        self.capture.is_some()
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

    /// An event of a relayed stream passed that carries a piece of output.
    pub fn output_piece(&mut self, kind: Kind, event: &[u8]) {
        self.output_pieces += 1;
        if self.estimates {
            self.output.push_event(kind, event);
        }
    }

    /// So many pieces of a translated stream passed, whose text comes to this so far.
    pub fn output_so_far(&mut self, pieces: u64, text: Estimate) {
        self.output_pieces += pieces;
        self.output = text;
    }

    /// These bytes of an answer that is no stream pass.
    pub fn answer_piece(&mut self, bytes: &[u8]) {
        self.answer_sent(bytes);
        let room = SAMPLE_BYTES.saturating_sub(self.answer_sample.len());
        if self.estimates && room > 0 {
            self.answer_sample.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
    }

    /// These bytes of the answer's body passed.
    pub fn answer_sent(&mut self, bytes: &[u8]) {
        let count = u64::try_from(bytes.len()).unwrap_or(0);
        self.record.answer_bytes = self.record.answer_bytes.saturating_add(count);
        self.keep_answer(bytes);
    }

    /// These bytes are of what the caller is answered, and are kept where bodies are.
    pub fn keep_answer(&mut self, bytes: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.answer(bytes);
        }
    }

    /// The caller is told this instead of an answer.
    pub fn refused(&mut self, status: u16, reason: String) {
        self.record.status = status;
        self.reason = Some(reason);
        if !self.reached_provider && (400..500).contains(&status) && status != 499 {
            self.record.outcome = Outcome::Refused;
        }
    }

    /// What kept the caller from a whole answer.
    pub fn failure(&mut self, failure: &Failure) {
        self.error_kind = kind_of(failure);
    }

    /// Fills in the counts that no provider has told.
    fn estimate(&mut self) {
        let record = &mut self.record;
        let output = || match (self.output.tokens(), self.output_pieces) {
            // In a dialect whose text is not known: about one event a token.
            (0, pieces) => pieces,
            (tokens, _) => tokens,
        };
        if record.tokens.origin == TokenOrigin::Estimated && record.stream {
            // The provider has told the input and broke off before it told the output.
            record.tokens.output = output();
            return;
        }
        let answered = record.status < 400 || record.outcome != Outcome::ProviderError;
        // Also when the caller has a part of an answer and hung up before the counts at its end.
        let has_part = !record.stream && record.status < 400 && record.answer_bytes > 0;
        let produced = self.output_pieces > 0 || has_part || record.outcome == Outcome::Complete;
        if record.tokens.origin == TokenOrigin::None && self.estimates && answered && produced {
            record.tokens = TokenCounts {
                input: tokens::of_json(&self.request_sample, record.request_bytes),
                output: if record.stream {
                    output()
                } else {
                    tokens::of_json(&self.answer_sample, record.answer_bytes)
                },
                origin: TokenOrigin::Estimated,
                ..TokenCounts::default()
            };
        }
    }

    /// What the call cost; `None` when no price is known, or not what there is to pay for.
    fn cost(&self) -> Option<Money> {
        let record = &self.record;
        let no_answer = record.outcome == Outcome::ProviderError && self.output_pieces == 0;
        if record.tokens.origin == TokenOrigin::None && !no_answer {
            return None;
        }
        let model = self.route.spec()?;
        prices::cost(&self.route.account.spec, model, &self.catalogue, record.at, &record.tokens)
    }

    /// A short word for what went wrong.
    fn error_kind(&self) -> Option<&'static str> {
        let record = &self.record;
        match record.outcome {
            Outcome::Complete => None,
            Outcome::CallerGone => Some("caller_gone"),
            _ if self.error_kind.is_some() => self.error_kind,
            Outcome::Cut => Some("cut"),
            Outcome::ProviderFailed => Some("provider_failed"),
            Outcome::Refused => Some("refused"),
            Outcome::ProviderError => Some(kind_of_status(record.status)),
        }
    }

    fn settle(&mut self) {
        self.record.latency_ms = monotonic_ms().saturating_sub(self.started_ms);
        self.estimate();
        self.record.cost = self.cost();
        self.record.error_kind = self.error_kind().map(str::to_owned);
        let record = &self.record;
        self.metrics.call(&CallSample {
            account: &record.account,
            model: &record.model,
            outcome: record.outcome.as_str(),
            latency_ms: record.latency_ms,
            first_byte_ms: record.first_byte_ms,
            input_tokens: record.tokens.input,
            output_tokens: record.tokens.output,
            cost: record.cost,
        });
        log::info!(
            "call {} {} {} {} status={} outcome={} stream={} latency_ms={} first_byte_ms={} input_tokens={} output_tokens={} origin={:?} cost={}{}{}",
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
            record.cost.map_or_else(|| "unknown".to_owned(), |cost| cost.to_string()),
            record.error_kind.as_ref().map_or_else(String::new, |kind| format!(" error_kind={kind}")),
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
        if let Some(capture) = self.capture.take() {
            capture.finish(self.record.clone());
        }
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
    /// The body.
    pub body: &'a [u8],
    /// The model as the caller wrote it.
    pub model_asked: &'a str,
    /// The state that decided the call.
    pub world: &'a World,
    /// Missing token counts are estimated.
    pub estimates: bool,
}

fn beginning(body: &[u8]) -> &[u8] {
    body.get(..SAMPLE_BYTES).unwrap_or(body)
}

/// The word for an error status of a provider.
fn kind_of_status(status: u16) -> &'static str {
    match status {
        // An error in the midst of a stream that began well.
        0..=399 => "stream_error",
        401 | 403 => "credential_refused",
        402 => "payment",
        404 => "not_found",
        408 | 504 => "timeout",
        413 => "too_large",
        429 => "rate_limit",
        503 | 529 => "overloaded",
        500.. => "provider_error",
        _ => "invalid_request",
    }
}

/// The word for what the gateway tells the caller instead of an answer; `None` where status and outcome say it.
fn kind_of(failure: &Failure) -> Option<&'static str> {
    Some(match failure {
        Failure::UpstreamUnreachable { .. } => "unreachable",
        Failure::UpstreamTimeout { .. } => "timeout",
        Failure::UpstreamBroken { .. } => "broken_off",
        Failure::UpstreamInvalid { .. } | Failure::UpstreamUnreadable { .. } => "unreadable",
        Failure::UpstreamTooLarge { .. } => "too_large",
        Failure::UpstreamCredential(_) => "credential",
        Failure::UpstreamRefused { status: 401 | 403, .. } => "credential_refused",
        Failure::UpstreamRefused { .. } => "redirected",
        Failure::AccessRevoked => "access_revoked",
        Failure::Unavailable(_) => "unavailable",
        Failure::Internal => "internal",
        Failure::BadRequest(_) | Failure::InvalidField { .. } => "invalid_request",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_errors() {
        for (status, word) in [
            (200, "stream_error"),
            (400, "invalid_request"),
            (403, "credential_refused"),
            (404, "not_found"),
            (422, "invalid_request"),
            (429, "rate_limit"),
            (500, "provider_error"),
            (503, "overloaded"),
            (504, "timeout"),
            (529, "overloaded"),
            (599, "provider_error"),
        ] {
            assert_eq!(kind_of_status(status), word, "{status}");
        }
        let account = || "main".to_owned();
        for (failure, word) in [
            (Failure::UpstreamTimeout { account: account() }, Some("timeout")),
            (Failure::UpstreamBroken { account: account() }, Some("broken_off")),
            (Failure::UpstreamRefused { account: account(), status: 401 }, Some("credential_refused")),
            (Failure::UpstreamRefused { account: account(), status: 302 }, Some("redirected")),
            (Failure::RequestTimeout, None),
        ] {
            assert_eq!(kind_of(&failure), word, "{failure:?}");
        }
    }
}
