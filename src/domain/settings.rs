//! What the organisation decides while the gateway runs.

use serde::{Deserialize, Serialize};

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
}

#[allow(clippy::derivable_impls, reason = "the defaults are decisions and stand here to be read")]
impl Default for Settings {
    fn default() -> Self {
        Self { pat_max_validity_days: None, pat_may_mint: false, audit_retention_days: None }
    }
}
