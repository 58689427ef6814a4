//! The common word: a few letters, perhaps a stop behind them, complete in this piece. No scanner looks at it, so it is read
//! once, without being gathered into a clause. Prose is nine tenths of this.
//!
//! Nothing is decided here that [`super::Stream::end_word`] would decide otherwise: a word that might be more than letters, or
//! name a credential, is left to it.

use crate::clause::{LONG_WORD, STEMS};
use crate::words::{Letters, SEED, extend};

/// A word of plain letters that is a clause of its own and holds nothing.
pub(super) struct QuietWord {
    pub(super) letters: Letters,
    /// Behind the letters, before the space.
    pub(super) mark: Option<u8>,
}

impl QuietWord {
    /// Reads the word at the start of `text`, if it is a quiet one and the separator behind it is there.
    #[inline]
    pub(super) fn read(text: &[u8]) -> Option<QuietWord> {
        let mut letters = Letters {
            n: 0,
            capitals: 0,
            first: text.first()? | 0x20,
            hash: SEED,
        };
        let mut stems = Stems::default();
        for byte in text.iter().take(LONG_WORD) {
            let lower = byte | 0x20;
            if !lower.is_ascii_lowercase() {
                break;
            }
            letters.n += 1;
            letters.capitals += u32::from(*byte != lower);
            letters.hash = extend(letters.hash, lower);
            stems.push(lower);
        }
        let mark = match text.get(letters.n as usize..)? {
            [b' ', ..] => None,
            [
                mark @ (b'.' | b',' | b';' | b'!' | b'?' | b')' | b'"'),
                b' ',
                ..,
            ] => Some(*mark),
            _ => return None,
        };
        let is_quiet = (1..LONG_WORD as u32 - 1).contains(&letters.n) && !stems.found();
        is_quiet.then_some(QuietWord { letters, mark })
    }

    /// With the space behind it.
    pub(super) fn len(&self) -> usize {
        self.letters.n as usize + usize::from(self.mark.is_some()) + 1
    }
}

/// Looks for the first letters of all [`STEMS`] at once: each has its bits, and the bit of a letter stays on while the letters before
/// it were there too. It finds more than the stems do, never less.
#[derive(Default)]
struct Stems {
    state: u64,
    found: u64,
}

/// Letters of a stem that are compared.
const HEAD: usize = 4;
/// Stems that hold another one (`apikey`), and `sig=`, in which one sign is no letter.
const fn is_covered(stem: &[u8]) -> bool {
    matches!(stem, b"apikey" | b"accountkey" | b"sig=")
}

/// For each letter the places it has in a stem, then the first and the last place of every stem.
const PLACES: ([u64; 32], u64, u64) = {
    let (mut of_letter, mut firsts, mut lasts) = ([0; 32], 0, 0);
    let (mut at, mut bit) = (0, 0);
    while at < STEMS.len() {
        let stem = STEMS[at];
        // One letter less of one stem, and all of them fit into a word of the machine.
        let length = match stem {
            b"signature" => HEAD - 1,
            _ if stem.len() < HEAD => stem.len(),
            _ => HEAD,
        };
        let mut letter = 0;
        while letter < length && !is_covered(stem) {
            of_letter[(stem[letter] & 31) as usize] |= 1 << bit;
            firsts |= (letter == 0) as u64 * (1 << bit);
            lasts |= (letter + 1 == length) as u64 * (1 << bit);
            letter += 1;
            bit += 1;
        }
        at += 1;
    }
    (of_letter, firsts, lasts)
};
static OF_LETTER: [u64; 32] = PLACES.0;
const FIRSTS: u64 = PLACES.1;
const LASTS: u64 = PLACES.2;

impl Stems {
    #[inline]
    fn push(&mut self, lower: u8) {
        self.state = (self.state << 1 | FIRSTS) & OF_LETTER[usize::from(lower & 31)];
        self.found |= self.state;
    }

    fn found(&self) -> bool {
        self.found & LASTS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clause::{Traits, traits};

    #[test]
    fn what_is_quiet_has_no_trait() {
        for word in ["the", "Plan.", "risks,", "I", "NASA", "second)", "so?"] {
            let text = format!("{word} ");
            assert!(QuietWord::read(text.as_bytes()).is_some(), "{word}");
            assert_eq!(traits(word.as_bytes()), Traits::default(), "{word}");
        }
        for word in [
            "",
            ".",
            "a1",
            "don't",
            "(see",
            "e.g.",
            "a:",
            "fifteenletterss.",
            "x@y",
            "end...",
        ] {
            let text = format!("{word} ");
            assert!(QuietWord::read(text.as_bytes()).is_none(), "{word}");
        }
        assert!(QuietWord::read(b"the").is_none(), "it may go on");
        assert!(QuietWord::read("the\u{e4}".as_bytes()).is_none());
    }

    #[test]
    fn every_stem_is_noticed_wherever_it_stands() {
        for stem in STEMS
            .iter()
            .filter(|stem| stem.is_ascii() && **stem != b"sig=")
        {
            let stem = std::str::from_utf8(stem).unwrap();
            for word in [
                stem.to_owned(),
                format!("my{stem}"),
                format!("{}s", stem.to_uppercase()),
            ] {
                assert!(
                    QuietWord::read(format!("{word} ").as_bytes()).is_none(),
                    "{word}"
                );
            }
        }
    }
}
