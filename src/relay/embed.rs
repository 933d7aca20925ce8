//! Embeddings by providers that do not speak OpenAI's dialect.

use super::answer::{After, Answer};
use super::outgoing::Outgoing;
use super::translated::TranslationNotes;
use super::translated::{self, capability_of, invalid};
use super::{Call, Onward, Refusal, Relay, upstream_refusal};
use crate::authz::{Permit, Route};
use crate::clock::monotonic_ms;
use crate::domain::{Outcome, Protocol, TokenCounts, TokenOrigin};
use crate::failure::Failure;
use crate::http::Connection;
use crate::net::Interruption;
use crate::relay::meter::Meter;
use crate::translate::back::{converse, gemini, invoke};
use crate::translate::embedding::{self, EmbeddingAnswer, EmbeddingRequest};
use crate::translate::{Back, Dropped, Front, Invalid, Target, Unreadable};
use crate::upstream::{Exchange, UpstreamError, address};

/// What one request comes to at its provider: one call, or one for some of the texts each.
struct Calls {
    target: String,
    bodies: Vec<Vec<u8>>,
    dropped: Dropped,
    answers: Answers,
}

/// Whose form the answers have.
#[derive(Clone, Copy)]
enum Answers {
    /// Of a model on Bedrock.
    Invoked(invoke::Dialect),
    /// Of Google, for so many texts.
    Google(usize),
}

impl Answers {
    fn read(self, body: &[u8], exchange: &Exchange) -> Result<EmbeddingAnswer, Unreadable> {
        match self {
            Self::Google(inputs) => gemini::embedding::read(body, inputs),
            Self::Invoked(dialect) => {
                let header = exchange.head().headers.one(invoke::TOKENS_HEADER);
                let tokens = header.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
                invoke::read(dialect, body, tokens)
            }
        }
    }
}

impl Relay {
    /// Serves a permitted call for embeddings. Takes the permit by value, as [`Relay::forward`] does.
    pub(super) fn embed(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        permit: Permit,
        mut call: Call,
        protocol: Protocol,
        meter: &mut Meter<'_>,
    ) -> Result<After, Refusal> {
        let route = permit.route();
        let deadline_ms = monotonic_ms().saturating_add(self.upstreams.limits().total_timeout_ms);
        // The texts are there twice, as they are read and as they are sent.
        let _room = self.room(&call)?;
        let request = embedding::read(&call.body.bytes).map_err(invalid)?;
        call.body.bytes = Vec::new();
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
        let mut read_bytes = 0_usize;
        let mut tokens = 0_u64;
        let mut last = None;
        for body in &calls.bodies {
            if let Some(exchange) = last.take() {
                self.upstreams.keep(exchange);
            }
            // Nothing more is asked of the provider for a caller who left or may not ask any more.
            let ended = connection.watch().interruption();
            if let Some(interruption) = ended.filter(|cause| *cause != Interruption::Deadline) {
                let error = UpstreamError::Interrupted(interruption);
                return Err(upstream_refusal(error, &onward.account, onward.meter));
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
            read_bytes = read_bytes.saturating_add(body.bytes.len());
            if read_bytes > self.upstreams.limits().max_answer_bytes {
                let account = onward.account.clone();
                return Err(Refusal::after_body(Failure::UpstreamTooLarge { account }));
            }
            let part = calls.answers.read(&body.bytes, &exchange);
            let part = part.map_err(|Unreadable| unreadable(&mut onward))?;
            // Counted call by call: what was used stays used when a later one fails.
            if let Some(input) = part.input_tokens {
                tokens = tokens.saturating_add(input);
                onward.meter.tokens(TokenCounts {
                    input: tokens,
                    origin: TokenOrigin::Reported,
                    ..TokenCounts::default()
                });
            }
            read.push(part);
            last = Some(exchange);
        }
        let Some(exchange) = last else { return Err(Refusal::after_body(Failure::Internal)) };
        let whole = invoke::join(read, request.inputs.len()).map_err(|Unreadable| unreadable(&mut onward))?;
        if whole.input_tokens.is_none() {
            // A sum that lacks a part is none: it is estimated.
            onward.meter.tokens(TokenCounts::default());
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
        let built = invoke::build(request, target)?;
        let path = converse::path(route.model_id(), converse::Operation::Invoke);
        let target = format!("{}{path}", route.account.endpoint.path);
        let answers = Answers::Invoked(built.dialect);
        return Ok(Calls { target, bodies: built.bodies, dropped: built.dropped, answers });
    }
    let built = gemini::embedding::build(request, target)?;
    let target = address::google(&route.account, route.spec(), built.method)?;
    let answers = Answers::Google(request.inputs.len());
    Ok(Calls { target, bodies: vec![built.body], dropped: built.dropped, answers })
}

/// The provider answered with something that is no answer.
fn unreadable(onward: &mut Onward<'_, '_, '_>) -> Refusal {
    onward.meter.outcome(Outcome::ProviderFailed);
    Refusal::after_body(Failure::UpstreamUnreadable { account: onward.account.clone() })
}
