//! The calls in flight, so that a change of state or an expiry ends those that it denies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::net::{Cut, Watch};
use crate::store::World;
use crate::{authn, authz, catalog};

/// One call that was permitted.
#[derive(Debug)]
struct Call {
    watch: Arc<Watch>,
    principal: Principal,
    model: String,
    expires_at: Option<UnixMillis>,
    /// The state that `expires_at` was last taken from; 0 before the first review.
    reviewed_revision: u64,
}

/// All calls in flight, in a few tables so that workers rarely meet.
#[derive(Debug)]
pub struct Calls {
    shards: [Mutex<HashMap<u64, Call>>; 8],
    next: AtomicU64,
}

/// A call's place among those in flight; it ends when this is dropped.
#[derive(Debug)]
pub struct InFlight<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Default for Calls {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), next: AtomicU64::new(0) }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.calls.shard(self.id).remove(&self.id);
    }
}

impl Calls {
    /// Enters a call. `expires_at` is when the caller's token ends.
    pub fn enter(
        &self,
        watch: &Arc<Watch>,
        principal: &Principal,
        model: String,
        expires_at: Option<UnixMillis>,
    ) -> InFlight<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (watch, principal) = (Arc::clone(watch), principal.clone());
        let call = Call { watch, principal, model, expires_at, reviewed_revision: 0 };
        self.shard(id).insert(id, call);
        InFlight { calls: self, id }
    }

    /// Calls in flight now.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Cuts every call that a state would not permit now; says how many. The others end when that state says.
    pub fn review(&self, world: &World, now: UnixMillis) -> usize {
        self.cut_where(|call| {
            let Some(principal) = permitted(call, world, now) else { return true };
            // Two reviews may run at once, and the older state may come last.
            if call.reviewed_revision <= world.revision() {
                call.reviewed_revision = world.revision();
                call.expires_at = authn::expiry(&principal, world);
            }
            false
        })
    }

    /// Cuts every call whose token has ended meanwhile; says how many. Much cheaper than a review.
    pub fn expire(&self, now: UnixMillis) -> usize {
        self.cut_where(|call| call.expires_at.is_some_and(|end| end <= now))
    }

    fn cut_where(&self, denied: impl Fn(&mut Call) -> bool) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            for call in lock(shard).values_mut() {
                if denied(call) {
                    count += usize::from(call.watch.cut(Cut::AccessRevoked));
                }
            }
        }
        count
    }

    /// Cuts every call because the gateway stops.
    pub fn cut_all(&self) {
        for shard in &self.shards {
            for call in lock(shard).values() {
                call.watch.cut(Cut::Shutdown);
            }
        }
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Call>> {
        let index = usize::try_from(id).unwrap_or(0) % self.shards.len();
        let [first, ..] = &self.shards;
        lock(self.shards.get(index).unwrap_or(first))
    }
}

fn lock(shard: &Mutex<HashMap<u64, Call>>) -> MutexGuard<'_, HashMap<u64, Call>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The principal as the state has it, when it permits the call.
fn permitted(call: &Call, world: &World, now: UnixMillis) -> Option<Principal> {
    let principal = authn::still_valid(&call.principal, world, now)?;
    let route = catalog::resolve(&call.model, world)?;
    authz::authorize(&principal, &route, world).ok()?;
    Some(principal)
}
