//! Latencies in fixed buckets, so that percentiles can be told of sums: exact up to 15 ms, then eight buckets an
//! octave, each at most an eighth of its lower end wide.

/// Buckets there are: the last one begins beyond a day, the longest that a call may take.
pub(super) const BUCKETS: usize = 208;
const EXACT: u64 = 16;
const PER_OCTAVE_BITS: u32 = 3;

/// How many values fell into each bucket; buckets behind the last that has any are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

/// The bucket of a value in milliseconds.
fn bucket(value_ms: u64) -> usize {
    if value_ms < EXACT {
        return usize::try_from(value_ms).unwrap_or(0);
    }
    // 16 is the first of octave 4.
    let octave = value_ms.ilog2();
    let within = (value_ms >> (octave - PER_OCTAVE_BITS)) & 7;
    let bucket = EXACT + u64::from(octave - 4) * 8 + within;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The highest value of a bucket, in milliseconds.
fn upper_end_ms(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    if bucket < EXACT {
        return bucket;
    }
    let (octave, within) = ((bucket - EXACT) / 8 + 4, (bucket - EXACT) % 8);
    let width = 1_u64 << (octave - u64::from(PER_OCTAVE_BITS));
    (1_u64 << octave) + (within + 1) * width - 1
}

impl Histogram {
    /// Counts a value.
    pub fn record(&mut self, value_ms: u64) {
        self.add(bucket(value_ms), 1);
    }

    /// Adds to a bucket; one that there is not counts as the last.
    pub(super) fn add(&mut self, bucket: usize, count: u64) {
        let bucket = bucket.min(BUCKETS - 1);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(kept) = self.counts.get_mut(bucket) {
            *kept = kept.saturating_add(count);
        }
    }

    /// The buckets that hold something, and how much.
    pub(super) fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// The value that so many of a hundred do not exceed, in milliseconds, at most an eighth too high; `None` when
    /// nothing was counted.
    pub fn percentile_ms(&self, percent: u64) -> Option<u64> {
        let total: u128 = self.counts.iter().copied().map(u128::from).sum();
        let wanted = (total * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.filled() {
            seen += u128::from(count);
            if seen >= wanted {
                return Some(upper_end_ms(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        let mut last = 0;
        for value in (0..5000).chain([9999, 86_399_999, 86_400_000, 90_000_000]) {
            let bucket = bucket(value);
            assert!(bucket >= last && bucket < BUCKETS - 1, "{value}");
            last = bucket;
            let end = upper_end_ms(bucket);
            assert!(end >= value && end - value <= value / 8, "{value} {end}");
        }
        assert_eq!(super::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_known_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_ms(50), None);
        for value in 1..=1000 {
            histogram.record(value);
        }
        for (percent, exact) in [(1, 10), (50, 500), (95, 950), (100, 1000)] {
            let told = histogram.percentile_ms(percent).unwrap();
            assert!(told >= exact && told <= exact + exact / 8, "{percent}: {told}");
        }
        let mut one = Histogram::default();
        one.record(7);
        assert_eq!(
            (one.percentile_ms(0), one.percentile_ms(50), one.percentile_ms(255)),
            (Some(7), Some(7), Some(7))
        );
    }
}
