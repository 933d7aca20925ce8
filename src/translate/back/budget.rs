//! How many tokens a Claude may think with: the same rule at Anthropic and on Bedrock.

use crate::translate::conversation::{Effort, Reasoning};
use crate::translate::{Invalid, Unsupported};

/// The least number of thinking tokens that is taken.
const LEAST_TOKENS: u64 = 1_024;

/// What of a request bears on its thinking.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// A tool has to be called.
    pub is_forced: bool,
    /// A tool loop goes on whose thoughts did not come back.
    pub lacks_thoughts: bool,
    /// The longest answer, thinking included.
    pub max_tokens: u64,
}

/// The number of thinking tokens; `None`: it does not think this time, which is then listed by `field`.
///
/// # Errors
/// A number that is not taken, and thinking beside a forced tool unless such fields are dropped.
pub fn tokens(
    wish: &Reasoning,
    room: Room,
    field: &str,
    unsupported: &mut Unsupported<'_>,
) -> Result<Option<u64>, Invalid> {
    if room.is_forced {
        unsupported.field(field)?;
        return Ok(None);
    }
    if room.lacks_thoughts {
        unsupported.note(field);
        return Ok(None);
    }
    if let Some(budget) = wish.budget_tokens {
        if budget < LEAST_TOKENS || budget >= room.max_tokens {
            return Err(Invalid::new(
                "thinking.budget_tokens",
                format!(
                    "has to be at least {LEAST_TOKENS} and less than the longest answer ({})",
                    room.max_tokens
                ),
            ));
        }
        return Ok(Some(budget));
    }
    // The caller's limit counts thinking too; a quarter of it is kept for the answer.
    let most = room.max_tokens - room.max_tokens / 4;
    let budget = of(wish.effort.unwrap_or(Effort::Medium)).min(most);
    if budget < LEAST_TOKENS {
        unsupported.note(field);
        return Ok(None);
    }
    Ok(Some(budget))
}

/// A word as a number of tokens.
fn of(effort: Effort) -> u64 {
    match effort {
        Effort::None | Effort::Minimal => LEAST_TOKENS,
        Effort::Low => 4_096,
        Effort::Medium => 8_192,
        Effort::High => 24_576,
        Effort::XHigh | Effort::Max => 32_768,
    }
}
