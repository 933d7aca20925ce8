//! Hourly sums against the records that they sum.

use std::collections::{BTreeMap, BTreeSet};

use super::figures::Figures;
use super::tests::{DAY_MS, by, calls, config, expected, record};
use super::*;
use crate::domain::{Money, Outcome, TokenOrigin, UsageScope};
use crate::store::tests::Folder;

const HOUR_MS: u64 = 3_600_000;

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn random_record(numbers: &mut Numbers, newest: u64, span_ms: u64) -> UsageRecord {
    let subject = match numbers.below(4) {
        0 => "virtualaccount:ci-bot".to_owned(),
        number => format!("user:u{number}@example.com"),
    };
    let model = format!("account{}/m{}", numbers.below(2), numbers.below(3));
    let mut record = record(&subject, &model, newest - numbers.below(span_ms));
    record.outcome =
        [Outcome::Complete, Outcome::ProviderError, Outcome::ProviderFailed, Outcome::CallerGone]
            [numbers.below(4) as usize];
    record.tokens.input = numbers.below(100_000);
    record.tokens.output = numbers.below(1000);
    record.tokens.origin = [TokenOrigin::Reported, TokenOrigin::Estimated][numbers.below(2) as usize];
    let bits = numbers.below(20);
    record.latency_ms = numbers.below(1 << bits);
    record.first_byte_ms = (numbers.below(3) > 0).then(|| numbers.below(1000));
    record.cost =
        (numbers.below(3) > 0).then(|| Money::from_units(i128::from(numbers.below(u64::MAX)) << 20));
    record.teams = [&[][..], &["red"], &["blue", "red"]][numbers.below(3) as usize]
        .iter()
        .map(|team| (*team).to_owned())
        .collect();
    record.endpoint = ["chat/completions", "embeddings"][numbers.below(2) as usize].to_owned();
    if numbers.below(2) == 0 {
        record.metadata = BTreeMap::from([("app".to_owned(), format!("a{}", numbers.below(3)))]);
    }
    record
}

/// A report made the plain way.
fn plain(records: &[UsageRecord], filter: &ReportFilter) -> Vec<ReportRow> {
    let mut rows: BTreeMap<Vec<String>, Figures> = BTreeMap::new();
    for record in records {
        let (kind, name) = record.subject.split_once(':').unwrap();
        let visible = match &filter.scope {
            UsageScope::All => true,
            UsageScope::Limited { subject, teams, accounts } => {
                record.subject == *subject
                    || record.teams.iter().any(|team| teams.contains(team))
                    || accounts.contains(&record.account)
            }
        };
        let shown_teams: Vec<String> = match &filter.scope {
            UsageScope::Limited { subject, teams, .. } if *subject != record.subject => {
                record.teams.iter().filter(|team| teams.contains(*team)).cloned().collect()
            }
            _ => record.teams.clone(),
        };
        let asked = filter.from.is_none_or(|from| record.at >= from)
            && filter.to.is_none_or(|to| record.at <= to)
            && filter.subject.as_ref().is_none_or(|subject| record.subject == *subject)
            && filter.model.as_ref().is_none_or(|model| record.model == *model)
            && filter.account.as_ref().is_none_or(|account| record.account == *account)
            && filter.team.as_ref().is_none_or(|team| shown_teams.contains(team))
            && filter.metadata.iter().all(|(key, value)| record.metadata.get(key) == Some(value));
        if !visible || !asked {
            continue;
        }
        let mut teams: Vec<String> = shown_teams;
        teams.retain(|team| filter.team.as_ref().is_none_or(|wanted| wanted == team));
        if teams.is_empty() {
            teams.push(String::new());
        }
        let groups: BTreeSet<Vec<String>> = teams
            .iter()
            .map(|team| {
                let value = |key: &GroupKey| match key {
                    GroupKey::User if kind == "user" => name.to_owned(),
                    GroupKey::VirtualAccount if kind == "virtualaccount" => name.to_owned(),
                    GroupKey::User | GroupKey::VirtualAccount => String::new(),
                    GroupKey::Team => team.clone(),
                    GroupKey::Model => record.model.clone(),
                    GroupKey::Account => record.account.clone(),
                    GroupKey::Endpoint => record.endpoint.clone(),
                    GroupKey::Outcome => record.outcome.as_str().to_owned(),
                    GroupKey::Token => record.token_id.clone(),
                    GroupKey::Day => record.at.to_iso()[..10].to_owned(),
                    GroupKey::Hour => record.at.to_iso()[..13].to_owned(),
                    GroupKey::Metadata(key) => record.metadata.get(key).cloned().unwrap_or_default(),
                };
                filter.group_by.iter().map(value).collect()
            })
            .collect();
        for group in groups {
            rows.entry(group).or_default().add_record(record);
        }
    }
    rows.into_iter().map(|(group, figures)| ReportRow { group, figures }).collect()
}

fn random_filter(numbers: &mut Numbers, newest: u64, span_ms: u64) -> ReportFilter {
    let mut keys: Vec<GroupKey> = GroupKey::WORDS.into_iter().map(|(key, _)| key).collect();
    keys.push(GroupKey::Metadata("app".to_owned()));
    let group_by =
        (0..numbers.below(3)).map(|_| keys.remove(numbers.below(keys.len() as u64) as usize)).collect();
    let mut maybe = |value: &str| (numbers.below(4) == 0).then(|| value.to_owned());
    let mut filter = ReportFilter {
        group_by,
        subject: maybe("user:u1@example.com"),
        team: maybe("red"),
        model: maybe("account0/m1"),
        account: maybe("account0"),
        metadata: maybe("a1").map(|value| ("app".to_owned(), value)).into_iter().collect(),
        ..by(&[])
    };
    let time = |numbers: &mut Numbers| match numbers.below(3) {
        0 => None,
        1 => Some(UnixMillis(newest - numbers.below(span_ms))),
        _ => Some(UnixMillis((newest - numbers.below(span_ms)) / HOUR_MS * HOUR_MS)),
    };
    filter.from = time(numbers);
    filter.to = time(numbers).map(|to| if numbers.below(2) == 0 { to } else { UnixMillis(to.0 - 1) });
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    filter.scope = match numbers.below(4) {
        0 => UsageScope::Limited {
            subject: "user:u2@example.com".to_owned(),
            teams: names(&["blue"]),
            accounts: names(&[]),
        },
        1 => UsageScope::Limited {
            subject: "user:u1@example.com".to_owned(),
            teams: names(&[]),
            accounts: names(&["account1"]),
        },
        _ => UsageScope::All,
    };
    filter
}

#[test]
fn reports_say_what_the_records_add_up_to_whatever_is_asked() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let folder = Folder::new();
    let config = config::Usage { max_queued_records: 10_000, ..config() };
    let (newest, span_ms) = (UnixMillis::now().0, 5 * DAY_MS);
    let mut records = Vec::new();
    let mut seen = [0_usize; 2];
    for round in 0..3 {
        let usage = Usage::start(&folder.0, &config);
        for _ in 0..500 {
            let record = random_record(&mut numbers, newest, span_ms);
            records.push(record.clone());
            usage.reserve().unwrap().settle(record);
        }
        for _ in 0..50 {
            let filter = random_filter(&mut numbers, newest, span_ms);
            let (told, wanted) = (usage.report(&filter).unwrap(), plain(&records, &filter));
            assert_eq!(told, wanted, "round {round}: {filter:?}");
            seen[usize::from(told.len() > 1)] += 1;
            // An export shows the same calls.
            let mut exported = 0;
            let mut page = usage.export(&filter, None).unwrap();
            loop {
                exported += page.records.len() as u64;
                let Some(next) = page.next else { break };
                page = usage.export(&filter, Some(next)).unwrap();
            }
            let all = plain(&records, &ReportFilter { group_by: vec![], ..filter });
            assert_eq!(exported, all.first().map_or(0, |row| row.figures.calls));
        }
    }
    assert!(seen.iter().all(|reports| *reports > 10), "{seen:?}");
}

/// The file as a gateway of before hourly sums left it.
fn take_sums_away(folder: &Folder) {
    let database = Database::open(folder.0.join("usage.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(aggregate::AGGREGATES).unwrap();
    transaction.delete_table(redb::TableDefinition::<&str, u32>::new("numbers")).unwrap();
    transaction.delete_table(redb::TableDefinition::<u32, &str>::new("texts")).unwrap();
    transaction.delete_table(redb::TableDefinition::<u32, u32>::new("hours")).unwrap();
    transaction.delete_table(writer::BACKFILL).unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("schema_version", 1).unwrap();
    transaction.commit().unwrap();
}

/// Reads the sums alone, whatever there is of records.
fn sums_alone(folder: &Folder) -> u64 {
    let database = Database::open(folder.0.join("usage.redb")).unwrap();
    let path = folder.0.join("usage.redb");
    let reading = read::Reading::begin(&path, &database).unwrap();
    let mut sums = Figures::default();
    reading
        .each_hourly_sum(0..u32::MAX, |_, bytes| {
            sums.add_encoded(bytes).unwrap();
            Ok(())
        })
        .unwrap();
    sums.calls
}

#[test]
fn the_sums_of_an_old_file_are_made_beside_the_calls() {
    let folder = Folder::new();
    let config = config::Usage { max_queued_records: 50_000, ..config() };
    let now = UnixMillis::now().0;
    let settle = |usage: &Usage, count: u64| {
        for number in 0..count {
            let at = now - number % (3 * DAY_MS / 1000) * 1000;
            usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", at));
        }
        usage.flush(Duration::from_secs(60)).unwrap();
    };
    let usage = Usage::start(&folder.0, &config);
    settle(&usage, 9000);
    usage.close();
    assert_eq!(sums_alone(&folder), 9000);
    take_sums_away(&folder);
    // A gateway that does not run reads the records.
    assert_eq!(calls(&UsageFile::new(&folder.0).report(&by(&[])).unwrap()), expected(&[("", 9000)]));
    // Stopped in the middle and started again, with calls in between, nothing is missing and nothing counts twice.
    let mut wanted = 9000;
    for _ in 0..3 {
        let usage = Usage::start(&folder.0, &config);
        settle(&usage, 500);
        wanted += 500;
        let user = by(&[GroupKey::User]);
        assert_eq!(calls(&usage.report(&user).unwrap()), expected(&[("ada@example.com", wanted)]));
        usage.close();
    }
    let usage = Usage::start(&folder.0, &config);
    let filled = |usage: &Usage| {
        let database = usage.shared.database.read().unwrap();
        let reading = read::Reading::begin(&usage.shared.path, database.as_ref().unwrap()).unwrap();
        reading.whole_hours(UnixMillis(0), UnixMillis(u64::MAX)).unwrap().is_some()
    };
    // Each flush waits for one step at most.
    assert!((0..1000).any(|_| usage.flush(Duration::from_secs(60)).is_ok() && filled(&usage)));
    usage.close();
    assert_eq!(sums_alone(&folder), wanted);
}

#[test]
fn hourly_sums_stay_longer_than_records() {
    let folder = Folder::new();
    let now = UnixMillis::now().0;
    let keep = |retention_days, aggregate_retention_days| config::Usage {
        retention_days,
        aggregate_retention_days,
        ..config()
    };
    let usage = Usage::start(&folder.0, &keep(10_000, 10_000));
    for days in [0, 20, 40, 500] {
        usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", now - days * DAY_MS));
    }
    usage.flush(Duration::from_secs(60)).unwrap();
    usage.close();
    for (retention, sums, in_records, in_sums) in [(30, 300, 2, 3), (10, 30, 1, 2), (5, 1, 1, 1)] {
        let usage = Usage::start(&folder.0, &keep(retention, sums));
        let from_records = by(&[GroupKey::Token]);
        let left = |filter: &ReportFilter| usage.report(filter).unwrap()[0].figures.calls;
        assert!((0..1000).any(|_| left(&from_records) == in_records && left(&by(&[])) == in_sums));
        usage.close();
    }
}

#[test]
fn an_hour_has_so_many_rows_and_the_rest_is_counted_without_names() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config());
    usage.flush(Duration::from_secs(60)).unwrap();
    usage.close();
    let database = Database::open(folder.0.join("usage.redb")).unwrap();
    let mut aggregator = aggregate::Aggregator::with_rows_of_hour(3);
    let at = UnixMillis::now().0 / HOUR_MS * HOUR_MS;
    for round in 1..=2 {
        let records: Vec<UsageRecord> =
            (0..10).map(|number| record(&format!("user:u{number}@x.io"), "main/a", at)).collect();
        let transaction = database.begin_write().unwrap();
        // Those who have a row keep it.
        assert_eq!(aggregator.add(&transaction, &records).unwrap(), 7);
        transaction.commit().unwrap();
        let rows = report::read(&folder.0, &database, &by(&[GroupKey::User]), None).unwrap();
        assert_eq!((rows.len(), &*rows[0].group[0], rows[0].figures.calls), (4, "(other)", 7 * round));
        assert!(rows[1..].iter().all(|row| row.figures.calls == round));
        let limited = UsageScope::Limited {
            subject: "user:u1@x.io".to_owned(),
            teams: BTreeSet::new(),
            accounts: BTreeSet::from(["main".to_owned()]),
        };
        let rows = report::read(
            &folder.0,
            &database,
            &ReportFilter { scope: limited, ..by(&[GroupKey::User]) },
            None,
        )
        .unwrap();
        assert!(rows.iter().all(|row| row.group[0] != "(other)"), "{rows:?}");
    }
    // A text that is too long for a number.
    let transaction = database.begin_write().unwrap();
    assert_eq!(aggregator.add(&transaction, &[record(&"user:x".repeat(5000), "main/a", at)]).unwrap(), 1);
}

#[test]
fn a_scope_of_nothing_shows_nothing() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config());
    let now = UnixMillis::now().0;
    usage.reserve().unwrap().settle(record("user:ada@example.com", "main/a", now));
    usage.reserve().unwrap().settle(record("", "main/a", now));
    for group_by in [vec![], vec![GroupKey::Token]] {
        let filter = ReportFilter { group_by, flush: true, ..ReportFilter::default() };
        assert!(usage.report(&filter).unwrap().is_empty());
        assert!(usage.export(&filter, None).unwrap().records.is_empty());
    }
}
