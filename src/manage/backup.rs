//! Backups: everything that the gateway keeps, as it was at one moment, while it goes on.
//!
//! One reading of each database is held from the moment of the backup to its end. Changes and calls go on beside it and
//! wait for nothing; what they free is used again only afterwards, so that a database may grow meanwhile. The rows pass in
//! pieces of about a MiB, read on a thread of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Manage, View, refused};
use crate::archive::{Encoder, Header};
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{AuditEntry, AuditSource, Principal};
use crate::failure::Failure;
use crate::seal::MasterKey;
use crate::store::copy::DatabaseCopy;
use crate::store::{Change, Store, StoreError};
use crate::usage::offload::{Offload, OffloadError};

/// Backups under way; each keeps the databases from using freed room again.
const MAX_BACKUPS: usize = 2;
/// Bytes of rows in one piece, unless a single row is larger.
const PIECE_BYTES: usize = 1024 * 1024;
/// A backup that takes longer breaks off: somebody reads it too slowly.
const MAX_DURATION: Duration = Duration::from_secs(4 * 3600);

/// Counts the backups under way.
#[derive(Debug, Default)]
pub struct BackupDesk {
    running: Arc<AtomicUsize>,
    offload: Offload,
}

/// A place among them, free again when this is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl BackupDesk {
    fn take(&self) -> Option<Place> {
        let more = |running| (running < MAX_BACKUPS).then_some(running + 1);
        self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place(Arc::clone(&self.running)))
    }
}

/// What comes next.
#[derive(Debug)]
enum At {
    Header(Box<Header>, Option<Arc<Store>>),
    /// A database begins.
    File,
    /// The table with this number begins.
    Table(usize),
    /// Rows of the table with this number, behind a key.
    Rows(usize, Option<Vec<u8>>),
    End,
    Done,
}

/// A backup that goes on.
#[derive(Debug)]
pub struct Backup {
    encoder: Encoder,
    copies: VecDeque<DatabaseCopy>,
    at: At,
    began: Instant,
    _place: Place,
}

impl Backup {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let at = std::mem::replace(&mut self.at, At::Done);
        let (piece, next) = match (at, self.copies.front()) {
            (At::Header(header, key), _) => (self.begin(&header, key.as_deref())?, At::File),
            (At::File, Some(copy)) => (self.encoder.file(copy.file), At::Table(0)),
            (At::Table(number), Some(copy)) => match copy.tables.get(number) {
                Some(table) => (self.encoder.table(table.name()), At::Rows(number, None)),
                None => {
                    // Its reading ends with it.
                    self.copies.pop_front();
                    (Vec::new(), At::File)
                }
            },
            (At::Rows(number, after), Some(copy)) => match copy.tables.get(number) {
                Some(table) => {
                    let (payload, found) = copy.rows(*table, after.as_deref(), PIECE_BYTES)?;
                    let mut piece = Vec::new();
                    if found.rows > 0 {
                        piece = self.encoder.rows(&payload, found.rows);
                    }
                    match found.last {
                        Some(last) => (piece, At::Rows(number, Some(last))),
                        None => {
                            piece.extend(self.encoder.table_end());
                            (piece, At::Table(number + 1))
                        }
                    }
                }
                None => (Vec::new(), At::File),
            },
            (At::File | At::Table(_) | At::Rows(..), None) => (Vec::new(), At::End),
            (At::End, _) => (self.encoder.end(), At::Done),
            (At::Done, _) => return Ok(None),
        };
        self.at = next;
        Ok(Some(piece))
    }

    fn begin(&mut self, header: &Header, key: Option<&Store>) -> Result<Vec<u8>, StoreError> {
        let mut piece = self.encoder.header(header).map_err(|_| StoreError::Unavailable)?;
        if let Some(store) = key {
            piece.extend(self.encoder.key(&store.master_key().to_hex()));
        }
        Ok(piece)
    }
}

impl Manage {
    /// Begins a backup of everything up to now; its own audit entry is in it. With the master key only for the host's
    /// administrator, who can read its file anyway: an admin's token must not open every provider's credential.
    ///
    /// # Errors
    /// When the caller may not, too many backups run, or the disk refuses.
    pub fn backup(&self, principal: &Principal, with_master_key: bool) -> Result<Backup, Failure> {
        let view = self.require_backup(principal)?;
        if with_master_key && !matches!(principal, Principal::LocalAdministrator { .. }) {
            return Err(Failure::Forbidden(
                "A backup with the master key is made on the gateway's host only: 'gateway admin backup'"
                    .into(),
            ));
        }
        let place = self.backups.take().ok_or_else(|| {
            Failure::Unavailable("Other backups are being made; try again when they are done".into())
        })?;
        let change = Change { writes: Vec::new(), audit: vec![entry(&view, with_master_key)] };
        self.store
            .commit(change)
            .map_err(|_| Failure::Unavailable("The disk refused the audit entry of the backup".into()))?;
        let (store, usage) = (Arc::clone(&self.store), Arc::clone(&self.usage));
        let read = self.on_backup_thread(move || {
            // Usage first: a record may then be missing for a change, never the other way round.
            let usage = usage.copy().map_err(|error| {
                log::warn!("a backup could not begin: {error}");
                Failure::Unavailable("The usage records can not be read now; try again".into())
            })?;
            let state = store.copy().map_err(unreadable)?;
            Ok((state, usage))
        });
        let (state, usage) = read??;
        let header = Header {
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            at: view.now.to_iso(),
            tenant: self.tenant.clone(),
            revision: state.revision,
            audit_records: state.audit.records,
            audit_head: state.audit.to_hex(),
            audit_broken_at: state.broken_at,
            master_key_id: MasterKey::id(self.store.master_key()).to_owned(),
        };
        // Whatever else is kept in a file of its own is added here, and to `recovery::PARTS`.
        let copies = std::iter::once(state.copy).chain(usage).collect();
        let key = with_master_key.then(|| Arc::clone(&self.store));
        Ok(Backup {
            encoder: Encoder::default(),
            copies,
            at: At::Header(Box::new(header), key),
            began: Instant::now(),
            _place: place,
        })
    }

    /// The next piece of a backup, and the backup to go on with; `None` at the end. Whether the principal may is decided
    /// anew each time.
    ///
    /// # Errors
    /// When access was taken away meanwhile, it took too long, or the disk refuses: the backup is void then.
    pub fn backup_piece(
        &self,
        principal: &Principal,
        mut backup: Backup,
    ) -> Result<Option<(Vec<u8>, Backup)>, Failure> {
        self.require_backup(principal)?;
        if backup.began.elapsed() > MAX_DURATION {
            return Err(refused("The backup took too long"));
        }
        self.on_backup_thread(move || Ok(backup.next().map_err(unreadable)?.map(|piece| (piece, backup))))?
    }

    fn on_backup_thread<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.backups.offload.run(read).map_err(|error| match error {
            OffloadError::Busy => Failure::Unavailable("Too many backups at once".into()),
            OffloadError::Failed => Failure::Internal,
        })
    }

    fn require_backup(&self, principal: &Principal) -> Result<View, Failure> {
        let view = self.view(principal)?;
        if authz::is_admin(&view.principal) {
            Ok(view)
        } else {
            Err(Failure::Forbidden("Only administrators may do this".into()))
        }
    }
}

fn entry(view: &View, with_master_key: bool) -> AuditEntry {
    AuditEntry {
        at: UnixMillis::now(),
        actor: view.principal.subject_text(),
        token_id: view.principal.token_id().map(ToString::to_string),
        source: match view.principal {
            Principal::LocalAdministrator { .. } => AuditSource::Socket,
            _ => AuditSource::Api,
        },
        refused: None,
        count: 1,
        action: "backup.create".to_owned(),
        resource: "backup".to_owned(),
        before: Value::Null,
        after: json!({"withMasterKey": with_master_key}),
    }
}

fn unreadable(error: StoreError) -> Failure {
    log::error!("a backup broke off: {error}");
    Failure::Unavailable("The store can not be read now; try again".into())
}
