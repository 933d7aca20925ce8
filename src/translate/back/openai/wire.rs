//! The pieces of an answer that whole answers and streams have in common, read leniently: servers differ in what they
//! leave out, what is null, and what is a list.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize as Derive;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::translate::conversation::Part;
use crate::translate::few::Few;
use crate::translate::{Finish, FinishReason, Tokens};

/// Parts of one message, and blocks beside it.
const MAX_PARTS: usize = 4_096;

/// A string, borrowed where it has no escapes; a number counts as its text.
#[derive(Clone, Debug, Default)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
}

/// The text of an optional string that is not empty.
pub fn filled<'t>(text: &'t Option<Text<'_>>) -> Option<&'t str> {
    text.as_ref().map(|text| text.0.as_ref()).filter(|text| !text.is_empty())
}

/// A number of tokens or of an index: whole, from 0; anything else counts as not said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let whole = raw.parse().ok();
        // Some servers write `12.0`.
        let rounded = || raw.parse::<f64>().ok().filter(|n| (0.0..9e15).contains(n)).map(|n| n as u64);
        Ok(Self(whole.or_else(rounded)))
    }
}

/// `content`: a string, or a list of parts (Mistral).
#[derive(Debug)]
pub enum Content<'a> {
    /// The usual form.
    Text(Cow<'a, str>),
    /// Pieces in order.
    Parts(Vec<ContentPart<'a>>),
}

/// A part of a list of content.
#[derive(Debug, Derive)]
pub struct ContentPart<'a> {
    /// Of a text.
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    /// Mistral: a list of texts; elsewhere a string.
    #[serde(borrow)]
    pub thinking: Option<&'a RawValue>,
}

impl ContentPart<'_> {
    /// The thought in it.
    pub fn thought(&self) -> Option<String> {
        #[derive(Derive)]
        struct Piece {
            text: Option<String>,
        }
        let raw = self.thinking?.get();
        if raw.starts_with('[') {
            let pieces: Few<Piece, MAX_PARTS> = serde_json::from_str(raw).ok()?;
            return Some(pieces.into_iter().filter_map(|piece| piece.text).collect());
        }
        serde_json::from_str(raw).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    if parts.len() >= MAX_PARTS {
                        return Err(serde::de::Error::custom("too long"));
                    }
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A tool call, whole or the fragment of one.
#[derive(Debug, Derive)]
pub struct Call<'a> {
    /// Which call; left out by some.
    pub index: Option<Count>,
    /// In the first fragment; some repeat it, some leave it empty.
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    /// What is called.
    #[serde(borrow)]
    pub function: Option<Function<'a>>,
    /// Google's compatible endpoint carries signatures here.
    #[serde(borrow)]
    pub extra_content: Option<&'a RawValue>,
}

/// What is called.
#[derive(Debug, Default, Derive)]
pub struct Function<'a> {
    /// In the first fragment.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// JSON text in a string; a few servers write the object itself.
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

impl<'a> Call<'a> {
    /// The arguments' text.
    pub fn arguments(&self) -> Cow<'a, str> {
        let Some(raw) = self.function.as_ref().and_then(|function| function.arguments) else {
            return Cow::Borrowed("");
        };
        if raw.get().starts_with('"') {
            serde_json::from_str::<Text<'a>>(raw.get()).unwrap_or_default().0
        } else {
            Cow::Borrowed(raw.get())
        }
    }

    /// The tool's name, where it is said.
    pub fn name(&self) -> Option<&str> {
        self.function.as_ref().and_then(|function| filled(&function.name))
    }

    /// The provider's proof of the thought behind the call.
    pub fn signature(&self) -> Option<String> {
        #[derive(Derive)]
        struct Extra {
            google: Option<Google>,
        }
        #[derive(Derive)]
        struct Google {
            thought_signature: Option<String>,
        }
        let extra: Extra = serde_json::from_str(self.extra_content?.get()).ok()?;
        extra.google?.thought_signature
    }
}

/// An id for a call that its server gave none: from what tells its answer from others, and its number there.
pub fn made_id(seed: &[u8], number: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed);
    hasher.update(&number.to_le_bytes());
    let hex = hasher.finalize().to_hex();
    format!("call_made_{}", hex.get(..20).unwrap_or_default())
}

/// Thinking blocks beside the text of thoughts: `thinking_blocks` (gateways) or `reasoning_details` (OpenRouter).
#[derive(Derive)]
struct Block {
    r#type: Option<String>,
    thinking: Option<String>,
    text: Option<String>,
    summary: Option<String>,
    signature: Option<String>,
    data: Option<String>,
}

/// The blocks in either list.
pub fn blocks(thinking_blocks: Option<&RawValue>, details: Option<&RawValue>) -> Vec<Part> {
    let read = |raw: Option<&RawValue>| {
        raw.and_then(|raw| serde_json::from_str::<Few<Block, MAX_PARTS>>(raw.get()).ok())
            .unwrap_or_default()
            .0
    };
    let mut list = read(thinking_blocks);
    if list.is_empty() {
        list = read(details);
    }
    list.into_iter()
        .filter_map(|block| match block.r#type.as_deref()? {
            "redacted_thinking" | "reasoning.encrypted" => Some(Part::RedactedThinking { data: block.data? }),
            "thinking" | "reasoning.text" | "reasoning.summary" => Some(Part::Thinking {
                text: block.thinking.or(block.text).or(block.summary).unwrap_or_default(),
                signature: block.signature.filter(|signature| !signature.is_empty()),
            }),
            _ => None,
        })
        .collect()
}

/// Token counts in any of the usual forms.
#[derive(Clone, Copy, Debug, Default, Derive)]
pub struct Usage {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    total_tokens: Count,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's word for cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Derive)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default)]
    cache_write_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Derive)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

impl Usage {
    /// As disjoint counters. Parts that are larger than their whole are cut to it; a total that is larger than its
    /// parts has the reasoning that `completion_tokens` leaves out (xAI, Google's compatible endpoint).
    pub fn tokens(&self) -> Tokens {
        let prompt = self.prompt_tokens.0.unwrap_or_default();
        let details = self.prompt_tokens_details.unwrap_or_default();
        let cache_read =
            details.cached_tokens.0.or(self.prompt_cache_hit_tokens.0).unwrap_or_default().min(prompt);
        let cache_write_5m = details.cache_write_tokens.0.unwrap_or_default().min(prompt - cache_read);
        let completion = self.completion_tokens.0.unwrap_or_default();
        let total = self.total_tokens.0.unwrap_or_default();
        let hidden = total.saturating_sub(prompt).saturating_sub(completion);
        let output = completion.saturating_add(hidden);
        let reasoning = self.completion_tokens_details.and_then(|details| details.reasoning_tokens.0);
        Tokens {
            fresh_input: prompt - cache_read - cache_write_5m,
            cache_read,
            cache_write_5m,
            cache_write_1h: 0,
            output,
            reasoning: reasoning.unwrap_or_default().max(hidden).min(output),
        }
    }
}

/// Why an answer ended, by its word; `stop_reason` is vLLM's word for the stop text that was met.
pub fn finish(word: &str, has_calls: bool, stop_reason: Option<&RawValue>) -> Finish {
    let reason = match word {
        "length" | "model_length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "content_filter" | "safety" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    };
    // A few servers say `stop` after calls.
    let reason = if reason == FinishReason::Stop && has_calls { FinishReason::ToolCalls } else { reason };
    let is_known = matches!(word, "stop" | "length" | "tool_calls" | "function_call" | "content_filter");
    Finish {
        reason,
        native: (!is_known).then(|| word.chars().take(64).collect()),
        stop_sequence: stop_reason.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()),
        explanation: None,
    }
}
