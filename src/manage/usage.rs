//! Reports on what was used.

use std::collections::BTreeMap;

use super::{Manage, View, refused};
use crate::authz;
use crate::domain::Principal;
use crate::failure::Failure;

/// Rows of one report.
const MAX_ROWS: usize = 100_000;

/// What rows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKey {
    /// The person who called; empty for applications.
    User,
    /// The application that called; empty for people.
    VirtualAccount,
    /// `account/name`.
    Model,
    /// The provider account.
    Account,
    /// The present teams of the person who called. Never asked of [`UsageReports`], which knows no teams.
    Team,
    /// The day in UTC, `2027-01-31`.
    Day,
}

impl GroupKey {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::User, Self::VirtualAccount, Self::Model, Self::Account, Self::Team, Self::Day];

    /// The word in queries and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::VirtualAccount => "virtual-account",
            Self::Model => "model",
            Self::Account => "account",
            Self::Team => "team",
            Self::Day => "day",
        }
    }
}

/// What is to be reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportFilter {
    /// Calls that began at this time or later.
    pub from_ms: Option<u64>,
    /// Calls that began before this time.
    pub to_ms: Option<u64>,
    /// The groups, in the order of the answer; none twice.
    pub by: Vec<GroupKey>,
    /// Only calls of this subject, such as `user:ada@example.com`.
    pub subject: Option<String>,
}

/// The sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportRow {
    /// (word of the key, value), in the order asked for.
    pub group: Vec<(String, String)>,
    /// Calls.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Completion tokens.
    pub output_tokens: u64,
    /// The part of the input that the provider had cached.
    pub cached_tokens: u64,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: u64,
    /// Calls whose tokens the gateway counted itself.
    pub estimated_calls: u64,
    /// For the average.
    pub latency_ms_sum: u64,
}

impl ReportRow {
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.calls, other.calls),
            (&mut self.errors, other.errors),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.cached_tokens, other.cached_tokens),
            (&mut self.reasoning_tokens, other.reasoning_tokens),
            (&mut self.estimated_calls, other.estimated_calls),
            (&mut self.latency_ms_sum, other.latency_ms_sum),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

/// The usage records can not be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportsUnavailable;

/// Sums usage records.
pub trait UsageReports: Send + Sync {
    /// One row for each group.
    ///
    /// # Errors
    /// When the records can not be read.
    fn report(&self, filter: &ReportFilter) -> Result<Vec<ReportRow>, ReportsUnavailable>;
}

impl Manage {
    /// A report: on everything for admins, on one's own calls for others.
    ///
    /// # Errors
    /// When the principal manages nothing, or the records can not be read.
    pub fn usage_report(
        &self,
        principal: &Principal,
        filter: &ReportFilter,
    ) -> Result<Vec<ReportRow>, Failure> {
        let view = self.view(principal)?;
        let mut asked = filter.clone();
        if !authz::is_admin(&view.principal) {
            let own = view.principal.subject_text();
            if asked.subject.as_ref().is_some_and(|subject| *subject != own) {
                return Ok(Vec::new());
            }
            asked.subject = Some(own);
        }
        let by_team = asked.by.contains(&GroupKey::Team);
        if by_team {
            asked.by.retain(|key| *key != GroupKey::Team);
            if !asked.by.contains(&GroupKey::User) {
                asked.by.push(GroupKey::User);
            }
        }
        let rows = self.usage.report(&asked);
        let rows = rows.map_err(|ReportsUnavailable| {
            Failure::Unavailable("The usage records can not be read now; try again".into())
        })?;
        let rows = if by_team { by_teams(&view, &filter.by, &rows) } else { rows };
        if rows.len() > MAX_ROWS {
            return Err(refused("The report has too many rows; group by less or take a shorter time"));
        }
        Ok(rows)
    }
}

/// Groups rows that name users by the users' teams. A call counts once in each team of its user.
fn by_teams(view: &View, by: &[GroupKey], rows: &[ReportRow]) -> Vec<ReportRow> {
    let mut sums: BTreeMap<Vec<(String, String)>, ReportRow> = BTreeMap::new();
    for row in rows {
        let value = |word: &str| {
            row.group.iter().find(|(key, _)| key == word).map_or(String::new(), |(_, value)| value.clone())
        };
        let user = value(GroupKey::User.as_str());
        let mut teams: Vec<String> = view.world.teams_of(&user).map(ToString::to_string).collect();
        // One who calls through no team at all has a row too, or sums would not add up.
        if teams.is_empty() {
            teams.push(String::new());
        }
        for team in teams {
            let group: Vec<(String, String)> = by
                .iter()
                .map(|key| {
                    let shown = if *key == GroupKey::Team { team.clone() } else { value(key.as_str()) };
                    (key.as_str().to_owned(), shown)
                })
                .collect();
            let sum =
                sums.entry(group.clone()).or_insert_with(|| ReportRow { group, ..ReportRow::default() });
            sum.add(row);
        }
    }
    sums.into_values().collect()
}
