//! E-mail addresses, IP addresses, and credentials inside URLs.

use super::{Candidate, Context};
use crate::category;
use crate::fold::{LETTER, is_word_byte};
use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 5321: at most 64 octets before the `@` and 255 after it.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;

pub(crate) fn scan_emails(text: &[u8], found: &mut Vec<Candidate>) {
    for at in (0..text.len()).filter(|&at| text[at] == b'@') {
        let is_local = |byte: &u8| is_word_byte(*byte) || b"._%+-'!#$&*/=?^`{|}~".contains(byte);
        let local = text[..at]
            .iter()
            .rev()
            .take(MAX_LOCAL)
            .take_while(|byte| is_local(byte))
            .count();
        // Signs may stand in a local part, but one at its start is punctuation of the sentence.
        let start = (at - local..at)
            .find(|&start| is_word_byte(text[start]))
            .unwrap_or(at);
        // Of `key=someone@…`, `{"to":…` and the like, only what follows the sign belongs to the address.
        let start = (start..at)
            .rev()
            .find(|&i| b"=|/`{}*?!#$&^'".contains(&text[i]))
            .map_or(start, |sign| sign + 1);
        let is_domain = |byte: &u8| is_word_byte(*byte) || matches!(byte, b'.' | b'-');
        let mut end = at
            + 1
            + text[at + 1..]
                .iter()
                .take(MAX_DOMAIN)
                .take_while(|byte| is_domain(byte))
                .count();
        while end > at + 1 && !is_word_byte(text[end - 1]) {
            end -= 1;
        }
        if start < at && is_domain_name(&text[at + 1..end]) {
            found.push(Candidate::new(start, end, category::EMAIL, 60));
        }
    }
}

fn is_domain_name(domain: &[u8]) -> bool {
    const FILES: [&[u8]; 12] = [
        b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"js", b"ts", b"css", b"json", b"html",
        b"tgz",
    ];
    let Some(dot) = domain.iter().rposition(|byte| *byte == b'.') else {
        return false;
    };
    let top = &domain[dot + 1..];
    let labels = domain
        .split(|byte| *byte == b'.')
        .all(|label| !label.is_empty() && !label.starts_with(b"-") && !label.ends_with(b"-"));
    let is_top = top.len() >= 2
        && top
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || *byte == LETTER)
        || top.starts_with(b"xn--");
    labels && is_top && !FILES.iter().any(|file| top.eq_ignore_ascii_case(file))
}

/// `scheme://user:password@host`: the part that is secret is the user information.
pub(crate) fn scan_urls(text: &[u8], found: &mut Vec<Candidate>) {
    let mut at = 0;
    while let Some(next) = crate::clause::find(&text[at..], b"://") {
        let start = at + next + 3;
        let end = start
            + text[start..]
                .iter()
                .take_while(|byte| !b"/?# \"'<>\\".contains(byte))
                .count();
        let scheme = text[..start - 3]
            .iter()
            .rev()
            .take(24)
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
            .count();
        let scheme = &text[start - 3 - scheme..start - 3];
        if let Some(host) = text[start..end].iter().rposition(|byte| *byte == b'@') {
            let user = &text[start..start + host];
            let password = user
                .iter()
                .position(|byte| *byte == b':')
                .map(|colon| &user[colon + 1..]);
            if password.is_some_and(|password| !password.is_empty() && !is_placeholder(password)) {
                let web = [
                    &b"http"[..],
                    b"https",
                    b"ftp",
                    b"ftps",
                    b"ssh",
                    b"git",
                    b"git+https",
                    b"sftp",
                    b"ws",
                    b"wss",
                ];
                let category = if web.iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
                    category::BASIC_AUTH
                } else {
                    category::CONNECTION_STRING
                };
                found.push(Candidate::new(start, start + host, category, 90));
            }
        }
        at = end.max(start);
    }
}

/// A stand-in for a password in documentation.
fn is_placeholder(password: &[u8]) -> bool {
    let first = password[0];
    matches!(first, b'<' | b'{' | b'[' | b'$' | b'%' | b'*')
        || password.iter().all(|byte| *byte == first)
        || [
            &b"password"[..],
            b"pass",
            b"pwd",
            b"passwd",
            b"secret",
            b"token",
        ]
        .iter()
        .any(|word| password.eq_ignore_ascii_case(word))
}

/// IPv4 and IPv6 addresses, without those that name no machine or only this one.
pub(crate) fn scan_addresses(text: &[u8], context: &Context, found: &mut Vec<Candidate>) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let mut at = 0;
    while at < text.len() {
        if !is_part(text[at]) || at > 0 && (is_word_byte(text[at - 1]) || is_part(text[at - 1])) {
            at += 1;
            continue;
        }
        let length = text[at..].iter().take_while(|byte| is_part(**byte)).count();
        let run = &text[at..at + length];
        let followed = text.get(at + length).copied().is_some_and(is_word_byte);
        if !followed || run.contains(&b'.') {
            address(run, at, followed, context, found);
        }
        at += length;
    }
}

fn address(run: &[u8], at: usize, followed: bool, context: &Context, found: &mut Vec<Candidate>) {
    let trimmed = run.len()
        - run
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b'.'))
            .count();
    let colons = run.iter().filter(|byte| **byte == b':').count();
    if colons >= 2 && !followed && run.len() <= 60 {
        let end = if run[..trimmed].ends_with(b":") && !run[..trimmed].ends_with(b"::") {
            trimmed - 1
        } else {
            trimmed
        };
        let start = usize::from(run.starts_with(b":") && !run.starts_with(b"::"));
        if start < end && is_ipv6(&run[start..end]) {
            found.push(Candidate::new(
                at + start,
                at + end,
                category::IP_ADDRESS,
                55,
            ));
            return;
        }
    }
    // `10.1.2.3`, `10.1.2.3:80`, `host:10.1.2.3`: the one piece between colons that has three dots.
    let mut start = 0;
    for piece in run[..trimmed].split(|byte| *byte == b':') {
        let is_last = start + piece.len() >= trimmed;
        if (7..=15).contains(&piece.len())
            && !(is_last && followed)
            && is_ipv4(piece)
            && !context.just_said_version()
        {
            found.push(Candidate::new(
                at + start,
                at + start + piece.len(),
                category::IP_ADDRESS,
                55,
            ));
        }
        start += piece.len() + 1;
    }
}

fn is_ipv4(piece: &[u8]) -> bool {
    let address = std::str::from_utf8(piece)
        .ok()
        .and_then(|piece| piece.parse::<Ipv4Addr>().ok());
    address.is_some_and(|address| {
        !address.is_unspecified() && !address.is_loopback() && !address.is_broadcast()
    })
}

fn is_ipv6(piece: &[u8]) -> bool {
    let address = std::str::from_utf8(piece)
        .ok()
        .and_then(|piece| piece.parse::<Ipv6Addr>().ok());
    let groups = piece
        .split(|byte| *byte == b':')
        .filter(|group| !group.is_empty())
        .count();
    // `a::b` is also how several languages write a path.
    let numeric = piece.iter().any(u8::is_ascii_digit);
    address.is_some_and(|address| !address.is_unspecified() && !address.is_loopback())
        && groups >= 2
        && (numeric || groups >= 4)
}
