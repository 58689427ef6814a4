//! One line per case: the call, and the answer or what the model is taught.

use serde_json::{Value, json};
use tool_datetime::{Failure, invoke, tools};

/// Saturday 2026-11-21, 15:30:00 UTC.
const NOW: i64 = 1_795_275_000;

fn call(tool: &str, arguments: &str) -> Result<Value, Failure> {
    let now = jiff::Timestamp::from_second(NOW).unwrap();
    invoke(tool, arguments, now).map(|answer| serde_json::from_str(&answer).unwrap())
}

/// Each expected key has the expected value.
fn check(tool: &str, arguments: Value, expected: Value) {
    let answer = call(tool, &arguments.to_string())
        .unwrap_or_else(|failure| panic!("{arguments}: {failure:?}"));
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&answer[key], value, "{key} of {arguments}: {answer}");
    }
}

fn refuse(tool: &str, arguments: Value, expected: &str) {
    match call(tool, &arguments.to_string()) {
        Err(Failure::Arguments(text)) => assert!(text.contains(expected), "{arguments}: {text}"),
        other => panic!("{arguments}: {other:?}"),
    }
}

#[test]
fn the_current_time_is_the_hosts() {
    check(
        "current_time",
        json!({}),
        json!({ "time": "2026-11-21T15:30:00+00:00", "weekday": "Saturday", "unix_seconds": NOW, "time_zone": "UTC" }),
    );
    check(
        "current_time",
        json!({ "time_zone": "asia/tokyo" }),
        json!({ "time": "2026-11-22T00:30:00+09:00", "weekday": "Sunday", "time_zone": "Asia/Tokyo" }),
    );
    check(
        "current_time",
        json!({ "time_zone": "+05:45" }),
        json!({ "time": "2026-11-21T21:15:00+05:45", "time_zone": "+05:45" }),
    );
    check(
        "current_time",
        json!({ "time_zone": "-3" }),
        json!({ "time": "2026-11-21T12:30:00-03:00" }),
    );
}

#[test]
fn arithmetic() {
    for (arguments, result) in [
        (json!({ "date": "2026-11-21", "days": 10 }), "2026-12-01"),
        (json!({ "date": "2024-02-29", "years": 1 }), "2025-02-28"),
        (
            json!({ "date": "2026-01-31", "months": 1, "days": 1 }),
            "2026-03-01",
        ),
        (json!({ "date": "today", "weeks": -3 }), "2026-10-31"),
        (json!({ "date": "tomorrow" }), "2026-11-22"),
        (
            json!({ "date": "2026-11-20", "working_days": 1 }),
            "2026-11-23",
        ),
        (
            json!({ "date": "2026-11-21", "working_days": 5 }),
            "2026-11-27",
        ),
        (
            json!({ "date": "2026-11-21", "working_days": -1 }),
            "2026-11-20",
        ),
        (
            json!({ "date": "2026-11-21", "hours": 25 }),
            "2026-11-22T01:00:00",
        ),
        (
            json!({ "date": "2026-11-21T23:59", "minutes": 2 }),
            "2026-11-22T00:01:00",
        ),
        (
            json!({ "date": "2026-11-21T10:00:00-05:00", "seconds": 90 }),
            "2026-11-21T10:01:30-05:00",
        ),
        // A day is a day on the wall, 24 hours are 24 hours.
        (
            json!({ "date": "2026-03-28T12:00[Europe/Paris]", "days": 1 }),
            "2026-03-29T12:00:00+02:00",
        ),
        (
            json!({ "date": "2026-03-28T12:00[Europe/Paris]", "hours": 24 }),
            "2026-03-29T13:00:00+02:00",
        ),
        (
            json!({ "date": "2026-03-28T02:30", "time_zone": "Europe/Paris", "days": 1 }),
            "2026-03-29T03:30:00+02:00",
        ),
    ] {
        check("add_to_date", arguments, json!({ "result": result }));
    }
    check(
        "add_to_date",
        json!({ "date": "2026-01-31", "months": 1 }),
        json!({ "note": "the month is shorter; its last day was taken" }),
    );
    check(
        "add_to_date",
        json!({ "date": "2026-11-21", "days": 1 }),
        json!({ "note": null, "weekday": "Sunday" }),
    );
}

#[test]
fn differences() {
    check(
        "date_difference",
        json!({ "from": "1815-12-10", "to": "today" }),
        json!({ "calendar": { "years": 210, "months": 11, "days": 11 }, "total_days": 77_048, "elapsed": null }),
    );
    check(
        "date_difference",
        json!({ "from": "2026-11-20", "to": "2026-11-23" }),
        json!({ "total_days": 3, "working_days": 1, "weeks_and_days": [0, 3] }),
    );
    check(
        "date_difference",
        json!({ "from": "2026-11-23", "to": "2026-11-20" }),
        json!({ "total_days": -3, "working_days": -1 }),
    );
    check(
        "date_difference",
        json!({ "from": "2026-11-21T09:00", "to": "2026-11-22T10:30:15" }),
        json!({ "elapsed_seconds": 91_815, "elapsed": "1 day, 1 hour, 30 minutes, 15 seconds" }),
    );
    check(
        "date_difference",
        json!({ "from": "now", "to": "2026-11-21T15:00:00Z" }),
        json!({ "elapsed": "minus 30 minutes" }),
    );
    // The night the clocks go forward is an hour shorter where the zone is known.
    let night = json!({ "from": "2026-03-28T12:00", "to": "2026-03-29T12:00" });
    check(
        "date_difference",
        night.clone(),
        json!({ "elapsed_seconds": 86_400 }),
    );
    let mut paris = night;
    paris["time_zone"] = json!("Europe/Paris");
    check(
        "date_difference",
        paris,
        json!({ "elapsed_seconds": 82_800 }),
    );
}

#[test]
fn conversions() {
    let to =
        |time: &str, zone: &str| json!({ "time": time, "time_zone": zone, "weekday": "Sunday" });
    check(
        "convert_time_zone",
        json!({ "time": "2026-11-21T20:00", "from": "America/New_York", "to": "Asia/Tokyo" }),
        json!({ "to": to("2026-11-22T10:00:00+09:00", "Asia/Tokyo") }),
    );
    check(
        "convert_time_zone",
        json!({ "time": "2026-11-21T20:00:00-05:00", "to": "Asia/Kolkata" }),
        json!({ "to": to("2026-11-22T06:30:00+05:30", "Asia/Kolkata") }),
    );
    check(
        "convert_time_zone",
        json!({ "time": "2026-10-25T02:30", "from": "Europe/Berlin", "to": "UTC" }),
        json!({ "note": "clocks show this local time twice; the first was taken", "to": to("2026-10-25T00:30:00+00:00", "UTC") }),
    );
    check(
        "convert_time_zone",
        json!({ "time": "2026-03-29T02:30", "from": "Europe/Berlin", "to": "UTC" }),
        json!({ "note": "clocks skip this local time; it was moved forward by the gap" }),
    );
    // Beyond the tables the rules go on.
    check(
        "convert_time_zone",
        json!({ "time": "2080-07-07T12:00Z", "to": "Europe/Paris" }),
        json!({ "to": to("2080-07-07T14:00:00+02:00", "Europe/Paris") }),
    );
}

#[test]
fn calendar() {
    check(
        "calendar_facts",
        json!({ "date": "2024-12-30" }),
        json!({ "weekday": "Monday", "iso_week": "2025-W01", "day_of_year": 365, "quarter": 4, "leap_year": true, "days_in_month": 31, "weekend": false }),
    );
    check(
        "calendar_facts",
        json!({ "date": "today", "time_zone": "Asia/Tokyo" }),
        json!({ "date": "2026-11-22", "weekend": true }),
    );
}

#[test]
fn errors_teach() {
    refuse(
        "current_time",
        json!({ "time_zone": "Paris" }),
        "did you mean Europe/Paris?",
    );
    refuse(
        "current_time",
        json!({ "time_zone": "new york" }),
        "America/New_York",
    );
    refuse(
        "current_time",
        json!({ "time_zone": "Atlantis" }),
        "write an IANA name",
    );
    refuse(
        "current_time",
        json!({ "time_zone": "+99" }),
        "is not an offset",
    );
    refuse(
        "current_time",
        json!({ "zone": "UTC" }),
        "unknown field `zone`, expected `time_zone`",
    );
    refuse(
        "add_to_date",
        json!({ "date": "21/11/2026" }),
        "`date`: `21/11/2026` is not a date or time; write `2026-11-21`",
    );
    refuse(
        "add_to_date",
        json!({ "date": "2026-02-30" }),
        "is not a date",
    );
    refuse("add_to_date", json!({ "days": 1 }), "missing field `date`");
    refuse(
        "add_to_date",
        json!({ "date": "today", "days": "3" }),
        "expected i64",
    );
    refuse(
        "add_to_date",
        json!({ "date": "today", "years": 100_000 }),
        "too far away",
    );
    refuse(
        "add_to_date",
        json!({ "date": "today", "days": i64::MAX }),
        "too far away",
    );
    refuse(
        "add_to_date",
        json!({ "date": "today", "hours": i64::MAX }),
        "too many",
    );
    refuse(
        "add_to_date",
        json!({ "date": "today", "working_days": i64::MIN }),
        "too far away",
    );
    refuse(
        "convert_time_zone",
        json!({ "time": "2026-11-21", "to": "UTC" }),
        "has no time of day",
    );
    refuse(
        "convert_time_zone",
        json!({ "time": "2026-11-21T10:00[Mars/Olympus]", "to": "UTC" }),
        "is not known",
    );
    refuse("calendar_facts", json!({ "date": "x".repeat(10_000) }), "…");
    assert_eq!(call("sunrise", "{}"), Err(Failure::UnknownTool));
    for text in [
        "",
        "[]",
        "null",
        "{",
        "{\"date\": 5}",
        "{\"date\": \"\\u0000\"}",
    ] {
        assert!(
            matches!(call("calendar_facts", text), Err(Failure::Arguments(_))),
            "{text}"
        );
    }
}

#[test]
fn schemas_are_objects_with_known_keys() {
    for tool in tools() {
        assert_eq!(
            (
                &tool.parameters["type"],
                &tool.parameters["additionalProperties"]
            ),
            (&json!("object"), &json!(false))
        );
        assert!(
            tool.name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                && tool.description.len() < 300
        );
        // A call with every key it names is understood as far as its keys go.
        let properties = tool.parameters["properties"].as_object().unwrap();
        let arguments: serde_json::Map<_, _> = properties
            .iter()
            .map(|(key, schema)| {
                let value = match (schema["type"].as_str().unwrap(), key.as_str()) {
                    ("integer", _) => json!(1),
                    (_, "time_zone" | "from" | "to")
                        if tool.name != "date_difference" || key == "time_zone" =>
                    {
                        json!("UTC")
                    }
                    _ => json!("2026-11-21T10:00"),
                };
                (key.clone(), value)
            })
            .collect();
        assert!(
            call(tool.name, &Value::from(arguments.clone()).to_string()).is_ok(),
            "{}: {arguments:?}",
            tool.name
        );
    }
}
