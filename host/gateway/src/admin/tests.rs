use super::*;
use crate::routes::table;

#[test]
fn the_reference_lists_exactly_the_routes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admin-api.md");
    let text = std::fs::read_to_string(path).unwrap();
    for (what, expected) in [
        ("admin", table(ROUTES)),
        ("ops", table(ops::ROUTES)),
        ("data", table(crate::data::ROUTES)),
    ] {
        assert!(
            text.contains(&expected),
            "docs/admin-api.md does not hold the table of {what} routes; it should be:\n{expected}"
        );
    }
}

#[test]
fn no_route_stands_twice() {
    let mut seen = std::collections::HashSet::new();
    for route in ROUTES {
        assert!(
            seen.insert((route.method, route.path)),
            "{} {}",
            route.method,
            route.path
        );
    }
}
