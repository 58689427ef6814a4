//! Which interfaces this host knows, and what a component needs to import each.
//!
//! One table for admission, linking and `inspect`, so that they cannot disagree. Versions match as semver says, as wasmtime does when it
//! links: 0.2.6 and 0.2.12 are the same interface, 0.3.0 is another; a pre-release is only itself.

use ambit_policy::{Class, Kind};
use serde::Serialize;
use std::fmt;

/// An interface by its full name, for example `wasi:http/types@0.2.6`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface {
    /// `wasi:http/types`, or the name of a bare function of the world.
    name: String,
    /// `0.2.6`; empty where the name has none.
    version: String,
}

/// What lets a component import an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Every component may.
    Base,
    /// Components of this kind may.
    Kind(Kind),
    /// A component of this kind may, if author and operator say so: with a permission of any of these classes.
    KindAndPermission(Kind, &'static [Class]),
    /// Nothing does.
    Never(&'static str),
}

impl Interface {
    pub(crate) fn parse(full_name: &str) -> Self {
        let (name, version) = full_name.split_once('@').unwrap_or((full_name, ""));
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }

    /// The name without its version.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What importing it takes; `None` where this host does not have it.
    pub(crate) fn need(&self) -> Option<Need> {
        let (package, interface) = self.name.split_once('/')?;
        let (offered, need) = match (package, interface) {
            (
                "wasi:cli",
                "environment" | "exit" | "stdin" | "stdout" | "stderr" | "terminal-input"
                | "terminal-output" | "terminal-stdin" | "terminal-stdout" | "terminal-stderr",
            )
            | ("wasi:io", "error" | "poll" | "streams")
            | ("wasi:clocks", "monotonic-clock" | "wall-clock")
            | ("wasi:random", "random" | "insecure" | "insecure-seed") => ("0.2.12", Need::Base),
            ("wasi:filesystem", _) => return Some(Need::Never("no component is given files")),
            ("wasi:sockets", _) => {
                return Some(Need::Never(
                    "no component is given sockets; `wasi:http` can be granted",
                ));
            }
            ("wasi:http", "types" | "outgoing-handler") => (
                "0.2.12",
                Need::KindAndPermission(Kind::Tool, &[Class::Http]),
            ),
            // Plain values, and secrets as placeholders.
            ("wasi:config", "store") => (
                "0.2.0-rc.1",
                Need::KindAndPermission(Kind::Tool, &[Class::Config, Class::Secrets]),
            ),
            ("wasi:keyvalue", "store" | "atomics") => (
                "0.2.0-draft",
                Need::KindAndPermission(Kind::Tool, &[Class::KeyValue]),
            ),
            ("ambit:types", "types") => ("0.1.0", Need::Base),
            ("ambit:auth", "keys" | "verify") => ("0.1.0", Need::Kind(Kind::Auth)),
            ("ambit:routing", "directory") => ("0.1.0", Need::Kind(Kind::Routing)),
            ("ambit:guardrail", "rules") => ("0.1.0", Need::Kind(Kind::Guardrail)),
            ("ambit:retrieval", "index") => (
                "0.1.0",
                Need::KindAndPermission(Kind::Retrieval, &[Class::Collections]),
            ),
            _ => return None,
        };
        (track(&self.version) == track(offered)).then_some(need)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.version.is_empty() {
            Ok(())
        } else {
            write!(f, "@{}", self.version)
        }
    }
}

impl Serialize for Interface {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The interface a component of this kind exports.
pub(crate) fn exported_by(kind: Kind) -> Interface {
    Interface::parse(match kind {
        Kind::Auth => "ambit:auth/authenticator@0.1.0",
        Kind::Routing => "ambit:routing/router@0.1.0",
        Kind::Guardrail => "ambit:guardrail/guardrail@0.1.0",
        Kind::Retrieval => "ambit:retrieval/retriever@0.1.0",
        Kind::Tool => "ambit:tool/tool@0.1.0",
        Kind::Agent => "ambit:agent/agent@0.1.0",
    })
}

/// Whether a component that exports `found` exports `wanted`.
pub(crate) fn provides(found: &Interface, wanted: &Interface) -> bool {
    found.name == wanted.name && track(&found.version) == track(&wanted.version)
}

/// What two versions must share to be the same interface: the first number that is not zero, and all before it.
fn track(version: &str) -> &str {
    if version.contains(['-', '+']) {
        return version;
    }
    let mut end = 0;
    for part in version.split('.') {
        end += part.len();
        if part != "0" {
            break;
        }
        end += 1;
    }
    version.get(..end).unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_as_semver_says() {
        for (version, expected) in [
            ("0.2.6", "0.2"),
            ("0.2.12", "0.2"),
            ("0.3.0", "0.3"),
            ("1.4.2", "1"),
            ("0.0.3", "0.0.3"),
            ("0.2.0-draft2", "0.2.0-draft2"),
            ("", ""),
        ] {
            assert_eq!(track(version), expected, "{version}");
        }
    }

    #[test]
    fn knows_what_an_import_takes() {
        let need = |name| Interface::parse(name).need();
        assert_eq!(need("wasi:cli/environment@0.2.0"), Some(Need::Base));
        assert_eq!(need("wasi:cli/environment@0.3.0"), None);
        assert_eq!(
            need("wasi:http/outgoing-handler@0.2.6"),
            Some(Need::KindAndPermission(Kind::Tool, &[Class::Http]))
        );
        assert_eq!(
            need("wasi:config/store@0.2.0-rc.1"),
            Some(Need::KindAndPermission(
                Kind::Tool,
                &[Class::Config, Class::Secrets]
            ))
        );
        assert_eq!(need("wasi:config/store@0.2.0-draft"), None);
        assert_eq!(need("wasi:http/outgoing-handler@0.2.0-rc-2023-11-10"), None);
        assert_eq!(need("ambit:auth/keys@0.1.0"), Some(Need::Kind(Kind::Auth)));
        assert_eq!(need("ambit:auth/keys@0.2.0"), None);
        assert!(matches!(
            need("wasi:sockets/tcp@0.2.6"),
            Some(Need::Never(_))
        ));
        assert!(matches!(
            need("wasi:filesystem/preopens@0.2.6"),
            Some(Need::Never(_))
        ));
        assert_eq!(need("bare-function"), None);
        assert_eq!(need("wasi:cli/run@0.2.0"), None);
    }

    #[test]
    fn every_kind_exports_an_interface_of_its_own() {
        let mut exports: Vec<_> = Kind::ALL.iter().map(|kind| exported_by(*kind)).collect();
        exports.sort();
        exports.dedup();
        assert_eq!(exports.len(), Kind::ALL.len());
    }
}
