//! What the host name of a request says about which plane it is for.

use ambit_types::{Error, ErrorKind};
use http::{header, request::Parts};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host a request names, exactly as the client sent it.
///
/// # Errors
/// None, two, or two different ones: which tenant is meant would depend on who reads the request.
pub(crate) fn of(request: &Parts) -> Result<String, Error> {
    let invalid = |message: &str| Error::new(ErrorKind::Invalid { param: None }, message);
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts
        .next()
        .map(|host| host.to_str())
        .transpose()
        .map_err(|_| invalid("the Host header is not a host name"))?;
    if hosts.next().is_some() {
        return Err(invalid("the request has two Host headers"));
    }
    match (host, request.uri.authority()) {
        (Some(host), Some(authority)) if host != authority.as_str() => {
            Err(invalid("the Host header and the request target differ"))
        }
        (Some(host), _) if !host.is_empty() => Ok(host.to_owned()),
        (None, Some(authority)) => Ok(authority.to_string()),
        _ => Err(invalid("the request has no Host header")),
    }
}

/// Whether a `Host` value names this machine itself: `localhost` or a loopback address, with or without a port. No tenant can have
/// such a name, and no name that an attacker's DNS answers for passes.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) => {
            let plain = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return plain && v6.parse() == Ok(Ipv6Addr::LOCALHOST);
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a `Host` value is an address and not a name.
pub(crate) fn is_address(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| is_port(port))
        .map_or(host, |(name, _)| name);
    name.trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Splits `/t/{tenant}/rest` into the tenant's slug and `/rest`.
pub(crate) fn tenant_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/t/")?;
    let slash = rest.find('/')?;
    Some(rest.split_at(slash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn loopback_names() {
        for yes in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "acme.localhost",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "127.1",
            "0x7f.1",
            "10.0.0.1",
            "[::]",
            "[::1]evil",
            "localhost:",
            "localhost:80:80",
            "",
            "user@localhost",
            "localhost:x",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
        assert!(
            is_address("10.0.0.1:80")
                && is_address("[fe80::1]")
                && !is_address("acme.localhost:80")
        );
    }

    #[test]
    fn one_host_or_none() {
        let host = |builder: http::request::Builder| of(&builder.body(()).unwrap().into_parts().0);
        assert_eq!(
            host(Request::builder().header("host", "a:80")).unwrap(),
            "a:80"
        );
        assert_eq!(
            host(Request::builder().uri("http://a/x").header("host", "a")).unwrap(),
            "a"
        );
        assert!(host(Request::builder()).is_err());
        assert!(host(Request::builder().header("host", "")).is_err());
        assert!(host(Request::builder().header("host", "a").header("host", "a")).is_err());
        assert!(host(Request::builder().uri("http://b/").header("host", "a")).is_err());
    }

    #[test]
    fn tenant_paths() {
        assert_eq!(
            tenant_path("/t/acme/v1/models"),
            Some(("acme", "/v1/models"))
        );
        assert_eq!(tenant_path("/t/acme/"), Some(("acme", "/")));
        for no in ["/t/acme", "/t/", "/v1/t/acme/x", "/tt/acme/v1"] {
            assert_eq!(tenant_path(no), None, "{no}");
        }
    }
}
