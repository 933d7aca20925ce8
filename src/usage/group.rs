//! The groups that a call counts in, as numbers while a report is made.

use std::collections::HashMap;
use std::rc::Rc;

use super::UsageError;
use super::aggregate::{Facts, HOUR_MS, RowKey, hour_of, outcome_word};
use super::report::{GroupKey, MAX_KEYS, ReportFilter};
use crate::clock::UnixMillis;
use crate::domain::{Subject, UsageRecord, Visible};

/// Numbers of texts, one a key; those of keys that were not asked for are 0.
pub(super) type Group = [u32; MAX_KEYS];

/// Combinations of facts whose groups are remembered.
const MAX_PLANS: usize = 100_000;
/// Texts of one report: far more than rows can show.
const MAX_TEXTS: usize = 200_000;
/// What stands for calls that found no room in the hourly sums.
const OTHER: &str = "(other)";

/// What a report looks at in a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'r> {
    pub subject: &'r str,
    pub teams: &'r [String],
    pub account: &'r str,
    pub model: &'r str,
    pub endpoint: &'r str,
    pub outcome: &'r str,
    /// Only where a record is at hand.
    pub record: Option<&'r UsageRecord>,
}

impl<'r> Seen<'r> {
    pub(super) fn of_record(record: &'r UsageRecord) -> Self {
        Self {
            subject: &record.subject,
            teams: &record.teams,
            account: &record.account,
            model: &record.model,
            endpoint: &record.endpoint,
            outcome: record.outcome.as_str(),
            record: Some(record),
        }
    }
}

/// The teams that a call counts in. Where none were kept, admins see those that the user is in now.
pub(super) fn teams(subject: &str, kept: Vec<String>, filter: &ReportFilter) -> Vec<String> {
    if !kept.is_empty() || filter.scope != crate::domain::UsageScope::All {
        return kept;
    }
    match (&filter.world, Subject::parse(subject)) {
        (Some(world), Ok(Subject::User(email))) => {
            world.teams_of(email.as_str()).map(ToString::to_string).collect()
        }
        _ => kept,
    }
}

/// Gives every call its groups.
pub(super) struct Grouper<'f> {
    filter: &'f ReportFilter,
    numbers: HashMap<Rc<str>, u32>,
    texts: Vec<Rc<str>>,
    /// Groups of facts, without their time; none where the call is not asked for.
    plans: HashMap<Facts, Rc<[Group]>>,
    /// The last hour, and the numbers of its day and of itself.
    time: Option<(u32, u32, u32)>,
}

impl<'f> Grouper<'f> {
    pub(super) fn new(filter: &'f ReportFilter) -> Self {
        Self { filter, numbers: HashMap::new(), texts: Vec::new(), plans: HashMap::new(), time: None }
    }

    fn number(&mut self, text: &str) -> Result<u32, UsageError> {
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        if self.texts.len() >= MAX_TEXTS {
            return Err(UsageError::TooManyRows);
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Rc<str> = Rc::from(text);
        self.texts.push(Rc::clone(&text));
        self.numbers.insert(text, number);
        Ok(number)
    }

    /// The values of a group's keys.
    pub(super) fn texts(&self, group: Group, keys: usize) -> Vec<String> {
        let text = |number: u32| {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            self.texts.get(place).map_or_else(String::new, |text| text.to_string())
        };
        group.into_iter().take(keys).map(text).collect()
    }

    /// The groups of an hourly sum.
    pub(super) fn groups_of_row(
        &mut self,
        key: RowKey,
        text: impl Fn(u32) -> Result<Rc<str>, UsageError>,
    ) -> Result<Vec<Group>, UsageError> {
        let plan = match self.plans.get(&key.facts) {
            Some(plan) => Rc::clone(plan),
            None => {
                let plan = Rc::from(self.plan(key.facts, text)?);
                if self.plans.len() >= MAX_PLANS {
                    self.plans.clear();
                }
                self.plans.insert(key.facts, Rc::clone(&plan));
                plan
            }
        };
        plan.iter().map(|group| self.at_hour(*group, key.hour)).collect()
    }

    fn plan(
        &mut self,
        facts: Facts,
        text: impl Fn(u32) -> Result<Rc<str>, UsageError>,
    ) -> Result<Vec<Group>, UsageError> {
        if facts.subject == 0 {
            let is_filtered = self.filter.subject.is_some()
                || self.filter.team.is_some()
                || self.filter.model.is_some()
                || self.filter.account.is_some();
            // Nobody but admins sees sums of unknown people.
            if is_filtered || self.filter.scope != crate::domain::UsageScope::All {
                return Ok(Vec::new());
            }
            let other = [OTHER.to_owned()];
            let seen = Seen {
                subject: OTHER,
                teams: &other,
                account: OTHER,
                model: OTHER,
                endpoint: OTHER,
                outcome: outcome_word(facts.outcome),
                record: None,
            };
            return self.groups(&seen, Visible::Whole);
        }
        let (subject, kept) = (text(facts.subject)?, text(facts.teams)?);
        let kept = kept.split('\n').filter(|team| !team.is_empty()).map(str::to_owned).collect();
        let teams = teams(&subject, kept, self.filter);
        let (model, endpoint) = (text(facts.model)?, text(facts.endpoint)?);
        let (account, model) = model.split_once('\n').unwrap_or(("", &model));
        let outcome = outcome_word(facts.outcome);
        let seen = Seen {
            subject: &subject,
            teams: &teams,
            account,
            model,
            endpoint: &endpoint,
            outcome,
            record: None,
        };
        match self.filter.shows(&seen) {
            Visible::No => Ok(Vec::new()),
            visible => self.groups(&seen, visible),
        }
    }

    /// The groups of a record that is asked for.
    pub(super) fn groups_of_record(&mut self, record: &UsageRecord) -> Result<Vec<Group>, UsageError> {
        let teams = teams(&record.subject, record.teams.clone(), self.filter);
        let seen = Seen { teams: &teams, ..Seen::of_record(record) };
        let groups = match self.filter.shows(&seen) {
            Visible::No => Vec::new(),
            visible => self.groups(&seen, visible)?,
        };
        groups.into_iter().map(|group| self.at_hour(group, hour_of(record.at))).collect()
    }

    /// One group, or one a team; without the time.
    fn groups(&mut self, seen: &Seen<'_>, visible: Visible) -> Result<Vec<Group>, UsageError> {
        let filter = self.filter;
        let mut groups = vec![Group::default()];
        for (place, key) in filter.group_by.iter().enumerate().take(MAX_KEYS) {
            let (kind, name) = match seen.subject {
                OTHER => ("user", OTHER),
                subject => subject.split_once(':').unwrap_or(("", "")),
            };
            let value = match key {
                GroupKey::User if kind == "user" => name,
                GroupKey::VirtualAccount if kind == "virtualaccount" => name,
                GroupKey::User | GroupKey::VirtualAccount => "",
                GroupKey::Model => seen.model,
                GroupKey::Account => seen.account,
                GroupKey::Endpoint => seen.endpoint,
                GroupKey::Outcome => seen.outcome,
                GroupKey::Token => seen.record.map_or("", |record| record.token_id.as_str()),
                GroupKey::Metadata(key) => {
                    seen.record.and_then(|record| record.metadata.get(key)).map_or("", String::as_str)
                }
                GroupKey::Day | GroupKey::Hour => continue,
                GroupKey::Team => {
                    let shown = |team: &&String| {
                        filter.team.as_ref().is_none_or(|wanted| wanted == *team)
                            && (visible == Visible::Whole || filter.scope.shows_team(team))
                    };
                    let shown: Vec<&String> = seen.teams.iter().filter(shown).collect();
                    let mut numbers = Vec::with_capacity(shown.len().max(1));
                    for team in &shown {
                        numbers.push(self.number(team)?);
                    }
                    if numbers.is_empty() {
                        numbers.push(self.number("")?);
                    }
                    groups = numbers
                        .iter()
                        .flat_map(|number| groups.iter().map(move |group| with(*group, place, *number)))
                        .collect();
                    continue;
                }
            };
            let number = self.number(value)?;
            groups = groups.into_iter().map(|group| with(group, place, number)).collect();
        }
        Ok(groups)
    }

    fn at_hour(&mut self, mut group: Group, hour: u32) -> Result<Group, UsageError> {
        let filter = self.filter;
        if !filter.group_by.iter().any(|key| matches!(key, GroupKey::Day | GroupKey::Hour)) {
            return Ok(group);
        }
        let (day_number, hour_number) = match self.time {
            Some((known, day, hour_number)) if known == hour => (day, hour_number),
            _ => {
                let time = UnixMillis(u64::from(hour) * HOUR_MS).to_iso();
                let day = time.get(.."2027-01-31".len()).unwrap_or_default();
                let hour_text = time.get(.."2027-01-31T08".len()).unwrap_or_default();
                let numbers = (self.number(day)?, self.number(hour_text)?);
                self.time = Some((hour, numbers.0, numbers.1));
                numbers
            }
        };
        for (place, key) in filter.group_by.iter().enumerate() {
            match key {
                GroupKey::Day => group = with(group, place, day_number),
                GroupKey::Hour => group = with(group, place, hour_number),
                _ => {}
            }
        }
        Ok(group)
    }
}

fn with(mut group: Group, place: usize, number: u32) -> Group {
    if let Some(value) = group.get_mut(place) {
        *value = number;
    }
    group
}
