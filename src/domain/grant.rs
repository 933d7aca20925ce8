//! Grants: (subject, role, target).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::clock::UnixMillis;
use crate::id::{AccountName, InvalidName, ModelName};

/// What a grant allows on its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Change settings, add and remove models, manage access, use every model.
    #[serde(rename = "provider-account-manager")]
    Manager,
    /// Use the models of the target, nothing else.
    #[serde(rename = "provider-account-access")]
    Access,
}

impl Role {
    /// The role's name in the public contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "provider-account-manager",
            Self::Access => "provider-account-access",
        }
    }

    /// Reads the contract's name, or the short `manager` / `access`.
    ///
    /// # Errors
    /// A sentence that names the roles.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text {
            "provider-account-manager" | "manager" => Ok(Self::Manager),
            "provider-account-access" | "access" => Ok(Self::Access),
            _ => Err(InvalidName(format!(
                "'{text}' is not a role; write provider-account-manager or provider-account-access"
            ))),
        }
    }
}

/// What a grant is on: a provider account, or one model of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The provider account.
    pub account: AccountName,
    /// One model of it; `None` is the account with all its models, also those added later.
    pub model: Option<ModelName>,
}

impl Target {
    /// Reads `account` or `account/model`.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            None => Ok(Self { account: AccountName::parse(text)?, model: None }),
            Some((account, model)) => {
                Ok(Self { account: AccountName::parse(account)?, model: Some(ModelName::parse(model)?) })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            None => write!(f, "{}", self.account),
            Some(model) => write!(f, "{}/{model}", self.account),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::deserialize_name(deserializer, Self::parse)
    }
}

/// Where a grant came from: applying a manifest again replaces only that manifest's own grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantSource {
    /// `admin grant`, the API or the console.
    Direct,
    /// The manifest of that `type/name`.
    Manifest(String),
}

/// One subject has one role on one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Who.
    pub subject: Subject,
    /// May do what.
    pub role: Role,
    /// On what.
    pub target: Target,
    /// Where it came from.
    pub source: GrantSource,
    /// When it was made.
    pub created_at: UnixMillis,
    /// The subject that made it.
    pub created_by: String,
}
