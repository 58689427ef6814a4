//! `ambit approvals`.

use super::{plain, print, show};
use crate::{
    args::{Approvals, Decide, Format},
    client::{Client, segment},
};
use ambit_ledger::Day;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Read at a time.
const PAGE: usize = 100;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Of an export. Those named `…_at` are times.
const COLUMNS: [&str; 16] = [
    "id",
    "tenant",
    "session",
    "agent",
    "principal",
    "tool",
    "arguments",
    "why",
    "state",
    "outcome",
    "created_at",
    "expires_at",
    "decided_at",
    "decided_by",
    "reason",
    "used_at",
];

pub(crate) async fn run(command: Approvals) -> anyhow::Result<ExitCode> {
    match command {
        Approvals::List {
            tenant,
            all,
            limit,
            target,
        } => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("state", if all { "all" } else { "pending" });
            query.append_pair("limit", &limit.to_string());
            query.extend_pairs(tenant.iter().map(|tenant| ("tenant", tenant)));
            let path = format!("/approvals?{}", query.finish());
            let mut found = Client::open(&target).await?.list(&path).await?;
            if target.format == Format::Text {
                for approval in &mut found {
                    in_words(approval);
                    // `show` has all of them.
                    if let Some(arguments) = approval["arguments"].as_str() {
                        approval["arguments"] = plain(arguments, 100).into();
                    }
                }
            }
            let columns = [
                "id",
                "tenant",
                "agent",
                "principal",
                "tool",
                "arguments",
                "state",
                "expires_at",
            ];
            print(target.format, &found, &columns);
            if target.format == Format::Text && found.is_empty() && !all {
                let _ = writeln!(io::stderr(), "note: nothing waits for an approval");
            }
        }
        Approvals::Show { id, target } => {
            let path = format!("/approvals/{}", segment(&id));
            let approval = Client::open(&target).await?.get(&path).await?;
            show(target.format, &approval, in_lines);
        }
        Approvals::Approve(decide) => decided(decide, "approve").await?,
        Approvals::Deny(decide) => decided(decide, "deny").await?,
        Approvals::Export {
            tenant,
            day,
            week,
            from,
            to,
            target,
        } => {
            let (from, to) = span(day, week, from.zip(to))?;
            let client = Client::open(&target).await?;
            let found = exported(&client, tenant.as_deref(), from, to).await?;
            match target.format {
                Format::Json => print(Format::Json, &found, &COLUMNS),
                Format::Text => csv(found, io::stdout().lock())?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn decided(command: Decide, how: &str) -> anyhow::Result<()> {
    let Decide { id, reason, target } = command;
    let path = format!("/approvals/{}/{how}", segment(&id));
    let body = serde_json::to_vec(&json!({ "reason": reason }))?;
    let client = Client::open(&target).await?;
    let approval = client.post(&path, body).await?;
    show(target.format, &approval, |approval| {
        let text = |name: &str| plain(approval[name].as_str().unwrap_or("-"), 100);
        let done = match how {
            "approve" => "approved of",
            _ => "denied",
        };
        format!(
            "{done} the call of `{}` in {}",
            text("tool"),
            text("session")
        )
    });
    client.at_rest().await;
    Ok(())
}

/// A line of each field, arguments last.
fn in_lines(approval: &Value) -> String {
    let mut approval = approval.clone();
    let arguments = approval["arguments"].take();
    in_words(&mut approval);
    let fields = approval.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, value)| !value.is_null() && *name != "object");
    let line = |(name, value): (&String, &Value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{:<12} {}", name.replace('_', " "), plain(&text, 4000))
    };
    let mut lines: Vec<_> = fields.map(line).collect();
    let arguments = serde_json::to_string_pretty(&arguments).unwrap_or_default();
    lines.push("arguments".to_owned());
    // Line by line: those of JSON are its own, and a text has none.
    lines.extend(
        arguments
            .lines()
            .map(|line| format!("  {}", plain(line, usize::MAX))),
    );
    lines.join("\n")
}

/// Oldest first.
async fn exported(
    client: &Client,
    tenant: Option<&str>,
    from: i64,
    to: i64,
) -> anyhow::Result<Vec<Value>> {
    let (mut found, mut before) = (Vec::new(), None::<String>);
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", "all");
        query.append_pair("limit", &PAGE.to_string());
        query.append_pair("from", &(from / 1000).to_string());
        query.append_pair("to", &(to / 1000).to_string());
        query.extend_pairs(tenant.map(|tenant| ("tenant", tenant)));
        query.extend_pairs(before.iter().map(|before| ("before", before)));
        let page = client
            .list(&format!("/approvals?{}", query.finish()))
            .await?;
        let last = page.last().and_then(|last| last["id"].as_str());
        before = last.map(str::to_owned);
        let more = page.len() == PAGE;
        found.extend(page);
        if !more {
            found.reverse();
            return Ok(found);
        }
    }
}

/// From when until before when, in milliseconds.
fn span(
    day: Option<String>,
    week: Option<String>,
    between: Option<(String, String)>,
) -> anyhow::Result<(i64, i64)> {
    let read = |text: &str| {
        let day = text.parse::<Day>().map(Day::start_ms);
        day.with_context(|| format!("`{text}` is no day: expected one as 2026-11-21"))
    };
    if let Some((from, to)) = between {
        let (from, to) = (read(&from)?, read(&to)? + DAY_MS);
        anyhow::ensure!(from < to, "the last day is before the first");
        return Ok((from, to));
    }
    if let Some(week) = week {
        let day = read(&week)?;
        // The first day of all was a Thursday.
        let since_monday = (day / DAY_MS + 3).rem_euclid(7) * DAY_MS;
        return Ok((day - since_monday, day - since_monday + 7 * DAY_MS));
    }
    let day = match day {
        Some(day) => read(&day)?,
        None => Day::from_ms(jiff::Timestamp::now().as_millisecond()).start_ms(),
    };
    Ok((day, day + DAY_MS))
}

/// Times in words, arguments as JSON.
fn in_words(approval: &mut Value) {
    let Value::Object(fields) = approval else {
        return;
    };
    for (name, value) in fields {
        let time = value.as_i64().filter(|_| name.ends_with("_at"));
        if let Some(time) = time.and_then(|time| jiff::Timestamp::from_second(time).ok()) {
            *value = time.to_string().into();
        } else if name == "arguments" && !value.is_null() {
            *value = value.to_string().into();
        }
    }
}

fn csv(approvals: Vec<Value>, out: impl Write) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(out);
    out.write_record(COLUMNS)?;
    for mut approval in approvals {
        in_words(&mut approval);
        let cells = COLUMNS.map(|column| match &approval[column] {
            Value::Null => String::new(),
            Value::String(text) => harmless(text),
            other => other.to_string(),
        });
        out.write_record(cells)?;
    }
    out.flush()?;
    Ok(())
}

/// As text for a spreadsheet too, which would take what begins so for a formula (OWASP, CSV injection).
fn harmless(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_days() {
        let days = |from: &str, to: &str| {
            let ms = |day: &str| day.parse::<Day>().unwrap().start_ms();
            (ms(from), ms(to))
        };
        let text = |text: &str| Some(text.to_owned());
        let day = span(text("2026-11-21"), None, None).unwrap();
        assert_eq!(day, days("2026-11-21", "2026-11-22"));
        // A Saturday, a Sunday, a Monday.
        for (day, monday, next) in [
            ("2026-11-21", "2026-11-16", "2026-11-23"),
            ("2026-11-22", "2026-11-16", "2026-11-23"),
            ("2026-11-23", "2026-11-23", "2026-11-30"),
            ("1970-01-08", "1970-01-05", "1970-01-12"),
        ] {
            let week = span(None, text(day), None).unwrap();
            assert_eq!(week, days(monday, next), "{day}");
        }
        let between = text("2026-11-01").zip(text("2026-11-30"));
        let between = span(None, None, between).unwrap();
        assert_eq!(between, days("2026-11-01", "2026-12-01"));
        let backwards = text("2026-11-02").zip(text("2026-11-01"));
        assert!(span(None, None, backwards).is_err());
        let error = span(text("yesterday"), None, None).unwrap_err().to_string();
        assert!(
            error.contains("`yesterday`") && error.contains("2026-11-21"),
            "{error}"
        );
        let (from, to) = span(None, None, None).unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        assert!(from <= now && now < to + DAY_MS && to - from == DAY_MS);
    }

    #[test]
    fn what_people_wrote_is_text_in_a_spreadsheet() {
        let approval = json!({
            "id": "apr_1", "tool": "=cmd|' /C calc'!A0", "reason": "a \"b\", c\nd", "created_at": 0,
            "arguments": {"to": "=1+1"}, "decided_by": "@SUM(1)", "principal": "-1"
        });
        let mut out = Vec::new();
        csv(vec![approval], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (head, row) = text.split_once('\n').unwrap();
        assert_eq!(head, COLUMNS.join(","));
        assert_eq!(
            row,
            "apr_1,,,,'-1,'=cmd|' /C calc'!A0,\"{\"\"to\"\":\"\"=1+1\"\"}\",,,,1970-01-01T00:00:00Z,,,'@SUM(1),\"a \"\"b\"\", c\nd\",\n"
        );
    }
}
