//! What comes back, in no dialect: whole, or as the events of a stream.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::conversation::Part;
use crate::domain::{TokenCounts, TokenOrigin};
use crate::secret::Secret;

/// A whole answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The provider's id of it; `None`: the gateway makes one.
    pub id: Option<String>,
    /// The provider's name of the model that answered.
    pub model: Option<String>,
    /// Unix seconds, where the provider says so.
    pub created_s: Option<u64>,
    /// One for each answer that was asked for; by index, without gaps. A blocked prompt is one choice without parts.
    pub choices: Vec<Choice>,
    /// What it cost.
    pub tokens: Option<Tokens>,
}

/// One of the answers.
#[derive(Debug, Default)]
pub struct Choice {
    /// Text, thinking, tool calls and refusals, in the provider's order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Finish,
    /// Log probabilities in OpenAI's chat form.
    pub logprobs: Option<Box<RawValue>>,
}

/// Why an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// In the gateway's words.
    pub reason: FinishReason,
    /// In the provider's words, where they say more than the reason.
    pub native: Option<String>,
    /// The stop text that was met.
    pub stop_sequence: Option<String>,
    /// The provider's explanation of a refusal.
    pub explanation: Option<String>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinishReason {
    /// It was complete, or met a stop text.
    #[default]
    Stop,
    /// It grew too long.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The model or a filter declined.
    ContentFilter,
}

/// Token counts as five disjoint counters, and what of the output was reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Input that no cache held.
    pub fresh_input: u64,
    /// Input read from a cache.
    pub cache_read: u64,
    /// Input written to a cache that lasts minutes.
    pub cache_write_5m: u64,
    /// Input written to a cache that lasts an hour.
    pub cache_write_1h: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Reasoning, a part of the output.
    pub reasoning: u64,
}

impl Tokens {
    /// All of the input.
    pub fn input(&self) -> u64 {
        self.fresh_input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
    }

    /// For the usage record.
    pub fn counts(&self) -> TokenCounts {
        TokenCounts {
            input: self.input(),
            output: self.output,
            cached: self.cache_read,
            cache_write: self.cache_write_5m.saturating_add(self.cache_write_1h),
            reasoning: self.reasoning.min(self.output),
            origin: TokenOrigin::Reported,
        }
    }
}

/// One step of a stream. Texts are borrowed from the provider's bytes where they can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The answer begins. Comes first, at most once.
    Start {
        /// The provider's id of the answer.
        id: Option<Cow<'a, str>>,
        /// The provider's name of the model.
        model: Option<Cow<'a, str>>,
        /// What is known of the input at that time.
        tokens: Option<Tokens>,
    },
    /// More text.
    Text {
        /// Which answer.
        choice: u32,
        /// Not empty.
        text: Cow<'a, str>,
        /// Log probabilities of this piece: JSON text in OpenAI's chat form.
        logprobs: Option<Cow<'a, str>>,
    },
    /// More of a refusal in words.
    Refusal {
        /// Which answer.
        choice: u32,
        /// Not empty.
        text: Cow<'a, str>,
    },
    /// More thinking.
    Thinking {
        /// Which answer.
        choice: u32,
        /// Not empty.
        text: Cow<'a, str>,
    },
    /// The proof of the thinking block that is open (or of one without text); it ends the block.
    ThinkingSignature {
        /// Which answer.
        choice: u32,
        /// Whole.
        signature: Cow<'a, str>,
    },
    /// A whole thinking block that only the provider can read.
    RedactedThinking {
        /// Which answer.
        choice: u32,
        /// Opaque.
        data: Cow<'a, str>,
    },
    /// A tool is called.
    ToolStart {
        /// Which answer.
        choice: u32,
        /// The running number of calls in this answer, from 0 without gaps.
        index: u32,
        /// Never empty: a back makes one where the provider gives none.
        id: Cow<'a, str>,
        /// The tool.
        name: Cow<'a, str>,
        /// The provider's proof of the thought behind it.
        signature: Option<Cow<'a, str>>,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// Which answer.
        choice: u32,
        /// Which call.
        index: u32,
        /// JSON text, not empty.
        fragment: Cow<'a, str>,
    },
    /// A call is whole. A call that had no arguments got one fragment `{}` from the back before this.
    ToolEnd {
        /// Which answer.
        choice: u32,
        /// Which call.
        index: u32,
    },
    /// One answer ends.
    Finish {
        /// Which answer.
        choice: u32,
        /// Why.
        finish: Finish,
    },
    /// Token counts so far; a later one replaces an earlier one.
    Tokens(Tokens),
    /// A sign of life that says nothing.
    Ping,
    /// The provider's own end mark. Without it (and without an error) the stream broke off.
    End,
    /// The provider failed. Nothing comes after it.
    Error(ProviderError),
}

/// An error of a provider, in the words that a caller may read. Never holds a key or an address of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderError {
    /// The HTTP status that fits it in OpenAI's dialect: 529 and others unknown there are mapped (503, 502).
    pub status: u16,
    /// OpenAI's word for it, such as `rate_limit_error`, `invalid_request_error`.
    pub kind: String,
    /// OpenAI's code where there is one, such as `context_length_exceeded`; else the provider's own.
    pub code: Option<String>,
    /// The provider's sentence.
    pub message: String,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// Seconds to wait, where the provider says so in the body.
    pub retry_after_s: Option<u64>,
    /// The provider refused the gateway's own credential, although its status does not say so (Gemini's 400
    /// `API_KEY_INVALID`): handled like a 401.
    pub credential_refused: bool,
}

impl ProviderError {
    /// Whether it speaks of the gateway's own credential, which its sentence may repeat.
    pub fn is_of_credential(&self) -> bool {
        self.credential_refused
            || matches!(self.status, 401 | 403)
            || matches!(self.kind.as_str(), "authentication_error" | "permission_error")
            || matches!(self.code.as_deref(), Some("invalid_api_key"))
    }

    /// Takes these out of all that it says.
    pub fn hide(&mut self, secrets: &[Secret]) {
        let others = [&mut self.code, &mut self.request_id].into_iter().flatten();
        for text in others.chain([&mut self.message, &mut self.kind]) {
            for secret in secrets.iter().filter(|secret| !secret.expose().is_empty()) {
                if text.contains(secret.expose()) {
                    *text = text.replace(secret.expose(), "***");
                }
            }
        }
    }
}
