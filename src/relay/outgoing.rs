//! One request to a provider: where it goes, what stands in its head, and its bytes.

use super::endpoint::{Endpoint, Operation};
use super::meter::Meter;
use super::{Refusal, Relay, headers, upstream_refusal};
use crate::authz::Route;
use crate::domain::Protocol;
use crate::failure::Failure;
use crate::http::{Connection, RequestHead};
use crate::translate::Back;
use crate::upstream::{Exchange, Signable, UpstreamError, address};

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
    pub fn translated(route: &Route, back: Back, is_stream: bool, body: &'a [u8]) -> Self {
        let fixed = if back == Back::Anthropic { ANTHROPIC_VERSION } else { &[][..] };
        let target = address::conversation(&route.account, route.spec(), back, is_stream);
        Self { target, content_type: "application/json".to_owned(), caller: None, fixed, body: vec![body] }
    }

    /// A request for embeddings, which are no conversation.
    pub fn embedding(target: String, body: &'a [u8]) -> Self {
        Self { target, content_type: "application/json".to_owned(), caller: None, fixed: &[], body: vec![body] }
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
            content_type: &outgoing.content_type,
            body: &outgoing.body,
            region: route.spec().and_then(|model| account.spec.region_of(model)),
        };
        let mut was_renewed = false;
        loop {
            let authorization =
                self.upstreams.authorize(account, &signable, watch, worker, deadline_ms).map_err(|error| {
                    meter.outcome(crate::domain::Outcome::ProviderFailed);
                    Refusal::after_body(Failure::UpstreamCredential {
                        account: account.spec.name.to_string(),
                        reason: error.to_string(),
                    })
                })?;
            let head = headers::provider_request(account, outgoing, &authorization, outgoing.body_bytes());
            let mut pieces = Vec::with_capacity(outgoing.body.len() + 1);
            pieces.push(head.as_slice());
            pieces.extend_from_slice(&outgoing.body);
            let mut reached = false;
            let result = self.upstreams.exchange(account, watch, worker, &pieces, deadline_ms, &mut reached);
            if reached {
                meter.reached_provider();
            }
            let exchange =
                result.map_err(|error: UpstreamError| upstream_refusal(error, account.spec.name.as_str(), meter))?;
            // A token that was fetched before may have been withdrawn since: once more with a new one.
            if exchange.head().status == 401 && !was_renewed && self.upstreams.forget(account) {
                was_renewed = true;
                continue;
            }
            return Ok(exchange);
        }
    }
}
