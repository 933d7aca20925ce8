//! What was used since a time, for those who count it anew: whole hours from their sums, the rest from the records.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;

use redb::ReadableDatabase;

use super::aggregate::{HOUR_MS, hour_of, row_is_of_nobody};
use super::figures::Figures;
use super::read::Reading;
use super::writer::open_for_reading;
use super::{REPORT_FLUSH_TIMEOUT, Usage, UsageError, UsageFile};
use crate::clock::UnixMillis;
use crate::domain::{Outcome, TokenCounts, UsageRecord};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Calls that began then or later.
    pub from: UnixMillis,
    /// Until when hours may be given as sums; what began later comes record by record.
    pub sums_until: UnixMillis,
    /// Times between which a sum must not reach: an hour with one of them inside comes record by record.
    pub cuts: Vec<UnixMillis>,
}

/// Where [`Usage::scan`] hands what it finds: a record of one call, or one that stands for calls of an hour which have
/// subject, teams and model in common, with the hour's beginning as its time and their tokens and cost together.
pub(super) type Sink<'s> = &'s mut dyn FnMut(&UsageRecord);

impl Usage {
    /// Gives what calls used that began at a time or later, each call once, those settled before this among them. Reads
    /// the disk: for an OS thread.
    ///
    /// # Errors
    /// When records can not be written or read.
    pub fn scan(&self, since: &Since, sink: Sink<'_>) -> Result<(), UsageError> {
        self.flush(REPORT_FLUSH_TIMEOUT)?;
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        scan(&self.shared.path, database.as_ref().ok_or(UsageError::Unavailable)?, since, sink)
    }
}

impl UsageFile {
    /// The same, of a gateway that is not running.
    ///
    /// # Errors
    /// When records can not be read.
    pub fn scan(&self, since: &Since, sink: Sink<'_>) -> Result<(), UsageError> {
        match open_for_reading(self.path()).map_err(UsageError::Store)? {
            Some(database) => scan(self.path(), &*database, since, sink),
            None => Ok(()),
        }
    }
}

fn begin_of(hour: u32) -> UnixMillis {
    UnixMillis(u64::from(hour).saturating_mul(HOUR_MS))
}

fn scan(
    path: &Path,
    database: &dyn ReadableDatabase,
    since: &Since,
    sink: Sink<'_>,
) -> Result<(), UsageError> {
    let reading = Reading::begin(path, database)?;
    let end_of_all = UnixMillis(u64::MAX);
    let Some(whole) = reading.whole_hours(since.from, end_of_all)? else {
        return records(&reading, since.from, end_of_all, sink);
    };
    // From here on no hour is taken as a sum.
    let end = hour_of(since.sums_until).max(whole.start);
    let mut apart: BTreeSet<u32> = since
        .cuts
        .iter()
        .filter(|cut| !cut.0.is_multiple_of(HOUR_MS))
        .map(|cut| hour_of(*cut))
        .filter(|hour| (whole.start..end).contains(hour))
        .collect();
    let mut stand_in = stand_in();
    reading.each_hourly_sum(whole.start..end, |key, bytes| {
        // The row of what found no room comes first: of such an hour not all are known by name.
        if row_is_of_nobody(key) {
            apart.insert(key.hour);
        }
        if apart.contains(&key.hour) {
            return Ok(());
        }
        let mut sums = Figures::default();
        sums.add_encoded(bytes).ok_or_else(|| reading.damaged("an hourly sum can not be read"))?;
        let (subject, teams) = (reading.text(key.facts.subject)?, reading.text(key.facts.teams)?);
        let model = reading.text(key.facts.model)?;
        let (account, model) = model.split_once('\n').unwrap_or(("", &model));
        stand_in.at = begin_of(key.hour);
        account.clone_into(&mut stand_in.account);
        model.clone_into(&mut stand_in.model);
        subject.as_ref().clone_into(&mut stand_in.subject);
        stand_in.teams = teams.split('\n').filter(|team| !team.is_empty()).map(str::to_owned).collect();
        stand_in.tokens =
            TokenCounts { input: sums.input_tokens, output: sums.output_tokens, ..TokenCounts::default() };
        stand_in.cost = Some(sums.cost);
        sink(&stand_in);
        Ok(())
    })?;
    let (begin_of_whole, end_of_sums) = (begin_of(whole.start), begin_of(end));
    if since.from < begin_of_whole {
        records(&reading, since.from, UnixMillis(begin_of_whole.0.saturating_sub(1)), sink)?;
    }
    for hour in apart {
        let last = UnixMillis(begin_of(hour).0.saturating_add(HOUR_MS - 1));
        records(&reading, begin_of(hour), last, sink)?;
    }
    records(&reading, end_of_sums, end_of_all, sink)
}

fn records(
    reading: &Reading<'_>,
    first: UnixMillis,
    last: UnixMillis,
    sink: Sink<'_>,
) -> Result<(), UsageError> {
    reading.each_record(first, last, |record| {
        sink(record);
        Ok(())
    })
}

fn stand_in() -> UsageRecord {
    UsageRecord {
        at: UnixMillis(0),
        request_id: String::new(),
        subject: String::new(),
        token_id: String::new(),
        account: String::new(),
        model: String::new(),
        endpoint: String::new(),
        tokens: TokenCounts::default(),
        status: 0,
        outcome: Outcome::Complete,
        stream: false,
        latency_ms: 0,
        first_byte_ms: None,
        metadata: Default::default(),
        teams: Vec::new(),
        model_asked: None,
        cost: None,
        error_kind: None,
        request_bytes: 0,
        answer_bytes: 0,
    }
}
