//! When each token was last used, to the minute. Kept beside the objects with revisions: a use is no change of state.

use std::collections::{HashMap, HashSet};
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
    /// What is not on disk yet.
    changed: HashSet<IdBytes>,
}

/// The minutes of all tokens, in a few tables so that workers rarely meet.
#[derive(Debug, Default)]
pub(super) struct LastUsed {
    shards: [Mutex<Shard>; SHARDS],
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
            if raise(&mut shard, id, minute_of(now)) {
                shard.changed.insert(id);
            }
        }
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

    /// What is not on disk yet; from now on it counts as being there.
    pub(super) fn take_changed(&self) -> Vec<(IdBytes, u32)> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let changed = std::mem::take(&mut shard.changed);
            taken.extend(
                changed.into_iter().filter_map(|id| shard.minutes.get(&id).map(|minute| (id, *minute))),
            );
        }
        taken
    }

    /// It did not reach the disk after all.
    pub(super) fn put_back(&self, changed: &[(IdBytes, u32)]) {
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

fn raise(shard: &mut Shard, id: IdBytes, minute: u32) -> bool {
    let full = shard.minutes.len() >= MAX_TOKENS_OF_SHARD;
    match shard.minutes.get_mut(&id) {
        Some(kept) if *kept >= minute => false,
        Some(kept) => {
            *kept = minute;
            true
        }
        None if full => false,
        None => {
            shard.minutes.insert(id, minute);
            true
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
        assert_eq!(changed, [(*b"0123456789ab", 1)]);
        last.see(&id, UnixMillis(119_999));
        last.see(&id, UnixMillis(1));
        assert!(last.take_changed().is_empty());
        last.put_back(&changed);
        last.see(&id, UnixMillis(120_000));
        assert_eq!(last.take_changed(), [(*b"0123456789ab", 2)]);
        last.remember(*b"0123456789ab", 1);
        assert_eq!(last.get(&id), Some(UnixMillis(120_000)));
        assert_eq!(last.get(&TokenId::parse("0123456789ac").unwrap()), None);
    }

    #[test]
    fn memory_is_bounded() {
        let last = LastUsed::default();
        for number in 0..MAX_TOKENS_OF_SHARD + 10 {
            let id = TokenId::parse(&format!("0{number:011}")).unwrap();
            last.see(&id, UnixMillis(60_000));
        }
        assert_eq!(last.take_changed().len(), MAX_TOKENS_OF_SHARD);
    }
}
