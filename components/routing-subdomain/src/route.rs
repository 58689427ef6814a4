//! Whose name is it? A name below a base domain is found by its one label, any other by the whole name, and never by both: a
//! custom domain cannot lie in wait below a base domain for a label that somebody else is given later.

use crate::host::{Host, Malformed, canonical};

/// Every name the installation serves. See `ambit:routing/directory`.
pub trait Directory {
    fn base_domains(&self) -> Vec<String>;
    fn tenant_by_label(&self, label: &str) -> Option<String>;
    fn tenant_by_name(&self, name: &str) -> Option<String>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub tenant: String,
    pub canonical_host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    Malformed(Malformed),
    Unknown,
}

/// The tenant of the request whose `Host` header or `:authority` is `raw`.
pub fn route(raw: &str, directory: &impl Directory) -> Result<Route, RouteError> {
    let Host::Name(name) = canonical(raw).map_err(RouteError::Malformed)? else {
        return Err(RouteError::Unknown);
    };
    let bases = directory.base_domains();
    let is_base = |name: &str| bases.iter().any(|base| base == name);
    let tenant = match name.split_once('.') {
        Some((label, parent)) if is_base(parent) && !is_base(&name) => {
            directory.tenant_by_label(label)
        }
        // A base domain is the installation's own, and so is what lies deeper below it.
        _ if suffixes(&name).any(is_base) => None,
        _ => directory.tenant_by_name(&name),
    };
    match tenant {
        Some(tenant) => Ok(Route {
            tenant,
            canonical_host: name,
        }),
        None => Err(RouteError::Unknown),
    }
}

/// The name itself and every domain above it.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| {
        name.split_once('.').map(|(_, parent)| parent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Two;

    impl Directory for Two {
        fn base_domains(&self) -> Vec<String> {
            ["localhost", "eu.localhost", "agents.example"]
                .map(str::to_owned)
                .into()
        }
        fn tenant_by_label(&self, label: &str) -> Option<String> {
            matches!(label, "acme" | "globex" | "eu").then(|| format!("id-{label}"))
        }
        fn tenant_by_name(&self, name: &str) -> Option<String> {
            match name {
                "chat.acme.example" => Some("id-acme".to_owned()),
                "xn--bcher-kva.example"
                | "localhost"
                | "deep.acme.localhost"
                | "free.localhost" => Some("id-globex".to_owned()),
                _ => None,
            }
        }
    }

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let found = match route(raw, &Two) {
            Ok(route) => format!("{} as {}", route.tenant, route.canonical_host),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(found, expected, "{raw}");
    }

    #[test]
    fn a_label_below_a_base_domain_or_a_whole_name() {
        check("acme.localhost:8080", "id-acme as acme.localhost");
        check(
            "GLOBEX.agents.example.",
            "id-globex as globex.agents.example",
        );
        check("acme.eu.localhost", "id-acme as acme.eu.localhost");
        check("chat.acme.example", "id-acme as chat.acme.example");
        check("Bücher.example", "id-globex as xn--bcher-kva.example");
    }

    #[test]
    fn everything_else_is_unknown() {
        for raw in [
            "nobody.localhost",
            "localhost",
            "eu.localhost",
            "x.acme.localhost",
            "deep.acme.localhost",
            "free.localhost",
            "acme.localhost.evil.example",
            "acmelocalhost",
            "acme",
            "127.0.0.1",
            "[::1]:80",
            "evil.example",
            "agents.example",
        ] {
            check(raw, "Unknown");
        }
        check("acme@localhost", "Malformed(Character)");
    }

    proptest! {
        #[test]
        fn equal_names_have_one_tenant(raw in r"(acme|globex|eu|chat\.acme|bücher|x)\.(localhost|eu\.localhost|example|agents\.example)", port in 1_u16..) {
            let plain = route(&raw, &Two);
            prop_assert_eq!(&route(&format!("{}.:{port}", raw.to_uppercase()), &Two), &plain);
            if let Ok(found) = &plain {
                prop_assert_eq!(&route(&found.canonical_host, &Two), &plain);
            }
        }
    }
}
