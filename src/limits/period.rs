//! Calendar periods: where a day, week, month or quarter begins and ends.

use jiff::civil::{Date, date};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::clock::UnixMillis;
use crate::domain::Period;

/// The zone of a document: a place, else a fixed offset east of UTC. The database is in the binary: a file of the host's
/// would have to be read where nothing may block, and minimal containers have none.
pub(super) fn zone(name: Option<&str>, offset_minutes: i32) -> TimeZone {
    let offset = || Offset::from_seconds(offset_minutes.saturating_mul(60)).unwrap_or(Offset::UTC);
    match name.map(TimeZone::get) {
        None => TimeZone::fixed(offset()),
        Some(Ok(zone)) => zone,
        Some(Err(_)) => {
            // It was checked when it was applied; another version of the gateway may have another database.
            log::error!("the time zone of the budgets is not known to this version; UTC is taken");
            TimeZone::UTC
        }
    }
}

/// The period that a time is in: from its first millisecond to the first of the next one. Days begin in `zone`: with
/// their midnight, or where clocks skip that, with the first moment after it; where it comes twice, with the first.
pub(super) fn bounds(period: Period, at: UnixMillis, zone: &TimeZone) -> (UnixMillis, UnixMillis) {
    match period {
        Period::Minute => fixed(at, 60_000),
        Period::Hour => fixed(at, 3_600_000),
        Period::Day | Period::Week | Period::Month | Period::Quarter => {
            calendar(period, at, zone).unwrap_or((at, UnixMillis(u64::MAX)))
        }
    }
}

fn fixed(at: UnixMillis, length_ms: u64) -> (UnixMillis, UnixMillis) {
    let start = at.0 - at.0 % length_ms;
    (UnixMillis(start), UnixMillis(start.saturating_add(length_ms)))
}

fn calendar(period: Period, at: UnixMillis, zone: &TimeZone) -> Option<(UnixMillis, UnixMillis)> {
    let today = zone.to_datetime(Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?).date();
    let found = around(period, today, zone)?;
    if at < found.1 {
        return Some(found);
    }
    // Clocks went back over midnight: the calendar says yesterday once more, and today has begun.
    around(period, today.tomorrow().ok()?, zone)
}

/// The period that a day is in.
fn around(period: Period, day: Date, zone: &TimeZone) -> Option<(UnixMillis, UnixMillis)> {
    let (first, next): (Date, Date) = match period {
        Period::Week => {
            let back = i32::from(day.weekday().to_monday_zero_offset());
            let first = day.checked_sub(back.days()).ok()?;
            (first, first.checked_add(7.days()).ok()?)
        }
        Period::Month => (day.first_of_month(), day.first_of_month().checked_add(1.month()).ok()?),
        Period::Quarter => {
            let first = date(day.year(), (day.month() - 1) / 3 * 3 + 1, 1);
            (first, first.checked_add(3.months()).ok()?)
        }
        _ => (day, day.tomorrow().ok()?),
    };
    let begin = |day: Date| {
        let time = zone.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
        Some(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    };
    Some((begin(first)?, begin(next)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_and_end_where_the_calendar_says() {
        for (period, at, offset, start, end) in [
            (Period::Day, "2026-11-24T13:00:00Z", 0, "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"),
            (Period::Day, "2026-11-24T23:30:00Z", 60, "2026-11-24T23:00:00Z", "2026-11-25T23:00:00Z"),
            (Period::Day, "2026-11-24T03:00:00Z", -330, "2026-11-23T05:30:00Z", "2026-11-24T05:30:00Z"),
            (Period::Week, "2026-11-29T23:59:59Z", 0, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Period::Week, "2026-11-30T00:00:00Z", 0, "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"),
            (Period::Month, "2028-02-29T12:00:00Z", 0, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "2026-12-31T23:59:59Z", 0, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Period::Quarter, "2026-11-24T00:00:00Z", 0, "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Period::Quarter, "2026-03-31T23:30:00Z", 60, "2026-03-31T23:00:00Z", "2026-06-30T23:00:00Z"),
        ] {
            let time = |text| UnixMillis::parse(text).unwrap();
            let found = bounds(period, time(at), &zone(None, offset));
            assert_eq!(found, (time(start), time(end)), "{period:?} {at} {offset}");
        }
    }

    #[test]
    fn periods_follow_each_other_without_gaps() {
        for period in
            [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Quarter]
        {
            let mut at = UnixMillis::parse("2026-01-01T00:00:00Z").unwrap();
            for _ in 0..200 {
                let (start, end) = bounds(period, at, &zone(None, 120));
                assert!(start <= at && at < end);
                assert_eq!(bounds(period, UnixMillis(end.0 - 1), &zone(None, 120)), (start, end));
                assert_eq!(bounds(period, end, &zone(None, 120)).0, end);
                at = end;
            }
        }
        assert_eq!(bounds(Period::Day, UnixMillis(u64::MAX), &TimeZone::UTC).1, UnixMillis(u64::MAX));
        assert_eq!(bounds(Period::Quarter, UnixMillis(0), &zone(None, 840)).0, UnixMillis(0));
    }

    #[test]
    fn days_are_as_long_as_clocks_make_them() {
        for (place, period, at, start, end) in [
            // 23 hours, 25 hours.
            (
                "Europe/Berlin",
                Period::Day,
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                "Europe/Berlin",
                Period::Day,
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ),
            (
                "Europe/Berlin",
                Period::Week,
                "2026-03-25T12:00:00Z",
                "2026-03-22T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                "Europe/Berlin",
                Period::Month,
                "2026-10-31T22:59:59Z",
                "2026-09-30T22:00:00Z",
                "2026-10-31T23:00:00Z",
            ),
            (
                "Europe/Berlin",
                Period::Quarter,
                "2026-03-31T21:59:59Z",
                "2025-12-31T23:00:00Z",
                "2026-03-31T22:00:00Z",
            ),
            (
                "America/New_York",
                Period::Month,
                "2026-11-01T04:00:00Z",
                "2026-11-01T04:00:00Z",
                "2026-12-01T05:00:00Z",
            ),
            (
                "Asia/Kolkata",
                Period::Day,
                "2026-11-24T18:30:00Z",
                "2026-11-24T18:30:00Z",
                "2026-11-25T18:30:00Z",
            ),
            // Clocks that move by half an hour.
            (
                "Australia/Lord_Howe",
                Period::Day,
                "2026-10-03T20:00:00Z",
                "2026-10-03T13:30:00Z",
                "2026-10-04T13:00:00Z",
            ),
            // There is no midnight.
            (
                "Africa/Cairo",
                Period::Day,
                "2026-04-24T12:00:00Z",
                "2026-04-23T22:00:00Z",
                "2026-04-24T21:00:00Z",
            ),
            // There is no 30 December.
            (
                "Pacific/Apia",
                Period::Day,
                "2011-12-30T09:59:59Z",
                "2011-12-29T10:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
            (
                "Pacific/Apia",
                Period::Day,
                "2011-12-30T10:00:00Z",
                "2011-12-30T10:00:00Z",
                "2011-12-31T10:00:00Z",
            ),
            // Midnight comes twice: one minute after it clocks go back.
            (
                "America/St_Johns",
                Period::Day,
                "2010-11-07T03:00:00Z",
                "2010-11-07T02:30:00Z",
                "2010-11-08T03:30:00Z",
            ),
        ] {
            let time = |text| UnixMillis::parse(text).unwrap();
            let found = bounds(period, time(at), &zone(Some(place), 0));
            assert_eq!(found, (time(start), time(end)), "{place} {period:?} {at}");
        }
        assert_eq!(zone(Some("Nowhere/Land"), 60), TimeZone::UTC);
    }

    #[test]
    fn periods_of_places_follow_each_other_without_gaps() {
        for place in [
            "Europe/Berlin",
            "America/New_York",
            "America/St_Johns",
            "America/Havana",
            "Africa/Cairo",
            "Africa/Casablanca",
            "Asia/Tehran",
            "Asia/Beirut",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Antarctica/Troll",
            "America/Sao_Paulo",
        ] {
            let zone = zone(Some(place), 0);
            for (period, count) in
                [(Period::Day, 9_000), (Period::Week, 1_500), (Period::Month, 300), (Period::Quarter, 100)]
            {
                let mut at = UnixMillis::parse("2005-01-01T12:00:00Z").unwrap();
                at = bounds(period, at, &zone).0;
                for _ in 0..count {
                    let (start, end) = bounds(period, at, &zone);
                    assert!(start == at && at < end, "{place} {period:?} {}", at.to_iso());
                    let middle = UnixMillis(start.0 + (end.0 - start.0) / 3);
                    assert_eq!(bounds(period, middle, &zone), (start, end), "{place} {}", middle.to_iso());
                    let last = UnixMillis(end.0 - 1);
                    assert_eq!(bounds(period, last, &zone), (start, end), "{place} {}", last.to_iso());
                    at = end;
                }
            }
        }
    }
}
