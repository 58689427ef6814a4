//! Where a text may be cut: words, the traits that decide which scanners look at them, and which words belong together.
//!
//! A *clause* is a run of words of one line that some forbidden string might span: the groups of a card number, a keyword
//! and its value. Everything else is a clause of one word. Whether two words belong together depends on those words alone,
//! never on how the stream was cut; so a text has the same clauses in one piece as byte by byte, and that is the whole
//! reason why nothing leaks at a chunk boundary.

use crate::fold::{LETTER, is_word_byte};

/// What was noticed while reading a word or clause; scanners run only where their trait is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u16);

impl Traits {
    pub(crate) const DIGIT: Traits = Traits(1);
    pub(crate) const AT: Traits = Traits(1 << 1);
    pub(crate) const COLON: Traits = Traits(1 << 2);
    /// A word that names a credential: `password`, `token`, `AWS_SECRET_ACCESS_KEY`.
    pub(crate) const KEYWORD: Traits = Traits(1 << 3);
    /// Long enough to be a token of its own.
    pub(crate) const LONG: Traits = Traits(1 << 4);
    pub(crate) const DASHES: Traits = Traits(1 << 5);
    pub(crate) const DOLLAR: Traits = Traits(1 << 6);
    /// Nothing in it is a letter or digit.
    pub(crate) const PUNCTUATION: Traits = Traits(1 << 7);
    pub(crate) const PERCENT: Traits = Traits(1 << 8);
    pub(crate) const AMPERSAND: Traits = Traits(1 << 9);
    pub(crate) const BACKSLASH: Traits = Traits(1 << 10);
    /// `+` or `(` alone, as before a telephone number.
    pub(crate) const OPENS_NUMBER: Traits = Traits(1 << 11);

    pub(crate) fn has(self, other: Traits) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn with(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }

    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    pub(crate) fn from_bits(bits: u16) -> Traits {
        Traits(bits & 0xfff)
    }
}

/// Words from this length on are looked at as tokens.
const LONG_WORD: usize = 16;

/// Reads a word once and says what is in it.
pub(crate) fn traits(word: &[u8]) -> Traits {
    let mut found = Traits(0);
    let mut any_alphanumeric = false;
    for (at, &byte) in word.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                any_alphanumeric = true;
                found = found.with(Traits::DIGIT);
            }
            b'a'..=b'z' | b'A'..=b'Z' => {
                any_alphanumeric = true;
                if !found.has(Traits::KEYWORD) && starts_keyword(word, at) {
                    found = found.with(Traits::KEYWORD);
                }
            }
            LETTER => any_alphanumeric = true,
            b'@' => found = found.with(Traits::AT),
            b':' => found = found.with(Traits::COLON),
            b'$' | b'{' => found = found.with(Traits::DOLLAR),
            b'%' => found = found.with(Traits::PERCENT),
            b'&' => found = found.with(Traits::AMPERSAND),
            b'\\' => found = found.with(Traits::BACKSLASH),
            b'-' if word[at..].starts_with(b"----") => found = found.with(Traits::DASHES),
            b'+' | b'(' if word.len() == 1 => found = found.with(Traits::OPENS_NUMBER),
            _ => {}
        }
    }
    if !any_alphanumeric {
        found = found.with(Traits::PUNCTUATION);
    }
    if word.len() >= LONG_WORD {
        found = found.with(Traits::LONG);
    }
    found
}

/// The stems of names of credentials, each with how many of its bytes must match. Wide on purpose: this only decides how
/// long a word waits for the next one; what is reported is decided by the scanner.
fn starts_keyword(word: &[u8], at: usize) -> bool {
    let rest = &word[at..];
    let stems: &[&[u8]] = match rest[0] | 0x20 {
        b'p' => &[b"pass", b"pwd", b"psw", b"private"],
        b's' => &[b"secret", b"signature", b"sig="],
        b't' => &[b"token"],
        b'k' => &[b"key"],
        b'a' => &[b"auth", b"apikey", b"accountkey"],
        b'b' => &[b"bearer", b"basic"],
        b'c' => &[b"cred", b"cookie"],
        b'e' => &[b"encrypted"],
        b'l' => &[b"login"],
        b'i' => &[b"identified"],
        _ => return false,
    };
    stems
        .iter()
        .any(|stem| starts_with_ignoring_case(rest, stem))
}

/// True where `text` starts with `prefix`, which is lower case.
pub(crate) fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.len() >= prefix.len()
        && text
            .iter()
            .zip(prefix)
            .all(|(a, b)| a.to_ascii_lowercase() == *b)
}

/// What the words of an open clause still wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The last word has digits: a number may go on.
    pub(crate) number: bool,
    /// The clause starts like an IBAN, so groups of letters belong to it.
    pub(crate) iban: bool,
    /// How many words more may hold the value of a credential that was named.
    pub(crate) value_words: u8,
    /// How many words more may complete a `-----BEGIN … PRIVATE KEY-----`.
    pub(crate) header_words: u8,
}

/// A value follows its keyword by at most this many words (`password for the server is hunter2`).
const VALUE_WORDS: u8 = 4;

impl Chain {
    /// Does `word` belong to the clause so far?
    pub(crate) fn links(self, word: &[u8], traits: Traits) -> bool {
        self.value_words > 0
            || self.header_words > 0
            || self.number
                && (traits.has(Traits::DIGIT)
                    || traits.has(Traits::PUNCTUATION)
                    || is_extension(word)
                    || self.iban && word.len() <= 4 && word.iter().all(u8::is_ascii_alphanumeric))
    }

    /// The chain after one more word of the clause.
    pub(crate) fn then(self, word: &[u8], traits: Traits) -> Chain {
        let punctuation = traits.has(Traits::PUNCTUATION);
        let iban = self.iban || starts_like_iban(word);
        Chain {
            number: traits.has(Traits::DIGIT)
                || traits.has(Traits::OPENS_NUMBER)
                || self.number && (punctuation || is_extension(word) || self.iban),
            iban,
            value_words: if traits.has(Traits::KEYWORD) {
                VALUE_WORDS
            } else if punctuation {
                self.value_words
            } else {
                self.value_words.saturating_sub(1)
            },
            header_words: if contains(word, b"-BEGIN") {
                6
            } else {
                self.header_words.saturating_sub(1)
            },
        }
    }

    /// True when the clause cannot end here.
    pub(crate) fn is_open(self) -> bool {
        self.number || self.value_words > 0 || self.header_words > 0
    }
}

fn is_extension(word: &[u8]) -> bool {
    let word = word.strip_suffix(b".").unwrap_or(word);
    [&b"x"[..], b"ext", b"extension"]
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name))
}

/// Two letters, two digits, then letters and digits: the head of an IBAN, perhaps inside brackets or after `IBAN:`.
fn starts_like_iban(word: &[u8]) -> bool {
    let head = word
        .rsplit(|byte| !is_word_byte(*byte))
        .find(|part| part.len() >= 4)
        .unwrap_or(word);
    head.len() >= 4
        && head[..2].iter().all(u8::is_ascii_alphabetic)
        && head[2..4].iter().all(u8::is_ascii_digit)
}

pub(crate) fn contains(text: &[u8], needle: &[u8]) -> bool {
    find(text, needle).is_some()
}

/// First place of `needle` in `text`. Needles here start with a byte that is rare in text, so this is linear in practice
/// and never worse than the product of both lengths, of which the needle's is a constant.
pub(crate) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    (0..text.len().checked_sub(needle.len())? + 1)
        .find(|&at| text[at] == first && text[at..].starts_with(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_after(words: &[&str]) -> bool {
        words
            .iter()
            .fold(Chain::default(), |chain, word| {
                chain.then(word.as_bytes(), traits(word.as_bytes()))
            })
            .is_open()
    }

    #[test]
    fn plain_words_do_not_wait() {
        for word in [
            "the",
            "Straße",
            "well-known",
            "end.",
            "(see",
            "\"quoted\"",
            "e.g.",
        ] {
            assert!(!open_after(&[word]), "{word}");
        }
    }

    #[test]
    fn numbers_and_credentials_wait() {
        assert!(open_after(&["4532"]));
        assert!(open_after(&["+"]));
        assert!(open_after(&["GB29", "NWBK"]));
        assert!(open_after(&["Password", "is"]));
        assert!(open_after(&["-----BEGIN", "RSA"]));
        assert!(!open_after(&["password", "a", "b", "c", "d"]));
    }
}
