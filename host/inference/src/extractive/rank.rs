//! Which sentences answer the question best.
//!
//! Each distinct word of the question that a text holds adds the word's rarity among all sentences (idf), so that "permissions"
//! counts and "component" in a text about components hardly does. The passage is chosen first: retrieval has ranked the passages by
//! more than the words they share with the question, and what answers is rarely one sentence that repeats it. Then sentences are taken from
//! it that together hold most of the question, and single good ones from the others.
//!
//! What merely repeats the question (an example that asks it, a list of questions) does not answer it.

use super::text;
use super::words::{Words, spaced, stems};
use crate::Passage;
use frostem::{Algorithm, Stemmer};
use std::collections::{HashMap, HashSet};

/// Most sentences quoted.
const MOST: usize = 4;
/// Bytes looked at of the question.
const QUESTION_BYTES: usize = 64 << 10;
/// Passages looked at: more are not retrieved in practice, and the work stays bounded.
const PASSAGES: usize = 64;
/// Bytes looked at in each, and in all: ten times what a search brings.
const PASSAGE_BYTES: usize = 64 << 10;
const BYTES: usize = 1 << 20;
/// Most of them from the best passage.
const MOST_OF_BEST: usize = 3;
/// A further sentence must reach this part of the best one's value.
const CUT: f32 = 0.45;
/// What a word counts that a sentence chosen before holds too.
const AGAIN: f32 = 0.4;
/// A sentence of another passage must hold this part of the question's weight.
const ELSEWHERE: f32 = 0.5;
/// The best passage and its best sentence must hold these parts of the question's weight, or nothing answers it.
const RELEVANT: f32 = 0.3;
const RELEVANT_SENTENCE: f32 = 0.2;
/// What the passage's rank in retrieval and its best sentence count beside what the whole passage holds.
const RANK: f32 = 0.3;
const BEST_SENTENCE: f32 = 0.3;
/// Commands and configuration are quoted where prose says less.
const CODE: f32 = 0.7;
/// Words of a lead-in (`Add a migration.`), which says little without the sentence after it and is quoted with it.
const LEAD_IN: usize = 3;
/// A question of fewer words is a search: that a text holds all of it says nothing against the text.
const REPEATED: usize = 4;

/// A sentence worth quoting.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    /// Number of its passage.
    pub(super) passage: u32,
    pub(super) text: String,
}

struct Candidate {
    /// Place of its passage among the passages, and its own within it.
    passage: usize,
    position: usize,
    text: String,
    /// The sentence quoted with it, as it says too little alone.
    follow: Option<String>,
    stems: HashSet<String>,
    /// What its length and form leave of a match.
    factor: f32,
}

/// The best sentences, best passage first and in reading order within it. Empty when nothing is relevant.
pub(super) fn choose(question: &str, passages: &[Passage]) -> Vec<Chosen> {
    let stemmer = Stemmer::new(Algorithm::English);
    let question = &question[..question.floor_char_boundary(QUESTION_BYTES)];
    let asked = stems(&stemmer, question, Words::Meaningful);
    let candidates = candidates(&stemmer, question, passages);
    let ranking = Ranking::new(&asked, &candidates);
    let Some(best) = ranking.best_passage(&stemmer, passages) else {
        return Vec::new();
    };
    let mut chosen = ranking.choose(best);
    // The best passage comes first, then the others as retrieval ranked them; sentences of one passage stand as they are read.
    chosen.sort_by_key(|c| (c.passage != best, c.passage, c.position));
    let quote = |c: &Candidate| Chosen {
        passage: passages[c.passage].number,
        text: match &c.follow {
            Some(after) => format!("{} {after}", c.text),
            None => c.text.clone(),
        },
    };
    chosen.into_iter().map(quote).collect()
}

/// The asked words by weight, and what may be quoted.
struct Ranking<'a> {
    weights: HashMap<&'a str, f32>,
    whole: f32,
    candidates: &'a [Candidate],
}

impl<'a> Ranking<'a> {
    fn new(asked: &'a HashSet<String>, candidates: &'a [Candidate]) -> Self {
        let weights = weights(asked, candidates);
        let whole = weights.values().sum();
        Self {
            weights,
            whole,
            candidates,
        }
    }

    /// The part of the question's weight that these words hold; words that are `known` already count less.
    fn held(&self, stems: &HashSet<String>, known: &HashSet<&str>) -> f32 {
        let counted = stems.iter().filter_map(|stem| {
            let weight = self.weights.get(stem.as_str())?;
            Some(if known.contains(stem.as_str()) {
                AGAIN * weight
            } else {
                *weight
            })
        });
        counted.sum::<f32>() / self.whole
    }

    /// What a sentence adds to what is `known`. Earlier sentences lead: of equals, they come first.
    fn value(&self, candidate: &Candidate, known: &HashSet<&str>) -> f32 {
        let held = self.held(&candidate.stems, known) * candidate.factor;
        held + if held > 0.0 {
            0.05 / (1.0 + candidate.position as f32)
        } else {
            0.0
        }
    }

    /// The place of the passage that answers, if any does.
    fn best_passage(&self, stemmer: &Stemmer, passages: &[Passage]) -> Option<usize> {
        let nothing = HashSet::new();
        let mut best: Option<(f32, usize)> = None;
        for (n, passage) in passages.iter().enumerate() {
            let sentences = || self.candidates.iter().filter(|c| c.passage == n);
            let mut stems = stems(
                stemmer,
                &format!("{} {}", passage.title, passage.anchor),
                Words::All,
            );
            stems.extend(sentences().flat_map(|c| c.stems.iter().cloned()));
            let sentence = sentences().map(|c| self.value(c, &nothing));
            let sentence = sentence.fold(0.0, f32::max);
            let held = self.held(&stems, &nothing);
            let score = held + BEST_SENTENCE * sentence + RANK / (1.0 + n as f32);
            // A `NaN`, which a question without a word of meaning makes, is none of these.
            let is_relevant = held >= RELEVANT && sentence >= RELEVANT_SENTENCE;
            if is_relevant && best.is_none_or(|(other, _)| score > other) {
                best = Some((score, n));
            }
        }
        best.map(|(_, n)| n)
    }

    /// Sentences of the best passage that together hold most of the question, then the best ones of the others.
    fn choose(&self, best: usize) -> Vec<&'a Candidate> {
        let mut chosen: Vec<&Candidate> = Vec::new();
        let mut known = HashSet::new();
        let mut first = 0.0;
        while chosen.len() < MOST_OF_BEST {
            let of_best = self.candidates.iter().filter(|c| c.passage == best);
            let Some((value, next)) = self.most_valued(of_best, &chosen, &known) else {
                break;
            };
            first = f32::max(first, value);
            if value < first * CUT {
                break;
            }
            let held = self
                .weights
                .keys()
                .filter(|stem| next.stems.contains(**stem));
            known.extend(held.copied());
            chosen.push(next);
        }
        // What another document says of the same is worth a quote, if it says it in one sentence.
        let nothing = HashSet::new();
        while chosen.len() < MOST {
            let others = self
                .candidates
                .iter()
                .filter(|c| c.passage != best && self.held(&c.stems, &nothing) >= ELSEWHERE);
            match self.most_valued(others, &chosen, &nothing) {
                Some((value, next)) if value >= first * CUT => chosen.push(next),
                _ => break,
            }
        }
        chosen
    }

    /// The candidate of the highest value that is not quoted already; of equals, the first.
    fn most_valued(
        &self,
        candidates: impl Iterator<Item = &'a Candidate>,
        chosen: &[&Candidate],
        known: &HashSet<&str>,
    ) -> Option<(f32, &'a Candidate)> {
        // Overlapping passages bring the same sentence twice, and a lead-in brings the one after it.
        let is_quoted = |c: &Candidate| {
            chosen.iter().any(|other| {
                other.text == c.text
                    || other.follow.as_ref() == Some(&c.text)
                    || c.follow.as_ref() == Some(&other.text)
            })
        };
        let place = |c: &Candidate| (c.passage, c.position);
        candidates
            .filter(|c| !is_quoted(c))
            .map(|c| (self.value(c, known), c))
            .max_by(|(a, one), (b, other)| a.total_cmp(b).then(place(other).cmp(&place(one))))
    }
}

fn candidates(stemmer: &Stemmer, question: &str, passages: &[Passage]) -> Vec<Candidate> {
    let question = spaced(question);
    let is_question = question.split(' ').count() >= REPEATED;
    let (mut found, mut left) = (Vec::new(), BYTES);
    for (n, passage) in passages.iter().take(PASSAGES).enumerate() {
        let text = &passage.text[..passage.text.floor_char_boundary(PASSAGE_BYTES.min(left))];
        left -= text.len();
        let mut sentences = text::sentences(text).into_iter().peekable();
        let mut position = 0;
        while let Some(sentence) = sentences.next() {
            position += 1;
            // Questions in a document ask; they do not answer.
            let asks = sentence.text.ends_with('?')
                || is_question && spaced(&sentence.text).contains(&question);
            if asks {
                continue;
            }
            let stems = stems(stemmer, &sentence.text, Words::All);
            if stems.len() < 2 {
                continue;
            }
            let length = (stems.len() as f32 - 15.0).max(0.0);
            // What a colon announces is not quoted with it.
            let form = match sentence.is_code || sentence.text.ends_with(':') {
                true => CODE,
                false => 1.0,
            };
            let leads_in = sentence.opens && sentence.text.split_whitespace().count() <= LEAD_IN;
            found.push(Candidate {
                follow: sentences
                    .peek()
                    .filter(|_| leads_in)
                    .map(|after| after.text.clone()),
                passage: n,
                position: position - 1,
                stems,
                text: sentence.text,
                factor: form / (1.0 + 0.01 * length),
            });
        }
    }
    found
}

/// Rarity of each asked word among the sentences.
fn weights<'a>(asked: &'a HashSet<String>, candidates: &[Candidate]) -> HashMap<&'a str, f32> {
    let count = candidates.len() as f32;
    let mut holding: HashMap<&str, f32> = asked.iter().map(|stem| (stem.as_str(), 0.0)).collect();
    for stem in candidates.iter().flat_map(|candidate| &candidate.stems) {
        if let Some(holding) = holding.get_mut(stem.as_str()) {
            *holding += 1.0;
        }
    }
    let weight = |holding: f32| (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln();
    let weights = holding.into_iter();
    weights
        .map(|(stem, holding)| (stem, weight(holding)))
        .collect()
}

#[cfg(test)]
#[path = "rank_tests.rs"]
mod tests;
