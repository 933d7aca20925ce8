//! Money: US dollars as an exact decimal number, never a float.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits behind the point.
const DIGITS: usize = 18;
const UNITS_PER_DOLLAR: i128 = 1_000_000_000_000_000_000;
/// What is beyond is no price and no spending: a quadrillion dollars.
const MAX_UNITS: i128 = 1_000_000_000_000_000 * UNITS_PER_DOLLAR;

/// An amount of US dollars, exact to 18 digits behind the point. The price of a million tokens with up to 12 digits
/// behind the point, times a number of tokens, is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many dollars.
    pub fn whole(dollars: u32) -> Self {
        Self(i128::from(dollars) * UNITS_PER_DOLLAR)
    }

    /// Reads plain decimal text such as `0.25`; `None` when it is none, or has more than 18 digits behind the point.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_point_without_digits = digits.ends_with('.');
        if whole.is_empty()
            || whole.len() > 15
            || fraction.len() > DIGITS
            || has_point_without_digits
            || !is_number(whole)
            || !is_number(fraction)
        {
            return None;
        }
        let units = format!("{whole}{fraction:0<DIGITS$}").parse::<i128>().ok()?;
        (units <= MAX_UNITS).then_some(Self(sign * units))
    }

    /// The price of a million of something times how many there were, exactly; what is beyond the range is the end
    /// of the range.
    pub fn for_count(self, count: u64) -> Self {
        // The price of one is exact as long as the price of a million has at most 12 digits behind the point.
        let total = self.0.checked_mul(i128::from(count)).map(|total| total / 1_000_000);
        Self(total.unwrap_or(MAX_UNITS).clamp(-MAX_UNITS, MAX_UNITS))
    }

    /// The amount less so many percent, with at most 4 digits behind the point; exact as long as the amount has at
    /// most 12, rounded towards zero beyond.
    #[must_use]
    pub fn less_percent(self, percent: Self) -> Self {
        let per_million = percent.0 / (UNITS_PER_DOLLAR / 10_000);
        self.for_count(u64::try_from(1_000_000 - per_million).unwrap_or(0))
    }

    /// Whether it has at most 12 digits behind the point, so that as the price of a million it is exact for each.
    pub fn is_exact_for_one_of_a_million(self) -> bool {
        self.0 % 1_000_000 == 0
    }

    /// The sum, at most the end of the range.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).clamp(-MAX_UNITS, MAX_UNITS))
    }

    /// The difference, at least the beginning of the range.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).clamp(-MAX_UNITS, MAX_UNITS))
    }

    /// Units of 10^-18 dollars, for storage.
    pub fn units(self) -> i128 {
        self.0
    }

    /// From [`Money::units`].
    pub fn from_units(units: i128) -> Self {
        Self(units.clamp(-MAX_UNITS, MAX_UNITS))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

/// Plain decimal text without needless zeros: `0.25`, `3`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (
            self.0.unsigned_abs() / UNITS_PER_DOLLAR.unsigned_abs(),
            self.0.unsigned_abs() % UNITS_PER_DOLLAR.unsigned_abs(),
        );
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:0>DIGITS$}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an amount of money"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, shown) in [
            ("0", "0"),
            ("0.25", "0.25"),
            ("3.000", "3"),
            ("-1.5", "-1.5"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("999999999999999.999999999999999999", "999999999999999.999999999999999999"),
        ] {
            assert_eq!(Money::parse(text).unwrap().to_string(), shown);
        }
        for wrong in
            ["", ".5", "5.", "1e3", "1,5", "+1", "--1", "0.0000000000000000001", "1000000000000000.1", "x"]
        {
            assert_eq!(Money::parse(wrong), None, "{wrong}");
        }
        let price = Money::parse("0.150000000001").unwrap();
        assert_eq!(price.for_count(3).to_string(), "0.000000450000000003");
        assert_eq!(Money::parse("15").unwrap().for_count(1_000_000).to_string(), "15");
        let tenth = Money::parse("0.1").unwrap();
        assert_eq!((0..10).map(|_| tenth).sum::<Money>().to_string(), "1");
        assert_eq!(tenth.minus(Money::parse("0.3").unwrap()).to_string(), "-0.2");
        assert_eq!(
            Money::parse("999999999999999").unwrap().for_count(u64::MAX).to_string(),
            "1000000000000000"
        );
        let json = serde_json::to_string(&tenth).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str::<Money>(&json).unwrap()), ("\"0.1\"", tenth));
    }
}
