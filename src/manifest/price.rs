//! Prices as exact decimal text: no price goes through binary fractions.

use crate::failure::Failure;

/// US dollars as decimal text, for a number of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Price {
    /// For a million tokens.
    PerMillion(String),
    /// For a thousand tokens.
    PerThousand(String),
}

impl Price {
    /// For a million tokens, as exact decimal text.
    ///
    /// # Errors
    /// When it is no price.
    pub fn per_million(&self) -> Result<String, Failure> {
        let read = match self {
            Self::PerMillion(text) => decimal(text, 0),
            Self::PerThousand(text) => decimal(text, 3),
        };
        read.ok_or_else(|| {
            Failure::Unprocessable(
                "A price is a decimal number, not negative, with at most 9 digits before the point and 18 after it"
                    .into(),
            )
        })
    }
}

/// The price of a thousand tokens, as exact decimal text, from that of a million.
pub fn per_thousand(per_million: &str) -> Option<String> {
    decimal(per_million, -3)
}

/// Digits before and after the point that a price may have.
const MAX_WHOLE_DIGITS: usize = 9;
const MAX_FRACTION_DIGITS: usize = 18;

/// Reads a decimal number that is not negative, with or without an exponent, times ten to the power of `shift`,
/// as plain text without needless zeros. `None` when it is no such number or has too many digits.
fn decimal(text: &str, shift: i32) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || digits.len() > 3 || !all_digits(digits) {
                return None;
            }
            (mantissa, exponent.parse::<i32>().ok()?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut digits = format!("{whole}{fraction}");
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(shift)?;
    let (whole, fraction) = if point <= 0 {
        let zeros = usize::try_from(point.checked_neg()?).ok()?;
        (String::new(), format!("{}{digits}", "0".repeat(zeros)))
    } else {
        let point = usize::try_from(point).ok()?;
        while digits.len() < point {
            digits.push('0');
        }
        let fraction = digits.split_off(point);
        (digits, fraction)
    };
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() > MAX_WHOLE_DIGITS || fraction.len() > MAX_FRACTION_DIGITS {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimals_are_exact() {
        for (text, shift, want) in [
            ("2.50", 0, "2.5"),
            ("0.00015", 3, "0.15"),
            ("0.0025", 3, "2.5"),
            ("1.5e-7", 3, "0.00015"),
            ("15E-8", 3, "0.00015"),
            ("1e3", 0, "1000"),
            ("000.000", 0, "0"),
            ("0", 3, "0"),
            ("007", 0, "7"),
            ("0.000000000000000001", 0, "0.000000000000000001"),
            ("2.5", -3, "0.0025"),
            ("999999999", 0, "999999999"),
        ] {
            assert_eq!(decimal(text, shift).as_deref(), Some(want), "{text} {shift}");
        }
        for wrong in [
            "", "-1", "+1", "1.", ".5", "1,5", "NaN", "inf", "1e", "1e9999", "0x1", " 1", "1e99", "1e-99",
            "1_0",
        ] {
            assert_eq!(decimal(wrong, 0), None, "{wrong}");
        }
        assert_eq!(decimal("1e-99", 0), None);
        assert_eq!(decimal("1000000000", 0), None);
    }
}
