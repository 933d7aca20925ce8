//! Errors: whole, as exceptions in a stream, and of the gateway's own making.

use serde::Deserialize;

use crate::translate::ProviderError;

/// The longest sentence of the provider's that is passed on, in characters.
const MAX_MESSAGE_CHARS: usize = 4_096;
/// The longest word or id.
const MAX_WORD_CHARS: usize = 128;

#[derive(Debug, Default, Deserialize)]
struct Envelope {
    #[serde(default, alias = "Message")]
    message: Option<String>,
    #[serde(default, rename = "__type")]
    kind: Option<String>,
    /// Of an exception in a stream: what the model's own server said.
    #[serde(default, rename = "originalMessage")]
    original_message: Option<String>,
}

/// Reads the body of an answer with another status than 200. What happened is in a header, or in the body.
pub fn error(status: u16, headers: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let kind = headers("x-amzn-errortype").or(envelope.kind).unwrap_or_default();
    // `ValidationException:http://...`, `com.amazon.coral.service#ThrottlingException`.
    let kind = kind.split(':').next().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default().trim();
    let mut error = make(kind, Some(status), envelope.message);
    error.request_id = headers("x-amzn-requestid").map(|id| cut(&id, MAX_WORD_CHARS));
    error.retry_after_s = headers("retry-after").and_then(|seconds| seconds.trim().parse().ok());
    error
}

/// An exception in a stream; its kind begins with a small letter.
pub(super) fn exception(kind: &str, payload: &[u8]) -> ProviderError {
    let envelope: Envelope = serde_json::from_slice(payload).unwrap_or_default();
    make(kind, None, envelope.message.or(envelope.original_message))
}

/// An error message in a stream: a code and a sentence in headers.
pub(super) fn in_stream(code: &str, message: Option<&str>) -> ProviderError {
    make(code, None, message.map(str::to_owned))
}

/// The provider's answer makes no sense.
pub(super) fn broken(message: &str) -> ProviderError {
    ProviderError {
        status: 502,
        kind: "server_error".to_owned(),
        code: Some("provider_answer_unreadable".to_owned()),
        message: message.to_owned(),
        ..ProviderError::default()
    }
}

fn make(kind: &str, status: Option<u16>, message: Option<String>) -> ProviderError {
    let first = kind.chars().next().map(|c| c.to_ascii_uppercase());
    let kind: String = first.into_iter().chain(kind.chars().skip(1)).collect();
    let known = match kind.as_str() {
        "ValidationException" | "ServiceQuotaExceededException" => Some(400),
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "RequestExpired" => Some(403),
        "ResourceNotFoundException" => Some(404),
        "ModelTimeoutException" => Some(408),
        "ModelErrorException" | "ModelStreamErrorException" => Some(424),
        "ThrottlingException" | "ModelNotReadyException" => Some(429),
        "InternalServerException" | "InternalServerError" => Some(500),
        "ServiceUnavailableException" => Some(503),
        _ => None,
    };
    let status = shown(status.or(known).unwrap_or(502));
    let credential_refused = known == Some(403) && kind != "AccessDeniedException";
    let message = match message {
        Some(message) if !message.trim().is_empty() => without_identities(&cut(&message, MAX_MESSAGE_CHARS)),
        // A proxy's page says nothing to a caller.
        _ => format!("aws-bedrock answered with status {status} and no message"),
    };
    let word = match (status, kind.as_str()) {
        (_, "ServiceQuotaExceededException") | (429, _) => "rate_limit_error",
        (401, _) => "authentication_error",
        (403, _) => "permission_error",
        (404, _) => "not_found_error",
        (400..=499, _) => "invalid_request_error",
        _ => "server_error",
    };
    let code = if status == 400 && is_too_long(&message) {
        Some("context_length_exceeded".to_owned())
    } else {
        (!kind.is_empty()).then(|| cut(&kind, MAX_WORD_CHARS))
    };
    ProviderError {
        status,
        kind: word.to_owned(),
        code,
        message,
        request_id: None,
        retry_after_s: None,
        credential_refused,
    }
}

/// The status as OpenAI's SDKs know it: what went wrong between provider and model is a bad gateway, a slow model is
/// a slow gateway and not a slow caller.
fn shown(status: u16) -> u16 {
    match status {
        408 => 504,
        424 | 499 => 502,
        529 => 503,
        400..=599 => status,
        _ => 502,
    }
}

/// The provider has no code for it: only these sentences of it and of the models behind it.
fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["input is too long", "too many input tokens", "input tokens exceeded", "prompt is too long"]
        .iter()
        .any(|sentence| message.contains(sentence))
}

/// Names of accounts, users and roles of the operator's are no caller's business; those of models are.
fn without_identities(message: &str) -> String {
    if !message.contains("arn:") {
        return message.to_owned();
    }
    let hide = |word: &str| {
        let shows = word.contains("arn:") && (word.contains(":iam:") || word.contains(":sts:"));
        if shows { "(the account's identity)".to_owned() } else { word.to_owned() }
    };
    message.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}
