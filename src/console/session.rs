//! Sessions of browsers: who signed in, and until when.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::authn;
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::store::World;

/// A session that nobody uses ends after this time.
pub const IDLE_MS: u64 = 8 * 3_600_000;
/// Every session ends after this time.
pub const ABSOLUTE_MS: u64 = 7 * 24 * 3_600_000;
/// Sessions that are kept; past it the one that idled longest ends.
const MAX_SESSIONS: usize = 10_000;

/// A session as its pages see it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its public name, for lists.
    pub id: String,
    /// Who is signed in.
    pub principal: Principal,
    /// When they signed in.
    pub created_at: UnixMillis,
    /// When it was last used.
    pub seen_at: UnixMillis,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    flash: Option<Flash>,
}

/// What the next page says on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    /// The sentence.
    pub text: String,
    /// It went wrong.
    pub is_error: bool,
}

/// All sessions, by the hash of their secret.
#[derive(Debug, Default)]
pub struct Sessions {
    entries: Mutex<HashMap<[u8; 32], Entry>>,
}

fn hash(secret: &str) -> [u8; 32] {
    *blake3::hash(secret.as_bytes()).as_bytes()
}

/// 256 random bits as hex digits: the value of a cookie.
///
/// # Errors
/// When the system has no randomness.
pub fn random_secret() -> Result<Secret, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Failure::Internal)?;
    Ok(Secret::new(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; gives the secret for its cookie.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn begin(&self, principal: Principal, now: UnixMillis) -> Result<Secret, Failure> {
        let secret = random_secret()?;
        let key = hash(secret.expose());
        let id = blake3::Hash::from_bytes(hash(&format!("{key:?}"))).to_hex().chars().take(12).collect();
        let session = Session { id, principal, created_at: now, seen_at: now };
        let mut entries = self.lock();
        if entries.len() >= MAX_SESSIONS {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.session.seen_at).map(|(key, _)| *key);
            oldest.and_then(|key| entries.remove(&key));
        }
        entries.insert(key, Entry { session, flash: None });
        Ok(secret)
    }

    /// The session of a cookie, its principal as the present state has it. Nothing when it ended, by itself or
    /// with the token that it was made with.
    pub fn find(&self, secret: &str, world: &World, now: UnixMillis) -> Option<Session> {
        let key = hash(secret);
        let mut entries = self.lock();
        let entry = entries.get_mut(&key)?;
        let session = &mut entry.session;
        let over = now.0.saturating_sub(session.seen_at.0) > IDLE_MS
            || now.0.saturating_sub(session.created_at.0) > ABSOLUTE_MS;
        match authn::still_valid(&session.principal, world, now).filter(|_| !over) {
            Some(principal) => {
                session.principal = principal;
                session.seen_at = now;
                Some(session.clone())
            }
            None => {
                entries.remove(&key);
                None
            }
        }
    }

    /// Ends a session.
    pub fn end(&self, secret: &str) {
        self.lock().remove(&hash(secret));
    }

    /// Leaves a sentence for the next page.
    pub fn leave(&self, secret: &str, flash: Flash) {
        if let Some(entry) = self.lock().get_mut(&hash(secret)) {
            entry.flash = Some(flash);
        }
    }

    /// Takes the sentence that was left.
    pub fn take(&self, secret: &str) -> Option<Flash> {
        self.lock().get_mut(&hash(secret))?.flash.take()
    }
}
