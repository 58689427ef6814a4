//! Searching: ask the index for more chunks than are needed, spread them over documents, bring scores to 0..1.

use crate::{Error, Index, Mode, Passage, Query, Request, Weights};
use std::collections::HashMap;

/// The text field holds title and headings too. A word of the title, and less so of a heading, says a little more about a passage than
/// one inside it; the index of an abstract or a FAQ agrees, and small weights do little harm where titles are file names.
const WEIGHTS: Weights = Weights {
    title: 0.3,
    headings: 0.15,
    text: 1.0,
};

/// Passages of one document before others get their turn: one long document must not be the whole answer.
const PER_DOCUMENT: usize = 3;

/// The BM25 score that is shown as 0.5. A passage with two or three rare words of the question has about as much.
const MIDDLE_SCORE: f32 = 10.0;

/// Finds passages, best first; fewer than asked for where fewer share a word with the question.
///
/// # Errors
/// [`Error::Invalid`] for a number out of range, or for the mode `vector`, which this version does not have. `hybrid` asks for the
/// best combination there is, which is keywords alone until vectors come.
pub fn search(index: &impl Index, query: Query) -> Result<Vec<Passage>, Error> {
    let Query {
        collection,
        text,
        max_results,
        filter,
        mode,
    } = query;
    if !(1..=100).contains(&max_results) {
        return Err(Error::Invalid("max-results: expected 1 to 100".to_owned()));
    }
    match mode {
        Some(Mode::Vector) => {
            return Err(Error::Invalid(
                "mode: this component ranks by keywords; it has no vectors".to_owned(),
            ));
        }
        None | Some(Mode::Keyword | Mode::Hybrid) => {}
    }
    // Enough to find other documents behind a long one.
    let limit = max_results + (max_results / 2).max(20);
    let found = index.search(&Request {
        collection,
        text,
        weights: WEIGHTS,
        filter,
        limit,
    })?;
    let mut passages = spread(found);
    passages.truncate(max_results as usize);
    for passage in &mut passages {
        passage.score /= passage.score + MIDDLE_SCORE;
    }
    Ok(passages)
}

/// Moves what a document has beyond its share to the end; the order is kept otherwise. Scores follow the order: a passage that was
/// moved back counts no more than the one before it.
fn spread(found: Vec<Passage>) -> Vec<Passage> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let (mut first, mut rest): (Vec<Passage>, Vec<Passage>) =
        found.into_iter().partition(|passage| {
            let count = counts.entry(passage.document.clone()).or_default();
            *count += 1;
            *count <= PER_DOCUMENT
        });
    let least = first.last().map_or(0.0, |passage| passage.score);
    for passage in &mut rest {
        passage.score = passage.score.min(least);
    }
    first.append(&mut rest);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;
    use std::cell::RefCell;

    struct Double(Vec<Passage>, RefCell<Vec<Request>>);

    impl Index for Double {
        fn content_hashes(&self, _: &str, _: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
            Ok(Vec::new())
        }

        fn put(&self, _: &str, _: Vec<Entry>) -> Result<(), Error> {
            Ok(())
        }

        fn search(&self, request: &Request) -> Result<Vec<Passage>, Error> {
            self.1.borrow_mut().push(request.clone());
            Ok(self.0.clone())
        }
    }

    fn ask(
        found: &[(&str, f32)],
        max_results: u32,
        mode: Option<Mode>,
    ) -> Result<Vec<Passage>, Error> {
        let passage = |(document, score): &(&str, f32)| Passage {
            document: (*document).to_owned(),
            title: String::new(),
            anchor: String::new(),
            headings: Vec::new(),
            text: String::new(),
            attributes: Vec::new(),
            score: *score,
        };
        let index = Double(found.iter().map(passage).collect(), RefCell::default());
        search(
            &index,
            Query {
                collection: "c".into(),
                text: "q".into(),
                max_results,
                filter: None,
                mode,
            },
        )
    }

    #[test]
    fn one_long_document_is_not_the_whole_answer() {
        let found = [
            ("long", 9.0),
            ("long", 8.0),
            ("long", 7.0),
            ("long", 6.0),
            ("long", 5.5),
            ("short", 5.0),
        ];
        let documents = |max_results| {
            let passages = ask(&found, max_results, None).unwrap();
            assert!(
                passages
                    .windows(2)
                    .all(|pair| pair[0].score >= pair[1].score)
            );
            assert!(
                passages
                    .iter()
                    .all(|passage| (0.0..=1.0).contains(&passage.score))
            );
            passages
                .into_iter()
                .map(|passage| passage.document)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(documents(4), "long long long short");
        assert_eq!(documents(100), "long long long short long long");
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        assert!(matches!(ask(&[], 0, None), Err(Error::Invalid(_))));
        assert!(matches!(ask(&[], 101, None), Err(Error::Invalid(_))));
        assert!(matches!(
            ask(&[], 1, Some(Mode::Vector)),
            Err(Error::Invalid(_))
        ));
        assert_eq!(ask(&[], 1, Some(Mode::Hybrid)), Ok(Vec::new()));
    }
}
