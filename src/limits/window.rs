//! A sliding window: what was taken in the last minute, hour or day.

use std::collections::VecDeque;

/// A window is kept in so many slots, so that it is at most half a percent longer than it says, never shorter.
const SLOTS: u64 = 200;

/// What was taken when. At most 202 entries, however much was taken.
#[derive(Debug)]
pub(super) struct Window {
    length_ms: u64,
    slot_ms: u64,
    /// (slot, taken), ascending.
    slots: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    /// An empty one of that length.
    pub(super) fn new(length_ms: u64) -> Self {
        Self { length_ms, slot_ms: (length_ms / SLOTS).max(1), slots: VecDeque::new(), sum: 0 }
    }

    /// The slot that a time is in.
    pub(super) fn slot(&self, at_ms: u64) -> u64 {
        at_ms / self.slot_ms
    }

    /// When what was taken in a slot counts no more.
    fn ends_at(&self, slot: u64) -> u64 {
        (slot.saturating_add(1)).saturating_mul(self.slot_ms).saturating_add(self.length_ms)
    }

    /// Forgets what is over, and says how much is taken.
    pub(super) fn taken(&mut self, now_ms: u64) -> u64 {
        while let Some(&(slot, count)) = self.slots.front() {
            if self.ends_at(slot) > now_ms {
                break;
            }
            self.sum = self.sum.saturating_sub(count);
            self.slots.pop_front();
        }
        self.sum
    }

    /// Milliseconds until nothing is taken any more, if nothing is added.
    pub(super) fn reset_ms(&self, now_ms: u64) -> u64 {
        self.slots.back().map_or(0, |(slot, _)| self.ends_at(*slot).saturating_sub(now_ms))
    }

    /// Takes `count` when it fits within `limit`.
    ///
    /// # Errors
    /// Milliseconds until it would fit if nobody else came.
    pub(super) fn take(&mut self, now_ms: u64, count: u64, limit: u64) -> Result<u64, u64> {
        let sum = self.taken(now_ms);
        if sum.saturating_add(count) <= limit {
            return Ok(self.add(now_ms, count));
        }
        let mut left = sum;
        for &(slot, taken) in &self.slots {
            left = left.saturating_sub(taken);
            if left.saturating_add(count) <= limit {
                return Err(self.ends_at(slot).saturating_sub(now_ms).max(1));
            }
        }
        Err(self.length_ms)
    }

    /// Adds whatever the limit; gives the slot.
    pub(super) fn add(&mut self, at_ms: u64, count: u64) -> u64 {
        let slot = self.slot(at_ms);
        self.add_to(slot, count);
        slot
    }

    /// Adds to a slot, which may be one of earlier.
    pub(super) fn add_to(&mut self, slot: u64, count: u64) {
        self.sum = self.sum.saturating_add(count);
        match self.slots.back_mut() {
            Some((last, taken)) if *last == slot => *taken = taken.saturating_add(count),
            Some((last, _)) if *last > slot => {
                match self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
                    Ok(place) => {
                        if let Some((_, taken)) = self.slots.get_mut(place) {
                            *taken = taken.saturating_add(count);
                        }
                    }
                    Err(place) => self.slots.insert(place, (slot, count)),
                }
            }
            _ => self.slots.push_back((slot, count)),
        }
    }

    /// What was thought to be `before` in a slot was `after`.
    pub(super) fn correct(&mut self, slot: u64, before: u64, after: u64, now_ms: u64) {
        if after >= before {
            let at = if self.ends_at(slot) > now_ms { slot } else { self.slot(now_ms) };
            if after > before {
                self.add_to(at, after - before);
            }
            return;
        }
        if let Ok(place) = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot)
            && let Some((_, taken)) = self.slots.get_mut(place)
        {
            let less = (before - after).min(*taken);
            *taken -= less;
            self.sum = self.sum.saturating_sub(less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, so that the test is the same each time.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn no_minute_holds_more_than_the_limit() {
        for start in 1..20_u64 {
            let mut seed = start * 7_919;
            let mut window = Window::new(60_000);
            let limit = 1 + next(&mut seed) % 50;
            let (mut now, mut taken) = (next(&mut seed) % 1_000_000, Vec::<(u64, u64)>::new());
            for _ in 0..2_000 {
                now += next(&mut seed) % 5_000;
                let count = 1 + next(&mut seed) % 5;
                match window.take(now, count, limit) {
                    Ok(_) => taken.push((now, count)),
                    Err(wait) => assert!(wait > 0 && wait <= 60_300),
                }
                let sum: u64 = taken.iter().filter(|(at, _)| at + 60_000 > now).map(|(_, count)| count).sum();
                assert!(sum <= limit, "{sum} of {limit} at {now}");
                assert!(window.slots.len() <= 202);
                assert_eq!(window.sum, window.slots.iter().map(|(_, count)| count).sum::<u64>());
            }
        }
    }

    #[test]
    fn five_thousand_a_second_get_their_limit_within_a_percent() {
        // 5,000 requests a second, of which 60,000 a minute are allowed, for ten minutes.
        let mut window = Window::new(60_000);
        let (limit, mut passed) = (60_000, 0_u64);
        for n in 0..3_000_000_u64 {
            if window.take(n / 5, 1, limit).is_ok() {
                passed += 1;
            }
        }
        let expected = 600_000;
        assert!(passed.abs_diff(expected) * 100 <= expected, "{passed}");
    }

    #[test]
    fn what_is_refused_fits_when_it_was_told_to() {
        let mut window = Window::new(1_000);
        assert!(window.take(100, 3, 5).is_ok());
        assert!(window.take(500, 2, 5).is_ok());
        let wait = window.take(600, 3, 5).unwrap_err();
        assert_eq!(window.take(600 + wait - 1, 3, 5).unwrap_err(), 1);
        assert!(window.take(600 + wait, 3, 5).is_ok());
        assert_eq!(window.take(2_000, 6, 5).unwrap_err(), 1_000, "never fits");
        assert_eq!(Window::new(1_000).take(0, 1, 0), Err(1_000));
        assert_eq!(window.reset_ms(10_000_000), 0);
    }

    #[test]
    fn estimates_are_corrected() {
        let mut window = Window::new(60_000);
        let slot = window.take(1_000, 50, 100).unwrap();
        window.correct(slot, 50, 10, 2_000);
        assert_eq!(window.taken(2_000), 10);
        window.correct(slot, 10, 30, 2_000);
        assert_eq!(window.taken(2_000), 30);
        // What ends after its slot does counts from then on.
        assert_eq!(window.taken(70_000), 0);
        window.correct(slot, 30, 40, 70_000);
        assert_eq!(window.taken(70_000), 10);
        window.correct(slot, 30, 0, 70_000);
        assert_eq!(window.taken(70_000), 10);
        let slot = window.slot(69_000);
        window.add_to(slot, 5);
        assert_eq!((window.taken(70_000), window.slots.len()), (15, 2));
    }
}
