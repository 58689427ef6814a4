//! Private keys in PEM and alike: the header is recognised here, the body is followed by the engine.

use super::Candidate;
use crate::category;
use crate::clause::{contains, find};

/// How a PuTTY key file announces the private half.
const PUTTY: &[u8] = b"Private-Lines: ";

/// Proposes a key from its `-----BEGIN` (or PuTTY's announcement) to the end of the clause, which ends with the header.
pub(crate) fn scan(text: &[u8], found: &mut Vec<Candidate>) {
    if let Some(start) = find(text, b"-BEGIN").filter(|_| is_key_header(text)) {
        let dashes = text[..start]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'-')
            .count();
        found.push(Candidate::new(
            start - dashes,
            text.len(),
            category::PRIVATE_KEY,
            100,
        ));
    } else if text
        .strip_prefix(PUTTY)
        .is_some_and(|lines| lines.iter().all(u8::is_ascii_digit))
    {
        found.push(Candidate::new(0, text.len(), category::PRIVATE_KEY, 100));
    }
}

/// Does the clause end with the header of a private key?
pub(crate) fn is_key_header(text: &[u8]) -> bool {
    find(text, b"-BEGIN").is_some_and(|begin| {
        let rest = &text[begin..];
        find(rest, b"PRIVATE KEY").is_some_and(|key| contains(&rest[key..], b"--"))
    })
}

/// May `word` stand in the body of a key? Words of prose are too short, so a header that is only mentioned swallows nothing.
pub(crate) fn is_key_body(word: &[u8]) -> bool {
    const LONG_ENOUGH: usize = 16;
    let names_header = [
        &b"Proc-Type:"[..],
        b"DEK-Info:",
        b"Version:",
        b"Comment:",
        b"4,ENCRYPTED",
    ];
    contains(word, b"-END")
        || contains(word, b"----")
        || names_header.iter().any(|name| word.starts_with(name))
        || word.len() >= LONG_ENOUGH
            && word
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/=\\\",:-'".contains(byte))
        || word.ends_with(b"=") && word.len() >= 2
}

/// Does `word` finish the `-----END … KEY-----` line?
pub(crate) fn ends_key(word: &[u8]) -> bool {
    find(word, b"KEY").is_some_and(|key| contains(&word[key..], b"--"))
        || find(word, b"BLOCK").is_some_and(|key| contains(&word[key..], b"--"))
}
