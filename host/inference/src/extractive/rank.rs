//! Which sentences answer the question best.
//!
//! Each distinct word of the question that a sentence holds adds the word's rarity among all sentences (idf), so that "permissions"
//! counts and "component" in a text about components hardly does. Long sentences pay a little, sentences near the top of the first
//! passages gain a little: retrieval has ranked the passages already.

use frostem::{Algorithm, Stemmer};
use std::collections::{HashMap, HashSet};

use super::text;
use crate::Passage;

/// Most sentences quoted.
const MOST: usize = 4;
/// Passages looked at: more are not retrieved in practice, and the work stays bounded.
const PASSAGES: usize = 64;
/// Bytes looked at in each.
const PASSAGE_BYTES: usize = 64 << 10;
/// A further sentence must reach this part of the best one's score.
const CUT: f32 = 0.6;
/// The best must hold this part of the question's weight, or nothing answers it.
const RELEVANT: f32 = 0.3;
/// Words that carry no meaning of their own in a question.
const STOP: [&str; 91] = [
    "a", "about", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
    "could", "describe", "did", "do", "does", "doing", "explain", "for", "from", "get", "give",
    "had", "has", "have", "he", "her", "here", "him", "his", "how", "i", "if", "in", "into", "is",
    "it", "its", "just", "list", "may", "me", "might", "must", "my", "no", "not", "of", "on", "or",
    "our", "please", "shall", "she", "should", "show", "so", "some", "tell", "than", "that", "the",
    "their", "them", "then", "there", "these", "they", "this", "those", "to", "us", "was", "we",
    "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with",
    "would", "you", "your",
];

/// A sentence worth quoting.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    /// Number of its passage.
    pub(super) passage: u32,
    pub(super) text: String,
}

struct Candidate {
    passage: usize,
    position: usize,
    text: String,
    stems: HashSet<String>,
    score: f32,
}

/// The best sentences, best passage first and in reading order within it. Empty when nothing is relevant.
pub(super) fn choose(question: &str, passages: &[Passage]) -> Vec<Chosen> {
    let stemmer = Stemmer::new(Algorithm::English);
    let asked = stems(&stemmer, question, Words::Meaningful);
    let mut candidates = candidates(&stemmer, passages);
    if asked.is_empty() || candidates.is_empty() {
        return Vec::new();
    }
    let weights = weights(&asked, &candidates);
    let whole: f32 = weights.values().sum();
    for candidate in &mut candidates {
        let held: f32 = weights
            .iter()
            .filter(|(stem, _)| candidate.stems.contains(**stem))
            .map(|(_, weight)| weight)
            .sum();
        let length = candidate.stems.len() as f32;
        let place =
            0.1 / (1.0 + candidate.position as f32) + 0.1 / (1.0 + candidate.passage as f32);
        candidate.score = if held == 0.0 {
            0.0
        } else {
            held / whole / (1.0 + 0.01 * (length - 15.0).max(0.0)) + place
        };
    }
    pick(candidates, passages)
}

fn pick(mut candidates: Vec<Candidate>, passages: &[Passage]) -> Vec<Chosen> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let best = candidates[0].score;
    if best < RELEVANT {
        return Vec::new();
    }
    let mut chosen: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if chosen.len() == MOST || candidate.score < best * CUT {
            break;
        }
        // Overlapping chunks bring the same sentence twice.
        if !chosen.iter().any(|other| other.text == candidate.text) {
            chosen.push(candidate);
        }
    }
    // The passage of the best sentence comes first; sentences of one passage stand as they are read.
    let rank =
        |passage: usize, chosen: &[Candidate]| chosen.iter().position(|c| c.passage == passage);
    let mut order: Vec<(Option<usize>, usize, usize)> = chosen
        .iter()
        .enumerate()
        .map(|(n, c)| (rank(c.passage, &chosen), c.position, n))
        .collect();
    order.sort_unstable();
    order
        .into_iter()
        .map(|(_, _, n)| Chosen {
            passage: passages[chosen[n].passage].number,
            text: chosen[n].text.clone(),
        })
        .collect()
}

fn candidates(stemmer: &Stemmer, passages: &[Passage]) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (n, passage) in passages.iter().take(PASSAGES).enumerate() {
        let text = &passage.text[..passage.text.floor_char_boundary(PASSAGE_BYTES)];
        for (position, sentence) in text::sentences(text).into_iter().enumerate() {
            // Questions in a document ask; they do not answer.
            if sentence.ends_with('?') {
                continue;
            }
            found.push(Candidate {
                passage: n,
                position,
                stems: stems(stemmer, &sentence, Words::All),
                text: sentence,
                score: 0.0,
            });
        }
    }
    found
}

/// Rarity of each asked word among the sentences.
fn weights<'a>(asked: &'a HashSet<String>, candidates: &[Candidate]) -> HashMap<&'a str, f32> {
    let count = candidates.len() as f32;
    asked
        .iter()
        .map(|stem| {
            let holding = candidates
                .iter()
                .filter(|candidate| candidate.stems.contains(stem))
                .count() as f32;
            (
                stem.as_str(),
                (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln(),
            )
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Words {
    All,
    Meaningful,
}

fn stems(stemmer: &Stemmer, text: &str, words: Words) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= 64)
        .map(str::to_lowercase)
        .filter(|word| words == Words::All || STOP.binary_search(&word.as_str()).is_err())
        .map(|word| stemmer.stem(&word).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages(texts: &[&str]) -> Vec<Passage> {
        let passage = |(text, number): (&&str, u32)| Passage {
            number,
            title: String::new(),
            anchor: String::new(),
            text: (*text).to_owned(),
        };
        texts.iter().zip(7..).map(passage).collect()
    }

    #[test]
    fn stop_words_are_sorted_for_the_search() {
        assert!(STOP.is_sorted());
    }

    #[test]
    fn rare_words_of_the_question_decide() {
        let texts = [
            "Components are small. Every component is a component. A component has a manifest.",
            "The journal is hash-chained. Components write no journal.",
        ];
        let chosen = choose(
            "How is the journal of components chained?",
            &passages(&texts),
        );
        assert_eq!(
            chosen,
            [Chosen {
                passage: 8,
                text: "The journal is hash-chained.".into()
            }]
        );
    }

    #[test]
    fn a_sentence_is_quoted_once_and_in_reading_order() {
        let texts = [
            "Limits are per call. Limits of a call are memory and time.",
            "Limits are per call.",
        ];
        let chosen = choose("Which limits has a call?", &passages(&texts));
        let texts: Vec<_> = chosen
            .iter()
            .map(|c| (c.passage, c.text.as_str()))
            .collect();
        assert_eq!(
            texts,
            [
                (7, "Limits are per call."),
                (7, "Limits of a call are memory and time.")
            ]
        );
    }
}
