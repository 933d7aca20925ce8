//! Claude on Vertex: Anthropic's own protocol under Google's paths.
//!
//! [`path`](super::path::path) gives `rawPredict` and `streamRawPredict` for `anthropic/NAME`. The body is Anthropic's
//! without `model` and with `anthropic_version`; answers, streams and errors are Anthropic's.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::members::{Members, Written};
use crate::translate::Unreadable;

/// The version that Vertex wants in the body, where Anthropic wants a header.
const VERSION: &str = "vertex-2023-10-16";

/// Changes a body of Anthropic's Messages API to the one for Vertex; values stay byte for byte.
///
/// # Errors
/// When it is no JSON object.
pub fn vertex_body(body: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let Members(members) = serde_json::from_slice(body).map_err(|_| Unreadable)?;
    let mut written = Written::default();
    written.add("anthropic_version", &VERSION);
    let kept = members.into_iter().filter(|(name, _)| name != "model" && name != "anthropic_version");
    written.0.extend(kept.map(|(name, value): (Cow<'_, str>, &RawValue)| (name, Cow::Borrowed(value))));
    serde_json::to_vec(&written).map_err(|_| Unreadable)
}
