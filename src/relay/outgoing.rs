//! One request to a provider: where it goes, what stands in its head, and its bytes.

use super::endpoint::{Endpoint, Operation};
use super::meter::Meter;
use super::{Refusal, Relay, UnreadBody, headers, upstream_refusal};
use crate::authz::Route;
use crate::domain::{Outcome, Protocol};
use crate::http::{Connection, RequestHead};
use crate::translate::{Back, Invalid};
use crate::upstream::{CredentialError, Exchange, Signable, Wait, address};

/// A request, ready to be signed and sent.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    /// With the account's base path and the query.
    pub target: String,
    /// How the body is to be read.
    pub content_type: String,
    /// The caller's head, where equal dialects let lines of it pass.
    pub caller: Option<(&'a RequestHead, &'static [&'static str])>,
    /// Lines that the protocol asks for, unless the caller's own passed.
    pub fixed: &'static [(&'static str, &'static str)],
    /// In pieces, sent with one write.
    pub body: Vec<&'a [u8]>,
}

const ANTHROPIC_VERSION: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

impl<'a> Outgoing<'a> {
    /// A request that passes as it came but for a few edits.
    pub fn relayed(
        route: &Route,
        endpoint: &Endpoint,
        head: &'a RequestHead,
        content_type: String,
        body: Vec<&'a [u8]>,
    ) -> Self {
        let (lines, fixed) = match route.account.spec.provider.protocol() {
            Protocol::Anthropic => (&headers::ANTHROPIC_TO_PROVIDER[..], ANTHROPIC_VERSION),
            _ => (&headers::TO_PROVIDER[..], &[][..]),
        };
        let is_messages = matches!(endpoint.operation, Operation::Messages | Operation::CountTokens);
        let query = if is_messages { head.query() } else { "" };
        let target = address::relayed(&route.account, route.spec(), endpoint.path, query);
        Self { target, content_type, caller: Some((head, lines)), fixed, body }
    }

    /// A request that was written for the provider.
    ///
    /// # Errors
    /// When the model's id is none that the provider knows.
    pub fn translated(route: &Route, back: Back, is_stream: bool, body: &'a [u8]) -> Result<Self, Invalid> {
        let target = address::conversation(&route.account, route.spec(), back, is_stream)?;
        // On Vertex the version stands in the body.
        let is_anthropics_own = route.account.spec.provider.protocol() == Protocol::Anthropic;
        let fixed = if is_anthropics_own { ANTHROPIC_VERSION } else { &[][..] };
        Ok(Self { fixed, ..Self::json(target, body) })
    }

    /// JSON that was written for the provider.
    pub fn json(target: String, body: &'a [u8]) -> Self {
        Self {
            target,
            content_type: "application/json".to_owned(),
            caller: None,
            fixed: &[],
            body: vec![body],
        }
    }

    fn body_bytes(&self) -> usize {
        self.body.iter().map(|piece| piece.len()).sum()
    }
}

impl Relay {
    /// Authorizes a request with the account's credential, sends it and waits for the head of its answer.
    ///
    /// # Errors
    /// What the caller is told when there is none.
    pub(super) fn send_out(
        &self,
        connection: &Connection,
        route: &Route,
        outgoing: &Outgoing<'_>,
        deadline_ms: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Exchange, Refusal> {
        let account = &route.account;
        let watch = connection.watch();
        let worker = connection.transport().socket().worker(self.workers);
        let (path, query) = outgoing.target.split_once('?').unwrap_or((&outgoing.target, ""));
        let signable = Signable {
            method: "POST",
            path,
            query,
            authority: &account.endpoint.authority,
            content_type: Some(&outgoing.content_type),
            body: &outgoing.body,
            region: route.spec().and_then(|model| account.spec.region_of(model)),
        };
        let wait = Wait { watch, worker, deadline_ms };
        let mut was_renewed = false;
        loop {
            let authorization = self
                .upstreams
                .authorize(account, &signable, &wait)
                .map_err(|error| credential_refusal(&error, account.spec.name.as_str(), meter))?;
            let head = headers::provider_request(account, outgoing, &authorization, outgoing.body_bytes());
            let mut pieces = Vec::with_capacity(outgoing.body.len() + 1);
            pieces.push(head.as_slice());
            pieces.extend_from_slice(&outgoing.body);
            let mut reached = false;
            let result = self.upstreams.exchange(account, watch, worker, &pieces, deadline_ms, &mut reached);
            if reached {
                meter.reached_provider();
            }
            let mut exchange =
                result.map_err(|error| upstream_refusal(error, account.spec.name.as_str(), meter))?;
            exchange.remember(&authorization);
            if exchange.head().status == 403 {
                // A signature is refused for the time that it names as well.
                self.upstreams.check_clock(account, exchange.head());
            }
            // A token that was fetched before may have been withdrawn since: once more with a new one.
            if matches!(exchange.head().status, 401 | 403) && !was_renewed && self.upstreams.forget(account) {
                was_renewed = true;
                continue;
            }
            return Ok(exchange);
        }
    }
}

/// Why the account's credential came to nothing, for the caller and for the record.
fn credential_refusal(error: &CredentialError, account: &str, meter: &mut Meter<'_>) -> Refusal {
    if let Some(interruption) = error.interruption() {
        return upstream_refusal(interruption, account, meter);
    }
    meter.outcome(Outcome::ProviderFailed);
    Refusal { failure: error.failure(account), body: UnreadBody::None, resolved_model: None }
}
