//! Teams.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::{Audited, Draft, delete_grants_of};
use super::{Listing, Manage, Page, View, in_field, not_found, refused, user};
use crate::authz::{self, Action, Resource};
use crate::domain::{Principal, Subject, Team};
use crate::failure::Failure;
use crate::id::Email;
use crate::store::{Key, Object, Versioned};

/// Members of one team, and managers of one team.
const MAX_MEMBERS: usize = 10_000;

/// Names with a meaning of their own: the built-in team, and a path of the API.
pub(super) const RESERVED: [&str; 2] = [Team::EVERYONE, "user"];

impl Manage {
    /// The teams that the caller may see: all for admins, one's own for others. Only those whose members the caller may
    /// change, when that is asked for.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn teams(
        &self,
        principal: &Principal,
        only_managed: bool,
        page: Page,
    ) -> Result<Listing<Arc<Team>>, Failure> {
        let view = self.view(principal)?;
        let seen = view.world.teams().filter(|team| {
            authz::may_see_team(&view.principal, team)
                && (!only_managed || authz::may_manage_team(&view.principal, team))
        });
        Ok(page.cut(seen.map(|team| Arc::clone(&team.value))))
    }

    /// One team.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn team(&self, principal: &Principal, name: &str) -> Result<Arc<Team>, Failure> {
        let view = self.view(principal)?;
        visible(&view, name).map(|team| Arc::clone(&team.value))
    }

    /// A part of the members of a team.
    ///
    /// # Errors
    /// When there is no team that the caller may see.
    pub fn team_members(
        &self,
        principal: &Principal,
        name: &str,
        page: Page,
    ) -> Result<Listing<Email>, Failure> {
        let view = self.view(principal)?;
        Ok(page.cut(visible(&view, name)?.members.iter().cloned()))
    }

    /// Puts a user into a team; one who is in it already stays.
    ///
    /// # Errors
    /// When the caller may not, or there is no such user.
    pub fn add_member(&self, principal: &Principal, name: &str, email: &str) -> Result<Team, Failure> {
        self.change(principal, |view| {
            let team = managed(view, name)?;
            let mut draft = Draft::default();
            let user = user::named(view, email)?;
            if team.members.contains(&user.email) {
                return Ok((draft, Team::clone(team)));
            }
            if team.members.len() >= MAX_MEMBERS {
                return Err(refused(format!("A team has at most {MAX_MEMBERS} members")));
            }
            draft.guard_user(user);
            let mut after = Team::clone(team);
            after.members.insert(user.email.clone());
            after.updated_at = view.now;
            let key = Key::team(name);
            draft.audit(view, "team.add-member", &key, Value::Null, json!({"member": email}));
            draft.replace(Object::Team(after.clone()), team.revision);
            Ok((draft, after))
        })
    }

    /// Takes a user out of a team.
    ///
    /// # Errors
    /// When the caller may not, or the user is not in it.
    pub fn remove_member(&self, principal: &Principal, name: &str, email: &str) -> Result<Team, Failure> {
        self.change(principal, |view| {
            let team = managed(view, name)?;
            let mut after = Team::clone(team);
            if !after.members.remove(email) {
                return Err(Failure::NotFound(format!("'{email}' is not a member of team '{name}'").into()));
            }
            after.updated_at = view.now;
            let mut draft = Draft::default();
            let key = Key::team(name);
            draft.audit(view, "team.remove-member", &key, json!({"member": email}), Value::Null);
            draft.replace(Object::Team(after.clone()), team.revision);
            Ok((draft, after))
        })
    }

    /// A part of those who may change who is in a team.
    ///
    /// # Errors
    /// When there is no team that the caller may see.
    pub fn team_managers(
        &self,
        principal: &Principal,
        name: &str,
        page: Page,
    ) -> Result<Listing<Email>, Failure> {
        let view = self.view(principal)?;
        Ok(page.cut(visible(&view, name)?.managers.iter().cloned()))
    }

    /// Makes a user a manager of a team; one who is stays. For administrators: managers decide on members only.
    ///
    /// # Errors
    /// When the caller may not, or there is no such user.
    pub fn add_team_manager(&self, principal: &Principal, name: &str, email: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let team = visible(view, name)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            let user = user::named(view, email)?;
            if team.managers.contains(&user.email) {
                return Ok((draft, ()));
            }
            if team.managers.len() >= MAX_MEMBERS {
                return Err(refused(format!("A team has at most {MAX_MEMBERS} managers")));
            }
            draft.guard_user(user);
            let mut after = Team::clone(team);
            after.managers.insert(user.email.clone());
            after.updated_at = view.now;
            let key = Key::team(name);
            draft.audit(view, "team.add-manager", &key, Value::Null, json!({"manager": email}));
            draft.replace(Object::Team(after), team.revision);
            Ok((draft, ()))
        })
    }

    /// Takes the management of a team from a user.
    ///
    /// # Errors
    /// When the caller may not, or the user is no manager of it.
    pub fn remove_team_manager(&self, principal: &Principal, name: &str, email: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let team = visible(view, name)?;
            view.require_admin()?;
            let mut after = Team::clone(team);
            if !after.managers.remove(email) {
                return Err(Failure::NotFound(format!("'{email}' is no manager of team '{name}'").into()));
            }
            after.updated_at = view.now;
            let mut draft = Draft::default();
            let key = Key::team(name);
            draft.audit(view, "team.remove-manager", &key, json!({"manager": email}), Value::Null);
            draft.replace(Object::Team(after), team.revision);
            Ok((draft, ()))
        })
    }

    /// Deletes a team and its grants.
    ///
    /// # Errors
    /// When the caller may not, or there is none that it may see.
    pub fn delete_team(&self, principal: &Principal, name: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let team = visible(view, name)?;
            view.require_admin()?;
            let mut owned = view.world.virtual_accounts();
            if let Some(account) = owned.find(|account| account.owned_by.as_ref() == Some(&team.name)) {
                let text = format!(
                    "Team '{name}' owns the virtual account '{}'; give it another owner first",
                    account.name
                );
                return Err(Failure::Conflict(text.into()));
            }
            let mut draft = Draft::default();
            let grants = delete_grants_of(&mut draft, view, &Subject::Team(team.name.clone()));
            let key = Key::team(name);
            let before = json!({"team": team.audited(), "grants": grants});
            draft.audit(view, "team.delete", &key, before, Value::Null);
            draft.delete(key, team.revision);
            Ok((draft, ()))
        })
    }
}

pub(super) fn visible<'v>(view: &'v View, name: &str) -> Result<&'v Versioned<Team>, Failure> {
    let team = view.world.team(name).filter(|_| view.may(Action::See, Resource::Team(name)));
    team.ok_or_else(|| not_found("team", name))
}

fn managed<'v>(view: &'v View, name: &str) -> Result<&'v Versioned<Team>, Failure> {
    let team = visible(view, name)?;
    if view.may(Action::ChangeMembers, Resource::Team(name)) {
        Ok(team)
    } else {
        Err(Failure::Forbidden("Only administrators and the team's managers may do this".into()))
    }
}

/// The users of a list, each of whom must be there and stay. Those whom the team has already need no guard:
/// deleting one of them changes the team too.
pub(super) fn existing(
    draft: &mut Draft,
    view: &View,
    field: &str,
    emails: &[String],
    known: Option<&BTreeSet<Email>>,
) -> Result<BTreeSet<Email>, Failure> {
    if emails.len() > MAX_MEMBERS {
        return Err(refused(format!("A team has at most {MAX_MEMBERS} members, and as many managers")));
    }
    let mut set = BTreeSet::new();
    for (at, email) in emails.iter().enumerate() {
        let user =
            user::named(view, email).map_err(|failure| in_field(&format!("{field}[{at}]"), failure))?;
        if !known.is_some_and(|known| known.contains(&user.email)) {
            draft.guard_user(user);
        }
        set.insert(user.email.clone());
    }
    Ok(set)
}
