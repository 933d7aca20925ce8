//! Calls whose caller and provider speak different dialects: the request is said again for the provider, the answer
//! for the caller. Everything that knows a dialect is in `translate`; this is the way around it.

use std::borrow::Cow;

use super::answer::{After, Answer, Framing};
use super::outgoing::Outgoing;
use super::{Call, Onward, Refusal, Relay, UnreadBody, ended_by, passage, stream, upstream_refusal};
use crate::authz::{Permit, Route};
use crate::clock::{UnixMillis, monotonic_ms};
use crate::domain::Outcome;
use crate::failure::Failure;
use crate::http::{BodyReservation, BufferedBody, Connection};
use crate::relay::meter::Meter;
use crate::token;
use crate::translate::back::gemini::claude;
use crate::translate::front::responses::Echo;
use crate::translate::{
    Back, Capability, Front, Identity, Invalid, ProviderError, ReplyContext, Target, Translation, capability,
};
use crate::upstream::{Exchange, address};
use crate::wire::usage::MemberScanner;

/// The largest error body of a provider that is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// What a caller is told of a translation, besides the answer.
pub(super) struct TranslationNotes {
    /// Fields of the request that the provider can not serve and that the account has dropped.
    pub(super) dropped: Vec<String>,
}

/// What the answer's way back needs of the request.
struct Asked {
    front: Front,
    back: Back,
    context: ReplyContext,
    include_usage: bool,
    echo: Echo,
    unique: String,
    model: String,
}

impl Asked {
    fn identity(&self) -> Identity<'_> {
        Identity { unique: &self.unique, model: &self.model, created_s: UnixMillis::now().0 / 1_000 }
    }
}

/// A request that the caller has to change.
pub(super) fn invalid(invalid: Invalid) -> Refusal {
    Refusal::after_body(Failure::InvalidField { field: invalid.field, message: invalid.message })
}

/// What a model takes, with what its account says of it.
pub(super) fn capability_of(route: &Route, back: Back) -> Cow<'static, Capability> {
    let settings = route.spec().map(|model| &model.settings);
    let family = settings.and_then(|settings| settings.family.as_deref());
    let known = capability::of(back.as_str(), route.model_id(), family);
    match settings.and_then(|settings| settings.max_output_tokens) {
        Some(max_output_tokens) => Cow::Owned(Capability { max_output_tokens, ..known.clone() }),
        None => Cow::Borrowed(known),
    }
}

impl Relay {
    /// Room for a second of a call's body.
    pub(super) fn room(&self, call: &Call) -> Result<BodyReservation, Refusal> {
        BodyReservation::take(&self.budget, call.body.bytes.len())
            .map_err(|error| Refusal { body: UnreadBody::None, ..Refusal::from_read(&error) })
    }

    /// Serves a permitted call through a translation. Takes the permit by value, as [`Relay::forward`] does.
    #[allow(clippy::too_many_arguments, reason = "one call, its way, and where it is measured")]
    pub(super) fn translate(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        permit: Permit,
        mut call: Call,
        (front, back): (Front, Back),
        meter: &mut Meter<'_>,
    ) -> Result<After, Refusal> {
        let route = permit.route();
        let deadline_ms = monotonic_ms().saturating_add(self.upstreams.limits().total_timeout_ms);
        let account = route.account.spec.name.to_string();
        // While it is said again there are two of it: body and conversation, then conversation and request.
        let room = self.room(&call)?;
        let conversation = front.read(&call.body.bytes).map_err(invalid)?;
        let echo = front.echo(&call.body.bytes);
        call.body.bytes = Vec::new();
        let capability = capability_of(route, back);
        let target = Target {
            provider: route.account.spec.provider.as_str(),
            model_id: route.model_id(),
            capability: &capability,
            drop_unsupported: route.account.spec.settings.drop_unsupported,
        };
        let mut built = front.build(back, &conversation, &target).map_err(invalid)?;
        if address::is_anthropic_on_vertex(&route.account, route.model_id()) {
            built.body =
                claude::vertex_body(&built.body).map_err(|_| Refusal::after_body(Failure::Internal))?;
        }
        let is_stream = conversation.stream;
        let asked = Asked {
            front,
            back,
            context: built.context,
            include_usage: conversation.include_usage,
            echo,
            unique: token::random_id().map_err(|_| Refusal::after_body(Failure::Internal))?,
            model: call.model.clone(),
        };
        drop((conversation, room));
        let outgoing = Outgoing::translated(route, back, is_stream, &built.body).map_err(invalid)?;
        let exchange = self.send_out(connection, route, &outgoing, deadline_ms, meter)?;
        drop((built.body, call));
        let status = exchange.head().status;
        let onward = Onward {
            relay: self,
            answer,
            account,
            resolved_model: route.resolved_name(),
            deadline_ms,
            translation: Some(TranslationNotes { dropped: built.dropped }),
            meter,
        };
        if matches!(status, 300..=399 | 401 | 403) {
            return Err(refused(onward, status));
        }
        if !(200..300).contains(&status) {
            return failed(onward, connection, exchange, front, back);
        }
        if is_stream {
            let translation = Translation::new(
                front,
                back,
                &asked.identity(),
                (asked.include_usage, asked.echo.clone()),
                asked.context.clone(),
                self.upstreams.limits().max_answer_bytes,
            )
            .hiding(exchange.secrets());
            return stream::relay(onward, connection, exchange, passage::Translated::new(front, translation));
        }
        whole(onward, connection, exchange, &asked)
    }
}

/// The provider refused the gateway's credential, or redirected it.
pub(super) fn refused(onward: Onward<'_, '_, '_>, status: u16) -> Refusal {
    onward.meter.outcome(Outcome::ProviderError);
    Refusal::after_body(Failure::UpstreamRefused { account: onward.account, status })
}

/// The provider answered with an error: the caller gets it in its own dialect.
pub(super) fn failed(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    mut exchange: Exchange,
    front: Front,
    back: Back,
) -> Result<After, Refusal> {
    let status = exchange.head().status;
    let body = read_error(&onward, connection, &mut exchange);
    let headers = |name: &str| {
        let value = exchange.head().headers.one(name)?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    };
    let mut error = back.error(status, &headers, &body);
    error.hide(exchange.secrets());
    if error.is_of_credential() {
        return Err(refused(onward, status));
    }
    provider_error(onward, connection, exchange, front, &error)
}

/// What can be had of an error's body.
pub(super) fn read_error(
    onward: &Onward<'_, '_, '_>,
    connection: &Connection,
    exchange: &mut Exchange,
) -> Vec<u8> {
    let mut body = Vec::new();
    onward.arm_for_provider(connection, onward.relay.upstreams.limits().first_byte_timeout_ms);
    while body.len() < MAX_ERROR_BYTES {
        match exchange.next() {
            Ok(Some(range)) => body.extend_from_slice(exchange.bytes(&range)),
            Ok(None) | Err(_) => break,
        }
    }
    body
}

/// Writes a provider's error in the caller's dialect.
pub(super) fn provider_error(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    exchange: Exchange,
    front: Front,
    error: &ProviderError,
) -> Result<After, Refusal> {
    onward.meter.status(error.status);
    onward.meter.outcome(Outcome::ProviderError);
    let body = front.error(error);
    let mut head = onward.begin_answer(error.status, &exchange.head().headers, "application/json");
    if let (Some(seconds), None) = (error.retry_after_s, exchange.head().headers.one("retry-after")) {
        head.line(b"retry-after", seconds.to_string().as_bytes());
    }
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let after = onward.answer.frame(&mut head, Framing::Length(length));
    onward.arm_for_caller(connection);
    onward.meter.answer_sent(&body);
    let written = connection.write(&[&head.finish(), &body]);
    onward.relay.upstreams.keep(exchange);
    Ok(if written.is_ok() { after } else { After::Abort })
}

/// A whole answer.
fn whole(
    mut onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    mut exchange: Exchange,
    asked: &Asked,
) -> Result<After, Refusal> {
    let body = read_whole(&mut onward, connection, &mut exchange)?;
    let Ok(answer) = asked.back.read(&body.bytes, &asked.context) else {
        if asked.back == Back::OpenAi && names_an_error(&body.bytes) {
            // Routers put errors into a 200.
            let error = asked.back.error(200, &|_| None, &body.bytes);
            return provider_error(onward, connection, exchange, asked.front, &error);
        }
        onward.meter.outcome(Outcome::ProviderFailed);
        return Err(Refusal::after_body(Failure::UpstreamUnreadable { account: onward.account }));
    };
    drop(body);
    if let Some(tokens) = answer.tokens {
        onward.meter.tokens(tokens.counts());
    }
    let text = asked.front.write(&answer, &asked.identity(), &asked.echo);
    write_json(onward, connection, exchange, &text)
}

/// Whether a body is an object with a member `error`.
fn names_an_error(body: &[u8]) -> bool {
    let mut scanner = MemberScanner::new("error", MAX_ERROR_BYTES);
    scanner.feed(body);
    scanner.value().is_some_and(|value| value.trim_ascii() != b"null")
}

/// Writes a whole answer that the gateway has made.
pub(super) fn write_json(
    onward: Onward<'_, '_, '_>,
    connection: &mut Connection,
    exchange: Exchange,
    text: &[u8],
) -> Result<After, Refusal> {
    onward.meter.status(200);
    onward.meter.answer_piece(text);
    let mut head = onward.begin_answer(200, &exchange.head().headers, "application/json");
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let after = onward.answer.frame(&mut head, Framing::Length(length));
    onward.arm_for_caller(connection);
    onward.relay.upstreams.keep(exchange);
    let written = connection.write(&[&head.finish(), text]);
    onward.meter.outcome(match written {
        Ok(()) => Outcome::Complete,
        Err(_) => super::unwritten(connection),
    });
    Ok(if written.is_ok() { after } else { After::Abort })
}

/// Reads a whole body within `relay.max_answer_bytes` and the room for all bodies.
///
/// # Errors
/// What the caller is told.
pub(super) fn read_whole(
    onward: &mut Onward<'_, '_, '_>,
    connection: &Connection,
    exchange: &mut Exchange,
) -> Result<BufferedBody, Refusal> {
    let limits = onward.relay.upstreams.limits();
    let mut body = BufferedBody::empty(&onward.relay.budget);
    let mut wait_ms = limits.first_byte_timeout_ms;
    loop {
        onward.arm_for_provider(connection, wait_ms);
        match exchange.next() {
            Ok(None) => return Ok(body),
            Ok(Some(range)) => {
                wait_ms = limits.idle_timeout_ms;
                let bytes = exchange.bytes(&range);
                if body.bytes.len().saturating_add(bytes.len()) > limits.max_answer_bytes {
                    return Err(Refusal::after_body(Failure::UpstreamTooLarge {
                        account: onward.account.clone(),
                    }));
                }
                body.extend(bytes)
                    .map_err(|error| Refusal { body: UnreadBody::None, ..Refusal::from_read(&error) })?;
            }
            Err(error) => {
                let error = ended_by(connection, error);
                return Err(upstream_refusal(error, &onward.account, onward.meter));
            }
        }
    }
}
