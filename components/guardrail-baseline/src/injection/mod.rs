//! Prompt injection: text that tries to take the place of the operator's instructions.
//!
//! This module reads folded bytes into words, undoes the disguises that keep words apart (leetspeak, spaced-out letters,
//! base64, hex, percent, entities, escapes) and finds the sentences; [`score`] judges words in their order. A sentence is
//! the unit of a finding. Not a list of bad phrases: people write *about* attacks, and attackers rephrase.

mod decode;
mod lexicon;
mod score;

use crate::clause::Traits;
use crate::fold::{self, IDEOGRAPH, LETTER, Sink};
use crate::policy::Stage;
use crate::state::{Reader, Writer};
use crate::words::Letters;
use score::Score;

/// A sentence longer than this (folded bytes) ends here, so that the part held back for it stays bounded.
const MAX_SENTENCE: u32 = 1024;
/// Letters gathered from spaced-out text (`i g n o r e`) before they are taken as they are.
const MAX_SPACED: usize = 48;
/// A word of more letters is no word.
const MAX_WORD: u32 = 40;

pub(crate) struct Injection {
    word: Word,
    /// Letters that stand alone, one after the other.
    spaced: Vec<u8>,
    gap: u8,
    score: Score,
    sentence: Option<(u64, u64)>,
    sentence_bytes: u32,
    /// The byte before ended a sentence if a separator follows.
    stop: bool,
    /// Words came from the tag block, which nobody reads but a model.
    hidden: Word,
    hidden_span: Option<(u64, u64)>,
    found: Vec<(u64, u64)>,
}

/// A word while it is read: hashes instead of letters, so that it needs no memory.
#[derive(Clone, Copy)]
struct Word {
    hash: u32,
    /// The same word with digits and signs read as the letters they look like.
    leet: u32,
    length: u32,
    first: u8,
    capitals: u32,
    odd: u32,
}

impl Word {
    const EMPTY: Word = Word {
        hash: lexicon::SEED,
        leet: lexicon::SEED,
        length: 0,
        first: 0,
        capitals: 0,
        odd: 0,
    };

    #[inline]
    fn push(&mut self, byte: u8) {
        let lower = byte.to_ascii_lowercase();
        if self.length == 0 {
            self.first = lower;
        }
        self.hash = lexicon::extend(self.hash, lower);
        self.leet = lexicon::extend(self.leet, unleet(lower));
        self.length += 1;
        self.capitals += u32::from(byte.is_ascii_uppercase());
        self.odd += u32::from(!byte.is_ascii_alphabetic());
    }
}

/// True for what ends a sentence if a separator follows.
#[inline]
fn ends_sentence(byte: u8) -> bool {
    matches!(byte, b'.' | b'!' | b'?' | b'\n')
}

/// The letter a digit or sign is written for.
fn unleet(byte: u8) -> u8 {
    match byte {
        b'0' => b'o',
        b'1' | b'!' => b'i',
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        other => other,
    }
}

impl Injection {
    pub(crate) fn new(stage: Stage) -> Injection {
        Injection {
            word: Word::EMPTY,
            spaced: Vec::new(),
            gap: 0,
            score: Score::new(stage),
            sentence: None,
            sentence_bytes: 0,
            stop: false,
            hidden: Word::EMPTY,
            hidden_span: None,
            found: Vec::new(),
        }
    }

    /// One folded byte of the text.
    #[inline]
    pub(crate) fn byte(&mut self, byte: u8, start: u64, end: u64) {
        if self.sentence_bytes == MAX_SENTENCE {
            self.end_sentence();
        }
        let sentence = self.sentence.get_or_insert((start, end));
        sentence.1 = end;
        self.sentence_bytes += 1;
        if fold::is_word_byte(byte) || matches!(byte, b'@' | b'$') && self.word.length > 0 {
            self.word.push(byte);
            self.stop = false;
            return;
        }
        if byte == b'\'' {
            return;
        }
        self.end_word();
        self.gap = self.gap.saturating_add(1);
        if self.stop && matches!(byte, b'\n' | b' ' | IDEOGRAPH) {
            self.end_sentence();
        } else {
            self.stop = ends_sentence(byte) || self.stop && matches!(byte, b'"' | b')' | b']');
            if byte != b' ' {
                self.score.punctuation(byte);
            }
        }
    }

    /// A run of printable ASCII without a space, the first byte of which is at `start`.
    pub(crate) fn plain(&mut self, run: &[u8], start: u64) {
        for (at, &byte) in run.iter().enumerate() {
            let start = start + at as u64;
            match &mut self.sentence {
                Some((_, end))
                    if byte.is_ascii_alphanumeric() && self.sentence_bytes < MAX_SENTENCE =>
                {
                    *end = start + 1;
                    self.sentence_bytes += 1;
                    self.stop = false;
                    self.word.push(byte);
                }
                _ => self.byte(byte, start, start + 1),
            }
        }
    }

    /// A word of plain letters, the first of which is at `start`, the mark behind it if there is one, and a space. False, and nothing
    /// done, where it would not be a word of its own: after another one, or where the sentence is cut.
    #[inline]
    pub(crate) fn quiet_word(&mut self, letters: Letters, mark: Option<u8>, start: u64) -> bool {
        let n_separators = 1 + u8::from(mark.is_some());
        let n = letters.n + u32::from(n_separators);
        if self.word.length > 0 || self.sentence_bytes + n > MAX_SENTENCE {
            return false;
        }
        let end = start + u64::from(n);
        self.sentence.get_or_insert((start, end)).1 = end;
        self.sentence_bytes += n;
        self.take_word(Word {
            hash: letters.hash,
            leet: letters.hash,
            length: letters.n,
            first: letters.first,
            capitals: letters.capitals,
            odd: 0,
        });
        self.gap = n_separators;
        self.stop = false;
        if let Some(mark) = mark {
            self.score.punctuation(mark);
            if ends_sentence(mark) {
                self.end_sentence();
            }
        }
        true
    }

    /// One ASCII character written invisibly.
    pub(crate) fn hidden(&mut self, ascii: u8, start: u64, end: u64) {
        let span = self.hidden_span.get_or_insert((start, end));
        span.1 = end;
        let sentence = self.sentence.get_or_insert((start, end));
        sentence.1 = end;
        if ascii.is_ascii_alphanumeric() {
            self.hidden.push(ascii);
        } else {
            self.end_hidden_word();
        }
    }

    /// A complete word of the text, in case it is an encoding of something else.
    pub(crate) fn word(&mut self, word: &[u8], traits: Traits, start: u64, end: u64) {
        self.score.markup(word);
        if !(traits.has(Traits::LONG)
            || traits.has(Traits::PERCENT)
            || traits.has(Traits::AMPERSAND)
            || traits.has(Traits::BACKSLASH))
        {
            return;
        }
        let Some(decoded) = decode::decode(word, traits) else {
            return;
        };
        self.sentence.get_or_insert((start, end));
        let text = String::from_utf8_lossy(&decoded);
        let mut words = Words {
            word: Word::EMPTY,
            injection: self,
        };
        text.chars().for_each(|c| fold::fold(c, &mut words));
        words.visible(b' ');
    }

    /// The text is complete.
    pub(crate) fn finish(&mut self, _end: u64) {
        self.end_word();
        self.end_hidden_word();
        self.end_spaced();
        self.end_sentence();
    }

    /// True when a sentence was found to be an attack and not yet taken.
    #[inline]
    pub(crate) fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// The sentences found since the last call.
    pub(crate) fn take_found(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.found)
    }

    /// Where the sentence that is not yet judged begins.
    pub(crate) fn sentence_start(&self) -> Option<u64> {
        self.sentence.map(|(start, _)| start)
    }

    fn end_word(&mut self) {
        if self.word.length == 0 {
            return;
        }
        let word = std::mem::replace(&mut self.word, Word::EMPTY);
        self.take_word(word);
    }

    #[inline]
    fn take_word(&mut self, word: Word) {
        if word.length == 1 && word.odd == 0 && self.gap <= 3 {
            if self.spaced.len() == MAX_SPACED {
                self.end_spaced();
            }
            self.spaced.push(word.first);
        } else {
            self.end_spaced();
        }
        self.gap = 0;
        self.judge(word);
    }

    /// Letters that stood alone are one word, or several without a space between them.
    #[inline]
    fn end_spaced(&mut self) {
        if self.spaced.is_empty() {
            return;
        }
        if self.spaced.len() >= 5 {
            let letters = std::mem::take(&mut self.spaced);
            decode::split_words(&letters, |part| {
                let mut word = Word::EMPTY;
                part.iter().for_each(|letter| word.push(*letter));
                self.judge(word);
            });
        }
        self.spaced.clear();
    }

    fn end_hidden_word(&mut self) {
        let word = std::mem::replace(&mut self.hidden, Word::EMPTY);
        if word.length > 0 {
            self.judge(word);
        }
    }

    fn judge(&mut self, word: Word) {
        if word.length > MAX_WORD {
            self.score.unknown();
            return;
        }
        let known = lexicon::classes(word.hash);
        if known == 0 && word.odd == 0 && word.capitals < word.length.max(2) {
            self.score.plain_word(word.hash);
        } else if known == 0 && word.odd > 0 && word.length > 2 && word.odd * 2 <= word.length {
            self.score
                .word(word.leet, lexicon::classes(word.leet), false);
        } else {
            self.score.word(
                word.hash,
                known,
                word.capitals == word.length && word.length > 1,
            );
        }
    }

    fn end_sentence(&mut self) {
        self.stop = false;
        self.sentence_bytes = 0;
        if let Some((start, end)) = self.sentence.take()
            && self.score.end_sentence()
        {
            self.found.push((start, end));
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        for word in [self.word, self.hidden] {
            writer.numbers([
                word.hash,
                word.leet,
                word.length,
                u32::from(word.first),
                word.capitals,
                word.odd,
            ]);
        }
        writer.bytes(&self.spaced);
        writer.number(u64::from(self.gap));
        for span in [self.sentence, self.hidden_span] {
            let (start, end) = span.unwrap_or((0, 0));
            writer.number(start);
            writer.number(end);
        }
        writer.number(u64::from(self.sentence_bytes));
        writer.number(u64::from(self.stop));
        self.score.write(writer);
    }

    pub(crate) fn read(stage: Stage, reader: &mut Reader<'_>, consumed: u64) -> Option<Injection> {
        let mut injection = Injection::new(stage);
        for word in [&mut injection.word, &mut injection.hidden] {
            let mut next = || Some(reader.bounded(u64::from(u32::MAX))? as u32);
            *word = Word {
                hash: next()?,
                leet: next()?,
                length: next()?,
                first: next()? as u8,
                capitals: next()?,
                odd: next()?,
            };
            // Far from overflow whatever is counted on top.
            if word.length > 1 << 30 || word.capitals > word.length || word.odd > word.length {
                return None;
            }
        }
        injection.spaced = reader.bytes(MAX_SPACED)?.to_vec();
        injection.gap = reader.bounded(255)? as u8;
        for span in [&mut injection.sentence, &mut injection.hidden_span] {
            let (start, end) = (reader.bounded(consumed)?, reader.bounded(consumed)?);
            if start > end {
                return None;
            }
            *span = (start < end).then_some((start, end));
        }
        injection.sentence_bytes = reader.bounded(u64::from(MAX_SENTENCE))? as u32;
        injection.stop = reader.flag()?;
        injection.score.read(reader)?;
        Some(injection)
    }
}

/// Feeds decoded text to the score, as if it stood in the clear.
struct Words<'a> {
    word: Word,
    injection: &'a mut Injection,
}

impl Sink for Words<'_> {
    fn visible(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() || byte == LETTER {
            self.word.push(byte);
        } else if byte != b'\'' && self.word.length > 0 {
            let word = std::mem::replace(&mut self.word, Word::EMPTY);
            self.injection.judge(word);
        }
    }

    fn hidden(&mut self, ascii: u8) {
        self.visible(ascii);
    }
}
