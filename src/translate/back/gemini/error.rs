//! Errors: as the body of a status, bare in a stream, or in a list.

use serde::Deserialize;

use super::MAX_MESSAGE_CHARS;
use super::usage::Count;
use crate::translate::ProviderError;
use crate::translate::few::Few;

/// Elements of one list in an error.
const MAX_DETAILS: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wrapper {
    error: Option<Status>,
}

/// `google.rpc.Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: Count,
    message: Option<String>,
    status: Option<String>,
    details: Option<Few<Detail, MAX_DETAILS>>,
}

/// One of `google.rpc`'s `ErrorInfo`, `RetryInfo`, `QuotaFailure` and others: what is read of any of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    reason: Option<String>,
    retry_delay: Option<String>,
    violations: Option<Few<Violation, MAX_DETAILS>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Violation {
    quota_id: Option<String>,
    quota_metric: Option<String>,
}

/// What a status that is no success says.
pub fn error(status: u16, headers: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
    let mut error = match parse(body) {
        Some(said) => from_status(status, said),
        None => ProviderError {
            status: presented(status),
            kind: kind(presented(status)).to_owned(),
            message: format!("The provider answered with status {status}."),
            ..ProviderError::default()
        },
    };
    error.request_id = headers("x-goog-request-id").or_else(|| headers("x-request-id"));
    error
}

/// An error that stands bare in a stream; `None` when the bytes are no error.
pub fn in_stream(body: &[u8]) -> Option<ProviderError> {
    let said = parse(body)?;
    let code = said.code.0.and_then(|code| u16::try_from(code).ok());
    Some(from_status(code.unwrap_or(502), said))
}

/// The error of an answer that can not be read.
pub fn unreadable() -> ProviderError {
    ProviderError {
        status: 502,
        kind: kind(502).to_owned(),
        message: "The provider's answer could not be read.".to_owned(),
        ..ProviderError::default()
    }
}

/// The error of a model that failed before it said anything.
pub fn failed(reason: &str, message: Option<&str>) -> ProviderError {
    ProviderError {
        status: 502,
        kind: kind(502).to_owned(),
        code: Some(reason.chars().filter(char::is_ascii_graphic).take(64).collect()),
        message: message.map_or_else(|| "The model gave no answer.".to_owned(), sentence),
        ..ProviderError::default()
    }
}

fn parse(body: &[u8]) -> Option<Status> {
    let body = body.trim_ascii();
    if body.first() == Some(&b'[') {
        let list: Few<Wrapper, MAX_DETAILS> = serde_json::from_slice(body).ok()?;
        return list.into_iter().find_map(|wrapper| wrapper.error);
    }
    serde_json::from_slice::<Wrapper>(body).ok()?.error
}

fn from_status(status: u16, said: Status) -> ProviderError {
    let message = said.message.unwrap_or_default();
    let Few(details) = said.details.unwrap_or_default();
    let reason = details.iter().find_map(|detail| detail.reason.as_deref());
    let mut error = ProviderError {
        status: presented(status),
        code: said.status.map(|word| word.chars().filter(char::is_ascii_graphic).take(64).collect()),
        ..ProviderError::default()
    };
    error.kind = kind(error.status).to_owned();
    let names_bad_key = matches!(
        reason,
        Some("API_KEY_INVALID" | "API_KEY_EXPIRED" | "ACCESS_TOKEN_EXPIRED" | "ACCESS_TOKEN_INVALID")
    ) || (status == 400 && message.to_ascii_lowercase().starts_with("api key"));
    if names_bad_key {
        error.credential_refused = true;
        error.status = 401;
        error.kind = kind(401).to_owned();
        error.code = reason.map(str::to_owned).or(error.code);
    } else if is_context_overflow(&message) {
        error.code = Some("context_length_exceeded".to_owned());
    } else if error.status == 404 {
        error.code = Some("model_not_found".to_owned());
    } else if error.status == 429 {
        if is_used_up_for_the_day(&details) {
            error.kind = "insufficient_quota".to_owned();
            error.code = Some("insufficient_quota".to_owned());
        } else {
            error.retry_after_s = retry_delay_s(&details);
        }
    } else if error.status >= 500 {
        error.retry_after_s = retry_delay_s(&details);
    }
    error.message = if message.is_empty() {
        format!("The provider answered with status {status}.")
    } else {
        sentence(&message)
    };
    error
}

fn is_context_overflow(message: &str) -> bool {
    message.contains("input token count") && message.contains("exceeds the maximum number of tokens")
}

/// Whether a quota of a day is used up: it does not help to wait.
fn is_used_up_for_the_day(details: &[Detail]) -> bool {
    let violations = details.iter().filter_map(|detail| detail.violations.as_ref()).flat_map(|few| &few.0);
    violations
        .flat_map(|violation| [&violation.quota_id, &violation.quota_metric])
        .flatten()
        .any(|quota| quota.contains("PerDay"))
}

/// `RetryInfo`'s `34.4s` in whole seconds, rounded up; a day at most.
fn retry_delay_s(details: &[Detail]) -> Option<u64> {
    let delay = details.iter().find_map(|detail| detail.retry_delay.as_deref())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    (0.0..=86_400.0).contains(&seconds).then(|| seconds.ceil() as u64)
}

/// The status as OpenAI's SDKs know it.
fn presented(status: u16) -> u16 {
    match status {
        529 => 503,
        400 | 401 | 403 | 404 | 409 | 413 | 422 | 429 | 500 | 502 | 503 | 504 => status,
        405..=428 => 400,
        _ => 502,
    }
}

fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// A provider's sentence for the caller: cut to a length, without what looks like one of Google's keys or tokens.
pub fn sentence(text: &str) -> String {
    let mut safe = String::new();
    for (number, word) in text.split_inclusive([' ', '\n', '\t', '\'', '"', '=', ',', ':', '(']).enumerate() {
        if number > MAX_MESSAGE_CHARS {
            break;
        }
        let is_key = ["AIza", "AIzv", "AQ.", "ya29.", "eyJ"].iter().any(|start| word.starts_with(start));
        safe.push_str(if is_key && word.len() > 12 { "*** " } else { word });
    }
    safe.chars().take(MAX_MESSAGE_CHARS).collect()
}
