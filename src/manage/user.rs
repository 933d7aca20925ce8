//! Users.

use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::{Audited, Draft, delete_grants_of};
use super::session::end_login_of;
use super::{Listing, Manage, Page, View, check_text, invalid, not_found, refused};
use crate::authz::{self, Action, Resource};
use crate::domain::{Owner, Principal, Subject, TenantRole, Token, User};
use crate::failure::Failure;
use crate::id::Email;
use crate::store::{Key, Object, Versioned};

/// A user to be made.
#[derive(Debug, Default)]
pub struct NewUser {
    /// The address.
    pub email: String,
    /// The name shown to people.
    pub display_name: String,
    /// Tenant-wide role; a member when none is said.
    pub role: Option<TenantRole>,
    /// A user that is already there is no error.
    pub skip_if_exists: bool,
    /// Check only.
    pub dry_run: bool,
}

impl Manage {
    /// The users that the caller may see: all for admins, oneself for others.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn users(
        &self,
        principal: &Principal,
        query: &str,
        with_inactive: bool,
        page: Page,
    ) -> Result<Listing<Arc<User>>, Failure> {
        let view = self.view(principal)?;
        let query = query.to_ascii_lowercase();
        let wanted = view.world.users().filter(|user| {
            authz::may_see_user(&view.principal, user)
                && (with_inactive || user.active)
                && user.email.as_str().contains(&query)
        });
        Ok(page.cut(wanted.map(|user| Arc::clone(&user.value))))
    }

    /// One user.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn user(&self, principal: &Principal, email: &str) -> Result<Arc<User>, Failure> {
        let view = self.view(principal)?;
        visible(&view, email).map(|user| Arc::clone(&user.value))
    }

    /// Makes a user. It has no token: an admin makes the first one.
    ///
    /// # Errors
    /// When the caller may not, the email is none, or the user is there already.
    pub fn register_user(&self, principal: &Principal, new: &NewUser) -> Result<(), Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let mut draft = Draft::default();
            let email = Email::parse(&new.email).map_err(invalid)?;
            check_text("displayName", &new.display_name)?;
            if view.world.user(email.as_str()).is_some() {
                if new.skip_if_exists {
                    return Ok((draft, ()));
                }
                return Err(Failure::Conflict(format!("There is a user '{email}' already").into()));
            }
            if !new.dry_run {
                let role = new.role.unwrap_or(TenantRole::Member);
                create(&mut draft, view, email, new.display_name.clone(), role);
            }
            Ok((draft, ()))
        })
    }

    /// Changes a user's tenant-wide role.
    ///
    /// # Errors
    /// When the caller may not, or it is the last active admin.
    pub fn set_user_role(&self, principal: &Principal, email: &str, role: TenantRole) -> Result<(), Failure> {
        self.change(principal, |view| {
            let user = visible(view, email)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            if user.role == role {
                return Ok((draft, ()));
            }
            if role != TenantRole::Admin {
                keep_an_admin(&mut draft, view, user)?;
            }
            let after = User { role, updated_at: view.now, ..User::clone(user) };
            let key = Key::user(email);
            draft.audit(view, "user.set-role", &key, user.audited(), after.audited());
            draft.replace(Object::User(after), user.revision);
            Ok((draft, ()))
        })
    }

    /// Lets a user in again. The tokens that deactivation ended stay dead.
    ///
    /// # Errors
    /// When the caller may not, or there is no such user.
    pub fn activate_user(&self, principal: &Principal, email: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let user = visible(view, email)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            if !user.active {
                let after = User { active: true, updated_at: view.now, ..User::clone(user) };
                let key = Key::user(email);
                draft.audit(view, "user.activate", &key, user.audited(), after.audited());
                draft.replace(Object::User(after), user.revision);
            }
            Ok((draft, ()))
        })
    }

    /// Locks a user out and revokes all of the user's tokens, in one change.
    ///
    /// # Errors
    /// When the caller may not, or it is the last active admin.
    pub fn deactivate_user(&self, principal: &Principal, email: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let user = visible(view, email)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            if !user.active {
                return Ok((draft, ()));
            }
            keep_an_admin(&mut draft, view, user)?;
            let tokens = revoke_tokens_of(&mut draft, view, &Owner::User(user.email.clone()));
            let (sessions, had_login) = end_login_of(&mut draft, view, &user.email);
            let after = User { active: false, updated_at: view.now, ..User::clone(user) };
            let key = Key::user(email);
            let mut before = json!({"user": user.audited(), "tokens": tokens});
            tell_login(&mut before, sessions, had_login);
            draft.audit(
                view,
                "user.deactivate",
                &key,
                before,
                json!({"user": after.audited(), "tokens": []}),
            );
            draft.replace(Object::User(after), user.revision);
            Ok((draft, ()))
        })
    }

    /// Deletes a user with its tokens; with `force` also its grants and its places in teams.
    ///
    /// # Errors
    /// When the caller may not, it is the last active admin, or it is still in use and `force` is not set.
    pub fn delete_user(&self, principal: &Principal, email: &str, force: bool) -> Result<(), Failure> {
        self.change(principal, |view| {
            let user = visible(view, email)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            keep_an_admin(&mut draft, view, user)?;
            let subject = Subject::User(user.email.clone());
            let mut teams = Vec::new();
            for team in view.world.teams() {
                if team.members.contains(&user.email) || team.managers.contains(&user.email) {
                    let mut after = crate::domain::Team::clone(team);
                    after.members.remove(&user.email);
                    after.managers.remove(&user.email);
                    after.updated_at = view.now;
                    teams.push(team.name.clone());
                    draft.replace(Object::Team(after), team.revision);
                }
            }
            let grants = delete_grants_of(&mut draft, view, &subject);
            let in_use = !teams.is_empty() || !grants.is_empty();
            if in_use && !force {
                return Err(Failure::Conflict(
                    format!(
                        "'{email}' is in {} teams and holds {} grants; remove them first, or delete with forceDelete=true",
                        teams.len(),
                        grants.len()
                    )
                    .into(),
                ));
            }
            let tokens = delete_tokens_of(&mut draft, view, &Owner::User(user.email.clone()));
            let (sessions, had_login) = end_login_of(&mut draft, view, &user.email);
            let mut before =
                json!({"user": user.audited(), "teams": teams, "grants": grants, "tokens": tokens});
            tell_login(&mut before, sessions, had_login);
            let key = Key::user(email);
            draft.audit(view, "user.delete", &key, before, Value::Null);
            draft.delete(key, user.revision);
            Ok((draft, ()))
        })
    }
}

/// Drafts a new user.
pub(super) fn create(draft: &mut Draft, view: &View, email: Email, display_name: String, role: TenantRole) {
    let (created_at, updated_at) = (view.now, view.now);
    let user = User { email, display_name, role, active: true, created_at, updated_at };
    let key = Key::user(user.email.as_str());
    draft.audit(view, "user.create", &key, Value::Null, user.audited());
    draft.create(Object::User(user));
}

/// Says of what a user lost how they were signed in, where they were.
fn tell_login(before: &mut Value, sessions: Vec<Value>, had_login: bool) {
    if let (false, Some(fields)) = (sessions.is_empty(), before.as_object_mut()) {
        fields.insert("sessions".into(), sessions.into());
    }
    if let (true, Some(fields)) = (had_login, before.as_object_mut()) {
        fields.insert("login".into(), true.into());
    }
}

pub(super) fn visible<'v>(view: &'v View, email: &str) -> Result<&'v Versioned<User>, Failure> {
    let user = view.world.user(email).filter(|_| view.may(Action::See, Resource::User(email)));
    user.ok_or_else(|| not_found("user", email))
}

/// Finds a user whom a body names, where an unknown one is a mistake in the body.
pub(super) fn named<'v>(view: &'v View, email: &str) -> Result<&'v Versioned<User>, Failure> {
    view.world.user(email).ok_or_else(|| refused(format!("There is no user '{email}'")))
}

/// When this user is an active admin: makes sure that another one is there and stays.
pub(super) fn keep_an_admin(draft: &mut Draft, view: &View, user: &User) -> Result<(), Failure> {
    let active_admin = |user: &User| user.active && user.role == TenantRole::Admin;
    if !active_admin(user) {
        return Ok(());
    }
    match view.world.users().find(|other| other.email != user.email && active_admin(other)) {
        Some(other) => {
            draft.guard_user(other);
            Ok(())
        }
        None => Err(Failure::Conflict(
            format!("'{}' is the last active administrator; make another one first", user.email).into(),
        )),
    }
}

/// Deletes the tokens of an owner, and says which they were.
pub(super) fn delete_tokens_of(draft: &mut Draft, view: &View, owner: &Owner) -> Vec<Value> {
    let mut deleted = Vec::new();
    for token in view.world.tokens_of(owner) {
        draft.delete(Key::token(token.id.as_str()), token.revision);
        deleted.push(token.audited());
    }
    deleted
}

/// Revokes the tokens of an owner that are not revoked, and says which they were.
pub(super) fn revoke_tokens_of(draft: &mut Draft, view: &View, owner: &Owner) -> Vec<Value> {
    let mut revoked = Vec::new();
    for token in view.world.tokens_of(owner).filter(|token| token.revoked_at.is_none()) {
        revoked.push(token.audited());
        let kept = Token { revoked_at: Some(view.now), ..Token::clone(token) };
        draft.replace(Object::Token(kept), token.revision);
    }
    revoked
}
