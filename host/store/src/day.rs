//! The day that a session began on.

use crate::{Result, StoreError};
use ambit_types::SessionId;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use std::{fmt, str::FromStr};

/// A day in UTC, as `2026-11-21` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// None beyond the year 9999.
    #[must_use]
    pub fn at(time_ms: i64) -> Option<Self> {
        let time = Timestamp::from_millisecond(time_ms).ok()?;
        Some(Self(time.to_zoned(TimeZone::UTC).date()))
    }

    /// An id begins with its time, in milliseconds (RFC 9562 §5.7).
    #[must_use]
    pub fn of(session: SessionId) -> Option<Self> {
        let bytes = session.to_bytes();
        let time = bytes[..6]
            .iter()
            .fold(0, |time, byte| time << 8 | i64::from(*byte));
        Self::at(time)
    }

    /// Ids of sessions that began on this day sort from the first of these to before the second.
    pub(crate) fn ids(self) -> Result<(String, String)> {
        let end = self.0.checked_add(1.day()).map_err(|_| bad());
        let id = |day: Date| {
            let begin = day.to_zoned(TimeZone::UTC).map_err(|_| bad())?;
            Ok(format!("ses_{:012x}", begin.timestamp().as_millisecond()))
        };
        Ok((id(self.0)?, id(end?)?))
    }
}

fn bad() -> StoreError {
    StoreError::Invalid {
        what: "day",
        why: "must be one from 1970 to 9999",
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Day {
    type Err = jiff::Error;

    fn from_str(text: &str) -> std::result::Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_the_day_its_id_says() {
        let mut bytes = [0xff; 16];
        // 2026-11-21T23:59:59.999Z
        bytes[..6].copy_from_slice(&1_795_305_599_999_i64.to_be_bytes()[2..]);
        let last = SessionId::from_bytes(bytes);
        let day = Day::of(last).unwrap();
        assert_eq!(day.to_string(), "2026-11-21");
        assert_eq!("2026-11-21".parse::<Day>().unwrap(), day);
        let (from, to) = day.ids().unwrap();
        assert!(from <= last.to_string() && last.to_string() < to);
        bytes[..6].copy_from_slice(&1_795_305_600_000_i64.to_be_bytes()[2..]);
        let next = SessionId::from_bytes(bytes);
        assert!(next.to_string() >= to);
        assert_eq!(Day::of(next).unwrap().to_string(), "2026-11-22");
        assert_eq!(Day::of(SessionId::from_bytes([0xff; 16])), None);
        let today = Day::of(SessionId::new()).unwrap();
        assert!(Some(today) <= Day::at(crate::now_ms()));
    }
}
