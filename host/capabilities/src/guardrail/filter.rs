//! What may leave of a text, given what its judge said so far.
//!
//! The filter keeps the text that was judged and not released, and holds the judge to its contract: a component that releases
//! backwards, in the middle of a character or of a mask, or more than there is, is broken, and the answer to a broken judge is an
//! error.

use super::{Finding, HELD_TOO_LONG, MASKED_TOO_LONG, Mask, Rejection, Severity};
use crate::Failure;

/// Most bytes a component may carry from one call of a text to the next.
const STATE_CAP: usize = 64 * 1024;
/// Longest replacement of one mask: a mask hides text, it does not write any.
const REPLACEMENT_CAP: usize = 256;
/// What masks may write, in bytes: so many of one text whatever its size, and for each byte of it. Names of categories are longer than what
/// they stand for, not twenty times as long.
const WRITTEN_CAP: u64 = 4096;
const WRITTEN_PER_BYTE: u64 = 4;
/// Longest category name.
const CATEGORY_CAP: usize = 128;

/// What a component said of the next piece.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) masks: Vec<Mask>,
    pub(super) rejection: Option<Rejection>,
    pub(super) findings: Vec<Finding>,
    pub(super) release_through: u64,
    pub(super) state: Vec<u8>,
}

/// What that sets free.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) text: String,
    /// How many were applied in `text`.
    pub(super) masks: usize,
    pub(super) findings: Vec<Finding>,
    pub(super) rejection: Option<Rejection>,
}

/// One text's filter.
#[derive(Debug)]
pub(super) struct Filter {
    /// Judged and not released: the end of the text so far.
    held: String,
    /// Bytes released, masked ones counted as they were. Where `held` begins.
    released: u64,
    held_cap: usize,
    /// Bytes that masks wrote.
    written: u64,
    /// The component's.
    state: Vec<u8>,
}

impl Filter {
    pub(super) fn new(held_cap: usize) -> Self {
        Self {
            held: String::new(),
            released: 0,
            held_cap,
            written: 0,
            state: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> &[u8] {
        &self.state
    }

    /// Takes the next piece together with what the component said of it.
    pub(super) fn judge(
        &mut self,
        piece: &str,
        last: bool,
        outcome: Outcome,
    ) -> Result<Judged, Failure> {
        self.held.push_str(piece);
        self.check_findings(&outcome.findings)?;
        if let Some(rejection) = outcome.rejection {
            check_category(&rejection.category)?;
            return Ok(Judged {
                findings: outcome.findings,
                rejection: Some(rejection),
                ..Judged::default()
            });
        }
        if outcome.state.len() > STATE_CAP {
            return broken("its state is longer than 64 KiB");
        }
        let through = self
            .place(outcome.release_through)
            .filter(|through| self.held.is_char_boundary(*through));
        let Some(through) = through else {
            return broken("it releases backwards, past the end or inside a character");
        };
        if last && through != self.held.len() {
            return broken("it holds text back although nothing follows");
        }
        let judged_bytes = self.released + self.held.len() as u64;
        let (text, masks) = self.masked(through, outcome.masks)?;
        self.held.drain(..through);
        self.released = outcome.release_through;
        self.state = outcome.state;
        let mut judged = Judged {
            text,
            masks,
            findings: outcome.findings,
            rejection: None,
        };
        let too_long = if self.held.len() > self.held_cap {
            Some(HELD_TOO_LONG)
        } else if self.written > judged_bytes.saturating_mul(WRITTEN_PER_BYTE) + WRITTEN_CAP {
            judged.text.clear();
            Some(MASKED_TOO_LONG)
        } else {
            None
        };
        judged.rejection = too_long.map(|category| Rejection {
            category: category.to_owned(),
            severity: Severity::High,
        });
        Ok(judged)
    }

    /// The first `through` bytes held, masks applied, and how many masks were applied. Later masks wait: the component repeats them.
    fn masked(&mut self, through: usize, masks: Vec<Mask>) -> Result<(String, usize), Failure> {
        let (mut text, mut applied) = (String::with_capacity(through), 0);
        // Where the text of `held` that is copied ends, and where the last mask did.
        let (mut copied, mut masked) = (0, 0);
        for mask in masks {
            let (Some(start), Some(end)) = (self.place(mask.start), self.place(mask.end)) else {
                return broken("a mask lies outside the text that is left");
            };
            if start < masked
                || start >= end
                || !self.held.is_char_boundary(start)
                || !self.held.is_char_boundary(end)
            {
                return broken("masks are out of order, empty or inside a character");
            }
            if mask.replacement.len() > REPLACEMENT_CAP {
                return broken("a mask's replacement is longer than 256 bytes");
            }
            if start < through && end > through {
                return broken("it releases the beginning of a mask");
            }
            masked = end;
            if end <= through {
                text.push_str(&self.held[copied..start]);
                text.push_str(&mask.replacement);
                self.written += mask.replacement.len() as u64;
                applied += 1;
                copied = end;
            }
        }
        text.push_str(&self.held[copied..through]);
        Ok((text, applied))
    }

    /// Where an offset of the whole text lies in `held`, if there.
    fn place(&self, offset: u64) -> Option<usize> {
        let place = usize::try_from(offset.checked_sub(self.released)?).ok()?;
        (place <= self.held.len()).then_some(place)
    }

    fn check_findings(&self, findings: &[Finding]) -> Result<(), Failure> {
        for finding in findings {
            check_category(&finding.category)?;
            // A finding may lie in text that was flagged and released, whose characters are gone.
            let on_boundary = |offset: u64| match self.place(offset) {
                Some(place) => self.held.is_char_boundary(place),
                None => offset < self.released,
            };
            if finding.start >= finding.end
                || !on_boundary(finding.start)
                || !on_boundary(finding.end)
            {
                return broken("a finding is empty, past the end or inside a character");
            }
        }
        Ok(())
    }
}

/// Categories go into answers, metrics and logs.
fn check_category(category: &str) -> Result<(), Failure> {
    let valid = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'/' | b'_');
    if category.is_empty() || category.len() > CATEGORY_CAP || !category.bytes().all(valid) {
        return broken("a category is not a short lower-case name");
    }
    Ok(())
}

pub(super) fn broken<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Contract(what.to_owned()))
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
