//! What was found in a text, however much it is.

use super::{Finding, filter::broken};
use crate::{Failure, Severity};
use std::collections::BTreeMap;

/// Most findings that are kept with their places. A page of addresses has them; beyond, each is counted in its category.
const KEPT: usize = 4096;
/// Most categories of one text: guardrails know a dozen.
const CATEGORIES: usize = 64;

/// For the places of findings: of all texts of a request or of an answer together, as of one.
#[derive(Debug)]
pub struct Room(usize);

impl Room {
    /// For so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(most)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new(KEPT)
    }
}

/// Everything found in a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    kept: Vec<Finding>,
    categories: BTreeMap<String, Found>,
}

/// How often a category was found, and how bad at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub count: u64,
    pub worst: Severity,
}

impl Findings {
    /// Takes in more of one text, of which as many as there is `room` for are kept with their places.
    ///
    /// # Errors
    ///
    /// When they are of more categories than guardrails have.
    pub fn take(&mut self, found: Vec<Finding>, room: &mut Room) -> Result<(), Failure> {
        for finding in found {
            let full = self.categories.len() == CATEGORIES;
            match self.categories.get_mut(&finding.category) {
                Some(known) => {
                    known.count += 1;
                    known.worst = known.worst.max(finding.severity);
                }
                None if full => {
                    return broken("it finds more than 64 categories in one text");
                }
                None => {
                    let found = Found {
                        count: 1,
                        worst: finding.severity,
                    };
                    self.categories.insert(finding.category.clone(), found);
                }
            }
            if let Some(left) = room.0.checked_sub(1) {
                room.0 = left;
                self.kept.push(finding);
            }
        }
        Ok(())
    }

    /// The first ones, in the order in which they were reported.
    #[must_use]
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// Those that are counted only.
    #[must_use]
    pub fn more(&self) -> u64 {
        let all: u64 = self.categories.values().map(|found| found.count).sum();
        all - self.kept.len() as u64
    }

    /// All of them by category.
    pub fn categories(&self) -> impl Iterator<Item = (&str, Found)> {
        let categories = self.categories.iter();
        categories.map(|(name, found)| (name.as_str(), *found))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.categories.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(category: &str, severity: Severity) -> Finding {
        Finding {
            start: 0,
            end: 1,
            category: category.to_owned(),
            severity,
        }
    }

    #[test]
    fn the_first_thousands_are_kept() {
        let (mut findings, mut room) = (Findings::default(), Room::default());
        let many = vec![finding("pii", Severity::Low); KEPT + 1];
        findings.take(many, &mut room).unwrap();
        assert_eq!((findings.kept().len(), findings.more()), (4096, 1));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let (mut findings, mut room) = (Findings::default(), Room(3));
        assert!(findings.is_empty());
        let pii = |severity| finding("pii", severity);
        let two = vec![pii(Severity::High), pii(Severity::Low)];
        findings.take(two, &mut room).unwrap();
        assert_eq!((findings.kept().len(), findings.more(), room.0), (2, 0, 1));
        let more = vec![pii(Severity::Medium), finding("secret", Severity::Critical)];
        findings.take(more, &mut room).unwrap();
        assert_eq!((findings.kept().len(), findings.more(), room.0), (3, 1, 0));
        let categories: Vec<_> = findings.categories().collect();
        let found = |count, worst| Found { count, worst };
        assert_eq!(
            categories,
            [
                ("pii", found(3, Severity::High)),
                ("secret", found(1, Severity::Critical))
            ]
        );
    }

    /// A component that invents them would fill the memory and the journal.
    #[test]
    fn categories_without_end_are_a_broken_judge() {
        let of = |number| finding(&format!("pii/{number}"), Severity::Low);
        let (mut findings, mut room) = (Findings::default(), Room::default());
        let known = (0..CATEGORIES).map(of).collect();
        findings.take(known, &mut room).unwrap();
        findings.take(vec![of(0)], &mut room).unwrap();
        assert!(findings.take(vec![of(CATEGORIES)], &mut room).is_err());
    }
}
