//! When each token was last used, to the minute. Kept beside the objects with revisions: a use is no change of state.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::UnixMillis;
use crate::id::TokenId;

const MINUTE_MS: u64 = 60_000;
const SHARDS: usize = 16;

/// Tokens that one shard remembers; those used later for the first time are not recorded.
const MAX_TOKENS_OF_SHARD: usize = 131_072;

/// A token's id, as it stands in tables.
pub(super) type IdBytes = [u8; 12];

#[derive(Debug, Default)]
struct Shard {
    minutes: HashMap<IdBytes, u32>,
    /// What is not on disk yet; those without a minute were forgotten.
    changed: HashSet<IdBytes>,
}

/// The minutes of all tokens, in a few tables so that workers rarely meet.
#[derive(Debug, Default)]
pub(super) struct LastUsed {
    shards: [Mutex<Shard>; SHARDS],
    /// Uses that found no room.
    unrecorded: AtomicU64,
}

/// The id as bytes; every id has twelve.
pub(super) fn id_bytes(id: &TokenId) -> Option<IdBytes> {
    id.as_str().as_bytes().try_into().ok()
}

pub(super) fn minute_of(time: UnixMillis) -> u32 {
    u32::try_from(time.0 / MINUTE_MS).unwrap_or(u32::MAX)
}

pub(super) fn time_of(minute: u32) -> UnixMillis {
    UnixMillis(u64::from(minute) * MINUTE_MS)
}

impl LastUsed {
    /// A token was used. Within one minute only the first use writes anything.
    pub(super) fn see(&self, id: &TokenId, now: UnixMillis) {
        if let Some(id) = id_bytes(id) {
            let mut shard = self.shard(&id);
            match raise(&mut shard, id, minute_of(now)) {
                Raised::Yes => {
                    shard.changed.insert(id);
                }
                Raised::No => {}
                Raised::NoRoom => {
                    drop(shard);
                    if self.unrecorded.fetch_add(1, Ordering::Relaxed) == 0 {
                        log::warn!(
                            "the last uses of more than {} tokens are not kept: some will show none",
                            MAX_TOKENS_OF_SHARD * SHARDS
                        );
                    }
                }
            }
        }
    }

    /// Uses of tokens that found no room to be kept.
    pub(super) fn unrecorded(&self) -> u64 {
        self.unrecorded.load(Ordering::Relaxed)
    }

    /// Forgets the tokens that are no more; how many. `state` gives what tells whether a token is there: it is asked
    /// after a piece of the ids was listed, so that a token made meanwhile is not taken for one that is gone.
    pub(super) fn forget<K: Fn(&TokenId) -> bool>(&self, state: impl Fn() -> K) -> usize {
        let mut forgotten = 0;
        for shard in &self.shards {
            let ids: Vec<IdBytes> = lock(shard).minutes.keys().copied().collect();
            let is_there = state();
            let gone = |id: &IdBytes| {
                let id = std::str::from_utf8(id).ok().and_then(|text| TokenId::parse(text).ok());
                !id.is_some_and(|id| is_there(&id))
            };
            let gone: Vec<IdBytes> = ids.into_iter().filter(gone).collect();
            let mut shard = lock(shard);
            for id in &gone {
                shard.minutes.remove(id);
                shard.changed.insert(*id);
            }
            if !gone.is_empty() {
                shard.minutes.shrink_to_fit();
            }
            forgotten += gone.len();
        }
        forgotten
    }

    /// When a token was last used.
    pub(super) fn get(&self, id: &TokenId) -> Option<UnixMillis> {
        let id = id_bytes(id)?;
        self.shard(&id).minutes.get(&id).copied().map(time_of)
    }

    /// What the disk remembers of a token.
    pub(super) fn remember(&self, id: IdBytes, minute: u32) {
        raise(&mut self.shard(&id), id, minute);
    }

    /// What is not on disk yet; from now on it counts as being there. `None` is a token that was forgotten.
    pub(super) fn take_changed(&self) -> Vec<(IdBytes, Option<u32>)> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let changed = std::mem::take(&mut shard.changed);
            taken.extend(changed.into_iter().map(|id| (id, shard.minutes.get(&id).copied())));
        }
        taken
    }

    /// It did not reach the disk after all.
    pub(super) fn put_back(&self, changed: &[(IdBytes, Option<u32>)]) {
        for (id, _) in changed {
            self.shard(id).changed.insert(*id);
        }
    }

    fn shard(&self, id: &IdBytes) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        // Ids are random, so any of their bytes spreads them.
        lock(self.shards.get(usize::from(id[0]) % SHARDS).unwrap_or(first))
    }
}

enum Raised {
    Yes,
    /// A use as late is known.
    No,
    NoRoom,
}

fn raise(shard: &mut Shard, id: IdBytes, minute: u32) -> Raised {
    let full = shard.minutes.len() >= MAX_TOKENS_OF_SHARD;
    match shard.minutes.get_mut(&id) {
        Some(kept) if *kept >= minute => Raised::No,
        Some(kept) => {
            *kept = minute;
            Raised::Yes
        }
        None if full => Raised::NoRoom,
        None => {
            shard.minutes.insert(id, minute);
            Raised::Yes
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_written_once() {
        let last = LastUsed::default();
        let id = TokenId::parse("0123456789ab").unwrap();
        last.see(&id, UnixMillis(61_000));
        assert_eq!(last.get(&id), Some(UnixMillis(60_000)));
        let changed = last.take_changed();
        assert_eq!(changed, [(*b"0123456789ab", Some(1))]);
        last.see(&id, UnixMillis(119_999));
        last.see(&id, UnixMillis(1));
        assert!(last.take_changed().is_empty());
        last.put_back(&changed);
        last.see(&id, UnixMillis(120_000));
        assert_eq!(last.take_changed(), [(*b"0123456789ab", Some(2))]);
        last.remember(*b"0123456789ab", 1);
        assert_eq!(last.get(&id), Some(UnixMillis(120_000)));
        assert_eq!(last.get(&TokenId::parse("0123456789ac").unwrap()), None);
    }

    #[test]
    fn what_was_deleted_is_forgotten_on_disk_too() {
        let last = LastUsed::default();
        let [kept, gone] = ["0123456789ab", "0123456789ac"].map(|id| TokenId::parse(id).unwrap());
        last.see(&kept, UnixMillis(60_000));
        last.see(&gone, UnixMillis(60_000));
        last.take_changed();
        assert_eq!(last.forget(|| |id: &TokenId| *id == kept), 1);
        assert_eq!(last.forget(|| |id: &TokenId| *id == kept), 0);
        assert_eq!((last.get(&kept), last.get(&gone)), (Some(UnixMillis(60_000)), None));
        let changed = last.take_changed();
        assert_eq!(changed, [(*b"0123456789ac", None)]);
        last.put_back(&changed);
        assert_eq!(last.take_changed(), changed, "what the disk refused is tried again");
    }

    #[test]
    fn memory_is_bounded() {
        let last = LastUsed::default();
        for number in 0..MAX_TOKENS_OF_SHARD + 10 {
            let id = TokenId::parse(&format!("0{number:011}")).unwrap();
            last.see(&id, UnixMillis(60_000));
        }
        assert_eq!(last.take_changed().len(), MAX_TOKENS_OF_SHARD);
        assert_eq!(last.unrecorded(), 10);
        // Those that are no more make room.
        assert_eq!(
            last.forget(|| |id: &TokenId| id.as_str().ends_with('7')),
            MAX_TOKENS_OF_SHARD * 9 / 10 + 1
        );
        let newcomer = TokenId::parse("0zzzzzzzzzzz").unwrap();
        last.see(&newcomer, UnixMillis(60_000));
        assert_eq!(last.get(&newcomer), Some(UnixMillis(60_000)));
        assert_eq!(last.unrecorded(), 10);
    }
}
