//! Budgets and rate limits: applied and deleted by admins, as one document of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::{Audited, Draft};
use super::{Manage, View, not_found, refused};
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{LimitConfig, LimitKind, Principal, Subject, Team};
use crate::failure::Failure;
use crate::limits::{Facts, Level};
use crate::manifest::LimitsSpec;
use crate::store::{Key, Object, World};

impl Audited for LimitConfig {
    fn audited(&self) -> Value {
        json!({"name": self.name, "manifest": self.manifest})
    }
}

/// Drafts what a document changes. A rule about somebody who does not exist is a mistake that would limit nobody.
pub(super) fn build(
    draft: &mut Draft,
    view: &View,
    spec: &LimitsSpec,
    manifest: &Value,
) -> Result<(), Failure> {
    let world = &view.world;
    for rule in &spec.rules {
        for subject in &rule.when.subjects {
            let exists = match subject {
                Subject::User(email) => world.user(email.as_str()).is_some(),
                Subject::Team(name) => name.as_str() == Team::EVERYONE || world.team(name.as_str()).is_some(),
                Subject::VirtualAccount(name) => world.virtual_account(name.as_str()).is_some(),
            };
            if !exists {
                return Err(refused(format!(
                    "Rule '{}' is about '{subject}', which does not exist",
                    rule.id
                )));
            }
        }
        for model in &rule.when.models {
            if !model_exists(world, model) {
                return Err(refused(format!(
                    "Rule '{}' is about the model '{model}', which does not exist",
                    rule.id
                )));
            }
        }
    }
    let old = world.limits(spec.kind);
    let config = LimitConfig {
        kind: spec.kind,
        name: spec.name.clone(),
        offset_minutes: spec.offset_minutes,
        zone: spec.zone.clone(),
        rules: spec.rules.clone(),
        manifest: manifest.clone(),
        created_at: old.map_or(view.now, |old| old.created_at),
        updated_at: old.map_or(view.now, |old| old.updated_at),
        created_by: old.map_or_else(|| view.principal.subject_text(), |old| old.created_by.clone()),
    };
    let key = Key::limits(spec.kind);
    match old {
        None => {
            draft.audit(view, "limits.create", &key, Value::Null, config.audited());
            draft.create(Object::Limits(config));
        }
        Some(old) if config == **old => {}
        Some(old) => {
            let config = LimitConfig { updated_at: view.now, ..config };
            draft.audit(view, "limits.update", &key, old.audited(), config.audited());
            draft.replace(Object::Limits(config), old.revision);
        }
    }
    Ok(())
}

impl Manage {
    /// The document of one kind.
    ///
    /// # Errors
    /// When the caller is no admin, or there is none.
    pub fn limit_config(&self, principal: &Principal, kind: LimitKind) -> Result<Arc<LimitConfig>, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        let config = view.world.limits(kind).ok_or_else(|| not_found("config", kind.as_str()))?;
        Ok(Arc::clone(&config.value))
    }

    /// Takes the document of one kind away: nothing of that kind is limited from then on.
    ///
    /// # Errors
    /// When the caller is no admin, or there is none.
    pub(super) fn delete_limits(&self, principal: &Principal, kind: LimitKind) -> Result<(), Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let old = view.world.limits(kind).ok_or_else(|| not_found("config", kind.as_str()))?;
            let mut draft = Draft::default();
            let key = Key::limits(kind);
            draft.audit(view, "limits.delete", &key, old.audited(), Value::Null);
            draft.delete(key, old.revision);
            Ok((draft, ()))
        })
    }
}

/// Whether there is a model of that name, as `account/name`.
fn model_exists(world: &World, model: &str) -> bool {
    model.split_once('/').is_some_and(|(account, name)| {
        let account = world.account(account);
        account.is_some_and(|account| account.spec.models.keys().any(|key| key.as_str() == name))
    })
}

/// Counters that one answer shows.
const MAX_LEVELS: usize = 10_000;

/// A call that nobody makes: what is not given fits no rule that asks for it.
#[derive(Clone, Debug, Default)]
pub struct SupposedCall {
    /// The email of who calls.
    pub user: Option<String>,
    /// Or the name of the virtual account.
    pub virtual_account: Option<String>,
    /// In place of those that the caller is in.
    pub teams: Option<Vec<String>>,
    /// `account/name`.
    pub model: Option<String>,
    /// In place of the virtual account's tags.
    pub tags: Option<BTreeMap<String, String>>,
}

impl Manage {
    /// The document of one kind, if there is one.
    ///
    /// # Errors
    /// When the caller is no admin.
    pub fn limit_config_if_any(
        &self,
        principal: &Principal,
        kind: LimitKind,
    ) -> Result<Option<Arc<LimitConfig>>, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        Ok(view.world.limits(kind).map(|config| Arc::clone(&config.value)))
    }

    /// How far every counter of one kind is used.
    ///
    /// # Errors
    /// When the caller is no admin.
    pub fn limit_levels(&self, principal: &Principal, kind: LimitKind) -> Result<Vec<Level>, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        Ok(self.limits.levels(&view.world, kind, view.now, MAX_LEVELS))
    }

    /// How far the budgets are used that a supposed call would count in. Counts and changes nothing.
    ///
    /// # Errors
    /// When the caller is no admin, or the call is about what does not exist.
    pub fn simulate_budgets(
        &self,
        principal: &Principal,
        supposed: &SupposedCall,
    ) -> Result<Vec<Level>, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        let world = &view.world;
        let missing = |noun: &str, name: &str| refused(format!("There is no {noun} '{name}'"));
        let team = |name: &String| match Subject::parse(&format!("team:{name}")) {
            Ok(subject) if world.team(name).is_some() => Ok(subject),
            _ => Err(missing("team", name)),
        };
        let teams =
            supposed.teams.as_ref().map(|teams| teams.iter().map(team).collect::<Result<Vec<_>, _>>());
        let teams = teams.transpose()?;
        let (subject, own_teams, own_tags) = match (&supposed.user, &supposed.virtual_account) {
            (Some(_), Some(_)) => return Err(refused("Give 'user' or 'virtual_account', not both")),
            (Some(email), None) => {
                let user = world.user(email).ok_or_else(|| missing("user", email))?;
                let teams = world.team_subjects_of(user.email.as_str()).to_vec();
                (Some(Subject::User(user.email.clone())), teams, None)
            }
            (None, Some(name)) => {
                let account = world.virtual_account(name).ok_or_else(|| missing("virtual account", name))?;
                let owner = account.owned_by.iter().cloned().map(Subject::Team).collect();
                (Some(Subject::VirtualAccount(account.name.clone())), owner, Some(&account.value.tags))
            }
            (None, None) => (None, Vec::new(), None),
        };
        // People have no tags, as in truth.
        let tags = if supposed.user.is_some() { None } else { supposed.tags.as_ref().or(own_tags) };
        let model = supposed.model.clone().unwrap_or_default();
        if supposed.model.is_some() && !model_exists(world, &model) {
            return Err(missing("model", &model));
        }
        let facts = Facts::supposed(subject, teams.unwrap_or(own_teams), model, tags);
        Ok(self.limits.matched_levels(world, &facts, view.now))
    }

    /// Takes one budget away.
    ///
    /// # Errors
    /// When the caller is no admin, or there is none of that id.
    pub fn delete_budget(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let unknown = || Failure::NotFound(format!("There is no budget '{id}'").into());
            let old = view.world.limits(LimitKind::Budget).ok_or_else(unknown)?;
            let mut config = LimitConfig::clone(&old.value);
            config.rules.retain(|rule| rule.id != id);
            if config.rules.len() == old.rules.len() {
                return Err(unknown());
            }
            if let Some(rules) = config.manifest.get_mut("rules").and_then(Value::as_array_mut) {
                rules.retain(|rule| rule.get("id").and_then(Value::as_str) != Some(id));
            }
            config.updated_at = view.now;
            let mut draft = Draft::default();
            let key = Key::limits(LimitKind::Budget);
            draft.audit(view, "limits.update", &key, old.audited(), config.audited());
            draft.replace(Object::Limits(config), old.revision);
            Ok((draft, ()))
        })
    }

    /// How far the budgets are used that the caller's own calls count in, whatever model they are for.
    ///
    /// # Errors
    /// When the caller is nobody any more.
    pub fn own_budget_levels(&self, principal: &Principal) -> Result<Vec<Level>, Failure> {
        // A virtual account may ask this too.
        let principal = self.session(principal)?;
        let view = View { world: self.store.snapshot(), principal, now: UnixMillis::now() };
        let mut levels: Vec<Level> = Vec::new();
        let mut models: Vec<String> = vec![String::new()];
        for account in view.world.accounts() {
            let name = account.spec.name.as_str();
            let used = account
                .spec
                .models
                .keys()
                .filter(|model| authz::may_use(&view.principal, name, model.as_str(), &view.world));
            models.extend(used.map(|model| format!("{name}/{model}")));
            if models.len() > MAX_LEVELS {
                break;
            }
        }
        for model in models {
            let Some(facts) = Facts::of_call(&view.principal, model, &view.world) else { break };
            for level in self.limits.matched_levels(&view.world, &facts, view.now) {
                if !levels.iter().any(|seen| seen.rule.id == level.rule.id && seen.entity == level.entity) {
                    levels.push(level);
                }
            }
        }
        Ok(levels)
    }
}
