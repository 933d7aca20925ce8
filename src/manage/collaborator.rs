//! Collaborators: grants seen from the provider account or model that they are on.

use serde_json::Value;

use super::directory::{HeldRole, sees_target};
use super::draft::{Audited, Draft};
use super::{Listing, Manage, Page, View, account, invalid, not_found, refused};
use crate::authz;
use crate::domain::{GrantSource, Principal, Role, Subject, Target};
use crate::failure::Failure;
use crate::store::Key;

/// The account or model that collaborators are asked of, in the words of the public contract.
#[derive(Clone, Debug)]
pub struct SharedResource {
    /// `provider-account` or `provider-integration`.
    pub kind: String,
    /// `ACCOUNT`, `ACCOUNT/MODEL`, or the FQN of either.
    pub id: String,
}

impl Manage {
    /// Who holds which role on an account or model, as far as the caller may see it.
    ///
    /// # Errors
    /// When there is no such account or model that the caller may see.
    pub fn collaborators(
        &self,
        principal: &Principal,
        resource: &SharedResource,
        page: Page,
    ) -> Result<Listing<HeldRole>, Failure> {
        let view = self.view(principal)?;
        let target = self.target_of(&view, resource)?;
        if !sees_target(&view, &target) {
            return Err(not_found(&resource.kind, &resource.id));
        }
        let wanted = view.world.grants().filter(|grant| {
            grant.target == target && authz::may_see_grant(&view.principal, grant, &view.world)
        });
        Ok(page.cut(wanted.map(|grant| self.role_of(&view, grant))))
    }

    /// Gives a role on an account or model.
    ///
    /// # Errors
    /// As of [`Manage::grant`], and when the role is not one of that kind of resource.
    pub fn add_collaborator(
        &self,
        principal: &Principal,
        resource: &SharedResource,
        subject: &str,
        role: &str,
    ) -> Result<HeldRole, Failure> {
        let view = self.view(principal)?;
        let target = self.target_of(&view, resource)?;
        let role = role_on(&target, role)?;
        let grant = self.grant(principal, subject, role.as_str(), &target.to_string())?;
        Ok(self.role_of(&self.view(principal)?, &grant))
    }

    /// Takes from a subject one role on an account or model, or all that it has there; those on the models of an
    /// account are roles of their own.
    ///
    /// # Errors
    /// When the caller does not manage the account, the subject has none, or one belongs to a manifest.
    pub fn remove_collaborator(
        &self,
        principal: &Principal,
        resource: &SharedResource,
        subject: &str,
        role: Option<&str>,
    ) -> Result<(), Failure> {
        self.change(principal, |view| {
            let target = self.target_of(view, resource)?;
            account::managed(view, target.account.as_str())?;
            let subject = Subject::parse(subject).map_err(invalid)?;
            let role = role.map(|role| role_on(&target, role)).transpose()?;
            let mut draft = Draft::default();
            let mut found = false;
            for grant in view.world.grants_of(&subject) {
                if grant.target != target || role.is_some_and(|role| role != grant.role) {
                    continue;
                }
                if let GrantSource::Manifest(name) = &grant.source {
                    return Err(Failure::Conflict(
                        format!("This role comes from the manifest '{name}'; change it there").into(),
                    ));
                }
                found = true;
                let key = Key::grant(grant);
                draft.audit(view, "grant.delete", &key, grant.audited(), Value::Null);
                draft.delete(key, grant.revision);
            }
            if found {
                Ok((draft, ()))
            } else {
                Err(Failure::NotFound(format!("{subject} is no collaborator of '{target}'").into()))
            }
        })
    }

    fn target_of(&self, view: &View, resource: &SharedResource) -> Result<Target, Failure> {
        let SharedResource { kind, id } = resource;
        let wants_model = match kind.as_str() {
            "provider-account" => false,
            "provider-integration" => true,
            _ => return Err(refused("resourceType is provider-account or provider-integration")),
        };
        let target = if id.contains(':') {
            let target = self.target_of_fqn(id).ok_or_else(|| not_found(kind, id))?;
            // One that names the wrong protocol names nothing.
            if sees_target(view, &target) && self.fqn_of(view, &target).as_ref() != Some(id) {
                return Err(not_found(kind, id));
            }
            target
        } else {
            Target::parse(id).map_err(invalid)?
        };
        if target.model.is_some() != wants_model {
            return Err(refused(
                "The resourceId of a provider-account is ACCOUNT, of a provider-integration ACCOUNT/MODEL",
            ));
        }
        Ok(target)
    }
}

/// On a model the contract has a name of its own for the role to use it.
fn role_on(target: &Target, role: &str) -> Result<Role, Failure> {
    match (&target.model, role) {
        (Some(_), "provider-integration-access") => Ok(Role::Access),
        (None, "provider-integration-access") => {
            Err(refused("provider-integration-access is a role on a model, not on a provider account"))
        }
        _ => Role::parse(role).map_err(invalid),
    }
}
