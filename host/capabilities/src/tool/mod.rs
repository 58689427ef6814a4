//! Something an agent can do in the world.
//!
//! A [`Toolbox`] is one tool component with what it says of its tools, asked once of each component and held to the contract. A call's arguments are
//! what a model wrote: they are checked against the tool's schema and rewritten by us before the component sees them, so that both
//! read the same. What the component reaches is [`Reach`], under author ∩ operator, narrowed by tenant and token.

mod config;
mod described;
mod entries;
mod http;
mod keyvalue;
mod schema;
mod spec;
mod values;

pub use crate::bindings::types::{ToolCall, ToolSpec};
pub use http::Outbound;
pub use values::{BadValue, Set, Values};

use crate::{Failure, LoadError, Narrowing};
use ambit_policy::{Ambit, Permissions, Permit, ToolUse};
use ambit_runtime::{Admitted, CallError, Effectful, Limit, Meter, Runtime};
use ambit_store::Store;
use ambit_types::{CallContext, TenantSlug};
use described::Described;
use entries::Entries;
use exports::ambit::tool::tool::ToolError as GuestError;
use http::EgressSpent;
use serde_json::{Value, json};
use spec::Specs;
use std::{sync::Arc, time::Instant};

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/tool"],
    world: "ambit:tool/guest",
    with: { "ambit:types/types": crate::bindings::types },
    exports: { default: async },
});

ambit_runtime::bindings!(Guest, GuestPre);

/// Longest text of an error handed to a model.
const MESSAGE_CAP: usize = 1024;

/// What a model reads of a tool's answer: plain text or JSON. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    pub content: String,
}

/// Why a tool has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("there is no tool `{0}`")]
    UnknownTool(String),
    /// The text tells the model how to mend them.
    #[error("the arguments are not valid: {0}")]
    InvalidArguments(String),
    /// The permissions in force do not cover it.
    #[error("not allowed: {0}")]
    Denied(String),
    #[error("no answer in time: {0}")]
    Timeout(String),
    #[error("{0}")]
    Unavailable(String),
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl ToolError {
    /// Stable code, as in `ambit:agent/agent.failure`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownTool(_) | Self::InvalidArguments(_) => "invalid",
            Self::Denied(_) => "denied",
            Self::Timeout(_) | Self::Failure(Failure::Call(CallError::Limit(Limit::Deadline))) => {
                "timeout"
            }
            Self::Failure(Failure::Call(CallError::Limit(_))) => "limit",
            Self::Unavailable(_) | Self::Failure(_) => "unavailable",
        }
    }

    /// What the model may read: what failed inside the host or the component stays in the log.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Failure(Failure::Call(CallError::Limit(limit))) => {
                format!("the tool spent its `{limit}` limit")
            }
            Self::Failure(Failure::Call(CallError::Busy(_))) => {
                "too many calls at once; try again later".to_owned()
            }
            Self::Failure(_) => "the tool failed".to_owned(),
            other => {
                let text = other.to_string();
                text[..text.floor_char_boundary(MESSAGE_CAP)].to_owned()
            }
        }
    }
}

/// What the host has for tools; each call gets of it what its ambit leaves. Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Reach {
    outbound: Outbound,
    values: Arc<Values>,
    store: Option<Store>,
    described: Arc<Described>,
}

impl Reach {
    /// The way out, and neither configuration values nor secrets nor kept entries.
    #[must_use]
    pub fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            values: Arc::default(),
            store: None,
            described: Arc::default(),
        }
    }

    /// Where each tenant's entries are kept.
    #[must_use]
    pub fn with_store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    #[must_use]
    pub fn with_values(mut self, values: Arc<Values>) -> Self {
        self.values = values;
        self
    }
}

/// What one call holds of what its component may import. Closed until the call has begun: a component's start reaches nothing, and
/// neither does one that only describes its tools.
#[derive(Default)]
struct Host {
    http: http::Http,
    config: config::Config,
    keys: keyvalue::Keys,
}

impl Host {
    fn open(
        &mut self,
        reach: &Reach,
        ctx: &CallContext,
        ambit: &Arc<Ambit>,
        meter: &Arc<Meter>,
    ) -> wasmtime::Result<EgressSpent> {
        let values = &reach.values;
        let handles = Arc::new(values.handles(&ctx.tenant_slug, ambit)?);
        let tenant = ctx.tenant_slug.clone();
        self.config
            .open(values.clone(), tenant, ambit.clone(), handles.clone());
        if let Some(store) = &reach.store {
            let entries = Entries::new(store.tenant(ctx.tenant));
            self.keys.open(entries, ambit.clone());
        }
        Ok(self
            .http
            .open(&reach.outbound, ambit.clone(), handles, meter))
    }
}

/// The tools of one component. Cheap to clone.
#[derive(Clone)]
pub struct Toolbox(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    component: Effectful<Host, Guest>,
    ambit: Ambit,
    specs: Arc<Specs>,
    reach: Reach,
}

impl Toolbox {
    /// Links the component, and asks it what its tools are unless `reach` has heard that.
    ///
    /// # Errors
    ///
    /// When it cannot be linked, does not answer, or describes a tool that no model or host could use.
    pub async fn new(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        reach: Reach,
    ) -> Result<Self, LoadError> {
        let component = Effectful::link(runtime, admitted, |linker| {
            http::link(linker, admitted)?;
            config::link(linker, admitted)?;
            keyvalue::link(linker, admitted)
        })?;
        let specs = reach.described.of(runtime, admitted, &component).await?;
        let inner = Inner {
            runtime: runtime.clone(),
            component,
            ambit: admitted.ambit().clone(),
            specs,
            reach,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// What the component offers, names unique.
    #[must_use]
    pub fn describe(&self) -> &[ToolSpec] {
        self.0.specs.all()
    }

    /// Secrets a tenant's calls could have a handle of, if the configuration had a value for them.
    #[must_use]
    pub fn without_value(&self, tenant: &TenantSlug, narrowing: &Narrowing) -> Vec<String> {
        let ambit = narrowing.of(&self.0.ambit);
        let names = ambit.secret_names().into_iter();
        names
            .filter(|name| self.0.reach.values.secret(tenant, name).is_none())
            .map(str::to_owned)
            .collect()
    }

    /// What decides about the calls of a tenant: the component and the permissions it has there. Changes when any of them does.
    #[must_use]
    pub fn terms(&self, narrowing: &Narrowing) -> Value {
        let ambit = narrowing.of(&self.0.ambit);
        let layers: Vec<_> = ambit.layers().collect();
        json!({ "component": self.0.component.code().digest(), "permissions": layers })
    }

    /// Everything its author asks for: no call of it is allowed anything else.
    #[must_use]
    pub fn asks(&self) -> &Permissions {
        &self.0.component.code().manifest().permissions
    }

    /// The arguments of a call as the component is to read them.
    ///
    /// # Errors
    ///
    /// [`ToolError::UnknownTool`] and [`ToolError::InvalidArguments`].
    pub async fn arguments(&self, call: &ToolCall) -> Result<String, ToolError> {
        self.0.specs.check(&call.name, &call.arguments).await
    }

    /// Carries out one call.
    ///
    /// # Errors
    ///
    /// See [`ToolError`]. After [`ToolError::UnknownTool`] and [`ToolError::InvalidArguments`] from here the component was not called.
    pub async fn invoke(
        &self,
        ctx: &CallContext,
        narrowing: &Narrowing,
        call: ToolCall,
    ) -> Result<ToolOutput, ToolError> {
        let ambit = Arc::new(narrowing.of_call(&self.0.ambit, ctx));
        let permit = ambit
            .tool(&call.name)
            .map_err(|error| ToolError::Denied(error.to_string()))?;
        self.call(ctx, &ambit, &permit, call.id, &call.arguments)
            .await
    }

    /// Calls the tool the permit names.
    async fn call(
        &self,
        ctx: &CallContext,
        ambit: &Arc<Ambit>,
        permit: &Permit<ToolUse<'_>>,
        id: String,
        arguments: &str,
    ) -> Result<ToolOutput, ToolError> {
        let inner = &self.0;
        let call = ToolCall {
            id,
            name: permit.name.to_owned(),
            arguments: inner.specs.check(permit.name, arguments).await?,
        };
        let scope = inner.runtime.scope(ctx);
        let (answer, spent, late) = inner
            .component
            .call(&scope, Host::default(), async |store, guest| {
                // The call's meter exists only now.
                let meter = store.data().meter().clone();
                let host = &mut store.data_mut().host;
                let spent = host.open(&inner.reach, ctx, ambit, &meter)?;
                let answer = guest.ambit_tool_tool().call_invoke(store, &call).await?;
                // Egress ends a body at the deadline; a guest that takes the cut for the end was cut all the same.
                let late = Instant::now() >= meter.deadline();
                Ok((answer, spent.get(), late))
            })
            .await
            .map_err(Failure::from)?;
        if spent || late {
            let limit = if spent {
                Limit::Egress
            } else {
                Limit::Deadline
            };
            return Err(Failure::Call(CallError::Limit(limit)).into());
        }
        match answer {
            Ok(output) => Ok(ToolOutput {
                content: output.content,
            }),
            Err(GuestError::UnknownTool(name)) => Err(ToolError::UnknownTool(name)),
            Err(GuestError::InvalidArguments(what)) => Err(ToolError::InvalidArguments(what)),
            Err(GuestError::Denied(what)) => Err(ToolError::Denied(what)),
            Err(GuestError::Timeout(what)) => Err(ToolError::Timeout(what)),
            Err(GuestError::Unavailable(what)) => Err(ToolError::Unavailable(what)),
            Err(GuestError::Other(what)) => Err(Failure::Component(what).into()),
        }
    }
}
