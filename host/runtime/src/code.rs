//! A component, checked and compiled.

use crate::{
    Digest,
    engine::{EngineClass, slots_of},
    interface::{self, Interface},
};
use ambit_policy::{Kind, Manifest};
use std::sync::Arc;
use wasmtime::component::Component;

/// Longest component that is loaded. Compiling costs some hundred times this in memory and time.
pub const MAX_COMPONENT: usize = 64 << 20;

/// A component with its manifest, checked and compiled for its engine. Loaded, not yet admitted: nothing is linked.
#[derive(Debug)]
pub struct Code {
    compiled: Arc<Compiled>,
    manifest: Manifest,
}

/// What follows from a component's bytes alone, so that tenants with different manifests share it.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) digest: Digest,
    pub(crate) class: EngineClass,
    pub(crate) component: Component,
    slots: u32,
    imports: Vec<Interface>,
    exports: Vec<Interface>,
}

/// Why a component cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Longer than [`MAX_COMPONENT`].
    #[error("the component has {0} bytes; at most {MAX_COMPONENT} are loaded")]
    TooLong(usize),
    /// Not a component, or not one this engine takes.
    #[error("not a WebAssembly component this host can run")]
    Invalid(#[source] wasmtime::Error),
    /// It does not export what its kind says.
    #[error(
        "`{component}` says it is of kind `{kind}`, but does not export `{expected}`; it exports {found}"
    )]
    WrongKind {
        /// The component's name.
        component: String,
        /// The manifest's kind.
        kind: Kind,
        /// What a component of that kind exports.
        expected: Interface,
        /// What this one exports, for people.
        found: String,
    },
    /// Loading was cut off: the process is stopping.
    #[error("loading was interrupted")]
    Interrupted,
}

impl Compiled {
    pub(crate) fn new(component: Component, class: EngineClass, digest: Digest) -> Self {
        let engine = component.engine().clone();
        let ty = component.component_type();
        let imports = ty
            .imports(&engine)
            .map(|(name, _)| Interface::parse(name))
            .collect();
        let exports = ty
            .exports(&engine)
            .map(|(name, _)| Interface::parse(name))
            .collect();
        Self {
            digest,
            class,
            slots: slots_of(&component),
            component,
            imports,
            exports,
        }
    }
}

impl Code {
    pub(crate) fn new(compiled: Arc<Compiled>, manifest: Manifest) -> Result<Self, LoadError> {
        let kind = manifest.component.kind;
        let expected = interface::exported_by(kind);
        if !compiled
            .exports
            .iter()
            .any(|found| interface::provides(found, &expected))
        {
            let found: Vec<_> = compiled
                .exports
                .iter()
                .map(|export| format!("`{export}`"))
                .collect();
            return Err(LoadError::WrongKind {
                component: manifest.component.name.to_string(),
                kind,
                expected,
                found: if found.is_empty() {
                    "nothing".into()
                } else {
                    found.join(", ")
                },
            });
        }
        Ok(Self { compiled, manifest })
    }

    /// SHA-256 of the component's bytes: its identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.compiled.digest
    }

    /// What its author says of it and asks for.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What capability it provides.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.manifest.component.kind
    }

    /// The engine it runs on.
    #[must_use]
    pub fn class(&self) -> EngineClass {
        self.compiled.class
    }

    /// What it imports, in its own order.
    #[must_use]
    pub fn imports(&self) -> &[Interface] {
        &self.compiled.imports
    }

    /// What it exports, in its own order.
    #[must_use]
    pub fn exports(&self) -> &[Interface] {
        &self.compiled.exports
    }

    pub(crate) fn component(&self) -> &Component {
        &self.compiled.component
    }

    /// How many slots of the engine's pool an instance takes.
    pub(crate) fn slots(&self) -> u32 {
        self.compiled.slots
    }
}
