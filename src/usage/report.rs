//! Usage records, grouped and summed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use redb::{ReadableDatabase, ReadableTable, TableError};

use super::UsageError;
use super::last_used::{IdBytes, id_bytes, time_of};
use super::writer::{LAST_USED, MAX_PAGE_SPAN_MS, RECORDS, open_for_reading, record_key};
use crate::clock::UnixMillis;
use crate::domain::{Outcome, Subject, TokenOrigin, UsageRecord};
use crate::id::TokenId;
use crate::store::{StoreError, World};

/// Rows of one report.
pub(super) const MAX_ROWS: usize = 10_000;

/// What a report can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// The user's email; empty for virtual accounts.
    User,
    /// The virtual account's name; empty for users.
    VirtualAccount,
    /// Each team that the user is in now, so that a call counts once in each; empty without one.
    Team,
    /// `account/name`.
    Model,
    /// The provider account.
    Account,
    /// The day in UTC, such as `2027-01-31`.
    Day,
}

impl GroupKey {
    /// Every key.
    pub const ALL: [Self; 6] =
        [Self::User, Self::VirtualAccount, Self::Team, Self::Model, Self::Account, Self::Day];

    /// The word on the command line and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::VirtualAccount => "virtual-account",
            Self::Team => "team",
            Self::Model => "model",
            Self::Account => "account",
            Self::Day => "day",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == text)
    }
}

/// Which records a report counts, and how it groups them.
#[derive(Clone, Debug, Default)]
pub struct ReportFilter {
    /// Calls that began then or later.
    pub from: Option<UnixMillis>,
    /// Calls that began then or earlier.
    pub to: Option<UnixMillis>,
    /// The keys; none gives one row for everything.
    pub group_by: Vec<GroupKey>,
    /// Only the calls of this subject, as in [`UsageRecord::subject`].
    pub subject: Option<String>,
    /// Write what waits before reading, so that a call just finished is in it.
    pub flush: bool,
    /// Who is in which team; without it [`GroupKey::Team`] is always empty.
    pub world: Option<Arc<World>>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportRow {
    /// The values of the keys, in the order of `group_by`.
    pub group: Vec<String>,
    /// Calls that reached a provider.
    pub calls: u64,
    /// Those of them that did not end complete.
    pub errors: u64,
    /// Sum of the input tokens.
    pub input_tokens: u64,
    /// Sum of the output tokens.
    pub output_tokens: u64,
    /// The part of the input that the providers had cached.
    pub cached_tokens: u64,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: u64,
    /// Calls whose tokens the gateway counted itself.
    pub estimated_calls: u64,
    /// Sum of the latencies.
    pub latency_ms: u64,
}

impl ReportRow {
    fn add(&mut self, record: &UsageRecord) {
        let sum = |total: &mut u64, value: u64| *total = total.saturating_add(value);
        sum(&mut self.calls, 1);
        sum(&mut self.errors, u64::from(record.outcome != Outcome::Complete));
        sum(&mut self.input_tokens, record.tokens.input);
        sum(&mut self.output_tokens, record.tokens.output);
        sum(&mut self.cached_tokens, record.tokens.cached);
        sum(&mut self.reasoning_tokens, record.tokens.reasoning);
        sum(&mut self.estimated_calls, u64::from(record.tokens.origin == TokenOrigin::Estimated));
        sum(&mut self.latency_ms, record.latency_ms);
    }

    /// The mean latency; 0 without calls.
    pub fn mean_latency_ms(&self) -> u64 {
        self.latency_ms.checked_div(self.calls).unwrap_or(0)
    }
}

/// One that can make a report: the running accounting, or the file of a gateway that is not running.
pub trait UsageReader: Send + Sync + fmt::Debug {
    /// The rows, ordered by their groups.
    ///
    /// # Errors
    /// When records can not be read, or there would be too many rows.
    fn report(&self, filter: &ReportFilter) -> Result<Vec<ReportRow>, UsageError>;

    /// When a token was last used, to the minute, as far as that is known here.
    fn last_used(&self, _token: &TokenId) -> Option<UnixMillis> {
        None
    }
}

/// `usage.redb` of a gateway that is not running. Its reports block their thread.
#[derive(Debug)]
pub struct UsageFile {
    path: PathBuf,
    last_used: OnceLock<HashMap<IdBytes, u32>>,
}

impl UsageFile {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file in that data folder; it need not be there.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("usage.redb"), last_used: OnceLock::new() }
    }
}

impl UsageReader for UsageFile {
    fn last_used(&self, token: &TokenId) -> Option<UnixMillis> {
        let id = id_bytes(token)?;
        // What can not be read is not shown; a report would say why.
        let all = self.last_used.get_or_init(|| {
            let read = open_for_reading(&self.path).ok().flatten();
            read.and_then(|database| read_last_used(&*database).ok()).unwrap_or_default()
        });
        all.get(&id).copied().map(time_of)
    }

    fn report(&self, filter: &ReportFilter) -> Result<Vec<ReportRow>, UsageError> {
        match open_for_reading(&self.path).map_err(UsageError::Store)? {
            Some(database) => read(&self.path, &*database, filter),
            None => Ok(Vec::new()),
        }
    }
}

fn read_last_used(database: &dyn ReadableDatabase) -> Result<HashMap<IdBytes, u32>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(LAST_USED)?;
    let mut all = HashMap::new();
    for item in table.iter()? {
        let (id, minute) = item?;
        all.insert(*id.value(), minute.value());
    }
    Ok(all)
}

/// Reads and groups the records.
pub(super) fn read(
    path: &Path,
    database: &dyn ReadableDatabase,
    filter: &ReportFilter,
) -> Result<Vec<ReportRow>, UsageError> {
    let failed = |error: redb::Error| UsageError::Store(StoreError::from_redb(path, error));
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let table = match transaction.open_table(RECORDS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.into())),
    };
    let (first, last) = (filter.from.unwrap_or_default(), filter.to.unwrap_or(UnixMillis(u64::MAX)));
    if first > last {
        return Ok(Vec::new());
    }
    // A page that begins before the time asked for may reach into it.
    let from = record_key(UnixMillis(first.0.saturating_sub(MAX_PAGE_SPAN_MS)), 0);
    let to = record_key(last, u64::MAX);
    let mut rows: BTreeMap<Vec<String>, ReportRow> = BTreeMap::new();
    for item in table.range::<&[u8; 16]>(&from..=&to).map_err(|e| failed(e.into()))? {
        let (_, value) = item.map_err(|e| failed(e.into()))?;
        let lines = serde_json::Deserializer::from_slice(value.value()).into_iter::<UsageRecord>();
        for record in lines {
            let record = record.map_err(|error| {
                let what = format!("a usage record can not be read ({error})");
                UsageError::Store(StoreError::Damaged { path: path.to_owned(), what })
            })?;
            let is_other = filter.subject.as_ref().is_some_and(|subject| *subject != record.subject);
            if is_other || !(first..=last).contains(&record.at) {
                continue;
            }
            for group in groups(&record, filter) {
                rows.entry(group).or_default().add(&record);
            }
            if rows.len() > MAX_ROWS {
                return Err(UsageError::TooManyRows);
            }
        }
    }
    Ok(rows.into_iter().map(|(group, row)| ReportRow { group, ..row }).collect())
}

/// The groups that a record counts in: one, or one a team.
fn groups(record: &UsageRecord, filter: &ReportFilter) -> Vec<Vec<String>> {
    let mut groups = vec![Vec::with_capacity(filter.group_by.len())];
    for key in &filter.group_by {
        let (kind, name) = record.subject.split_once(':').unwrap_or(("", ""));
        let values = match key {
            GroupKey::User if kind == "user" => vec![name.to_owned()],
            GroupKey::VirtualAccount if kind == "virtualaccount" => vec![name.to_owned()],
            GroupKey::User | GroupKey::VirtualAccount => vec![String::new()],
            GroupKey::Team => teams(&record.subject, filter),
            GroupKey::Model => vec![record.model.clone()],
            GroupKey::Account => vec![record.account.clone()],
            GroupKey::Day => vec![day(record.at)],
        };
        groups = groups
            .into_iter()
            .flat_map(|group: Vec<String>| {
                values.iter().map(move |value| group.iter().chain([value]).cloned().collect())
            })
            .collect();
    }
    groups
}

fn teams(subject: &str, filter: &ReportFilter) -> Vec<String> {
    let teams: Vec<String> = match (&filter.world, Subject::parse(subject)) {
        (Some(world), Ok(Subject::User(email))) => {
            world.teams_of(email.as_str()).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    if teams.is_empty() { vec![String::new()] } else { teams }
}

fn day(at: UnixMillis) -> String {
    let time = at.to_iso();
    time.split_once('T').map_or(time.clone(), |(day, _)| day.to_owned())
}
