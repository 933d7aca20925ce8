//! Tokens that were fetched, until shortly before their end. One fetch at a time for each: meanwhile the others use
//! the old token while it is good, or wait.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AuthHeader, CredentialError, bearer};
use crate::clock::{UnixMillis, monotonic_ms};
use crate::domain::AwsAccessKey;
use crate::net::{Socket, Watch};
use crate::secret::Secret;
use crate::upstream::UpstreamError;

/// Tokens that are kept; those that end soonest make room.
const MAX_TOKENS: usize = 1024;
/// A token is renewed this long before its end, or in the last tenth of its life where that is shorter.
const RENEW_BEFORE_END_MS: u64 = 5 * 60 * 1000;
/// A token that ends within this is not sent any more.
const TOO_SHORT_MS: u64 = 1000;
/// No token is believed to live longer.
const MAX_LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a failure answers for those who come after it.
const KEEP_FAILURE_MS: u64 = 1000;
/// How long nobody tries again to renew a token that is still good.
const RENEWAL_PAUSE_MS: u64 = 30_000;
/// How long the replacement of a refused token is not dropped for another refusal.
const FORGET_PAUSE_MS: u64 = 60_000;

/// Whose token, of which of its revisions, and which one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// The account's `pool_key`.
    pub account: Arc<str>,
    /// A changed account starts anew.
    pub revision: u64,
    /// An assumed role needs the machine's keys besides its own.
    pub kind: &'static str,
}

/// What was issued.
#[derive(Debug)]
pub enum Token {
    /// A bearer token.
    Bearer(Secret),
    /// Temporary AWS keys.
    Aws(AwsAccessKey),
}

impl Token {
    /// As a header line.
    ///
    /// # Errors
    /// When it is no bearer token.
    pub fn bearer(&self) -> Result<AuthHeader, CredentialError> {
        match self {
            Self::Bearer(token) => Ok(bearer(token)),
            Self::Aws(_) => Err(CredentialError::Unusable("it is of another kind")),
        }
    }

    /// As AWS keys.
    ///
    /// # Errors
    /// When it is a bearer token.
    pub fn aws(&self) -> Result<&AwsAccessKey, CredentialError> {
        match self {
            Self::Aws(key) => Ok(key),
            Self::Bearer(_) => Err(CredentialError::Unusable("it is of another kind")),
        }
    }
}

/// A token as it came.
#[derive(Debug)]
pub struct Fetched {
    /// The token.
    pub token: Token,
    /// How long it is good from now on.
    pub lifetime_ms: u64,
}

#[derive(Debug)]
struct Held {
    token: Arc<Token>,
    ends: UnixMillis,
    renew: UnixMillis,
}

#[derive(Debug, Default)]
struct Entry {
    held: Option<Held>,
    is_fetching: bool,
    /// Who waits for the fetch; dropped to wake them.
    waiting: Vec<UnixStream>,
    /// The last failure, and until when (monotonic) it holds.
    failure: Option<(CredentialError, u64)>,
    /// When (monotonic) a token was last dropped because the provider refused it.
    forgotten_ms: Option<u64>,
}

enum Step {
    Use(Arc<Token>),
    Fail(CredentialError),
    Fetch,
    Wait,
}

impl Entry {
    fn step(&mut self, now: UnixMillis, now_ms: u64) -> Step {
        let failure = self.failure.filter(|(_, until_ms)| now_ms < *until_ms).map(|(error, _)| error);
        let usable = self.held.as_ref().filter(|held| now.0.saturating_add(TOO_SHORT_MS) < held.ends.0);
        let step = match usable {
            Some(held) if now < held.renew || self.is_fetching || failure.is_some() => {
                return Step::Use(Arc::clone(&held.token));
            }
            Some(_) => Step::Fetch,
            None => match failure {
                _ if self.is_fetching => Step::Wait,
                Some(error) => Step::Fail(error),
                None => Step::Fetch,
            },
        };
        self.is_fetching |= matches!(step, Step::Fetch);
        step
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Tokens {
    entries: Mutex<HashMap<TokenKey, Entry>>,
}

impl Tokens {
    /// The token of a key: the one that is there, or the one that `fetch` brings. The watch's deadline bounds the wait.
    ///
    /// # Errors
    /// What `fetch` said, to this or to another call; or what ended the wait.
    pub fn obtain(
        &self,
        key: &TokenKey,
        watch: &Arc<Watch>,
        fetch: impl FnOnce() -> Result<Fetched, CredentialError>,
    ) -> Result<Arc<Token>, CredentialError> {
        loop {
            let step = {
                let mut entries = self.lock();
                if !entries.contains_key(key) {
                    make_room(&mut entries, key)?;
                }
                entries.entry(key.clone()).or_default().step(UnixMillis::now(), monotonic_ms())
            };
            match step {
                Step::Use(token) => return Ok(token),
                Step::Fail(error) => return Err(error),
                Step::Fetch => {
                    let lease = Lease { tokens: self, key };
                    let result = fetch();
                    return lease.settle(result);
                }
                Step::Wait => self.wait(key, watch)?,
            }
        }
    }

    /// Waits until the fetch of this key has ended, however it ended.
    fn wait(&self, key: &TokenKey, watch: &Arc<Watch>) -> Result<(), CredentialError> {
        let unreachable = |_| CredentialError::Busy;
        let (mut signal, done) = Socket::signal(watch).map_err(unreachable)?;
        if let Some(entry) = self.lock().get_mut(key).filter(|entry| entry.is_fetching) {
            entry.waiting.push(done);
        } else {
            // It ended meanwhile.
            drop(done);
        }
        let waited = signal.read(&mut [0]);
        signal.release();
        match (waited, watch.interruption()) {
            (Err(_), Some(interruption)) => {
                Err(CredentialError::Interrupted(UpstreamError::Interrupted(interruption)))
            }
            (Err(_), None) => Err(CredentialError::Busy),
            (Ok(_), _) => Ok(()),
        }
    }

    /// Drops the tokens of an account, once a minute; true when there was one to drop.
    pub fn forget(&self, account: &Arc<str>) -> bool {
        let now_ms = monotonic_ms();
        let mut entries = self.lock();
        let mut dropped = false;
        for (key, entry) in entries.iter_mut().filter(|(key, _)| key.account == *account) {
            let is_early =
                entry.forgotten_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < FORGET_PAUSE_MS);
            if !is_early && entry.held.take().is_some() {
                entry.forgotten_ms = Some(now_ms);
                log::info!(
                    "the provider refused the token ({}) of account '{account}'; it is fetched anew",
                    key.kind
                );
                dropped = true;
            }
        }
        dropped
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what a new entry makes superfluous, and what it needs the place of.
fn make_room(entries: &mut HashMap<TokenKey, Entry>, key: &TokenKey) -> Result<(), CredentialError> {
    entries.retain(|other, entry| {
        entry.is_fetching || other.account != key.account || other.revision >= key.revision
    });
    if entries.len() >= MAX_TOKENS {
        let now = UnixMillis::now();
        entries
            .retain(|_, entry| entry.is_fetching || entry.held.as_ref().is_some_and(|held| now < held.ends));
    }
    if entries.len() >= MAX_TOKENS {
        let first = entries
            .iter()
            .filter(|(_, entry)| !entry.is_fetching)
            .min_by_key(|(_, entry)| entry.held.as_ref().map_or(0, |held| held.ends.0))
            .map(|(other, _)| other.clone())
            .ok_or(CredentialError::Busy)?;
        entries.remove(&first);
    }
    Ok(())
}

/// The right to fetch. However it ends, those who wait go on.
struct Lease<'a> {
    tokens: &'a Tokens,
    key: &'a TokenKey,
}

impl Lease<'_> {
    fn settle(self, result: Result<Fetched, CredentialError>) -> Result<Arc<Token>, CredentialError> {
        let mut entries = self.tokens.lock();
        let entry = entries.entry(self.key.clone()).or_default();
        match result {
            Ok(fetched) => {
                let now = UnixMillis::now();
                let lifetime_ms = fetched.lifetime_ms.min(MAX_LIFETIME_MS);
                let early_ms = RENEW_BEFORE_END_MS.min(lifetime_ms / 10);
                let token = Arc::new(fetched.token);
                entry.failure = None;
                entry.held = Some(Held {
                    token: Arc::clone(&token),
                    ends: UnixMillis(now.0.saturating_add(lifetime_ms)),
                    renew: UnixMillis(now.0.saturating_add(lifetime_ms - early_ms)),
                });
                Ok(token)
            }
            // Only this call was ended: the next one tries for itself.
            Err(error) if error.interruption().is_some() => Err(error),
            Err(error) => {
                let now = UnixMillis::now();
                let good = entry.held.as_ref().filter(|held| now < held.ends);
                let pause_ms = if good.is_some() { RENEWAL_PAUSE_MS } else { KEEP_FAILURE_MS };
                entry.failure = Some((error, monotonic_ms().saturating_add(pause_ms)));
                match good {
                    Some(held) => {
                        let account = &self.key.account;
                        log::warn!("{}; the old token is still good", error.message(account));
                        Ok(Arc::clone(&held.token))
                    }
                    None => Err(error),
                }
            }
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let waiting = self.tokens.lock().get_mut(self.key).map(|entry| {
            entry.is_fetching = false;
            std::mem::take(&mut entry.waiting)
        });
        // Woken after the lock is free.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(account: &str, revision: u64) -> TokenKey {
        TokenKey { account: account.into(), revision, kind: "entra" }
    }

    fn fetched(text: &str, lifetime_ms: u64) -> Fetched {
        Fetched { token: Token::Bearer(Secret::new(text.to_owned())), lifetime_ms }
    }

    fn shown(step: &Step) -> String {
        match step {
            Step::Use(token) => match token.as_ref() {
                Token::Bearer(token) => format!("use {}", token.expose()),
                Token::Aws(_) => "use keys".to_owned(),
            },
            Step::Fail(_) => "fail".to_owned(),
            Step::Fetch => "fetch".to_owned(),
            Step::Wait => "wait".to_owned(),
        }
    }

    #[test]
    fn what_a_call_does_by_the_state_of_its_token() {
        let held = || Held {
            token: Arc::new(Token::Bearer(Secret::new("old".to_owned()))),
            ends: UnixMillis(100_000),
            renew: UnixMillis(90_000),
        };
        let failed = Some((CredentialError::Busy, 500));
        for (now, has_token, is_fetching, failure, wanted) in [
            (0, false, false, None, "fetch"),
            (0, false, true, None, "wait"),
            (0, false, false, failed, "fail"),
            (0, false, true, failed, "wait"),
            (89_999, true, false, None, "use old"),
            (90_000, true, false, None, "fetch"),
            (90_000, true, true, None, "use old"),
            (90_000, true, false, failed, "use old"),
            (98_999, true, true, None, "use old"),
            (99_000, true, false, None, "fetch"),
            (99_000, true, true, None, "wait"),
            (99_000, true, false, failed, "fail"),
        ] {
            let held = has_token.then(held);
            let mut entry = Entry { held, is_fetching, failure, ..Entry::default() };
            let step = shown(&entry.step(UnixMillis(now), 499));
            assert_eq!(step, wanted, "{now} {has_token} {is_fetching}");
            assert_eq!(entry.is_fetching, is_fetching || wanted == "fetch");
            if failure.is_some() && !has_token && !is_fetching {
                assert_eq!(shown(&entry.step(UnixMillis(now), 500)), "fetch", "a failure does not last");
            }
        }
    }

    #[test]
    fn refused_tokens_are_dropped_once() {
        let tokens = Tokens::default();
        let (a, b) = (key("a", 1), key("b", 1));
        for key in [&a, &b] {
            let lease = Lease { tokens: &tokens, key };
            lease.settle(Ok(fetched("t", 60_000))).unwrap();
        }
        assert!(tokens.forget(&a.account));
        assert!(tokens.lock()[&b].held.is_some());
        assert!(!tokens.forget(&a.account), "there is none any more");
        Lease { tokens: &tokens, key: &a }.settle(Ok(fetched("t2", 60_000))).unwrap();
        assert!(!tokens.forget(&a.account), "a wrong credential would be fetched for each call");
        assert!(tokens.lock()[&a].held.is_some());
        assert!(!tokens.forget(&"c".into()));
    }

    #[test]
    fn room_is_bounded_and_revisions_are_flushed() {
        let tokens = Tokens::default();
        let settle = |key: &TokenKey, lifetime_ms| {
            if !tokens.lock().contains_key(key) {
                make_room(&mut tokens.lock(), key)?;
            }
            Lease { tokens: &tokens, key }.settle(Ok(fetched("t", lifetime_ms))).map(|_| ())
        };
        settle(&key("a", 1), 60_000).unwrap();
        settle(&key("a", 2), 60_000).unwrap();
        assert_eq!(tokens.lock().keys().map(|key| key.revision).collect::<Vec<_>>(), [2]);
        for number in 0..MAX_TOKENS + 10 {
            settle(&key(&format!("account-{number}"), 1), 1_000_000 + number as u64 * 1000).unwrap();
        }
        assert_eq!(tokens.lock().len(), MAX_TOKENS);
        assert!(!tokens.lock().contains_key(&key("a", 2)), "it would have ended first");
        assert!(tokens.lock().contains_key(&key("account-1000", 1)));
        for entry in tokens.lock().values_mut() {
            entry.is_fetching = true;
        }
        assert_eq!(settle(&key("last", 1), 1), Err(CredentialError::Busy));
    }

    #[test]
    fn lifetimes() {
        let tokens = Tokens::default();
        for (lifetime_ms, early_ms) in
            [(3_600_000, 300_000), (600_000, 60_000), (10, 1), (0, 0), (u64::MAX, 300_000)]
        {
            let key = key("a", lifetime_ms);
            let before = UnixMillis::now();
            Lease { tokens: &tokens, key: &key }.settle(Ok(fetched("t", lifetime_ms))).unwrap();
            let held = tokens.lock().remove(&key).unwrap().held.unwrap();
            assert_eq!(held.ends.0 - held.renew.0, early_ms);
            assert!(held.ends.0 - before.0 <= MAX_LIFETIME_MS + 60_000);
        }
    }

    #[test]
    fn a_failed_renewal_leaves_the_old_token_and_an_interrupted_one_nothing() {
        let tokens = Tokens::default();
        let key = key("a", 1);
        let settle = |result| {
            let lease = Lease { tokens: &tokens, key: &key };
            tokens.lock().entry(key.clone()).or_default().is_fetching = true;
            lease.settle(result)
        };
        let failure = CredentialError::NoRegion;
        assert!(settle(Err(failure)).is_err());
        assert!(!tokens.lock()[&key].is_fetching, "the next may try");
        assert!(tokens.lock()[&key].failure.is_some());
        settle(Ok(fetched("old", 60_000))).unwrap();
        assert!(tokens.lock()[&key].failure.is_none());
        assert!(
            matches!(settle(Err(failure)).unwrap().as_ref(), Token::Bearer(token) if token.expose() == "old")
        );
        tokens.lock().get_mut(&key).unwrap().failure = None;
        let gone = UpstreamError::Interrupted(crate::net::Interruption::CallerGone);
        assert!(settle(Err(CredentialError::Interrupted(gone))).is_err());
        assert!(tokens.lock()[&key].failure.is_none() && tokens.lock()[&key].held.is_some());
    }
}
