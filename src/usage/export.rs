//! Records, some at a time: whoever exports holds a few hundred, however many there are.

use std::path::Path;

use redb::ReadableDatabase;

use super::UsageError;
use super::read::{Reading, first_key};
use super::report::ReportFilter;
use crate::domain::UsageRecord;

/// Pages of the file that one step reads: about a thousand records.
const PAGES_OF_STEP: usize = 4;

/// Where an export goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportCursor([u8; 16]);

/// Some records, and where to go on; the end without a place. There may be none, and a place all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportPage {
    /// Those that may be seen; the teams that may not are left out of them.
    pub records: Vec<UsageRecord>,
    /// Where to go on.
    pub next: Option<ExportCursor>,
}

pub(super) fn read(
    path: &Path,
    database: &dyn ReadableDatabase,
    filter: &ReportFilter,
    from: Option<ExportCursor>,
) -> Result<ExportPage, UsageError> {
    let (first, last) = filter.span();
    if first > last {
        return Ok(ExportPage::default());
    }
    let begin = from.map_or_else(|| first_key(first), |cursor| cursor.0);
    let mut found = ExportPage::default();
    let mut pages = 0;
    Reading::begin(path, database)?.each_page(begin, last, |key, page| {
        if pages == PAGES_OF_STEP {
            found.next = Some(ExportCursor(key));
            return Ok(false);
        }
        pages += 1;
        for record in page {
            found.records.extend(filter.seen(record));
        }
        Ok(true)
    })?;
    Ok(found)
}
