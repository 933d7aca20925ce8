//! Failed attempts to sign in, counted so that guessing takes longer and longer, and so that a stranger who guesses
//! does not lock the owner out: a browser in which somebody signed in before is counted apart from all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::failure::{Failure, LimitRefusal};

/// Failures of one account, or of one known browser with it, before there is a wait.
const FREE_OF_ACCOUNT: u32 = 5;
/// Failures of one address before there is a wait; many people may share one.
const FREE_OF_ADDRESS: u32 = 30;
/// The first wait; each further failure doubles it.
const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait.
const LONGEST_WAIT_MS: u64 = 15 * 60_000;
/// Failures are forgotten after this time without another.
const FORGET_MS: u64 = 3_600_000;
/// Accounts, browsers and addresses that are counted; past it those that failed longest ago are forgotten.
const MAX_ENTRIES: usize = 20_000;

/// What failures are counted of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// An account, for browsers that are not known: the hash of its email, which may be any text.
    Account([u8; 32]),
    /// A known browser with an account.
    Device([u8; 32]),
    /// An address; of IPv6 its network of 64 bits, since one host has all of that.
    Address(IpAddr),
}

impl Counted {
    /// An account by its email; `device` is the id of a browser that proved to be known.
    pub fn account(email: &str, device: Option<&str>) -> Self {
        let email = email.trim().to_lowercase();
        match device {
            None => Self::Account(*blake3::hash(email.as_bytes()).as_bytes()),
            Some(device) => Self::Device(*blake3::hash(format!("{email}\0{device}").as_bytes()).as_bytes()),
        }
    }

    /// An address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
            v4 => v4,
        })
    }

    fn free(&self) -> u32 {
        match self {
            Self::Account(_) | Self::Device(_) => FREE_OF_ACCOUNT,
            Self::Address(_) => FREE_OF_ADDRESS,
        }
    }
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    /// On the monotonic clock.
    last_ms: u64,
    /// `last_ms` as it was before the last attempt began, for one that turns out to be none.
    before_ms: u64,
}

impl Entry {
    /// As it was before the last attempt; of two at once about so.
    fn take_back(&mut self) {
        self.failures = self.failures.saturating_sub(1);
        self.last_ms = self.before_ms;
    }

    fn until_ms(&self, free: u32) -> u64 {
        match self.failures.checked_sub(free) {
            None => 0,
            Some(over) => {
                let wait = FIRST_WAIT_MS.saturating_mul(1_u64.checked_shl(over).unwrap_or(u64::MAX));
                self.last_ms.saturating_add(wait.min(LONGEST_WAIT_MS))
            }
        }
    }
}

/// All counts.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<Counted, Entry>>);

impl Attempts {
    /// Begins an attempt, which counts as failed until [`Attempts::succeeded`]: those that run at once count too.
    ///
    /// # Errors
    /// When one of what it is counted of has to wait. It is not counted then.
    pub fn begin(&self, counted: &[Counted], now_ms: u64) -> Result<(), Failure> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = |one: &Counted| entries.get(one).map_or(0, |entry| entry.until_ms(one.free()));
        let until_ms = counted.iter().map(until).max().unwrap_or(0);
        if until_ms > now_ms {
            let seconds = (until_ms - now_ms).div_ceil(1000);
            return Err(Failure::LimitReached(Box::new(LimitRefusal {
                is_budget: false,
                message: format!("Too many attempts to sign in; try again in {seconds} seconds"),
                retry_after_seconds: seconds,
                lines: Vec::new(),
            })));
        }
        for one in counted {
            if entries.len() >= MAX_ENTRIES && !entries.contains_key(one) {
                make_room(&mut entries, now_ms);
            }
            let new = Entry { failures: 0, last_ms: now_ms, before_ms: now_ms };
            let entry = entries.entry(one.clone()).or_insert(new);
            if now_ms.saturating_sub(entry.last_ms) >= FORGET_MS {
                entry.failures = 0;
            }
            entry.failures = entry.failures.saturating_add(1);
            entry.before_ms = entry.last_ms;
            entry.last_ms = now_ms;
        }
        Ok(())
    }

    /// The attempt was none to count. What is counted of an account starts again; an address keeps its other failures,
    /// or whoever has one account could guess at all others.
    pub fn succeeded(&self, counted: &[Counted]) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in counted {
            match one {
                Counted::Account(_) | Counted::Device(_) => {
                    entries.remove(one);
                }
                Counted::Address(_) => {
                    if let Some(entry) = entries.get_mut(one) {
                        entry.take_back();
                    }
                }
            }
        }
    }

    /// The attempt was not looked at, such as for want of room: it counts neither for nor against anybody.
    pub fn withdrawn(&self, counted: &[Counted]) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in counted {
            if let Some(entry) = entries.get_mut(one) {
                entry.take_back();
            }
        }
    }
}

/// Forgets many at once, so that a full table does not cost each newcomer a walk through it; those that have to wait
/// are forgotten last.
fn make_room(entries: &mut HashMap<Counted, Entry>, now_ms: u64) {
    entries.retain(|_, entry| now_ms.saturating_sub(entry.last_ms) < FORGET_MS);
    if entries.len() < MAX_ENTRIES {
        return;
    }
    let mut order: Vec<(bool, u64, Counted)> = entries
        .iter()
        .map(|(key, entry)| (entry.failures >= key.free(), entry.last_ms, key.clone()))
        .collect();
    order.sort_unstable_by_key(|(waits, last_ms, _)| (*waits, *last_ms));
    for (_, _, key) in order.into_iter().take(MAX_ENTRIES / 8) {
        entries.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let attempts = Attempts::default();
        let account = [Counted::account("Ada@x.io ", None)];
        for _ in 0..5 {
            attempts.begin(&account, 1000).unwrap();
        }
        let refused = attempts.begin(&[Counted::account("ada@x.io", None)], 1000).unwrap_err();
        assert_eq!(refused.status(), 429);
        assert!(refused.message().contains("in 1 seconds"), "{}", refused.message());
        attempts.begin(&account, 2000).unwrap();
        assert!(attempts.begin(&account, 3999).is_err());
        let mut now_ms = 4000;
        for _ in 0..100 {
            attempts.begin(&account, now_ms).unwrap();
            now_ms += LONGEST_WAIT_MS;
        }
        attempts.begin(&account, now_ms + FORGET_MS).unwrap();
        attempts.begin(&account, now_ms + FORGET_MS).unwrap();
    }

    #[test]
    fn a_stranger_locks_no_known_browser_out() {
        let attempts = Attempts::default();
        for _ in 0..5 {
            attempts.begin(&[Counted::account("ada@x.io", None)], 0).unwrap();
        }
        assert!(attempts.begin(&[Counted::account("ada@x.io", None)], 0).is_err());
        let known = [Counted::account("ada@x.io", Some("browser"))];
        attempts.begin(&known, 0).unwrap();
        attempts.succeeded(&known);
        assert!(
            attempts.begin(&[Counted::account("ada@x.io", None)], 0).is_err(),
            "the owner's success helps no stranger"
        );
    }

    #[test]
    fn an_address_that_guesses_at_many_waits_too() {
        let attempts = Attempts::default();
        let try_one = |number: usize, address: &str| {
            let account = Counted::account(&format!("user{number}@x.io"), None);
            attempts.begin(&[account, Counted::address(address.parse().unwrap())], 0)
        };
        for number in 0..30 {
            try_one(number, &format!("2001:db8::{number:x}")).unwrap();
        }
        assert!(try_one(31, "2001:db8::ffff").is_err(), "another host of the same network");
        assert!(try_one(32, "2001:db8:0:1::1").is_ok());
        let one = [Counted::address("2001:db8:0:1::1".parse().unwrap())];
        attempts.succeeded(&one);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let attempts = Attempts::default();
        for number in 0..(MAX_ENTRIES + 100) {
            attempts.begin(&[Counted::account(&format!("{number}"), None)], 0).unwrap();
        }
        assert!(attempts.0.lock().unwrap().len() <= MAX_ENTRIES);
    }
}
