//! One finished call.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Money;
use crate::clock::UnixMillis;

/// Where token counts came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenOrigin {
    /// The provider said so.
    Reported,
    /// Counted by the gateway from what passed.
    Estimated,
    /// Nothing to count.
    #[default]
    None,
}

/// Tokens of one call. Cached and reasoning tokens are parts of input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// The part of `input` that the provider had cached.
    pub cached: u64,
    /// The part of `input` that was written to a cache; some providers bill it by a price of its own.
    #[serde(default)]
    pub cache_write: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Where they came from.
    pub origin: TokenOrigin,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The provider's answer reached the caller whole.
    Complete,
    /// The provider answered with an error status.
    ProviderError,
    /// The provider could not be reached, was late, or broke off.
    ProviderFailed,
    /// The caller went away first.
    CallerGone,
    /// The gateway cut the call because access was taken away, or on shutdown.
    Cut,
    /// The gateway refused the request for what it says, before any provider was reached.
    Refused,
}

impl Outcome {
    /// The word used in metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ProviderError => "provider-error",
            Self::ProviderFailed => "provider-failed",
            Self::CallerGone => "caller-gone",
            Self::Cut => "cut",
            Self::Refused => "refused",
        }
    }
}

/// One call that reached a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// When the call began.
    pub at: UnixMillis,
    /// The request id that the caller was told.
    pub request_id: String,
    /// `user:EMAIL` or `virtualaccount:NAME`.
    pub subject: String,
    /// The token that was shown.
    pub token_id: String,
    /// The provider account.
    pub account: String,
    /// `account/name`.
    pub model: String,
    /// The endpoint, such as `chat/completions`.
    pub endpoint: String,
    /// Tokens.
    pub tokens: TokenCounts,
    /// The status that the caller got; 499 when the caller went away before one was sent.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Server-sent events or not.
    pub stream: bool,
    /// From the call's first byte to its end.
    pub latency_ms: u64,
    /// From the call's first byte to the provider's first body byte; `None` when there was none.
    pub first_byte_ms: Option<u64>,
    /// `X-TFY-METADATA`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The user's teams when the call began, by name, `everyone` left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<String>,
    /// The model as the caller wrote it, where that is not [`UsageRecord::model`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_asked: Option<String>,
    /// What it cost; `None`: no price is known, which is not nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Why there was no answer, or an error: a short word such as `rate_limit`, `timeout`, `unreachable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    /// Bytes of the request's body.
    #[serde(default)]
    pub request_bytes: u64,
    /// Bytes of the answer's body that went to the caller.
    #[serde(default)]
    pub answer_bytes: u64,
}

impl UsageRecord {
    /// Moves the record out; what stays behind has no texts.
    pub fn take(&mut self) -> Self {
        let text = |text: &mut String| std::mem::take(text);
        Self {
            at: self.at,
            request_id: text(&mut self.request_id),
            subject: text(&mut self.subject),
            token_id: text(&mut self.token_id),
            account: text(&mut self.account),
            model: text(&mut self.model),
            endpoint: text(&mut self.endpoint),
            tokens: self.tokens,
            status: self.status,
            outcome: self.outcome,
            stream: self.stream,
            latency_ms: self.latency_ms,
            first_byte_ms: self.first_byte_ms,
            metadata: std::mem::take(&mut self.metadata),
            teams: std::mem::take(&mut self.teams),
            model_asked: self.model_asked.take(),
            cost: self.cost,
            error_kind: self.error_kind.take(),
            request_bytes: self.request_bytes,
            answer_bytes: self.answer_bytes,
        }
    }
}

/// Whose calls someone may see in reports. Nothing is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageScope {
    /// Everybody's.
    All,
    /// Those of one subject, of some teams' members while they were in them, and of some accounts.
    Limited {
        /// As in [`UsageRecord::subject`].
        subject: String,
        /// Names of teams.
        teams: BTreeSet<String>,
        /// Names of accounts.
        accounts: BTreeSet<String>,
    },
}

impl Default for UsageScope {
    fn default() -> Self {
        Self::Limited { subject: String::new(), teams: BTreeSet::new(), accounts: BTreeSet::new() }
    }
}

/// How much of a call may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// All of it.
    Whole,
    /// All of it but the teams that are not in the scope.
    WithinTeams,
    /// Nothing.
    No,
}

impl UsageScope {
    /// How much may be seen of a call by that subject, in those teams, on that account.
    pub fn shows<'t>(
        &self,
        subject: &str,
        mut teams: impl Iterator<Item = &'t str>,
        account: &str,
    ) -> Visible {
        match self {
            Self::All => Visible::Whole,
            Self::Limited { subject: own, .. } if !own.is_empty() && own == subject => Visible::Whole,
            Self::Limited { teams: seen, accounts, .. } => {
                if accounts.contains(account) || teams.any(|team| seen.contains(team)) {
                    Visible::WithinTeams
                } else {
                    Visible::No
                }
            }
        }
    }

    /// Whether a team's name may stand in a report.
    pub fn shows_team(&self, team: &str) -> bool {
        match self {
            Self::All => true,
            Self::Limited { teams, .. } => teams.contains(team),
        }
    }
}
