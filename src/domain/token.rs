//! A token as the store keeps it: never the secret, only its hash.

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::clock::UnixMillis;
use crate::id::{SlugName, TokenId};
use crate::secret::SecretHash;

/// A personal or virtual access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The public part of the token text.
    pub id: TokenId,
    /// Whom it acts as.
    pub owner: Owner,
    /// What its owner calls it.
    pub name: SlugName,
    /// BLAKE3 of the secret part.
    pub secret_hash: SecretHash,
    /// From this time on it is refused.
    pub expires_at: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// The subject that made it.
    pub created_by: String,
    /// The token that this one was rotated from.
    pub replaces: Option<TokenId>,
    /// The token that replaced this one; until `expires_at` it is in its grace.
    #[serde(default)]
    pub replaced_by: Option<TokenId>,
    /// When it was revoked. It is kept for a while so that lists show what became of it.
    #[serde(default)]
    pub revoked_at: Option<UnixMillis>,
}
