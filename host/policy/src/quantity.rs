//! Sizes, times and counts: how they are written, read and shown.

use crate::problem::Reader;
use serde::Serialize;
use std::time::Duration;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// What a limit is counted in: bytes (`u64`), time, or a number (`u32`).
pub(crate) trait Quantity: Copy + Ord {
    /// An optional quantity. `None` also where it is wrong, which is then recorded.
    fn take(table: &mut Reader<'_>, name: &str) -> Option<Self>;

    /// As it is read.
    fn shown(self) -> impl Serialize;
}

impl Quantity for u64 {
    fn take(table: &mut Reader<'_>, name: &str) -> Option<Self> {
        const SIZE: &str =
            "a size above zero with its unit, such as `512B`, `64KiB`, `32MiB` or `1GiB`";
        table.parsed(name, SIZE, |text| parse_size(text).ok_or(SIZE))
    }

    fn shown(self) -> impl Serialize {
        show_size(self)
    }
}

impl Quantity for Duration {
    fn take(table: &mut Reader<'_>, name: &str) -> Option<Self> {
        const TIME: &str = "a time above zero with its unit, such as `500us`, `50ms`, `5s` or `2m`";
        table.parsed(name, TIME, |text| parse_time(text).ok_or(TIME))
    }

    fn shown(self) -> impl Serialize {
        show_time(self)
    }
}

impl Quantity for u32 {
    fn take(table: &mut Reader<'_>, name: &str) -> Option<Self> {
        table.count(name, "a whole number above zero")
    }

    fn shown(self) -> impl Serialize {
        self
    }
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", MIB), ("KiB", KIB), ("B", 1)];
const TIMES: [(&str, u64); 4] = [
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Whole numbers only: a size is chosen, not computed.
fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(*scale)
        .filter(|quantity| *quantity > 0)
}

fn parse_size(text: &str) -> Option<u64> {
    // Sizes reach the database as signed integers.
    parse_quantity(text, &SIZES).filter(|size| i64::try_from(*size).is_ok())
}

fn parse_time(text: &str) -> Option<Duration> {
    // A day is more than any call takes, and far below what overflows a deadline.
    parse_quantity(text, &TIMES)
        .filter(|micros| *micros <= 86_400_000_000)
        .map(Duration::from_micros)
}

fn show_quantity(quantity: u64, units: &[(&str, u64)]) -> String {
    let largest = units
        .iter()
        .filter(|(_, scale)| quantity.is_multiple_of(*scale))
        .max_by_key(|(_, scale)| *scale);
    largest.map_or_else(
        || quantity.to_string(),
        |(name, scale)| format!("{}{name}", quantity / scale),
    )
}

fn show_size(size: u64) -> String {
    show_quantity(size, &SIZES)
}

fn show_time(time: Duration) -> String {
    show_quantity(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), &TIMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_shown() {
        for (text, size) in [
            ("1B", 1),
            ("64KiB", 64 * KIB),
            ("32MiB", 32 * MIB),
            ("1GiB", 1024 * MIB),
            ("1 MiB", MIB),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
            assert_eq!(parse_size(&show_size(size)), Some(size));
        }
        for (text, micros) in [
            ("500us", 500),
            ("50ms", 50_000),
            ("5s", 5_000_000),
            ("2m", 120_000_000),
        ] {
            assert_eq!(
                parse_time(text),
                Some(Duration::from_micros(micros)),
                "{text}"
            );
            assert_eq!(show_time(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn quantities_that_are_none() {
        for bad in [
            "",
            "0B",
            "-1B",
            "1",
            "MiB",
            "1MB",
            "1mib",
            "1.5MiB",
            "18446744073709551615GiB",
            "9223372036854775808B",
            "１MiB",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        for bad in [
            "",
            "0s",
            "5",
            "5h",
            "-5s",
            "1e3ms",
            "1441m",
            "18446744073709551615m",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
