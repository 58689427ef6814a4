//! The day that a session began on.

use ambit_ledger::{Day, LAST_MS};
use ambit_types::SessionId;

/// The day, in UTC, on which a session began. None for an id of a time beyond the year 9999.
#[must_use]
pub fn day_of(session: SessionId) -> Option<Day> {
    // An id begins with its time, in milliseconds (RFC 9562 §5.7).
    let bytes = session.to_bytes();
    let time = bytes[..6]
        .iter()
        .fold(0, |time, byte| time << 8 | i64::from(*byte));
    (time <= LAST_MS).then(|| Day::from_ms(time))
}

/// Ids of sessions that began on this day sort from the first of these to before the second.
pub(crate) fn ids_of(day: Day) -> (String, String) {
    let id = |begin: i64| format!("ses_{begin:012x}");
    (id(day.start_ms()), id(day.start_ms() + 24 * 3600 * 1000))
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
        let day = day_of(last).unwrap();
        assert_eq!(day.to_string(), "2026-11-21");
        assert_eq!("2026-11-21".parse::<Day>().unwrap(), day);
        let (from, to) = ids_of(day);
        assert!(from <= last.to_string() && last.to_string() < to);
        bytes[..6].copy_from_slice(&1_795_305_600_000_i64.to_be_bytes()[2..]);
        let next = SessionId::from_bytes(bytes);
        assert!(next.to_string() >= to);
        assert_eq!(day_of(next).unwrap().to_string(), "2026-11-22");
        assert_eq!(day_of(SessionId::from_bytes([0xff; 16])), None);
        let today = day_of(SessionId::new()).unwrap();
        assert!(today <= Day::from_ms(crate::now_ms()));
    }
}
