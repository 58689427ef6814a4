//! Unicode folding: what a reader (or a model) would take a character for, as one small alphabet.
//!
//! Every scanner of this component works on *folded bytes*: ASCII as it is, every trick that looks like ASCII turned into
//! it (full width, mathematical alphabets, accents, Cyrillic and Greek look-alikes, digits of other scripts), characters
//! nobody sees dropped, and everything else reduced to a class above 0x7f. One byte per folded character keeps offsets a
//! plain parallel array. Folding looks at one character at a time, so the way a stream is cut cannot change it; that is
//! why this is not NFKC of the whole text, which may combine across a cut.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// A letter of a script that is not folded to Latin.
pub(crate) const LETTER: u8 = 0x80;
/// Any other visible character: emoji, mathematical signs, box drawing.
pub(crate) const SYMBOL: u8 = 0x81;
/// A character of a script written without spaces. It ends a word like a space does.
pub(crate) const IDEOGRAPH: u8 = 0x82;

/// What one character becomes.
pub(crate) trait Sink {
    /// A visible character.
    fn visible(&mut self, folded: u8);
    /// An ASCII character written in the invisible Unicode tag block: text only a model reads.
    fn hidden(&mut self, ascii: u8);
}

/// Folds one character into `sink`: nothing, one byte, or a few for ligatures and the like.
#[inline]
pub(crate) fn fold(c: char, sink: &mut impl Sink) {
    match c {
        ' '..='~' | '\n' => sink.visible(c as u8),
        '\t' | '\r' | '\u{b}' | '\u{c}' => sink.visible(b' '),
        '\0'..='\x7f' => {}
        _ => fold_beyond_ascii(c, sink),
    }
}

/// True where a folded byte separates words.
#[inline]
pub(crate) fn is_separator(folded: u8) -> bool {
    matches!(folded, b' ' | b'\n' | IDEOGRAPH)
}

/// A letter or digit, of any script.
#[inline]
pub(crate) fn is_word_byte(folded: u8) -> bool {
    folded.is_ascii_alphanumeric() || folded == LETTER
}

#[cold]
fn fold_beyond_ascii(c: char, sink: &mut impl Sink) {
    if is_ignorable(c) {
        if let Some(ascii @ 0x20..=0x7e) = (c as u32).checked_sub(0xe_0000) {
            sink.hidden(ascii as u8);
        }
        return;
    }
    if let Some(folded) = fold_one(c) {
        sink.visible(folded);
        return;
    }
    let mut any = false;
    decompose_compatible(c, |part| {
        if is_ignorable(part) || is_combining_mark(part) {
            return;
        }
        any = true;
        sink.visible(match part {
            ' '..='~' => part as u8,
            _ => fold_one(part).unwrap_or(if part.is_alphabetic() { LETTER } else { SYMBOL }),
        });
    });
    if !any && !is_combining_mark(c) {
        sink.visible(SYMBOL);
    }
}

/// Characters that leave no mark on a screen, or only change the one before: padding for whoever wants to hide a string.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The folded byte of characters that are decided by a range or a look-alike table.
fn fold_one(c: char) -> Option<u8> {
    Some(match c {
        '\u{85}' | '\u{2028}' | '\u{2029}' => b'\n',
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            b' '
        }
        '\u{2010}'..='\u{2015}'
        | '\u{2212}'
        | '\u{2043}'
        | '\u{fe58}'
        | '\u{fe63}'
        | '\u{ff0d}' => b'-',
        '\u{2018}'..='\u{201b}' | '\u{2032}' | '\u{2bc}' | '\u{b4}' => b'\'',
        '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{ab}' | '\u{bb}' => b'"',
        '\u{3002}' | '\u{ff0e}' | '\u{ff61}' | '\u{2024}' => b'.',
        '\u{3001}' => b',',
        '\u{2044}' | '\u{2215}' => b'/',
        '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}'
        | '\u{e00}'..='\u{e4f}' => IDEOGRAPH,
        _ => match decimal_digit(c) {
            Some(digit) => digit,
            None => look_alike(c)?,
        },
    })
}

/// Decimal digits of the scripts in use, as ASCII.
fn decimal_digit(c: char) -> Option<u8> {
    const ZEROS: [u32; 22] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50,
        0xed0, 0xf20, 0x1040, 0x17e0, 0x1810, 0x1946, 0xa8d0, 0xa9d0, 0xff10,
    ];
    let code = c as u32;
    let zero = ZEROS
        .iter()
        .copied()
        .find(|zero| (*zero..zero + 10).contains(&code))?;
    Some(b'0' + (code - zero) as u8)
}

/// Letters of other scripts that look like a Latin one, by that letter; only pairs that pass at a glance.
const LOOK_ALIKES: &[(&str, u8)] = &[
    ("аαɑᴀӓ", b'a'),
    ("АΑ", b'A'),
    ("Ьƅвβ", b'b'),
    ("ВΒʙ", b'B'),
    ("сϲᴄ", b'c'),
    ("СϹ", b'C'),
    ("ԁᴅɗ", b'd'),
    ("еєҽᴇε", b'e'),
    ("ЕΕЄ", b'E'),
    ("ꜰƒ", b'f'),
    ("Ϝ", b'F'),
    ("ɡɢԌ", b'g'),
    ("һհʜн", b'h'),
    ("НΗ", b'H'),
    ("іıɩιɪӏ", b'i'),
    ("ІΙӀ", b'I'),
    ("јϳᴊ", b'j'),
    ("Ј", b'J'),
    ("кκᴋ", b'k'),
    ("КΚ", b'K'),
    ("ʟ", b'l'),
    ("мᴍ", b'm'),
    ("МΜ", b'M'),
    ("пηɴո", b'n'),
    ("Ν", b'N'),
    ("оοσᴏօ", b'o'),
    ("ОΟ", b'O'),
    ("рρᴘ", b'p'),
    ("РΡ", b'P'),
    ("ԛ", b'q'),
    ("гʀ", b'r'),
    ("ѕꜱ", b's'),
    ("Ѕ", b'S'),
    ("тτᴛ", b't'),
    ("ТΤ", b'T'),
    ("υսᴜ", b'u'),
    ("νѵᴠ", b'v'),
    ("ѡԝωᴡ", b'w'),
    ("хχ", b'x'),
    ("ХΧ", b'X'),
    ("уγʏү", b'y'),
    ("УΥҮ", b'Y'),
    ("ᴢ", b'z'),
    ("Ζ", b'Z'),
    ("Æ", b'A'),
    ("æ", b'a'),
    ("Øø", b'o'),
    ("Łł", b'l'),
    ("Đđ", b'd'),
];

const N_LOOK_ALIKES: usize = {
    let (mut n, mut at) = (0, 0);
    while at < LOOK_ALIKES.len() {
        // All of them are two bytes wide or three; the first byte tells.
        let (text, mut byte) = (LOOK_ALIKES[at].0.as_bytes(), 0);
        while byte < text.len() {
            byte += if text[byte] < 0xe0 { 2 } else { 3 };
            n += 1;
        }
        at += 1;
    }
    n
};

/// The same, sorted by the other letter.
static SORTED_LOOK_ALIKES: [(u32, u8); N_LOOK_ALIKES] = {
    let mut sorted = [(0, 0); N_LOOK_ALIKES];
    let (mut n, mut at) = (0, 0);
    while at < LOOK_ALIKES.len() {
        let (text, latin) = (LOOK_ALIKES[at].0.as_bytes(), LOOK_ALIKES[at].1);
        let mut byte = 0;
        while byte < text.len() {
            let code = if text[byte] < 0xe0 {
                ((text[byte] & 0x1f) as u32) << 6 | (text[byte + 1] & 0x3f) as u32
            } else {
                ((text[byte] & 0xf) as u32) << 12
                    | ((text[byte + 1] & 0x3f) as u32) << 6
                    | (text[byte + 2] & 0x3f) as u32
            };
            byte += if text[byte] < 0xe0 { 2 } else { 3 };
            let mut place = n;
            while place > 0 && sorted[place - 1].0 > code {
                sorted[place] = sorted[place - 1];
                place -= 1;
            }
            sorted[place] = (code, latin);
            n += 1;
        }
        at += 1;
    }
    sorted
};

fn look_alike(c: char) -> Option<u8> {
    let place = SORTED_LOOK_ALIKES
        .binary_search_by_key(&(c as u32), |(code, _)| *code)
        .ok()?;
    Some(SORTED_LOOK_ALIKES[place].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collected {
        visible: Vec<u8>,
        hidden: Vec<u8>,
    }

    impl Sink for Collected {
        fn visible(&mut self, folded: u8) {
            self.visible.push(folded);
        }
        fn hidden(&mut self, ascii: u8) {
            self.hidden.push(ascii);
        }
    }

    fn check(text: &str, expected: &[u8]) {
        let mut collected = Collected::default();
        text.chars().for_each(|c| fold(c, &mut collected));
        assert_eq!(collected.visible, expected, "{text:?}");
    }

    #[test]
    fn every_disguise_of_ascii_becomes_ascii() {
        check("ｉｇｎｏｒｅ", b"ignore");
        check("𝗂𝗀𝗇𝗈𝗋𝖾 𝓪𝓵𝓵", b"ignore all");
        check("іgnоrе", b"ignore");
        check("ïgnörê", b"ignore");
        check("i\u{200b}g\u{ad}n\u{2060}o\u{feff}re", b"ignore");
        check("٤५６", b"456");
        check("①②", b"12");
        check("4\u{2011}5", b"4-5");
        check("a\u{301}\u{20dd}", b"a");
    }

    #[test]
    fn the_rest_keeps_its_class() {
        check("忽略", &[IDEOGRAPH, IDEOGRAPH]);
        check("жж", &[LETTER, LETTER]);
        check("🍃", &[SYMBOL]);
    }

    #[test]
    fn tag_characters_are_reported_as_hidden_text() {
        let mut collected = Collected::default();
        "\u{e0069}\u{e0067}"
            .chars()
            .for_each(|c| fold(c, &mut collected));
        assert_eq!(collected.hidden, b"ig");
        assert!(collected.visible.is_empty());
    }
}
