//! Patterns for HTTP origins: `scheme://host[:port]`.
//!
//! The host is a name, an IP address, `*.` and a name (one label or more, never the name itself), or `*` (any name). A wildcard
//! never stands for an IP address or for `localhost`: those are reached only where every layer writes them out, which is what makes a
//! grant that names loopback explicit by construction. The port is the scheme's own unless written; `:*` is any port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};
use url::{Host, Url};

/// Why a text is no pattern; reads as what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub(crate) String);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum HostPattern {
    Any,
    /// With the leading dot, lower case, IDNA A-labels.
    Suffix(String),
    Name(String),
    Ip(IpAddr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Port {
    Any,
    Number(u16),
}

/// A set of origins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginPattern {
    secure: bool,
    host: HostPattern,
    port: Port,
}

impl OriginPattern {
    /// Whether `target` is of one of these origins. A URL with userinfo is of none: `http://granted@evil/` misleads people.
    #[must_use]
    pub fn matches(&self, target: &Target<'_>) -> bool {
        self.secure == target.secure
            && (self.port == Port::Any || self.port == Port::Number(target.port))
            && match (&self.host, target.host) {
                (HostPattern::Ip(own), TargetHost::Ip(asked)) => *own == asked,
                (HostPattern::Name(own), TargetHost::Name(asked)) => own == asked,
                (HostPattern::Suffix(own), TargetHost::Name(asked)) => is_below(asked, own),
                (HostPattern::Any, TargetHost::Name(asked)) => !is_localhost(asked),
                _ => false,
            }
    }

    /// Whether any origin is in both sets.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        use HostPattern::{Any, Ip, Name, Suffix};
        self.secure == other.secure
            && (self.port == other.port || self.port == Port::Any || other.port == Port::Any)
            && match (&self.host, &other.host) {
                (Ip(a), Ip(b)) => a == b,
                (Ip(_), _) | (_, Ip(_)) => false,
                (Name(a), Name(b)) => a == b,
                (Name(name), Suffix(suffix)) | (Suffix(suffix), Name(name)) => {
                    is_below(name, suffix)
                }
                (Name(name), Any) | (Any, Name(name)) => !is_localhost(name),
                (Suffix(a), Suffix(b)) => a.ends_with(b.as_str()) || b.ends_with(a.as_str()),
                (Any, Any | Suffix(_)) | (Suffix(_), Any) => true,
            }
    }

    /// Whether requests to it are protected on the wire, or never reach one.
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        self.secure
            || match &self.host {
                HostPattern::Ip(ip) => ip.is_loopback(),
                HostPattern::Name(name) => is_localhost(name),
                HostPattern::Any | HostPattern::Suffix(_) => false,
            }
    }
}

/// What of a URL decides whether a rule matches, taken apart once for all rules.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    secure: bool,
    host: TargetHost<'a>,
    port: u16,
}

#[derive(Debug, Clone, Copy)]
enum TargetHost<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

impl<'a> Target<'a> {
    /// The error says why no rule can match such a URL.
    pub(crate) fn new(url: &'a Url) -> Result<Self, &'static str> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("only http and https can be granted"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with user information is never granted");
        }
        let host = match url.host() {
            // One trailing dot only says that the name is complete.
            Some(Host::Domain(name)) => match name.strip_suffix('.').unwrap_or(name) {
                name if name.split('.').any(str::is_empty) => {
                    return Err("the host has an empty label");
                }
                name => TargetHost::Name(name),
            },
            Some(Host::Ipv4(ip)) => TargetHost::Ip(ip.into()),
            Some(Host::Ipv6(ip)) => TargetHost::Ip(ip.into()),
            None => return Err("the URL has no host"),
        };
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        Ok(Self { secure, host, port })
    }
}

/// Whether the URL names this machine itself: a loopback address or `localhost`. Since a wildcard stands for neither, a permit for
/// such a URL proves that every layer wrote it out.
#[must_use]
pub fn names_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name.strip_suffix('.').unwrap_or(name)),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// RFC 6761 §6.3.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// `suffix` has its leading dot; at least one label stands before it.
fn is_below(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

const EXPECTED: &str = "`scheme://host[:port]` with scheme http or https and a host that is a name, an IP address, `*.name` or `*`";

impl FromStr for OriginPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(EXPECTED.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        if rest.contains(|c: char| {
            matches!(c, '/' | '\\' | '?' | '#' | '@') || c.is_whitespace() || c.is_control()
        }) {
            return Err(PatternError(format!(
                "{EXPECTED}; no path (it is a key of its own), query or user information"
            )));
        }
        let (host, port) = match rest.rsplit_once(':') {
            // The colons of a bracketed IPv6 address are not ours.
            Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)?),
            _ => (rest, Port::Number(if secure { 443 } else { 80 })),
        };
        Ok(Self {
            secure,
            host: parse_host(host)?,
            port,
        })
    }
}

fn parse_port(text: &str) -> Result<Port, PatternError> {
    if text == "*" {
        return Ok(Port::Any);
    }
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port > 0)
        .map(Port::Number)
        .ok_or_else(|| PatternError("a port from 1 to 65535, or `*`".to_owned()))
}

fn parse_host(text: &str) -> Result<HostPattern, PatternError> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    let name = text.strip_prefix("*.");
    // The URL parser's own canonical form, so that pattern and request cannot differ in case, IDNA or number notation.
    let host = Host::parse(name.unwrap_or(text)).map_err(|_| PatternError(EXPECTED.to_owned()))?;
    match (host, name.is_some()) {
        (Host::Domain(name), _) if name.contains('*') || name.split('.').any(str::is_empty) => Err(
            PatternError(format!("{EXPECTED}; a wildcard is the whole first label")),
        ),
        (Host::Domain(name), true) if is_localhost(&name) => Err(PatternError(
            "names under `localhost` written out: no wildcard stands for them".to_owned(),
        )),
        (Host::Domain(name), true) => Ok(HostPattern::Suffix(format!(".{name}"))),
        (Host::Domain(name), false) => Ok(HostPattern::Name(name)),
        (_, true) => Err(PatternError(format!(
            "{EXPECTED}; an IP address has no wildcard"
        ))),
        (Host::Ipv4(ip), false) => written_out(text, ip).map(|ip| HostPattern::Ip(ip.into())),
        (Host::Ipv6(ip), false) => Ok(HostPattern::Ip(ip.into())),
    }
}

/// `http://0x7f.1` in a grant is 127.0.0.1 to the URL parser and to nobody who reviews it.
fn written_out(text: &str, ip: Ipv4Addr) -> Result<Ipv4Addr, PatternError> {
    if ip.to_string() == text {
        Ok(ip)
    } else {
        Err(PatternError(format!("the address written out: {ip}")))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "https://" } else { "http://" })?;
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Suffix(suffix) => write!(f, "*{suffix}")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            HostPattern::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
        }
        match self.port {
            Port::Any => f.write_str(":*"),
            Port::Number(number) if number == if self.secure { 443 } else { 80 } => Ok(()),
            Port::Number(number) => write!(f, ":{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, url: &str) -> bool {
        let url = Url::parse(url).unwrap();
        let target = Target::new(&url);
        target.is_ok_and(|target| pattern.parse::<OriginPattern>().unwrap().matches(&target))
    }

    #[test]
    fn allows_what_it_says() {
        for (pattern, url) in [
            ("https://a.example", "https://a.example/x"),
            ("https://a.example", "https://A.EXAMPLE./"),
            ("https://a.example:443", "https://a.example/"),
            ("https://a.example:8443", "https://a.example:8443/"),
            ("https://a.example:*", "https://a.example:1/"),
            ("https://*.a.example", "https://x.y.a.example/"),
            ("https://*", "https://anything.example/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            // Other notations of the address that is granted are that address.
            ("http://127.0.0.1", "http://0x7f.1/"),
            ("http://127.0.0.1", "http://2130706433/"),
            ("http://127.0.0.1", "http://0177.0.0.1/"),
            ("http://[::1]:80", "http://[0:0::1]/"),
            ("http://localhost:*", "http://localhost:3000/"),
            ("https://bücher.example", "https://xn--bcher-kva.example/"),
        ] {
            assert!(matches(pattern, url), "{pattern} should allow {url}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for (pattern, url) in [
            ("https://a.example", "http://a.example/"),
            ("https://a.example", "https://a.example:8443/"),
            ("https://a.example", "https://a.example.evil/"),
            ("https://a.example", "https://evil-a.example/"),
            ("https://a.example", "https://a.example@evil.example/"),
            ("https://a.example", "https://user@a.example/"),
            ("https://a.example", "https://:secret@a.example/"),
            ("https://a.example", "https://a.example..:443/"),
            ("https://*.a.example", "https://a.example/"),
            ("https://*.a.example", "https://evila.example/"),
            ("https://*.a.example", "https://x.a.example.evil/"),
            ("https://*.a.example", "https://.a.example/"),
            ("http://*", "http://127.0.0.1/"),
            ("http://*", "http://0x7f.1/"),
            ("http://*", "http://2130706433/"),
            ("http://*", "http://0177.0.0.1/"),
            ("http://*", "http://[::ffff:127.0.0.1]/"),
            ("http://*", "http://[::1]/"),
            ("http://*", "http://localhost/"),
            ("http://*", "http://LOCALHOST./"),
            ("http://*", "http://x.localhost/"),
            ("http://127.0.0.1", "http://[::ffff:127.0.0.1]/"),
            ("http://127.0.0.1", "http://127.0.0.2/"),
            // Cyrillic а.
            ("https://apple.example", "https://\u{430}pple.example/"),
            ("https://*", "ftp://a.example/"),
            ("https://*", "file:///etc/passwd"),
            ("https://*", "data:text/plain,x"),
        ] {
            assert!(!matches(pattern, url), "{pattern} should refuse {url}");
        }
    }

    #[test]
    fn patterns_that_mislead_are_no_patterns() {
        for bad in [
            "",
            "*",
            "a.example",
            "ftp://a.example",
            "HTTPS://a.example",
            "https://",
            "https://a.example/",
            "https://a.example/v1",
            "https://a.example?x",
            "https://granted@evil.example",
            "https://a.*.example",
            "https://*a.example",
            "https://**.example",
            "https://*.*",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+80",
            "https://a.example.",
            "https://*.localhost",
            "https://*.127.0.0.1",
            "http://0x7f.1",
            "http://2130706433",
            "http://[::1",
            "https://a.example\r\nx",
            "https://a example",
            "https://*.",
        ] {
            assert!(bad.parse::<OriginPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shows_what_was_written() {
        for text in [
            "https://*",
            "http://*:*",
            "https://*.a.example:8443",
            "http://127.0.0.1:8080",
            "http://[::1]:9",
        ] {
            assert_eq!(text.parse::<OriginPattern>().unwrap().to_string(), text);
        }
        // A homograph is shown for what it is.
        assert_eq!(
            "https://\u{430}pple.example"
                .parse::<OriginPattern>()
                .unwrap()
                .to_string(),
            "https://xn--pple-43d.example"
        );
    }
}
