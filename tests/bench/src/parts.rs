//! What programs of single parts printed, round after round, as one text of medians.

use anyhow::{Context as _, Result, bail};
use std::{fs, path::PathBuf};

use crate::report::median;

/// Each file is one round's text. Texts may differ in their numbers only, each of which becomes the median of its rounds.
pub(crate) fn read(paths: &[PathBuf]) -> Result<String> {
    let rounds = paths
        .iter()
        .map(|path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    medians(&rounds)
}

fn medians(rounds: &[String]) -> Result<String> {
    let lines: Vec<Vec<&str>> = rounds.iter().map(|text| text.lines().collect()).collect();
    let Some((first, others)) = lines.split_first() else {
        return Ok(String::new());
    };
    let mut text = String::new();
    for (n, line) in first.iter().enumerate() {
        let pieces = split(line);
        let mut of_rounds = vec![pieces.clone()];
        for other in others {
            let other = split(other.get(n).context("a round has fewer lines")?);
            let same = pieces.len() == other.len()
                && pieces.iter().zip(&other).all(|(a, b)| match (a, b) {
                    (Piece::Text(a), Piece::Text(b)) => a.trim() == b.trim(),
                    (Piece::Number(_), Piece::Number(_)) => true,
                    (Piece::Text(_), Piece::Number(_)) | (Piece::Number(_), Piece::Text(_)) => {
                        false
                    }
                });
            if !same {
                bail!("rounds differ in more than numbers at {line:?}");
            }
            of_rounds.push(other);
        }
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                // As it is written where it is the same: `1,000` is two of them.
                Piece::Number(written)
                    if of_rounds
                        .iter()
                        .all(|pieces| pieces[at] == Piece::Number(written)) =>
                {
                    text.push_str(written);
                }
                Piece::Number(written) => {
                    let values: Vec<f64> = of_rounds
                        .iter()
                        .filter_map(|pieces| match pieces[at] {
                            Piece::Number(number) => number.parse().ok(),
                            Piece::Text(_) => None,
                        })
                        .collect();
                    let decimals = written.split_once('.').map_or(0, |(_, after)| after.len());
                    let value = format!("{:.decimals$}", median(&values));
                    // Columns of numbers stay aligned at their right.
                    let indent = text.len() - text.trim_end_matches(' ').len();
                    let longer = value.len().saturating_sub(written.len());
                    text.truncate(text.len() - longer.min(indent.saturating_sub(1)));
                    let width = written.len();
                    text.push_str(&format!("{value:>width$}"));
                }
            }
        }
        text.push('\n');
    }
    Ok(text)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Number(&'a str),
}

/// Digits with at most one point between them are a number.
fn split(line: &str) -> Vec<Piece<'_>> {
    let bytes = line.as_bytes();
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let begin = at;
        let mut point = false;
        while at < bytes.len() {
            let fraction =
                !point && bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
            if !fraction && !bytes[at].is_ascii_digit() {
                break;
            }
            point |= fraction;
            at += 1;
        }
        if from < begin {
            pieces.push(Piece::Text(&line[from..begin]));
        }
        pieces.push(Piece::Number(&line[begin..at]));
        from = at;
    }
    if from < line.len() {
        pieces.push(Piece::Text(&line[from..]));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::medians;

    #[test]
    fn numbers_become_the_median_of_their_rounds_and_stay_in_their_columns() {
        let rounds = [
            "six calls of 1,000\nsqlite  16    9.25 ms\n64 rules: 503 ns\n",
            "six calls of 1,000\nsqlite  16   10.75 ms\n64 rules: 100 ns\n",
            "six calls of 1,000\nsqlite  16  100.00 ms\n64 rules: 504 ns\n",
        ]
        .map(str::to_owned);
        let expected = "six calls of 1,000\nsqlite  16   10.75 ms\n64 rules: 503 ns\n";
        assert_eq!(medians(&rounds).unwrap(), expected);
        assert_eq!(medians(&rounds[..1]).unwrap(), rounds[0]);
        assert_eq!(medians(&[]).unwrap(), "");
    }

    #[test]
    fn rounds_that_said_different_things_are_not_mixed() {
        for other in ["search failed\n", "", "p50 1 ms, p99\n", "p50 1 ms 2\n"] {
            let rounds = ["p50 1.5 ms\n".to_owned(), other.to_owned()];
            assert!(medians(&rounds).is_err(), "{other:?}");
        }
    }
}
