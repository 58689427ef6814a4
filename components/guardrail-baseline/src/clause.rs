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
    /// A short option of a command line, like `-p` or `-pvalue`.
    pub(crate) const OPTION: Traits = Traits(1 << 12);

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
        Traits(bits & 0x1fff)
    }
}

/// Words from this length on are looked at as tokens.
pub(crate) const LONG_WORD: usize = 16;

/// What each byte says about the word it stands in; [`Traits::PUNCTUATION`] stands for its opposite until the word is read.
const BYTE_TRAITS: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => Traits::DIGIT.0 | Traits::PUNCTUATION.0,
            b'a'..=b'z' | b'A'..=b'Z' | LETTER => Traits::PUNCTUATION.0,
            b'@' => Traits::AT.0,
            b':' => Traits::COLON.0,
            b'$' | b'{' => Traits::DOLLAR.0,
            b'%' => Traits::PERCENT.0,
            b'&' => Traits::AMPERSAND.0,
            b'\\' => Traits::BACKSLASH.0,
            b'-' => Traits::DASHES.0,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Reads a word once and says what is in it.
pub(crate) fn traits(word: &[u8]) -> Traits {
    let mut found = 0;
    let mut before = 0;
    let mut is_keyword = false;
    for (at, &byte) in word.iter().enumerate() {
        found |= BYTE_TRAITS[usize::from(byte)];
        let lower = byte | 0x20;
        is_keyword |= may_start_keyword(before, lower) && starts_keyword(&word[at - 1..]);
        before = lower;
    }
    let mut traits = Traits(found ^ Traits::PUNCTUATION.0);
    if traits.has(Traits::DASHES) && !contains(word, b"----") {
        traits = Traits(traits.0 & !Traits::DASHES.0);
    }
    if is_keyword {
        traits = traits.with(Traits::KEYWORD);
    }
    if matches!(word, b"+" | b"(") {
        traits = traits.with(Traits::OPENS_NUMBER);
    }
    if matches!(word, [b'-', b'p' | b'a' | b'w' | b'u', ..]) {
        traits = traits.with(Traits::OPTION);
    }
    if word.len() >= LONG_WORD {
        traits = traits.with(Traits::LONG);
    }
    traits
}

/// The stems of names of credentials. Wide on purpose: this only decides how long a word waits for the next one; what is
/// reported is decided by the scanner.
pub(crate) const STEMS: [&[u8]; 20] = [
    b"pass",
    b"pwd",
    b"psw",
    b"private",
    b"secret",
    b"signature",
    b"sig=",
    b"token",
    b"key",
    b"auth",
    b"apikey",
    b"accountkey",
    b"bearer",
    b"basic",
    b"cred",
    b"cookie",
    b"encrypted",
    b"login",
    b"identified",
    b"salt",
];

/// For each first letter of a stem, the second letters as bits.
const SECOND_LETTERS: [u32; 32] = {
    let mut table = [0; 32];
    let mut at = 0;
    while at < STEMS.len() {
        table[(STEMS[at][0] & 31) as usize] |= 1 << (STEMS[at][1] & 31);
        at += 1;
    }
    table
};

#[inline]
fn may_start_keyword(first: u8, second: u8) -> bool {
    SECOND_LETTERS[usize::from(first & 31)] >> (second & 31) & 1 == 1
}

fn starts_keyword(rest: &[u8]) -> bool {
    STEMS
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
        let iban = self.iban || traits.has(Traits::DIGIT) && starts_like_iban(word);
        Chain {
            number: traits.has(Traits::DIGIT)
                || traits.has(Traits::OPENS_NUMBER)
                || self.number && (punctuation || is_extension(word) || self.iban),
            iban,
            value_words: if traits.has(Traits::KEYWORD) {
                VALUE_WORDS
            } else if traits.has(Traits::OPTION) && word.len() == 2 {
                self.value_words.max(1)
            } else if punctuation {
                self.value_words
            } else {
                self.value_words.saturating_sub(1)
            },
            header_words: if traits.has(Traits::DASHES) && contains(word, b"-BEGIN") {
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
