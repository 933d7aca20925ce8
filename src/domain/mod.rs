//! The nouns of the product as plain data. Nothing here decides, stores or sends.

mod account;
mod audit;
#[allow(dead_code, reason = "filled in by the commits that follow")]
mod credential;
mod grant;
mod principal;
mod settings;
mod token;
mod usage;

pub use account::{Endpoint, Model, ModelType, ProviderAccount, ProviderType};
pub use audit::{AuditEntry, AuditSource};
#[allow(unused_imports, reason = "filled in by the commits that follow")]
pub use credential::{AwsAccessKey, Credential};
pub use grant::{Grant, GrantSource, Role, Target};
pub use principal::{AutoRotate, Owner, Principal, Subject, Team, TenantRole, User, VirtualAccount};
pub use settings::Settings;
pub use token::{Token, TokenState};
pub use usage::{Outcome, TokenCounts, TokenOrigin, UsageRecord};
