//! One file per command group.

pub(crate) mod agent;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod chat;
pub(crate) mod collection;
pub(crate) mod component;
pub(crate) mod costs;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod load;
pub(crate) mod session;
pub(crate) mod tenant;
pub(crate) mod token;

use crate::args::Format;
use anyhow::Context as _;
use serde_json::Value;
use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

/// Prints a listing: JSON as it came, or one line per entry with these columns.
pub(crate) fn print(format: Format, entries: &[Value], columns: &[&str]) {
    if format == Format::Json {
        write(&Value::Array(entries.to_vec()).to_string());
        return;
    }
    let rows: Vec<Vec<String>> = std::iter::once(
        columns
            .iter()
            .map(|column| column.replace('_', " "))
            .collect(),
    )
    .chain(
        entries
            .iter()
            .map(|entry| columns.iter().map(|column| cell(&entry[*column])).collect()),
    )
    .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            rows.iter()
                .map(|row| row[i].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        write(line.join("  ").trim_end());
    }
}

/// Prints one thing.
pub(crate) fn show(format: Format, value: &Value, text: impl FnOnce(&Value) -> String) {
    match format {
        Format::Json => write(&value.to_string()),
        Format::Text => write(&text(value)),
    }
}

/// A line of standard output. Whoever reads it may have seen enough and be gone: the command has done its work all the same.
fn write(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Characters of a cell at most: a row is for looking over, and JSON has the whole.
const CELL: usize = 2000;

fn cell(value: &Value) -> String {
    plain(&whole(value), CELL)
}

/// A text as a terminal may show it: what would move the cursor, hide or turn the order of anything is written out.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (n, char) in text.chars().enumerate() {
        if n == most {
            shown.push('…');
            break;
        }
        let hidden = matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}' | '\u{2028}' | '\u{2029}');
        match char.is_control() || hidden {
            true => shown.extend(char.escape_unicode()),
            false => shown.push(char),
        }
    }
    shown
}

fn whole(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(whole).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A file's text; `-` is standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
