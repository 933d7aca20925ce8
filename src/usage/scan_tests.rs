//! What is read since a time, hour by hour and record by record, against the records.

use std::collections::BTreeMap;

use super::tests::{DAY_MS, config, record};
use super::*;
use crate::domain::Money;
use crate::store::tests::Folder;

const HOUR_MS: u64 = 3_600_000;

/// Who, the model, and how many of the cuts came before: what is asked of a scan.
type Sums = BTreeMap<(String, Vec<String>, String, usize), (u64, Money)>;

fn add(sums: &mut Sums, since: &Since, record: &UsageRecord) {
    let before = since.cuts.iter().filter(|cut| record.at >= **cut).count();
    let key = (record.subject.clone(), record.teams.clone(), record.model.clone(), before);
    let sum = sums.entry(key).or_insert((0, Money::ZERO));
    sum.0 += record.tokens.input + record.tokens.output;
    sum.1 = sum.1.plus(record.cost.unwrap_or(Money::ZERO));
}

fn next(seed: &mut u64, end: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % end
}

#[test]
fn hours_together_and_records_alone_are_the_same_sums() {
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config::Usage { max_queued_records: 10_000, ..config() });
    let now = UnixMillis::now().0;
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let mut records = Vec::new();
    for number in 0..4_000_u64 {
        let subject = format!("user:u{}@x.io", next(&mut seed, 3));
        let model = format!("main/m{}", next(&mut seed, 2));
        let mut one = record(&subject, &model, now - next(&mut seed, 3 * DAY_MS));
        one.tokens.input = next(&mut seed, 1_000);
        one.cost = (number % 5 > 0).then(|| Money::from_units(i128::from(next(&mut seed, 1 << 50))));
        if number % 3 == 0 {
            one.teams = vec!["blue".to_owned(), "red".to_owned()];
        }
        if number == 7 {
            // Too long for a number: its hour has a row of nobody.
            one.teams = (0..64).map(|team| format!("team-{team}-{}", "x".repeat(70))).collect();
        }
        records.push(one.clone());
        usage.reserve().unwrap().settle(one);
    }
    let hour = now / HOUR_MS * HOUR_MS;
    for (name, since) in [
        ("all", Since { from: UnixMillis(0), sums_until: UnixMillis(u64::MAX), cuts: vec![] }),
        (
            "a day of a zone of half hours",
            Since {
                from: UnixMillis(hour - DAY_MS + HOUR_MS / 2),
                sums_until: UnixMillis(now),
                cuts: vec![UnixMillis(hour - DAY_MS + HOUR_MS / 2), UnixMillis(now - 3 * HOUR_MS - 1)],
            },
        ),
        (
            "whole hours",
            Since {
                from: UnixMillis(hour - DAY_MS),
                sums_until: UnixMillis(hour),
                cuts: vec![UnixMillis(hour - 5 * HOUR_MS), UnixMillis(hour)],
            },
        ),
        ("no hours", Since { from: UnixMillis(now - DAY_MS), sums_until: UnixMillis(0), cuts: vec![] }),
        ("later", Since { from: UnixMillis(now + DAY_MS), sums_until: UnixMillis(now), cuts: vec![] }),
    ] {
        let (mut wanted, mut found, mut calls) = (Sums::new(), Sums::new(), 0_usize);
        let recent: Vec<_> = records.iter().filter(|record| record.at >= since.from).collect();
        recent.iter().for_each(|record| add(&mut wanted, &since, record));
        usage
            .scan(&since, &mut |record| {
                calls += 1;
                add(&mut found, &since, record);
            })
            .unwrap();
        assert_eq!(found, wanted, "{name}");
        if since.sums_until.0 > hour - DAY_MS && recent.len() > 1_000 {
            assert!(calls < recent.len() * 3 / 4, "{name}: {calls} of {}", recent.len());
        }
    }
}

/// `GATEWAY_TEST_RECORDS=1000000` gives the figure of `docs/usage.md`.
#[test]
fn a_start_reads_hours_and_not_their_records() {
    let count = std::env::var("GATEWAY_TEST_RECORDS").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(5_000);
    let folder = Folder::new();
    let usage = Usage::start(&folder.0, &config::Usage { max_queued_records: 100_000, ..config() });
    let now = UnixMillis::now().0;
    for number in 0..count {
        let subject = format!("user:u{}@x.io", number % 20);
        let at = now - number % (30 * DAY_MS / 1000) * 1000;
        loop {
            if let Ok(slot) = usage.reserve() {
                slot.settle(record(&subject, "main/a", at));
                break;
            }
            usage.flush(Duration::from_secs(60)).unwrap();
        }
    }
    usage.flush(Duration::from_secs(600)).unwrap();
    let mut tokens = [0_u64; 2];
    let mut told = [0_u64; 2];
    let mut took = [Duration::ZERO; 2];
    for (way, sums_until) in [UnixMillis(now), UnixMillis(0)].into_iter().enumerate() {
        let since = Since { from: UnixMillis(now - 31 * DAY_MS), sums_until, cuts: vec![UnixMillis(now)] };
        let begun = std::time::Instant::now();
        usage
            .scan(&since, &mut |record| {
                tokens[way] += record.tokens.input + record.tokens.output;
                told[way] += 1;
            })
            .unwrap();
        took[way] = begun.elapsed();
    }
    assert_eq!(tokens, [count * 13; 2]);
    assert_eq!(told[1], count);
    assert!(told[0] < count || count < 20_000, "{told:?}");
    println!("{count} records: {took:?} with {told:?} rows read");
}
