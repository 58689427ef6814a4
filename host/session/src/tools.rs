//! The tools of one request: those of the agent's components, the agents it may ask, and those the client brought.

use crate::{
    children,
    event::ClientTool,
    tenants::{LiveAgent, Tenant},
};
use ambit_capabilities::{
    Narrowing,
    tool::{ToolSpec, Toolbox},
};
use ambit_inference::Tool;
use ambit_types::{AgentName, ComponentName, Error};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Who carries out a tool.
#[derive(Clone)]
pub(crate) enum Source {
    Host {
        toolbox: Toolbox,
        narrowing: Narrowing,
        reversible: bool,
        /// Calling it twice with one id does it once.
        idempotent: bool,
    },
    /// Another agent, in a session of its own.
    Agent(AgentName),
    Client,
}

#[derive(Default)]
pub(crate) struct Offer {
    tools: BTreeMap<String, (Source, ToolSpec)>,
    order: Vec<String>,
}

impl Offer {
    /// `only`: the components that the session may use of the agent's. None: all.
    ///
    /// # Errors
    /// A client's tool has a name that is none, is taken, or comes twice.
    pub(crate) fn new(
        tenant: &Tenant,
        agent: &LiveAgent,
        only: Option<&[ComponentName]>,
        client: Vec<ClientTool>,
    ) -> Result<Self, Error> {
        let mut offer = Self::default();
        for (_, bound) in agent.tools_within(only) {
            for spec in bound.toolbox.describe() {
                let source = Source::Host {
                    toolbox: bound.toolbox.clone(),
                    narrowing: bound.narrowing.clone(),
                    reversible: spec.reversible,
                    idempotent: spec.idempotent,
                };
                // Two components of one agent with a tool of one name: the first bound one wins, and the other is among the tenant's problems.
                if !offer.tools.contains_key(&spec.name) {
                    offer.add(source, spec.clone());
                }
            }
        }
        for name in &agent.definition.agents {
            let Some(asked) = tenant.agents.get(name) else {
                continue;
            };
            let spec = children::spec(&asked.definition);
            if !offer.tools.contains_key(&spec.name) {
                offer.add(Source::Agent(name.clone()), spec);
            }
        }
        for tool in client {
            if tool.name.parse::<ambit_types::ToolName>().is_err() {
                return Err(Error::invalid(
                    "tools",
                    "a tool's name must be 1 to 64 letters, digits, `_` and `-`",
                ));
            }
            if offer.tools.contains_key(&tool.name) {
                return Err(Error::invalid(
                    "tools",
                    format!(
                        "the name `{}` is taken by another tool of this agent or request",
                        tool.name
                    ),
                ));
            }
            let spec = ToolSpec {
                name: tool.name,
                description: tool.description,
                parameters: tool.parameters.get().to_owned(),
                reversible: true,
                idempotent: false,
            };
            offer.add(Source::Client, spec);
        }
        Ok(offer)
    }

    fn add(&mut self, source: Source, spec: ToolSpec) {
        self.order.push(spec.name.clone());
        self.tools.insert(spec.name.clone(), (source, spec));
    }

    pub(crate) fn source(&self, name: &str) -> Option<&Source> {
        self.tools.get(name).map(|(source, _)| source)
    }

    pub(crate) fn is_client(&self, name: &str) -> bool {
        matches!(self.source(name), Some(Source::Client))
    }

    pub(crate) fn host_specs(&self) -> Vec<ToolSpec> {
        self.specs(false)
    }

    pub(crate) fn client_specs(&self) -> Vec<ToolSpec> {
        self.specs(true)
    }

    fn specs(&self, client: bool) -> Vec<ToolSpec> {
        self.order
            .iter()
            .filter_map(|name| self.tools.get(name))
            .filter(|(source, _)| matches!(source, Source::Client) == client)
            .map(|(_, spec)| spec.clone())
            .collect()
    }

    /// What the model gets to see of these tools.
    ///
    /// # Errors
    /// A name nobody offers.
    pub(crate) fn for_model(&self, names: &[String]) -> Result<Vec<Tool>, Error> {
        names
            .iter()
            .map(|name| {
                let (_, spec) = self.tools.get(name).ok_or_else(|| {
                    crate::conversation::bad_move(format!("there is no tool `{name}`"))
                })?;
                let parameters =
                    RawValue::from_string(spec.parameters.clone()).map_err(Error::internal)?;
                Ok(Tool {
                    name: spec.name.clone(),
                    description: spec.description.clone(),
                    parameters,
                })
            })
            .collect()
    }
}
