//! Path prefixes that a server cannot be talked out of.
//!
//! The danger is a path that begins with the granted prefix here and means something else to the server: `/v1/../admin`,
//! `/v1/%2e%2e/admin`, `/v1//../admin`, `/v1/..;/admin`, `/v1/%252e%252e/admin`. The URL parser resolves the plain dot segments; what
//! it leaves and some server might still interpret is *ambiguous*, and an ambiguous path matches no prefix but `/`. We refuse and do
//! not normalise, because the guest's path is sent as it is and our normal form need not be the server's.

/// Whether `path` (as `Url::path` gives it) lies under `prefix`, which has no trailing `/` (the root is empty).
pub(crate) fn is_under(path: &str, prefix: &str) -> bool {
    if prefix.is_empty() {
        return true;
    }
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !is_ambiguous(path)
}

/// Whether two servers may disagree about what this path means.
pub(crate) fn is_ambiguous(path: &str) -> bool {
    let segments = path.strip_prefix('/').unwrap_or(path);
    let last = segments.rfind('/').map_or(0, |slash| slash + 1);
    let mut start = 0;
    for segment in segments.split('/') {
        // An empty segment is harmless at the end only.
        if (segment.is_empty() && start != last) || is_ambiguous_segment(segment) {
            return true;
        }
        start += segment.len() + 1;
    }
    false
}

fn is_ambiguous_segment(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    // `.`, `..` and their path-parameter forms, for example `..;x=1`.
    let name = segment.split(';').next().unwrap_or(segment);
    if name == "." || name == ".." {
        return true;
    }
    bytes.iter().enumerate().any(|(position, byte)| match byte {
        b'\\' => true,
        b'%' => match bytes.get(position + 1..position + 3) {
            Some(digits) => {
                is_ambiguous_escape(digits, bytes.get(position + 3..).unwrap_or_default())
            }
            None => true,
        },
        byte => byte.is_ascii_control(),
    })
}

/// `%` and `digits`, followed by `rest`: an escape that hides a separator, a dot, a control character or another escape.
fn is_ambiguous_escape(digits: &[u8], rest: &[u8]) -> bool {
    let value = |digit: u8| (digit as char).to_digit(16);
    let (Some(high), Some(low)) = (value(digits[0]), value(digits[1])) else {
        return true;
    };
    match (high * 16 + low) as u8 {
        b'/' | b'\\' | b'.' | b';' | 0x7f => true,
        b'%' => {
            rest.iter()
                .take(2)
                .filter(|digit| digit.is_ascii_hexdigit())
                .count()
                == 2
        }
        byte => byte < 0x20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    fn check(path: &str, prefix: &str, expected: bool) {
        let url = Url::parse(&format!("https://a.example{path}")).unwrap();
        assert_eq!(
            is_under(url.path(), prefix),
            expected,
            "{path} under {prefix}, parsed as {}",
            url.path()
        );
    }

    #[test]
    fn prefixes_end_at_segments() {
        check("/v1", "/v1", true);
        check("/v1/", "/v1", true);
        check("/v1/a/b?q=/../x", "/v1", true);
        check("/v1/a/", "/v1", true);
        check("/v10", "/v1", false);
        check("/V1", "/v1", false);
        check("/", "/v1", false);
        check("/anything//%2e", "", true);
    }

    #[test]
    fn tricks_do_not_leave_the_prefix() {
        for path in [
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/.%2E/admin",
            "/v1//admin",
            "//v1/admin",
            "/v1//",
            "/v1/..;/admin",
            "/v1/.;x/admin",
            "/v1/%2e%2e;/admin",
            "/v1/..%2fadmin",
            "/v1/..%5cadmin",
            "/v1\\..\\admin",
            "/v1/%252e%252e/admin",
            "/v1/%252fadmin",
            "/v1/%00/admin",
            "/v1/%0d%0aadmin",
            "/v1/%7f",
            "/v1/%",
            "/v1/%zz",
            "/v1/%2",
            "/%76%31/../admin",
        ] {
            check(path, "/v1", false);
        }
    }

    #[test]
    fn ordinary_paths_are_not_ambiguous() {
        for path in [
            "/v1/caf%C3%A9",
            "/v1/100%25",
            "/v1/a.b/.hidden",
            "/v1/a;b=c",
            "/v1/...",
            "/v1/a%20b",
            "/v1/a..b",
        ] {
            check(path, "/v1", true);
        }
    }
}
