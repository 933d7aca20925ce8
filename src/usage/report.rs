//! Calls, grouped and summed: from the hourly sums where they tell enough, from the records where they do not.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable};

use super::UsageError;
use super::export::{self, ExportCursor, ExportPage};
use super::figures::Figures;
use super::group::{Group, Grouper, Seen};
use super::last_used::{IdBytes, id_bytes, time_of};
use super::read::Reading;
use super::recent::{self, RecentFilter, RecentPage};
use super::writer::{LAST_USED, open_for_reading};
use crate::clock::UnixMillis;
use crate::domain::{UsageRecord, UsageScope, Visible};
use crate::id::TokenId;
use crate::store::World;
use crate::store::copy::DatabaseCopy;

/// Rows of one report.
pub(super) const MAX_ROWS: usize = 10_000;
/// Keys that a report can be grouped by at once.
pub const MAX_KEYS: usize = 4;
const MAX_METADATA_KEY_BYTES: usize = 256;

/// What a report can be grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// The user's email; empty for virtual accounts.
    User,
    /// The virtual account's name; empty for users.
    VirtualAccount,
    /// Each team that the user was in, so that a call counts once in each; empty without one.
    Team,
    /// `account/name`.
    Model,
    /// The provider account.
    Account,
    /// The endpoint, such as `chat/completions`.
    Endpoint,
    /// How calls ended.
    Outcome,
    /// The id of the token that was shown.
    Token,
    /// The day in UTC, such as `2027-01-31`.
    Day,
    /// The hour in UTC, such as `2027-01-31T08`.
    Hour,
    /// What stands under that key in the call's metadata; empty without it.
    Metadata(String),
}

const METADATA: &str = "metadata.";

impl GroupKey {
    /// Every key that has a word of its own.
    pub const WORDS: [(Self, &'static str); 10] = [
        (Self::User, "user"),
        (Self::VirtualAccount, "virtual-account"),
        (Self::Team, "team"),
        (Self::Model, "model"),
        (Self::Account, "account"),
        (Self::Endpoint, "endpoint"),
        (Self::Outcome, "outcome"),
        (Self::Token, "token"),
        (Self::Day, "day"),
        (Self::Hour, "hour"),
    ];

    /// The word on the command line and in the API: `metadata.KEY` for a key of the metadata.
    pub fn word(&self) -> String {
        match self {
            Self::Metadata(key) => format!("{METADATA}{key}"),
            other => {
                let word = Self::WORDS.into_iter().find(|(key, _)| key == other);
                word.map_or("", |(_, word)| word).to_owned()
            }
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(key) = text.strip_prefix(METADATA) {
            let fits = !key.is_empty() && key.len() <= MAX_METADATA_KEY_BYTES;
            return fits.then(|| Self::Metadata(key.to_owned()));
        }
        Self::WORDS.into_iter().find(|(_, word)| *word == text).map(|(key, _)| key)
    }

    /// Only the records know it.
    fn needs_records(&self) -> bool {
        matches!(self, Self::Token | Self::Metadata(_))
    }
}

/// Which records a report counts, and how it groups them.
#[derive(Clone, Debug, Default)]
pub struct ReportFilter {
    /// Calls that began then or later.
    pub from: Option<UnixMillis>,
    /// Calls that began then or earlier.
    pub to: Option<UnixMillis>,
    /// The keys, at most [`MAX_KEYS`]; none gives one row for everything.
    pub group_by: Vec<GroupKey>,
    /// Only what may be seen.
    pub scope: UsageScope,
    /// Only the calls of this subject, as in [`UsageRecord::subject`].
    pub subject: Option<String>,
    /// Only the calls of those in this team.
    pub team: Option<String>,
    /// Only the calls of this model, as `account/name`.
    pub model: Option<String>,
    /// Only the calls on this account.
    pub account: Option<String>,
    /// Only calls with all of these keys and values in their metadata.
    pub metadata: Vec<(String, String)>,
    /// Write what waits before reading, so that a call just finished is in it.
    pub flush: bool,
    /// Who is in which team now; for calls whose teams were not kept.
    pub world: Option<Arc<World>>,
}

impl ReportFilter {
    /// The first and the last moment.
    pub fn span(&self) -> (UnixMillis, UnixMillis) {
        (self.from.unwrap_or_default(), self.to.unwrap_or(UnixMillis(u64::MAX)))
    }

    fn needs_records(&self) -> bool {
        !self.metadata.is_empty() || self.group_by.iter().any(GroupKey::needs_records)
    }

    /// How much may be seen of a call that passes all but the time and the metadata.
    pub(super) fn shows(&self, seen: &Seen<'_>) -> Visible {
        let differs =
            |wanted: &Option<String>, value: &str| wanted.as_ref().is_some_and(|wanted| wanted != value);
        let in_team = |team: &String| {
            self.scope.shows_team(team) && seen.teams.iter().any(|own| own == team)
                || self.is_own(seen.subject) && seen.teams.iter().any(|own| own == team)
        };
        if differs(&self.subject, seen.subject)
            || differs(&self.model, seen.model)
            || differs(&self.account, seen.account)
            || self.team.as_ref().is_some_and(|team| !in_team(team))
        {
            return Visible::No;
        }
        self.scope.shows(seen.subject, seen.teams.iter().map(String::as_str), seen.account)
    }

    fn is_own(&self, subject: &str) -> bool {
        matches!(&self.scope, UsageScope::Limited { subject: own, .. } if !own.is_empty() && own == subject)
    }

    /// A record as far as it may be seen, if it is among those asked for.
    pub fn seen(&self, record: &UsageRecord) -> Option<UsageRecord> {
        let mut seen = match self.shows_record(record) {
            Visible::No => return None,
            Visible::Whole => return Some(record.clone()),
            Visible::WithinTeams => record.clone(),
        };
        seen.teams.retain(|team| self.scope.shows_team(team));
        Some(seen)
    }

    /// Whether a record is among those asked for, and how much of it may be seen.
    pub(super) fn shows_record(&self, record: &UsageRecord) -> Visible {
        let (first, last) = self.span();
        let has = |(key, value): &(String, String)| record.metadata.get(key) == Some(value);
        if !(first..=last).contains(&record.at) || !self.metadata.iter().all(has) {
            return Visible::No;
        }
        let teams = super::group::teams(&record.subject, record.teams.clone(), self);
        self.shows(&Seen { teams: &teams, ..Seen::of_record(record) })
    }
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportRow {
    /// The values of the keys, in the order of `group_by`.
    pub group: Vec<String>,
    /// What is summed.
    pub figures: Figures,
}

/// One that can make a report: the running accounting, or the file of a gateway that is not running.
pub trait UsageReader: Send + Sync + fmt::Debug {
    /// The rows, ordered by their groups.
    ///
    /// # Errors
    /// When records can not be read, or there would be too many rows.
    fn report(&self, filter: &ReportFilter) -> Result<Vec<ReportRow>, UsageError>;

    /// Some records, about in the order of their time, and where to go on; the beginning without a place.
    ///
    /// # Errors
    /// When records can not be read.
    fn export(&self, filter: &ReportFilter, from: Option<ExportCursor>) -> Result<ExportPage, UsageError>;

    /// Some records, the newest first, and where to go on.
    ///
    /// # Errors
    /// When records can not be read.
    fn recent(&self, filter: &RecentFilter) -> Result<RecentPage, UsageError>;
    /// Everything as it is now, for a backup; `None` when there is no file. Reads the disk: for an OS thread.
    ///
    /// # Errors
    /// When records can not be written or read.
    fn copy(&self) -> Result<Option<DatabaseCopy>, UsageError> {
        Ok(None)
    }

    /// When a token was last used, to the minute, as far as that is known here.
    fn last_used(&self, _token: &TokenId) -> Option<UnixMillis> {
        None
    }

    /// A browser's session was used just now.
    fn session_used(&self, _session: &TokenId, _now: UnixMillis) {}
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
        Self { path: data_dir.join(super::USAGE_FILE), last_used: OnceLock::new() }
    }
}

impl UsageReader for UsageFile {
    fn copy(&self) -> Result<Option<DatabaseCopy>, UsageError> {
        let database = open_for_reading(&self.path).map_err(UsageError::Store)?;
        database.map(|database| super::copy::begin_owned(&self.path, database)).transpose()
    }

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
            Some(database) => read(&self.path, &*database, filter, None),
            None => Ok(Vec::new()),
        }
    }

    fn export(&self, filter: &ReportFilter, from: Option<ExportCursor>) -> Result<ExportPage, UsageError> {
        match open_for_reading(&self.path).map_err(UsageError::Store)? {
            Some(database) => export::read(&self.path, &*database, filter, from),
            None => Ok(ExportPage::default()),
        }
    }

    fn recent(&self, filter: &RecentFilter) -> Result<RecentPage, UsageError> {
        match open_for_reading(&self.path).map_err(UsageError::Store)? {
            Some(database) => recent::read(&self.path, &*database, filter, None),
            None => Ok(RecentPage::default()),
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

/// Reads and groups; without a limit of time for whoever has a thread, and the file, to himself.
pub(super) fn read(
    path: &Path,
    database: &dyn ReadableDatabase,
    filter: &ReportFilter,
    time_limit: Option<Duration>,
) -> Result<Vec<ReportRow>, UsageError> {
    let (first, last) = filter.span();
    if first > last {
        return Ok(Vec::new());
    }
    let reading = Reading::begin(path, database)?.within(time_limit);
    let mut sums = Sums::new(filter);
    let whole = if filter.needs_records() { None } else { reading.whole_hours(first, last)? };
    match whole {
        None => sums.records(&reading, first, last)?,
        Some(hours) => {
            reading.each_hourly_sum(hours.clone(), |key, bytes| {
                let damaged = || reading.damaged("an hourly sum can not be read");
                for group in sums.grouper.groups_of_row(key, |number| reading.text(number))? {
                    sums.row(group)?.add_encoded(bytes).ok_or_else(damaged)?;
                }
                Ok(())
            })?;
            let hour = |hour: u32| u64::from(hour) * super::aggregate::HOUR_MS;
            let (begin, end) = (hour(hours.start), hour(hours.end));
            if first.0 < begin {
                sums.records(&reading, first, UnixMillis(begin - 1))?;
            }
            if hours.end != u32::MAX && end <= last.0 {
                sums.records(&reading, UnixMillis(end), last)?;
            }
        }
    }
    Ok(sums.finish())
}

/// The rows of a report that is being made.
struct Sums<'f> {
    grouper: Grouper<'f>,
    filter: &'f ReportFilter,
    rows: Vec<(Group, Figures)>,
    places: HashMap<Group, usize>,
}

impl<'f> Sums<'f> {
    fn new(filter: &'f ReportFilter) -> Self {
        Self { grouper: Grouper::new(filter), filter, rows: Vec::new(), places: HashMap::new() }
    }

    fn row(&mut self, group: Group) -> Result<&mut Figures, UsageError> {
        let next = self.rows.len();
        let place = *self.places.entry(group).or_insert(next);
        if place == next {
            if next >= MAX_ROWS {
                return Err(UsageError::TooManyRows);
            }
            self.rows.push((group, Figures::default()));
        }
        self.rows.get_mut(place).map(|(_, figures)| figures).ok_or(UsageError::Failed)
    }

    fn records(
        &mut self,
        reading: &Reading<'_>,
        first: UnixMillis,
        last: UnixMillis,
    ) -> Result<(), UsageError> {
        reading.each_record(first, last, |record| {
            if self.filter.shows_record(record) == Visible::No {
                return Ok(());
            }
            for group in self.grouper.groups_of_record(record)? {
                self.row(group)?.add_record(record);
            }
            Ok(())
        })
    }

    fn finish(self) -> Vec<ReportRow> {
        let keys = self.filter.group_by.len();
        let texts = |group: Group| self.grouper.texts(group, keys);
        let rows = self.rows.into_iter();
        let mut rows: Vec<ReportRow> =
            rows.map(|(group, figures)| ReportRow { group: texts(group), figures }).collect();
        rows.sort_by(|one, other| one.group.cmp(&other.group));
        rows
    }
}
