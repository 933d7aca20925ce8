//! How people sign in to the console: passwords, invitations and sessions. Only hashes are kept.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::id::{Email, TokenId};
use crate::secret::SecretHash;

/// An argon2id hash of a password, with the parameters that it was made with, so that later ones may be others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordHash {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// 16 random bytes in hex digits.
    pub salt: String,
    /// 32 bytes of argon2id.
    pub hash: SecretHash,
}

/// A link that lets its owner choose a password, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// BLAKE3 of the code in the link.
    pub secret_hash: SecretHash,
    /// From then on it is refused.
    pub expires_at: UnixMillis,
    /// The subject that made it.
    pub created_by: String,
}

/// What a user can sign in with, besides tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user; the name of this object.
    pub user: Email,
    /// Their password, when they chose one.
    #[serde(default)]
    pub password: Option<PasswordHash>,
    /// Their invitation, until it is used.
    #[serde(default)]
    pub invitation: Option<Invitation>,
    /// When this object last changed.
    pub updated_at: UnixMillis,
}

/// How somebody signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignInWay {
    /// With a personal access token. The session has its limits and ends with it.
    Token,
    /// With a password.
    Password,
    /// With the link of an invitation.
    Invitation,
    /// At the organisation's own identity provider.
    Provider,
}

impl SignInWay {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::Invitation => "invitation",
            Self::Provider => "provider",
        }
    }
}

/// A browser in which somebody is signed in. When it was last used lives elsewhere, as with tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Its public name; no token has it too.
    pub id: TokenId,
    /// BLAKE3 of the secret in the cookie.
    pub secret_hash: SecretHash,
    /// Who is signed in.
    pub user: Email,
    /// How they signed in.
    pub way: SignInWay,
    /// The token that they signed in with.
    #[serde(default)]
    pub token: Option<TokenId>,
    /// What the browser says it is, cut short.
    pub agent: String,
    /// When they signed in.
    pub created_at: UnixMillis,
    /// From then on it is refused, however much it is used.
    pub expires_at: UnixMillis,
}
