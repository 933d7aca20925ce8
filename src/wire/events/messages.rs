//! Events of a stream of Anthropic's Messages API.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{EventReader, StreamError, Verdict};
use crate::domain::{TokenCounts, TokenOrigin};
use crate::http::sse;

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Counted<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<Nested<'a>>,
}

#[derive(Deserialize)]
struct Nested<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Failed<'a> {
    #[serde(borrow, default)]
    error: Option<Typed<'a>>,
}

impl EventReader {
    /// Reads an event of a Messages stream. All of them go on, also those not known.
    pub(super) fn read_messages(&mut self, event: &[u8], data: &[u8]) -> Verdict {
        let pass = Verdict::Pass { is_output: false };
        match &*name(event, data) {
            b"content_block_delta" => {
                self.begun = true;
                self.messages_piece();
                return Verdict::Pass { is_output: true };
            }
            b"ping" => return pass,
            b"error" => {
                if !self.begun && self.first_error.is_none() {
                    self.first_error = Some(first_error(data));
                }
                self.errored = true;
                self.end_seen = true;
                return pass;
            }
            b"message_stop" => self.end_seen = true,
            b"message_start" => {
                self.messages_usage(data);
                // Until the final numbers come, the output is what was seen of it.
                self.messages_estimate();
            }
            b"message_delta" if self.messages_usage(data) => {
                self.tokens = Some(self.messages_usage.counts());
                self.messages_are_final = true;
            }
            _ => {}
        }
        self.begun = true;
        pass
    }

    /// A piece of output has passed.
    pub(super) fn messages_piece(&mut self) {
        self.messages_pieces = self.messages_pieces.saturating_add(1);
        self.messages_estimate();
    }

    fn messages_estimate(&mut self) {
        if self.messages_are_final {
            return;
        }
        let told = self.messages_usage.counts();
        // Without counts of the input the meter has a better guess.
        if told.input > 0 {
            let output = told.output.max(self.messages_pieces);
            self.tokens = Some(TokenCounts { output, origin: TokenOrigin::Estimated, ..told });
        }
    }

    fn messages_usage(&mut self, data: &[u8]) -> bool {
        let Ok(counted) = serde_json::from_slice::<Counted<'_>>(data) else { return false };
        let raw = counted.usage.or_else(|| counted.message.and_then(|message| message.usage));
        raw.is_some_and(|raw| self.messages_usage.update(raw.get().as_bytes()))
    }
}

/// An event's name; proxies that leave the line out have it in the data only.
fn name<'a>(event: &'a [u8], data: &'a [u8]) -> Cow<'a, [u8]> {
    if let Some(name) = sse::name(event) {
        return Cow::Borrowed(name);
    }
    match serde_json::from_slice::<Typed<'a>>(data) {
        Ok(Typed { kind: Cow::Borrowed(kind) }) => Cow::Borrowed(kind.as_bytes()),
        Ok(Typed { kind: Cow::Owned(kind) }) => Cow::Owned(kind.into_bytes()),
        Err(_) => Cow::Borrowed(b""),
    }
}

fn first_error(data: &[u8]) -> StreamError {
    let failed: Option<Failed<'_>> = serde_json::from_slice(data).ok();
    let kind = failed.as_ref().and_then(|failed| failed.error.as_ref()).map(|error| &*error.kind);
    match kind {
        Some(kind) => StreamError { status: error_status(kind), body: data.to_vec() },
        None => StreamError {
            status: 502,
            body: envelope("api_error", "the provider sent an error that can not be read"),
        },
    }
}

/// The status that belongs to an error's type, as OpenAI's clients know it too: 529 is 503. From Anthropic's page of
/// errors; 502 for a type that is not known.
pub fn error_status(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "overloaded_error" => 503,
        "timeout_error" => 504,
        _ => 502,
    }
}

/// The event that ends a stream which broke off.
pub(super) fn error_event(message: &str) -> String {
    let data = envelope("api_error", message);
    format!("event: error\ndata: {}\n\n", String::from_utf8_lossy(&data))
}

fn envelope(kind: &str, message: &str) -> Vec<u8> {
    json!({"type": "error", "error": {"type": kind, "message": message}}).to_string().into_bytes()
}
