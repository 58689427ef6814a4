//! International bank account numbers: country, length of that country, and the mod-97 check of ISO 13616.

use super::Candidate;
use crate::category;
use crate::fold::is_word_byte;

/// Length by country, from the SWIFT registry.
const LENGTHS: [(&[u8; 2], u8); 88] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

pub(crate) fn scan(text: &[u8], found: &mut Vec<Candidate>) {
    for start in 0..text.len().saturating_sub(14) {
        let head = &text[start..start + 4];
        let begins = head[2].is_ascii_digit()
            && head[3].is_ascii_digit()
            && head[0].is_ascii_alphabetic()
            && head[1].is_ascii_alphabetic()
            && !start
                .checked_sub(1)
                .is_some_and(|before| is_word_byte(text[before]));
        if let Some(end) = begins.then(|| end_of_iban(text, start)).flatten() {
            found.push(Candidate::new(start, end, category::IBAN, 85));
        }
    }
}

/// The end of a valid IBAN at `start`; single spaces and hyphens between its characters are allowed.
fn end_of_iban(text: &[u8], start: usize) -> Option<usize> {
    let country = [
        text[start].to_ascii_uppercase(),
        text[start + 1].to_ascii_uppercase(),
    ];
    let length = LENGTHS.iter().find(|(name, _)| **name == country)?.1;
    let mut characters = [0u8; 34];
    let (mut n, mut at) = (0, start);
    while n < usize::from(length) {
        let byte = *text.get(at)?;
        if byte.is_ascii_alphanumeric() {
            characters[n] = byte.to_ascii_uppercase();
            n += 1;
        } else if !(matches!(byte, b' ' | b'-') && text[at - 1].is_ascii_alphanumeric()) {
            return None;
        }
        at += 1;
    }
    if text.get(at).copied().is_some_and(is_word_byte) {
        return None;
    }
    let characters = &characters[..n];
    let remainder = characters[4..]
        .iter()
        .chain(&characters[..4])
        .fold(0u32, |remainder, byte| match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
        });
    (remainder == 1).then_some(at)
}
