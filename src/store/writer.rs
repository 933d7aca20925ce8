//! The one thread that writes `state.redb`. It takes what has queued up, checks each change against the state
//! that the ones before it make, and puts all that fit into one transaction: one fsync for many callers.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use redb::Database;

use super::audit::{AuditHead, CHECKPOINT, Checkpoint};
use super::ballast::Ballast;
use super::disk::{self, AUDIT, HIGHEST_TIME, META, OBJECTS, REVISION, Record};
use super::handoff::Answer;
use super::object::{Change, Expect, Key, Write};
use super::world::World;
use super::{CommitError, Shared, StoreError};
use crate::clock::{self, UnixMillis};

/// Changes in one transaction.
const MAX_GROUP: usize = 128;
const BALLAST_RETRY: Duration = Duration::from_secs(10);
/// Without changes the highest time seen is put on disk this often, so that a crash forgets little of it.
const TIME_INTERVAL: Duration = Duration::from_secs(600);
/// The log says at most this often that the host's clock runs behind.
const WARNING_INTERVAL: Duration = Duration::from_secs(3600);

/// A change and the caller that waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) answer: Answer<Result<u64, CommitError>>,
}

/// Opens the database again after a failed write.
pub(super) type Reopen = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// The writing thread's own things.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Receiver<Job>,
    pub(super) path: PathBuf,
    pub(super) reopen: Reopen,
    pub(super) audit: AuditHead,
    /// None for a store in memory.
    pub(super) ballast: Option<Ballast>,
    /// What a failed write may or may not have left on disk.
    pub(super) in_doubt: Option<Batch>,
    /// When the log said that the host's clock runs behind.
    pub(super) warned_at: Option<Instant>,
    /// Held as long as the writer lives.
    pub(super) lock: Option<File>,
}

/// The outcome of some changes, not yet on disk.
pub(super) struct Batch {
    world: World,
    audit: AuditHead,
    objects: Vec<(Key, Option<Vec<u8>>)>,
    records: Vec<(u64, Vec<u8>)>,
    /// Up to where old audit records go.
    prune: Option<Checkpoint>,
}

impl Writer {
    /// Works until the store is closed.
    pub(super) fn run(mut self) {
        self.check_clock();
        while let Some(first) = self.next() {
            let mut jobs = vec![first];
            while jobs.len() < MAX_GROUP
                && let Ok(job) = self.jobs.try_recv()
            {
                jobs.push(job);
            }
            self.commit(jobs);
            self.check_clock();
        }
        self.keep_time();
        self.close_database();
        drop(self.lock.take());
    }

    fn next(&mut self) -> Option<Job> {
        loop {
            match self.ballast.as_mut().filter(|ballast| ballast.is_missing()) {
                None => match self.jobs.recv_timeout(TIME_INTERVAL) {
                    Ok(job) => return Some(job),
                    Err(RecvTimeoutError::Timeout) => {
                        self.keep_time();
                        self.check_clock();
                    }
                    Err(RecvTimeoutError::Disconnected) => return None,
                },
                Some(ballast) => match self.jobs.recv_timeout(BALLAST_RETRY) {
                    Ok(job) => return Some(job),
                    Err(RecvTimeoutError::Timeout) => ballast.restore(),
                    Err(RecvTimeoutError::Disconnected) => return None,
                },
            }
        }
    }

    /// Puts the highest time seen on disk, without any change.
    fn keep_time(&mut self) {
        if !self.is_open() {
            return;
        }
        let batch = Batch {
            world: World::clone(&self.shared.current.load_full()),
            audit: self.audit,
            objects: Vec::new(),
            records: Vec::new(),
            prune: None,
        };
        if let Err(error) = self.write(&batch) {
            log::warn!("the highest time seen could not be written: {error}");
            // After one failed write redb refuses everything until it is opened again.
            self.close_database();
        }
    }

    fn check_clock(&mut self) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARNING_INTERVAL) {
            return;
        }
        if let Some(behind) = clock::behind() {
            log::warn!(
                "the host's clock runs {} seconds behind the highest time seen ({}); that time holds until it is reached again; if the clock once ran ahead by mistake, 'gateway admin clock reset' puts it right",
                behind.as_secs(),
                UnixMillis::now().to_iso()
            );
            self.warned_at = Some(Instant::now());
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if !self.is_open() && !self.settle_doubt() {
            for job in jobs {
                job.answer.send(Err(CommitError::Disk));
            }
            return;
        }
        self.in_doubt = None;
        let mut batch = Batch {
            world: World::clone(&self.shared.current.load_full()),
            audit: self.audit,
            objects: Vec::new(),
            records: Vec::new(),
            prune: None,
        };
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push((job.answer, batch.add(job.change, &self.shared)));
        }
        let changed = batch.world.revision() != self.shared.current.load().revision();
        let done = !changed || self.write_or_recover(batch);
        // Refusals wait too: they may come from changes of this very batch.
        for (answer, outcome) in outcomes {
            answer.send(if done { outcome } else { outcome.and(Err(CommitError::Disk)) });
        }
    }

    fn write_or_recover(&mut self, batch: Batch) -> bool {
        match self.write(&batch) {
            Ok(()) => {
                self.publish(batch);
                return true;
            }
            Err(error) => log::error!("a change could not be written: {error}; trying once more"),
        }
        // After one failed write redb refuses everything until it is opened again.
        self.close_database();
        if let Some(ballast) = &mut self.ballast {
            ballast.release();
        }
        let revision = batch.world.revision();
        self.in_doubt = Some(batch);
        if !self.settle_doubt() {
            return false;
        }
        if self.shared.current.load().revision() == revision {
            return true;
        }
        // The failed write left nothing, so it is safe to do it again.
        let Some(batch) = self.in_doubt.take() else { return false };
        match self.write(&batch) {
            Ok(()) => {
                self.publish(batch);
                true
            }
            Err(error) => {
                log::error!(
                    "a change could not be written: {error}; the store opens again with the next one"
                );
                self.close_database();
                self.in_doubt = Some(batch);
                false
            }
        }
    }

    /// Opens the database again and finds out whether the write in doubt happened. What is on disk is the truth:
    /// when it did happen it is published. True when the database is open afterwards.
    fn settle_doubt(&mut self) -> bool {
        let opened = (self.reopen)().and_then(|database| {
            let revision = disk::read_revision(&self.path, &database)?;
            Ok((database, revision))
        });
        let (database, revision) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                log::error!("the store can not be opened again: {error}");
                return false;
            }
        };
        let published = self.shared.current.load().revision();
        if revision == published {
            self.open_database(database);
            return true;
        }
        match self.in_doubt.take() {
            Some(batch) if batch.world.revision() == revision => {
                self.open_database(database);
                // It was visible, which is not yet safe: a write of its own forces it out.
                match self.write(&batch.without_writes()) {
                    Ok(()) => {
                        self.publish(batch);
                        true
                    }
                    Err(error) => {
                        log::error!("the store can not be written: {error}");
                        self.close_database();
                        self.in_doubt = Some(batch);
                        false
                    }
                }
            }
            other => {
                log::error!("the store on disk is not the one that was open; restart the gateway");
                self.in_doubt = other;
                false
            }
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let failed = |error: redb::Error| StoreError::from_redb(&self.path, error);
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreError::Unavailable)?;
        write_batch(database, batch).map_err(failed)
    }

    /// Makes what is on disk the present state.
    fn publish(&mut self, batch: Batch) {
        self.audit = batch.audit;
        self.shared.publish(batch.world);
    }

    fn is_open(&self) -> bool {
        self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn open_database(&self, database: Database) {
        *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
    }

    fn close_database(&self) {
        let database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = database.map(Database::close) {
            log::warn!("closing the store: {error}");
        }
    }
}

fn write_batch(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(redb::Durability::Immediate)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (key, record) in &batch.objects {
            match record {
                Some(record) => objects.insert(key.as_str(), record.as_slice())?,
                None => objects.remove(key.as_str())?,
            };
        }
        let mut audit = transaction.open_table(AUDIT)?;
        for (seq, record) in &batch.records {
            audit.insert(seq, record.as_slice())?;
        }
        let mut meta = transaction.open_table(META)?;
        if let Some(checkpoint) = &batch.prune {
            audit.retain_in(..=checkpoint.head.records, |_, _| false)?;
            meta.insert(CHECKPOINT, checkpoint.record.as_str())?;
        }
        meta.insert(REVISION, batch.world.revision().to_string().as_str())?;
        meta.insert(HIGHEST_TIME, UnixMillis::now().0.to_string().as_str())?;
    }
    transaction.commit()?;
    Ok(())
}

impl Batch {
    /// One that changes nothing on a disk that has this batch.
    fn without_writes(&self) -> Self {
        Self {
            world: self.world.clone(),
            audit: self.audit,
            objects: Vec::new(),
            records: Vec::new(),
            prune: None,
        }
    }

    /// Adds a change when all of it fits; when not, the batch is as before.
    fn add(&mut self, change: Change, shared: &Shared) -> Result<u64, CommitError> {
        if change.writes.is_empty() && change.audit.is_empty() {
            // Somebody asks whether the writer is alive.
            return Ok(self.world.revision());
        }
        let mut world = self.world.clone();
        let revision = world.revision() + 1;
        world.advance(revision);
        let mut objects = Vec::with_capacity(change.writes.len());
        let mut prune = None;
        for write in change.writes {
            match write {
                Write::Put(object, expect) => {
                    let key = object.key();
                    let fits = match expect {
                        Expect::Absent => world.revision_of(&key).is_none(),
                        Expect::Revision(expected) => world.revision_of(&key) == Some(expected),
                    };
                    if !fits {
                        return Err(CommitError::Conflict(key));
                    }
                    let record = Record { v: 1, revision, object: &object };
                    let record = serde_json::to_vec(&record).map_err(unwritable)?;
                    world.put(object, revision, &shared.master_key).map_err(CommitError::Invalid)?;
                    objects.push((key, Some(record)));
                }
                Write::Check(key, expected) => {
                    if world.revision_of(&key) != Some(expected) {
                        return Err(CommitError::Conflict(key));
                    }
                }
                Write::PruneAudit(head) => {
                    prune = Some(Checkpoint::new(head, &shared.master_key).map_err(unwritable)?);
                }
                Write::Delete(key, expected) => {
                    if world.revision_of(&key) != Some(expected) {
                        return Err(CommitError::Conflict(key));
                    }
                    world.remove(&key, revision);
                    objects.push((key, None));
                }
            }
        }
        let mut audit = self.audit;
        let mut records = Vec::with_capacity(change.audit.len());
        for entry in &change.audit {
            let (next, record) = audit.append(&shared.master_key, entry).map_err(unwritable)?;
            records.push((next.records, record));
            audit = next;
        }
        self.world = world;
        self.audit = audit;
        self.objects.append(&mut objects);
        self.records.append(&mut records);
        if let Some(prune) = prune
            && self.prune.as_ref().is_none_or(|other| other.head.records < prune.head.records)
        {
            self.prune = Some(prune);
        }
        Ok(revision)
    }
}

fn unwritable(error: serde_json::Error) -> CommitError {
    log::error!("a change can not be written as JSON: {error}");
    CommitError::Disk
}
