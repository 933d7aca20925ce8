//! Every decision of the policy as one function, so that it can be written down as one table and compared with a
//! second, naive one: `tests/golden/policy-decisions.txt`, `authz::tests`.

use super::{
    is_admin, may_manage_account, may_manage_team, may_see_account, may_see_grant, may_see_model,
    may_see_team, may_see_token, may_see_user, may_use,
};
use crate::domain::{Grant, Owner, Principal};
use crate::store::{Key, World};

/// What someone wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(
    dead_code,
    reason = "the operations ask for some of these through the functions that `decide` is made of"
)]
pub enum Action {
    /// Learn that it is there, and what it is, secrets left out.
    See,
    /// Call it.
    Use,
    /// Make it.
    Create,
    /// Remove it; a token: revoke it; a grant: take it away.
    Delete,
    /// Change its settings, headers and credential.
    ChangeSettings,
    /// Change where its calls go.
    ChangeDestination,
    /// Offer models on it, or offer them no longer.
    ChangeModels,
    /// Give and take roles on it.
    ManageAccess,
    /// Put users in or take them out.
    ChangeMembers,
    /// Change who manages it.
    ChangeManagers,
    /// Change the tenant role.
    SetRole,
    /// Deactivate or activate.
    Deactivate,
    /// Replace its secret.
    Rotate,
}

impl Action {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 13] = [
        Self::See,
        Self::Use,
        Self::Create,
        Self::Delete,
        Self::ChangeSettings,
        Self::ChangeDestination,
        Self::ChangeModels,
        Self::ManageAccess,
        Self::ChangeMembers,
        Self::ChangeManagers,
        Self::SetRole,
        Self::Deactivate,
        Self::Rotate,
    ];
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug)]
#[allow(
    dead_code,
    reason = "the operations ask for some of these through the functions that `decide` is made of"
)]
pub enum Resource<'a> {
    /// A user, by email.
    User(&'a str),
    /// A team, by name.
    Team(&'a str),
    /// A provider account, by name.
    Account(&'a str),
    /// A model, by account and name.
    Model(&'a str, &'a str),
    /// A virtual account, by name.
    VirtualAccount(&'a str),
    /// A grant.
    Grant(&'a Grant),
    /// A token, by id.
    Token(&'a str),
    /// A token that is to be: whose it would be.
    TokenOf(&'a Owner),
    /// The audit log.
    AuditLog,
    /// The tenant's settings.
    Settings,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// No, and the caller may be told so.
    Forbidden,
    /// No, as if it were not there.
    Hidden,
}

/// Whether a principal may do something to something, in one state.
///
/// What is not allowed here is not allowed. A thing that is not there is hidden from everyone. Virtual accounts
/// use models and are forbidden all else, whether it is there or not.
pub fn decide(principal: &Principal, action: Action, resource: Resource<'_>, world: &World) -> Decision {
    if matches!(principal, Principal::VirtualAccount { .. }) && !matches!(resource, Resource::Model(..)) {
        return Decision::Forbidden;
    }
    match sees(principal, action, resource, world) {
        false => Decision::Hidden,
        true if allows(principal, action, resource, world) => Decision::Allow,
        true => Decision::Forbidden,
    }
}

/// Whether the caller may learn from the answer that there is, or could be, such a thing.
fn sees(principal: &Principal, action: Action, resource: Resource<'_>, world: &World) -> bool {
    let making = action == Action::Create;
    match resource {
        // Nobody learns from trying to make something whether it is there already.
        Resource::User(_) | Resource::Team(_) | Resource::Account(_) | Resource::VirtualAccount(_)
            if making =>
        {
            true
        }
        Resource::User(email) => world.user(email).is_some_and(|user| may_see_user(principal, user)),
        Resource::Team(name) => world.team(name).is_some_and(|team| may_see_team(principal, team)),
        Resource::Account(name) => world.account(name).is_some() && may_see_account(principal, name, world),
        // To make a model, or a grant, or to take one away is to change the account.
        Resource::Model(account, _) if making => {
            world.account(account).is_some() && may_see_account(principal, account, world)
        }
        Resource::Model(account, name) => {
            world.account(account).is_some_and(|account| account.spec.models.contains_key(name))
                && may_see_model(principal, account, name, world)
        }
        Resource::VirtualAccount(name) => world.virtual_account(name).is_some() && is_admin(principal),
        Resource::Grant(grant) => {
            let account = grant.target.account.as_str();
            let there = world.revision_of(&Key::grant(grant)).is_some();
            match action {
                Action::Create => {
                    world.account(account).is_some() && may_see_account(principal, account, world)
                }
                Action::Delete if !may_manage_account(principal, account, world) => {
                    may_see_account(principal, account, world)
                }
                Action::Delete => there,
                _ => there && may_see_grant(principal, grant, world),
            }
        }
        Resource::Token(id) => world.token(id).is_some_and(|token| may_see_token(principal, token)),
        Resource::TokenOf(_) | Resource::AuditLog | Resource::Settings => true,
    }
}

/// Whether the caller may do it to what it sees.
fn allows(principal: &Principal, action: Action, resource: Resource<'_>, world: &World) -> bool {
    let manages = |account: &str| may_manage_account(principal, account, world);
    match (resource, action) {
        (Resource::TokenOf(owner), Action::Create) => is_admin(principal) || mints(principal, owner, world),
        // `sees` has decided.
        (Resource::AuditLog, Action::See) => is_admin(principal),
        (Resource::TokenOf(_), Action::See) => false,
        (_, Action::See) => true,
        (Resource::Model(account, name), Action::Use) => may_use(principal, account, name, world),
        (Resource::Model(account, _), Action::Create | Action::Delete | Action::ManageAccess)
        | (
            Resource::Account(account),
            Action::ChangeSettings | Action::ChangeModels | Action::ManageAccess,
        ) => manages(account),
        (Resource::Account(_), Action::Create | Action::Delete | Action::ChangeDestination)
        | (Resource::User(_), Action::Create | Action::Delete | Action::SetRole | Action::Deactivate)
        | (Resource::Team(_), Action::Create | Action::Delete | Action::ChangeManagers)
        | (Resource::VirtualAccount(_), Action::Create | Action::Delete | Action::ChangeSettings)
        | (Resource::Settings, Action::ChangeSettings) => is_admin(principal),
        (Resource::Team(name), Action::ChangeMembers) => {
            world.team(name).is_some_and(|team| may_manage_team(principal, team))
        }
        (Resource::Grant(grant), Action::Create | Action::Delete) => manages(grant.target.account.as_str()),
        (Resource::Token(_), Action::Delete) => true,
        (Resource::Token(id), Action::Rotate) => {
            is_admin(principal) || world.token(id).is_some_and(|token| mints(principal, &token.owner, world))
        }
        _ => false,
    }
}

/// A user makes tokens for themself with a token only where the tenant's settings allow it.
fn mints(principal: &Principal, owner: &Owner, world: &World) -> bool {
    world.settings().pat_may_mint
        && matches!((principal, owner), (Principal::User { user, .. }, Owner::User(email))
            if user.active && user.email == *email)
}
