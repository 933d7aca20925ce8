//! Embeddings by providers that do not speak OpenAI's dialect.

use super::answer::{After, Answer};
use super::outgoing::Outgoing;
use super::translated::{self, capability_of, invalid};
use super::{Call, Onward, Refusal, Relay, TranslationNotes};
use crate::authz::{Permit, Route};
use crate::clock::monotonic_ms;
use crate::domain::{Outcome, Protocol, TokenCounts, TokenOrigin};
use crate::failure::Failure;
use crate::http::Connection;
use crate::relay::meter::Meter;
use crate::translate::back::{converse, gemini};
use crate::translate::embedding::{self, EmbeddingAnswer, EmbeddingRequest};
use crate::translate::{Back, Dropped, Front, Invalid, Target, Unreadable};
use crate::upstream::address;

/// What one request comes to at its provider: one call, or one for each text.
struct Calls {
    target: String,
    bodies: Vec<Vec<u8>>,
    dropped: Dropped,
}

impl Relay {
    /// Serves a permitted call for embeddings. Takes the permit by value, as [`Relay::forward`] does.
    pub(super) fn embed(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        permit: Permit,
        call: Call,
        protocol: Protocol,
        meter: &mut Meter<'_>,
    ) -> Result<After, Refusal> {
        let route = permit.route();
        let deadline_ms = monotonic_ms().saturating_add(self.upstreams.limits().total_timeout_ms);
        let request = embedding::read(&call.body.bytes).map_err(invalid)?;
        let back = if protocol == Protocol::Converse { Back::Converse } else { Back::Gemini };
        let capability = capability_of(route, back);
        let target = Target {
            provider: route.account.spec.provider.as_str(),
            model_id: route.model_id(),
            capability: &capability,
            drop_unsupported: route.account.spec.settings.drop_unsupported,
        };
        let calls = build(route, back, &request, &target).map_err(invalid)?;
        let mut onward = Onward {
            relay: self,
            answer,
            account: route.account.spec.name.to_string(),
            resolved_model: route.resolved_name(),
            deadline_ms,
            translation: Some(TranslationNotes { dropped: calls.dropped }),
            meter,
        };
        let mut read = Vec::new();
        let mut last = None;
        for body in &calls.bodies {
            if let Some(exchange) = last.take() {
                self.upstreams.keep(exchange);
            }
            let outgoing = Outgoing::json(calls.target.clone(), body);
            let mut exchange = self.send_out(connection, route, &outgoing, deadline_ms, onward.meter)?;
            let status = exchange.head().status;
            if matches!(status, 300..=399 | 401 | 403) {
                return Err(translated::refused(onward, status));
            }
            if !(200..300).contains(&status) {
                return translated::failed(onward, connection, exchange, Front::Chat, back);
            }
            let body = translated::read_whole(&mut onward, connection, &mut exchange)?;
            let header = |name: &str| {
                let value = exchange.head().headers.one(name)?;
                std::str::from_utf8(value).ok().map(str::to_owned)
            };
            match understand(back, &body.bytes, &header, &request, &target) {
                Ok(part) => read.push(part),
                Err(Unreadable) => {
                    onward.meter.outcome(Outcome::ProviderFailed);
                    return Err(Refusal::after_body(Failure::UpstreamUnreadable { account: onward.account }));
                }
            }
            last = Some(exchange);
        }
        let Some(exchange) = last else { return Err(Refusal::after_body(Failure::Internal)) };
        let whole = joined(read);
        if let Some(input) = whole.input_tokens {
            onward.meter.tokens(TokenCounts {
                input,
                origin: TokenOrigin::Reported,
                ..TokenCounts::default()
            });
        }
        let text = embedding::write(&whole, route.model_id(), request.base64);
        translated::write_json(onward, connection, exchange, &text)
    }
}

fn build(
    route: &Route,
    back: Back,
    request: &EmbeddingRequest,
    target: &Target<'_>,
) -> Result<Calls, Invalid> {
    if back == Back::Converse {
        let _ = converse::path(route.model_id(), converse::Operation::Invoke);
        return Err(Invalid::new("input", "not yet"));
    }
    let built = gemini::embedding::build(request, target)?;
    let target = address::google(&route.account, route.spec(), built.method)?;
    Ok(Calls { target, bodies: vec![built.body], dropped: built.dropped })
}

fn understand(
    back: Back,
    body: &[u8],
    header: &dyn Fn(&str) -> Option<String>,
    request: &EmbeddingRequest,
    target: &Target<'_>,
) -> Result<EmbeddingAnswer, Unreadable> {
    match back {
        Back::Converse => {
            let _ = (header, target);
            Err(Unreadable)
        }
        _ => gemini::embedding::read(body, request.inputs.len()),
    }
}

/// The vectors of all calls, in order; tokens only where each call said them.
fn joined(parts: Vec<EmbeddingAnswer>) -> EmbeddingAnswer {
    let input_tokens = parts.iter().map(|part| part.input_tokens).sum();
    EmbeddingAnswer { vectors: parts.into_iter().flat_map(|part| part.vectors).collect(), input_tokens }
}
