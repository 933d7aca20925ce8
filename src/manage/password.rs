//! Passwords and the invitations to choose one. What is slow, hashing, is done by whoever calls, off the workers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::draft::{Audited, Draft};
use super::session::{NewSession, begin, end};
use super::{Manage, invalid, not_found, user};
use crate::clock::UnixMillis;
use crate::domain::{Invitation, Login, PasswordHash, Principal, SignInWay, TenantRole};
use crate::failure::Failure;
use crate::id::Email;
use crate::secret::{Secret, SecretHash};
use crate::store::{Key, Object};

/// How long an invitation can be used.
const INVITATION_VALIDITY: Duration = Duration::from_secs(86_400);

/// An invitation, shown once.
#[derive(Debug)]
pub struct Invited {
    /// Where it is used, below the gateway's own address: a path and a query that holds the code.
    pub path: Secret,
    /// From then on it is refused.
    pub expires_at: UnixMillis,
}

impl Manage {
    /// Invites somebody to choose a password; who is no user yet becomes one, a member. An earlier invitation ends; a
    /// password that they have stays until they choose another.
    ///
    /// # Errors
    /// When the caller is no administrator, the email is none, or the user is deactivated.
    pub fn invite(&self, principal: &Principal, email: &str) -> Result<Invited, Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let email = Email::parse(email).map_err(invalid)?;
            let mut draft = Draft::default();
            match view.world.user(email.as_str()) {
                Some(user) if user.active => draft.guard_user(user),
                Some(_) => {
                    return Err(Failure::Conflict(
                        format!("'{email}' is deactivated; activate them first").into(),
                    ));
                }
                None => user::create(&mut draft, view, email.clone(), String::new(), TenantRole::Member),
            }
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|_| Failure::Internal)?;
            let code = blake3::Hash::from_bytes(bytes).to_hex();
            let expires_at = view.now.plus(INVITATION_VALIDITY);
            let invitation = Invitation {
                secret_hash: SecretHash::of(&code),
                expires_at,
                created_by: view.principal.subject_text(),
            };
            let before = view.world.login(email.as_str());
            let after = Login {
                user: email.clone(),
                password: before.and_then(|login| login.password.clone()),
                invitation: Some(invitation),
                updated_at: view.now,
            };
            let was = before.map_or(Value::Null, |login| login.audited());
            draft.audit(view, "user.invite", &Key::login(email.as_str()), was, after.audited());
            match before {
                Some(login) => draft.replace(Object::Login(after), login.revision),
                None => draft.create(Object::Login(after)),
            }
            let path = format!("/invitation?email={}&code={code}", in_query(email.as_str()));
            Ok((draft, Invited { path: Secret::new(path), expires_at }))
        })
    }

    /// Whether an invitation can be used now.
    pub fn is_invited(&self, email: &str, code: &str) -> bool {
        let world = self.store.snapshot();
        let is_active = world.user(email).is_some_and(|user| user.active);
        is_active && world.login(email).is_some_and(|login| opens(login, code, UnixMillis::now()))
    }

    /// Uses an invitation: its owner has a new password and is signed in; their other sessions end. Gives the cookie.
    ///
    /// # Errors
    /// `Gone` when the invitation was used, replaced, or is over.
    pub fn accept_invitation(
        &self,
        email: &str,
        code: &str,
        password: &PasswordHash,
        new: &NewSession,
    ) -> Result<Secret, Failure> {
        let gone =
            || Failure::Gone("This invitation was used already, or is over; ask for another one".into());
        self.change_as(
            || self.view_as_user(email).map_err(|_| gone()),
            |view| {
                let login = view.world.login(email).filter(|login| opens(login, code, view.now));
                let login = login.ok_or_else(gone)?;
                let mut draft = Draft::default();
                let after = Login {
                    password: Some(password.clone()),
                    invitation: None,
                    updated_at: view.now,
                    ..Login::clone(login)
                };
                let key = Key::login(email);
                draft.audit(view, "user.accept-invitation", &key, login.audited(), after.audited());
                draft.replace(Object::Login(after), login.revision);
                for session in view.world.sessions_of(&login.user) {
                    end(&mut draft, view, session);
                }
                let cookie = begin(&mut draft, view, SignInWay::Invitation, None, new)?;
                Ok((draft, cookie))
            },
        )
    }

    /// The password's hash to compare with, of a user who may sign in.
    pub fn password_of(&self, email: &str) -> Option<Arc<Login>> {
        let world = self.store.snapshot();
        world.user(email).filter(|user| user.active)?;
        world.login(email).filter(|login| login.password.is_some()).map(|login| Arc::clone(&login.value))
    }

    /// Signs in with a password that was compared with the hash in `login`. Gives the cookie.
    ///
    /// # Errors
    /// `Unauthenticated` when the password was changed meanwhile, or the user may not sign in any more.
    pub fn sign_in_with_password(&self, login: &Login, new: &NewSession) -> Result<Secret, Failure> {
        let email = login.user.as_str();
        self.change_as(
            || self.view_as_user(email),
            |view| {
                let present = view.world.login(email).filter(|present| present.password == login.password);
                let present = present.ok_or(Failure::Unauthenticated)?;
                let mut draft = Draft::default();
                draft.check(Key::login(email), present.revision);
                let cookie = begin(&mut draft, view, SignInWay::Password, None, new)?;
                Ok((draft, cookie))
            },
        )
    }

    /// Gives the caller another password; their other sessions end. `old` is the login whose password the caller has
    /// just shown.
    ///
    /// # Errors
    /// When the caller has no password to change, it was changed meanwhile, or the session was born of a token.
    pub fn change_password(
        &self,
        principal: &Principal,
        old: &Login,
        password: &PasswordHash,
    ) -> Result<(), Failure> {
        self.change(principal, |view| {
            let Principal::User { user, token_id } = &view.principal else {
                return Err(Failure::Forbidden("The administrator of the host has no password".into()));
            };
            if view.world.session(token_id).is_none_or(|session| session.token.is_some()) {
                return Err(Failure::Forbidden(
                    "A session that began with a token changes no password; sign in with the password".into(),
                ));
            }
            let email = user.email.as_str();
            let login = view.world.login(email).ok_or_else(|| not_found("password of", email))?;
            if login.user != old.user || login.password != old.password {
                return Err(Failure::Conflict("The password was changed meanwhile".into()));
            }
            let mut draft = Draft::default();
            // An invitation that is still open would replace this password.
            let after = Login {
                password: Some(password.clone()),
                invitation: None,
                updated_at: view.now,
                ..Login::clone(login)
            };
            draft.audit(view, "user.change-password", &Key::login(email), login.audited(), after.audited());
            draft.replace(Object::Login(after), login.revision);
            for session in view.world.sessions_of(&login.user).filter(|session| session.id != *token_id) {
                end(&mut draft, view, session);
            }
            Ok((draft, ()))
        })
    }
}

/// An email as a value of a query.
fn in_query(email: &str) -> String {
    let mut text = String::new();
    for byte in email.bytes() {
        match byte {
            b'.' | b'-' | b'_' => text.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

fn opens(login: &Login, code: &str, now: UnixMillis) -> bool {
    let fits = |invitation: &Invitation| {
        invitation.expires_at > now && SecretHash::of(code) == invitation.secret_hash
    };
    login.invitation.as_ref().is_some_and(fits)
}
