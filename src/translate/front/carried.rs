//! A provider's proofs in opaque fields of a dialect that has no place of its own for them: written into the answer,
//! brought back by the caller with the next turn, read again. They are no secrets and are not trusted: a caller that
//! changes one changes only what it says itself.

use serde::{Deserialize, Serialize};

/// Tells what this gateway wrote from what another server did.
const MARK: &str = "gateway1:";

/// What an opaque field holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Carried {
    /// A thinking block as the provider wrote it.
    Thinking {
        /// May be empty.
        text: String,
        /// The provider's proof.
        signature: Option<String>,
    },
    /// A block that only the provider can read.
    Redacted {
        /// Opaque.
        data: String,
    },
    /// The proof of the thought behind a tool call.
    Call {
        /// The call's id.
        id: String,
        /// The provider's proof.
        signature: String,
    },
}

impl Carried {
    /// For the opaque field.
    pub fn write(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{MARK}{json}")
    }

    /// From the opaque field; `None`: somebody else wrote it.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text.strip_prefix(MARK)?).ok()
    }
}
