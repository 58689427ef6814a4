//! The parts of the host that sessions and the control plane share.

use crate::{definition::ModelName, library::Library};
use ambit_capabilities::{auth::KeySets, tool::ToolHost};
use ambit_egress::{Egress, Handles};
use ambit_index::Index;
use ambit_inference::Providers;
use ambit_runtime::Runtime;
use ambit_store::Store;
use std::sync::Arc;

/// Made once by the composition root; cheap to clone.
#[derive(Clone)]
pub struct Platform {
    pub runtime: Arc<Runtime>,
    pub store: Store,
    pub index: Index,
    pub egress: Egress,
    /// Key sets of token issuers, shared by all tenants that trust one.
    pub key_sets: KeySets,
    /// Secrets the operator keeps for components, by handle.
    pub secrets: Arc<Handles>,
    pub providers: Providers,
    pub library: Arc<Library>,
    pub settings: Arc<Settings>,
}

impl Platform {
    /// What tool components are given beside their grants.
    pub(crate) fn tool_host(&self) -> ToolHost {
        ToolHost { egress: self.egress.clone(), secrets: self.secrets.clone() }
    }
}

/// What the operator configured that more than one part needs to know.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Domains under which each tenant has its label, for example `localhost`: lower-case A-labels.
    pub base_domains: Vec<String>,
    /// The model of agents whose definition says `default/default`.
    pub default_model: Option<ModelName>,
}
