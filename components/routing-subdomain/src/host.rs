//! The one form of a host name.
//!
//! Everything that compares names after this point compares canonical ones, byte for byte. Two spellings that some resolver,
//! proxy or certificate check would take for the same name must therefore come out equal, and one that could be read in two ways
//! must not come out at all.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use std::{fmt, net::Ipv6Addr};

/// Longest `Host` header looked at: 253 bytes of name, brackets, dot and port, and room for names not yet in A-labels.
const RAW_CAP: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Lower-case A-labels (UTS #46, nontransitional), no port, no trailing dot.
    Name(String),
    /// An IPv4 or IPv6 address in any spelling. No tenant is ever found by address.
    Address,
}

/// Why a text is not the host of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    Empty,
    TooLong,
    /// Whitespace, a control character, user info, a percent sign, or what else has no place in a host.
    Character,
    Port,
    Ipv6,
    /// Labels, lengths or letters that UTS #46 or RFC 1123 does not allow.
    Name,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::TooLong => "the host is longer than 1024 bytes",
            Self::Character => "a character that has no place in a host",
            Self::Port => "the port is not a number up to 65535",
            Self::Ipv6 => "the brackets do not hold an IPv6 address",
            Self::Name => "not a host name",
        })
    }
}

/// The one form of `raw`, a `Host` header or `:authority` as sent.
pub fn canonical(raw: &str) -> Result<Host, Malformed> {
    if raw.len() > RAW_CAP {
        return Err(Malformed::TooLong);
    }
    // Before anything is mapped: UTS #46 would drop or fold some of these, and a URL reader would take others for a border.
    let misplaced = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || matches!(c, '@' | '%' | '/' | '\\' | '?' | '#' | ',' | ';')
    };
    if raw.chars().any(misplaced) {
        return Err(Malformed::Character);
    }
    if let Some(rest) = raw.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(Malformed::Ipv6)?;
        address.parse::<Ipv6Addr>().map_err(|_| Malformed::Ipv6)?;
        return match rest.strip_prefix(':') {
            Some(port) => check_port(port).map(|()| Host::Address),
            None if rest.is_empty() => Ok(Host::Address),
            None => Err(Malformed::Ipv6),
        };
    }
    let name = match raw.split_once(':') {
        Some((name, port)) => {
            check_port(port)?;
            name
        }
        None => raw,
    };
    if name.is_empty() {
        return Err(Malformed::Empty);
    }
    // Maps case and compatibility forms, checks existing A-labels by decoding them, and leaves only letters, digits and hyphens.
    // Hyphens in the third and fourth place are allowed: real names have them.
    let name = Uts46::new()
        .to_ascii(
            name.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::VerifyAllowRootDot,
        )
        .map_err(|_| Malformed::Name)?;
    // After the mapping, which turns other full stops into dots.
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name.rsplit('.').next().is_some_and(is_number) {
        return Ok(Host::Address);
    }
    Ok(Host::Name(name.to_owned()))
}

/// A port is optional even after its colon (RFC 3986 §3.2.3).
fn check_port(port: &str) -> Result<(), Malformed> {
    let number = port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if number { Ok(()) } else { Err(Malformed::Port) }
}

/// A last label that makes the whole an IPv4 address to somebody: `127.0.0.1`, `0x7f.1`, `2130706433`. No top-level domain is
/// a number, so nothing is lost.
fn is_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x").unwrap_or(label);
    match digits.len() == label.len() {
        true => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
        false => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let found = match canonical(raw) {
            Ok(Host::Name(name)) => name,
            Ok(Host::Address) => "(address)".to_owned(),
            Err(error) => format!("({error:?})"),
        };
        assert_eq!(found, expected, "{raw:?}");
    }

    #[test]
    fn spellings_of_one_name_are_one() {
        for raw in [
            "acme.localhost",
            "ACME.LocalHost",
            "acme.localhost.",
            "acme.localhost:8080",
            "Acme.localhost.:80",
            "acme.localhost:",
            "ａｃｍｅ.localhost",
            "acme。localhost",
            "ac\u{ad}me.localhost",
            "acme.localhost\u{3002}:1",
        ] {
            check(raw, "acme.localhost");
        }
        for raw in [
            "bücher.example",
            "BÜCHER.example",
            "bu\u{308}cher.EXAMPLE",
            "xn--bcher-kva.example",
            "XN--BCHER-KVA.example.",
        ] {
            check(raw, "xn--bcher-kva.example");
        }
        check("faß.example", "xn--fa-hia.example");
        check("fass.example", "fass.example");
        check("r3---sn-x.example", "r3---sn-x.example");
    }

    #[test]
    fn addresses_are_told_from_names() {
        for raw in [
            "127.0.0.1",
            "127.0.0.1:80",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.",
            "１２７.0.0.1",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "256.256.256.256",
            "a.0x",
        ] {
            check(raw, "(address)");
        }
        check("1and1.example", "1and1.example");
        check("0x7f.example", "0x7f.example");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        for (raw, expected) in [
            ("", "(Empty)"),
            (":80", "(Empty)"),
            (".", "(Name)"),
            ("a..b", "(Name)"),
            ("acme.localhost..", "(Name)"),
            (".acme.localhost", "(Name)"),
            ("acme.localhost:80:80", "(Port)"),
            ("acme.localhost:x", "(Port)"),
            ("acme.localhost:65536", "(Port)"),
            ("acme.localhost:+80", "(Port)"),
            ("acme.localhost:８０", "(Port)"),
            ("user@acme.localhost", "(Character)"),
            ("acme.localhost\0", "(Character)"),
            ("acme.localhost\r\nx: y", "(Character)"),
            (" acme.localhost", "(Character)"),
            ("acme\u{a0}.localhost", "(Character)"),
            ("acme%2elocalhost", "(Character)"),
            ("acme.localhost/x", "(Character)"),
            ("acme.localhost\\x", "(Character)"),
            ("acme.localhost,globex.localhost", "(Character)"),
            ("ac_me.localhost", "(Name)"),
            ("-acme.localhost", "(Name)"),
            ("acme-.localhost", "(Name)"),
            ("*.localhost", "(Name)"),
            ("xn--a.localhost", "(Name)"),     // decodes to nothing
            ("xn--acme-.localhost", "(Name)"), // decodes to plain ASCII
            ("xn--bcher-kvA\u{301}.example", "(Name)"),
            ("℀.example", "(Name)"), // maps to `a/c`
            ("[::1", "(Ipv6)"),
            ("[acme]", "(Ipv6)"),
            ("[::1]x", "(Ipv6)"),
            ("[::1]:x", "(Port)"),
            ("[fe80::1%25lo]", "(Character)"),
            ("::1", "(Port)"),
        ] {
            check(raw, expected);
        }
        check(&format!("{}.localhost", "a".repeat(64)), "(Name)");
        check(&"a.".repeat(128), "(Name)");
        check(&"a".repeat(1025), "(TooLong)");
    }

    proptest! {
        #[test]
        fn no_text_panics(raw in any::<String>()) {
            let _ = canonical(&raw);
        }

        #[test]
        fn the_canonical_form_is_its_own(raw in r"[a-zA-Z0-9äßü\u{3c2}\u{200d}\u{3002}ｂ.-]{1,30}(:[0-9]{1,4})?") {
            if let Ok(Host::Name(name)) = canonical(&raw) {
                prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')), "{}", name);
                prop_assert_eq!(canonical(&name), Ok(Host::Name(name.clone())));
            }
        }

        #[test]
        fn case_port_and_trailing_dot_never_matter(name in r"[a-z0-9äüß-]{1,12}(\.[a-z0-9-]{1,8}){0,3}", port in 0_u16.., flips in any::<u64>()) {
            let flipped: String = name
                .chars()
                .enumerate()
                // `ß` has no upper case of one letter, and SS is another name.
                .map(|(i, c)| if flips >> (i % 64) & 1 == 1 && c != 'ß' { c.to_uppercase().next().unwrap_or(c) } else { c })
                .collect();
            let expected = canonical(&name);
            if !name.ends_with('.') {
                prop_assert_eq!(&canonical(&format!("{flipped}:{port}")), &expected);
                prop_assert_eq!(&canonical(&format!("{flipped}.")), &expected);
                prop_assert_eq!(&canonical(&format!("{flipped}.:{port}")), &expected);
            }
        }
    }
}
