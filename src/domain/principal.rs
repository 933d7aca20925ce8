//! Who calls, and who can be given something.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::id::{Email, InvalidName, SlugName, TeamName, TokenId};

/// What a user may do in the tenant as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantRole {
    /// Sees and manages everything.
    Admin,
    /// Has what it was granted.
    Member,
}

impl TenantRole {
    /// The word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    /// The role's name in the public contract.
    pub fn contract_name(self) -> &'static str {
        match self {
            Self::Admin => "tenant-admin",
            Self::Member => "tenant-member",
        }
    }

    /// Reads either form.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "admin" | "tenant-admin" => Some(Self::Admin),
            "member" | "tenant-member" => Some(Self::Member),
            _ => None,
        }
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name of this object.
    pub email: Email,
    /// The name shown to people; may be empty.
    pub display_name: String,
    /// Tenant-wide role.
    pub role: TenantRole,
    /// A deactivated user has no tokens and can not be given any.
    pub active: bool,
    /// When this user was made.
    pub created_at: UnixMillis,
    /// When this object last changed.
    pub updated_at: UnixMillis,
}

/// A named set of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// The name of this object.
    pub name: TeamName,
    /// Free text.
    pub description: String,
    /// Users in it.
    pub members: BTreeSet<Email>,
    /// Users who may change the members; they need not be members.
    pub managers: BTreeSet<Email>,
    /// The manifest as it was last applied, so that it can be shown again as it was written.
    #[serde(default)]
    pub manifest: Option<serde_json::Value>,
    /// When this team was made.
    pub created_at: UnixMillis,
    /// When this object last changed.
    pub updated_at: UnixMillis,
}

impl Team {
    /// The built-in team that holds every user and no virtual account.
    pub const EVERYONE: &'static str = "everyone";
}

/// New tokens by themselves, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoRotate {
    /// From one token to the next; at least 30.
    pub interval_days: u32,
    /// How long the old one works beside the new one; at least 1.
    pub grace_days: u32,
}

/// An application's identity; no person stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualAccount {
    /// The name of this object.
    pub name: SlugName,
    /// Past this time none of its tokens work.
    pub expires_at: Option<UnixMillis>,
    /// What usage is tagged with.
    pub tags: std::collections::BTreeMap<String, String>,
    /// The team that it belongs to.
    #[serde(default)]
    pub owned_by: Option<TeamName>,
    /// Whether and when its tokens are replaced by themselves.
    #[serde(default)]
    pub auto_rotate: Option<AutoRotate>,
    /// Whether it ever had a token: the first may be minted by reading it, later ones not, until rotation by itself
    /// takes this back.
    #[serde(default)]
    pub had_token: bool,
    /// The manifest as it was last applied, so that it can be shown again as it was written.
    #[serde(default)]
    pub manifest: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When this object last changed.
    pub updated_at: UnixMillis,
    /// The subject that made it, such as `user:ada@example.com`.
    pub created_by: String,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A user: the token is a personal access token.
    User(Email),
    /// A virtual account: the token is a virtual access token.
    VirtualAccount(SlugName),
}

impl Owner {
    /// The owner as one who can be granted something.
    pub fn subject(&self) -> Subject {
        match self {
            Self::User(email) => Subject::User(email.clone()),
            Self::VirtualAccount(name) => Subject::VirtualAccount(name.clone()),
        }
    }
}

/// One who can be given a grant, written `user:EMAIL`, `team:NAME` or `virtualaccount:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One person.
    User(Email),
    /// Everyone in a team, while they are in it.
    Team(TeamName),
    /// One application.
    VirtualAccount(SlugName),
}

impl Subject {
    /// Reads the written form.
    ///
    /// # Errors
    /// A sentence that names the forms.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text.split_once(':') {
            Some(("user", email)) => Email::parse(email).map(Self::User),
            Some(("team", name)) => TeamName::parse(name).map(Self::Team),
            Some(("virtualaccount", name)) => SlugName::parse(name).map(Self::VirtualAccount),
            _ => Err(InvalidName(format!(
                "'{text}' is not a subject; write user:EMAIL, team:NAME or virtualaccount:NAME"
            ))),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(email) => write!(f, "user:{email}"),
            Self::Team(name) => write!(f, "team:{name}"),
            Self::VirtualAccount(name) => write!(f, "virtualaccount:{name}"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::deserialize_name(deserializer, Self::parse)
    }
}

/// Who makes a call, established by `authn` from a token (or by the local socket, for administration).
#[derive(Clone, Debug)]
pub enum Principal {
    /// A person, acting through one of their tokens.
    User {
        /// The person.
        user: Arc<User>,
        /// The token that was shown.
        token_id: TokenId,
    },
    /// An application, acting through one of its tokens.
    VirtualAccount {
        /// The application.
        account: Arc<VirtualAccount>,
        /// The token that was shown.
        token_id: TokenId,
    },
    /// The administrator of this host, who opened the admin socket or the store itself.
    LocalAdministrator {
        /// The peer's user id.
        uid: u32,
    },
}

impl Principal {
    /// The email, the virtual account's name or `uid:N`: what error messages and logs call this principal.
    pub fn name(&self) -> String {
        match self {
            Self::User { user, .. } => user.email.to_string(),
            Self::VirtualAccount { account, .. } => account.name.to_string(),
            Self::LocalAdministrator { uid } => format!("uid:{uid}"),
        }
    }

    /// The written subject: `user:...`, `virtualaccount:...` or `local:uid:N`. Used for audit and usage.
    pub fn subject_text(&self) -> String {
        match self {
            Self::User { user, .. } => ["user:", user.email.as_str()].concat(),
            Self::VirtualAccount { account, .. } => ["virtualaccount:", account.name.as_str()].concat(),
            Self::LocalAdministrator { uid } => format!("local:uid:{uid}"),
        }
    }

    /// The token that was shown, if one was.
    pub fn token_id(&self) -> Option<&TokenId> {
        match self {
            Self::User { token_id, .. } | Self::VirtualAccount { token_id, .. } => Some(token_id),
            Self::LocalAdministrator { .. } => None,
        }
    }
}
