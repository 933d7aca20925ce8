//! Time as a value: everything that decides by time takes it as a parameter or reads it here.
//!
//! The present time never goes back: a host's clock that is turned back must not revive what has expired. The store
//! keeps the highest time seen, so that this holds across restarts too.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The present time: the host's, or the highest seen while the host's runs behind it.
    pub fn now() -> Self {
        HIGHEST.see(host())
    }

    /// This time moved forward, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The first moment of its month in UTC.
    pub fn month_start(self) -> Self {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let start = Timestamp::from_millisecond(millis).ok().and_then(|time| {
            let day = time.to_zoned(jiff::tz::TimeZone::UTC).first_of_month().ok()?.start_of_day().ok()?;
            u64::try_from(day.timestamp().as_millisecond()).ok()
        });
        start.map_or(self, Self)
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

/// The highest time seen by this process, in milliseconds.
static HIGHEST: Highest = Highest(AtomicU64::new(0));

/// How far the host's clock may run behind before the log says so.
const TOLERATED: Duration = Duration::from_secs(60);

/// A time that only goes up.
#[derive(Debug)]
struct Highest(AtomicU64);

impl Highest {
    /// The later of a time and the highest so far.
    fn see(&self, time: UnixMillis) -> UnixMillis {
        // Mostly nothing is newer within a millisecond, and then nothing is written that other cores would wait for.
        let highest = self.0.load(Ordering::Relaxed);
        if time.0 > highest {
            UnixMillis(self.0.fetch_max(time.0, Ordering::Relaxed).max(time.0))
        } else {
            UnixMillis(highest)
        }
    }
}

/// It was this late already: what a store remembers of earlier runs.
pub fn remember(time: UnixMillis) {
    HIGHEST.see(time);
}

/// Believes the host's clock again. The time before and after.
pub fn reset() -> (UnixMillis, UnixMillis) {
    let after = host();
    (UnixMillis(HIGHEST.0.swap(after.0, Ordering::Relaxed)), after)
}

/// By how much the host's clock runs behind the highest time seen, when that is worth a warning.
pub fn behind() -> Option<Duration> {
    let host = host();
    let behind = Duration::from_millis(HIGHEST.see(host).0.saturating_sub(host.0));
    (behind > TOLERATED).then_some(behind)
}

/// The host's clock.
#[cfg(not(feature = "test-clock"))]
fn host() -> UnixMillis {
    system()
}

/// The host's clock, moved by the milliseconds that stand in the file `$GATEWAY_TEST_CLOCK`.
#[cfg(feature = "test-clock")]
fn host() -> UnixMillis {
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    let offset = FILE
        .get_or_init(|| std::env::var_os("GATEWAY_TEST_CLOCK"))
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok())
        .and_then(|text| text.trim().parse::<i64>().ok())
        .unwrap_or(0);
    UnixMillis(system().0.saturating_add_signed(offset))
}

fn system() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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
    fn the_highest_time_seen_holds() {
        let highest = Highest(AtomicU64::new(0));
        assert_eq!(highest.see(UnixMillis(1000)), UnixMillis(1000));
        assert_eq!(highest.see(UnixMillis(999)), UnixMillis(1000));
        assert_eq!(highest.see(UnixMillis(1)), UnixMillis(1000));
        assert_eq!(highest.see(UnixMillis(1001)), UnixMillis(1001));
    }

    #[test]
    fn a_clock_that_ran_ahead_is_put_right() {
        let ahead = UnixMillis(system().0 + 3_600_000);
        remember(ahead);
        assert!(UnixMillis::now() >= ahead);
        assert!(behind().is_some_and(|behind| behind > TOLERATED));
        let (before, after) = reset();
        assert!(before >= ahead && after < ahead && UnixMillis::now() < ahead);
        assert_eq!(behind(), None);
    }

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
