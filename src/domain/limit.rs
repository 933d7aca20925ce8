//! Budgets and rate limits as an admin wrote them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::clock::UnixMillis;

/// Which of the two documents it is. There is at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Requests and tokens in a sliding window; the first rule that fits decides.
    Rate,
    /// Money and tokens in a calendar period; the first rule that fits may refuse, all that fit count.
    Budget,
}

impl LimitKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rate, Self::Budget];

    /// The `type` of its manifest in the public contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "gateway-rate-limiting-config",
            Self::Budget => "gateway-budget-config",
        }
    }

    /// Reads the type of a manifest, also in the older words of the contract.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "gateway-rate-limiting-config" | "rate-limiting-config" => Some(Self::Rate),
            "gateway-budget-config" | "budget-config" => Some(Self::Budget),
            _ => None,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Calls.
    Requests,
    /// Input and output tokens together.
    Tokens,
    /// US dollars.
    Cost,
}

/// Over which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words are the contract's own")]
pub enum Period {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
}

/// What is counted over which time, such as `cost_per_month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitUnit {
    /// What.
    pub measure: Measure,
    /// Over which time.
    pub period: Period,
}

impl LimitUnit {
    /// Reads a unit that a document of that kind may have.
    pub fn parse(kind: LimitKind, text: &str) -> Option<Self> {
        let (measure, period) = text.split_once("_per_")?;
        let measure = match (kind, measure) {
            (LimitKind::Rate, "requests") => Measure::Requests,
            (_, "tokens") => Measure::Tokens,
            (LimitKind::Budget, "cost") => Measure::Cost,
            _ => return None,
        };
        let period = match (kind, period) {
            (LimitKind::Rate, "minute") => Period::Minute,
            (LimitKind::Rate, "hour") => Period::Hour,
            (_, "day") => Period::Day,
            (LimitKind::Budget, "week") => Period::Week,
            (LimitKind::Budget, "month") => Period::Month,
            (LimitKind::Budget, "quarter") => Period::Quarter,
            _ => return None,
        };
        Some(Self { measure, period })
    }
}

impl fmt::Display for LimitUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measure = match self.measure {
            Measure::Requests => "requests",
            Measure::Tokens => "tokens",
            Measure::Cost => "cost",
        };
        let period = match self.period {
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Quarter => "quarter",
        };
        write!(f, "{measure}_per_{period}")
    }
}

/// What has a counter of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CountedPer {
    /// Each user.
    User,
    /// Each virtual account.
    VirtualAccount,
    /// Each team: of a user, all that they are in; of a virtual account, the one that owns it.
    Team,
    /// Each model.
    Model,
    /// Each value of this tag of virtual accounts.
    Tag(String),
}

impl CountedPer {
    /// Reads `user`, `virtualaccount`, `team`, `model` or `metadata.KEY`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "user" => Some(Self::User),
            "virtualaccount" => Some(Self::VirtualAccount),
            "team" => Some(Self::Team),
            "model" => Some(Self::Model),
            _ => {
                text.strip_prefix("metadata.").filter(|key| !key.is_empty()).map(|key| Self::Tag(key.into()))
            }
        }
    }
}

impl fmt::Display for CountedPer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::VirtualAccount => f.write_str("virtualaccount"),
            Self::Team => f.write_str("team"),
            Self::Model => f.write_str("model"),
            Self::Tag(key) => write!(f, "metadata.{key}"),
        }
    }
}

/// Which calls a rule is about. All that is given must fit; an empty part fits every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitWhen {
    /// Any of these calls.
    pub subjects: Vec<Subject>,
    /// Any of these is called, as `account/name`.
    pub models: Vec<String>,
    /// Tags that the calling virtual account has. What a caller sends never counts.
    pub tags: BTreeMap<String, String>,
}

/// How an alert is written for whoever is behind a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertForm {
    /// `{"text": ...}` in Slack's markup.
    Slack,
    /// `{"text": ...}` as Microsoft Teams takes it.
    Teams,
    /// An object with a member for each fact.
    Json,
}

/// Where an alert is posted to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertTarget {
    /// How it is written.
    pub form: AlertForm,
    /// The channel's name. Its URL is a secret of the host: a file of that name.
    pub channel: String,
}

impl AlertTarget {
    /// Whether a text names a channel: what is a file's name everywhere and leads to no other folder.
    pub fn is_channel(text: &str) -> bool {
        (1..=128).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// Its name in the document.
    pub id: String,
    /// Which calls it is about.
    #[serde(default)]
    pub when: LimitWhen,
    /// How much, as exact decimal text: US dollars for cost, else a whole number.
    pub limit: String,
    /// Of what, over which time.
    pub unit: LimitUnit,
    /// What has a counter of its own; nothing: one counter for all.
    #[serde(default)]
    pub per: Vec<CountedPer>,
    /// Counts and never refuses.
    #[serde(default)]
    pub audit_mode: bool,
    /// Percents of the limit that are told of once in a period, ascending.
    #[serde(default)]
    pub alert_percents: Vec<u32>,
    /// Where alerts are posted to, besides the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alert_targets: Vec<AlertTarget>,
}

/// All rules of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Budgets or rates.
    pub kind: LimitKind,
    /// The name in the manifest.
    pub name: String,
    /// Where days begin: minutes east of UTC.
    #[serde(default)]
    pub offset_minutes: i32,
    /// In place of the offset: the name of a place in the IANA database, such as `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// From the top down.
    pub rules: Vec<LimitRule>,
    /// The manifest as it was applied.
    pub manifest: serde_json::Value,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
    /// The subject that made it.
    pub created_by: String,
}
