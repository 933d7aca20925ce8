//! Sessions of browsers: begun at sign-in, listed, ended.

use std::sync::Arc;

use serde_json::Value;

use super::draft::{Audited, Draft};
use super::{Manage, View, not_found, user};
use crate::authn;
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{Principal, Session, SignInWay, User};
use crate::failure::Failure;
use crate::id::{Email, TokenId};
use crate::secret::{Secret, SecretHash};
use crate::store::{Key, Object, Versioned};
use crate::token;

/// Sessions of one user; one more ends the oldest.
const MAX_SESSIONS: usize = 20;
/// Of what a browser says it is.
const MAX_AGENT_CHARS: usize = 160;

/// A session to be begun.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// What the browser says it is.
    pub agent: String,
    /// How long it may last at most, in milliseconds.
    pub longest_ms: u64,
}

/// A session as its owner sees it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// What is kept.
    pub session: Arc<Session>,
    /// When it was last used, to the minute; else when it began.
    pub seen_at: UnixMillis,
    /// It is the one that asks.
    pub is_this: bool,
}

impl Manage {
    /// Signs in with a personal access token: the session has its limits and ends with it. Gives the cookie.
    ///
    /// # Errors
    /// `Unauthenticated` when the token is none that works, or belongs to a virtual account.
    pub fn sign_in_with_token(&self, text: &str, new: &NewSession) -> Result<Secret, Failure> {
        let look = || {
            let (world, now) = (self.store.snapshot(), UnixMillis::now());
            let principal = authn::authenticate(text, &world, now).map_err(|_| Failure::Unauthenticated)?;
            match &principal {
                Principal::User { .. } => Ok(View { world, principal, now }),
                _ => Err(Failure::Unauthenticated),
            }
        };
        self.change_as(look, |view| {
            let mut draft = Draft::default();
            let token = view.principal.token_id().cloned();
            let cookie = begin(&mut draft, view, SignInWay::Token, token, new)?;
            Ok((draft, cookie))
        })
    }

    /// Signs in a user whom somebody else vouches for: the organisation's identity provider.
    ///
    /// # Errors
    /// `Unauthenticated` when there is no such user, or not an active one.
    pub fn sign_in_by_provider(&self, email: &str, new: &NewSession) -> Result<Secret, Failure> {
        self.change_as(
            || self.view_as_user(email),
            |view| {
                let mut draft = Draft::default();
                let cookie = begin(&mut draft, view, SignInWay::Provider, None, new)?;
                Ok((draft, cookie))
            },
        )
    }

    /// A look at the state by a user who is about to have a session, and has shown that they are that user.
    pub(super) fn view_as_user(&self, email: &str) -> Result<View, Failure> {
        let (world, now) = (self.store.snapshot(), UnixMillis::now());
        let user = world.user(email).filter(|user| user.active).ok_or(Failure::Unauthenticated)?;
        let user: Arc<User> = Arc::clone(&user.value);
        let token_id = fresh_id()?;
        Ok(View { principal: Principal::User { user, token_id }, world, now })
    }

    /// The sessions of a user, the one used last first: one's own, for admins anybody's.
    ///
    /// # Errors
    /// When there is no such user that the caller may see.
    pub fn sessions(&self, principal: &Principal, email: &str) -> Result<Vec<SessionView>, Failure> {
        let view = self.view(principal)?;
        let user = user::visible(&view, email)?;
        let shown = |session: &Versioned<Session>| SessionView {
            session: Arc::clone(&session.value),
            seen_at: self.usage.last_used(&session.id).unwrap_or_default().max(session.created_at),
            is_this: view.principal.token_id() == Some(&session.id),
        };
        let live = view.world.sessions_of(&user.email).filter(|session| session.expires_at > view.now);
        let mut sessions: Vec<SessionView> = live.map(shown).collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.seen_at));
        Ok(sessions)
    }

    /// Ends a session: one's own, for admins anybody's.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn end_session(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let none = || not_found("session", id);
            let parsed = TokenId::parse(id).map_err(|_| none())?;
            let session =
                view.world.session(&parsed).filter(|session| is_seen(view, session)).ok_or_else(none)?;
            let mut draft = Draft::default();
            end(&mut draft, view, session);
            Ok((draft, ()))
        })
    }

    /// Ends all sessions of a user but the one that asks; says how many.
    ///
    /// # Errors
    /// When there is no such user that the caller may see.
    pub fn end_other_sessions(&self, principal: &Principal, email: &str) -> Result<usize, Failure> {
        self.change(principal, |view| {
            let user = user::visible(view, email)?;
            let mut draft = Draft::default();
            let mut count = 0;
            for session in view.world.sessions_of(&user.email) {
                if view.principal.token_id() != Some(&session.id) {
                    end(&mut draft, view, session);
                    count += 1;
                }
            }
            Ok((draft, count))
        })
    }

    /// Forgets sessions whose time is over. On a thread that may wait for the disk.
    pub fn prune_sessions(&self, now: UnixMillis) {
        let world = self.store.snapshot();
        let over = world.sessions().filter(|session| session.expires_at <= now).take(1000);
        let mut draft = Draft::default();
        for session in over {
            draft.delete(Key::session(session.id.as_str()), session.revision);
        }
        if let Some(change) = draft.into_change()
            && let Err(error) = self.store.commit(change)
        {
            log::debug!("old sessions stay for now: {error:?}");
        }
    }
}

fn is_seen(view: &View, session: &Session) -> bool {
    let is_own = matches!(&view.principal, Principal::User { user, .. } if user.email == session.user);
    is_own || authz::is_admin(&view.principal)
}

fn fresh_id() -> Result<TokenId, Failure> {
    let id = token::random_id().map_err(|_| Failure::Internal)?;
    TokenId::parse(&id).map_err(|_| Failure::Internal)
}

/// Drafts a session of the one who looks; gives its cookie. What is too much or over is ended.
pub(super) fn begin(
    draft: &mut Draft,
    view: &View,
    way: SignInWay,
    born_of: Option<TokenId>,
    new: &NewSession,
) -> Result<Secret, Failure> {
    let Principal::User { user, token_id } = &view.principal else { return Err(Failure::Unauthenticated) };
    let user = view.world.user(user.email.as_str()).ok_or(Failure::Unauthenticated)?;
    let mut old: Vec<&Versioned<Session>> = view.world.sessions_of(&user.email).collect();
    old.sort_by_key(|session| std::cmp::Reverse(session.created_at));
    let live = |session: &&&Versioned<Session>| session.expires_at > view.now;
    let kept: Vec<&TokenId> =
        old.iter().filter(live).take(MAX_SESSIONS - 1).map(|session| &session.id).collect();
    for session in old.iter().filter(|session| !kept.contains(&&session.id)) {
        draft.delete(Key::session(session.id.as_str()), session.revision);
    }
    // The id that the audit log has of this sign-in, where no token was shown.
    let id = if born_of.is_some() { fresh_id()? } else { token_id.clone() };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Failure::Internal)?;
    let secret = blake3::Hash::from_bytes(bytes).to_hex();
    let plain = |c: &char| !c.is_control();
    let session = Session {
        id: id.clone(),
        secret_hash: SecretHash::of(&secret),
        user: user.email.clone(),
        way,
        token: born_of,
        agent: new.agent.chars().filter(plain).take(MAX_AGENT_CHARS).collect(),
        created_at: view.now,
        expires_at: UnixMillis(view.now.0.saturating_add(new.longest_ms)),
    };
    draft.guard_user(user);
    draft.audit(view, "session.create", &Key::session(id.as_str()), Value::Null, session.audited());
    draft.create(Object::Session(session));
    Ok(Secret::new(format!("{id}.{secret}")))
}

/// Drafts the end of a session.
pub(super) fn end(draft: &mut Draft, view: &View, session: &Versioned<Session>) {
    let key = Key::session(session.id.as_str());
    draft.audit(view, "session.end", &key, session.audited(), Value::Null);
    draft.delete(key, session.revision);
}

/// Drafts the end of all that a user signs in with but tokens; says which sessions, and whether there was a password or
/// an invitation. The caller writes the user, and so finds what is begun meanwhile.
pub(super) fn end_login_of(draft: &mut Draft, view: &View, email: &Email) -> (Vec<Value>, bool) {
    let mut ended = Vec::new();
    for session in view.world.sessions_of(email) {
        draft.delete(Key::session(session.id.as_str()), session.revision);
        ended.push(session.audited());
    }
    let login = view.world.login(email.as_str());
    if let Some(login) = login {
        draft.delete(Key::login(email.as_str()), login.revision);
    }
    (ended, login.is_some())
}
