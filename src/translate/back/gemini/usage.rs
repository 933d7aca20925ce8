//! `usageMetadata`: token counts, whole and over a stream, where they go up and down.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use crate::translate::Tokens;

/// A count: a number or, as protocol buffers write 64 bits, a string. Anything else is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }

            fn visit_i64<E>(self, count: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(count).ok()))
            }

            fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
                // Vertex writes some counts as `4.0`. The cast saturates.
                Ok(Count((count.is_finite() && count >= 0.0).then_some(count as u64)))
            }

            fn visit_str<E>(self, count: &str) -> Result<Count, E> {
                Ok(Count(count.parse().ok()))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What Google says of tokens. Zeros are left out on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    cached_content_token_count: Count,
    total_token_count: Count,
}

impl Usage {
    /// As disjoint counters; `None` when it says nothing.
    pub fn tokens(&self) -> Option<Tokens> {
        if self.prompt_token_count.0.is_none() && self.candidates_token_count.0.is_none() {
            return None;
        }
        let count = |count: Count| count.0.unwrap_or_default();
        let prompt = count(self.prompt_token_count);
        let input = prompt.saturating_add(count(self.tool_use_prompt_token_count));
        let candidates = count(self.candidates_token_count);
        let thoughts = count(self.thoughts_token_count);
        let cache_read = count(self.cached_content_token_count).min(prompt);
        // Some versions count the thoughts among the candidates' tokens already: the total tells.
        let is_inside = self.total_token_count.0 == Some(input.saturating_add(candidates));
        let output = if is_inside { candidates } else { candidates.saturating_add(thoughts) };
        Some(Tokens {
            fresh_input: input - cache_read,
            cache_read,
            output,
            reasoning: thoughts.min(output),
            ..Tokens::default()
        })
    }

    /// Takes in what a later chunk says. One that counts candidates, or is the last, is right; any other can only
    /// add, since such chunks were seen to fall back.
    pub fn update(&mut self, later: &Usage, is_last: bool) {
        let is_right = is_last || later.candidates_token_count.0.is_some();
        let merge = |known: &mut Count, said: Count| {
            known.0 = if is_right { said.0.or(known.0) } else { said.0.max(known.0) };
        };
        merge(&mut self.prompt_token_count, later.prompt_token_count);
        merge(&mut self.tool_use_prompt_token_count, later.tool_use_prompt_token_count);
        merge(&mut self.candidates_token_count, later.candidates_token_count);
        merge(&mut self.thoughts_token_count, later.thoughts_token_count);
        merge(&mut self.cached_content_token_count, later.cached_content_token_count);
        merge(&mut self.total_token_count, later.total_token_count);
    }
}
