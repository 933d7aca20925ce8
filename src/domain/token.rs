//! A token as the store keeps it: never the secret, only its hash.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Owner, Settings};
use crate::clock::UnixMillis;
use crate::id::{SlugName, TokenId};
use crate::secret::SecretHash;

/// A personal or virtual access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
// In memory as it is written here: what each call looks at lies together, two lines of the processor's cache.
#[repr(C)]
pub struct Token {
    /// BLAKE3 of the secret part.
    pub secret_hash: SecretHash,
    /// Whom it acts as.
    pub owner: Owner,
    /// When it was revoked. It is kept for a while so that lists show what became of it.
    #[serde(default)]
    pub revoked_at: Option<UnixMillis>,
    /// From this time on it is refused.
    pub expires_at: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// The public part of the token text.
    pub id: TokenId,
    /// What its owner calls it.
    pub name: SlugName,
    /// The subject that made it.
    pub created_by: String,
    /// The token that this one was rotated from.
    pub replaces: Option<TokenId>,
    /// The token that replaced this one; until `expires_at` it is in its grace.
    #[serde(default)]
    pub replaced_by: Option<TokenId>,
}

/// What became of a token, as lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It works, and will for a while.
    Active,
    /// It works, and ends within [`Token::EXPIRING_SOON`].
    Expiring,
    /// It works beside its successor, until its grace ends.
    InGrace,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Revoked,
}

impl TokenState {
    /// Whether it works no more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Expired | Self::Revoked)
    }

    /// The word in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expiring => "expiring",
            Self::InGrace => "in grace",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Token {
    /// From so long before its end on a token is shown as expiring.
    pub const EXPIRING_SOON: Duration = Duration::from_secs(14 * 86_400);

    /// When it really ends: its own end, and for a personal one the settings' longest validity from its creation on,
    /// whichever comes first. One that ended by an earlier bound has ended. `None` is never.
    pub fn end(&self, settings: &Settings) -> Option<UnixMillis> {
        let bound = match (&self.owner, settings.pat_max_validity_days) {
            (Owner::User(_), Some(days)) => {
                Some(self.created_at.plus(Duration::from_secs(u64::from(days).saturating_mul(86_400))))
            }
            _ => None,
        };
        let ended = match &self.owner {
            Owner::User(_) => settings.pat_ended_until.filter(|until| self.created_at <= *until),
            Owner::VirtualAccount(_) => None,
        };
        self.expires_at.into_iter().chain(bound).chain(ended).min()
    }

    /// Whether it works no more, or was ended.
    pub fn is_over(&self, settings: &Settings, now: UnixMillis) -> bool {
        self.revoked_at.is_some() || self.end(settings).is_some_and(|end| end <= now)
    }

    /// What became of it. `end` is when it really ends.
    pub fn state(&self, end: Option<UnixMillis>, now: UnixMillis) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if end.is_some_and(|end| end <= now) {
            TokenState::Expired
        } else if self.replaced_by.is_some() {
            TokenState::InGrace
        } else if end.is_some_and(|end| end <= now.plus(Self::EXPIRING_SOON)) {
            TokenState::Expiring
        } else {
            TokenState::Active
        }
    }
}
