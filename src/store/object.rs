//! The keyspace: `kind/name -> object`, each with the revision of the commit that last wrote it.

use serde::{Deserialize, Serialize};

use super::audit::AuditHead;
use crate::domain::{
    AuditEntry, Grant, LimitConfig, LimitKind, Login, ProviderAccount, Session, Settings, Team, Token, User,
    VirtualAccount,
};
use crate::prices::Catalogue;

/// The place of an object: `kind/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(super) String);

impl Key {
    /// `user/EMAIL`
    pub fn user(email: &str) -> Self {
        Self(format!("user/{email}"))
    }

    /// `team/NAME`
    pub fn team(name: &str) -> Self {
        Self(format!("team/{name}"))
    }

    /// `account/NAME`
    pub fn account(name: &str) -> Self {
        Self(format!("account/{name}"))
    }

    /// `virtual-account/NAME`
    pub fn virtual_account(name: &str) -> Self {
        Self(format!("virtual-account/{name}"))
    }

    /// `token/ID`
    pub fn token(id: &str) -> Self {
        Self(format!("token/{id}"))
    }

    /// `grant/SUBJECT|ROLE|TARGET`; none of the parts can hold a bar.
    pub fn grant(grant: &Grant) -> Self {
        Self(format!("grant/{}|{}|{}", grant.subject, grant.role.as_str(), grant.target))
    }

    /// `login/EMAIL`
    pub fn login(email: &str) -> Self {
        Self(format!("login/{email}"))
    }

    /// `session/ID`
    pub fn session(id: &str) -> Self {
        Self(format!("session/{id}"))
    }

    /// `settings/tenant`
    pub fn settings() -> Self {
        Self("settings/tenant".to_owned())
    }

    /// `limits/TYPE`
    pub fn limits(kind: LimitKind) -> Self {
        Self(format!("limits/{}", kind.as_str()))
    }

    /// `catalogue/prices`
    pub fn catalogue() -> Self {
        Self("catalogue/prices".to_owned())
    }

    /// `role-binding/NAME`: no object is stored there; the audit log names it.
    pub fn role_binding(name: &str) -> Self {
        Self(format!("role-binding/{name}"))
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Anything that the keyspace holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the variants are the nouns of `domain`")]
#[allow(clippy::large_enum_variant, reason = "few at a time, on their way to the disk")]
pub enum Object {
    User(User),
    Team(Team),
    Account(ProviderAccount),
    VirtualAccount(VirtualAccount),
    Token(Token),
    Grant(Grant),
    Settings(Settings),
    Limits(LimitConfig),
    Catalogue(Catalogue),
    Login(Login),
    Session(Session),
}

impl Object {
    /// Where this object lives.
    pub fn key(&self) -> Key {
        match self {
            Self::User(user) => Key::user(user.email.as_str()),
            Self::Team(team) => Key::team(team.name.as_str()),
            Self::Account(account) => Key::account(account.name.as_str()),
            Self::VirtualAccount(account) => Key::virtual_account(account.name.as_str()),
            Self::Token(token) => Key::token(token.id.as_str()),
            Self::Grant(grant) => Key::grant(grant),
            Self::Settings(_) => Key::settings(),
            Self::Limits(config) => Key::limits(config.kind),
            Self::Catalogue(_) => Key::catalogue(),
            Self::Login(login) => Key::login(login.user.as_str()),
            Self::Session(session) => Key::session(session.id.as_str()),
        }
    }
}

/// What a write supposes about the object that it replaces. When it is wrong the whole change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// It is the one of this revision.
    Revision(u64),
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "few at a time, on their way to the disk")]
pub enum Write {
    /// Store this object at its key.
    Put(Object, Expect),
    /// Remove the object of this revision.
    Delete(Key, u64),
    /// Change nothing, but only go on when the object is still the one of this revision.
    Check(Key, u64),
    /// Remove the oldest audit records up to this one, which `Store::prunable_audit` has found; the chain is
    /// checked from there on.
    PruneAudit(AuditHead),
}

/// A transaction: all of it happens, with its audit entries, or nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The steps; no key twice.
    pub writes: Vec<Write>,
    /// What the audit log keeps of it.
    pub audit: Vec<AuditEntry>,
}
