//! The request path, and the calls in flight.

mod answer;
mod bodies;
mod calls;
mod count;
mod demo;
mod embed;
mod endpoint;
mod headers;
mod meter;
mod models;
mod outgoing;
mod passage;
mod plain;
mod plan;
mod stream;
mod translated;

use std::sync::Arc;

pub use answer::{After, Answer};
pub use calls::Calls;
pub use endpoint::{Destination, Endpoint, find, find_below};
pub use headers::sane_request_id;

use crate::authz::Permit;
use crate::clock::{UnixMillis, monotonic_ms};
use crate::domain::{AccountingFailure, Outcome, Principal, ProviderType, TokenCounts};
use crate::failure::Failure;
use crate::http::{
    AnswerHead, BodyBudget, BodyLength, BufferedBody, Connection, HeadError, Headers, Limits, ReadError,
    RequestHead,
};
use crate::limits::{Accounting, Estimate, Facts, Limits as CallLimits, Reservation};
use crate::metrics::Metrics;
use crate::net::{Cut, Interruption};
use crate::request_log::RequestLog;
use crate::store::{Store, World};
use crate::upstream::{Exchange, UpstreamError, Upstreams};
use crate::usage::Usage;
use crate::wire::multipart;
use crate::wire::request::{self, Edit, Inspected};
use crate::{authn, authz, catalog, prices};
use meter::{Meter, MeteredCall};
use outgoing::Outgoing;
use plan::Plan;
use translated::TranslationNotes;

/// The largest error body that is held to see whether the provider refuses `stream_options`.
const MAX_HELD_ERROR_BYTES: usize = 64 * 1024;

/// What an answer may have at most, for a reservation, where neither the call nor its model says.
const DEFAULT_OUTPUT_TOKENS: u64 = 4096;

/// What a reservation is made for at most, for each answer: no model writes more, and who asks for more must not keep
/// a budget from everyone else.
const MAX_OUTPUT_TOKENS: u64 = 1_000_000;

/// Everything that a call needs.
#[derive(Debug)]
pub struct Relay {
    /// The state.
    pub store: Arc<Store>,
    /// Connections to providers.
    pub upstreams: Upstreams,
    /// Accounting.
    pub usage: Arc<Usage>,
    /// Where bodies are kept.
    pub request_log: Arc<RequestLog>,
    /// Budgets and rate limits.
    pub call_limits: Arc<CallLimits>,
    /// Room for request bodies.
    pub budget: Arc<BodyBudget>,
    /// What a caller may send.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Calls in flight.
    pub calls: Calls,
    /// Worker threads.
    pub workers: usize,
}

/// A refusal, and what became of the request's body.
#[derive(Debug)]
pub struct Refusal {
    /// What the caller is told; `None` when nobody is there to hear it.
    pub failure: Option<Failure>,
    /// The body was not read, or not to its end.
    pub body: UnreadBody,
    /// The call was measured, so that it has its line in the log, and resolved to this model.
    pub resolved_model: Option<String>,
}

/// Whether the connection still stands at a known place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadBody {
    /// All of the request was read.
    None,
    /// None of the body was read; it may be discarded.
    Whole,
    /// The framing is lost.
    Lost,
}

impl Refusal {
    /// A refusal before the body was read.
    pub fn before_body(failure: Failure) -> Self {
        Self { failure: Some(failure), body: UnreadBody::Whole, resolved_model: None }
    }

    fn after_body(failure: Failure) -> Self {
        Self { failure: Some(failure), body: UnreadBody::None, resolved_model: None }
    }

    /// What a failed read means for the caller.
    pub fn from_read(error: &ReadError) -> Self {
        let failure = match error {
            ReadError::Closed => None,
            ReadError::Timeout => Some(Failure::RequestTimeout),
            ReadError::Head(error) => Some(head_failure(*error)),
            ReadError::Chunk => Some(Failure::BadRequest("The chunked body is broken".into())),
            ReadError::TooLarge => Some(Failure::BodyTooLarge),
            ReadError::NoRoom => Some(Failure::Unavailable(
                "The gateway holds as many request bodies as it may (server.max_buffered_bytes); try again"
                    .into(),
            )),
        };
        Self { failure, body: UnreadBody::Lost, resolved_model: None }
    }
}

fn head_failure(error: HeadError) -> Failure {
    match error {
        HeadError::Malformed(text) => Failure::BadRequest(text.into()),
        HeadError::TooLarge => Failure::HeadTooLarge,
        HeadError::TargetTooLong => Failure::UriTooLong,
        HeadError::Version => Failure::VersionNotSupported,
        HeadError::Method => Failure::NotImplemented("This method is not implemented".into()),
        HeadError::TransferCoding => {
            Failure::NotImplemented("The only transfer coding understood is chunked".into())
        }
        HeadError::Expectation => Failure::ExpectationFailed,
    }
}

/// Whether a call that can not be accounted for is refused.
fn accounting_is_needed(world: &World) -> bool {
    world.settings().limits_when_accounting_fails == AccountingFailure::Refuse
}

/// A request whose body is there and whose model is known.
struct Call {
    body: BufferedBody,
    model: String,
    edits: Edits,
}

enum Edits {
    Json(Inspected),
    Form(multipart::Form),
}

fn refused(invalid: request::InvalidRequest) -> Refusal {
    Refusal::after_body(Failure::BadRequest(invalid.0))
}

fn json_call(body: BufferedBody) -> Result<Call, Refusal> {
    let inspected = request::inspect(&body.bytes).map_err(refused)?;
    Ok(Call { body, model: inspected.model.clone(), edits: Edits::Json(inspected) })
}

impl Relay {
    /// Finds who calls.
    ///
    /// # Errors
    /// `Unauthenticated`, whatever the reason.
    pub fn authenticate(&self, head: &RequestHead, world: &World) -> Result<Principal, Failure> {
        let now = UnixMillis::now();
        let principal = headers::presented_token(head)
            .and_then(|token| authn::authenticate(token, world, now).ok())
            .ok_or(Failure::Unauthenticated)?;
        if let Some(token) = principal.token_id() {
            self.usage.token_used(token, now);
        }
        Ok(principal)
    }

    /// Serves one request to an inference path, from its head to the last byte of its answer.
    ///
    /// # Errors
    /// The refusal that the caller is still to be told.
    pub fn serve(
        &self,
        connection: &mut Connection,
        head: &RequestHead,
        request_id: &str,
        destination: Destination<'_>,
        keep_alive: bool,
    ) -> Result<After, Refusal> {
        let answer = Answer { head, request_id, keep_alive, limit_lines: &[] };
        match (destination, head.method) {
            (Destination::Relay(endpoint), "POST") => self.relay(connection, &answer, endpoint, None),
            (Destination::Relay(_), _) => {
                Err(Refusal::before_body(Failure::MethodNotAllowed { allow: "POST" }))
            }
            (Destination::Models, "GET" | "HEAD") => self.list_models(connection, &answer),
            (Destination::Model(name), "GET" | "HEAD") => self.show_model(connection, &answer, name),
            _ => Err(Refusal::before_body(Failure::MethodNotAllowed { allow: "GET, HEAD" })),
        }
    }

    /// Serves a chat completion for somebody who is known by other means than a token in the head: the playground of
    /// the console. Everything else is as for any call. With `body` the request's own was read, and this stands for it.
    ///
    /// # Errors
    /// The refusal that the caller is still to be told.
    pub fn chat_as(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        principal: Principal,
        body: Option<BufferedBody>,
    ) -> Result<After, Refusal> {
        let [chat, ..] = &endpoint::ENDPOINTS;
        self.relay(connection, answer, chat, Some((principal, body)))
    }

    fn relay(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        endpoint: &'static Endpoint,
        known: Option<(Principal, Option<BufferedBody>)>,
    ) -> Result<After, Refusal> {
        let head = answer.head;
        let started_ms = monotonic_ms();
        let world = self.store.snapshot();
        let is_page = known.as_ref().is_some_and(|(_, body)| body.is_some());
        let (principal, body) = match known {
            Some(known) => known,
            None => (self.authenticate(head, &world).map_err(Refusal::before_body)?, None),
        };
        let metadata =
            headers::metadata(head).map_err(|text| Refusal::before_body(Failure::BadRequest(text.into())))?;
        let call = match body {
            Some(body) => json_call(body)?,
            None => self.read_call(connection, head, endpoint)?,
        };
        // The body may have taken its time; what holds now decides the rest of the call.
        let world = self.store.snapshot();
        let principal = authn::still_valid(&principal, &world, UnixMillis::now())
            .ok_or_else(|| Refusal::after_body(Failure::Unauthenticated))?;
        let forbidden = || {
            let failure = Failure::ModelForbidden { principal: principal.name(), model: call.model.clone() };
            Refusal::after_body(failure)
        };
        let route = catalog::resolve(&call.model, &world).ok_or_else(forbidden)?;
        let permit = authz::authorize(&principal, &route, &world).map_err(|_| forbidden())?;
        let keeps_bodies = bodies::are_kept(&world, &permit, head, &metadata)
            .map_err(|text| Refusal::after_body(Failure::BadRequest(text.into())))?;
        let mut reservation = self.reserve(&permit, &call, &world)?;
        let mut limit_lines = reservation.take_lines();
        if is_page {
            limit_lines.extend(answer::sandbox());
        }
        let answer = &Answer { limit_lines: &limit_lines, ..*answer };
        let slot = match self.usage.reserve() {
            Ok(slot) => slot,
            // An admin has said that serving goes before accounting while the disk fails.
            Err(_) if self.usage.is_failing() && !accounting_is_needed(&world) => self.usage.without_record(),
            Err(_) => {
                return Err(Refusal::after_body(Failure::Unavailable(
                    "The gateway has no room to account for this call; try again".into(),
                )));
            }
        };
        let watch = Arc::clone(connection.watch());
        let expires_at = authn::expiry(&principal, &world);
        let in_flight = self.calls.enter(&watch, &principal, call.model.clone(), expires_at);
        if self.store.snapshot().revision() != world.revision() {
            // A change came between the decision and the entry above; whoever made it did not see this call.
            self.calls.review(&self.store.snapshot(), UnixMillis::now());
        }
        let mut meter = Meter::start(
            &self.metrics,
            slot,
            &permit,
            MeteredCall {
                request_id: answer.request_id,
                endpoint: endpoint.path,
                metadata,
                started_ms,
                body: &call.body.bytes,
                model_asked: &call.model,
                world: &world,
                estimates: endpoint.counts_tokens,
            },
        );
        meter.under(reservation);
        if keeps_bodies && let Some(capture) = self.request_log.capture(&call.body.bytes) {
            meter.keep_bodies(capture);
        }
        let resolved_model = permit.route().resolved_name();
        let result =
            plan::choose(endpoint, permit.route()).map_err(Refusal::after_body).and_then(|plan| match plan {
                Plan::Demo => {
                    watch.arm(self.limits.idle_timeout_ms);
                    demo::answer(connection, answer, endpoint, &permit, &call.body.bytes, &mut meter)
                }
                Plan::Relay => self.forward(connection, answer, endpoint, permit, call, &mut meter),
                Plan::Translate(front, back) => {
                    self.translate(connection, answer, permit, call, (front, back), &mut meter)
                }
                Plan::Embed(form) => self.embed(connection, answer, permit, call, form, &mut meter),
                Plan::EstimateTokens => {
                    self.estimate_tokens(connection, answer, &resolved_model, &call, &mut meter)
                }
            });
        let result = result.map_err(|refusal| {
            if let Some(failure) = &refusal.failure {
                meter.refused(failure.status(), failure.message().into_owned());
                meter.failure(failure);
                if meter.keeps_bodies() {
                    let dialect = Destination::Relay(endpoint).dialect();
                    meter.keep_answer(failure.render(dialect).body.as_bytes());
                }
            }
            Refusal { resolved_model: Some(resolved_model), ..refusal }
        });
        drop(in_flight);
        // A cut that came after the call's end must not end the next one.
        watch.clear_cut();
        watch.disarm();
        result
    }

    /// Reserves what a call may use of what it is limited to.
    fn reserve(&self, permit: &Permit, call: &Call, world: &World) -> Result<Reservation, Refusal> {
        let model = permit.route().spec();
        let facts = || {
            let facts = Facts::of_call(permit.principal(), permit.route().resolved_name(), world)?;
            let (asked, choices) = match &call.edits {
                Edits::Json(inspected) => (inspected.max_tokens, inspected.choices),
                Edits::Form(_) => (Some(0), 1),
            };
            let longest = model.and_then(|model| model.settings.max_output_tokens);
            let output = asked.or(longest).unwrap_or(DEFAULT_OUTPUT_TOKENS);
            let output = output.min(longest.unwrap_or(MAX_OUTPUT_TOKENS)).saturating_mul(choices);
            // About four bytes a token in English text and JSON.
            let input = u64::try_from(call.body.bytes.len()).unwrap_or(u64::MAX) / 4;
            Some((facts, Estimate { input, output }))
        };
        let account = &permit.route().account.spec;
        let cost = |tokens: &TokenCounts| {
            prices::cost(account, model?, world.catalogue(), UnixMillis::now(), tokens)
        };
        let accounting =
            Accounting { fails: self.usage.is_failing(), is_needed: accounting_is_needed(world) };
        self.call_limits
            .reserve(world, facts, cost, accounting, UnixMillis::now())
            .map_err(|refusal| Refusal::after_body(Failure::LimitReached(Box::new(refusal))))
    }

    fn read_call(
        &self,
        connection: &mut Connection,
        head: &RequestHead,
        endpoint: &Endpoint,
    ) -> Result<Call, Refusal> {
        if head.body == BodyLength::None {
            return Err(Refusal {
                failure: Some(Failure::LengthRequired),
                body: UnreadBody::None,
                resolved_model: None,
            });
        }
        if head.headers.all("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::before_body(Failure::UnsupportedMediaType(
                "Send the body without Content-Encoding".into(),
            )));
        }
        let boundary = headers::form_boundary(head, endpoint.multipart).map_err(Refusal::before_body)?;
        let body = connection
            .read_body(head, &self.limits, &self.budget)
            .map_err(|error| Refusal::from_read(&error))?;
        match boundary {
            Some(boundary) => {
                let form = multipart::inspect(&body.bytes, &boundary).map_err(refused)?;
                Ok(Call { body, model: form.model.clone(), edits: Edits::Form(form) })
            }
            None => json_call(body),
        }
    }

    /// Sends a permitted call to its provider and brings the answer back. Takes the permit by value: there is
    /// no other way to get here.
    fn forward(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        endpoint: &'static Endpoint,
        permit: Permit,
        call: Call,
        meter: &mut Meter<'_>,
    ) -> Result<After, Refusal> {
        let route = permit.route();
        let deadline_ms = monotonic_ms().saturating_add(self.upstreams.limits().total_timeout_ms);
        let account = route.account.spec.name.to_string();
        // The permit is for one model; what would have the provider call another has none.
        if route.account.spec.provider == ProviderType::Openrouter
            && matches!(&call.edits, Edits::Json(Inspected { has_preset: true, .. }))
        {
            return Err(Refusal::after_body(Failure::InvalidField {
                field: "preset".to_owned(),
                message: "'preset' may have openrouter call another model than the one that was asked for"
                    .to_owned(),
            }));
        }
        let asked = match &call.edits {
            Edits::Json(inspected) if endpoint.has_stream_options => inspected.usage_edit(),
            _ => None,
        };
        let mut hides_usage = asked.is_some();
        let mut exchange =
            self.send(connection, answer, endpoint, &permit, &call, asked, deadline_ms, meter)?;
        let mut held = Vec::new();
        if hides_usage && exchange.head().status == 400 {
            held = self.hold_error(connection, &mut exchange);
            if memchr::memmem::find(&held, b"stream_options").is_some()
                || memchr::memmem::find(&held, b"include_usage").is_some()
            {
                // Older servers refuse what the caller did not ask for: once more without it.
                hides_usage = false;
                held.clear();
                exchange =
                    self.send(connection, answer, endpoint, &permit, &call, None, deadline_ms, meter)?;
            }
        }
        // Nothing more of the request is needed; a long answer should not hold its room.
        drop(call);
        let status = exchange.head().status;
        if matches!(status, 300..=399 | 401 | 403) {
            meter.outcome(Outcome::ProviderError);
            return Err(Refusal::after_body(Failure::UpstreamRefused { account, status }));
        }
        let is_event_stream = exchange
            .head()
            .headers
            .one("content-type")
            .and_then(|value| value.get(..17))
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
            // Compressed in spite of what was asked for: its events can not be read.
            && exchange.head().headers.all("content-encoding").all(|coding| coding == b"identity");
        let onward = Onward {
            relay: self,
            answer,
            account,
            resolved_model: route.resolved_name(),
            deadline_ms,
            translation: None,
            meter,
        };
        if is_event_stream && (200..300).contains(&status) {
            let max_event_bytes = self.upstreams.limits().max_event_bytes;
            let passage = passage::Relayed::new(endpoint.stream, hides_usage, max_event_bytes);
            stream::relay(onward, connection, exchange, passage)
        } else {
            plain::relay(onward, connection, exchange, held)
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call, its two attempts, and where it is measured")]
    fn send(
        &self,
        connection: &Connection,
        answer: &Answer<'_>,
        endpoint: &Endpoint,
        permit: &Permit,
        call: &Call,
        usage_edit: Option<Edit>,
        deadline_ms: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Exchange, Refusal> {
        let route = permit.route();
        let mut edits = vec![match &call.edits {
            Edits::Json(inspected) => inspected.model_edit(route.model_id()),
            Edits::Form(form) => form.model_edit(route.model_id()),
        }];
        edits.extend(usage_edit);
        let body = request::apply(&call.body.bytes, &mut edits);
        let content_type = match &call.edits {
            Edits::Json(_) => "application/json".to_owned(),
            Edits::Form(form) => form.content_type(),
        };
        let outgoing = Outgoing::relayed(route, endpoint, answer.head, content_type, body);
        self.send_out(connection, route, &outgoing, deadline_ms, meter)
    }

    /// Reads an error body as far as it may be held.
    fn hold_error(&self, connection: &Connection, exchange: &mut Exchange) -> Vec<u8> {
        let mut held = Vec::new();
        connection.watch().arm(self.upstreams.limits().first_byte_timeout_ms);
        while held.len() < MAX_HELD_ERROR_BYTES {
            match exchange.next() {
                Ok(Some(range)) => held.extend_from_slice(exchange.bytes(&range)),
                Ok(None) | Err(_) => break,
            }
        }
        held
    }
}

/// What both ways of bringing an answer back need.
struct Onward<'a, 'm, 'u> {
    relay: &'a Relay,
    answer: &'a Answer<'a>,
    account: String,
    resolved_model: String,
    deadline_ms: u64,
    /// The answer is said again in the caller's dialect; what the caller is to know of that.
    translation: Option<TranslationNotes>,
    meter: &'m mut Meter<'u>,
}

impl Onward<'_, '_, '_> {
    /// Begins the head of an answer with the provider's lines that may pass. `content_type` is that of a translated one.
    fn begin_answer(&self, status: u16, from: &Headers, content_type: &str) -> AnswerHead {
        let mut head = self.answer.begin(status);
        head.line(b"x-tfy-resolved-model", self.resolved_model.as_bytes());
        match &self.translation {
            None => headers::to_caller(from, &mut head, !self.answer.limit_lines.is_empty()),
            Some(translated) => {
                headers::to_caller_translated(from, &mut head);
                head.line(b"content-type", content_type.as_bytes());
                if !translated.dropped.is_empty() {
                    head.line(b"x-gateway-dropped-fields", translated.dropped.join(", ").as_bytes());
                }
            }
        }
        head
    }

    /// Waits for the provider: at most the idle limit, and never past the call's end.
    fn arm_for_provider(&self, connection: &Connection, limit_ms: u64) {
        connection.watch().arm_at(monotonic_ms().saturating_add(limit_ms).min(self.deadline_ms));
    }

    /// Waits for the caller to take what was written.
    fn arm_for_caller(&self, connection: &Connection) {
        connection.watch().arm(self.relay.limits.idle_timeout_ms);
    }
}

/// The error in the middle of an answer: what ended it.
fn ended_by(connection: &Connection, error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Interrupted(_) => error,
        other => connection.watch().interruption().map_or(other, UpstreamError::Interrupted),
    }
}

/// How a call ends whose caller could not be written to.
fn unwritten(connection: &Connection) -> Outcome {
    match connection.watch().caller_side_interruption() {
        Some(Interruption::Cut(_)) => Outcome::Cut,
        _ => Outcome::CallerGone,
    }
}

/// Why the provider gave no answer, for the caller and for the record.
fn upstream_refusal(error: UpstreamError, account: &str, meter: &mut Meter<'_>) -> Refusal {
    let (failure, outcome) = upstream_failure(error, account);
    meter.outcome(outcome);
    Refusal { failure, body: UnreadBody::None, resolved_model: None }
}

fn upstream_failure(error: UpstreamError, account: &str) -> (Option<Failure>, Outcome) {
    let account = account.to_owned();
    match error {
        UpstreamError::Unreachable | UpstreamError::Forbidden => {
            (Some(Failure::UpstreamUnreachable { account }), Outcome::ProviderFailed)
        }
        UpstreamError::Invalid => (Some(Failure::UpstreamInvalid { account }), Outcome::ProviderFailed),
        UpstreamError::Broken => (Some(Failure::UpstreamBroken { account }), Outcome::ProviderFailed),
        UpstreamError::Interrupted(Interruption::Deadline) => {
            (Some(Failure::UpstreamTimeout { account }), Outcome::ProviderFailed)
        }
        UpstreamError::Interrupted(Interruption::CallerGone) => (None, Outcome::CallerGone),
        UpstreamError::Interrupted(Interruption::Cut(Cut::AccessRevoked)) => {
            (Some(Failure::AccessRevoked), Outcome::Cut)
        }
        UpstreamError::Interrupted(Interruption::Cut(Cut::Shutdown)) => {
            (Some(Failure::Unavailable("The gateway is shutting down; try again".into())), Outcome::Cut)
        }
    }
}
