//! Looking things up: who holds what through whom, ids by name, virtual accounts by what one knows of them.

use super::team;
use super::user;
use super::virtual_account::VirtualAccountView;
use super::{Listing, Manage, Page, View, account, not_found};
use crate::authz;
use crate::domain::{Grant, Principal, Subject, Target, Team, TenantRole};
use crate::failure::Failure;
use crate::id::{Email, TeamName};

/// A role that somebody holds on something, in the words of the public contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRole {
    /// `tenant`, `team`, `provider-account` or `provider-integration`.
    pub resource_type: &'static str,
    /// Its id, which is its name.
    pub resource_id: String,
    /// Its FQN, where it has one.
    pub resource_fqn: Option<String>,
    /// The role's id.
    pub role_id: &'static str,
    /// Who holds it: the user, or the team through which they do.
    pub subject: Subject,
}

/// The role of a team's member.
pub const TEAM_MEMBER: &str = "team-member";

/// The role of those who may change who is in a team.
pub const TEAM_MANAGER: &str = "team-manager";

/// A team and what somebody is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The team.
    pub team: TeamName,
    /// [`TEAM_MEMBER`], [`TEAM_MANAGER`] or both.
    pub roles: Vec<&'static str>,
}

/// What a list of virtual accounts is cut down to.
#[derive(Debug, Default)]
pub struct VirtualAccountFilter {
    /// Only those with this in their name.
    pub name: String,
    /// Only those of one of these teams.
    pub owned_by: Option<Vec<String>>,
    /// Only those whose time is over, or only the others.
    pub expired: Option<bool>,
}

impl Manage {
    /// The roles given to a user in person: in the tenant, in teams, on accounts and models.
    ///
    /// # Errors
    /// When there is no user that the caller may see.
    pub fn resources_of_user(&self, principal: &Principal, email: &str) -> Result<Vec<HeldRole>, Failure> {
        let view = self.view(principal)?;
        let user = user::visible(&view, email)?;
        let subject = Subject::User(user.email.clone());
        let mut held = vec![self.tenant_role(user.role, &subject)];
        for membership in memberships(&view, &user.email) {
            held.extend(membership.roles.iter().map(|role| HeldRole {
                resource_type: "team",
                resource_id: membership.team.to_string(),
                resource_fqn: None,
                role_id: role,
                subject: subject.clone(),
            }));
        }
        held.extend(self.held(&view, &subject));
        Ok(held)
    }

    /// The roles that reach a user: in the tenant, and on accounts and models, also through teams.
    ///
    /// # Errors
    /// When there is no user that the caller may see.
    pub fn permissions_of_user(&self, principal: &Principal, email: &str) -> Result<Vec<HeldRole>, Failure> {
        let view = self.view(principal)?;
        let user = user::visible(&view, email)?;
        let subject = Subject::User(user.email.clone());
        let mut held = vec![self.tenant_role(user.role, &subject)];
        held.extend(self.held(&view, &subject));
        for team in view.world.teams_of(user.email.as_str()) {
            held.extend(self.held(&view, &Subject::Team(team.clone())));
        }
        if let Ok(everyone) = TeamName::parse(Team::EVERYONE) {
            held.extend(self.held(&view, &Subject::Team(everyone)));
        }
        Ok(held)
    }

    /// The teams of a user, and what the user is in them.
    ///
    /// # Errors
    /// When there is no user that the caller may see.
    pub fn teams_of_user(&self, principal: &Principal, email: &str) -> Result<Vec<Membership>, Failure> {
        let view = self.view(principal)?;
        let user = user::visible(&view, email)?;
        Ok(memberships(&view, &user.email))
    }

    /// The roles given to a team, as far as the caller may see them.
    ///
    /// # Errors
    /// When there is no team that the caller may see.
    pub fn permissions_of_team(&self, principal: &Principal, name: &str) -> Result<Vec<HeldRole>, Failure> {
        let view = self.view(principal)?;
        let team = team::visible(&view, name)?;
        let subject = Subject::Team(team.name.clone());
        let grants = view.world.grants_of(&subject).iter();
        let seen = grants.filter(|grant| authz::may_see_grant(&view.principal, grant, &view.world));
        Ok(seen.map(|grant| self.role_of(&view, grant)).collect())
    }

    /// Whether there is a virtual account of that name.
    ///
    /// # Errors
    /// When the caller is no administrator.
    pub fn virtual_account_exists(&self, principal: &Principal, name: &str) -> Result<bool, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        Ok(view.world.virtual_account(name).is_some())
    }

    /// The virtual accounts that pass a filter.
    ///
    /// # Errors
    /// When the caller is no administrator.
    pub fn virtual_accounts_like(
        &self,
        principal: &Principal,
        filter: &VirtualAccountFilter,
        page: Page,
    ) -> Result<Listing<VirtualAccountView>, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        let name = filter.name.to_ascii_lowercase();
        let wanted = view.world.virtual_accounts().filter(|account| {
            let expired = account.expires_at.is_some_and(|end| end <= view.now);
            account.name.as_str().contains(&name)
                && filter.expired.is_none_or(|wanted| wanted == expired)
                && filter.owned_by.as_ref().is_none_or(|teams| {
                    account
                        .owned_by
                        .as_ref()
                        .is_some_and(|owner| teams.iter().any(|team| team == owner.as_str()))
                })
        });
        let Listing { items, total } = page.cut(wanted);
        let items =
            items.into_iter().map(|account| self.shown_virtual_account(&view, &account.value)).collect();
        Ok(Listing { items, total })
    }

    /// The id of what an FQN names.
    ///
    /// # Errors
    /// When nothing of that name is there that the caller may see.
    pub fn id_of_fqn(&self, principal: &Principal, kind: &str, fqn: &str) -> Result<String, Failure> {
        let view = self.view(principal)?;
        let none = || not_found(kind, fqn);
        if !matches!(kind, "provider-account" | "provider-integration" | "model") {
            return Err(Failure::BadRequest(
                "Only provider-account and provider-integration have FQNs here".into(),
            ));
        }
        let target = self.target_of_fqn(fqn).ok_or_else(none)?;
        if target.model.is_some() != (kind != "provider-account") || !sees_target(&view, &target) {
            return Err(none());
        }
        // The protocol in it must be the account's own.
        if self.fqn_of(&view, &target).as_deref() != Some(fqn) {
            return Err(none());
        }
        Ok(target.to_string())
    }

    /// What an FQN of this tenant is on, whatever protocol it names. The thing need not be there.
    pub(super) fn target_of_fqn(&self, fqn: &str) -> Option<Target> {
        let rest = fqn.strip_prefix(&self.tenant)?.strip_prefix(':')?;
        let mut parts = rest.splitn(4, ':');
        let (_protocol, account) = (parts.next()?, parts.next()?);
        let text = match (parts.next(), parts.next()) {
            (None, None) => account.to_owned(),
            (Some("model"), Some(model)) => format!("{account}/{model}"),
            _ => return None,
        };
        Target::parse(&text).ok()
    }

    /// The FQN of an account or model, when its account is there.
    pub(super) fn fqn_of(&self, view: &View, target: &Target) -> Option<String> {
        let provider = view.world.account(target.account.as_str())?.spec.provider.as_str();
        let account = format!("{}:{provider}:{}", self.tenant, target.account);
        Some(match &target.model {
            None => account,
            Some(model) => format!("{account}:model:{model}"),
        })
    }

    fn tenant_role(&self, role: TenantRole, subject: &Subject) -> HeldRole {
        HeldRole {
            resource_type: "tenant",
            resource_id: self.tenant.clone(),
            resource_fqn: None,
            role_id: role.contract_name(),
            subject: subject.clone(),
        }
    }

    fn held(&self, view: &View, subject: &Subject) -> Vec<HeldRole> {
        view.world.grants_of(subject).iter().map(|grant| self.role_of(view, grant)).collect()
    }

    /// A grant as a role on a resource.
    pub(super) fn role_of(&self, view: &View, grant: &Grant) -> HeldRole {
        let (resource_type, role_id) = match grant.target.model {
            None => ("provider-account", grant.role.as_str()),
            Some(_) => ("provider-integration", "provider-integration-access"),
        };
        HeldRole {
            resource_type,
            resource_id: grant.target.to_string(),
            resource_fqn: self.fqn_of(view, &grant.target),
            role_id,
            subject: grant.subject.clone(),
        }
    }
}

/// Whether an account, or the model of it, is there for the caller.
pub(super) fn sees_target(view: &View, target: &Target) -> bool {
    match (&target.model, account::visible(view, target.account.as_str())) {
        (_, Err(_)) => false,
        (None, Ok(_)) => true,
        (Some(model), Ok(account)) => {
            account.spec.models.contains_key(model)
                && authz::may_see_model(&view.principal, target.account.as_str(), model.as_str(), &view.world)
        }
    }
}

fn memberships(view: &View, email: &Email) -> Vec<Membership> {
    let roles = |team: &Team| {
        let member = team.members.contains(email).then_some(TEAM_MEMBER);
        member.into_iter().chain(team.managers.contains(email).then_some(TEAM_MANAGER)).collect::<Vec<_>>()
    };
    let teams = view.world.teams().map(|team| Membership { team: team.name.clone(), roles: roles(team) });
    teams.filter(|membership| !membership.roles.is_empty()).collect()
}
