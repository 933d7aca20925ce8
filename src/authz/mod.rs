//! The policy: who may do what. Pure functions of (principal, action, resource, state); nothing here knows
//! HTTP, and nothing elsewhere decides.
//!
//! One worked example. Ada is a *user* in the *team* `search`. A *grant* gives `team:search` the role
//! `provider-account-access` on the *provider account* `main`. Ada's token makes her the *principal* of a call;
//! the call names the model `main/gpt-4o`, which the catalog resolves to a *route*; the policy finds the team's
//! grant and hands out a *permit* for exactly that route. The relay takes the permit by value, and only this
//! module can make one.

mod decide;
#[cfg(test)]
mod tests;

pub use decide::{Action, Decision, Resource, decide};

use std::sync::{Arc, LazyLock};

use crate::domain::{
    Grant, Model, Owner, Principal, Role, Subject, Team, TenantRole, Token, UsageScope, User,
};
use crate::id::{Email, TeamName};
use crate::store::{Account, Versioned, World};

/// A model that a call resolved to: the account and the model's place in it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The account, as it was in the state that decides the call.
    pub account: Arc<Account>,
    /// The model's name in the account.
    pub model: crate::id::ModelName,
}

impl Route {
    /// The provider's own id of the model.
    pub fn model_id(&self) -> &str {
        self.account.spec.models.get(&self.model).map_or("", |model| model.model_id.as_str())
    }

    /// The model itself.
    pub fn spec(&self) -> Option<&Model> {
        self.account.spec.models.get(&self.model)
    }

    /// `account/name`.
    pub fn resolved_name(&self) -> String {
        [self.account.spec.name.as_str(), "/", self.model.as_str()].concat()
    }
}

/// The decision that a call may go ahead, for one route. Only [`authorize`] makes one.
#[derive(Clone, Debug)]
pub struct Permit {
    principal: Principal,
    route: Route,
}

impl Permit {
    /// Who calls.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What may be called.
    pub fn route(&self) -> &Route {
        &self.route
    }
}

/// No grant allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial;

/// Whether a principal may use the model of a route.
///
/// # Errors
/// [`Denial`] when no grant on the account or the model reaches the principal. Tenant admins manage everything,
/// and use models under their own name like anyone who was granted all of them.
pub fn authorize(principal: &Principal, route: &Route, world: &World) -> Result<Permit, Denial> {
    let permit = || Permit { principal: principal.clone(), route: route.clone() };
    if may_use(principal, route.account.spec.name.as_str(), route.model.as_str(), world) {
        Ok(permit())
    } else {
        Err(Denial)
    }
}

/// Whether a principal may use a model, by any of its grants.
pub fn may_use(principal: &Principal, account: &str, model: &str, world: &World) -> bool {
    if is_admin(principal) {
        return !matches!(principal, Principal::LocalAdministrator { .. });
    }
    any_grant_on(account, principal, world, |grant| covers(grant, model))
}

/// Whether a grant on the account of a model reaches that model.
pub fn covers(grant: &Grant, model: &str) -> bool {
    grant.target.model.as_ref().is_none_or(|granted| granted.as_str() == model)
}

/// Whether a principal holds the manager role on a provider account. Tenant admins do.
pub fn may_manage_account(principal: &Principal, account: &str, world: &World) -> bool {
    is_admin(principal)
        || any_grant_on(account, principal, world, |grant| {
            grant.role == Role::Manager && grant.target.model.is_none()
        })
}

/// Whether a principal may see that a provider account exists: it holds any role on it or on a model of it.
pub fn may_see_account(principal: &Principal, account: &str, world: &World) -> bool {
    is_admin(principal) || any_grant_on(account, principal, world, |_| true)
}

/// Whether a principal manages the tenant: an active user with the admin role, or the local administrator.
pub fn is_admin(principal: &Principal) -> bool {
    match principal {
        Principal::User { user, .. } => user.active && user.role == TenantRole::Admin,
        Principal::LocalAdministrator { .. } => true,
        Principal::VirtualAccount { .. } => false,
    }
}

/// Whether a principal may see a user: admins see all, others themselves.
pub fn may_see_user(principal: &Principal, user: &User) -> bool {
    is_admin(principal) || is_user(principal, &user.email)
}

/// Whether a principal may see a token: admins see all, users their own. Who sees one may also end it.
pub fn may_see_token(principal: &Principal, token: &Token) -> bool {
    is_admin(principal) || matches!(&token.owner, Owner::User(email) if is_user(principal, email))
}

/// Whether a principal may see a team: those in it and those who manage it do.
pub fn may_see_team(principal: &Principal, team: &Team) -> bool {
    may_manage_team(principal, team)
        || matches!(principal, Principal::User { user, .. }
            if user.active && team.members.contains(&user.email))
}

/// Whether a principal may change who is in a team.
pub fn may_manage_team(principal: &Principal, team: &Team) -> bool {
    is_admin(principal)
        || matches!(principal, Principal::User { user, .. }
            if user.active && team.managers.contains(&user.email))
}

/// Whether a principal may see a grant: those on accounts that it manages, and those that reach it.
pub fn may_see_grant(principal: &Principal, grant: &Grant, world: &World) -> bool {
    may_manage_account(principal, grant.target.account.as_str(), world) || reaches(grant, principal, world)
}

/// Whether a grant is one that gives the principal something: its own, one of its teams, or everyone's.
pub fn reaches(grant: &Grant, principal: &Principal, world: &World) -> bool {
    match (&grant.subject, principal) {
        (Subject::User(email), _) => is_user(principal, email),
        (Subject::Team(team), Principal::User { user, .. }) => {
            user.active
                && (team.as_str() == Team::EVERYONE
                    || world.teams_of(user.email.as_str()).any(|own| own == team))
        }
        _ => false,
    }
}

/// By what a user who is no admin manages a provider account: the grant, and the team through which it reaches them.
pub fn managed_by<'w>(
    user: &User,
    account: &str,
    world: &'w World,
) -> Option<(&'w Versioned<Grant>, Option<&'w Versioned<Team>>)> {
    subjects_of(&user.email, world).find_map(|subject| {
        let manages = |grant: &&Versioned<Grant>| grant.role == Role::Manager && grant.target.model.is_none();
        let grant = world.grants_on(&subject, account).iter().find(manages)?;
        let team = match &grant.subject {
            Subject::Team(name) => world.team(name.as_str()),
            _ => None,
        };
        Some((grant, team))
    })
}

/// Whether a principal may see that a model is offered: it may use it, or manages its account.
pub fn may_see_model(principal: &Principal, account: &str, model: &str, world: &World) -> bool {
    may_use(principal, account, model, world) || may_manage_account(principal, account, world)
}

/// The subjects whose grants reach a user: the user, the teams that they are in, and everyone.
pub fn subjects_of(email: &Email, world: &World) -> impl Iterator<Item = Subject> {
    std::iter::once(Subject::User(email.clone()))
        .chain(world.teams_of(email.as_str()).cloned().map(Subject::Team))
        .chain(EVERYONE.clone())
}

/// The built-in team, ready to be looked up for each call.
static EVERYONE: LazyLock<Option<Subject>> =
    LazyLock::new(|| TeamName::parse(Team::EVERYONE).ok().map(Subject::Team));

/// Whose calls a principal may see in reports: admins everybody's, others their own, those of members of teams that they
/// manage, while they were in them, and those on accounts that they manage. Virtual accounts see nothing.
pub fn usage_scope(principal: &Principal, world: &World) -> UsageScope {
    if is_admin(principal) {
        return UsageScope::All;
    }
    let Principal::User { user, .. } = principal else { return UsageScope::default() };
    if !user.active {
        return UsageScope::default();
    }
    let teams = world.teams().filter(|team| may_manage_team(principal, team));
    let accounts = world.accounts().map(|account| account.spec.name.as_str());
    UsageScope::Limited {
        subject: principal.subject_text(),
        teams: teams.map(|team| team.name.to_string()).collect(),
        accounts: accounts
            .filter(|account| may_manage_account(principal, account, world))
            .map(str::to_owned)
            .collect(),
    }
}

fn is_user(principal: &Principal, email: &Email) -> bool {
    matches!(principal, Principal::User { user, .. } if user.active && user.email == *email)
}

/// Whether any grant on an account that reaches the principal (its own, its teams', everyone's) passes a test.
/// Nothing is allocated, and a subject's grants on other accounts are not walked: this decides each call.
fn any_grant_on(
    account: &str,
    principal: &Principal,
    world: &World,
    test: impl Fn(&Versioned<Grant>) -> bool,
) -> bool {
    match principal {
        Principal::User { user, .. } => {
            let own = Subject::User(user.email.clone());
            let teams = world.team_subjects_of(user.email.as_str());
            let subjects = std::iter::once(&own).chain(teams).chain(EVERYONE.as_ref());
            user.active && world.any_grant_on(subjects, account, test)
        }
        // A virtual account can be given access only; a manager grant on one would be void.
        Principal::VirtualAccount { account: own, .. } => {
            let own = Subject::VirtualAccount(own.name.clone());
            world.any_grant_on([&own], account, |grant| grant.role == Role::Access && test(grant))
        }
        Principal::LocalAdministrator { .. } => false,
    }
}
