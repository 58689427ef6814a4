//! How text becomes terms, the same for documents and queries: split at everything that is no letter or digit, lower case, accents
//! folded, function words left out, English stems. A query is only ever analysed, never parsed, so no text in it is syntax.

use std::collections::HashMap;
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer,
    StopWordFilter, TextAnalyzer,
};

/// The analyser's name in the schema. A change of what it does needs another [`crate::schema::FORMAT`].
pub(crate) const NAME: &str = "english";

/// Longer tokens are noise (base64, hashes); one this long is still a full SHA-256.
const LONGEST_TOKEN: usize = 65;

/// Bytes of a query that are looked at. Beyond that a text says nothing new about what is asked.
const LONGEST_QUERY: usize = 64 * 1024;

/// English function words, with what remains of contractions (`don't` is split into `don` and `t`).
const STOP_WORDS: &str = "a about above after again against all am an and any are as at be because been before being below between both \
    but by can could d did do does doing don down during each few for from further had has have having he her here hers herself him \
    himself his how i if in into is it its itself just ll m me more most my myself no nor not now of off on once only or other our \
    ours ourselves out over own re s same she should so some such t than that the their theirs them themselves then there these they \
    this those through to too under until up ve very was we were what when where which while who whom why will with would you your \
    yours yourself yourselves";

/// The analyser of every text field.
pub(crate) fn english() -> TextAnalyzer {
    split()
        .filter_dynamic(StopWordFilter::remove(
            STOP_WORDS.split_whitespace().map(str::to_owned),
        ))
        .filter_dynamic(Stemmer::new(Language::English))
        .build()
}

fn split() -> tantivy::tokenizer::TextAnalyzerBuilder {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter_dynamic(RemoveLongFilter::limit(LONGEST_TOKEN))
        .filter_dynamic(LowerCaser)
        .filter_dynamic(AsciiFoldingFilter)
}

/// The distinct terms of a query and how often each occurs, in order of first use.
pub(crate) fn query_terms(analyser: &mut TextAnalyzer, text: &str) -> Vec<(String, u32)> {
    let text = &text[..text.floor_char_boundary(LONGEST_QUERY)];
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut terms: Vec<(String, u32)> = Vec::new();
    analyser
        .token_stream(text)
        .process(&mut |token| match places.get(&token.text) {
            Some(&place) => terms[place].1 += 1,
            None => {
                places.insert(token.text.clone(), terms.len());
                terms.push((token.text.clone(), 1));
            }
        });
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let terms = query_terms(&mut english(), text);
        let shown: Vec<_> = terms
            .iter()
            .map(|(term, count)| format!("{term}:{count}"))
            .collect();
        let start: String = text.chars().take(60).collect();
        assert_eq!(shown.join(" "), expected, "{start:?}");
    }

    #[test]
    fn text_becomes_stems() {
        check(
            "How are the permissions of a component narrowed?",
            "permiss:1 compon:1 narrow:1",
        );
        check("flows flow FLOWING", "flow:3");
        check("Café naïve", "cafe:1 naiv:1");
        check("max_num_results don't", "max:1 num:1 result:1");
        check("to be or not to be", "");
    }

    #[test]
    fn hostile_queries_are_only_text() {
        check("", "");
        check("+-!(){}[]^\"~*?:\\/ && || \0\u{feff}\u{200b}", "");
        check("title:secret AND *:*", "titl:1 secret:1");
        check(&"x".repeat(100_000), "");
        check(&"é ".repeat(1_000_000), "e:21845");
    }
}
