//! How much a model is told to think.
//!
//! | asked for | models that take a word | models that take a number of tokens |
//! |---|---|---|
//! | `none`, `minimal`, or not at all | `disabled` | `disabled` |
//! | a word | adaptive, with the word, or the nearest below it that the model has | see [`budget_of`], within the limit of the answer |
//! | a number | the same number where both forms are taken, else the word of [`effort_of`] | the same number |
//! | thinking, as the model sees fit | adaptive | as for `medium` |

use serde::Serialize;

use crate::translate::back::budget::{self, Room};
use crate::translate::capability::Thinking;
use crate::translate::conversation::{Effort, Reasoning};
use crate::translate::{Invalid, Target, Unsupported};

/// `thinking` as it goes out.
#[derive(Debug, Serialize)]
pub(super) struct WireThinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

/// What is said about thinking.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) thinking: Option<WireThinking>,
    pub(super) effort: Option<&'static str>,
}

impl Told {
    /// The model will think.
    pub(super) fn is_on(&self) -> bool {
        self.thinking.as_ref().is_some_and(|thinking| thinking.kind != "disabled")
    }

    fn off() -> Self {
        Self {
            thinking: Some(WireThinking { kind: "disabled", budget_tokens: None, display: None }),
            effort: None,
        }
    }

    fn tokens(budget_tokens: u64) -> Self {
        let thinking = WireThinking { kind: "enabled", budget_tokens: Some(budget_tokens), display: None };
        Self { thinking: Some(thinking), effort: None }
    }
}

/// What else of the request decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The limit of the answer that goes out.
    pub(super) max_tokens: u64,
    /// A tool has to be called; not together with a number of thinking tokens.
    pub(super) is_forced: bool,
    /// A tool loop goes on without the thoughts that began it; the provider refuses a number of tokens then.
    pub(super) lacks_thoughts: bool,
}

/// What the model is told.
pub(super) fn build(
    reasoning: Option<&Reasoning>,
    target: &Target<'_>,
    now: Circumstances,
    unsupported: &mut Unsupported<'_>,
) -> Result<Told, Invalid> {
    let Some(wish) = reasoning else { return Ok(Told::default()) };
    let says_off = wish.enabled == Some(false)
        || (matches!(wish.effort, Some(Effort::None | Effort::Minimal)) && wish.budget_tokens.is_none());
    let says_on = wish.effort.is_some() || wish.budget_tokens.is_some() || wish.enabled == Some(true);
    let field = if wish.effort.is_some() { "reasoning_effort" } else { "thinking" };
    let capability = target.capability;
    match (capability.thinking, says_off, says_on) {
        (Thinking::None, true, _) | (_, false, false) => Ok(Told::default()),
        (_, true, _) if capability.always_thinks => {
            unsupported.field(field)?;
            Ok(Told::default())
        }
        (_, true, _) => Ok(Told::off()),
        (Thinking::None, false, true) => {
            unsupported.field(field)?;
            Ok(Told::default())
        }
        (Thinking::Budget, false, true) => by_number(wish, now, field, unsupported),
        (Thinking::Adaptive | Thinking::Level, false, true) => {
            if wish.budget_tokens.is_some() && wish.effort.is_none() && capability.thinking_tokens.is_some() {
                return by_number(wish, now, field, unsupported);
            }
            let wanted = wish.effort.or(wish.budget_tokens.map(effort_of));
            let display = wish.visible.map(|visible| if visible { "summarized" } else { "omitted" });
            Ok(Told {
                thinking: Some(WireThinking { kind: "adaptive", budget_tokens: None, display }),
                effort: wanted.and_then(|wanted| nearest(wanted, &capability.efforts)).map(word),
            })
        }
    }
}

fn by_number(
    wish: &Reasoning,
    now: Circumstances,
    field: &str,
    unsupported: &mut Unsupported<'_>,
) -> Result<Told, Invalid> {
    let room =
        Room { is_forced: now.is_forced, lacks_thoughts: now.lacks_thoughts, max_tokens: now.max_tokens };
    Ok(budget::tokens(wish, room, field, unsupported)?.map_or_else(Told::default, Told::tokens))
}

/// A number of tokens as a word.
fn effort_of(budget_tokens: u64) -> Effort {
    match budget_tokens {
        0..=4_096 => Effort::Low,
        4_097..=12_288 => Effort::Medium,
        12_289..=32_767 => Effort::High,
        _ => Effort::Max,
    }
}

/// The strongest word that is not above the wish, else the weakest that there is.
fn nearest(wanted: Effort, efforts: &[Effort]) -> Option<Effort> {
    efforts.iter().copied().filter(|effort| *effort <= wanted).max().or_else(|| efforts.iter().copied().min())
}

fn word(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh => "xhigh",
        Effort::Max => "max",
    }
}
