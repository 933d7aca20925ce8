//! One administrative change.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// By which way an attempt came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditSource {
    /// The admin socket, or the store itself.
    #[default]
    Socket,
    /// The management API, with a token.
    Api,
    /// The web console.
    Console,
    /// The gateway by itself, such as an automatic rotation.
    Gateway,
}

/// Who changed what, when, from what to what. Secrets are never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: UnixMillis,
    /// The subject that did it: `user:EMAIL`, `virtualaccount:NAME` or `local:uid:N`.
    pub actor: String,
    /// The token that was shown; `None` on the admin socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// By which way.
    #[serde(default)]
    pub source: AuditSource,
    /// Why it was refused; `None` is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How many attempts this entry stands for; refusals of one minute are taken together.
    #[serde(default = "one")]
    pub count: u64,
    /// What was done, as `noun.verb`, such as `token.create`.
    pub action: String,
    /// To what, as `kind/name`.
    pub resource: String,
    /// The object before, without secrets; null when there was none.
    pub before: serde_json::Value,
    /// The object after, without secrets; null when it is gone.
    pub after: serde_json::Value,
}

fn one() -> u64 {
    1
}
