//! Events of a Responses stream.

use memchr::memmem;

use super::EventReader;
use super::chat::Chunk;
use crate::http::sse;

impl EventReader {
    /// Keeps what an event of the gateway's own needs: the answer's id and the last number.
    pub(super) fn track(&mut self, data: &[u8], is_first: bool) {
        if is_first {
            if let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) {
                self.last_sequence = chunk.sequence_number.unwrap_or(0);
                self.response_id = chunk.response.and_then(|nested| nested.id).unwrap_or_default();
            }
            return;
        }
        const KEY: &[u8] = b"\"sequence_number\":";
        if let Some(at) = memmem::find(data, KEY) {
            let digits = data.get(at + KEY.len()..).unwrap_or_default().trim_ascii_start();
            let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
            let text =
                digits.get(..end).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
            self.last_sequence = text.parse().unwrap_or(self.last_sequence);
        }
    }
}

/// An event's name, else the first `type` in its data.
pub(super) fn event_type<'a>(event: &'a [u8], data: &'a [u8]) -> &'a [u8] {
    if let Some(name) = sse::name(event) {
        return name;
    }
    const KEY: &[u8] = b"\"type\":";
    let rest = memmem::find(data, KEY).and_then(|at| data.get(at + KEY.len()..)).unwrap_or_default();
    rest.split(|b| *b == b'"').nth(1).unwrap_or_default()
}

/// Whether it is the last one.
pub(super) fn is_terminal(event: &[u8], data: &[u8]) -> bool {
    matches!(
        event_type(event, data),
        b"response.completed" | b"response.incomplete" | b"response.failed" | b"error"
    )
}

/// Whether it says that the answer failed.
pub(super) fn is_failure(event: &[u8], data: &[u8]) -> bool {
    matches!(event_type(event, data), b"response.failed" | b"error")
}
