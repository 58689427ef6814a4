//! What a session has that another one started: at most what those above it have, as they are now.

use crate::{
    approvals::Approvals,
    bodies::HandedOn,
    chat::Sessions,
    durable::live_agent,
    tenants::{LiveAgent, Tenant},
};
use ambit_policy::Permissions;
use ambit_store::{Session, TenantStore};
use ambit_types::{AgentName, ComponentName, Error, ErrorKind, SessionId};
use std::sync::Arc;

/// Asked in every mode of tokens, beside the session's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handed {
    /// The sessions above it, the one that started it first.
    pub(crate) above: Arc<[SessionId]>,
    /// The tool components that it may use.
    pub(crate) tools: Vec<ComponentName>,
    /// What the agents above it may reach: asked for models and collections. What tools reach their own layers bound.
    pub(crate) layers: Vec<Arc<Permissions>>,
    /// What somebody has to approve of by the definitions of those agents.
    pub(crate) approvals: Vec<(AgentName, Approvals)>,
    /// Tokens that models may read and write in it.
    pub(crate) tokens: Option<u64>,
}

impl Handed {
    /// As it stood in the session's journal when it was started.
    pub(crate) fn recorded(on: &HandedOn) -> Self {
        Self {
            tools: on.tools.clone(),
            tokens: on.tokens,
            ..Self::default()
        }
    }

    /// No more than was recorded, whatever those above have got since.
    pub(crate) fn within(mut self, on: &HandedOn) -> Self {
        self.tools.retain(|tool| on.tools.contains(tool));
        self.tokens = on.tokens;
        self
    }

    fn of(agents: &[Arc<LiveAgent>], above: Vec<SessionId>) -> Self {
        let mut handed = Self {
            above: above.into(),
            ..Self::default()
        };
        for (place, agent) in agents.iter().enumerate() {
            let tools = &agent.definition.tools;
            match place {
                0 => handed.tools.clone_from(tools),
                _ => handed.tools.retain(|tool| tools.contains(tool)),
            }
            for (_, layer) in agent.ambit.layers() {
                if !handed.layers.iter().any(|known| **known == *layer) {
                    handed.layers.push(Arc::new(layer.clone()));
                }
            }
            let rules = agent.definition.approvals.clone();
            handed
                .approvals
                .push((agent.definition.name.clone(), rules));
        }
        handed
    }
}

impl Sessions {
    /// What a session of `agent` has that the session `parent` started.
    ///
    /// # Errors
    /// The store's; [`ErrorKind::Conflict`] where one above it is over, and [`ErrorKind::Forbidden`] where one above may not ask it (any more).
    pub(crate) async fn handed(
        &self,
        tenant: &Tenant,
        agent: &AgentName,
        parent: SessionId,
    ) -> Result<Handed, Error> {
        let store = self.platform.store.tenant(tenant.id);
        let (mut agents, mut above) = (Vec::<Arc<LiveAgent>>::new(), Vec::new());
        let (mut next, mut asked) = (Some(parent), agent.clone());
        while let Some(id) = next {
            let Some(starter) = at_work(&store, id).await? else {
                let why = "the session that started this one is over";
                return Err(Error::new(ErrorKind::Conflict, why));
            };
            let asking = live_agent(tenant, &starter)?;
            if !asking.definition.agents.contains(&asked) {
                let name = &asking.definition.name;
                return Err(Error::forbidden(format!(
                    "the agent `{name}` may not ask the agent `{asked}`"
                )));
            }
            asked = asking.definition.name.clone();
            agents.push(asking);
            above.push(id);
            next = starter.parent;
        }
        Ok(Handed::of(&agents, above))
    }

    /// Whether a session was started by one that is over.
    pub(crate) async fn is_orphan(&self, known: &Session) -> Result<bool, Error> {
        let Some(parent) = known.parent else {
            return Ok(false);
        };
        let store = self.platform.store.tenant(known.tenant);
        Ok(at_work(&store, parent).await?.is_none())
    }
}

/// A session that is not over.
async fn at_work(store: &TenantStore, id: SessionId) -> Result<Option<Session>, Error> {
    let known = store.session(id).await?;
    Ok(known.filter(|known| !known.state.is_closed()))
}
