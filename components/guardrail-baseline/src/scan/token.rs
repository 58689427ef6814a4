//! Tokens that tell what they are: prefixes of known issuers, JWTs, password hashes; and, where nothing but a secret looks
//! like it, long random strings.

use super::{Candidate, Context};
use crate::category::{API_TOKEN, CLOUD_KEY, HIGH_ENTROPY, JWT, PASSWORD_HASH};
use crate::clause::find;
use crate::fold::is_word_byte;

/// Prefix, how many bytes of the token alphabet must follow, category.
const PREFIXES: &[(&[u8], usize, &str)] = &[
    (b"AKIA", 16, CLOUD_KEY),
    (b"ASIA", 16, CLOUD_KEY),
    (b"ABIA", 16, CLOUD_KEY),
    (b"ACCA", 16, CLOUD_KEY),
    (b"AIza", 35, CLOUD_KEY),
    (b"ya29.", 20, CLOUD_KEY),
    (b"GOCSPX-", 20, CLOUD_KEY),
    (b"LTAI", 16, CLOUD_KEY),
    (b"DO00", 16, CLOUD_KEY),
    (b"dop_v1_", 40, CLOUD_KEY),
    (b"doo_v1_", 40, CLOUD_KEY),
    (b"ghp_", 30, API_TOKEN),
    (b"gho_", 30, API_TOKEN),
    (b"ghu_", 30, API_TOKEN),
    (b"ghs_", 30, API_TOKEN),
    (b"ghr_", 30, API_TOKEN),
    (b"github_pat_", 22, API_TOKEN),
    (b"glpat-", 18, API_TOKEN),
    (b"gldt-", 18, API_TOKEN),
    (b"xoxb-", 10, API_TOKEN),
    (b"xoxp-", 10, API_TOKEN),
    (b"xoxa-", 10, API_TOKEN),
    (b"xoxr-", 10, API_TOKEN),
    (b"xoxs-", 10, API_TOKEN),
    (b"xoxe", 20, API_TOKEN),
    (b"xapp-", 20, API_TOKEN),
    (b"sk-ant-", 20, API_TOKEN),
    (b"sk-proj-", 20, API_TOKEN),
    (b"sk-or-", 20, API_TOKEN),
    (b"sk-", 32, API_TOKEN),
    (b"sk_live_", 16, API_TOKEN),
    (b"sk_test_", 16, API_TOKEN),
    (b"rk_live_", 16, API_TOKEN),
    (b"rk_test_", 16, API_TOKEN),
    (b"whsec_", 24, API_TOKEN),
    (b"SG.", 40, API_TOKEN),
    (b"npm_", 34, API_TOKEN),
    (b"pypi-AgE", 40, API_TOKEN),
    (b"hf_", 30, API_TOKEN),
    (b"shpat_", 28, API_TOKEN),
    (b"shpss_", 28, API_TOKEN),
    (b"dckr_pat_", 20, API_TOKEN),
    (b"hvs.", 20, API_TOKEN),
    (b"hvb.", 20, API_TOKEN),
    (b"dp.pt.", 30, API_TOKEN),
    (b"lin_api_", 30, API_TOKEN),
    (b"sq0csp-", 30, API_TOKEN),
    (b"sq0atp-", 20, API_TOKEN),
    (b"EAACEdEose0cBA", 10, API_TOKEN),
    (b"ATATT3x", 40, API_TOKEN),
    (b"AGE-SECRET-KEY-1", 40, API_TOKEN),
    (b"PMAK-", 40, API_TOKEN),
    (b"NRAK-", 20, API_TOKEN),
    (b"glsa_", 30, API_TOKEN),
    (b"r8_", 30, API_TOKEN),
    (b"gsk_", 30, API_TOKEN),
    (b"figd_", 30, API_TOKEN),
    (b"amb_", 40, API_TOKEN),
];

/// Bytes a prefix begins with.
static FIRST_BYTES: [bool; 256] = {
    let (mut first, mut at) = ([false; 256], 0);
    while at < PREFIXES.len() {
        first[PREFIXES[at].0[0] as usize] = true;
        at += 1;
    }
    first
};

/// Heads of password hashes as `crypt`, Apache, LDAP, PHC and Django write them.
const HASHES: &[(&[u8], usize)] = &[
    (b"$2a$", 50),
    (b"$2b$", 50),
    (b"$2y$", 50),
    (b"$1$", 20),
    (b"$5$", 40),
    (b"$6$", 60),
    (b"$y$", 40),
    (b"$7$", 40),
    (b"$apr1$", 20),
    (b"$argon2", 40),
    (b"$P$", 30),
    (b"$H$", 30),
    (b"$scrypt$", 40),
    (b"$pbkdf2", 40),
    (b"{SHA}", 24),
    (b"{SSHA}", 28),
    (b"{SMD5}", 24),
    (b"{CRYPT}", 12),
];

pub(crate) fn scan(text: &[u8], context: &Context, line_ends: bool, found: &mut Vec<Candidate>) {
    for (start, token) in tokens(text) {
        if token.len() >= 12 {
            scan_token(text, start, token, found);
        }
        if token.len() >= 32
            && stands_alone(text, start, token, context, line_ends)
            && is_random(token)
        {
            found.push(Candidate::new(start, start + token.len(), HIGH_ENTROPY, 20));
        }
    }
    for at in (0..text.len()).filter(|&at| matches!(text[at], b'$' | b'{')) {
        if let Some((_, least)) = HASHES.iter().find(|(head, _)| text[at..].starts_with(head)) {
            let length = text[at..]
                .iter()
                .take(512)
                .take_while(|byte| !b" \"'`:,;<>)".contains(byte))
                .count();
            if length >= *least {
                found.push(Candidate::new(at, at + length, PASSWORD_HASH, 75));
            }
        }
    }
    for (host, least) in [
        (&b"hooks.slack.com/services/"[..], 20),
        (b"discord.com/api/webhooks/", 40),
        (b"discordapp.com/api/webhooks/", 40),
    ] {
        if let Some(at) = find(text, host) {
            let length = text[at..]
                .iter()
                .take_while(|byte| is_token_byte(**byte))
                .count();
            if length >= host.len() + least {
                found.push(Candidate::new(at, at + length, API_TOKEN, 85));
            }
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'+' | b'=')
}

/// Runs of the token alphabet, cut after an `=` that assigns.
fn tokens(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() && !is_token_byte(text[at]) {
            at += 1;
        }
        let start = at;
        while at < text.len() && is_token_byte(text[at]) {
            at += 1;
            if text[at - 1] == b'='
                && text
                    .get(at)
                    .is_some_and(|next| next.is_ascii_alphanumeric())
            {
                break;
            }
        }
        (start < at).then(|| (start, &text[start..at]))
    })
}

fn scan_token(text: &[u8], start: usize, token: &[u8], found: &mut Vec<Candidate>) {
    // A token starts where the run starts or after one of its own separators (`user/ghp_…`, `v=AKIA…`).
    let starts = (0..token.len())
        .filter(|&at| at == 0 || matches!(token[at - 1], b'/' | b'=' | b'.' | b'+'));
    let mut done = 0;
    for at in starts {
        if at < done {
            continue;
        }
        let rest = &token[at..];
        if let Some((_, least, category)) = FIRST_BYTES[usize::from(rest[0])]
            .then(|| {
                PREFIXES
                    .iter()
                    .find(|(prefix, ..)| rest.starts_with(prefix))
            })
            .flatten()
        {
            let length = rest
                .iter()
                .take_while(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
                })
                .count();
            let body = &rest[..length];
            let exact_key = *category != CLOUD_KEY
                || *least != 16
                || body.len() >= 20
                    && body[..20]
                        .iter()
                        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            if length >= *least && exact_key && (body.iter().any(u8::is_ascii_digit) || length > 60)
            {
                found.push(Candidate::new(
                    start + at,
                    start + at + length,
                    category,
                    85,
                ));
                done = at + length;
            }
        } else if rest.starts_with(b"eyJ")
            && let Some(length) = jwt(rest)
        {
            found.push(Candidate::new(start + at, start + at + length, JWT, 86));
            done = at + length;
        }
    }
    // Telegram: digits, a colon, and 35 characters that begin with AA.
    if start > 9 && token.starts_with(b"AA") && token.len() >= 35 && text[start - 1] == b':' {
        let digits = text[..start - 1]
            .iter()
            .rev()
            .take(11)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if (8..=10).contains(&digits) {
            found.push(Candidate::new(
                start - 1 - digits,
                start + token.len(),
                API_TOKEN,
                85,
            ));
        }
    }
}

/// `header.payload.signature`, the first two base64url of a JSON object. Of a very long one the signature may be yet to come.
fn jwt(rest: &[u8]) -> Option<usize> {
    // Part by part, so that a row of false starts is not read to its end each time.
    let part = |from: usize| {
        rest[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-=".contains(byte))
            .count()
    };
    let header = part(0);
    if header < 10 || rest.get(header) != Some(&b'.') {
        return None;
    }
    let payload = part(header + 1);
    let length = header + 1 + payload;
    match rest.get(length) {
        _ if payload < 4 => None,
        Some(b'.') => Some(length + 1 + part(length + 1)),
        _ => (length >= 1024).then_some(length),
    }
}

/// Nothing before or after the token on its line, or only what assigns it.
fn stands_alone(
    text: &[u8],
    start: usize,
    token: &[u8],
    context: &Context,
    line_ends: bool,
) -> bool {
    let before = &text[..start];
    let after = &text[start + token.len()..];
    let public = context.near_public_token()
        || token.starts_with(b"AAAA")
        || before.ends_with(b";base64,")
        || [&b"sha1-"[..], b"sha256-", b"sha384-", b"sha512-"]
            .iter()
            .any(|prefix| token.starts_with(prefix))
        || find(text, b"://").is_some();
    let quoted = before
        .last()
        .is_some_and(|quote| matches!(quote, b'"' | b'\'') && after.first() == Some(quote));
    let whole_line = before.is_empty() && after.is_empty() && context.starts_line() && line_ends;
    let assigned = before.last() == Some(&b'=') && after.is_empty();
    !public && (quoted || whole_line || assigned)
}

/// Mixed case, digits, and close to as many different characters as random text of this length has.
pub(crate) fn is_random(token: &[u8]) -> bool {
    let count = |accept: fn(&u8) -> bool| token.iter().filter(|byte| accept(byte)).count();
    let (digits, upper, lower) = (
        count(u8::is_ascii_digit),
        count(u8::is_ascii_uppercase),
        count(u8::is_ascii_lowercase),
    );
    let separators = token.len() - digits - upper - lower;
    digits >= 3
        && upper >= 3
        && lower >= 3
        && separators * 8 <= token.len()
        && entropy(token) >= 4.3
}

/// Shannon entropy in bits per byte.
pub(crate) fn entropy(token: &[u8]) -> f32 {
    let mut counts = [0u32; 128];
    token
        .iter()
        .for_each(|byte| counts[usize::from(byte & 0x7f)] += 1);
    let n = token.len() as f32;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| *count as f32 / n)
        .map(|share| -share * share.log2())
        .sum()
}

/// True for a token that has letters and digits and is no plain word.
pub(crate) fn looks_generated(value: &[u8]) -> bool {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value
        .iter()
        .filter(|byte| byte.is_ascii_alphabetic())
        .count();
    digits >= 2
        && letters >= 2
        && value
            .iter()
            .all(|byte| is_word_byte(*byte) || b"+/=_-.~!@%^&*".contains(byte))
}
