//! Which header lines cross the gateway, each way: allow-lists, so that nothing crosses by accident.

use std::collections::BTreeMap;

use crate::http::{AnswerHead, Headers, RequestHead};
use crate::store::Account;

/// What a caller's request hands on to the provider.
const TO_PROVIDER: [&str; 3] = ["content-type", "accept", "openai-beta"];

/// What a provider's answer hands on to the caller, besides `x-ratelimit-*`.
const TO_CALLER: [&str; 10] = [
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "cache-control",
];

/// The head of the request to the provider.
pub fn provider_request(account: &Account, path: &str, head: &RequestHead, body_bytes: usize) -> Vec<u8> {
    let endpoint = &account.endpoint;
    let mut out = Vec::with_capacity(512);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[b"POST ", endpoint.path.as_bytes(), b"/", path.as_bytes(), b" HTTP/1.1\r\nhost: "]);
    put(&[endpoint.authority.as_bytes(), b"\r\nuser-agent: gateway\r\naccept-encoding: identity\r\n"]);
    if let Some(key) = &account.api_key {
        put(&[b"authorization: Bearer ", key.expose().as_bytes(), b"\r\n"]);
    }
    for (name, value) in head.headers.iter() {
        if let Some(name) = TO_PROVIDER.iter().find(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes())) {
            put(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
    }
    for (name, value) in &account.spec.headers {
        put(&[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    put(&[b"content-length: ", body_bytes.to_string().as_bytes(), b"\r\n\r\n"]);
    out
}

/// Puts the lines of a provider's answer that may reach the caller into the head of ours.
pub fn to_caller(from: &Headers, to: &mut AnswerHead) {
    for (name, value) in from.iter() {
        let is_rate_limit = name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-ratelimit-"));
        let allowed =
            TO_CALLER.iter().any(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes())) || is_rate_limit;
        if allowed {
            to.line(&name.to_ascii_lowercase(), value);
        } else if name.eq_ignore_ascii_case(b"x-request-id") {
            to.line(b"x-upstream-request-id", value);
        }
    }
}

/// The caller's request id where it is a sane one: 1 to 128 letters, digits, `-`, `_`, `.`, `:`.
pub fn sane_request_id(head: &RequestHead) -> Option<String> {
    let value = head.headers.one("x-request-id")?;
    let sane = (1..=128).contains(&value.len())
        && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b));
    sane.then(|| String::from_utf8_lossy(value).into_owned())
}

const MAX_METADATA_KEYS: usize = 64;
const MAX_METADATA_KEY_CHARS: usize = 128;
const MAX_METADATA_VALUE_CHARS: usize = 128;

/// `X-TFY-METADATA`: a JSON object of strings.
///
/// # Errors
/// What is wrong with it, for the caller.
pub fn metadata(head: &RequestHead) -> Result<BTreeMap<String, String>, String> {
    let mut values = head.headers.all("x-tfy-metadata");
    let Some(value) = values.next() else { return Ok(BTreeMap::new()) };
    if values.next().is_some() {
        return Err("X-TFY-METADATA stands more than once".to_owned());
    }
    let parsed: serde_json::Value = serde_json::from_slice(value).map_err(|_| {
        "X-TFY-METADATA is not JSON; write an object of strings such as {\"team\":\"search\"}".to_owned()
    })?;
    let serde_json::Value::Object(map) = parsed else {
        return Err("X-TFY-METADATA is not a JSON object of strings".to_owned());
    };
    if map.len() > MAX_METADATA_KEYS {
        return Err(format!("X-TFY-METADATA has more than {MAX_METADATA_KEYS} keys"));
    }
    map.into_iter()
        .map(|(key, value)| match value {
            _ if key.is_empty() || key.chars().count() > MAX_METADATA_KEY_CHARS => Err(format!(
                "X-TFY-METADATA has a key that is empty or longer than {MAX_METADATA_KEY_CHARS} characters"
            )),
            serde_json::Value::String(value) if value.chars().count() <= MAX_METADATA_VALUE_CHARS => {
                Ok((key, value))
            }
            serde_json::Value::String(_) => Err(format!(
                "the value of '{key}' in X-TFY-METADATA is longer than {MAX_METADATA_VALUE_CHARS} characters"
            )),
            _ => Err(format!("the value of '{key}' in X-TFY-METADATA is not a string")),
        })
        .collect()
}
