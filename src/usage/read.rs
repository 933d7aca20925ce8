//! One reading of `usage.redb`: its records and its hourly sums as they were at one moment.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use super::UsageError;
use super::aggregate::{AGGREGATES, HOUR_MS, RowKey, TEXTS, hour_key};
use super::writer::{BACKFILL, MAX_PAGE_SPAN_MS, RECORDS, record_key};
use crate::clock::UnixMillis;
use crate::domain::UsageRecord;
use crate::store::StoreError;

/// Texts that are remembered at once.
const MAX_TEXTS: usize = 100_000;

/// Hourly sums that are read between two looks at the clock.
const SUMS_BETWEEN_LOOKS: usize = 1024;

/// A transaction that reads, with what it needs to say what failed.
pub(super) struct Reading<'p> {
    path: &'p Path,
    transaction: ReadTransaction,
    /// When it is broken off.
    deadline: Option<Instant>,
    texts: RefCell<HashMap<u32, Rc<str>>>,
}

impl<'p> Reading<'p> {
    pub(super) fn begin(path: &'p Path, database: &dyn ReadableDatabase) -> Result<Self, UsageError> {
        let transaction = database.begin_read();
        let transaction = transaction
            .map_err(|error| UsageError::Store(StoreError::from_redb(path, redb::Error::from(error))))?;
        Ok(Self { path, transaction, deadline: None, texts: RefCell::default() })
    }

    /// Breaks off after that time.
    pub(super) fn within(self, limit: Option<Duration>) -> Self {
        Self { deadline: limit.map(|limit| Instant::now() + limit), ..self }
    }

    fn check_time(&self) -> Result<(), UsageError> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(UsageError::TooLong),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: redb::Error) -> UsageError {
        UsageError::Store(StoreError::from_redb(self.path, error))
    }

    pub(super) fn damaged(&self, what: &str) -> UsageError {
        UsageError::Store(StoreError::Damaged { path: self.path.to_owned(), what: what.to_owned() })
    }

    /// The hours that hourly sums tell of, out of a span of time; `None` when there are none, or none yet: those of
    /// a file of before are still being made.
    pub(super) fn whole_hours(
        &self,
        first: UnixMillis,
        last: UnixMillis,
    ) -> Result<Option<Range<u32>>, UsageError> {
        let is_whole = match self.transaction.open_table(BACKFILL) {
            Ok(table) => table.first().map_err(|e| self.failed(e.into()))?.is_none(),
            // A file of before hourly sums.
            Err(TableError::TableDoesNotExist(_)) => false,
            Err(error) => return Err(self.failed(error.into())),
        };
        let hour = |time: u64| u32::try_from(time / HOUR_MS).unwrap_or(u32::MAX);
        let begin = hour(first.0.saturating_add(HOUR_MS - 1));
        // What ends now or later ends with everything.
        let end = if last >= UnixMillis::now() { u32::MAX } else { hour(last.0.saturating_add(1)) };
        Ok((is_whole && begin < end).then_some(begin..end))
    }

    /// Visits the hourly sums of some hours, in order.
    pub(super) fn each_hourly_sum(
        &self,
        hours: Range<u32>,
        mut visit: impl FnMut(RowKey, &[u8]) -> Result<(), UsageError>,
    ) -> Result<(), UsageError> {
        let failed = |error: redb::Error| self.failed(error);
        let table = match self.transaction.open_table(AGGREGATES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(failed(error.into())),
        };
        let (begin, end) = (hour_key(hours.start), hour_key(hours.end));
        for (number, item) in
            table.range::<&[u8; 21]>(&begin..&end).map_err(|e| failed(e.into()))?.enumerate()
        {
            if number.is_multiple_of(SUMS_BETWEEN_LOOKS) {
                self.check_time()?;
            }
            let (key, value) = item.map_err(|e| failed(e.into()))?;
            visit(RowKey::from_bytes(key.value()), value.value())?;
        }
        Ok(())
    }

    /// What a number in an hourly sum stands for; empty for what found no room.
    pub(super) fn text(&self, number: u32) -> Result<Rc<str>, UsageError> {
        if number == 0 {
            return Ok(Rc::from(""));
        }
        if let Some(text) = self.texts.borrow().get(&number) {
            return Ok(Rc::clone(text));
        }
        let table = self.transaction.open_table(TEXTS).map_err(|e| self.failed(e.into()))?;
        let text = table.get(number).map_err(|e| self.failed(e.into()))?;
        let text: Rc<str> =
            text.map(|text| Rc::from(text.value())).ok_or_else(|| self.damaged("a text is missing"))?;
        let mut texts = self.texts.borrow_mut();
        if texts.len() >= MAX_TEXTS {
            texts.clear();
        }
        texts.insert(number, Rc::clone(&text));
        Ok(text)
    }

    /// Visits the records that began in a span of time, about in order.
    pub(super) fn each_record(
        &self,
        first: UnixMillis,
        last: UnixMillis,
        mut visit: impl FnMut(&UsageRecord) -> Result<(), UsageError>,
    ) -> Result<(), UsageError> {
        let begin = first_key(first);
        self.each_page(begin, last, |_, page| {
            for record in page {
                if (first..=last).contains(&record.at) {
                    visit(record)?;
                }
            }
            Ok(true)
        })
    }

    /// Visits pages of records from a key on, those that may hold records of until `last`, as long as the visitor wants
    /// more.
    pub(super) fn each_page(
        &self,
        begin: [u8; 16],
        last: UnixMillis,
        mut visit: impl FnMut([u8; 16], &[UsageRecord]) -> Result<bool, UsageError>,
    ) -> Result<(), UsageError> {
        let failed = |error: redb::Error| self.failed(error);
        let table = match self.transaction.open_table(RECORDS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(failed(error.into())),
        };
        let end = record_key(last, u64::MAX);
        if begin > end {
            return Ok(());
        }
        for item in table.range::<&[u8; 16]>(&begin..=&end).map_err(|e| failed(e.into()))? {
            self.check_time()?;
            let (key, value) = item.map_err(|e| failed(e.into()))?;
            let page = page(value.value())
                .map_err(|error| self.damaged(&format!("a usage record can not be read ({error})")))?;
            if !visit(*key.value(), &page)? {
                break;
            }
        }
        Ok(())
    }
}

impl Reading<'_> {
    /// Visits pages of records as they are stored, the newest first, as long as the visitor wants more: those that may
    /// hold records of a span of time, from one page on back.
    pub(super) fn each_page_back(
        &self,
        (first, last): (UnixMillis, UnixMillis),
        from: Option<[u8; 16]>,
        mut visit: impl FnMut([u8; 16], &[u8]) -> Result<bool, UsageError>,
    ) -> Result<(), UsageError> {
        let table = match self.transaction.open_table(RECORDS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(self.failed(error.into())),
        };
        let begin = first_key(first);
        let end = from.unwrap_or([u8::MAX; 16]).min(record_key(last, u64::MAX));
        if begin > end {
            return Ok(());
        }
        let range = table.range::<&[u8; 16]>(&begin..=&end).map_err(|error| self.failed(error.into()))?;
        for item in range.rev() {
            self.check_time()?;
            let (key, value) = item.map_err(|error| self.failed(error.into()))?;
            if !visit(*key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    /// The records of a page as it is stored.
    pub(super) fn records(&self, bytes: &[u8]) -> Result<Vec<UsageRecord>, UsageError> {
        page(bytes).map_err(|error| self.damaged(&format!("a usage record can not be read ({error})")))
    }
}

/// The key from which pages stand that may hold a record of that time or later.
pub(super) fn first_key(first: UnixMillis) -> [u8; 16] {
    // A page that begins before the time asked for may reach into it.
    record_key(UnixMillis(first.0.saturating_sub(MAX_PAGE_SPAN_MS)), 0)
}

/// The records of a page.
pub(super) fn page(bytes: &[u8]) -> Result<Vec<UsageRecord>, serde_json::Error> {
    serde_json::Deserializer::from_slice(bytes).into_iter::<UsageRecord>().collect()
}
