//! Reports on what was used.

use std::sync::Arc;

use super::{Manage, refused};
use crate::authz;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::usage::{ExportCursor, ExportPage, ReportFilter, ReportRow, UsageError};

impl Manage {
    /// A report on the calls that the principal may see.
    ///
    /// # Errors
    /// When the principal manages nothing, the records can not be read, or the report is too large.
    pub fn usage_report(
        &self,
        principal: &Principal,
        filter: &ReportFilter,
    ) -> Result<Vec<ReportRow>, Failure> {
        self.usage.report(&self.within_scope(principal, filter)?).map_err(unreadable)
    }

    /// Some of the records that the principal may see at this moment, and where to go on.
    ///
    /// # Errors
    /// When the principal manages nothing, or the records can not be read.
    pub fn usage_export(
        &self,
        principal: &Principal,
        filter: &ReportFilter,
        from: Option<ExportCursor>,
    ) -> Result<ExportPage, Failure> {
        self.usage.export(&self.within_scope(principal, filter)?, from).map_err(unreadable)
    }

    pub(super) fn within_scope(
        &self,
        principal: &Principal,
        filter: &ReportFilter,
    ) -> Result<ReportFilter, Failure> {
        let view = self.view(principal)?;
        Ok(ReportFilter {
            scope: authz::usage_scope(&view.principal, &view.world),
            // What members ask for must not make the disk work for everyone: they see what is there already.
            flush: authz::is_admin(&view.principal),
            world: Some(Arc::clone(&view.world)),
            ..filter.clone()
        })
    }
}

pub(super) fn unreadable(error: UsageError) -> Failure {
    match error {
        UsageError::TooManyRows | UsageError::TooLong => refused(error.to_string()),
        error => {
            log::warn!("a usage report failed: {error}");
            Failure::Unavailable("The usage records can not be read now; try again".into())
        }
    }
}
