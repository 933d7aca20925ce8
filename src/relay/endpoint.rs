//! The inference endpoints: which paths there are, and how each body is read.

use crate::failure::Dialect;
use crate::wire::events::Kind;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A POST endpoint that is relayed.
    Relay(&'static Endpoint),
    /// `GET models`.
    Models,
    /// `GET models/ACCOUNT/NAME`; the name is percent-encoded as it came.
    Model(&'a str),
}

impl Destination<'_> {
    /// The dialect of the errors there.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Relay(Endpoint { operation: Operation::Messages | Operation::CountTokens, .. }) => {
                Dialect::Anthropic
            }
            _ => Dialect::OpenAi,
        }
    }
}

/// What an endpoint is for, as far as the way to a provider depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's Messages.
    Messages,
    /// Anthropic's count of a request's tokens.
    CountTokens,
    /// Anything else of OpenAI's dialect: relayed to those who speak it.
    Other,
}

/// One relayed endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is for.
    pub operation: Operation,
    /// The path behind the prefix, as it also stands behind a provider's base URL.
    pub path: &'static str,
    /// The body may be a multipart form.
    pub multipart: bool,
    /// The kind of its streams.
    pub stream: Kind,
    /// `stream_options.include_usage` exists here.
    pub has_stream_options: bool,
    /// Answers carry token counts, so that a missing one is estimated.
    pub counts_tokens: bool,
}

const fn endpoint(path: &'static str, multipart: bool, counts_tokens: bool) -> Endpoint {
    Endpoint {
        operation: Operation::Other,
        path,
        multipart,
        stream: Kind::Other,
        has_stream_options: false,
        counts_tokens,
    }
}

/// Every relayed endpoint.
pub static ENDPOINTS: [Endpoint; 14] = [
    Endpoint {
        operation: Operation::Chat,
        path: "chat/completions",
        multipart: false,
        stream: Kind::Chat,
        has_stream_options: true,
        counts_tokens: true,
    },
    Endpoint {
        operation: Operation::Other,
        path: "completions",
        multipart: false,
        stream: Kind::Chat,
        has_stream_options: true,
        counts_tokens: true,
    },
    Endpoint {
        operation: Operation::Responses,
        path: "responses",
        multipart: false,
        stream: Kind::Responses,
        has_stream_options: false,
        counts_tokens: true,
    },
    Endpoint { operation: Operation::Embeddings, ..endpoint("embeddings", false, true) },
    Endpoint {
        operation: Operation::Messages,
        path: "messages",
        multipart: false,
        stream: Kind::Messages,
        has_stream_options: false,
        counts_tokens: true,
    },
    Endpoint { operation: Operation::CountTokens, ..endpoint("messages/count_tokens", false, false) },
    endpoint("moderations", false, false),
    endpoint("rerank", false, false),
    endpoint("images/generations", false, false),
    endpoint("images/edits", true, false),
    endpoint("images/variations", true, false),
    endpoint("audio/speech", false, false),
    endpoint("audio/transcriptions", true, false),
    endpoint("audio/translations", true, false),
];

/// The prefixes under which all of them live; each takes one more `/v1`.
const PREFIXES: [&str; 3] = ["/api/llm/api/inference/openai", "/api/llm", "/v1"];

/// Finds what a path leads to; `None` when it is no inference path, or an unknown one.
pub fn find(path: &str) -> Option<Destination<'_>> {
    PREFIXES.iter().find_map(|prefix| {
        let rest = path.strip_prefix(prefix)?;
        find_below(rest)
    })
}

/// The same for what stands behind a prefix.
pub fn find_below(rest: &str) -> Option<Destination<'_>> {
    let with_v1 = rest.strip_prefix("/v1").filter(|rest| rest.starts_with('/'));
    [with_v1, Some(rest)].into_iter().flatten().find_map(below_prefix)
}

fn below_prefix(rest: &str) -> Option<Destination<'_>> {
    let rest = rest.strip_prefix('/')?;
    if rest == "models" {
        return Some(Destination::Models);
    }
    if let Some(model) = rest.strip_prefix("models/") {
        return Some(Destination::Model(model));
    }
    // Cohere's clients ask for the second version of the same thing.
    let rest = if rest == "v2/rerank" { "rerank" } else { rest };
    ENDPOINTS.iter().find(|endpoint| endpoint.path == rest).map(Destination::Relay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for prefix in [
            "/v1",
            "/v1/v1",
            "/api/llm",
            "/api/llm/v1",
            "/api/llm/api/inference/openai",
            "/api/llm/api/inference/openai/v1",
        ] {
            for endpoint in &ENDPOINTS {
                let path = format!("{prefix}/{}", endpoint.path);
                assert_eq!(find(&path), Some(Destination::Relay(endpoint)), "{path}");
            }
            assert_eq!(find(&format!("{prefix}/models")), Some(Destination::Models));
            assert_eq!(find(&format!("{prefix}/models/a%2Fb")), Some(Destination::Model("a%2Fb")));
        }
        for none in [
            "/",
            "/v1",
            "/v1/",
            "/v1/chat",
            "/v1/chat/completions/",
            "/v2/chat/completions",
            "/v1chat/completions",
            "/v1/../v1/models",
            "/api/llmx/models",
            "/v1/v1/v1/models",
        ] {
            assert_eq!(find(none), None, "{none}");
        }
    }
}
