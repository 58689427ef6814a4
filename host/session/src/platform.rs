//! The parts of the host that sessions and the control plane share.

use crate::{definition::ModelName, library::Library, tokens::Tokens};
use ambit_capabilities::{auth::KeySets, tool::Reach};
use ambit_index::Index;
use ambit_inference::Providers;
use ambit_ledger::PriceTable;
use ambit_runtime::Runtime;
use ambit_store::Store;
use std::sync::Arc;

/// Made once by the composition root; cheap to clone.
#[derive(Clone)]
pub struct Platform {
    pub runtime: Arc<Runtime>,
    pub store: Store,
    pub index: Index,
    /// What there is for tools.
    pub reach: Reach,
    /// Key sets of token issuers, shared by all tenants that trust one.
    pub key_sets: KeySets,
    pub providers: Providers,
    pub prices: Arc<PriceTable>,
    /// None: no key is configured to sign them with.
    pub tokens: Option<Arc<Tokens>>,
    pub library: Arc<Library>,
    pub settings: Arc<Settings>,
}

/// What the operator configured that more than one part needs to know.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Domains under which each tenant has its label, for example `localhost`: lower-case A-labels.
    pub base_domains: Vec<String>,
    /// The model of agents whose definition says `default/default`.
    pub default_model: Option<ModelName>,
}
