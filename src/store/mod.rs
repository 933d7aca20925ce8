//! The truth on disk and its copy in memory: a redb keyspace, one writer thread, and the published snapshot.

mod object;
mod world;

pub use object::{Change, Expect, Key, Object, Write};
pub use world::{Account, Versioned, World, WorldError};

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::seal::MasterKey;

/// Why a change was not committed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// An object is not as the change supposed.
    Conflict(Key),
    /// Too many changes wait for the disk.
    Busy,
    /// The disk refused.
    Disk,
    /// The change holds an object that can not be used.
    Invalid(WorldError),
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<World>,
    master_key: MasterKey,
    // Stands in for the writer thread until it is there.
    write: Mutex<()>,
}

impl Store {
    /// A store in memory.
    pub fn in_memory(master_key: MasterKey) -> Self {
        Self { current: ArcSwap::from_pointee(World::default()), master_key, write: Mutex::new(()) }
    }

    /// The present state. Hold it for one call, not longer.
    pub fn snapshot(&self) -> Arc<World> {
        self.current.load_full()
    }

    /// The key that seals credentials.
    pub fn master_key(&self) -> &MasterKey {
        &self.master_key
    }

    /// Commits a change: on disk with fsync, then published, then this returns its revision. Waits without
    /// blocking a worker when called in a coroutine.
    ///
    /// # Errors
    /// Nothing of the change has happened then.
    pub fn commit(&self, change: Change) -> Result<u64, CommitError> {
        let _guard = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = World::clone(&self.current.load_full());
        let revision = world.revision() + 1;
        for write in change.writes {
            match write {
                Write::Put(object, expect) => {
                    let key = object.key();
                    let fits = match expect {
                        Expect::Absent => world.revision_of(&key).is_none(),
                        Expect::Revision(revision) => world.revision_of(&key) == Some(revision),
                    };
                    if !fits {
                        return Err(CommitError::Conflict(key));
                    }
                    world.put(object, revision, &self.master_key).map_err(CommitError::Invalid)?;
                }
                Write::Delete(key, expected) => {
                    if world.revision_of(&key) != Some(expected) {
                        return Err(CommitError::Conflict(key));
                    }
                    world.remove(&key, revision);
                }
            }
        }
        self.current.store(Arc::new(world));
        Ok(revision)
    }
}
