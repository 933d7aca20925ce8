//! How much a model is told to think: in its vendor's own field.
//!
//! | asked for | Claude with adaptive thinking | Claude with a number of tokens | Nova 2 | gpt-oss |
//! |---|---|---|---|---|
//! | `none`, `minimal` | not told | not told | not told | refused: it always thinks |
//! | a word | `adaptive`, the word in `output_config.effort` | [`budget_of`] | `maxReasoningEffort` | `reasoning_effort` |
//! | a number | the number where both are taken, else a word | the number | a word | a word |
//!
//! A word that the model does not have is the nearest below it, else the lowest.

use serde::Serialize;

use super::Vendor;
use super::blocks::Writer;
use super::members::Members;
use crate::translate::Invalid;
use crate::translate::back::budget::{self, Room};
use crate::translate::capability::Thinking;
use crate::translate::conversation::{Effort, Reasoning};

/// What else of the request decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The limit of the answer.
    pub(super) max_tokens: u64,
    /// A tool has to be called; not together with a number of thinking tokens.
    pub(super) is_forced: bool,
    /// A tool loop goes on without the thoughts that began it; a number of tokens is refused then.
    pub(super) lacks_thoughts: bool,
}

#[derive(Debug, Serialize)]
struct ClaudeThinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct OutputConfig {
    effort: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NovaReasoning {
    #[serde(rename = "type")]
    kind: &'static str,
    max_reasoning_effort: &'static str,
}

/// What the model will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// It will think.
    pub(super) is_on: bool,
    /// By a number of tokens, which the limit of the answer has to exceed.
    pub(super) by_number: bool,
}

/// Writes it.
pub(super) fn write(
    reasoning: Option<&Reasoning>,
    now: Circumstances,
    writer: &mut Writer<'_, '_>,
    out: &mut Members,
) -> Result<Told, Invalid> {
    let Some(wish) = reasoning else { return Ok(Told::default()) };
    let capability = writer.target.capability;
    let field = if wish.effort.is_some() { "reasoning_effort" } else { "thinking" };
    let says_off = wish.enabled == Some(false)
        || (matches!(wish.effort, Some(Effort::None | Effort::Minimal)) && wish.budget_tokens.is_none());
    if says_off {
        if capability.always_thinks {
            writer.unsupported.field(field)?;
        }
        return Ok(Told::default());
    }
    if wish.effort.is_none() && wish.budget_tokens.is_none() && wish.enabled != Some(true) {
        return Ok(Told::default());
    }
    let by_number = match capability.thinking {
        Thinking::None => {
            writer.unsupported.field(field)?;
            return Ok(Told::default());
        }
        Thinking::Budget => true,
        Thinking::Adaptive | Thinking::Level => {
            wish.budget_tokens.is_some() && wish.effort.is_none() && capability.thinking_tokens.is_some()
        }
    };
    if by_number {
        let Some(budget_tokens) = budget(wish, field, now, writer)? else { return Ok(Told::default()) };
        let thinking = ClaudeThinking { kind: "enabled", budget_tokens: Some(budget_tokens), display: None };
        out.put("thinking", &thinking)?;
        return Ok(Told { is_on: true, by_number: true });
    }
    let wanted = wish.effort.or(wish.budget_tokens.map(effort_of));
    let word = wanted.and_then(|wanted| nearest(wanted, &capability.efforts));
    match writer.vendor {
        Vendor::Nova => {
            let max_reasoning_effort = word.unwrap_or("medium");
            out.put("reasoningConfig", &NovaReasoning { kind: "enabled", max_reasoning_effort })?;
        }
        Vendor::GptOss => {
            if let Some(word) = word {
                out.put("reasoning_effort", &word)?;
            }
        }
        _ => {
            let display = wish.visible.map(|visible| if visible { "summarized" } else { "omitted" });
            out.put("thinking", &ClaudeThinking { kind: "adaptive", budget_tokens: None, display })?;
            if let Some(effort) = word {
                out.put("output_config", &OutputConfig { effort })?;
            }
        }
    }
    Ok(Told { is_on: true, by_number: false })
}

/// The number of thinking tokens; `None`: it does not think this time.
fn budget(
    wish: &Reasoning,
    field: &str,
    now: Circumstances,
    writer: &mut Writer<'_, '_>,
) -> Result<Option<u64>, Invalid> {
    let room =
        Room { is_forced: now.is_forced, lacks_thoughts: now.lacks_thoughts, max_tokens: now.max_tokens };
    budget::tokens(wish, room, field, writer.unsupported)
}

/// A number of tokens as a word.
fn effort_of(budget_tokens: u64) -> Effort {
    match budget_tokens {
        0..=4_096 => Effort::Low,
        4_097..=16_384 => Effort::Medium,
        _ => Effort::High,
    }
}

/// The largest word that is not above the wanted one, else the lowest there is.
fn nearest(wanted: Effort, efforts: &[Effort]) -> Option<&'static str> {
    let below = efforts.iter().copied().filter(|effort| *effort <= wanted).max();
    below.or_else(|| efforts.iter().copied().min()).map(|effort| match effort {
        Effort::None => "none",
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh => "xhigh",
        Effort::Max => "max",
    })
}
