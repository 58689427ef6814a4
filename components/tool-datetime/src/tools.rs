//! The tools: what a model is told of each, and what each does.

use jiff::{SignedDuration, Span, Timestamp, Unit, tz::TimeZone};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    calendar::{add_working_days, facts, weekday_name, working_days_between},
    moment::{Moment, in_words, show, zone, zone_name},
};

/// A tool as a model sees it.
#[derive(Debug, Clone)]
pub struct Tool {
    pub name: &'static str,
    pub description: &'static str,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

/// Why a call did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    UnknownTool,
    /// What to write instead, for the model.
    Arguments(String),
}

/// The tools of this component.
#[must_use]
pub fn tools() -> Vec<Tool> {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let number = || json!({ "type": "integer", "minimum": -1_000_000, "maximum": 1_000_000 });
    let moment = text(
        "A date (2026-11-21), a local time (2026-11-21T15:30), a time with offset or zone (2026-11-21T15:30:00Z, 2026-11-21T15:30[Europe/Paris]), or now, today, tomorrow, yesterday.",
    );
    let zone = text(
        "IANA time zone such as Europe/Paris, an offset such as +02:00, or UTC. UTC when left out.",
    );
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    vec![
        Tool {
            name: "current_time",
            description: "The current date, time and weekday in a time zone.",
            parameters: object(json!({ "time_zone": zone }), json!([])),
        },
        Tool {
            name: "add_to_date",
            description: "Adds years, months, weeks, days, working days, hours, minutes or seconds to a date or time; negative numbers subtract. Calendar units are added first, largest first.",
            parameters: object(
                json!({
                    "date": moment, "time_zone": zone, "years": number(), "months": number(), "weeks": number(), "days": number(),
                    "working_days": number(), "hours": number(), "minutes": number(), "seconds": number(),
                }),
                json!(["date"]),
            ),
        },
        Tool {
            name: "date_difference",
            description: "The time from one date or time to another: in years, months and days, in total days, in working days, and, where times are given, to the second.",
            parameters: object(
                json!({ "from": moment, "to": moment, "time_zone": zone }),
                json!(["from", "to"]),
            ),
        },
        Tool {
            name: "convert_time_zone",
            description: "What a time in one time zone is in another.",
            parameters: object(
                json!({ "time": moment, "from": zone, "to": text("Time zone to convert to, for example Asia/Tokyo.") }),
                json!(["time", "to"]),
            ),
        },
        Tool {
            name: "calendar_facts",
            description: "Weekday, ISO week, day of the year, quarter, leap year and length of the month of a date.",
            parameters: object(
                json!({ "date": moment, "time_zone": zone }),
                json!(["date"]),
            ),
        },
    ]
}

/// Carries out one call; the answer is a JSON object.
///
/// # Errors
/// For the model: what is wrong with its call.
pub fn invoke(tool: &str, arguments: &str, now: Timestamp) -> Result<String, Failure> {
    let answer = match tool {
        "current_time" => read(arguments).and_then(|asked| current_time(asked, now)),
        "add_to_date" => read(arguments).and_then(|asked| add_to_date(&asked, now)),
        "date_difference" => read(arguments).and_then(|asked| date_difference(&asked, now)),
        "convert_time_zone" => read(arguments).and_then(|asked| convert_time_zone(&asked, now)),
        "calendar_facts" => read(arguments).and_then(|asked| calendar_facts(&asked, now)),
        _ => return Err(Failure::UnknownTool),
    };
    answer
        .map(|value| value.to_string())
        .map_err(Failure::Arguments)
}

fn read<A: DeserializeOwned>(arguments: &str) -> Result<A, String> {
    serde_json::from_str(arguments)
        .map_err(|error| format!("the arguments cannot be read: {error}"))
}

fn zone_or_utc(name: &str, text: Option<&str>) -> Result<TimeZone, String> {
    text.map_or(Ok(TimeZone::UTC), |text| zone(name, text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CurrentTime {
    time_zone: Option<String>,
}

fn current_time(asked: CurrentTime, now: Timestamp) -> Result<Value, String> {
    let local = now.to_zoned(zone_or_utc("time_zone", asked.time_zone.as_deref())?);
    let local = local
        .round(Unit::Second)
        .map_err(|error| error.to_string())?;
    Ok(json!({
        "time": show(&local),
        "time_zone": zone_name(&local),
        "weekday": weekday_name(local.date()),
        "unix_seconds": local.timestamp().as_second(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddToDate {
    date: String,
    time_zone: Option<String>,
    #[serde(default)]
    years: i64,
    #[serde(default)]
    months: i64,
    #[serde(default)]
    weeks: i64,
    #[serde(default)]
    days: i64,
    #[serde(default)]
    working_days: i64,
    #[serde(default)]
    hours: i64,
    #[serde(default)]
    minutes: i64,
    #[serde(default)]
    seconds: i64,
}

fn add_to_date(asked: &AddToDate, now: Timestamp) -> Result<Value, String> {
    let too_far = |_| "the result is too far away: years from -9999 to 9999 are known".to_owned();
    let zone = zone_or_utc("time_zone", asked.time_zone.as_deref())?;
    let start = Moment::parse("date", &asked.date, now, &zone)?;
    let months = Span::new()
        .try_years(asked.years)
        .and_then(|span| span.try_months(asked.months))
        .map_err(too_far)?;
    let calendar = months
        .try_weeks(asked.weeks)
        .and_then(|span| span.try_days(asked.days))
        .map_err(too_far)?;
    let clock = SignedDuration::from_secs(0)
        .checked_add(SignedDuration::from_secs(asked.seconds))
        .and_then(|sum| sum.checked_add(SignedDuration::from_secs(asked.minutes.checked_mul(60)?)))
        .and_then(|sum| sum.checked_add(SignedDuration::from_secs(asked.hours.checked_mul(3600)?)))
        .ok_or_else(|| "hours, minutes and seconds are too many".to_owned())?;

    let date = start.date().checked_add(calendar).map_err(too_far)?;
    let cut = start.date().checked_add(months).map_err(too_far)?.day() != start.date().day();
    let date = add_working_days(date, asked.working_days).map_err(too_far)?;

    let mut note = cut.then_some("the month is shorter; its last day was taken");
    let result = match &start {
        Moment::Date(_) if clock.is_zero() => Moment::Date(date),
        Moment::Date(_) | Moment::Local(_) if asked.time_zone.is_none() => Moment::Local(
            date.to_datetime(start.local().time())
                .checked_add(clock)
                .map_err(too_far)?,
        ),
        start => {
            let zone = if let Moment::Exact(exact) = start {
                exact.time_zone().clone()
            } else {
                zone
            };
            let (exact, moved) =
                Moment::Local(date.to_datetime(start.local().time())).exact(&zone)?;
            note = note.or(moved);
            Moment::Exact(exact.checked_add(clock).map_err(too_far)?)
        }
    };
    let mut answer =
        json!({ "result": result.to_string(), "weekday": weekday_name(result.date()) });
    if let Some(note) = note {
        answer["note"] = json!(note);
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DateDifference {
    from: String,
    to: String,
    time_zone: Option<String>,
}

fn date_difference(asked: &DateDifference, now: Timestamp) -> Result<Value, String> {
    let zone = zone_or_utc("time_zone", asked.time_zone.as_deref())?;
    let from = Moment::parse("from", &asked.from, now, &zone)?;
    let to = Moment::parse("to", &asked.to, now, &zone)?;
    let error = |error: jiff::Error| error.to_string();
    let (from_date, to_date) = (from.date(), to.date());
    let span = from_date.until((Unit::Year, to_date)).map_err(error)?;
    let days = from_date
        .until((Unit::Day, to_date))
        .map_err(error)?
        .get_days();
    let mut answer = json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "calendar": { "years": span.get_years(), "months": span.get_months(), "days": span.get_days() },
        "total_days": days,
        "weeks_and_days": [days / 7, days % 7],
        "working_days": working_days_between(from_date, to_date),
    });
    if !matches!((&from, &to), (Moment::Date(_), Moment::Date(_))) {
        let exact = match (&from, &to) {
            // Two clocks on one wall, nobody said where.
            (Moment::Exact(_), _) | (_, Moment::Exact(_)) => {
                from.exact(&zone)?.0.duration_until(&to.exact(&zone)?.0)
            }
            _ if asked.time_zone.is_some() => {
                from.exact(&zone)?.0.duration_until(&to.exact(&zone)?.0)
            }
            _ => from.local().duration_until(to.local()),
        };
        answer["elapsed_seconds"] = json!(exact.as_secs());
        answer["elapsed"] = json!(format!(
            "{}{}",
            if exact.is_negative() { "minus " } else { "" },
            in_words(exact)
        ));
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvertTimeZone {
    time: String,
    from: Option<String>,
    to: String,
}

fn convert_time_zone(asked: &ConvertTimeZone, now: Timestamp) -> Result<Value, String> {
    let from = zone_or_utc("from", asked.from.as_deref())?;
    let to = zone("to", &asked.to)?;
    let moment = Moment::parse("time", &asked.time, now, &from)?;
    if let Moment::Date(date) = &moment {
        return Err(format!(
            "`time`: `{date}` has no time of day; write for example `{date}T09:00`"
        ));
    }
    let (start, note) = moment.exact(&from)?;
    let result = start.with_time_zone(to);
    let mut answer = json!({
        "from": { "time": show(&start), "time_zone": zone_name(&start), "weekday": weekday_name(start.date()) },
        "to": { "time": show(&result), "time_zone": zone_name(&result), "weekday": weekday_name(result.date()) },
    });
    if let Some(note) = note {
        answer["note"] = json!(note);
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CalendarFacts {
    date: String,
    time_zone: Option<String>,
}

fn calendar_facts(asked: &CalendarFacts, now: Timestamp) -> Result<Value, String> {
    let zone = zone_or_utc("time_zone", asked.time_zone.as_deref())?;
    Ok(facts(
        Moment::parse("date", &asked.date, now, &zone)?.date(),
    ))
}
