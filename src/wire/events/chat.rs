//! Events of OpenAI's dialects, as far as they are parsed, and the errors in them.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::wire::tree;

/// A chunk, or an event of a Responses stream.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) x_groq: Option<Nested<'a>>,
    #[serde(borrow, default)]
    pub(super) response: Option<Nested<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    pub(super) sequence_number: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Nested<'a> {
    #[serde(borrow, default)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Option<String>,
}

impl Choice<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.finish_reason.is_none()
            && self.text.as_deref().unwrap_or_default().is_empty()
            && self.delta.is_none_or(is_empty_object)
    }
}

/// `{}`, with or without space in it.
fn is_empty_object(raw: &RawValue) -> bool {
    let inner = raw.get().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// An error as a body of its own: in a wrapper, as clients look for it there.
pub(super) fn wrapped(data: &[u8]) -> Vec<u8> {
    match tree::small(data) {
        Some(serde_json::Value::Object(object)) if object.contains_key("error") => data.to_vec(),
        Some(failed) if failed.pointer("/response/error").is_some_and(serde_json::Value::is_object) => {
            json!({"error": failed.pointer("/response/error")}).to_string().into_bytes()
        }
        Some(other) => json!({"error": other}).to_string().into_bytes(),
        None => json!({"error": {"message": String::from_utf8_lossy(data)}}).to_string().into_bytes(),
    }
}

/// The status that an error object speaks of; 502 when it names none.
pub(super) fn error_status(data: &[u8]) -> u16 {
    let parsed = tree::small(data).unwrap_or_default();
    let error = parsed.get("error").unwrap_or(&parsed);
    ["code", "status", "status_code"]
        .iter()
        .filter_map(|key| error.get(key))
        .find_map(|value| value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())))
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (400..=599).contains(status))
        .unwrap_or(502)
}
