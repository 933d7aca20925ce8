//! Grants: who may do what on which provider account or model.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::draft::{Audited, Draft};
use super::{Listing, Manage, Page, View, account, invalid, refused, user};
use crate::authz;
use crate::domain::{Grant, GrantSource, Principal, Role, Subject, Target, Team};
use crate::failure::Failure;
use crate::store::{Account, Key, Object, Versioned};

/// Grants that one subject may have. The policy walks through them at each call.
pub(super) const MAX_GRANTS: usize = 1000;

/// What a list of grants is cut down to.
#[derive(Debug, Default)]
pub struct GrantFilter {
    /// Only those of this subject.
    pub subject: Option<Subject>,
    /// Only those on this model, or on this account and its models.
    pub target: Option<Target>,
}

impl Manage {
    /// The grants that the caller may see: all for admins, those on their accounts for managers, and those that
    /// reach the caller.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn grants(
        &self,
        principal: &Principal,
        filter: &GrantFilter,
        page: Page,
    ) -> Result<Listing<Arc<Grant>>, Failure> {
        let view = self.view(principal)?;
        // Asked once for an account, not for each of its grants.
        let mut managed = BTreeMap::new();
        let mut sees = |grant: &Grant| {
            let account = &grant.target.account;
            let manages = match managed.get(account) {
                Some(manages) => *manages,
                None => {
                    let manages = authz::may_manage_account(&view.principal, account.as_str(), &view.world);
                    managed.insert(account.clone(), manages);
                    manages
                }
            };
            manages || authz::reaches(grant, &view.principal, &view.world)
        };
        let of_target = |grant: &Grant| {
            filter.target.as_ref().is_none_or(|target| {
                grant.target.account == target.account
                    && (target.model.is_none() || grant.target.model == target.model)
            })
        };
        let shown = |grant: &Versioned<Grant>| Arc::clone(&grant.value);
        Ok(match &filter.subject {
            Some(subject) => {
                let all = view.world.grants_of(subject).iter();
                page.cut(all.filter(|grant| of_target(grant) && sees(grant)).map(shown))
            }
            None => page.cut(view.world.grants().filter(|grant| of_target(grant) && sees(grant)).map(shown)),
        })
    }

    /// Grants. What is granted already stays as it is.
    ///
    /// # Errors
    /// When the caller does not manage the account, or the grant can not be.
    pub fn grant(
        &self,
        principal: &Principal,
        subject: &str,
        role: &str,
        target: &str,
    ) -> Result<Grant, Failure> {
        self.change(principal, |view| {
            let target = Target::parse(target).map_err(invalid)?;
            let (subject, role) =
                (Subject::parse(subject).map_err(invalid)?, Role::parse(role).map_err(invalid)?);
            let mut draft = Draft::default();
            if authz::is_admin(&view.principal) {
                // To an admin an unknown account is a mistake in the body, not something hidden.
                existing_account(view, &target)?;
            }
            account::managed(view, target.account.as_str())?;
            check_role(&subject, role, &target)?;
            guard_target(&mut draft, view, &target)?;
            guard_subject(&mut draft, view, &subject)?;
            if let Some(old) = find(view, &subject, role, &target) {
                return Ok((Draft::default(), Grant::clone(old)));
            }
            if view.world.grants_of(&subject).len() >= MAX_GRANTS {
                return Err(refused(format!("{subject} has {MAX_GRANTS} grants; revoke some first")));
            }
            let grant = Grant {
                subject,
                role,
                target,
                source: GrantSource::Direct,
                created_at: view.now,
                created_by: view.principal.subject_text(),
            };
            draft.audit(view, "grant.create", &Key::grant(&grant), Value::Null, grant.audited());
            draft.create(Object::Grant(grant.clone()));
            Ok((draft, grant))
        })
    }

    /// Takes a grant away.
    ///
    /// # Errors
    /// When the caller does not manage the account, there is no such grant, or it belongs to a manifest.
    pub fn revoke(
        &self,
        principal: &Principal,
        subject: &str,
        role: &str,
        target: &str,
    ) -> Result<(), Failure> {
        self.change(principal, |view| {
            let target = Target::parse(target).map_err(invalid)?;
            let (subject, role) =
                (Subject::parse(subject).map_err(invalid)?, Role::parse(role).map_err(invalid)?);
            account::managed(view, target.account.as_str())?;
            let none =
                || Failure::NotFound(format!("{subject} has no {} on '{target}'", role.as_str()).into());
            let grant = find(view, &subject, role, &target).ok_or_else(none)?;
            if let GrantSource::Manifest(name) = &grant.source {
                return Err(Failure::Conflict(
                    format!("This grant comes from the manifest '{name}'; change it there").into(),
                ));
            }
            let mut draft = Draft::default();
            let key = Key::grant(grant);
            draft.audit(view, "grant.delete", &key, grant.audited(), Value::Null);
            draft.delete(key, grant.revision);
            Ok((draft, ()))
        })
    }
}

pub(super) fn find<'v>(
    view: &'v View,
    subject: &Subject,
    role: Role,
    target: &Target,
) -> Option<&'v Versioned<Grant>> {
    view.world.grant(subject, role, target)
}

pub(super) fn check_role(subject: &Subject, role: Role, target: &Target) -> Result<(), Failure> {
    if role == Role::Manager && target.model.is_some() {
        return Err(refused(
            "A provider account is managed as a whole; the manager role is not given on a model",
        ));
    }
    if role == Role::Manager && matches!(subject, Subject::VirtualAccount(_)) {
        return Err(refused("A virtual account can not be a manager; give it provider-account-access"));
    }
    Ok(())
}

fn existing_account<'v>(view: &'v View, target: &Target) -> Result<&'v Arc<Account>, Failure> {
    let account = view.world.account(target.account.as_str());
    account.ok_or_else(|| refused(format!("There is no provider account '{}'", target.account)))
}

/// Makes sure that the account, and the model if one is named, is there and stays.
pub(super) fn guard_target(draft: &mut Draft, view: &View, target: &Target) -> Result<(), Failure> {
    let account = existing_account(view, target)?;
    if let Some(model) = &target.model
        && !account.spec.models.contains_key(model)
    {
        return Err(refused(format!("There is no model '{target}'")));
    }
    draft.guard_account(account);
    Ok(())
}

/// Makes sure that whoever is given something is there and stays.
pub(super) fn guard_subject(draft: &mut Draft, view: &View, subject: &Subject) -> Result<(), Failure> {
    let missing = || refused(format!("There is no {subject}"));
    match subject {
        Subject::User(email) => draft.guard_user(user::named(view, email.as_str())?),
        Subject::Team(name) if name.as_str() == Team::EVERYONE => {}
        Subject::Team(name) => draft.guard_team(view.world.team(name.as_str()).ok_or_else(missing)?),
        Subject::VirtualAccount(name) => {
            draft.guard_virtual_account(view.world.virtual_account(name.as_str()).ok_or_else(missing)?);
        }
    }
    Ok(())
}
