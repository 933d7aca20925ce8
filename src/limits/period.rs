//! Calendar periods: where a day, week, month or quarter begins and ends.

use jiff::civil::{Date, date};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

use crate::clock::UnixMillis;
use crate::domain::Period;

/// The period that a time is in: from its first millisecond to the first of the next one. `offset_minutes` east of UTC
/// is where days begin.
pub(super) fn bounds(period: Period, at: UnixMillis, offset_minutes: i32) -> (UnixMillis, UnixMillis) {
    match period {
        Period::Minute => fixed(at, 60_000),
        Period::Hour => fixed(at, 3_600_000),
        Period::Day | Period::Week | Period::Month | Period::Quarter => {
            calendar(period, at, offset_minutes).unwrap_or((at, UnixMillis(u64::MAX)))
        }
    }
}

fn fixed(at: UnixMillis, length_ms: u64) -> (UnixMillis, UnixMillis) {
    let start = at.0 - at.0 % length_ms;
    (UnixMillis(start), UnixMillis(start.saturating_add(length_ms)))
}

fn calendar(period: Period, at: UnixMillis, offset_minutes: i32) -> Option<(UnixMillis, UnixMillis)> {
    let offset = Offset::from_seconds(offset_minutes.checked_mul(60)?).ok()?;
    let today = offset.to_datetime(Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?).date();
    let (first, next): (Date, Date) = match period {
        Period::Week => {
            let back = i32::from(today.weekday().to_monday_zero_offset());
            let first = today.checked_sub(back.days()).ok()?;
            (first, first.checked_add(7.days()).ok()?)
        }
        Period::Month => (today.first_of_month(), today.first_of_month().checked_add(1.month()).ok()?),
        Period::Quarter => {
            let first = date(today.year(), (today.month() - 1) / 3 * 3 + 1, 1);
            (first, first.checked_add(3.months()).ok()?)
        }
        _ => (today, today.tomorrow().ok()?),
    };
    let begin = |day: Date| {
        let time = offset.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
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
            let found = bounds(period, time(at), offset);
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
                let (start, end) = bounds(period, at, 120);
                assert!(start <= at && at < end);
                assert_eq!(bounds(period, UnixMillis(end.0 - 1), 120), (start, end));
                assert_eq!(bounds(period, end, 120).0, end);
                at = end;
            }
        }
        assert_eq!(bounds(Period::Day, UnixMillis(u64::MAX), 0).1, UnixMillis(u64::MAX));
        assert_eq!(bounds(Period::Quarter, UnixMillis(0), 840).0, UnixMillis(0));
    }
}
