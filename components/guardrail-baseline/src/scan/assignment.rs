//! A credential by its name: `password = …`, `"api_key": "…"`, `<Pass>…</Pass>`, `define('DB_PASSWORD', '…')`,
//! `login me password …`, `Authorization: Bearer …`, and the colon-separated line of a `.pgpass`.
//!
//! The name decides how much the value must prove: after `password` almost anything is one, after `key` or `token` it has to
//! look generated. Code that handles credentials (`password = get_password()`, `token: String`) is what must not be found.

use super::token::{entropy, looks_generated};
use super::{Candidate, Context};
use crate::category::{BASIC_AUTH, BEARER_TOKEN, KEY, PASSWORD};
use crate::clause::{find, starts_with_ignoring_case};

/// What a name promises about its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Password,
    /// A secret that a person may have chosen, but hardly as a plain word.
    Secret,
    /// Generated: letters and digits, long.
    Token,
    /// A word with other meanings; only a long random value counts.
    Weak,
}

/// How a value is attached to its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Sign,
    Element,
    Space,
    Is,
}

pub(crate) fn scan(
    text: &[u8],
    context: &Context,
    lookahead: &[u8],
    line_ends: bool,
    found: &mut Vec<Candidate>,
) {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut at = 0;
    while at < text.len() {
        if !is_name(text[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < text.len() && is_name(text[at]) {
            at += 1;
        }
        let name = &text[start..at];
        if let Some((value_start, value_end)) = authorization(text, name, at) {
            let category = if name.eq_ignore_ascii_case(b"basic") {
                BASIC_AUTH
            } else {
                BEARER_TOKEN
            };
            found.push(Candidate::new(value_start, value_end, category, 88));
            at = value_end;
        } else if let Some(kind) = kind(name)
            && let Some((value_start, value_end)) =
                value(text, start, at, kind, context, lookahead, line_ends)
        {
            let category = if kind == Kind::Password {
                PASSWORD
            } else {
                KEY
            };
            found.push(Candidate::new(value_start, value_end, category, 50));
            at = value_end;
        }
    }
}

/// The last field of `host:port:database:user:password` alone on its line.
pub(crate) fn scan_pgpass(
    text: &[u8],
    context: &Context,
    line_ends: bool,
    found: &mut Vec<Candidate>,
) {
    if !(context.starts_line() && line_ends) || text.contains(&b' ') {
        return;
    }
    let mut fields = text.split(|byte| *byte == b':');
    if let (Some(host), Some(port), Some(database), Some(user), Some(password), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) {
        let is_port =
            port == b"*" || (2..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
        let has_letter = |field: &[u8]| field == b"*" || field.iter().any(u8::is_ascii_alphabetic);
        if is_port
            && !host.is_empty()
            && has_letter(database)
            && has_letter(user)
            && password.len() >= 4
        {
            found.push(Candidate::new(
                text.len() - password.len(),
                text.len(),
                PASSWORD,
                50,
            ));
        }
    }
}

/// `Bearer <token>` and `Basic <base64>`.
fn authorization(text: &[u8], name: &[u8], end: usize) -> Option<(usize, usize)> {
    if !(name.eq_ignore_ascii_case(b"bearer") || name.eq_ignore_ascii_case(b"basic"))
        || text.get(end) != Some(&b' ')
    {
        return None;
    }
    let start = end + 1;
    let length = text[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=_-.~".contains(byte))
        .count();
    let value = &text[start..start + length];
    let is_token = length >= 16
        && (looks_generated(value)
            || entropy(value) > 3.8 && value.iter().any(u8::is_ascii_uppercase));
    is_token.then_some((start, start + length))
}

/// Does this name belong to a credential?
fn kind(name: &[u8]) -> Option<Kind> {
    if !(3..=64).contains(&name.len()) {
        return None;
    }
    // Names of things about a credential, not of the credential.
    const ABOUT: [&[u8]; 46] = [
        b"field",
        b"file",
        b"path",
        b"name",
        b"length",
        b"len",
        b"min",
        b"max",
        b"count",
        b"expires",
        b"expiry",
        b"expiration",
        b"timeout",
        b"ttl",
        b"url",
        b"uri",
        b"endpoint",
        b"type",
        b"policy",
        b"changed",
        b"hint",
        b"label",
        b"placeholder",
        b"algorithm",
        b"regex",
        b"enabled",
        b"required",
        b"limit",
        b"limits",
        b"usage",
        b"tokens",
        b"passwords",
        b"keys",
        b"secrets",
        b"reset",
        b"age",
        b"host",
        b"error",
        b"index",
        b"size",
        b"prefix",
        b"format",
        b"version",
        b"public",
        b"keyid",
        b"keyword",
    ];
    if ABOUT
        .iter()
        .any(|suffix| ends_with_ignoring_case(name, suffix))
    {
        return None;
    }
    let has = |stem: &[u8]| (0..name.len()).any(|at| starts_with_ignoring_case(&name[at..], stem));
    let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
    if has(b"public")
        || has(b"tokeniz")
        || has(b"keyboard")
        || has(b"passage")
        || has(b"author") && !has(b"authoriz")
    {
        None
    } else if has(b"encrypted") {
        Some(Kind::Token)
    } else if has(b"password")
        || has(b"passwd")
        || has(b"passphrase")
        || has(b"passwrd")
        || ends_with_ignoring_case(name, b"pwd")
        || is(b"psw")
        || is(b"pass")
        || ends_with_ignoring_case(name, b"_pass")
        || ends_with_ignoring_case(name, b"-pass")
        || name.ends_with(b"Pass")
        || is(b"dbpass")
    {
        Some(Kind::Password)
    } else if has(b"secret") {
        Some(Kind::Secret)
    } else if has(b"token")
        || has(b"apikey")
        || has(b"api_key")
        || has(b"api-key")
        || has(b"access_key")
        || has(b"access-key")
        || has(b"accesskey")
        || has(b"private_key")
        || has(b"privatekey")
        || has(b"auth_key")
        || has(b"authkey")
        || has(b"encryption_key")
        || has(b"client_key")
        || has(b"account_key")
        || has(b"accountkey")
        || has(b"master_key")
        || has(b"signing_key")
        || has(b"service_key")
        || has(b"_key_base")
        || has(b"credential")
        || is(b"auth")
        || is(b"_auth")
        || ends_with_ignoring_case(name, b"_salt")
    {
        Some(Kind::Token)
    } else if has(b"key") || has(b"auth") || has(b"sig") || has(b"cookie") {
        Some(Kind::Weak)
    } else {
        None
    }
}

fn ends_with_ignoring_case(text: &[u8], suffix: &[u8]) -> bool {
    text.len() >= suffix.len() && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// The value that follows a name, if it is one.
fn value(
    text: &[u8],
    name_start: usize,
    name_end: usize,
    kind: Kind,
    context: &Context,
    lookahead: &[u8],
    line_ends: bool,
) -> Option<(usize, usize)> {
    let skip = |from: usize, accept: &[u8]| {
        from + text[from..]
            .iter()
            .take_while(|byte| accept.contains(byte))
            .count()
    };
    let closed = skip(name_end, b"\"'`])");
    let was_quoted = closed > name_end;
    let spaced = skip(closed, b" ");
    let rest = &text[spaced..];
    let (link, after) = match rest {
        [b'=', b'=', ..] | [b'=', b'~', ..] | [b':', b':', ..] => return None,
        [b'=' | b':', b'>' | b'=', ..] => (Link::Sign, spaced + 2),
        [b'=' | b':', ..] => (Link::Sign, spaced + 1),
        // A call like `define('NAME', 'value')`; a list of names is no assignment.
        [b',', ..] if was_quoted && opens_call(&text[..name_start]) => (Link::Sign, spaced + 1),
        // `<option name="password" value="…">`
        [b'v', b'a', b'l', b'u', b'e', b'=', ..] if was_quoted => (Link::Sign, spaced + 6),
        _ if name_start > 0 && text[name_start - 1] == b'<' => {
            let tag = &text[name_end..text.len().min(name_end + MAX_TAG)];
            (Link::Element, name_end + find(tag, b">")? + 1)
        }
        [b'i', b's', b' ' | b':', ..] | [b'w', b'a', b's', b' ', ..] => (
            Link::Is,
            spaced + rest.iter().position(|byte| matches!(byte, b' ' | b':'))? + 1,
        ),
        _ if spaced > closed => (Link::Space, spaced),
        _ => return None,
    };
    let start = skip(after, if link == Link::Element { b"" } else { b" " });
    let quote = text
        .get(start)
        .copied()
        .filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    let (start, end) = match quote {
        Some(quote) => (
            start + 1,
            start
                + 1
                + text[start + 1..]
                    .iter()
                    .take_while(|byte| **byte != quote)
                    .count(),
        ),
        None if link == Link::Element => (
            start,
            start
                + text[start..]
                    .iter()
                    .take_while(|byte| **byte != b'<')
                    .count(),
        ),
        None => (
            start,
            start
                + text[start..]
                    .iter()
                    .take_while(|byte| !b" ,;&<>\"')}]".contains(byte))
                    .count(),
        ),
    };
    let value = &text[start..end];
    let ends_line = line_ends
        && lookahead.is_empty()
        && text[end..].iter().all(|byte| b"\"' ;,)".contains(byte));
    let form = Form {
        link,
        quoted: quote.is_some(),
        alone: context.starts_line() && ends_line && name_start <= 24,
        logs_in: link == Link::Space && logs_in(text, name_start),
    };
    is_credential(value, kind, form).then_some((start, end))
}

/// What stands around a value.
#[derive(Clone, Copy)]
struct Form {
    link: Link,
    quoted: bool,
    /// Name and value fill the line, as in a configuration file.
    alone: bool,
    /// `login` or `user` with its value stands before.
    logs_in: bool,
}

/// How far a tag or a `login` reaches.
const MAX_TAG: usize = 128;

fn logs_in(text: &[u8], name_start: usize) -> bool {
    let before = &text[name_start.saturating_sub(MAX_TAG)..name_start];
    find(before, b"login ").is_some() || find(before, b"user ").is_some()
}

/// Does the quote before a name follow the parenthesis of a call?
fn opens_call(before: &[u8]) -> bool {
    let Some((b'"' | b'\'', before)) = before.split_last() else {
        return false;
    };
    before.iter().rev().find(|byte| **byte != b' ') == Some(&b'(')
}

fn is_credential(value: &[u8], kind: Kind, form: Form) -> bool {
    if value.len() < 4 || is_stand_in(value) {
        return false;
    }
    let digits = value.iter().any(u8::is_ascii_digit);
    let signs = value.iter().any(|byte| b"!@#$%^&*+?~".contains(byte));
    let settled = form.quoted || form.link == Link::Element;
    let spaces = value.contains(&b' ');
    match kind {
        Kind::Password => match form.link {
            Link::Sign | Link::Element if settled => !(spaces && !digits && !signs),
            Link::Sign | Link::Element => {
                (digits || signs) && value.len() >= 4 && !is_expression(value)
                    || form.alone && !is_expression(value) && !is_type(value)
            }
            Link::Is => (digits || signs) && (value.len() >= 6) && !is_expression(value),
            Link::Space => {
                (form.logs_in
                    || form.quoted && digits
                    || form.alone && digits && !value.ends_with(b"."))
                    && !is_expression(value)
                    && !spaces
            }
        },
        // What a generator of salts wrote: every kind of character, spaces included.
        Kind::Secret | Kind::Token
            if settled && value.len() >= 40 && digits && signs && entropy(value) >= 4.5 =>
        {
            true
        }
        _ if spaces || is_expression(value) => false,
        Kind::Secret | Kind::Token if matches!(form.link, Link::Sign | Link::Element) => {
            let least = if kind == Kind::Secret { 8 } else { 12 };
            value.len() >= least
                && (looks_generated(value)
                    || value.len() >= 20 && entropy(value) >= 3.7 && (digits || signs))
        }
        Kind::Weak if matches!(form.link, Link::Sign | Link::Element) => {
            let random = value.iter().any(u8::is_ascii_uppercase)
                || value.iter().all(u8::is_ascii_hexdigit) && value.len() >= 32;
            value.len() >= 24
                && looks_generated(value)
                && random
                && entropy(value) >= 3.6
                && !value.contains(&b'.')
        }
        _ => form.link == Link::Is && value.len() >= 16 && looks_generated(value),
    }
}

/// Something that stands where a credential would.
pub(super) fn is_stand_in(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let first = lower[0];
    const WORDS: [&[u8]; 18] = [
        b"null",
        b"none",
        b"true",
        b"false",
        b"undefined",
        b"required",
        b"optional",
        b"string",
        b"your",
        b"redacted",
        b"placeholder",
        b"xxxx",
        b"****",
        b"....",
        b"<",
        b"{{",
        b"not_set",
        b"hidden",
    ];
    const PARTS: [&[u8]; 9] = [
        b"process.env",
        b"os.environ",
        b"getenv",
        b"env.",
        b"env[",
        b"${",
        b"{{",
        b"<your",
        b"your_",
    ];
    lower.iter().all(|byte| *byte == first)
        || WORDS.iter().any(|word| lower.starts_with(word))
        || PARTS.iter().any(|part| find(&lower, part).is_some())
        || matches!(first, b'$' | b'%' | b'<' | b'(' | b'[' | b'{' | b'|' | b'=')
            && !lower.iter().any(u8::is_ascii_digit)
        || lower.starts_with(b"$")
            && lower[1..]
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        || lower.starts_with(b"/") && lower.iter().filter(|byte| **byte == b'/').count() >= 2
        || lower.starts_with(b"http://")
        || lower.starts_with(b"https://")
}

/// Code and not a value: a call, an index, a path of names, an escape.
fn is_expression(value: &[u8]) -> bool {
    value.iter().any(|byte| b"([{|\\<>".contains(byte))
        || value.contains(&b'.')
            && value.split(|byte| *byte == b'.').all(|part| {
                part.first()
                    .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
            })
        || find(value, b"::").is_some()
        || find(value, b"->").is_some()
}

/// A word that follows a name in a declaration or a sentence.
fn is_type(value: &[u8]) -> bool {
    const WORDS: [&[u8]; 24] = [
        b"str",
        b"string",
        b"text",
        b"varchar",
        b"bytes",
        b"any",
        b"option",
        b"object",
        b"number",
        b"bool",
        b"boolean",
        b"char",
        b"password",
        b"secret",
        b"value",
        b"must",
        b"should",
        b"field",
        b"input",
        b"type",
        b"required",
        b"forgotten",
        b"incorrect",
        b"invalid",
    ];
    WORDS.iter().any(|word| value.eq_ignore_ascii_case(word)) || value.ends_with(b":")
}
