//! The list of calls, and what was kept of one: who may see which, and that each reading of a body leaves its entry in
//! the audit log.

use serde_json::json;

use super::draft::audit_entry;
use super::{Manage, View, not_found};
use crate::authz;
use crate::domain::{Principal, UsageRecord};
use crate::failure::Failure;
use crate::request_log::{Found, LoggedBodies, RequestLogError};
use crate::store::{Change, CommitError};
use crate::usage::{RecentCursor, RecentFilter, ReportFilter};

/// A call in a list.
#[derive(Clone, Debug)]
pub struct ListedCall {
    /// Its record, as far as the caller may see it.
    pub record: UsageRecord,
    /// Whether its bodies are kept.
    pub is_logged: bool,
}

/// Some calls, the newest first. There may be none, and a place to go on all the same.
#[derive(Clone, Debug)]
pub struct CallList {
    /// The calls.
    pub calls: Vec<ListedCall>,
    /// Where to go on; `None` at the end.
    pub next: Option<RecentCursor>,
}

/// What somebody gets of the bodies of a call.
#[derive(Clone, Debug)]
pub enum BodiesView {
    /// None were kept, or they were removed.
    NotLogged,
    /// They are not for this reader: only for the user whose call it was, and for administrators.
    Withheld,
    /// They do not open; why, in a sentence.
    Unreadable(String),
    /// Here they are. The audit log has an entry of it.
    Read(LoggedBodies),
}

/// One call.
#[derive(Clone, Debug)]
pub struct LoggedCall {
    /// Its record, as far as the caller may see it.
    pub record: UsageRecord,
    /// Its bodies.
    pub bodies: BodiesView,
}

impl Manage {
    /// Calls that the principal may see, the newest first: their own, those of teams and on accounts that they manage,
    /// all for administrators. `filter.calls.scope` is set here.
    ///
    /// # Errors
    /// When the principal manages nothing, or the records can not be read.
    pub fn request_log_list(
        &self,
        principal: &Principal,
        filter: &RecentFilter,
    ) -> Result<CallList, Failure> {
        let filter = RecentFilter { calls: self.within_scope(principal, &filter.calls)?, ..filter.clone() };
        let page = self.usage.recent(&filter).map_err(super::usage::unreadable)?;
        let ids = page.records.iter().map(|record| (record.at, record.request_id.clone())).collect();
        let logged = self.request_log.are_logged(ids, filter.calls.flush).map_err(unreadable)?;
        let calls = page.records.into_iter().zip(logged);
        let calls = calls.map(|(record, is_logged)| ListedCall { record, is_logged }).collect();
        Ok(CallList { calls, next: page.next })
    }

    /// The newest call with a request id that the principal may see, with its bodies if those are kept and theirs to read.
    /// Callers may choose the ids, so there can be more; the filter's times tell them apart. One whose bodies are kept is
    /// preferred.
    ///
    /// # Errors
    /// When there is none, the log can not be read, or the audit log does not take the entry of the reading.
    pub fn request_log_show(
        &self,
        principal: &Principal,
        request_id: &str,
        filter: &ReportFilter,
    ) -> Result<LoggedCall, Failure> {
        let view = self.view(principal)?;
        let filter = self.within_scope(principal, filter)?;
        let find = || self.request_log.find(request_id, &filter).map_err(unreadable);
        let found = match find()? {
            Some(found) => found,
            None => {
                let call = self.unlogged(request_id, filter.clone())?;
                // It may have ended between the two looks; its bodies are handed over before its record.
                let named = vec![(call.record.at, call.record.request_id.clone())];
                let is_logged = self.request_log.are_logged(named, filter.flush).map_err(unreadable)?;
                let again = if is_logged == [true] { find()? } else { None };
                let Some(found) = again else { return Ok(call) };
                found
            }
        };
        let Found { key, record } = found;
        if !may_read_bodies(&view, &record) {
            return Ok(LoggedCall { record, bodies: BodiesView::Withheld });
        }
        // First the entry: what can not be audited is not read.
        self.audit_reading(&view, &record)?;
        let bodies = match self.request_log.bodies(key) {
            Ok(Some(bodies)) => BodiesView::Read(bodies),
            Ok(None) => BodiesView::NotLogged,
            Err(error @ RequestLogError::Sealed(_)) => {
                log::error!("request log: {error}");
                BodiesView::Unreadable(error.to_string())
            }
            Err(error) => return Err(unreadable(error)),
        };
        Ok(LoggedCall { record, bodies })
    }

    /// A call of which nothing was kept but its record.
    fn unlogged(&self, request_id: &str, calls: ReportFilter) -> Result<LoggedCall, Failure> {
        let request_id = Some(request_id.to_owned());
        let filter =
            RecentFilter { calls, request_id: request_id.clone(), limit: 1, ..RecentFilter::default() };
        let page = self.usage.recent(&filter).map_err(super::usage::unreadable)?;
        match (page.records.into_iter().next(), page.next) {
            (Some(record), _) => Ok(LoggedCall { record, bodies: BodiesView::NotLogged }),
            (None, None) => Err(not_found("call", request_id.as_deref().unwrap_or_default())),
            // The newest million records were searched.
            (None, Some(_)) => Err(Failure::NotFound(
                "None of the newest calls has this id; give 'from' and 'to' to look further back".into(),
            )),
        }
    }

    fn audit_reading(&self, view: &View, record: &UsageRecord) -> Result<(), Failure> {
        let mut entry = audit_entry(view, "request-log.read", &format!("request-log/{}", record.request_id));
        entry.after = json!({"subject": record.subject, "model": record.model, "at": record.at.to_iso()});
        let change = Change { writes: Vec::new(), audit: vec![entry] };
        match self.store.commit(change) {
            Ok(_) => Ok(()),
            Err(CommitError::Busy) => {
                Err(Failure::Unavailable("Too many changes wait for the disk; try again".into()))
            }
            Err(_) => Err(Failure::Unavailable(
                "The audit log does not take an entry now, so no body is shown; try again".into(),
            )),
        }
    }
}

/// The user whose call it was, and administrators. An address that was given to somebody new does not bring along what the
/// one before them said.
fn may_read_bodies(view: &View, record: &UsageRecord) -> bool {
    if authz::is_admin(&view.principal) {
        return true;
    }
    match &view.principal {
        Principal::User { user, .. } => {
            user.active && record.subject == view.principal.subject_text() && record.at >= user.created_at
        }
        Principal::VirtualAccount { .. } | Principal::LocalAdministrator { .. } => false,
    }
}

fn unreadable(error: RequestLogError) -> Failure {
    log::warn!("the request log can not be read: {error}");
    Failure::Unavailable("The request log can not be read now; try again".into())
}
