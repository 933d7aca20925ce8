//! Reports on what was used.

use std::sync::Arc;

use super::{Manage, refused};
use crate::authz;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::usage::{ReportFilter, ReportRow, UsageError};

impl Manage {
    /// A report: on everything for admins, on one's own calls for others.
    ///
    /// # Errors
    /// When the principal manages nothing, the records can not be read, or the report is too large.
    pub fn usage_report(
        &self,
        principal: &Principal,
        filter: &ReportFilter,
    ) -> Result<Vec<ReportRow>, Failure> {
        let view = self.view(principal)?;
        // What members ask for must not make the disk work for everyone: they see what is there already.
        let flush = authz::is_admin(&view.principal);
        let mut asked = ReportFilter { world: Some(Arc::clone(&view.world)), flush, ..filter.clone() };
        if !authz::is_admin(&view.principal) {
            let own = view.principal.subject_text();
            if asked.subject.as_ref().is_some_and(|subject| *subject != own) {
                return Ok(Vec::new());
            }
            asked.subject = Some(own);
        }
        self.usage.report(&asked).map_err(|error| match error {
            UsageError::TooManyRows => refused(error.to_string()),
            error => {
                log::warn!("a usage report failed: {error}");
                Failure::Unavailable("The usage records can not be read now; try again".into())
            }
        })
    }
}
