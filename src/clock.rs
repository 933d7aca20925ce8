//! Time as a value: everything that decides by time takes it as a parameter or reads it here.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The present time of the host's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// This time moved forward, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// ISO 8601 in UTC with milliseconds, such as `2027-01-31T08:00:00.000Z`.
    pub fn to_iso(self) -> String {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match Timestamp::from_millisecond(millis) {
            Ok(time) => format!("{time:.3}"),
            Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
        }
    }

    /// Reads a date (`2027-01-31`, which means the end of that day in UTC) or an ISO 8601 time with a zone.
    ///
    /// # Errors
    /// A sentence that says which forms are understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is not a date; write 2027-01-31 (the end of that day, UTC) or 2027-01-31T08:00:00Z"
            )
        };
        let time = if text.len() == "2027-01-31".len() {
            let date = text.parse::<jiff::civil::Date>().map_err(|_| wrong())?;
            let start = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
            start
                .timestamp()
                .checked_add(SignedDuration::from_hours(24) - SignedDuration::from_millis(1))
                .map_err(|_| wrong())?
        } else {
            text.parse::<Timestamp>().map_err(|_| wrong())?
        };
        u64::try_from(time.as_millisecond()).map(Self).map_err(|_| wrong())
    }
}

/// Milliseconds on the monotonic clock since the process started; for deadlines and latencies.
pub fn monotonic_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    // Never 0, so that 0 can mean "no deadline".
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        let end = UnixMillis::parse("2027-01-31").unwrap();
        assert_eq!(end.to_iso(), "2027-01-31T23:59:59.999Z");
        assert_eq!(
            UnixMillis::parse("2027-01-31T08:00:00+02:00").unwrap().to_iso(),
            "2027-01-31T06:00:00.000Z"
        );
        for wrong in
            ["", "tomorrow", "2027-02-30", "2027-1-1", "2027-01-31T08:00:00", "20270131", "-1", "1969-01-01"]
        {
            assert!(UnixMillis::parse(wrong).is_err(), "{wrong}");
        }
    }
}
