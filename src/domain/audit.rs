//! One administrative change.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// Who changed what, when, from what to what. Secrets are never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: UnixMillis,
    /// The subject that did it: `user:EMAIL`, `virtualaccount:NAME` or `local:uid:N`.
    pub actor: String,
    /// What was done, as `noun.verb`, such as `token.create`.
    pub action: String,
    /// To what, as `kind/name`.
    pub resource: String,
    /// The object before, without secrets; null when there was none.
    pub before: serde_json::Value,
    /// The object after, without secrets; null when it is gone.
    pub after: serde_json::Value,
}
