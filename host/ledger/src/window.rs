//! Days and the windows of budgets, in UTC.

use jiff::civil::{Date, date};
use std::{fmt, str::FromStr};

const DAY_MS: i64 = 24 * 3600 * 1000;

const EPOCH: Date = date(1970, 1, 1);

/// The last millisecond of the year 9999; times are taken as from 1970 to there.
pub const LAST_MS: i64 = 253_402_300_799_999;

/// A day in UTC, as text `2026-11-21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// Why a text is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no day: expected YYYY-MM-DD from 1970-01-01 to 9999-12-31")]
pub struct DayError(String);

impl Day {
    #[must_use]
    pub fn from_ms(at_ms: i64) -> Self {
        Self(at_ms.clamp(0, LAST_MS) / DAY_MS)
    }

    /// Since 1970-01-01.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    /// None outside the years 1970 to 9999.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        (0..=LAST_MS / DAY_MS)
            .contains(&number)
            .then_some(Self(number))
    }

    /// None for a date that is not in the calendar.
    pub(crate) fn from_date(year: i16, month: i8, day: i8) -> Option<Self> {
        Self::of(Date::new(year, month, day).ok()?)
    }

    fn of(day: Date) -> Option<Self> {
        Self::from_number(day.duration_since(EPOCH).as_hours() / 24)
    }

    /// Its first millisecond, since 1970.
    #[must_use]
    pub fn start_ms(self) -> i64 {
        self.0 * DAY_MS
    }

    fn date(self) -> Date {
        // Days from 1970 to 9999 are in the calendar.
        let days = jiff::Span::new().days(self.0);
        EPOCH.checked_add(days).unwrap_or(Date::MAX)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.date(), f)
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        // In this one spelling, of the several that stand for a date.
        let day = text.parse::<Date>().ok().and_then(Self::of);
        day.filter(|day| day.to_string() == text)
            .ok_or_else(|| DayError(text.chars().take(80).collect()))
    }
}

/// A span of time in which a budget holds, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start_ms: i64,
    /// When the next one begins. None: it never renews.
    pub renews_ms: Option<i64>,
}

impl Window {
    pub(crate) const ENDLESS: Self = Self {
        start_ms: 0,
        renews_ms: None,
    };

    pub(crate) fn day(at_ms: i64) -> Self {
        let day = Day::from_ms(at_ms);
        Self {
            start_ms: day.start_ms(),
            renews_ms: Some(day.start_ms() + DAY_MS),
        }
    }

    pub(crate) fn month(at_ms: i64) -> Self {
        let day = Day::from_ms(at_ms);
        let (first, last) = (day.date().day(), day.date().last_of_month().day());
        Self {
            start_ms: day.start_ms() - i64::from(first - 1) * DAY_MS,
            renews_ms: Some(day.start_ms() + i64::from(last - first + 1) * DAY_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start(day: &str) -> i64 {
        day.parse::<Day>().unwrap().start_ms()
    }

    #[test]
    fn days_are_the_calendars() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("1970-03-01", 59),
            ("2000-02-29", 11_016),
            ("2026-11-21", 20_778),
            ("2100-03-01", 47_541),
            ("9999-12-31", 2_932_896),
        ] {
            let day: Day = text.parse().unwrap();
            assert_eq!((day.number(), day.to_string().as_str()), (number, text));
        }
        for bad in [
            "",
            "2026-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-01",
            "1969-12-31",
            "10000-01-01",
            "2026-01-01T00:00",
            "+026-01-01",
        ] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
        assert_eq!(Day::from_ms(i64::MIN), Day::from_ms(0));
        assert_eq!(Day::from_ms(i64::MAX).to_string(), "9999-12-31");
    }

    #[test]
    fn windows_begin_and_renew_at_midnight() {
        let at = start("2024-02-29") + DAY_MS - 1;
        let window = |from, to| Window {
            start_ms: start(from),
            renews_ms: Some(start(to)),
        };
        assert_eq!(Window::day(at), window("2024-02-29", "2024-03-01"));
        assert_eq!(Window::month(at), window("2024-02-01", "2024-03-01"));
        assert_eq!(Window::day(at + 1), window("2024-03-01", "2024-03-02"));
        let at = start("2026-12-31");
        assert_eq!(Window::month(at), window("2026-12-01", "2027-01-01"));
    }

    proptest! {
        #[test]
        fn every_day_is_itself(number in 0..=LAST_MS / DAY_MS) {
            let day = Day::from_number(number).unwrap();
            prop_assert_eq!(day.to_string().parse::<Day>().unwrap(), day);
        }

        #[test]
        fn windows_hold_their_time_and_follow_each_other(at in 0..=LAST_MS) {
            for window in [Window::day, Window::month] {
                let now = window(at);
                let renews = now.renews_ms.unwrap();
                prop_assert!(now.start_ms <= at && at < renews);
                prop_assert_eq!(window(now.start_ms), now);
                prop_assert!(renews > LAST_MS || window(renews).start_ms == renews);
            }
        }
    }
}
