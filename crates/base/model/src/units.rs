// SPDX-License-Identifier: Apache-2.0
//! Amounts with units, as people write them in flags: bytes and durations.

use crate::Class;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number at the start, or one with a sign.
    #[error("'{0}' does not start with a number; write digits and a unit, such as 32MB or 5secs")]
    NotANumber(String),
    /// A unit that does not exist.
    #[error("unknown unit '{unit}' in '{text}'; use one of {known}")]
    UnknownUnit {
        /// All that was given.
        text: String,
        /// What stands after the number.
        unit: String,
        /// The units that exist.
        known: &'static str,
    },
    /// A fraction where there can be none.
    #[error("'{0}' has a fraction; write a whole number of a smaller unit")]
    Fraction(String),
    /// More than the type can hold.
    #[error("'{0}' is too large; write a smaller amount")]
    TooLarge(String),
}

impl UnitError {
    /// A wrong amount is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Mesos's units of bytes, the largest first.
const BYTE_UNITS: [(&str, u64); 5] =
    [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

impl Bytes {
    /// Reads the text of Docker's flags: a number that may have a fraction, and perhaps a unit `b`, `k`, `m`, `g`,
    /// `t` or `p` (powers of 1024), with `b` or `ib` after it, in any case. Fractions of a byte are cut off.
    pub fn parse_docker(text: &str) -> Result<Bytes, UnitError> {
        const KNOWN: &str = "b, k, m, g, t, p";
        let (whole, fraction, rest) = split(text)?;
        let unit = rest.strip_prefix(' ').unwrap_or(rest);
        let unknown =
            || UnitError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned(), known: KNOWN };
        let lower = unit.to_ascii_lowercase();
        let (letter, suffix) = lower.split_at_checked(1).unwrap_or(("", lower.as_str()));
        let shift = match (letter, suffix) {
            ("" | "b", "") => 0,
            (letter, "" | "b" | "ib") => 10 * (1 + "kmgtp".find(letter).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        };
        let too_large = || UnitError::TooLarge(text.to_owned());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let mut total = u128::from(whole) << shift;
        if let Some(fraction) = fraction {
            // 18 digits are finer than a byte in 2^50; more would not change the result but overflow.
            let digits = &fraction[..fraction.len().min(18)];
            let numerator: u64 = digits.parse().map_err(|_| too_large())?;
            total += (u128::from(numerator) << shift) / 10u128.pow(digits.len() as u32);
        }
        u64::try_from(total).map(Bytes).map_err(|_| too_large())
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    /// Reads Mesos's text: a whole number and `B`, `KB`, `MB`, `GB` or `TB` (powers of 1024).
    fn from_str(text: &str) -> Result<Bytes, UnitError> {
        let (whole, fraction, unit) = split(text)?;
        if fraction.is_some() {
            return Err(UnitError::Fraction(text.to_owned()));
        }
        let known = "B, KB, MB, GB, TB";
        let size = BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size);
        let size = size.ok_or_else(|| UnitError::UnknownUnit {
            text: text.to_owned(),
            unit: unit.to_owned(),
            known,
        })?;
        let bytes = whole.parse::<u64>().ok().and_then(|number| number.checked_mul(size));
        bytes.map(Bytes).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    /// Mesos's text: in the largest unit that divides the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |size: u64| self.0 != 0 && self.0.is_multiple_of(size);
        let (name, size) = BYTE_UNITS.into_iter().find(|(_, size)| divides(*size)).unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / size)
    }
}

/// Splits `12.5MB` into the digits before the point, those after it, and the rest.
fn split(text: &str) -> Result<(&str, Option<&str>, &str), UnitError> {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let not_a_number = || UnitError::NotANumber(text.to_owned());
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return Err(not_a_number());
    }
    match rest.strip_prefix('.') {
        None => Ok((whole, None, rest)),
        Some(rest) => {
            let (fraction, rest) = rest.split_at(digits(rest));
            if fraction.is_empty() { Err(not_a_number()) } else { Ok((whole, Some(fraction), rest)) }
        }
    }
}

/// Mesos's units of time in nanoseconds, the largest first.
const TIME_UNITS: [(&str, u64); 8] = [
    ("weeks", 7 * 24 * 3_600_000_000_000),
    ("days", 24 * 3_600_000_000_000),
    ("hrs", 3_600_000_000_000),
    ("mins", 60_000_000_000),
    ("secs", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads Mesos's text of a duration: a number that may have a fraction, and one of `ns us ms secs mins hrs days
/// weeks`. At most 2^63 - 1 nanoseconds (292 years).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let known = "ns, us, ms, secs, mins, hrs, days, weeks";
    let (whole, fraction, unit) = split(text)?;
    let size = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| u128::from(*size));
    let size =
        size.ok_or_else(|| UnitError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned(), known })?;
    let too_large = || UnitError::TooLarge(text.to_owned());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let mut nanos = u128::from(whole) * size;
    if let Some(fraction) = fraction {
        // 18 digits are finer than a nanosecond in a week.
        let digits = &fraction[..fraction.len().min(18)];
        let (numerator, scale) =
            (digits.parse::<u64>().map_err(|_| too_large())?, 10u128.pow(digits.len() as u32));
        nanos += (u128::from(numerator) * size + scale / 2) / scale;
    }
    let nanos = i64::try_from(nanos).map_err(|_| too_large())?;
    Ok(Duration::from_nanos(nanos.unsigned_abs()))
}

/// A duration that prints as Mesos's text: in the largest unit not above it, or the next smaller one when it is a
/// whole number only in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What a double of C++ prints with full precision.
        const SIGNIFICANT_DIGITS: usize = 15;
        let nanos = self.0.as_nanos();
        let at_or_below = |index: &usize| nanos >= u128::from(TIME_UNITS[*index].1);
        let index = (0..TIME_UNITS.len()).find(at_or_below).unwrap_or(TIME_UNITS.len() - 1);
        let candidates = TIME_UNITS[index..].iter().take(2);
        for (name, size) in candidates {
            if nanos.is_multiple_of(u128::from(*size)) {
                return write!(f, "{}{name}", nanos / u128::from(*size));
            }
        }
        let (name, size) = TIME_UNITS[index];
        let whole_digits = (nanos / u128::from(size)).to_string().len();
        let precision = SIGNIFICANT_DIGITS.saturating_sub(whole_digits);
        let number = format!("{:.precision$}", nanos as f64 / size as f64);
        let number =
            if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
        write!(f, "{number}{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_have_the_text_of_mesos() {
        for (text, bytes) in
            [("0B", 0), ("1B", 1), ("1023B", 1023), ("32MB", 32 << 20), ("1025KB", 1025 << 10)]
        {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for wrong in ["", "MB", "-1MB", "1", "1mb", "1 MB", "NaNMB", "+1B", "1PB", "1.5MB", "16777216TB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_of_docker_have_many_spellings() {
        for text in ["1536m", "1.5g", "1.5GB", "1.5Gib", "1.5 g", "1572864k", "1610612736", "1610612736b"] {
            assert_eq!(Bytes::parse_docker(text), Ok(Bytes(1536 << 20)), "{text}");
        }
        assert_eq!(Bytes::parse_docker("0.9999b"), Ok(Bytes(0)));
        assert_eq!(Bytes::parse_docker("0.0009765625k"), Ok(Bytes(1)));
        let wrong = [
            "", "-1", "nan", "inf", "1x", "1bb", "1kib ", "1  k", "1.", ".5", "1.2.3k", "1é", "16384p", "1ib",
        ];
        for wrong in wrong {
            assert!(Bytes::parse_docker(wrong).is_err(), "{wrong}");
        }
        assert!(Bytes::parse_docker(&"9".repeat(1000)).is_err());
        assert!(Bytes::parse_docker(&format!("1.{}", "9".repeat(1000))).is_ok());
    }

    #[test]
    fn durations_have_the_text_of_mesos() {
        let (week, day) = (604_800_000_000_000, 86_400_000_000_000);
        let cases = [
            ("0ns", 0),
            ("999ns", 999),
            ("5secs", 5_000_000_000),
            ("15mins", 900_000_000_000),
            ("1500ms", 1_500_000_000),
            ("10days", 10 * day),
            ("2weeks", 2 * week),
            ("1.0000005secs", 1_000_000_500),
            ("1.5weeks", week * 3 / 2),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
            assert_eq!(DurationText(Duration::from_nanos(nanos)).to_string(), text);
        }
        for wrong in ["", "5", "5s", "-5secs", "secs", "5 secs", "NaNsecs", "1e3secs", "15251weeks"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9]{0,25}[.]?[0-9]{0,25} ?\\PC{0,4}") {
            let _ = (text.parse::<Bytes>(), Bytes::parse_docker(&text), parse_duration(&text));
        }

        #[test]
        fn bytes_survive_their_text(bytes: u64) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }

        #[test]
        fn durations_survive_their_text_within_15_digits(nanos in 0..=i64::MAX as u64, shift in 0u32..63) {
            let nanos = nanos >> shift;
            let read = parse_duration(&DurationText(Duration::from_nanos(nanos)).to_string());
            let off = match read {
                Ok(read) => (read.as_nanos() as u64).abs_diff(nanos),
                // The very largest may round up past the bound.
                Err(UnitError::TooLarge(_)) => i64::MAX as u64 - nanos,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            prop_assert!(off <= nanos / 100_000_000_000_000, "{nanos} off by {off}");
        }
    }
}
