//! Errors, whole and in streams.

use serde::Deserialize;

use crate::translate::ProviderError;

/// The longest sentence of the provider's that is passed on, in characters.
const MAX_MESSAGE_CHARS: usize = 4_096;
/// The longest word or id.
const MAX_WORD_CHARS: usize = 128;

#[derive(Debug, Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    error: Option<Inner>,
    #[serde(default)]
    request_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Inner {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    error_code: Option<String>,
}

/// Reads the body of an answer with another status than 200.
pub fn error(status: u16, headers: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
    let mut error = from_body(Some(status), body);
    error.request_id = headers("request-id").map(|id| short(&id, MAX_WORD_CHARS)).or(error.request_id);
    error.retry_after_s = headers("retry-after").and_then(|seconds| seconds.trim().parse().ok());
    error
}

/// Reads an error event.
pub(super) fn in_stream(data: &[u8]) -> ProviderError {
    from_body(None, data)
}

/// An error that the gateway found in the provider's stream.
pub(super) fn broken(message: &str) -> ProviderError {
    ProviderError {
        status: 502,
        kind: "server_error".to_owned(),
        code: Some("provider_answer_unreadable".to_owned()),
        message: message.to_owned(),
        ..ProviderError::default()
    }
}

fn from_body(status: Option<u16>, body: &[u8]) -> ProviderError {
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let inner = envelope.error.unwrap_or_default();
    let word = inner.kind.unwrap_or_default();
    let status = status.unwrap_or_else(|| status_of(&word));
    let message = match inner.message {
        Some(message) if !message.trim().is_empty() => short(&message, MAX_MESSAGE_CHARS),
        // A front proxy's page says nothing to a caller.
        _ => format!("anthropic answered with status {status} and no message"),
    };
    let own_code = inner.details.and_then(|details| details.error_code);
    let code = match (status, word.as_str()) {
        (400 | 413, _) if is_too_long(&message) => Some("context_length_exceeded".to_owned()),
        (404, _) if message.starts_with("model:") => Some("model_not_found".to_owned()),
        (_, "") => own_code,
        (_, word) => Some(own_code.unwrap_or_else(|| word.to_owned())),
    };
    ProviderError {
        status: shown(status),
        kind: kind(status, &word).to_owned(),
        code: code.map(|code| short(&code, MAX_WORD_CHARS)),
        message,
        request_id: envelope.request_id.map(|id| short(&id, MAX_WORD_CHARS)),
        retry_after_s: None,
        credential_refused: status == 402
            || matches!(word.as_str(), "authentication_error" | "billing_error"),
    }
}

/// The sentences with which the provider refuses a prompt that does not fit.
fn is_too_long(message: &str) -> bool {
    message.starts_with("prompt is too long") || message.starts_with("input length and `max_tokens` exceed")
}

/// The status that belongs to a word; 502 for one that is not known.
fn status_of(word: &str) -> u16 {
    crate::wire::events::messages_error_status(word)
}

/// A status that OpenAI's clients know.
fn shown(status: u16) -> u16 {
    match status {
        529 => 503,
        424 | 499 => 502,
        400..=404 | 408 | 409 | 413 | 415 | 422 | 429 | 500 | 502..=504 => status,
        405..=499 => 400,
        _ => 502,
    }
}

fn kind(status: u16, word: &str) -> &'static str {
    match (word, status) {
        ("rate_limit_error", _) | (_, 429) => "rate_limit_error",
        ("authentication_error" | "billing_error", _) | (_, 401 | 402) => "authentication_error",
        ("permission_error", _) | (_, 403) => "permission_error",
        ("not_found_error", _) | (_, 404) => "not_found_error",
        ("overloaded_error" | "api_error" | "timeout_error", _) => "server_error",
        (_, 400..=499) => "invalid_request_error",
        _ => "server_error",
    }
}

fn short(text: &str, chars: usize) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).take(chars).collect()
}
