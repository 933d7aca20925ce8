//! What is summed of calls, and the compact form in which the sums lie on disk.

use super::histogram::Histogram;
use crate::domain::{Money, Outcome, TokenOrigin, UsageRecord};

/// Sums of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls that reached a provider.
    pub calls: u64,
    /// Those of them that did not end complete.
    pub errors: u64,
    /// Calls whose tokens the gateway counted itself.
    pub estimated_calls: u64,
    /// Calls that no price is known of: what they cost is not in `cost`.
    pub unpriced_calls: u64,
    /// Sum of the input tokens.
    pub input_tokens: u64,
    /// Sum of the output tokens.
    pub output_tokens: u64,
    /// The part of the input that the providers had cached.
    pub cached_tokens: u64,
    /// The part of the input that was written to a cache.
    pub cache_write_tokens: u64,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: u64,
    /// Sum of the latencies.
    pub latency_ms: u64,
    /// Sum of what is known of the costs.
    pub cost: Money,
    /// The latencies.
    pub latencies: Histogram,
    /// The times to the first byte of the provider's answer, of calls that had one.
    pub first_bytes: Histogram,
}

impl Figures {
    /// Adds one call.
    pub fn add_record(&mut self, record: &UsageRecord) {
        let sums = self.sums();
        let values = [
            1,
            u64::from(record.outcome != Outcome::Complete),
            u64::from(record.tokens.origin == TokenOrigin::Estimated),
            u64::from(record.cost.is_none()),
            record.tokens.input,
            record.tokens.output,
            record.tokens.cached,
            record.tokens.cache_write,
            record.tokens.reasoning,
            record.latency_ms,
        ];
        for (sum, value) in sums.into_iter().zip(values) {
            *sum = sum.saturating_add(value);
        }
        self.cost = self.cost.plus(record.cost.unwrap_or(Money::ZERO));
        self.latencies.record(record.latency_ms);
        if let Some(first_byte_ms) = record.first_byte_ms {
            self.first_bytes.record(first_byte_ms);
        }
    }

    fn sums(&mut self) -> [&mut u64; 10] {
        [
            &mut self.calls,
            &mut self.errors,
            &mut self.estimated_calls,
            &mut self.unpriced_calls,
            &mut self.input_tokens,
            &mut self.output_tokens,
            &mut self.cached_tokens,
            &mut self.cache_write_tokens,
            &mut self.reasoning_tokens,
            &mut self.latency_ms,
        ]
    }

    /// The mean latency; 0 without calls.
    pub fn mean_latency_ms(&self) -> u64 {
        self.latency_ms.checked_div(self.calls).unwrap_or(0)
    }

    /// The bytes of the sums: numbers of seven bits a byte, low ones first, the cost with its sign in the lowest bit,
    /// and of the histograms only what is filled.
    pub(super) fn encode(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        for sum in self.sums() {
            put(&mut bytes, u128::from(*sum));
        }
        let units = self.cost.units();
        put(&mut bytes, (units.unsigned_abs() << 1) | u128::from(units < 0));
        for histogram in [&self.latencies, &self.first_bytes] {
            put(&mut bytes, u128::try_from(histogram.filled().count()).unwrap_or(0));
            let mut last = 0;
            for (bucket, count) in histogram.filled() {
                put(&mut bytes, u128::try_from(bucket - last).unwrap_or(0));
                put(&mut bytes, u128::from(count));
                last = bucket;
            }
        }
        bytes
    }

    /// Adds sums from their bytes; `None` when they are none. What was read until then is added.
    pub(super) fn add_encoded(&mut self, mut bytes: &[u8]) -> Option<()> {
        for sum in self.sums() {
            *sum = sum.saturating_add(take_u64(&mut bytes)?);
        }
        let cost = take(&mut bytes)?;
        let units = i128::try_from(cost >> 1).ok()?;
        let cost = Money::from_units(if cost & 1 == 1 { -units } else { units });
        self.cost = self.cost.plus(cost);
        for histogram in [&mut self.latencies, &mut self.first_bytes] {
            let filled = take_u64(&mut bytes)?;
            let mut bucket = 0_usize;
            // A false count ends with the bytes.
            for _ in 0..filled {
                bucket = bucket.checked_add(usize::try_from(take_u64(&mut bytes)?).ok()?)?;
                histogram.add(bucket, take_u64(&mut bytes)?);
            }
        }
        bytes.is_empty().then_some(())
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap_or(0));
}

fn take(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0;
    for shift in (0..126).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Figures {
        let mut figures = Figures {
            calls: 3,
            errors: 1,
            estimated_calls: 128,
            unpriced_calls: 0,
            input_tokens: u64::MAX,
            output_tokens: 300,
            cached_tokens: 1,
            cache_write_tokens: 2,
            reasoning_tokens: 16_384,
            latency_ms: 70_000,
            cost: Money::parse("999999999999999.000000000000000001").unwrap(),
            ..Figures::default()
        };
        for value in [0, 1, 17, 90_000, u64::MAX] {
            figures.latencies.record(value);
        }
        figures.first_bytes.record(5);
        figures
    }

    #[test]
    fn sums_come_back_from_their_bytes() {
        for mut figures in
            [some(), Figures::default(), Figures { cost: Money::parse("-1.5").unwrap(), ..some() }]
        {
            let bytes = figures.encode();
            let mut read = Figures::default();
            read.add_encoded(&bytes).unwrap();
            assert_eq!(read, figures);
            read.add_encoded(&bytes).unwrap();
            assert_eq!(read.calls, figures.calls * 2);
            assert_eq!(read.cost, figures.cost.plus(figures.cost));
            assert_eq!(read.latencies.filled().count(), figures.latencies.filled().count());
        }
    }

    #[test]
    fn what_is_no_sum_is_refused() {
        let bytes = some().encode();
        for length in 0..bytes.len() {
            assert_eq!(Figures::default().add_encoded(&bytes[..length]), None, "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Figures::default().add_encoded(&longer), None);
        for hostile in [vec![0xff; 4096], [vec![0; 11], vec![0xff; 9], vec![1]].concat()] {
            assert_eq!(Figures::default().add_encoded(&hostile), None);
        }
    }
}
