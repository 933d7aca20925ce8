//! Manifests: what an object is to be, as a document. Reads documents into typed specs and writes objects as
//! documents; knows no state and decides nothing.

mod account;
mod auth;
pub mod fields;
mod limits;
mod price;
mod read;
mod write;

pub use account::{WRONG_REGION, azure_endpoint, is_path_word, is_region, model, ollama_host};
pub use auth::{AuthSpec, auth, key_shape, takes_key};
pub use read::{accounting_failure, kind_of, logging_settings, read};
pub use write::{
    AccountAccess, account, model_manifest, role_binding, settings, team, user, virtual_account,
};

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::clock::UnixMillis;
use crate::domain::{
    AccountingFailure, AutoRotate, BodyLogging, LimitKind, LimitRule, ModelPrices, ModelSettings, ModelType,
    Money, ProviderType, TenantRole,
};
use crate::secret::Secret;

/// What stands in place of a secret. Sent back, it means: the one that is stored.
pub const MASK: &str = "***";

/// One document, read.
#[derive(Debug)]
pub struct Document {
    /// What it says.
    pub spec: Spec,
    /// As it was sent, secrets masked.
    pub masked: Value,
}

impl Document {
    /// The object's type, as it is written.
    pub fn kind(&self) -> &str {
        self.masked.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        match &self.spec {
            Spec::User(user) => &user.email,
            Spec::Team(team) => &team.name,
            Spec::Account(account) => &account.name,
            Spec::VirtualAccount(account) => &account.name,
            Spec::RoleBinding(binding) => &binding.name,
            Spec::Settings(_) => "settings",
            Spec::Limits(spec) => &spec.name,
        }
    }
}

/// What a document says.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are the types of manifests")]
pub enum Spec {
    User(UserSpec),
    Team(TeamSpec),
    Account(Box<AccountSpec>),
    VirtualAccount(VirtualAccountSpec),
    RoleBinding(RoleBindingSpec),
    Settings(SettingsSpec),
    Limits(LimitsSpec),
}

/// A user as it is to be. What is not said stays.
#[derive(Debug)]
pub struct UserSpec {
    /// The address.
    pub email: String,
    /// The name shown to people.
    pub display_name: Option<String>,
    /// Tenant-wide role.
    pub role: Option<TenantRole>,
}

/// A team as it is to be.
#[derive(Debug)]
pub struct TeamSpec {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Emails of existing users.
    pub members: Vec<String>,
    /// Emails of existing users.
    pub managers: Vec<String>,
}

/// A provider account as it is to be.
#[derive(Debug)]
pub struct AccountSpec {
    /// Its name.
    pub name: String,
    /// The word after `provider-account/`.
    pub provider: ProviderType,
    /// Where it is; the provider's own place when nothing is said.
    pub base_url: Option<String>,
    /// What it shows to its provider; `None` keeps what is stored.
    pub auth: Option<AuthSpec>,
    /// AWS region, or Vertex location.
    pub region: Option<String>,
    /// Google Cloud project (Vertex).
    pub project_id: Option<String>,
    /// Azure's `api-version`.
    pub api_version: Option<String>,
    /// What the provider can not do is dropped.
    pub drop_unsupported: bool,
    /// Whose bodies are kept; `None`: as the tenant says.
    pub logging_settings: Option<BodyLogging>,
    /// Percent off the public prices.
    pub discount_percent: Option<Money>,
    /// PEM.
    pub client_certificate: Option<String>,
    /// PEM; `None` keeps the stored one, of the same certificate.
    pub client_key: Option<Secret>,
    /// Headers added to every call.
    pub headers: BTreeMap<String, String>,
    /// PEM.
    pub ca_certificates: Option<String>,
    /// All of its models; `None` leaves them as they are.
    pub models: Option<Vec<ModelSpec>>,
    /// Who has which role on it, as (subject, role); `None` leaves that as it is.
    pub collaborators: Option<Vec<(String, String)>>,
}

/// A model to be offered.
#[derive(Debug)]
pub struct ModelSpec {
    /// The part after the slash in `account/name`.
    pub name: String,
    /// The provider's own id.
    pub model_id: String,
    /// What it is for.
    pub types: BTreeSet<ModelType>,
    /// What it costs.
    pub prices: ModelPrices,
    /// Who may use it besides those who may use the account; `None` leaves that as it is.
    pub authorized_subjects: Option<Vec<String>>,
    /// The type of account that it was written for.
    pub provider: ProviderType,
    /// What only some providers know; without `server`.
    pub settings: ModelSettings,
    /// A server of its own.
    pub server: Option<ModelServerSpec>,
}

/// The server of one self-hosted model.
#[derive(Debug)]
pub struct ModelServerSpec {
    /// Where it is.
    pub base_url: String,
    /// What it is shown; `None` keeps what is stored.
    pub auth: Option<AuthSpec>,
    /// Headers added to every call.
    pub headers: BTreeMap<String, String>,
    /// PEM.
    pub ca_certificates: Option<String>,
}

/// A virtual account as it is to be.
#[derive(Debug)]
pub struct VirtualAccountSpec {
    /// Its name.
    pub name: String,
    /// Past this time none of its tokens work.
    pub expires_at: Option<UnixMillis>,
    /// What usage is tagged with.
    pub tags: BTreeMap<String, String>,
    /// The team that it belongs to.
    pub owned_by: Option<String>,
    /// Whether its tokens are replaced by themselves.
    pub auto_rotate: Option<AutoRotate>,
    /// What it may use; `None` leaves that as it is.
    pub permissions: Option<Vec<Permission>>,
}

/// One permission, in the words of the public contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `TENANT:PROVIDER:ACCOUNT`, and `:model:NAME` for one model.
    pub resource_fqn: String,
    /// `provider-account` or `provider-integration`.
    pub resource_type: String,
    /// `provider-account-access` and the like.
    pub role_id: String,
}

/// Permissions for several subjects at once.
#[derive(Debug)]
pub struct RoleBindingSpec {
    /// Its name.
    pub name: String,
    /// Written subjects.
    pub subjects: Vec<String>,
    /// What each of them is given.
    pub permissions: Vec<Permission>,
}

/// All rate limits, or all budgets.
#[derive(Debug)]
pub struct LimitsSpec {
    /// Which.
    pub kind: LimitKind,
    /// The document's name.
    pub name: String,
    /// Where days begin: minutes east of UTC.
    pub offset_minutes: i32,
    /// In place of the offset: a place in the IANA database, written as there.
    pub zone: Option<String>,
    /// From the top down.
    pub rules: Vec<LimitRule>,
}

/// The tenant's settings. The outer `None` leaves a setting as it is, the inner one is "no bound".
#[derive(Debug, Default)]
pub struct SettingsSpec {
    /// See [`crate::domain::Settings`].
    pub pat_max_validity_days: Option<Option<u32>>,
    /// See [`crate::domain::Settings`].
    pub pat_may_mint: Option<bool>,
    /// See [`crate::domain::Settings`].
    pub audit_retention_days: Option<Option<u32>>,
    /// See [`crate::domain::Settings`].
    pub limits_when_accounting_fails: Option<AccountingFailure>,
    /// Whose bodies are kept.
    pub logging_settings: Option<BodyLogging>,
}
