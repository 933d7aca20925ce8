//! What one manifest changes, on one state. A draft is empty when the state is what the manifest says already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::apply::Part;
use super::draft::{Audited, Draft};
use super::grant::MAX_GRANTS;
use super::{Manage, View, check_text, grant, in_field, invalid, not_found, refused, team, user};
use crate::domain::{
    Grant, GrantSource, Principal, Role, Settings, Subject, Target, Team, TenantRole, User, VirtualAccount,
};
use crate::failure::Failure;
use crate::id::{Email, SlugName, TeamName};
use crate::manifest::{
    AccountSpec, Document, Permission, RoleBindingSpec, SettingsSpec, Spec, TeamSpec, UserSpec,
    VirtualAccountSpec,
};
use crate::store::{Key, Object};

/// One grant that a manifest wants, and the field that says so.
type Wanted = BTreeMap<(Subject, Role, Target), String>;

/// What of a source was taken away and what was added, for the audit log.
#[derive(Default)]
struct Settled {
    before: Vec<Value>,
    after: Vec<Value>,
}

impl Manage {
    /// Drafts one part of a document's change.
    pub(super) fn build(&self, view: &View, document: &Document, part: Part) -> Result<Draft, Failure> {
        let mut draft = Draft::default();
        match (&document.spec, part) {
            (Spec::Account(spec), Part::Access) => account_access(&mut draft, view, spec)?,
            (_, Part::Access) => {}
            (Spec::Account(spec), Part::Object) => {
                self.build_account(&mut draft, view, spec, &document.masked)?
            }
            (Spec::User(spec), _) => build_user(&mut draft, view, spec)?,
            (Spec::Team(spec), _) => build_team(&mut draft, view, spec, &document.masked)?,
            (Spec::VirtualAccount(spec), _) => {
                self.build_virtual_account(&mut draft, view, spec, &document.masked)?;
            }
            (Spec::RoleBinding(spec), _) => self.build_role_binding(&mut draft, view, spec)?,
            (Spec::Settings(spec), _) => build_settings(&mut draft, view, spec),
            (Spec::Limits(spec), _) => super::limits::build(&mut draft, view, spec, &document.masked)?,
        }
        Ok(draft)
    }

    fn build_virtual_account(
        &self,
        draft: &mut Draft,
        view: &View,
        spec: &VirtualAccountSpec,
        manifest: &Value,
    ) -> Result<(), Failure> {
        let name = SlugName::parse(&spec.name).map_err(|error| in_field("name", invalid(error)))?;
        if name.as_str() == super::virtual_account::RESERVED {
            let text = format!("'{name}' is not free as a virtual account's name");
            return Err(in_field("name", refused(text)));
        }
        super::virtual_account::check_tags(&spec.tags)?;
        let old = view.world.virtual_account(name.as_str());
        let owned_by = match &spec.owned_by {
            None => None,
            Some(team) => {
                let team = view
                    .world
                    .team(team)
                    .ok_or_else(|| in_field("ownedBy.team", refused(format!("There is no team '{team}'"))))?;
                if old.is_none_or(|old| old.owned_by.as_ref() != Some(&team.name)) {
                    draft.guard_team(team);
                }
                Some(team.name.clone())
            }
        };
        let mut account = VirtualAccount {
            expires_at: spec.expires_at,
            tags: spec.tags.clone(),
            owned_by,
            auto_rotate: spec.auto_rotate,
            had_token: old.is_some_and(|old| old.had_token),
            manifest: Some(manifest.clone()),
            created_at: old.map_or(view.now, |old| old.created_at),
            updated_at: old.map_or(view.now, |old| old.updated_at),
            created_by: old.map_or_else(|| view.principal.subject_text(), |old| old.created_by.clone()),
            name,
        };
        let subject = Subject::VirtualAccount(account.name.clone());
        let mut settled = Settled::default();
        if let Some(permissions) = &spec.permissions {
            if permissions.len() > MAX_GRANTS {
                return Err(refused(format!("A virtual account has at most {MAX_GRANTS} permissions")));
            }
            let wanted = self.wanted(view, std::slice::from_ref(&subject), permissions)?;
            let source = source("virtual-account", account.name.as_str());
            let own = view.world.grants_of(&subject).iter().filter(|grant| grant.source == source);
            settled = settle(draft, view, &source, own, &wanted, Some(&subject))?;
        }
        let key = Key::virtual_account(account.name.as_str());
        let after = |account: &VirtualAccount, settled: Settled| json!({"account": account.audited(), "grants": settled.after});
        match old {
            None => {
                draft.audit(view, "virtual-account.create", &key, Value::Null, after(&account, settled));
                draft.create(Object::VirtualAccount(account));
            }
            Some(old) if account == **old && draft.is_empty() => {}
            Some(old) => {
                account.updated_at = view.now;
                let before = json!({"account": old.audited(), "grants": settled.before});
                draft.audit(view, "virtual-account.update", &key, before, after(&account, settled));
                draft.replace(Object::VirtualAccount(account), old.revision);
            }
        }
        Ok(())
    }

    fn build_role_binding(
        &self,
        draft: &mut Draft,
        view: &View,
        spec: &RoleBindingSpec,
    ) -> Result<(), Failure> {
        let mut subjects = Vec::with_capacity(spec.subjects.len());
        for (at, subject) in spec.subjects.iter().enumerate() {
            let subject = Subject::parse(subject).map_err(invalid);
            subjects.push(subject.map_err(|failure| in_field(&format!("subjects[{at}]"), failure))?);
        }
        let wanted = self.wanted(view, &subjects, &spec.permissions)?;
        let source = source("role-binding", &spec.name);
        let own = view.world.grants_from(&source).into_iter();
        let Settled { before, after } = settle(draft, view, &source, own, &wanted, None)?;
        audit_grants(draft, view, "role-binding.apply", &spec.name, before, after);
        Ok(())
    }

    fn wanted(
        &self,
        view: &View,
        subjects: &[Subject],
        permissions: &[Permission],
    ) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::new();
        for (at, permission) in permissions.iter().enumerate() {
            let field = format!("permissions[{at}]");
            let (role, target) = self.given(view, permission).map_err(|failure| in_field(&field, failure))?;
            for subject in subjects {
                wanted.insert((subject.clone(), role, target.clone()), field.clone());
            }
        }
        Ok(wanted)
    }

    /// Takes away what a role binding gave.
    pub(super) fn delete_role_binding(&self, principal: &Principal, name: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let mut draft = Draft::default();
            let source = source("role-binding", name);
            let mut before = Vec::new();
            for grant in view.world.grants_from(&source) {
                draft.delete(Key::grant(grant), grant.revision);
                before.push(grant.audited());
            }
            if before.is_empty() {
                return Err(not_found("role-binding", name));
            }
            audit_grants(&mut draft, view, "role-binding.delete", name, before, Vec::new());
            Ok((draft, ()))
        })
    }
}

fn source(kind: &str, name: &str) -> GrantSource {
    GrantSource::Manifest(format!("{kind}/{name}"))
}

/// Grants of a binding have no object of their own; the entry names the binding through the grants' source.
fn audit_grants(
    draft: &mut Draft,
    view: &View,
    action: &str,
    name: &str,
    before: Vec<Value>,
    after: Vec<Value>,
) {
    if !draft.is_empty() {
        let key = Key::role_binding(name);
        draft.audit(view, action, &key, json!({"grants": before}), json!({"grants": after}));
    }
}

/// Makes the grants of a source what is wanted. One that is held from elsewhere counts, and stays.
fn settle<'v>(
    draft: &mut Draft,
    view: &View,
    source: &GrantSource,
    own: impl Iterator<Item = &'v crate::store::Versioned<Grant>>,
    wanted: &Wanted,
    itself: Option<&Subject>,
) -> Result<Settled, Failure> {
    let mut settled = Settled::default();
    for grant in own {
        settled.before.push(grant.audited());
        let triple = (grant.subject.clone(), grant.role, grant.target.clone());
        if wanted.contains_key(&triple) {
            settled.after.push(grant.audited());
        } else {
            draft.delete(Key::grant(grant), grant.revision);
        }
    }
    let mut counts: BTreeMap<&Subject, usize> = BTreeMap::new();
    for ((subject, role, target), field) in wanted {
        let at = |failure| in_field(field, failure);
        grant::check_role(subject, *role, target).map_err(at)?;
        if grant::find(view, subject, *role, target).is_some() {
            continue;
        }
        grant::guard_target(draft, view, target).map_err(at)?;
        // The virtual account itself may be made by the same draft.
        if itself != Some(subject) {
            grant::guard_subject(draft, view, subject).map_err(at)?;
        }
        let count = counts.entry(subject).or_insert_with(|| view.world.grants_of(subject).len());
        if *count >= MAX_GRANTS {
            return Err(at(refused(format!("{subject} has {MAX_GRANTS} grants; revoke some first"))));
        }
        *count += 1;
        let grant = Grant {
            subject: subject.clone(),
            role: *role,
            target: target.clone(),
            source: source.clone(),
            created_at: view.now,
            created_by: view.principal.subject_text(),
        };
        settled.after.push(grant.audited());
        draft.create(Object::Grant(grant));
    }
    Ok(settled)
}

/// The grants that an account's manifest gives. What it does not speak of stays.
fn account_access(draft: &mut Draft, view: &View, spec: &AccountSpec) -> Result<(), Failure> {
    let Some(account) = view.world.account(&spec.name) else { return Ok(()) };
    let name = &account.spec.name;
    let mut wanted = Wanted::new();
    let mut spoken_of = BTreeSet::new();
    if let Some(collaborators) = &spec.collaborators {
        spoken_of.insert(None);
        let target = Target { account: name.clone(), model: None };
        for (at, (subject, role)) in collaborators.iter().enumerate() {
            let field = format!("collaborators[{at}]");
            let subject = Subject::parse(subject)
                .map_err(|error| in_field(&format!("{field}.subject"), invalid(error)))?;
            let role =
                Role::parse(role).map_err(|error| in_field(&format!("{field}.role_id"), invalid(error)))?;
            wanted.insert((subject, role, target.clone()), field);
        }
    }
    for (at, model) in spec.models.iter().flatten().enumerate() {
        let Some(subjects) = &model.authorized_subjects else { continue };
        let Some((model, _)) = account.spec.models.get_key_value(model.name.as_str()) else { continue };
        let target = Target { account: name.clone(), model: Some(model.clone()) };
        spoken_of.insert(target.model.clone());
        for (nth, subject) in subjects.iter().enumerate() {
            let field = format!("integrations[{at}].authorized_subjects[{nth}]");
            let subject = Subject::parse(subject).map_err(|error| in_field(&field, invalid(error)))?;
            wanted.insert((subject, Role::Access, target.clone()), field);
        }
    }
    if spoken_of.is_empty() {
        return Ok(());
    }
    let source = source("provider-account", name.as_str());
    let own = view
        .world
        .grants_from(&source)
        .into_iter()
        .filter(|grant| grant.target.account == *name && spoken_of.contains(&grant.target.model));
    let Settled { before, after } = settle(draft, view, &source, own, &wanted, None)?;
    if !draft.is_empty() {
        let (before, after) = (json!({"grants": before}), json!({"grants": after}));
        draft.audit(view, "account.set-access", &Key::account(name.as_str()), before, after);
    }
    Ok(())
}

fn build_user(draft: &mut Draft, view: &View, spec: &UserSpec) -> Result<(), Failure> {
    let email = Email::parse(&spec.email).map_err(|error| in_field("name", invalid(error)))?;
    check_text("displayName", spec.display_name.as_deref().unwrap_or_default())?;
    let key = Key::user(email.as_str());
    let Some(old) = view.world.user(email.as_str()) else {
        let user = User {
            email,
            display_name: spec.display_name.clone().unwrap_or_default(),
            role: spec.role.unwrap_or(TenantRole::Member),
            active: true,
            created_at: view.now,
            updated_at: view.now,
        };
        draft.audit(view, "user.create", &key, Value::Null, user.audited());
        draft.create(Object::User(user));
        return Ok(());
    };
    let mut user = User::clone(old);
    if let Some(name) = &spec.display_name {
        user.display_name.clone_from(name);
    }
    user.role = spec.role.unwrap_or(user.role);
    if user == **old {
        return Ok(());
    }
    if user.role != TenantRole::Admin {
        user::keep_an_admin(draft, view, old)?;
    }
    user.updated_at = view.now;
    draft.audit(view, "user.update", &key, old.audited(), user.audited());
    draft.replace(Object::User(user), old.revision);
    Ok(())
}

fn build_team(draft: &mut Draft, view: &View, spec: &TeamSpec, manifest: &Value) -> Result<(), Failure> {
    let name = TeamName::parse(&spec.name).map_err(|error| in_field("name", invalid(error)))?;
    if team::RESERVED.contains(&name.as_str()) {
        return Err(in_field("name", refused(format!("'{name}' is not free as a team's name"))));
    }
    check_text("description", &spec.description)?;
    let old = view.world.team(name.as_str());
    let known = old.map(|team| (&team.members, &team.managers));
    let members = known.map(|(members, _)| members);
    let managers = known.map(|(_, managers)| managers);
    let mut team = Team {
        members: team::existing(draft, view, "members", &spec.members, members)?,
        managers: team::existing(draft, view, "managers", &spec.managers, managers)?,
        name,
        description: spec.description.clone(),
        manifest: Some(manifest.clone()),
        created_at: old.map_or(view.now, |team| team.created_at),
        updated_at: old.map_or(view.now, |team| team.updated_at),
    };
    let key = Key::team(team.name.as_str());
    match old {
        None => {
            draft.audit(view, "team.create", &key, Value::Null, team.audited());
            draft.create(Object::Team(team));
        }
        Some(old) if team == **old => {}
        Some(old) => {
            team.updated_at = view.now;
            draft.audit(view, "team.update", &key, old.audited(), team.audited());
            draft.replace(Object::Team(team), old.revision);
        }
    }
    Ok(())
}

fn build_settings(draft: &mut Draft, view: &View, spec: &SettingsSpec) {
    let old = view.world.settings();
    let mut settings = Settings {
        pat_max_validity_days: spec.pat_max_validity_days.unwrap_or(old.pat_max_validity_days),
        pat_may_mint: spec.pat_may_mint.unwrap_or(old.pat_may_mint),
        audit_retention_days: spec.audit_retention_days.unwrap_or(old.audit_retention_days),
        pat_ended_until: old.pat_ended_until,
        limits_when_accounting_fails: spec
            .limits_when_accounting_fails
            .unwrap_or(old.limits_when_accounting_fails),
        logging_settings: spec.logging_settings.unwrap_or(old.logging_settings),
    };
    settings.keep_ended(old, view.now);
    if settings == **old {
        return;
    }
    draft.audit(view, "settings.update", &Key::settings(), old.audited(), settings.audited());
    if old.revision == 0 {
        draft.create(Object::Settings(settings));
    } else {
        draft.replace(Object::Settings(settings), old.revision);
    }
}
