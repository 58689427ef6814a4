//! Reading what a model writes: dates, times, time zones. An error says what to write instead.

use jiff::{
    SignedDuration, Timestamp, ToSpan as _, Zoned,
    civil::{Date, DateTime},
    fmt::temporal::Pieces,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use std::{fmt, sync::LazyLock};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A date, or a date with a time, somewhere or nowhere in particular.
#[derive(Debug, Clone)]
pub(crate) enum Moment {
    Date(Date),
    /// On a clock on some wall.
    Local(DateTime),
    Exact(Zoned),
}

const MOMENT: &str = "write `2026-11-21`, `2026-11-21T15:30`, `2026-11-21T15:30:00Z`, `2026-11-21T15:30[Europe/Paris]` or `now`";

impl Moment {
    /// `zone` is where `today` is today.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Self, String> {
        let local_now = now.to_zoned(zone.clone());
        let day = |days: i64| {
            local_now
                .date()
                .checked_add(days.days())
                .map(Self::Date)
                .map_err(|error| error.to_string())
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "now" => return Ok(Self::Exact(local_now)),
            "today" => return day(0),
            "tomorrow" => return day(1),
            "yesterday" => return day(-1),
            _ => {}
        }
        let unreadable = || {
            format!(
                "`{name}`: `{}` is not a date or time; {MOMENT}",
                shorten(text)
            )
        };
        let pieces = Pieces::parse(text.trim()).map_err(|_| unreadable())?;
        let Some(time) = pieces.time() else {
            return Ok(Self::Date(pieces.date()));
        };
        let local = pieces.date().to_datetime(time);
        let annotated =
            match pieces.time_zone_annotation() {
                None => None,
                Some(_) => Some(pieces.to_time_zone_with(&ZONES).ok().flatten().ok_or_else(
                    || {
                        format!(
                            "`{name}`: the time zone in `{}` is not known; {ZONE}",
                            shorten(text)
                        )
                    },
                )?),
            };
        let exact = match (pieces.to_numeric_offset(), annotated) {
            (Some(offset), zone) => offset
                .to_timestamp(local)
                .map(|instant| instant.to_zoned(zone.unwrap_or_else(|| TimeZone::fixed(offset)))),
            (None, Some(zone)) => zone.to_zoned(local),
            (None, None) => return Ok(Self::Local(local)),
        };
        exact.map(Self::Exact).map_err(|_| unreadable())
    }

    pub(crate) fn date(&self) -> Date {
        match self {
            Self::Date(date) => *date,
            Self::Local(local) => local.date(),
            Self::Exact(exact) => exact.date(),
        }
    }

    pub(crate) fn local(&self) -> DateTime {
        match self {
            Self::Date(date) => date.to_datetime(jiff::civil::Time::midnight()),
            Self::Local(local) => *local,
            Self::Exact(exact) => exact.datetime(),
        }
    }

    /// As a point in time; a local time is read on the wall of `zone`. The note says where that was a choice.
    pub(crate) fn exact(&self, zone: &TimeZone) -> Result<(Zoned, Option<&'static str>), String> {
        if let Self::Exact(exact) = self {
            return Ok((exact.clone(), None));
        }
        let ambiguous = zone.to_ambiguous_zoned(self.local());
        let note = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => None,
            AmbiguousOffset::Gap { .. } => {
                Some("clocks skip this local time; it was moved forward by the gap")
            }
            AmbiguousOffset::Fold { .. } => {
                Some("clocks show this local time twice; the first was taken")
            }
        };
        ambiguous
            .compatible()
            .map(|exact| (exact, note))
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Local(local) => local.fmt(f),
            Self::Exact(exact) => f.write_str(&show(exact)),
        }
    }
}

/// RFC 3339: what every program reads.
pub(crate) fn show(exact: &Zoned) -> String {
    exact
        .timestamp()
        .display_with_offset(exact.offset())
        .to_string()
}

const ZONE: &str =
    "write an IANA name such as `Europe/Paris`, an offset such as `+02:00`, or `UTC`";

/// A time zone by IANA name in any case, or a fixed offset. The error names zones that look alike.
pub(crate) fn zone(name: &str, text: &str) -> Result<TimeZone, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("z") {
        return Ok(TimeZone::UTC);
    }
    if text.starts_with(['+', '-']) {
        return offset(text)
            .ok_or_else(|| format!("`{name}`: `{}` is not an offset; {ZONE}", shorten(text)));
    }
    ZONES.get(text).map_err(|_| {
        let alike = alike(text);
        let hint = if alike.is_empty() {
            ZONE.to_owned()
        } else {
            format!("did you mean {}?", alike.join(" or "))
        };
        format!("`{name}`: `{}` is not a time zone; {hint}", shorten(text))
    })
}

/// `+2`, `+02`, `+0230`, `+02:30`.
fn offset(text: &str) -> Option<TimeZone> {
    let digits = text.get(1..)?.replace(':', "");
    let (hours, minutes) = if digits.len() > 2 {
        digits.split_at(digits.len() - 2)
    } else {
        (&*digits, "0")
    };
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<i32>().ok())
            .flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = (hours * 60 + minutes) * 60;
    (hours < 15 && minutes < 60).then_some(())?;
    jiff::tz::Offset::from_seconds(if text.starts_with('-') {
        -seconds
    } else {
        seconds
    })
    .ok()
    .map(TimeZone::fixed)
}

/// Zones of which the city, or the whole name, contains the text.
fn alike(text: &str) -> Vec<String> {
    let wanted = text.replace(' ', "_").to_ascii_lowercase();
    if wanted.len() < 3 {
        return Vec::new();
    }
    let mut names: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
    names.retain(|name| name.to_ascii_lowercase().contains(&wanted));
    names.sort_by_key(|name| (name.len(), name.clone()));
    names.truncate(5);
    names
}

/// A zone's name, or its offset where it has none.
pub(crate) fn zone_name(exact: &Zoned) -> String {
    match exact.time_zone().iana_name() {
        Some(name) => name.to_owned(),
        None => exact.offset().to_string(),
    }
}

pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() > 60 {
        text.chars().take(60).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

/// `3 days, 4 hours, 5 minutes` of an exact duration; `0 seconds` where there is none.
pub(crate) fn in_words(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let words: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if words.is_empty() {
        "0 seconds".to_owned()
    } else {
        words.join(", ")
    }
}
