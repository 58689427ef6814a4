//! What a component is and wants, for people who decide about it.

use crate::{AdmissionError, Code, Digest, EngineClass, Interface, admit, interface::Need};
use ambit_policy::{Class, Grant, Limits, Link, Manifest};
use serde::Serialize;
use std::sync::Arc;

/// A component laid open. Serialises to the JSON of `ambit component inspect`.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its engine: `pure` or `effectful`.
    pub engine: &'static str,
    /// What its author says and asks for, with every limit.
    pub manifest: Manifest,
    /// What it imports.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<Interface>,
    /// What the given grant leaves; absent when none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
}

/// One import and what it takes.
#[derive(Debug, Clone, Serialize)]
pub struct Import {
    /// Its name.
    pub interface: Interface,
    /// `base`, a kind, a permission's name, `never` or `not offered`.
    pub takes: String,
}

/// What a grant leaves of a component's requests.
#[derive(Debug, Clone, Serialize)]
pub struct Granted {
    /// Whether it would run.
    pub admitted: bool,
    /// What is missing, one sentence each.
    pub refusals: Vec<String>,
    /// Permissions of which something remains.
    pub permissions: Vec<Class>,
    /// Optional permissions of which nothing remains: every use is denied.
    pub denied: Vec<Class>,
    /// What each call may use at most.
    pub limits: Limits,
}

/// Lays a component open, and what `grant` would leave of it.
#[must_use]
pub fn inspect(code: &Arc<Code>, grant: Option<&Grant>) -> Inspection {
    Inspection {
        digest: code.digest(),
        engine: EngineClass::of(code.kind()).as_str(),
        manifest: code.manifest().clone(),
        imports: code
            .imports()
            .iter()
            .map(|import| Import {
                interface: import.clone(),
                takes: takes(import),
            })
            .collect(),
        exports: code.exports().to_vec(),
        granted: grant.map(|grant| granted(code, grant)),
    }
}

fn takes(import: &Interface) -> String {
    match import.need() {
        None => "not offered".into(),
        Some(Need::Base) => "base".into(),
        Some(Need::Kind(kind)) => format!("kind {kind}"),
        Some(Need::KindAndPermission(kind, classes)) => {
            let each: Vec<_> = classes
                .iter()
                .map(|class| format!("permissions.{class}"))
                .collect();
            format!("kind {kind}, {}", each.join(" or "))
        }
        Some(Need::Never(_)) => "never".into(),
    }
}

fn granted(code: &Arc<Code>, grant: &Grant) -> Granted {
    let limits = code.manifest().limits.granted(code.kind(), &grant.limits);
    match admit(code, &grant.permissions) {
        Ok(admitted) => {
            let linked = |how| {
                Class::ALL
                    .iter()
                    .copied()
                    .filter(|class| admitted.link(*class) == how)
                    .collect()
            };
            Granted {
                admitted: true,
                refusals: Vec::new(),
                permissions: linked(Link::Granted),
                denied: linked(Link::Denial),
                limits,
            }
        }
        Err(AdmissionError { refusals, .. }) => {
            let refusals = refusals.iter().map(ToString::to_string).collect();
            Granted {
                admitted: false,
                refusals,
                permissions: Vec::new(),
                denied: Vec::new(),
                limits,
            }
        }
    }
}
