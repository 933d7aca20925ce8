//! Which rules fit a call. Pure: decided by who calls what, and the virtual account's own tags; nothing that a caller
//! sends takes part.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::counter::{Amount, Table, Threshold};
use crate::domain::{
    CountedPer, LimitConfig, LimitRule, Measure, Money, Principal, Subject, Team, UsageRecord,
};
use crate::store::World;

/// What rules see of a call.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Who calls: a user or a virtual account. `None` only in a supposed call that names nobody.
    subject: Option<Subject>,
    /// The user's teams, without `everyone`, or the team that owns the virtual account.
    teams: Cow<'a, [Subject]>,
    /// `account/name`.
    model: Cow<'a, str>,
    /// The virtual account's.
    tags: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Facts<'a> {
    /// Of a call that is about to begin. `None` for who calls no models.
    pub fn of_call(principal: &'a Principal, model: String, world: &'a World) -> Option<Self> {
        let model = Cow::Owned(model);
        match principal {
            Principal::User { user, .. } => Some(Self {
                subject: Some(Subject::User(user.email.clone())),
                teams: Cow::Borrowed(world.team_subjects_of(user.email.as_str())),
                model,
                tags: None,
            }),
            Principal::VirtualAccount { account, .. } => Some(Self {
                subject: Some(Subject::VirtualAccount(account.name.clone())),
                teams: account.owned_by.iter().cloned().map(Subject::Team).collect(),
                model,
                tags: Some(&account.tags),
            }),
            Principal::LocalAdministrator { .. } => None,
        }
    }

    /// Of a call that is over. Tags, and teams that were not noted, are those of now.
    pub(super) fn of_record(record: &'a UsageRecord, world: &'a World) -> Option<Self> {
        let subject = Subject::parse(&record.subject).ok()?;
        let (teams, tags) = match &subject {
            Subject::User(email) if record.teams.is_empty() => {
                (Cow::Borrowed(world.team_subjects_of(email.as_str())), None)
            }
            Subject::User(_) => {
                let teams =
                    record.teams.iter().filter_map(|name| Subject::parse(&format!("team:{name}")).ok());
                (teams.collect(), None)
            }
            Subject::VirtualAccount(name) => {
                let account = world.virtual_account(name.as_str());
                let owner = account.and_then(|account| account.owned_by.clone());
                (owner.into_iter().map(Subject::Team).collect(), account.map(|account| &account.value.tags))
            }
            Subject::Team(_) => return None,
        };
        Some(Self { subject: Some(subject), teams, model: Cow::Borrowed(&record.model), tags })
    }

    /// Of a call that nobody makes: an admin asks what would hold it. `subject` is a user or a virtual account.
    pub fn supposed(
        subject: Option<Subject>,
        teams: Vec<Subject>,
        model: String,
        tags: Option<&'a BTreeMap<String, String>>,
    ) -> Self {
        Self { subject, teams: Cow::Owned(teams), model: Cow::Owned(model), tags }
    }

    fn is(&self, wanted: &Subject) -> bool {
        match wanted {
            Subject::Team(name) => {
                (name.as_str() == Team::EVERYONE && matches!(self.subject, Some(Subject::User(_))))
                    || self.teams.contains(wanted)
            }
            _ => self.subject.as_ref() == Some(wanted),
        }
    }

    fn tag(&self, key: &str) -> Option<&str> {
        self.tags?.get(key).map(String::as_str)
    }
}

/// A rule, ready to be compared with calls.
#[derive(Debug)]
pub(super) struct Rule {
    /// As it was written.
    pub spec: LimitRule,
    /// In the counters' unit.
    pub limit: Amount,
    /// The alerts' percents, in the counters' unit.
    pub thresholds: Vec<Threshold>,
    /// Its counters.
    pub table: Arc<Table>,
}

impl Rule {
    pub(super) fn new(spec: &LimitRule, table: Arc<Table>) -> Self {
        // What was stored has been checked; should it not be a number all the same, nothing is allowed.
        let limit = match spec.unit.measure {
            Measure::Cost => Money::parse(&spec.limit).unwrap_or_default().units(),
            Measure::Requests | Measure::Tokens => spec.limit.parse().unwrap_or(0),
        };
        let thresholds = spec
            .alert_percents
            .iter()
            .map(|percent| Threshold {
                percent: *percent,
                amount: limit.saturating_mul(i128::from(*percent)) / 100,
            })
            .collect();
        Self { spec: spec.clone(), limit, thresholds, table }
    }

    /// What tells the counters of one rule from those of another: all but the limit, what it does and what it tells.
    pub(super) fn key(spec: &LimitRule, config: &LimitConfig) -> String {
        let parts =
            (config.kind, config.offset_minutes, &config.zone, &spec.id, &spec.when, &spec.unit, &spec.per);
        serde_json::to_string(&parts).unwrap_or_else(|_| spec.id.clone())
    }

    fn fits(&self, facts: &Facts<'_>) -> bool {
        let when = &self.spec.when;
        (when.subjects.is_empty() || when.subjects.iter().any(|subject| facts.is(subject)))
            && (when.models.is_empty() || when.models.iter().any(|model| *model == facts.model))
            && when.tags.iter().all(|(key, value)| facts.tag(key) == Some(value))
    }

    /// The counters that a call is counted in; none when the rule is not about the call. A rule that counts per user is
    /// about users, one per virtual account about those (per both: about either), per team about who is in one, per
    /// tag about who has it.
    pub(super) fn entities(&self, facts: &Facts<'_>) -> Vec<String> {
        if !self.fits(facts) {
            return Vec::new();
        }
        let per = &self.spec.per;
        let mut entities = vec![String::new()];
        if per.contains(&CountedPer::User) || per.contains(&CountedPer::VirtualAccount) {
            let (wanted, subject) = match &facts.subject {
                Some(subject @ Subject::User(_)) => (CountedPer::User, subject),
                Some(subject @ Subject::VirtualAccount(_)) => (CountedPer::VirtualAccount, subject),
                Some(Subject::Team(_)) | None => return Vec::new(),
            };
            if !per.contains(&wanted) {
                return Vec::new();
            }
            entities = extended(&entities, std::iter::once(subject.to_string()));
        }
        for part in per {
            match part {
                CountedPer::User | CountedPer::VirtualAccount => {}
                CountedPer::Team => {
                    entities = extended(&entities, facts.teams.iter().map(Subject::to_string))
                }
                CountedPer::Model => {
                    // Only a supposed call may be without one.
                    let model = Some(&facts.model).filter(|model| !model.is_empty());
                    entities = extended(&entities, model.map(|model| format!("model:{model}")).into_iter());
                }
                CountedPer::Tag(key) => {
                    let tag = facts.tag(key).map(|value| format!("metadata.{key}:{value}"));
                    entities = extended(&entities, tag.into_iter());
                }
            }
        }
        entities
    }

    /// An amount in words.
    pub(super) fn words(&self, amount: Amount) -> String {
        match self.spec.unit.measure {
            Measure::Cost => format!("${}", Money::from_units(amount)),
            Measure::Requests | Measure::Tokens => amount.to_string(),
        }
    }
}

/// Each of the first with each of the second.
fn extended(entities: &[String], values: impl Iterator<Item = String>) -> Vec<String> {
    let values: Vec<String> = values.collect();
    let with = |entity: &String, value: &String| {
        if entity.is_empty() { value.clone() } else { format!("{entity} {value}") }
    };
    entities.iter().flat_map(|entity| values.iter().map(move |value| with(entity, value))).collect()
}
