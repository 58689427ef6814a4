//! Which passages an answer rests on, read from its `[n]` markers.

use crate::state::Passage;
use std::fmt::Write as _;

/// The numbers of known passages cited in `text` as `[n]` or `[n, m]`, in the order of their first use.
pub(crate) fn cited(text: &str, passages: &[Passage]) -> Vec<u32> {
    let mut numbers = Vec::new();
    for after_open in text.split('[').skip(1) {
        let Some((inside, _)) = after_open.split_once(']') else {
            continue;
        };
        // A marker is digits, commas and spaces; `[2024-01-01]` and `[link]` are not.
        if inside.is_empty()
            || inside.len() > 64
            || !inside
                .bytes()
                .all(|b| b.is_ascii_digit() || b == b',' || b == b' ')
        {
            continue;
        }
        for number in inside
            .split(',')
            .filter_map(|n| n.trim().parse::<u32>().ok())
        {
            if passages.iter().any(|p| p.number == number) && !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    numbers
}

/// The list of sources under an answer: one line per cited passage.
pub(crate) fn sources(numbers: &[u32], passages: &[Passage]) -> String {
    if numbers.is_empty() {
        return String::new();
    }
    let mut list = String::from("\n\nSources:");
    for passage in numbers
        .iter()
        .filter_map(|n| passages.iter().find(|p| p.number == *n))
    {
        let title = if passage.title.is_empty() {
            &passage.document
        } else {
            &passage.title
        };
        let _ = write!(
            list,
            "\n[{}] {title} ({}#{})",
            passage.number, passage.document, passage.anchor
        );
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(number: u32) -> Passage {
        Passage {
            number,
            document: format!("d{number}.md"),
            title: format!("Title {number}"),
            anchor: "a#1".into(),
        }
    }

    #[test]
    fn reads_markers_and_ignores_what_only_looks_like_one() {
        let known: Vec<_> = (1..=3).map(passage).collect();
        let check =
            |text: &str, expected: &[u32]| assert_eq!(cited(text, &known), expected, "{text}");
        check("Narrowed [2], then [1][2].", &[2, 1]);
        check("Both [1, 3].", &[1, 3]);
        check("Unknown [9], link [x](y), date [2024-01-01], open [1", &[]);
        check("[[1]]", &[1]);
        check("[99999999999999999999]", &[]);
    }

    #[test]
    fn lists_each_source_once() {
        let known: Vec<_> = (1..=2).map(passage).collect();
        assert_eq!(
            sources(&[2], &known),
            "\n\nSources:\n[2] Title 2 (d2.md#a#1)"
        );
        assert_eq!(sources(&[], &known), "");
    }
}
