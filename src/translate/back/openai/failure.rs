//! Errors of OpenAI-type servers, in the shapes that they come in.

use serde_json::Value;

use crate::translate::ProviderError;
use crate::wire::tree;

/// Of a provider's sentence; the rest is cut off.
const MAX_MESSAGE_BYTES: usize = 4_096;
const MAX_WORD_BYTES: usize = 128;

/// Reads the body of a non-200, or of a 200 that holds an error in place of an answer (OpenRouter).
pub fn error(status: u16, headers: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
    let value = tree::small(body).unwrap_or(Value::Null);
    let status = (status >= 400).then_some(status);
    let mut error = from_value(&value, status);
    error.request_id = ["x-request-id", "apim-request-id", "x-ms-client-request-id"]
        .into_iter()
        .find_map(headers)
        .map(|id| cut(&id, MAX_WORD_BYTES));
    error
}

/// An error by what a server wrote: `{"error": {..}}`, `{"error": ".."}`, a bare error object (older vLLM), a list of
/// one (Google's compatible endpoint), `{"detail": ..}` (Mistral) or `{"message": ..}` (Azure's outer layer).
pub fn from_value(value: &Value, status: Option<u16>) -> ProviderError {
    let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    let inner = value.get("error").filter(|inner| !inner.is_null()).unwrap_or(value);
    let message = sentence(inner).or_else(|| sentence(value));
    let word = |name: &str| match inner.get(name) {
        Some(Value::String(word)) if !word.is_empty() => Some(cut(word, MAX_WORD_BYTES)),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let code = word("code");
    let kind = word("type").or_else(|| word("status"));
    let status = status.or_else(|| said_status(code.as_deref())).unwrap_or_else(|| {
        let words = [code.as_deref(), kind.as_deref()];
        let says = |part: &str| words.iter().flatten().any(|word| word.to_ascii_lowercase().contains(part));
        if says("rate_limit") || says("insufficient_quota") || says("resource_exhausted") {
            429
        } else if says("overloaded") || says("unavailable") {
            503
        } else if says("context_length")
            || says("invalid_request")
            || says("badrequest")
            || says("invalid_argument")
        {
            400
        } else {
            502
        }
    });
    // The sentence of a refused credential may repeat it.
    let is_refused = matches!(status, 401 | 403);
    ProviderError {
        status: fitting(status),
        kind: kind
            .filter(|kind| kind.parse::<f64>().is_err())
            .unwrap_or_else(|| usual_kind(status).to_owned()),
        code: code.filter(|code| code.parse::<f64>().is_err()),
        message: match message {
            Some(message) if !is_refused => cut(message, MAX_MESSAGE_BYTES),
            _ if is_refused => "The provider refused the gateway's credential".to_owned(),
            _ => format!("The provider answered with an error (status {status})"),
        },
        request_id: None,
        retry_after_s: None,
        credential_refused: false,
    }
}

/// What stood in a stream where an event of it is expected.
pub fn unreadable() -> ProviderError {
    ProviderError {
        status: 502,
        kind: "server_error".to_owned(),
        message: "The provider's stream holds something that is not a part of an answer".to_owned(),
        ..ProviderError::default()
    }
}

fn sentence(value: &Value) -> Option<&str> {
    let text = match value {
        Value::String(text) => Some(text.as_str()),
        Value::Object(object) => ["message", "detail", "msg"].into_iter().find_map(|name| {
            let member = object.get(name)?;
            // FastAPI lists what is wrong with a request.
            let member = member.as_array().and_then(|list| list.first()?.get("msg")).unwrap_or(member);
            member.as_str()
        }),
        _ => None,
    };
    text.filter(|text| !text.trim().is_empty())
}

/// A status in place of a code.
fn said_status(code: Option<&str>) -> Option<u16> {
    code?.parse().ok().filter(|status| (400..600).contains(status))
}

/// Statuses that OpenAI's clients know.
fn fitting(status: u16) -> u16 {
    match status {
        520..=599 => 503,
        424 | 499 => 502,
        400..=519 => status,
        _ => 502,
    }
}

fn usual_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
