//! The nouns of the product as plain data. Nothing here decides, stores or sends.

mod account;
mod audit;
mod body_logging;
mod credential;
mod grant;
mod limit;
mod login;
mod money;
mod price;
mod principal;
mod provider;
mod settings;
mod token;
mod usage;

pub use account::{AccountSettings, Endpoint, Model, ModelServer, ModelSettings, ModelType, ProviderAccount};
pub use audit::{AuditEntry, AuditSource};
pub use body_logging::BodyLogging;
pub use credential::{AwsAccessKey, Credential};
pub use grant::{Grant, GrantSource, Role, Target};
pub use limit::{
    AlertForm, AlertTarget, CountedPer, LimitConfig, LimitKind, LimitRule, LimitUnit, LimitWhen, Measure,
    Period,
};
pub use login::{Invitation, Login, PasswordHash, Session, SignInWay};
pub use money::Money;
pub use price::{ModelPrices, PriceEntry, Rates, Tier, Unit};
pub use principal::{AutoRotate, Owner, Principal, Subject, Team, TenantRole, User, VirtualAccount};
pub use provider::{NO_PLACE, Protocol, ProviderType};
pub use settings::{AccountingFailure, Settings};
pub use token::{Token, TokenState};
pub use usage::{Outcome, TokenCounts, TokenOrigin, UsageRecord, UsageScope, Visible};
