//! Amounts and rates, as whole numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// An amount of the installation's currency (the price file's: US dollars), a whole number of nano-units, never negative.
///
/// Nano, because the cheapest tokens cost a few of them and because 2^53 of them, the largest number JSON carries exactly, are still nine
/// million. As JSON it is that whole number, as text the decimal amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

/// Why a text or number is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount: expected a decimal number from 0 to {MAX} with at most 9 decimals", MAX = Money::MAX)]
pub struct MoneyError(String);

impl Money {
    pub const ZERO: Self = Self(0);
    /// About nine billion.
    pub const MAX: Self = Self(i64::MAX);
    const DECIMALS: u32 = 9;

    /// None for a negative number.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Option<Self> {
        if nanos < 0 { None } else { Some(Self(nanos)) }
    }

    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// [`Money::MAX`] at most.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// [`Money::ZERO`] at least.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// Whole pico-units as nano-units, up to the next one: what is a fraction of a nano is charged as one.
    pub(crate) fn from_picos(picos: u128) -> Self {
        i64::try_from(picos.div_ceil(1000)).map_or(Self::MAX, Self)
    }
}

/// Without trailing zeros: `0.5`, `12`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_i64.pow(Self::DECIMALS);
        let (whole, fraction) = (self.0 / unit, self.0 % unit);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        scaled(text, Self::DECIMALS)
            .and_then(|nanos| i64::try_from(nanos).ok())
            .map(Self)
            .ok_or_else(|| MoneyError(text.chars().take(80).collect()))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nanos = i64::deserialize(deserializer)?;
        Self::from_nanos(nanos)
            .ok_or_else(|| serde::de::Error::custom(MoneyError(nanos.to_string())))
    }
}

/// Pico-units for one of something: fine enough for a price with six decimals for a million of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(u64);

impl Rate {
    /// A million for one: no price comes near, and sums of what is priced stay far within 128 bits.
    const MAX: u64 = 1_000_000_000_000_000_000;

    /// From the price for a million.
    pub(crate) fn per_million(text: &str) -> Option<Self> {
        Self::with_decimals(text, 6)
    }

    /// From the price for one.
    pub(crate) fn each(text: &str) -> Option<Self> {
        Self::with_decimals(text, 12)
    }

    fn with_decimals(text: &str, decimals: u32) -> Option<Self> {
        scaled(text, decimals)
            .filter(|picos| *picos <= Self::MAX)
            .map(Self)
    }

    pub(crate) fn picos(self, count: u64) -> u128 {
        u128::from(self.0) * u128::from(count)
    }
}

/// `12.5` with two decimals is 1250. None for anything but digits with at most so many after the point, and for what 64 bits do not hold.
fn scaled(text: &str, decimals: u32) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > decimals as usize {
        return None;
    }
    let missing = decimals - u32::try_from(fraction.len()).ok()?;
    let fraction = fraction.parse::<u64>().ok()? * 10_u64.pow(missing);
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(10_u64.pow(decimals))?
        .checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_decimal_texts() {
        for (text, nanos) in [
            ("0", 0),
            ("0.000000001", 1),
            ("1", 1_000_000_000),
            ("01.50", 1_500_000_000),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(text.parse::<Money>().unwrap().nanos(), nanos, "{text}");
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "1.0000000001",
            "9223372036.854775808",
            "99999999999999999999",
            " 1",
            "١",
            "0x1",
            "NaN",
            "1.5.5",
        ] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
        assert_eq!(Money::from_nanos(-1), None);
    }

    #[test]
    fn a_fraction_of_the_smallest_unit_counts_as_one() {
        for (picos, nanos) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (u128::MAX, i64::MAX)] {
            assert_eq!(Money::from_picos(picos).nanos(), nanos);
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(nanos in 0..=i64::MAX) {
            let money = Money::from_nanos(nanos).unwrap();
            prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
        }

        #[test]
        fn sums_keep_their_bounds(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            let [x, y] = [a, b].map(|nanos| Money::from_nanos(nanos).unwrap());
            prop_assert_eq!(x.checked_add(y).is_some(), i128::from(a) + i128::from(b) <= i128::from(i64::MAX));
            prop_assert!(x.saturating_add(y) >= x.max(y));
            prop_assert_eq!(x.saturating_sub(y).nanos(), (a - b).max(0));
        }
    }
}
