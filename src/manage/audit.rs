//! The audit log: reading it, checking it, keeping it short, and the attempts that were refused.
//!
//! Refused attempts are no changes, and whoever makes them must not make the disk work: they are counted in memory,
//! those of one minute that are alike together, and written when the minute is over, by a thread of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Manage, refused};
use crate::authz::{Action, Resource};
use crate::clock::UnixMillis;
use crate::domain::{AuditEntry, AuditSource, Principal};
use crate::failure::Failure;
use crate::store::{AuditChain, AuditFilter, AuditPage, Change, CommitError, StoreError, Write};
use crate::usage::offload::{Offload, OffloadError};

/// Kinds of refused attempts that are kept apart; more are counted together.
const MAX_KINDS: usize = 1000;
/// Entries of one commit.
const MAX_ENTRIES: usize = 200;
/// Records that one run removes.
const MAX_PRUNED: usize = 5_000;
const MAX_RESOURCE_CHARS: usize = 128;
const MINUTE_MS: u64 = 60_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What makes refused attempts alike: the minute, who, by which token, what, and why not.
type Kind = (u64, String, Option<String>, String, &'static str);

/// What the audit log needs in memory.
#[derive(Debug, Default)]
pub struct AuditDesk {
    refused: Mutex<BTreeMap<Kind, AuditEntry>>,
    offload: Offload,
}

/// An attempt that was refused, as the API saw it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The method and the template of the path.
    pub action: &'a str,
    /// What the path is on, in place of all that the template stands for.
    pub kind: &'a str,
    /// What the path names.
    pub resource: &'a str,
}

/// What a check of the audit log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// Every link is right.
    Whole(AuditChain),
    /// This record is the first that does not follow from the one before.
    BrokenAt(u64),
}

impl Manage {
    /// Entries of the audit log, the newest first; what was refused a moment ago is among them.
    ///
    /// # Errors
    /// When the caller is no administrator, or the log can not be read.
    pub fn audit_entries(&self, principal: &Principal, filter: AuditFilter) -> Result<AuditPage, Failure> {
        self.require_audit(principal)?;
        self.record_refused(None);
        let store = Arc::clone(&self.store);
        self.read_audit(move || store.read_audit(&filter))?.map_err(unreadable)
    }

    /// Checks every link of the audit log, and that a head which was noted earlier is still in it.
    ///
    /// # Errors
    /// When the caller is no administrator, or the log can not be read.
    pub fn verify_audit(&self, principal: &Principal, noted: Option<&str>) -> Result<AuditVerdict, Failure> {
        self.require_audit(principal)?;
        if noted.is_some_and(|head| head.len() != 64 || !head.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(refused("'head' must be the 64 hex digits of a head that was shown earlier"));
        }
        let (store, noted) = (Arc::clone(&self.store), noted.map(str::to_owned));
        match self.read_audit(move || store.audit_chain(noted.as_deref()))? {
            Ok(chain) => Ok(AuditVerdict::Whole(chain)),
            Err(StoreError::AuditBroken { seq }) => Ok(AuditVerdict::BrokenAt(seq)),
            Err(error) => Err(unreadable(error)),
        }
    }

    fn require_audit(&self, principal: &Principal) -> Result<(), Failure> {
        if self.view(principal)?.may(Action::See, Resource::AuditLog) {
            Ok(())
        } else {
            Err(Failure::Forbidden("Only administrators may do this".into()))
        }
    }

    fn read_audit<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        self.audit.offload.run(read).map_err(|error| match error {
            OffloadError::Busy => Failure::Unavailable("Too many readings of the audit log at once".into()),
            OffloadError::Failed => Failure::Internal,
        })
    }

    /// Counts a refused attempt at a change. Never waits, and keeps nothing that was in the body.
    pub fn attempt_refused(&self, principal: &Principal, attempt: Attempt<'_>, failure: &Failure) {
        let why = match failure.status() {
            403 => "forbidden",
            404 => "not-found",
            409 => "conflict",
            422 => "unprocessable",
            _ => return,
        };
        let at = UnixMillis::now();
        let resource: String = attempt.resource.chars().take(MAX_RESOURCE_CHARS).collect();
        let mut entry = AuditEntry {
            at,
            actor: principal.subject_text(),
            token_id: principal.token_id().map(ToString::to_string),
            source: match principal {
                Principal::LocalAdministrator { .. } => AuditSource::Socket,
                _ => AuditSource::Api,
            },
            refused: Some(why.to_owned()),
            count: 1,
            action: attempt.action.to_owned(),
            resource,
            before: Value::Null,
            after: Value::Null,
        };
        let minute = at.0 / MINUTE_MS;
        let mut kind = (minute, entry.actor.clone(), entry.token_id.clone(), entry.action.clone(), why);
        let mut kept = self.audit.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KINDS && !kept.contains_key(&kind) {
            kind = (minute, String::new(), None, String::new(), "other");
            entry = AuditEntry {
                actor: "other".to_owned(),
                token_id: None,
                refused: Some("other".to_owned()),
                action: "other".to_owned(),
                resource: "other".to_owned(),
                ..entry
            };
        }
        match kept.get_mut(&kind) {
            Some(same) => {
                same.count = same.count.saturating_add(1);
                if same.resource != entry.resource {
                    attempt.kind.clone_into(&mut same.resource);
                }
            }
            None => {
                kept.insert(kind, entry);
            }
        }
    }

    /// Writes the refused attempts of the minutes that are over at a time; of all minutes when there is none. What
    /// can not be written stays for the next time. Waits for the disk.
    pub fn record_refused(&self, now: Option<UnixMillis>) {
        loop {
            let mut taken = BTreeMap::new();
            {
                let mut kept = self.audit.refused.lock().unwrap_or_else(PoisonError::into_inner);
                let present = now.map(|now| now.0 / MINUTE_MS);
                let is_over = |kind: &Kind| present.is_none_or(|present| kind.0 != present);
                while taken.len() < MAX_ENTRIES
                    && let Some(kind) = kept.keys().find(|kind| is_over(kind)).cloned()
                    && let Some(entry) = kept.remove(&kind)
                {
                    taken.insert(kind, entry);
                }
            }
            if taken.is_empty() {
                return;
            }
            let change = Change { writes: Vec::new(), audit: taken.values().cloned().collect() };
            if let Err(error) = self.store.commit(change) {
                if !matches!(error, CommitError::Busy) {
                    log::warn!("refused attempts could not be put into the audit log; they are kept");
                }
                let mut kept = self.audit.refused.lock().unwrap_or_else(PoisonError::into_inner);
                for (kind, entry) in taken {
                    match kept.get_mut(&kind) {
                        Some(same) => same.count = same.count.saturating_add(entry.count),
                        None => drop(kept.insert(kind, entry)),
                    }
                }
                return;
            }
        }
    }

    /// Removes audit records that are older than the tenant's settings want, a bounded number of them; true when
    /// there may be more. Reads the disk and waits for it: for an OS thread.
    pub fn prune_audit(&self, now: UnixMillis) -> bool {
        let Some(days) = self.store.snapshot().settings().audit_retention_days else { return false };
        let kept_ms = u64::try_from(DAY.as_millis()).unwrap_or(u64::MAX).saturating_mul(days.max(1).into());
        let before = UnixMillis(now.0.saturating_sub(kept_ms));
        let head = match self.store.prunable_audit(before, MAX_PRUNED) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                log::error!("old audit records are kept: {error}");
                return false;
            }
        };
        let entry = AuditEntry {
            at: now,
            actor: "gateway".to_owned(),
            token_id: None,
            source: AuditSource::Gateway,
            refused: None,
            count: 1,
            action: "audit.prune".to_owned(),
            resource: "audit-log".to_owned(),
            before: json!({"upTo": head.records, "olderThan": before.to_iso()}),
            after: Value::Null,
        };
        let change = Change { writes: vec![Write::PruneAudit(head)], audit: vec![entry] };
        match self.store.commit(change) {
            Ok(_) => true,
            Err(_) => {
                log::warn!("old audit records could not be removed; the next run tries again");
                false
            }
        }
    }
}

fn unreadable(error: StoreError) -> Failure {
    log::error!("the audit log can not be read: {error}");
    Failure::Unavailable("The audit log can not be read now; try again".into())
}
