//! The nouns of the product as plain data. Nothing here decides, stores or sends.

mod account;
mod audit;
mod grant;
mod principal;
mod token;
mod usage;

pub use account::{Endpoint, Model, ModelType, ProviderAccount, ProviderType};
pub use audit::AuditEntry;
pub use grant::{Grant, GrantSource, Role, Target};
pub use principal::{Owner, Principal, Subject, Team, TenantRole, User, VirtualAccount};
pub use token::Token;
pub use usage::{Outcome, TokenCounts, TokenOrigin, UsageRecord};
