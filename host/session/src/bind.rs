//! Binding: from rows of the store to linked components.
//!
//! A slot says which component does a job: `routing`, `auth/0`, `auth/1`, …, `guardrail`, `retrieval`, `agent/<component>`,
//! `tool/<component>`. The installation has defaults, a tenant may bind its own. The operator's grant is per component name, so a swap to
//! another version never widens anything by itself.

use crate::{
    children::tool_name,
    definition::AgentDefinition,
    library::store_error,
    platform::Platform,
    tenants::{BoundTool, LiveAgent, Now, Problem, Tenant},
};
use ambit_capabilities::{
    Narrowing,
    agent::Agent as Step,
    auth::{AuthSource as _, Authenticator},
    guardrail::{Guardrail, Rule, Rules, Stage},
    retrieval::Retriever,
    tool::Toolbox,
};
use ambit_policy::{Ambit, Ceiling, Grant, Kind, Permissions};
use ambit_runtime::{Admitted, admit};
use ambit_store::{Digest, SlotBinding, TenantStore};
use ambit_types::{AgentName, ComponentName, Error, ErrorKind};
use serde::Deserialize as _;
use std::{collections::BTreeMap, sync::Arc};

/// The name under which the operator and tenants grant models to plain pass-through requests. No component has it.
pub const PASS_THROUGH: &str = "ambit:pass-through";

/// Slots and grants: the installation's with the operator's, or a tenant's own.
#[derive(Default)]
pub(crate) struct Bindings {
    slots: BTreeMap<String, Digest>,
    grants: BTreeMap<ComponentName, Grant>,
}

impl Bindings {
    /// The installation's defaults.
    pub(crate) async fn installation(platform: &Platform) -> Result<Self, Error> {
        let operator = platform.store.operator();
        Ok(Self {
            slots: slots(operator.default_slots().await.map_err(store_error)?),
            grants: grants(operator.grants().await.map_err(store_error)?)?,
        })
    }

    /// A tenant's own.
    async fn of_tenant(store: &TenantStore) -> Result<Self, Error> {
        Ok(Self {
            slots: slots(store.slots().await.map_err(store_error)?),
            grants: grants(store.grants().await.map_err(store_error)?)?,
        })
    }

    /// Admits the component of a slot, if one is bound, under the limits that the operator and the tenant leave it.
    async fn admit(
        &self,
        platform: &Platform,
        own: &Self,
        slot: &str,
        kind: Kind,
    ) -> Result<Option<Admitted>, Error> {
        let Some(digest) = own.slots.get(slot).or_else(|| self.slots.get(slot)) else {
            return Ok(None);
        };
        let code = platform.library.code(*digest).await?;
        if code.kind() != kind {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "slot {slot} is bound to a component of kind {}",
                    code.kind()
                ),
            ));
        }
        let name = &code.manifest().component.name;
        let nothing = Grant::default();
        let grant = self.grants.get(name).unwrap_or(&nothing);
        let admitted = admit(&code, &grant.permissions)
            .map_err(|error| Error::new(ErrorKind::Conflict, error.to_string()))?
            .granted(&grant.limits);
        Ok(Some(match own.grants.get(name) {
            Some(tenant) => admitted.under(&tenant.limits),
            None => admitted,
        }))
    }

    fn permissions(&self, component: &str) -> Option<Arc<Permissions>> {
        let grant = self.grants.get(component)?;
        Some(Arc::new(grant.permissions.clone()))
    }

    async fn require(
        &self,
        platform: &Platform,
        own: &Self,
        slot: &str,
        kind: Kind,
    ) -> Result<Admitted, Error> {
        let admitted = self.admit(platform, own, slot, kind).await?;
        admitted.ok_or_else(|| Error::new(ErrorKind::Conflict, format!("no component is bound to slot {slot}; install one and bind it with `ambit component swap`")))
    }
}

/// The component that decides before there is a tenant.
pub(crate) async fn routing(platform: &Platform, defaults: &Bindings) -> Result<Admitted, Error> {
    defaults
        .require(platform, &Bindings::default(), "routing", Kind::Routing)
        .await
}

/// Builds a tenant's snapshot. Without a working authenticator and guardrail there is none; an agent that cannot be bound is left out.
pub(crate) async fn tenant(
    platform: &Platform,
    defaults: &Bindings,
    row: &ambit_store::Tenant,
    now: Now,
) -> Result<Tenant, Error> {
    let store = platform.store.tenant(row.id);
    let own = Bindings::of_tenant(&store).await?;
    let meters = platform.runtime.tenant(row.id, &row.slug);
    let narrowing_of = |admitted: &Admitted| Narrowing {
        tenant: own.permissions(&admitted.code().manifest().component.name),
    };

    let mut chain = Vec::new();
    while let Some(admitted) = defaults
        .admit(platform, &own, &format!("auth/{}", chain.len()), Kind::Auth)
        .await?
    {
        chain.push(admitted);
    }
    let admitted = defaults
        .require(platform, &own, "guardrail", Kind::Guardrail)
        .await?;
    let guardrail = Guardrail::new(
        &platform.runtime,
        &admitted,
        rules(store.rules().await.map_err(store_error)?)?,
    )?;

    let mut problems = Vec::new();
    let mut retriever = None;
    let mut retrieval = Narrowing::default();
    if let Some(admitted) = defaults
        .admit(platform, &own, "retrieval", Kind::Retrieval)
        .await?
    {
        retrieval = narrowing_of(&admitted);
        retriever = Some(Retriever::new(
            &platform.runtime,
            &admitted,
            platform.store.clone(),
            platform.index.clone(),
        )?);
    }

    let mut agents = BTreeMap::new();
    let mut toolboxes: BTreeMap<ComponentName, BoundTool> = BTreeMap::new();
    for agent in store.agents().await.map_err(store_error)? {
        let bound = async {
            let definition = AgentDefinition::from_json(&agent.definition)?;
            let admitted = defaults
                .require(
                    platform,
                    &own,
                    &format!("agent/{}", definition.component),
                    Kind::Agent,
                )
                .await?;
            let mut tools = Vec::with_capacity(definition.tools.len());
            for name in &definition.tools {
                if !toolboxes.contains_key(name) {
                    let admitted = defaults
                        .require(platform, &own, &format!("tool/{name}"), Kind::Tool)
                        .await?;
                    let toolbox =
                        Toolbox::new(&platform.runtime, &admitted, platform.reach.clone()).await?;
                    let narrowing = narrowing_of(&admitted);
                    problems.extend(
                        toolbox
                            .without_value(&row.slug, &narrowing)
                            .into_iter()
                            .map(|secret| Problem {
                                what: format!("tool {name}"),
                                why: format!("secret `{secret}` has no value in the configuration"),
                            }),
                    );
                    toolboxes.insert(name.clone(), BoundTool { toolbox, narrowing });
                }
                tools.extend(toolboxes.get(name).cloned());
            }
            problems.extend(shadowed(&definition, &tools));
            let ambit = admitted
                .ambit()
                .clone()
                .narrowed_by_tenant(narrowing_of(&admitted).tenant)
                .narrowed_by_tenant(Some(Arc::new(definition.permissions()?)));
            let step = Step::new(&platform.runtime, &admitted)?;
            Ok::<_, Error>(LiveAgent {
                definition,
                updated_ms: agent.updated_ms,
                step,
                tools,
                ambit,
            })
        }
        .await;
        match bound {
            Ok(bound) => drop(agents.insert(agent.name, Arc::new(bound))),
            Err(error) => {
                tracing::warn!(tenant = %row.slug, agent = %agent.name, error = &error as &dyn std::error::Error, "an agent could not be bound");
                problems.push(Problem {
                    what: format!("agent {}", agent.name),
                    why: error.message().to_owned(),
                });
            }
        }
    }

    let signs = platform.tokens.is_some();
    problems.extend(
        agents
            .values()
            .flat_map(|agent| absent(agent, &agents, signs)),
    );

    // Last: describing tools may have taken a while, and a key revoked meanwhile is not to come back.
    let records = store.load().await.map_err(Error::internal)?;
    let authenticator = Authenticator::new(
        &platform.runtime,
        meters.clone(),
        &chain,
        records,
        Arc::new(store.clone()),
        platform.key_sets.clone(),
    )?;

    Ok(Tenant {
        id: row.id,
        slug: row.slug.clone(),
        models: pass_through(defaults, &own)?,
        meters,
        authenticator,
        guardrail,
        retriever,
        retrieval,
        agents,
        revoked: now.revoked,
        budgeted: now.budgeted,
        reading: now.reading,
        problems,
    })
}

/// Tools of an agent that another of its components has a tool of the same name before: `Offer` keeps the first.
fn shadowed(definition: &AgentDefinition, tools: &[BoundTool]) -> Vec<Problem> {
    let mut owners = BTreeMap::new();
    let mut problems = Vec::new();
    for (component, bound) in definition.tools.iter().zip(tools) {
        for spec in bound.toolbox.describe() {
            let owner = *owners.entry(&spec.name).or_insert(component);
            if owner != component {
                problems.push(Problem {
                    what: format!("agent {}", definition.name),
                    why: format!(
                        "tool `{}` of {component} is hidden by that of {owner}",
                        spec.name
                    ),
                });
            }
        }
    }
    problems
}

/// Agents that one asks and cannot.
fn absent(
    asking: &LiveAgent,
    agents: &BTreeMap<AgentName, Arc<LiveAgent>>,
    signs: bool,
) -> Vec<Problem> {
    let definition = &asking.definition;
    let what = || format!("agent {}", definition.name);
    let absent = definition.agents.iter().filter_map(|name| {
        let tool = tool_name(name);
        let mut specs = asking.tools.iter().flat_map(|bound| bound.toolbox.describe());
        let why = if !signs {
            format!("it asks the agent `{name}`, which it can only with a key for capability tokens: set `tokens.key`")
        } else if !agents.contains_key(name) {
            format!("it asks the agent `{name}`, which is not there")
        } else if specs.any(|spec| spec.name == tool) {
            format!("it cannot ask the agent `{name}`: another tool of it is `{tool}`")
        } else {
            let model = &agents.get(name)?.definition.model;
            let may = asking.ambit.model(&model.provider, &model.model);
            may.err()?;
            format!("it asks the agent `{name}`, whose model `{model}` it may not use itself, so that one cannot answer it; add it to `models`")
        };
        Some(Problem { what: what(), why })
    });
    absent.collect()
}

/// Plain pass-through asks for every model; what the operator and the tenant grant remains.
fn pass_through(defaults: &Bindings, own: &Bindings) -> Result<Ambit, Error> {
    let everything =
        serde_json::from_value(serde_json::json!({ "models": ["*"] })).map_err(Error::internal)?;
    let granted = defaults.permissions(PASS_THROUGH).unwrap_or_default();
    Ok(Ambit::new(Arc::new(everything), granted).narrowed_by_tenant(own.permissions(PASS_THROUGH)))
}

fn slots(rows: Vec<SlotBinding>) -> BTreeMap<String, Digest> {
    rows.into_iter()
        .map(|row| (row.slot, row.component))
        .collect()
}

fn grants(rows: Vec<ambit_store::Grant>) -> Result<BTreeMap<ComponentName, Grant>, Error> {
    rows.into_iter()
        .map(|row| {
            let unreadable = |error: serde_json::Error| {
                Error::internal(format!("the grant of {}: {error}", row.component))
            };
            let grant = Grant {
                permissions: Permissions::deserialize(&row.permissions).map_err(unreadable)?,
                limits: Ceiling::deserialize(&row.limits).map_err(unreadable)?,
            };
            Ok((row.component, grant))
        })
        .collect()
}

/// A tenant without rules of its own has the installation's.
fn rules(rows: Vec<ambit_store::GuardrailRule>) -> Result<Rules, Error> {
    if rows.is_empty() {
        return Ok(Stage::ALL
            .into_iter()
            .flat_map(|stage| {
                default_rules(stage)
                    .into_iter()
                    .map(move |rule| (stage, rule))
            })
            .collect());
    }
    rows.into_iter()
        .map(|row| {
            let unknown =
                |what: &str| Error::internal(format!("a guardrail rule has an unknown {what}"));
            let stage = Stage::ALL
                .into_iter()
                .find(|stage| stage.as_str() == row.stage)
                .ok_or_else(|| unknown("stage"))?;
            let action =
                serde_json::from_value(row.action.into()).map_err(|_| unknown("action"))?;
            Ok((
                stage,
                Rule {
                    category: row.category,
                    action,
                },
            ))
        })
        .collect()
}

/// What happens where nobody chose: attacks are refused where instructions are read, secrets never leave, personal data is reported.
#[must_use]
pub fn default_rules(stage: Stage) -> Vec<Rule> {
    use ambit_capabilities::guardrail::Action::{Flag, Mask, Reject};
    let rule = |category: &str, action| Rule {
        category: category.into(),
        action,
    };
    match stage {
        Stage::Input => vec![
            rule("prompt-injection", Reject),
            rule("secret", Mask),
            rule("pii", Flag),
        ],
        Stage::Retrieved | Stage::ToolResult => vec![
            rule("prompt-injection", Reject),
            rule("secret", Mask),
            rule("pii", Flag),
        ],
        Stage::Output => vec![
            rule("prompt-injection", Flag),
            rule("secret", Mask),
            rule("pii", Mask),
        ],
        Stage::Ingest => vec![
            rule("prompt-injection", Flag),
            rule("secret", Mask),
            rule("pii", Flag),
        ],
    }
}
