//! What a complete clause holds: personal data and secrets.
//!
//! The scanners propose, [`clause`] disposes: of findings that overlap the more certain one stays. All of them are hand
//! written and look at each byte a bounded number of times; a set of regular expressions does the same work ten times
//! slower and needs its tables built or shipped.

mod assignment;
mod context;
mod iban;
mod network;
mod number;
mod option;
mod pem;
mod token;

use crate::clause::Traits;

pub(crate) use context::Context;
pub(crate) use pem::{ends_key, is_key_body, is_key_header};

/// A proposed finding: byte range of the clause, and how certain the scanner is compared to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) category: &'static str,
    pub(crate) certainty: u8,
}

impl Candidate {
    fn new(start: usize, end: usize, category: &'static str, certainty: u8) -> Candidate {
        Candidate {
            start,
            end,
            category,
            certainty,
        }
    }
}

/// Scans one clause. `traits` are those of its words, `lookahead` the word after it as far as it is known, `line_ends`
/// says that the clause is the end of its line. The result is in order and free of overlaps.
pub(crate) fn clause(
    text: &[u8],
    traits: Traits,
    context: &Context,
    lookahead: &[u8],
    line_ends: bool,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    if traits.has(Traits::DASHES) || traits.has(Traits::KEYWORD) {
        pem::scan(text, &mut found);
    }
    if traits.has(Traits::AT) || traits.has(Traits::COLON) {
        network::scan_urls(text, &mut found);
    }
    if traits.has(Traits::AT) {
        network::scan_emails(text, &mut found);
    }
    if traits.has(Traits::LONG) || traits.has(Traits::DOLLAR) {
        token::scan(text, context, line_ends, &mut found);
    }
    if traits.has(Traits::KEYWORD) {
        assignment::scan(text, context, lookahead, line_ends, &mut found);
    }
    if traits.has(Traits::OPTION) {
        option::scan(text, context, &mut found);
    }
    if traits.has(Traits::COLON) {
        assignment::scan_pgpass(text, context, line_ends, &mut found);
    }
    if traits.has(Traits::DIGIT) {
        network::scan_addresses(text, context, &mut found);
        iban::scan(text, &mut found);
        number::scan(text, context, lookahead, &mut found);
    } else if traits.has(Traits::COLON) {
        network::scan_addresses(text, context, &mut found);
    }
    if found.len() > 1 {
        settle(&mut found);
    }
    found
}

/// Keeps the most certain, then the longest, of candidates that overlap.
fn settle(found: &mut Vec<Candidate>) {
    found.sort_by_key(|candidate| {
        (
            std::cmp::Reverse((candidate.certainty, candidate.end - candidate.start)),
            candidate.start,
        )
    });
    // Kept ones stay ordered by start, so each candidate is compared with its two neighbours only.
    let mut kept: Vec<Candidate> = Vec::with_capacity(found.len());
    for candidate in found.drain(..) {
        let at = kept.partition_point(|other| other.start < candidate.start);
        let before = at
            .checked_sub(1)
            .is_none_or(|before| kept[before].end <= candidate.start);
        let after = kept
            .get(at)
            .is_none_or(|after| candidate.end <= after.start);
        if before && after {
            kept.insert(at, candidate);
        }
    }
    *found = kept;
}
