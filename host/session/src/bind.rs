//! Binding: from rows of the store to linked components.
//!
//! A slot says which component does a job: `routing`, `auth/0`, `auth/1`, …, `guardrail`, `retrieval`, `agent/<component>`,
//! `tool/<component>`. The installation has defaults, a tenant may bind its own. The operator's grant is per component name, so a swap to
//! another version never widens anything by itself.

use crate::{
    definition::AgentDefinition,
    library::store_error,
    platform::Platform,
    tenants::{BoundTool, LiveAgent, Problem, Tenant},
};
use ambit_capabilities::{
    Narrowing,
    agent::Agent as Step,
    auth::{AuthSource as _, Authenticator},
    guardrail::{Guardrail, Rule, Rules, Stage},
    retrieval::Retriever,
    tool::Toolbox,
};
use ambit_policy::{Ambit, Kind, Permissions};
use ambit_runtime::{Admitted, admit};
use ambit_store::{Digest, Grant, SlotBinding};
use ambit_types::{ComponentName, Error, ErrorKind};
use serde::Deserialize as _;
use std::{collections::BTreeMap, sync::Arc};

/// The name under which the operator and tenants grant models to plain pass-through requests. No component has it.
pub const PASS_THROUGH: &str = "ambit:pass-through";

/// Slots and the operator's grants.
pub(crate) struct Bindings {
    slots: BTreeMap<String, Digest>,
    grants: BTreeMap<ComponentName, Permissions>,
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

    fn digest(&self, own: &BTreeMap<String, Digest>, slot: &str) -> Option<Digest> {
        own.get(slot).or_else(|| self.slots.get(slot)).copied()
    }

    /// Admits the component of a slot, if one is bound.
    async fn admit(
        &self,
        platform: &Platform,
        own: &BTreeMap<String, Digest>,
        slot: &str,
        kind: Kind,
    ) -> Result<Option<Admitted>, Error> {
        let Some(digest) = self.digest(own, slot) else {
            return Ok(None);
        };
        let code = platform.library.code(digest).await?;
        if code.kind() != kind {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "slot {slot} is bound to a component of kind {}",
                    code.kind()
                ),
            ));
        }
        let nothing = Permissions::default();
        let grant = self
            .grants
            .get(&code.manifest().component.name)
            .unwrap_or(&nothing);
        let admitted = admit(&code, grant)
            .map_err(|error| Error::new(ErrorKind::Conflict, error.to_string()))?;
        Ok(Some(admitted))
    }

    async fn require(
        &self,
        platform: &Platform,
        own: &BTreeMap<String, Digest>,
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
        .require(platform, &BTreeMap::new(), "routing", Kind::Routing)
        .await
}

/// Builds a tenant's snapshot. Without a working authenticator and guardrail there is none; an agent that cannot be bound is left out.
pub(crate) async fn tenant(
    platform: &Platform,
    defaults: &Bindings,
    row: &ambit_store::Tenant,
) -> Result<Tenant, Error> {
    let store = platform.store.tenant(row.id);
    let own = slots(store.slots().await.map_err(store_error)?);
    let narrowing = grants(store.grants().await.map_err(store_error)?)?;
    let meters = platform.runtime.tenant(row.id, &row.slug);
    let narrowing_of = |admitted: &Admitted| Narrowing {
        tenant: narrowing
            .get(&admitted.code().manifest().component.name)
            .cloned()
            .map(Arc::new),
        token: None,
    };

    let mut chain = Vec::new();
    while let Some(admitted) = defaults
        .admit(platform, &own, &format!("auth/{}", chain.len()), Kind::Auth)
        .await?
    {
        chain.push(admitted);
    }
    let records = store.load().await.map_err(Error::internal)?;
    let authenticator = Authenticator::new(
        &platform.runtime,
        meters.clone(),
        &chain,
        records,
        Arc::new(store.clone()),
        platform.key_sets.clone(),
    )?;

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
                    toolboxes.insert(
                        name.clone(),
                        BoundTool {
                            toolbox,
                            narrowing: narrowing_of(&admitted),
                        },
                    );
                }
                tools.extend(toolboxes.get(name).cloned());
            }
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

    Ok(Tenant {
        id: row.id,
        slug: row.slug.clone(),
        models: pass_through(defaults, &narrowing)?,
        meters,
        authenticator,
        guardrail,
        retriever,
        retrieval,
        agents,
        problems,
    })
}

/// Plain pass-through asks for every model; what the operator and the tenant grant remains.
fn pass_through(
    defaults: &Bindings,
    narrowing: &BTreeMap<ComponentName, Permissions>,
) -> Result<Ambit, Error> {
    let everything =
        serde_json::from_value(serde_json::json!({ "models": ["*"] })).map_err(Error::internal)?;
    let granted = defaults
        .grants
        .get(PASS_THROUGH)
        .cloned()
        .unwrap_or_default();
    let tenant = narrowing.get(PASS_THROUGH).cloned().map(Arc::new);
    Ok(Ambit::new(Arc::new(everything), Arc::new(granted)).narrowed_by_tenant(tenant))
}

fn slots(rows: Vec<SlotBinding>) -> BTreeMap<String, Digest> {
    rows.into_iter()
        .map(|row| (row.slot, row.component))
        .collect()
}

fn grants(rows: Vec<Grant>) -> Result<BTreeMap<ComponentName, Permissions>, Error> {
    rows.into_iter()
        .map(|row| {
            let permissions = Permissions::deserialize(&row.permissions).map_err(|error| {
                Error::internal(format!("the grant of {}: {error}", row.component))
            })?;
            Ok((row.component, permissions))
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
