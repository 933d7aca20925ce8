//! Records, the newest first, a page at a time: what a list of calls shows.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use memchr::memmem;
use redb::ReadableDatabase;

use super::UsageError;
use super::read::Reading;
use super::report::ReportFilter;
use crate::domain::UsageRecord;

/// Pages of the file that one step reads: about sixteen thousand records.
const PAGES_OF_STEP: usize = 64;
/// Pages in which one step looks for an id: about a million records. They are searched as bytes.
const PAGES_OF_SEARCH: usize = 4096;

/// Where a list goes on: a page of the file, and how many of its records, from its end, were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentCursor {
    page: [u8; 16],
    seen: usize,
}

impl RecentCursor {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (page, seen) = text.split_at_checked(32)?;
        let is_hex = page.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = (1..=6).contains(&seen.len()) && seen.bytes().all(|byte| byte.is_ascii_digit());
        if !is_hex || !is_number {
            return None;
        }
        Some(Self { page: u128::from_str_radix(page, 16).ok()?.to_be_bytes(), seen: seen.parse().ok()? })
    }
}

impl fmt::Display for RecentCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{}", u128::from_be_bytes(self.page), self.seen)
    }
}

/// Which records are listed.
#[derive(Clone, Debug, Default)]
pub struct RecentFilter {
    /// Those that this shows.
    pub calls: ReportFilter,
    /// Those with a status in it.
    pub status: Option<RangeInclusive<u16>>,
    /// Those of this request id.
    pub request_id: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// Where the last list ended.
    pub before: Option<RecentCursor>,
}

/// Some records, and where to go on; the end without a place. There may be none, and a place all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentPage {
    /// Those that may be seen, the newest first; the teams that may not are left out of them.
    pub records: Vec<UsageRecord>,
    /// Where to go on.
    pub next: Option<RecentCursor>,
}

pub(super) fn read(
    path: &Path,
    database: &dyn ReadableDatabase,
    filter: &RecentFilter,
    limit: Option<Duration>,
) -> Result<RecentPage, UsageError> {
    let (first, last) = filter.calls.span();
    let mut found = RecentPage::default();
    if first > last || filter.limit == 0 {
        return Ok(found);
    }
    let reading = Reading::begin(path, database)?.within(limit);
    // As it stands in a record: an id has no character that JSON escapes.
    let finder = filter
        .request_id
        .as_ref()
        .map(|id| memmem::Finder::new(format!("\"request_id\":\"{id}\"").as_bytes()).into_owned());
    let max_pages = if finder.is_some() { PAGES_OF_SEARCH } else { PAGES_OF_STEP };
    let mut pages = 0;
    reading.each_page_back((first, last), filter.before.map(|cursor| cursor.page), |key, bytes| {
        if pages == max_pages {
            found.next = Some(RecentCursor { page: key, seen: 0 });
            return Ok(false);
        }
        pages += 1;
        if finder.as_ref().is_some_and(|finder| finder.find(bytes).is_none()) {
            return Ok(true);
        }
        let seen = filter.before.filter(|cursor| cursor.page == key).map_or(0, |cursor| cursor.seen);
        for (number, record) in reading.records(bytes)?.iter().rev().enumerate().skip(seen) {
            let fits = filter.status.as_ref().is_none_or(|status| status.contains(&record.status))
                && filter.request_id.as_ref().is_none_or(|id| *id == record.request_id);
            found.records.extend(if fits { filter.calls.seen(record) } else { None });
            if found.records.len() >= filter.limit {
                found.next = Some(RecentCursor { page: key, seen: number + 1 });
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    // Calls are written when they end; within what was found they are in the order of their beginning.
    found.records.sort_by_key(|record| std::cmp::Reverse(record.at));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::domain::UsageScope;
    use crate::store::tests::Folder;
    use crate::usage::tests::{config, record};
    use crate::usage::{Usage, UsageReader as _};

    const FIRST: u64 = 1_900_000_000_000;

    /// A thousand calls, a second apart, in several pages.
    fn filled(folder: &Folder) -> Usage {
        let usage = Usage::start(&folder.0, &config());
        for number in 0..1000_u64 {
            let mut record = record(
                ["user:ada@x.io", "user:bob@x.io"][usize::from(number % 2 == 1)],
                "main/m",
                FIRST + number * 1000,
            );
            record.request_id = format!("req-{number}.");
            record.status = if number % 10 == 0 { 429 } else { 200 };
            usage.reserve().unwrap().settle(record);
        }
        usage
    }

    fn all() -> RecentFilter {
        let calls = ReportFilter { flush: true, scope: UsageScope::All, ..ReportFilter::default() };
        RecentFilter { calls, limit: 100, ..RecentFilter::default() }
    }

    fn ids(usage: &Usage, mut filter: RecentFilter) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let page = usage.recent(&filter).unwrap();
            assert!(page.records.len() <= filter.limit);
            ids.extend(page.records.into_iter().map(|record| record.request_id));
            let Some(next) = page.next else { return ids };
            // As a client gives it back.
            filter.before = RecentCursor::parse(&next.to_string());
            assert_eq!(filter.before, Some(next));
        }
    }

    #[test]
    fn every_record_comes_once_and_the_newest_first() {
        let folder = Folder::new();
        let usage = filled(&folder);
        let wanted: Vec<String> = (0..1000).rev().map(|number| format!("req-{number}.")).collect();
        for limit in [1, 7, 256, 1000, 5000] {
            assert_eq!(ids(&usage, RecentFilter { limit, ..all() }), wanted, "{limit}");
        }
        assert_eq!(ids(&usage, RecentFilter { limit: 0, ..all() }).len(), 0);
    }

    #[test]
    fn filters_cut() {
        let folder = Folder::new();
        let usage = filled(&folder);
        let count = |filter: RecentFilter| ids(&usage, filter).len();
        assert_eq!(count(RecentFilter { status: Some(429..=429), ..all() }), 100);
        assert_eq!(count(RecentFilter { status: Some(400..=499), limit: 3, ..all() }), 100);
        assert_eq!(count(RecentFilter { status: Some(500..=599), ..all() }), 0);
        let calls = ReportFilter {
            from: Some(UnixMillis(FIRST + 10_000)),
            to: Some(UnixMillis(FIRST + 19_999)),
            subject: Some("user:bob@x.io".into()),
            ..all().calls
        };
        assert_eq!(
            ids(&usage, RecentFilter { calls, ..all() }).join(""),
            "req-19.req-17.req-15.req-13.req-11."
        );
        let id = |id: &str| ids(&usage, RecentFilter { request_id: Some(id.to_owned()), ..all() });
        assert_eq!(id("req-500."), ["req-500."]);
        assert!(id("req-50").is_empty() && id("req-1000.").is_empty());
        // Nobody sees what is not theirs, whatever they ask for.
        let calls = ReportFilter { flush: true, ..ReportFilter::default() };
        assert_eq!(count(RecentFilter { calls: calls.clone(), ..all() }), 0);
        assert_eq!(count(RecentFilter { calls, request_id: Some("req-500.".into()), ..all() }), 0);
    }

    #[test]
    fn cursors_that_nobody_gave_out() {
        for wrong in [
            "",
            "x",
            "0",
            &"0".repeat(32),
            &"g".repeat(33),
            &"0".repeat(39),
            &format!("{}+1", "0".repeat(32)),
            "\u{e9}",
        ] {
            assert_eq!(RecentCursor::parse(wrong), None, "{wrong}");
        }
        let folder = Folder::new();
        let usage = filled(&folder);
        usage.recent(&all()).unwrap();
        for made_up in [format!("{}999999", "0".repeat(32)), format!("{}0", "f".repeat(32))] {
            let before = RecentCursor::parse(&made_up);
            assert!(before.is_some());
            usage.recent(&RecentFilter { before, ..all() }).unwrap();
        }
    }
}
