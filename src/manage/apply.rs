//! Applying manifests: one or many, all of them or none.
//!
//! The documents are taken in the order in which they depend on each other. Each drafts its change on the state
//! that the ones before it make, and the drafts are put together into one: of several writes of an object, the
//! first one's supposition holds (it is about the real state) and the last one's value. So what a document relies
//! on may come from another one, and one commit decides about all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::draft::Draft;
use super::{
    AccountView, Manage, View, VirtualAccountView, account, account_settings, not_found, refused, settings,
    user,
};
use crate::authz;
use crate::domain::{
    GrantSource, LimitConfig, LimitKind, Principal, Role, Settings, Subject, Target, Team, TenantRole, User,
};
use crate::failure::Failure;
use crate::manifest::{self, Document, Spec};
use crate::store::{Change, Expect, Key, World, Write};

/// Documents of one apply.
pub const MAX_DOCUMENTS: usize = 1000;

/// What applying a document does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The object is new.
    Create,
    /// It changes.
    Update,
    /// It is so already.
    Unchanged,
}

/// An object as the caller may see it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are the types of manifests")]
pub enum Shown {
    User(Arc<User>),
    Team(Arc<Team>),
    Account(Box<AccountView>),
    VirtualAccount(Box<VirtualAccountView>),
    /// The manifest is all that there is of it.
    RoleBinding(Value),
    Settings(Arc<Settings>),
    Limits(Arc<LimitConfig>),
}

/// What became of one document.
#[derive(Debug)]
pub struct Outcome {
    /// What was done, or would be.
    pub action: Effect,
    /// The manifest of the object as it was.
    pub existing: Option<Value>,
    /// The object as it is now, or would be; only when one document was applied alone.
    pub object: Option<Shown>,
}

/// What became of all of them, in the order in which they were sent.
#[derive(Debug)]
pub struct Applied {
    /// One for each document.
    pub outcomes: Vec<Outcome>,
}

/// What is done with the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Tokens may end by new settings.
    pub tokens_may_end: bool,
    /// Objects that are there already are a conflict.
    pub must_be_new: bool,
    /// Refusals say which document they are about.
    pub many: bool,
}

/// The drafts of several documents, put together.
struct Plan {
    world: Arc<World>,
    writes: BTreeMap<Key, Write>,
    change: Change,
}

impl Plan {
    /// Adds a draft that was made on this plan's state.
    fn add(&mut self, manage: &Manage, draft: Draft) -> Result<(), Failure> {
        let Some(change) = draft.into_change() else { return Ok(()) };
        let unusable = |error| {
            log::error!("a manifest makes an object that can not be used: {error}");
            Failure::Internal
        };
        self.world = Arc::new(manage.store.preview(&self.world, &change).map_err(unusable)?);
        self.change.audit.extend(change.audit);
        for write in change.writes {
            let key = match &write {
                Write::Put(object, _) => object.key(),
                Write::Delete(key, _) | Write::Check(key, _) => key.clone(),
                // No document asks for it.
                Write::PruneAudit(_) => continue,
            };
            let merged = match (self.writes.remove(&key), write) {
                (None | Some(Write::PruneAudit(_)), write) => Some(write),
                (Some(earlier), Write::Check(..) | Write::PruneAudit(_)) => Some(earlier),
                (Some(Write::Put(_, expect)), Write::Put(object, _)) => Some(Write::Put(object, expect)),
                (Some(Write::Delete(_, revision) | Write::Check(_, revision)), Write::Put(object, _)) => {
                    Some(Write::Put(object, Expect::Revision(revision)))
                }
                // What comes and goes within one apply was never there.
                (Some(Write::Put(_, Expect::Absent)), Write::Delete(..)) => None,
                (
                    Some(
                        Write::Put(_, Expect::Revision(revision))
                        | Write::Delete(_, revision)
                        | Write::Check(_, revision),
                    ),
                    Write::Delete(key, _),
                ) => Some(Write::Delete(key, revision)),
            };
            if let Some(merged) = merged {
                self.writes.insert(key, merged);
            }
        }
        Ok(())
    }
}

/// A document's own part, and for accounts the access to them, which may name what later documents make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Object,
    Access,
}

/// The ranks of the steps that give access.
const ACCESS: std::ops::RangeInclusive<u8> = 4..=6;

/// The parts of all documents in the order in which they depend on each other. New admins come before other users:
/// the last admin may hand over in one apply.
fn steps(documents: &[Document]) -> Vec<(u8, usize, Part)> {
    let mut steps = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        let rank = match &document.spec {
            Spec::User(user) if user.role == Some(TenantRole::Admin) => 0,
            Spec::User(_) => 1,
            Spec::Team(_) => 2,
            Spec::Account(_) => 3,
            Spec::VirtualAccount(_) => 4,
            Spec::RoleBinding(_) => 6,
            Spec::Settings(_) | Spec::Limits(_) => 7,
        };
        steps.push((rank, at, Part::Object));
        if matches!(document.spec, Spec::Account(_)) {
            steps.push((5, at, Part::Access));
        }
    }
    steps.sort_unstable();
    steps
}

/// Says which document a refusal is about.
fn about(at: usize, document: &Document, failure: Failure) -> Failure {
    let text = |text| format!("manifests[{at}] ({} '{}'): {text}", document.kind(), document.name()).into();
    match failure {
        Failure::Unprocessable(old) => Failure::Unprocessable(text(old)),
        Failure::Forbidden(old) => Failure::Forbidden(text(old)),
        Failure::Conflict(old) => Failure::Conflict(text(old)),
        Failure::NotFound(old) => Failure::NotFound(text(old)),
        other => other,
    }
}

impl Manage {
    /// Makes objects what their manifests say.
    ///
    /// # Errors
    /// When the caller may not, or one of them can not be: then none of them is.
    pub fn apply(
        &self,
        principal: &Principal,
        documents: &[Document],
        manner: Manner,
    ) -> Result<Applied, Failure> {
        self.change(principal, |view| {
            if documents.len() > MAX_DOCUMENTS {
                return Err(refused(format!("At most {MAX_DOCUMENTS} manifests are applied at once")));
            }
            let located = |at: usize, document: &Document, failure| {
                if manner.many { about(at, document, failure) } else { failure }
            };
            let mut seen = BTreeSet::new();
            for (at, document) in documents.iter().enumerate() {
                allowed(view, document).map_err(|failure| located(at, document, failure))?;
                let group = document.kind().split('/').next().unwrap_or_default();
                let name = match &document.spec {
                    Spec::Limits(spec) => spec.kind.as_str(),
                    _ => document.name(),
                };
                if !seen.insert((group, name)) {
                    return Err(located(at, document, refused("There is another manifest of this object")));
                }
                if manner.must_be_new && exists(view, document) {
                    let text = format!("There is a {group} '{}' already", document.name());
                    return Err(located(at, document, Failure::Conflict(text.into())));
                }
            }
            let mut plan =
                Plan { world: Arc::clone(&view.world), writes: BTreeMap::new(), change: Change::default() };
            let mut changed = BTreeSet::new();
            let steps = steps(documents);
            // What one document gives no longer another one may give, and may have come before: then all that
            // give access have another look.
            for again in [false, true] {
                if again && !plan.writes.values().any(|write| matches!(write, Write::Delete(..))) {
                    break;
                }
                for (rank, at, part) in &steps {
                    let (Some(document), true) = (documents.get(*at), !again || ACCESS.contains(rank)) else {
                        continue;
                    };
                    let draft = self.build(&plan_view(view, &plan), document, *part);
                    let draft = draft.map_err(|failure| located(*at, document, failure))?;
                    if !draft.is_empty() {
                        changed.insert(*at);
                        plan.add(self, draft)?;
                    }
                }
            }
            plan.change.writes = std::mem::take(&mut plan.writes).into_values().collect();
            let after = plan_view(view, &plan);
            let mut outcomes = Vec::with_capacity(documents.len());
            for (at, document) in documents.iter().enumerate() {
                let action = match (exists(view, document), changed.contains(&at)) {
                    (_, false) => Effect::Unchanged,
                    (false, true) => Effect::Create,
                    (true, true) => Effect::Update,
                };
                // Of many, nobody asks for it.
                let (existing, object) = if manner.many {
                    (None, None)
                } else {
                    (self.existing(view, document), Some(self.shown(&after, document)?))
                };
                outcomes.push(Outcome { action, existing, object });
            }
            if self.trial.is_none() && !manner.tokens_may_end {
                let (_, total) = settings::ended_by(view, plan.world.settings());
                if total > 0 {
                    let text = format!("{total} tokens would end now by pat_max_validity_days; send \"force\": true to end them");
                    return Err(Failure::Conflict(text.into()));
                }
            }
            let draft = if changed.is_empty() { Draft::default() } else { Draft::of_change(plan.change) };
            Ok((draft, Applied { outcomes }))
        })
    }

    /// The manifest of the object that a document is about: as it was sent, while the object still is what that
    /// says; else one that says what the object is. A secret is shown to those who know it.
    fn existing(&self, view: &View, document: &Document) -> Option<Value> {
        let stored = match &document.spec {
            Spec::Team(team) => view.world.team(&team.name)?.manifest.as_ref(),
            Spec::VirtualAccount(spec) => view.world.virtual_account(&spec.name)?.manifest.as_ref(),
            Spec::Account(spec) => view.world.account(&spec.name)?.spec.manifest.as_ref(),
            Spec::Limits(spec) => Some(&view.world.limits(spec.kind)?.manifest),
            Spec::User(_) | Spec::RoleBinding(_) | Spec::Settings(_) => None,
        };
        let mut existing = match stored.filter(|stored| self.holds(view, stored)) {
            Some(stored) => stored.clone(),
            None if self.holds(view, &document.masked) => document.masked.clone(),
            None => self.manifest_of(view, &document.spec)?,
        };
        if let Spec::Account(spec) = &document.spec {
            account_settings::show_what_is_known(view.world.account(&spec.name)?, spec, &mut existing);
        }
        Some(existing)
    }

    /// Whether the state is what a manifest says: applying it would change nothing.
    fn holds(&self, view: &View, manifest: &Value) -> bool {
        let Value::Object(map) = manifest else { return false };
        let Ok(document) = manifest::read(manifest::fields::Fields::of_manifest(map.clone())) else {
            return false;
        };
        let empty = |part| self.build(view, &document, part).is_ok_and(|draft| draft.is_empty());
        exists(view, &document) && empty(Part::Object) && empty(Part::Access)
    }

    /// A manifest that says what an object is, without secrets.
    fn manifest_of(&self, view: &View, spec: &Spec) -> Option<Value> {
        Some(match spec {
            Spec::User(user) => manifest::user(view.world.user(&user.email)?),
            Spec::Team(team) => manifest::team(view.world.team(&team.name)?),
            Spec::Account(account) => {
                let account = view.world.account(&account.name)?;
                let shown = account::shown(view, &account.spec);
                manifest::account(&shown.spec, &shown.access, shown.has_api_key == Some(true))
            }
            Spec::VirtualAccount(account) => {
                let account = view.world.virtual_account(&account.name)?;
                let shown = self.shown_virtual_account(view, &account.value);
                manifest::virtual_account(&shown.account, &shown.permissions)
            }
            Spec::RoleBinding(binding) => self.role_binding(view, &binding.name)?,
            Spec::Settings(_) => manifest::settings(view.world.settings()),
            Spec::Limits(spec) => view.world.limits(spec.kind)?.manifest.clone(),
        })
    }

    fn shown(&self, view: &View, document: &Document) -> Result<Shown, Failure> {
        let world = &view.world;
        let shown = match &document.spec {
            Spec::User(spec) => world.user(&spec.email).map(|user| Shown::User(Arc::clone(&user.value))),
            Spec::Team(spec) => world.team(&spec.name).map(|team| Shown::Team(Arc::clone(&team.value))),
            Spec::Account(spec) => world
                .account(&spec.name)
                .map(|account| Shown::Account(Box::new(account::shown(view, &account.spec)))),
            Spec::VirtualAccount(spec) => world.virtual_account(&spec.name).map(|account| {
                Shown::VirtualAccount(Box::new(self.shown_virtual_account(view, &account.value)))
            }),
            Spec::RoleBinding(_) => Some(Shown::RoleBinding(document.masked.clone())),
            Spec::Settings(_) => Some(Shown::Settings(Arc::clone(&world.settings().value))),
            Spec::Limits(spec) => {
                world.limits(spec.kind).map(|config| Shown::Limits(Arc::clone(&config.value)))
            }
        };
        shown.ok_or(Failure::Internal)
    }

    /// A role binding, from the grants that it made.
    fn role_binding(&self, view: &View, name: &str) -> Option<Value> {
        let source = GrantSource::Manifest(format!("role-binding/{name}"));
        let (mut subjects, mut given): (BTreeSet<&Subject>, BTreeSet<(&Target, Role)>) = Default::default();
        for grant in view.world.grants_from(&source) {
            subjects.insert(&grant.value.subject);
            given.insert((&grant.value.target, grant.role));
        }
        if subjects.is_empty() {
            return None;
        }
        let subjects: Vec<Subject> = subjects.into_iter().cloned().collect();
        let permissions: Vec<_> =
            given.into_iter().filter_map(|(target, role)| self.permission(view, target, role)).collect();
        Some(manifest::role_binding(name, &subjects, &permissions))
    }

    /// The manifest of an object, without secrets: applied again it changes nothing.
    ///
    /// # Errors
    /// When there is none that the caller may see, or it is not the caller's to export.
    pub fn export(&self, principal: &Principal, kind: &str, name: &str) -> Result<Value, Failure> {
        let view = self.view(principal)?;
        let world = &view.world;
        match kind {
            "user" => Ok(manifest::user(user::visible(&view, name)?)),
            "team" => Ok(manifest::team(super::team::visible(&view, name)?)),
            "provider-account" => {
                let account = account::managed(&view, name)?;
                let shown = account::shown(&view, &account.spec);
                Ok(manifest::account(&shown.spec, &shown.access, false))
            }
            "virtual-account" => {
                let account = super::virtual_account::visible(&view, name)?;
                let shown = self.shown_virtual_account(&view, &account.value);
                Ok(manifest::virtual_account(&shown.account, &shown.permissions))
            }
            "role-binding" => {
                view.require_admin()?;
                self.role_binding(&view, name).ok_or_else(|| not_found("role-binding", name))
            }
            "settings" => Ok(manifest::settings(world.settings())),
            _ => match LimitKind::parse(kind) {
                Some(kind) => Ok(self.limit_config(principal, kind)?.manifest.clone()),
                None => Err(Failure::NotFound(
                    "Manifests are of a user, team, provider-account, virtual-account, role-binding, settings, gateway-budget-config or gateway-rate-limiting-config"
                        .into(),
                )),
            },
        }
    }

    /// Refuses whoever may not apply a manifest of that type and name, before the rest of it is looked at.
    ///
    /// # Errors
    /// When the caller may not. The same words whether the object is there or not.
    pub fn require_applier(&self, principal: &Principal, kind: &str, name: &str) -> Result<(), Failure> {
        let view = self.view(principal)?;
        may_apply(&view, kind.starts_with("provider-account/"), name)
    }

    /// Deletes what a manifest is about.
    ///
    /// # Errors
    /// When the caller may not, there is no such object, or it is in use.
    pub fn delete_by_manifest(&self, principal: &Principal, kind: &str, name: &str) -> Result<(), Failure> {
        match kind {
            "user" => self.delete_user(principal, name, false),
            "team" => self.delete_team(principal, name),
            "virtual-account" => self.delete_virtual_account(principal, name),
            "role-binding" => self.delete_role_binding(principal, name),
            "settings" => Err(refused("Settings are changed, not deleted")),
            _ => match LimitKind::parse(kind) {
                Some(kind) => self.delete_limits(principal, kind),
                None => self.delete_account(principal, name),
            },
        }
    }
}

fn plan_view(view: &View, plan: &Plan) -> View {
    View { world: Arc::clone(&plan.world), principal: view.principal.clone(), now: view.now }
}

/// Judged on the real state, whatever other documents of the same apply would make of it. Who manages an account
/// may apply its manifest; all else is for admins. The same words whether it is there or not.
fn allowed(view: &View, document: &Document) -> Result<(), Failure> {
    may_apply(view, matches!(document.spec, Spec::Account(_)), document.name())
}

fn may_apply(view: &View, is_account: bool, name: &str) -> Result<(), Failure> {
    let world = &view.world;
    if is_account && world.account(name).is_some() && authz::may_manage_account(&view.principal, name, world)
    {
        return Ok(());
    }
    view.require_admin()
}

fn exists(view: &View, document: &Document) -> bool {
    let world = &view.world;
    match &document.spec {
        Spec::User(spec) => world.user(&spec.email).is_some(),
        Spec::Team(spec) => world.team(&spec.name).is_some(),
        Spec::Account(spec) => world.account(&spec.name).is_some(),
        Spec::VirtualAccount(spec) => world.virtual_account(&spec.name).is_some(),
        Spec::RoleBinding(spec) => {
            let source = GrantSource::Manifest(format!("role-binding/{}", spec.name));
            !world.grants_from(&source).is_empty()
        }
        Spec::Settings(_) => true,
        Spec::Limits(spec) => world.limits(spec.kind).is_some(),
    }
}
