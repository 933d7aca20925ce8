//! What the organisation decides while the gateway runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BodyLogging;
use crate::clock::UnixMillis;

/// What becomes of calls under a budget while usage can not be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountingFailure {
    /// They are refused: nobody could say later what was spent.
    #[default]
    Refuse,
    /// They are served as long as there is room for their records.
    Serve,
}

impl AccountingFailure {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Serve => "serve",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Refuse, Self::Serve].into_iter().find(|one| one.as_str() == text)
    }
}

/// The tenant's settings; each has a default that holds until an admin sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Days after its creation on which a personal access token ends at the latest; `None` is no bound.
    pub pat_max_validity_days: Option<u32>,
    /// Whether someone who shows a personal access token may make others with it.
    pub pat_may_mint: bool,
    /// Days that audit entries are kept; `None` is for ever.
    pub audit_retention_days: Option<u32>,
    /// Calls under a budget while usage can not be written.
    pub limits_when_accounting_fails: AccountingFailure,
    /// Whose request and answer bodies are kept.
    pub logging_settings: BodyLogging,
    /// Personal access tokens that were made until then have ended by an earlier, shorter bound, whatever the present
    /// one says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pat_ended_until: Option<UnixMillis>,
}

impl Settings {
    /// Remembers which tokens had ended by the bound of the settings before these: no other bound brings them back.
    pub fn keep_ended(&mut self, before: &Self, now: UnixMillis) {
        let until = before.pat_max_validity_days.map(|days| {
            let validity = Duration::from_secs(u64::from(days).saturating_mul(86_400));
            UnixMillis(now.0.saturating_sub(u64::try_from(validity.as_millis()).unwrap_or(u64::MAX)))
        });
        if self.pat_max_validity_days != before.pat_max_validity_days {
            self.pat_ended_until = before.pat_ended_until.max(until);
        }
    }
}

#[allow(clippy::derivable_impls, reason = "the defaults are decisions and stand here to be read")]
impl Default for Settings {
    fn default() -> Self {
        Self {
            pat_max_validity_days: None,
            pat_may_mint: false,
            audit_retention_days: None,
            pat_ended_until: None,
            limits_when_accounting_fails: AccountingFailure::Refuse,
            logging_settings: BodyLogging::default(),
        }
    }
}
