//! May this component run here, and with what?
//!
//! Admission compares what the component's type imports (beyond base) with what its author asks for and the operator grants, before
//! anything is linked, and says everything that is missing at once, in the manifest's words. What passes is an [`Admitted`], the only
//! thing that can be linked.
//!
//! A request the author marked `optional` may be ungranted: its interface is then linked like any other and the [`Ambit`] denies every
//! value, which each WIT concerned has a typed error for (`HTTP-request-denied`, `denied`). Stubs generated from the WIT could not tell
//! a guest more, and would trap in constructors that the real interface lets pass.

use crate::{
    Code, Digest,
    interface::{Interface, Need},
};
use ambit_policy::{Ambit, Ceiling, Class, Kind, Limits, Link, Missing, Permissions};
use std::{fmt, sync::Arc};

/// A component that may run, with what it may do at most.
#[derive(Debug, Clone)]
pub struct Admitted {
    code: Arc<Code>,
    ambit: Ambit,
    limits: Limits,
    policy: Digest,
}

/// Why a component may not run: everything that is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct AdmissionError {
    /// The component's name.
    pub component: String,
    /// Never empty.
    pub refusals: Vec<Refusal>,
}

/// One thing that stands between a component and running.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The component imports what its manifest does not ask for. Its author must.
    NotAsked {
        /// The import.
        import: Interface,
        /// The permissions it takes, any of them.
        classes: &'static [Class],
    },
    /// The manifest asks for what the operator does not grant. The operator may.
    NotGranted(Missing),
    /// This host has no such interface, or not in this version.
    NotOffered {
        /// The import.
        import: Interface,
    },
    /// The interface exists, but not for components of this kind.
    WrongKind {
        /// The import.
        import: Interface,
        /// The kind that may import it.
        only: Kind,
    },
    /// No component may import it.
    Never {
        /// The import.
        import: Interface,
        /// The rule.
        why: &'static str,
    },
}

/// Compares a component with the operator's grant for it.
///
/// # Errors
///
/// Everything that is missing, together.
pub fn admit(code: &Arc<Code>, operator: &Permissions) -> Result<Admitted, AdmissionError> {
    let manifest = code.manifest();
    let ambit = Ambit::new(
        Arc::new(manifest.permissions.clone()),
        Arc::new(operator.clone()),
    );
    let mut refusals: Vec<_> = code
        .imports()
        .iter()
        .filter_map(|import| refusal(code.kind(), import, &manifest.permissions))
        .collect();
    // Two imports of one class (`wasi:http/types` and `outgoing-handler`) take one request.
    refusals.dedup_by(|a, b| matches!((a, b), (Refusal::NotAsked { classes: a, .. }, Refusal::NotAsked { classes: b, .. }) if a == b));
    refusals.extend(ambit.missing().into_iter().map(Refusal::NotGranted));
    if refusals.is_empty() {
        let policy = policy_digest(&manifest.permissions, operator);
        Ok(Admitted {
            code: code.clone(),
            ambit,
            limits: manifest.limits.granted(code.kind(), &Ceiling::default()),
            policy,
        })
    } else {
        Err(AdmissionError {
            component: manifest.component.name.to_string(),
            refusals,
        })
    }
}

fn refusal(kind: Kind, import: &Interface, asked: &Permissions) -> Option<Refusal> {
    let import = import.clone();
    let Some(need) = import.need() else {
        return Some(Refusal::NotOffered { import });
    };
    let (only, classes): (Kind, &'static [Class]) = match need {
        Need::Base => return None,
        Need::Never(why) => return Some(Refusal::Never { import, why }),
        Need::Kind(only) => (only, &[]),
        Need::KindAndPermission(only, classes) => (only, classes),
    };
    if kind != only {
        return Some(Refusal::WrongKind { import, only });
    }
    let not_asked = !classes.is_empty() && classes.iter().all(|class| asked.is_empty(*class));
    not_asked.then_some(Refusal::NotAsked { import, classes })
}

/// Separates pools: instances that may do different things never share memory.
fn policy_digest(author: &Permissions, operator: &Permissions) -> Digest {
    // Permissions are lists and strings: they always serialise.
    Digest::of(&serde_json::to_vec(&(author, operator)).unwrap_or_default())
}

impl Admitted {
    /// The component.
    #[must_use]
    pub fn code(&self) -> &Arc<Code> {
        &self.code
    }

    /// Author ∩ operator.
    #[must_use]
    pub fn ambit(&self) -> &Ambit {
        &self.ambit
    }

    /// With the limits that the operator's grant leaves of the author's: where it names one, that may be more than the host's maximum.
    #[must_use]
    pub fn granted(mut self, operator: &Ceiling) -> Self {
        self.limits = (self.code.manifest().limits).granted(self.code.kind(), operator);
        self
    }

    /// With the limits that a tenant's grant leaves of these. A ceiling above a limit changes nothing.
    #[must_use]
    pub fn under(mut self, ceiling: &Ceiling) -> Self {
        self.limits = self.limits.under(ceiling);
        self
    }

    /// What each call may use at most: the author's limits under the host's maximum and every ceiling so far.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Digest of author's request and operator's grant.
    #[must_use]
    pub fn policy(&self) -> Digest {
        self.policy
    }

    /// Whether the component imports this interface (named without version), so that it must be linked.
    #[must_use]
    pub fn imports(&self, interface: &str) -> bool {
        self.code
            .imports()
            .iter()
            .any(|import| import.name() == interface)
    }

    /// How imports of a permission's interfaces are linked.
    #[must_use]
    pub fn link(&self, class: Class) -> Link {
        self.ambit.link(class)
    }
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not admitted:", self.component)?;
        self.refusals
            .iter()
            .try_for_each(|refusal| write!(f, "\n- {refusal}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked { import, classes } => {
                let each = |show: fn(Class) -> String| {
                    let texts: Vec<_> = classes.iter().map(|class| show(*class)).collect();
                    texts.join(" or ")
                };
                write!(
                    f,
                    "{}: the component imports `{import}`, but its manifest does not ask for it; its author adds {}",
                    each(|class| format!("permissions.{class}")),
                    each(|class| example(class).to_owned())
                )
            }
            Self::NotGranted(missing) => {
                write!(
                    f,
                    "{missing}: asked for by the author, not granted by the operator; grant it with {}",
                    example(missing.class)
                )
            }
            Self::NotOffered { import } => write!(
                f,
                "the component imports `{import}`, which this host does not offer"
            ),
            Self::WrongKind { import, only } => write!(
                f,
                "the component imports `{import}`, which is only for components of kind `{only}`"
            ),
            Self::Never { import, why } => write!(f, "the component imports `{import}`: {why}"),
        }
    }
}

/// How a permission of this class is written.
fn example(class: Class) -> &'static str {
    match class {
        Class::Http => "[[permissions.http]] origin = \"https://…\" methods = [\"GET\"]",
        Class::Models => "permissions.models = [\"provider/model\"]",
        Class::Collections => "permissions.collections = [\"read:…\"]",
        Class::KeyValue => "permissions.keyvalue = [\"…\"]",
        Class::Config => "permissions.config = [\"…\"]",
        Class::Secrets => {
            "permissions.secrets = [{ name = \"…\", header = \"…\", origin = \"https://…\" }]"
        }
    }
}
