//! Hourly sums, written in the same transaction as the records that they sum, and kept for longer.
//!
//! A row is one hour, subject, set of teams, model, endpoint and outcome. Texts have numbers, so that a row is about
//! eighty bytes and a report compares numbers.

use std::collections::HashMap;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::figures::Figures;
use crate::clock::UnixMillis;
use crate::domain::{Outcome, UsageRecord};

pub(super) const HOUR_MS: u64 = 3_600_000;
const KEY_BYTES: usize = 21;

/// Hour since 1970, subject, teams, model, endpoint (numbers of texts, each 4 bytes big endian), outcome -> sums.
pub(super) const AGGREGATES: TableDefinition<'static, &[u8; KEY_BYTES], &[u8]> =
    TableDefinition::new("aggregates");
pub(super) const NUMBERS: TableDefinition<'static, &str, u32> = TableDefinition::new("numbers");
/// What a number stands for; teams are divided by line ends, and so are account and model.
pub(super) const TEXTS: TableDefinition<'static, u32, &str> = TableDefinition::new("texts");
/// Hour -> rows in it, the one for what found no room left out.
pub(super) const HOURS: TableDefinition<'static, u32, u32> = TableDefinition::new("hours");

/// Rows of one hour; calls of further ones go into one row that names nobody.
const MAX_ROWS_OF_HOUR: u32 = 20_000;
/// Texts that have a number.
const MAX_TEXTS: u32 = 500_000;
const MAX_TEXT_BYTES: usize = 4096;
/// Texts whose numbers the writer remembers.
const MAX_REMEMBERED: usize = 8192;
/// The number of what found no room.
const OTHER: u32 = 0;

/// What a row sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    /// Since 1970.
    pub hour: u32,
    /// Subject, teams, model, endpoint, as numbers, and the outcome's.
    pub facts: Facts,
}

/// What a row is about, its hour left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    pub subject: u32,
    pub teams: u32,
    pub model: u32,
    pub endpoint: u32,
    pub outcome: u8,
}

/// The hour of a time.
pub(super) fn hour_of(at: UnixMillis) -> u32 {
    u32::try_from(at.0 / HOUR_MS).unwrap_or(u32::MAX)
}

/// The key from which an hour's rows stand.
pub(super) fn hour_key(hour: u32) -> [u8; KEY_BYTES] {
    RowKey { hour, facts: Facts { subject: 0, teams: 0, model: 0, endpoint: 0, outcome: 0 } }.bytes()
}

/// Their places are on disk.
const OUTCOMES: [Outcome; 6] = [
    Outcome::Complete,
    Outcome::ProviderError,
    Outcome::ProviderFailed,
    Outcome::CallerGone,
    Outcome::Cut,
    Outcome::Refused,
];

/// The word of an outcome's number.
pub(super) fn outcome_word(number: u8) -> &'static str {
    OUTCOMES.get(usize::from(number)).map_or("", |outcome| outcome.as_str())
}

/// Whether a row is of calls that found no row of their own.
pub(super) fn row_is_of_nobody(key: RowKey) -> bool {
    key.other() == key
}

fn outcome_number(outcome: Outcome) -> u8 {
    let place = OUTCOMES.iter().position(|known| *known == outcome);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

impl RowKey {
    fn bytes(self) -> [u8; KEY_BYTES] {
        let Facts { subject, teams, model, endpoint, outcome } = self.facts;
        let mut bytes = [0; KEY_BYTES];
        let numbers = [self.hour, subject, teams, model, endpoint];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        if let Some(last) = bytes.last_mut() {
            *last = outcome;
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut numbers = bytes.chunks_exact(4).map(|part| part.try_into().map_or(0, u32::from_be_bytes));
        let mut next = || numbers.next().unwrap_or(OTHER);
        let (hour, subject, teams, model, endpoint) = (next(), next(), next(), next(), next());
        let outcome = bytes.last().copied().unwrap_or(u8::MAX);
        Self { hour, facts: Facts { subject, teams, model, endpoint, outcome } }
    }

    /// The row of its hour that names nobody.
    fn other(self) -> Self {
        let outcome = self.facts.outcome;
        Self { facts: Facts { subject: OTHER, teams: OTHER, model: OTHER, endpoint: OTHER, outcome }, ..self }
    }
}

/// The writer's side of the sums.
#[derive(Debug)]
pub(super) struct Aggregator {
    /// Numbers that are on disk, or would be if the present transaction were.
    remembered: HashMap<String, u32>,
    max_rows_of_hour: u32,
}

impl Default for Aggregator {
    fn default() -> Self {
        Self { remembered: HashMap::new(), max_rows_of_hour: MAX_ROWS_OF_HOUR }
    }
}

impl Aggregator {
    /// A transaction failed: numbers that it gave out may not be on disk.
    pub(super) fn forget(&mut self) {
        self.remembered.clear();
    }

    /// For tests of the bound.
    #[cfg(test)]
    pub(super) fn with_rows_of_hour(max_rows_of_hour: u32) -> Self {
        Self { max_rows_of_hour, ..Self::default() }
    }

    /// Adds records to the sums; how many of them found no row of their own.
    pub(super) fn add<'r>(
        &mut self,
        transaction: &WriteTransaction,
        records: impl IntoIterator<Item = &'r UsageRecord>,
    ) -> Result<u64, redb::Error> {
        let mut sums: HashMap<RowKey, Figures> = HashMap::new();
        {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut texts = transaction.open_table(TEXTS)?;
            let mut number = |text: &str| -> Result<Option<u32>, redb::Error> {
                if let Some(number) = self.remembered.get(text) {
                    return Ok(Some(*number));
                }
                if text.len() > MAX_TEXT_BYTES {
                    return Ok(None);
                }
                let known = numbers.get(text)?.map(|number| number.value());
                let number = match known {
                    Some(number) => number,
                    None => {
                        let last = texts.last()?.map_or(OTHER, |(number, _)| number.value());
                        if last >= MAX_TEXTS {
                            return Ok(None);
                        }
                        texts.insert(last + 1, text)?;
                        numbers.insert(text, last + 1)?;
                        last + 1
                    }
                };
                if self.remembered.len() >= MAX_REMEMBERED {
                    self.remembered.clear();
                }
                self.remembered.insert(text.to_owned(), number);
                Ok(Some(number))
            };
            // One call is much like the one before.
            let mut previous: Option<(&UsageRecord, Facts)> = None;
            for record in records {
                let before = |is_same: fn(&UsageRecord, &UsageRecord) -> bool, pick: fn(Facts) -> u32| {
                    previous.filter(|(earlier, _)| is_same(earlier, record)).map(|(_, facts)| pick(facts))
                };
                let subject = before(|a, b| a.subject == b.subject, |facts| facts.subject);
                let teams = before(|a, b| a.teams == b.teams, |facts| facts.teams);
                let model = before(|a, b| a.account == b.account && a.model == b.model, |facts| facts.model);
                let endpoint = before(|a, b| a.endpoint == b.endpoint, |facts| facts.endpoint);
                let facts = (|| -> Result<Option<Facts>, redb::Error> {
                    let (Some(subject), Some(teams), Some(model), Some(endpoint)) = (
                        subject.map_or_else(|| number(&record.subject), |known| Ok(Some(known)))?,
                        teams.map_or_else(|| number(&record.teams.join("\n")), |known| Ok(Some(known)))?,
                        model.map_or_else(
                            || number(&[record.account.as_str(), "\n", &record.model].concat()),
                            |known| Ok(Some(known)),
                        )?,
                        endpoint.map_or_else(|| number(&record.endpoint), |known| Ok(Some(known)))?,
                    ) else {
                        return Ok(None);
                    };
                    let outcome = outcome_number(record.outcome);
                    Ok(Some(Facts { subject, teams, model, endpoint, outcome }))
                })()?;
                previous = facts.map(|facts| (record, facts)).or(previous);
                let none = Facts { outcome: outcome_number(record.outcome), ..NOBODY };
                let key = RowKey { hour: hour_of(record.at), facts: facts.unwrap_or(none) };
                sums.entry(key).or_default().add_record(record);
            }
        }
        self.merge(transaction, sums)
    }

    fn merge(
        &self,
        transaction: &WriteTransaction,
        sums: HashMap<RowKey, Figures>,
    ) -> Result<u64, redb::Error> {
        let mut table = transaction.open_table(AGGREGATES)?;
        let mut hours = transaction.open_table(HOURS)?;
        let mut without_row = 0;
        for (mut key, mut figures) in sums {
            let mut calls_without_row = 0;
            if key.other() == key {
                calls_without_row = figures.calls;
            } else if table.get(&key.bytes())?.is_none() {
                let rows = hours.get(key.hour)?.map_or(0, |rows| rows.value());
                if rows >= self.max_rows_of_hour {
                    key = key.other();
                    calls_without_row = figures.calls;
                } else {
                    hours.insert(key.hour, rows + 1)?;
                }
            }
            without_row += calls_without_row;
            if let Some(kept) = table.get(&key.bytes())? {
                let read = figures.add_encoded(kept.value());
                read.ok_or_else(|| redb::Error::Corrupted("an hourly sum can not be read".to_owned()))?;
            }
            table.insert(&key.bytes(), figures.encode().as_slice())?;
        }
        Ok(without_row)
    }

    /// Removes up to `step` rows of before an hour; how many there were.
    pub(super) fn prune(
        &self,
        transaction: &WriteTransaction,
        before_hour: u32,
        step: usize,
    ) -> Result<usize, redb::Error> {
        let mut table = transaction.open_table(AGGREGATES)?;
        let end = hour_key(before_hour);
        let old = table
            .range::<&[u8; KEY_BYTES]>(..&end)?
            .take(step)
            .map(|item| item.map(|(key, _)| *key.value()))
            .collect::<Result<Vec<_>, _>>()?;
        for key in &old {
            table.remove(key)?;
        }
        let mut hours = transaction.open_table(HOURS)?;
        let old_hours = hours
            .range(..before_hour)?
            .take(step)
            .map(|item| item.map(|(hour, _)| hour.value()))
            .collect::<Result<Vec<_>, _>>()?;
        for hour in old_hours {
            hours.remove(hour)?;
        }
        Ok(old.len())
    }
}

const NOBODY: Facts = Facts { subject: OTHER, teams: OTHER, model: OTHER, endpoint: OTHER, outcome: 0 };
