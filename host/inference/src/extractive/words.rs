//! Words of a question and of a text, made comparable.

use frostem::Stemmer;
use std::collections::HashSet;

/// Words that carry no meaning of their own in a question.
const STOP: [&str; 101] = [
    "a",
    "about",
    "am",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "been",
    "between",
    "but",
    "by",
    "can",
    "could",
    "describe",
    "did",
    "difference",
    "differences",
    "do",
    "does",
    "doing",
    "explain",
    "for",
    "from",
    "get",
    "give",
    "given",
    "gives",
    "had",
    "happen",
    "happens",
    "has",
    "have",
    "he",
    "her",
    "here",
    "him",
    "his",
    "how",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "just",
    "list",
    "may",
    "me",
    "mean",
    "means",
    "might",
    "must",
    "my",
    "no",
    "not",
    "of",
    "on",
    "or",
    "our",
    "please",
    "shall",
    "she",
    "should",
    "show",
    "so",
    "some",
    "tell",
    "than",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "to",
    "us",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "which",
    "who",
    "whom",
    "whose",
    "why",
    "will",
    "with",
    "without",
    "would",
    "you",
    "your",
];

/// Which words of a text count.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Words {
    All,
    Meaningful,
}

/// The stems of its words.
pub(super) fn stems(stemmer: &Stemmer, text: &str, words: Words) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= 64)
        .map(str::to_lowercase)
        .filter(|word| words == Words::All || STOP.binary_search(&word.as_str()).is_err())
        .map(|word| stemmer.stem(&word).into_owned())
        .collect()
}

/// The words in lower case with one space between them, whatever stood there.
pub(super) fn spaced(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::STOP;

    #[test]
    fn stop_words_are_sorted_for_the_search() {
        assert!(STOP.is_sorted());
    }
}
