//! The clock, which never goes back unless the host's administrator says so.

use serde_json::json;

use super::Manage;
use crate::clock::{self, UnixMillis};
use crate::domain::{AuditEntry, AuditSource, Principal};
use crate::failure::Failure;
use crate::store::Change;

impl Manage {
    /// Believes the host's clock again. The time before and after.
    ///
    /// # Errors
    /// When the caller did not come by the admin socket, or the disk refuses.
    pub fn reset_clock(&self, principal: &Principal) -> Result<(UnixMillis, UnixMillis), Failure> {
        if !matches!(principal, Principal::LocalAdministrator { .. }) {
            return Err(Failure::Forbidden("Only on the gateway's host: 'gateway admin clock reset'".into()));
        }
        let (before, after) = clock::reset();
        let entry = AuditEntry {
            at: after,
            actor: principal.subject_text(),
            token_id: None,
            source: AuditSource::Socket,
            refused: None,
            count: 1,
            action: "clock.reset".to_owned(),
            resource: "clock".to_owned(),
            before: json!(before.to_iso()),
            after: json!(after.to_iso()),
        };
        // The same commit puts the time on disk.
        let change = Change { writes: Vec::new(), audit: vec![entry] };
        self.store.commit(change).map(|_| (before, after)).map_err(|_| {
            clock::remember(before);
            Failure::Unavailable("The disk refused the change; nothing was changed".into())
        })
    }
}
