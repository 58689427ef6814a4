//! The writer's multi-row statements, written out at compile time: many rows in one statement is what makes a batch cheap, and constants
//! of a few sizes stay prepared on the connection.

use crate::{
    Result,
    db::{Query, Row, Statement, Tx, Value},
};

/// Runs statements of descending sizes, the last of which is 1, with all rows; what they return.
pub(crate) async fn in_sizes(
    tx: &mut Tx,
    sizes: &[(usize, Statement)],
    rows: impl ExactSizeIterator<Item = Vec<Value>>,
) -> Result<Vec<Row>> {
    let mut rows = rows;
    let mut returned = Vec::new();
    for (size, statement) in sizes {
        while rows.len() >= *size {
            let values = rows.by_ref().take(*size).flatten().collect();
            returned.extend(Query::with_values(*statement, values).all(tx).await?);
        }
    }
    Ok(returned)
}

/// Bytes of `($1, $2), ($3, $4)` and so on, beside `prefix` and `suffix`.
pub(crate) const fn length(prefix: &str, columns: usize, rows: usize, suffix: &str) -> usize {
    let mut length =
        prefix.len() + suffix.len() + 2 * rows + 2 * (rows - 1) + 2 * rows * (columns - 1);
    let mut n = 1;
    while n <= columns * rows {
        length += 1 + digits(n);
        n += 1;
    }
    length
}

const fn digits(n: usize) -> usize {
    let mut digits = 1;
    let mut rest = n / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    digits
}

const fn push<const N: usize>(out: &mut [u8; N], at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        out[at + i] = bytes[i];
        i += 1;
    }
    at + bytes.len()
}

pub(crate) const fn fill<const N: usize>(
    prefix: &str,
    columns: usize,
    rows: usize,
    suffix: &str,
) -> [u8; N] {
    let mut out = [b' '; N];
    let mut at = push(&mut out, 0, prefix);
    let mut n = 1;
    while n <= columns * rows {
        let first = n % columns == 1;
        at = push(
            &mut out,
            at,
            if n == 1 {
                "($"
            } else if first {
                ", ($"
            } else {
                ", $"
            },
        );
        let mut digit = digits(n);
        let mut rest = n;
        while digit > 0 {
            digit -= 1;
            out[at + digit] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        at += digits(n);
        if n % columns == 0 {
            at = push(&mut out, at, ")");
        }
        n += 1;
    }
    push(&mut out, at, suffix);
    out
}

macro_rules! multi_row {
    ($name:literal, $prefix:ident, $columns:literal, $rows:literal, $suffix:ident) => {{
        const TEXT: [u8; $crate::journal::rows::length($prefix, $columns, $rows, $suffix)] =
            $crate::journal::rows::fill($prefix, $columns, $rows, $suffix);
        // Never empty: every part is a `str`; the tests would refuse to prepare it.
        const SQL: &str = if let Ok(text) = std::str::from_utf8(&TEXT) {
            text
        } else {
            ""
        };
        (
            $rows,
            $crate::db::Statement {
                name: $name,
                sql: SQL,
            },
        )
    }};
}
pub(crate) use multi_row;

const EVENTS: &str = "INSERT INTO events \
    (tenant, session, seq, schema_version, kind, time_ms, header, body, content_hash, previous_hash) VALUES ";
const NOTHING: &str = "";

const SESSIONS: &str = "INSERT INTO sessions (tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, sealed_key, \
    node, durable, reason, parent) VALUES ";
const CHANGE: &str = " ON CONFLICT (tenant, session) DO UPDATE SET state = excluded.state, updated_ms = excluded.updated_ms, \
    head_seq = excluded.head_seq, head_hash = excluded.head_hash, node = excluded.node, reason = excluded.reason, \
    durable = CASE WHEN excluded.durable = 1 THEN 1 ELSE sessions.durable END";

/// By number of rows, from many to one. Not more than 16: SQLite finds the name of each `$n` by walking a list from its start, and at 64 rows
/// that walk was nearly half of the writer's time.
pub(super) const EVENT_INSERT: [(usize, Statement); 3] = [
    multi_row!("EVENT_INSERT_16", EVENTS, 10, 16, NOTHING),
    multi_row!("EVENT_INSERT_4", EVENTS, 10, 4, NOTHING),
    multi_row!("EVENT_INSERT_1", EVENTS, 10, 1, NOTHING),
];

/// An existing session that is opened again fails at its first event, whose place is taken.
pub(super) const SESSION_PUT: [(usize, Statement); 3] = [
    multi_row!("SESSION_PUT_16", SESSIONS, 14, 16, CHANGE),
    multi_row!("SESSION_PUT_4", SESSIONS, 14, 4, CHANGE),
    multi_row!("SESSION_PUT_1", SESSIONS, 14, 1, CHANGE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_out() {
        const PREFIX: &str = "VALUES ";
        const SUFFIX: &str = ";";
        assert_eq!(
            multi_row!("", PREFIX, 4, 3, SUFFIX).1.sql,
            "VALUES ($1, $2, $3, $4), ($5, $6, $7, $8), ($9, $10, $11, $12);"
        );
        assert_eq!(
            multi_row!("", PREFIX, 2, 1, NOTHING).1.sql,
            "VALUES ($1, $2)"
        );
    }
}
