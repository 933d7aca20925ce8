//! Reading all objects at the start: several threads take the records apart while one puts the objects together.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::StoreError;
use super::disk::{OBJECTS, Record, damaged};
use super::object::Object;

/// Objects that go from one thread to the other together.
const BATCH: usize = 512;
/// Batches that wait to be put in.
const QUEUED: usize = 8;
/// A store with fewer records is read faster than threads are started.
const WORTH_THREADS: u64 = 10_000;
const MAX_THREADS: usize = 4;

/// First characters of token ids, in the order of their bytes. Tokens are most of a large store, and their ids are
/// random, so that these cut it into pieces of one size.
const ID_STARTS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

type Read = Result<Vec<(Object, u64)>, StoreError>;

/// Gives every object and its revision to `put`, in no order. One record that can not be read fails it all.
pub(super) fn read_all(
    path: &Path,
    database: &Database,
    mut put: impl FnMut(Object, u64) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let objects = transaction.open_table(OBJECTS).map_err(|e| failed(e.into()))?;
    let many = objects.len().map_err(|e| failed(e.into()))? >= WORTH_THREADS;
    let threads = if many { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let mut starts = vec![String::new()];
    if many {
        starts.extend(ID_STARTS.chars().map(|first| format!("token/{first}")));
        starts.push("token0".to_owned());
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel::<Read>(QUEUED);
        for _ in 0..threads.min(MAX_THREADS) {
            let (sender, starts, next) = (sender.clone(), &starts, &next);
            let work = move || {
                while let Some(start) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let end = starts.iter().find(|other| *other > start);
                    if let Err(error) = read_piece(path, database, start, end, &sender) {
                        // Nobody listens when another piece failed before.
                        let _ = sender.send(Err(error));
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name("store-reader".to_owned())
                .spawn_scoped(scope, work)
                .map_err(|error| StoreError::io(path, error))?;
        }
        drop(sender);
        for batch in batches {
            for (object, revision) in batch? {
                put(object, revision)?;
            }
        }
        Ok(())
    })
}

/// Takes the records from one key up to before another apart.
fn read_piece(
    path: &Path,
    database: &Database,
    start: &str,
    end: Option<&String>,
    sender: &SyncSender<Read>,
) -> Result<(), StoreError> {
    let failed = |error: redb::Error| StoreError::from_redb(path, error);
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let objects = transaction.open_table(OBJECTS).map_err(|e| failed(e.into()))?;
    let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_str()));
    let mut batch = Vec::with_capacity(BATCH);
    for item in objects.range::<&str>((Bound::Included(start), end)).map_err(|e| failed(e.into()))? {
        let (key, value) = item.map_err(|e| failed(e.into()))?;
        let unreadable = |why: &dyn std::fmt::Display| {
            damaged(path, &format!("the record '{}' can not be read ({why})", key.value().escape_debug()))
        };
        // Once for all of it is faster than for each text in it.
        let text = std::str::from_utf8(value.value()).map_err(|e| unreadable(&e))?;
        let record: Record<Object> = serde_json::from_str(text).map_err(|e| unreadable(&e))?;
        if record.v != 1 {
            return Err(unreadable(&"unknown form"));
        }
        let at_its_key = match &record.object {
            // Most of them, so without a key to be made.
            Object::Token(token) => key.value().strip_prefix("token/") == Some(token.id.as_str()),
            other => other.key().as_str() == key.value(),
        };
        if !at_its_key {
            return Err(unreadable(&"it is that of another object"));
        }
        batch.push((record.object, record.revision));
        if batch.len() == BATCH
            && sender.send(Ok(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))).is_err()
        {
            return Ok(());
        }
    }
    let _ = sender.send(Ok(batch));
    Ok(())
}
