//! How a call gets from its endpoint to its provider: as it is, or through a translation.

use super::endpoint::{Endpoint, Operation};
use crate::authz::Route;
use crate::domain::{ModelType, Protocol, ProviderType};
use crate::failure::Failure;
use crate::translate::{Back, Front};
use crate::upstream::address;

/// The way of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The demo's own provider.
    Demo,
    /// Equal dialects: bytes pass.
    Relay,
    /// Said again, both ways.
    Translate(Front, Back),
    /// Embeddings in a form of their own.
    Embed(Protocol),
    /// The provider can not count a request's tokens: the gateway estimates.
    EstimateTokens,
}

/// Chooses the way.
///
/// # Errors
/// When there is none: the provider has no such thing.
pub(super) fn choose(endpoint: &Endpoint, route: &Route) -> Result<Plan, Failure> {
    let provider = route.account.spec.provider;
    let protocol = provider.protocol();
    if protocol == Protocol::Demo {
        return Ok(Plan::Demo);
    }
    let back = match protocol {
        Protocol::OpenAi | Protocol::Demo => Back::OpenAi,
        Protocol::Anthropic => Back::Anthropic,
        Protocol::Converse => Back::Converse,
        Protocol::Gemini if address::is_anthropic_on_vertex(&route.account, route.model_id()) => {
            Back::Anthropic
        }
        Protocol::Gemini => Back::Gemini,
    };
    match (endpoint.operation, protocol) {
        (Operation::Messages | Operation::CountTokens, Protocol::Anthropic) => Ok(Plan::Relay),
        (Operation::CountTokens, _) => Ok(Plan::EstimateTokens),
        (Operation::Messages, _) => Ok(Plan::Translate(Front::Messages, back)),
        (Operation::Responses, Protocol::OpenAi) if has_responses(route) => Ok(Plan::Relay),
        (Operation::Responses, _) => Ok(Plan::Translate(Front::Responses, back)),
        (_, Protocol::OpenAi) => Ok(Plan::Relay),
        (Operation::Chat, _) => Ok(Plan::Translate(Front::Chat, back)),
        (Operation::Embeddings, Protocol::Converse | Protocol::Gemini) => Ok(Plan::Embed(protocol)),
        (Operation::Embeddings | Operation::Other, _) => Err(Failure::BadRequest(
            format!(
                "'{}' is not supported by {} accounts; docs/providers.md lists what is",
                endpoint.path,
                provider.as_str()
            )
            .into(),
        )),
    }
}

/// Whether a provider of OpenAI's dialect serves Responses itself: OpenAI and Azure do, of others those models that
/// say so by their type.
fn has_responses(route: &Route) -> bool {
    matches!(route.account.spec.provider, ProviderType::Openai | ProviderType::AzureOpenai)
        || route.spec().is_some_and(|model| model.types.contains(&ModelType::Responses))
}
