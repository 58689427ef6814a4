//! Host names: one name has one form, whoever spells it.

use routing_subdomain::{Host, canonical};

/// What comes out is in A-labels, is its own canonical form, and does not depend on case, port or a trailing dot.
pub fn host_name(data: &[u8]) {
    let raw = crate::text(data);
    let Ok(Host::Name(name)) = canonical(&raw) else {
        return;
    };
    assert!(!name.is_empty() && name.len() <= 253, "{name:?}");
    assert!(!name.starts_with('.') && !name.ends_with('.'), "{name:?}");
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    assert!(name.bytes().all(plain), "{name:?}");
    let spellings = [
        name.clone(),
        name.to_ascii_uppercase(),
        format!("{name}:8443"),
        format!("{name}."),
        raw.to_ascii_uppercase(),
    ];
    for spelling in spellings {
        assert_eq!(
            canonical(&spelling),
            Ok(Host::Name(name.clone())),
            "{spelling:?} of {raw:?}"
        );
    }
}
