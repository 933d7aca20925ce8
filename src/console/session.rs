//! Sessions of browsers, as the console sees them: whose a cookie is, and what the next page says. The sessions
//! themselves are in the store.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::authn;
use crate::clock::UnixMillis;
use crate::domain::{Principal, SignInWay};
use crate::failure::Failure;
use crate::id::TokenId;
use crate::manage::Manage;
use crate::secret::Secret;

/// Sentences that wait for the next page; a new one takes the place of any other when there are more.
const MAX_FLASHES: usize = 1000;

/// How long sessions last.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// One that nobody uses ends after this time, in milliseconds.
    pub idle_ms: u64,
    /// Every one ends after this time, in milliseconds.
    pub longest_ms: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { idle_ms: 8 * 3_600_000, longest_ms: 7 * 24 * 3_600_000 }
    }
}

/// A session as its pages see it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its public name, for lists.
    pub id: TokenId,
    /// Who is signed in, as the present state has them.
    pub principal: Principal,
    /// How they signed in.
    pub way: SignInWay,
    /// When they signed in.
    pub created_at: UnixMillis,
}

/// The session of a cookie. Nothing when it ended or idled for too long.
pub fn find(manage: &Manage, cookie: &str, limits: SessionLimits, now: UnixMillis) -> Option<Session> {
    let world = manage.store.snapshot();
    let principal = authn::authenticate_session(cookie, &world, now).ok()?;
    let session = world.session(principal.token_id()?)?;
    let seen_at = manage.usage.last_used(&session.id).unwrap_or_default().max(session.created_at);
    if now.0.saturating_sub(seen_at.0) > limits.idle_ms {
        return None;
    }
    manage.usage.session_used(&session.id, now);
    let (id, way, created_at) = (session.id.clone(), session.way, session.created_at);
    Some(Session { id, principal, way, created_at })
}

/// 256 random bits as hex digits.
///
/// # Errors
/// When the system has no randomness.
pub fn random_secret() -> Result<Secret, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Failure::Internal)?;
    Ok(Secret::new(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
}

/// What the next page says on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    /// The sentence.
    pub text: String,
    /// It went wrong.
    pub is_error: bool,
}

/// Sentences that wait for the next page of a session. Losing one loses a courtesy.
#[derive(Debug, Default)]
pub struct Flashes(Mutex<HashMap<TokenId, Flash>>);

impl Flashes {
    /// Leaves a sentence.
    pub fn leave(&self, session: &TokenId, flash: Flash) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_FLASHES {
            kept.clear();
        }
        kept.insert(session.clone(), flash);
    }

    /// Takes the sentence that was left.
    pub fn take(&self, session: &TokenId) -> Option<Flash> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(session)
    }
}
