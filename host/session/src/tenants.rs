//! Live tenants: for each, one immutable snapshot of everything it is bound to.
//!
//! A change (a key revoked, a component swapped, an agent applied) builds a new snapshot beside the old one and swaps an `Arc`. A request
//! takes its snapshot once, at its start: it never sees two versions of anything, and a swap makes no request wait or fail. A tenant
//! whose new snapshot cannot be built keeps the old one; one that never had any is not served.

use crate::{
    bind::{self, Bindings},
    definition::AgentDefinition,
    library::store_error,
    platform::Platform,
};
use ambit_capabilities::{
    Narrowing,
    agent::Agent as Step,
    auth::Authenticator,
    guardrail::Guardrail,
    retrieval::Retriever,
    routing::{Directory, Router},
    tool::Toolbox,
};
use ambit_policy::Ambit;
use ambit_types::{AgentName, Error, TenantId, TenantSlug};
use arc_swap::ArcSwap;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Mutex;

/// How often other processes' changes are looked for: a revoked key works nowhere longer than this and a database's answer.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All live tenants. Cheap to clone.
#[derive(Clone)]
pub struct Tenants {
    inner: Arc<Inner>,
}

struct Inner {
    platform: Platform,
    router: Router,
    live: ArcSwap<Live>,
    /// One change at a time; readers never wait.
    change: Mutex<()>,
}

#[derive(Default, Clone)]
struct Live {
    by_id: HashMap<TenantId, Arc<Tenant>>,
    by_slug: HashMap<TenantSlug, TenantId>,
}

/// Everything one tenant is bound to, at one moment.
pub struct Tenant {
    pub id: TenantId,
    pub slug: TenantSlug,
    /// The runtime's meters of this tenant.
    pub meters: Arc<ambit_runtime::Tenant>,
    pub authenticator: Authenticator,
    pub guardrail: Guardrail,
    pub retriever: Option<Retriever>,
    /// How this tenant narrows the retrieval component.
    pub retrieval: Narrowing,
    pub agents: BTreeMap<AgentName, Arc<LiveAgent>>,
    /// Which models may be called by `provider/model`.
    pub models: Ambit,
    /// What could not be bound, for the operator.
    pub problems: Vec<Problem>,
}

/// An agent with everything it is bound to.
pub struct LiveAgent {
    pub definition: AgentDefinition,
    pub updated_ms: i64,
    pub step: Step,
    pub tools: Vec<BoundTool>,
    /// Author ∩ operator ∩ tenant ∩ definition.
    pub ambit: Ambit,
}

/// A tool component as one agent holds it.
#[derive(Clone)]
pub struct BoundTool {
    pub toolbox: Toolbox,
    pub narrowing: Narrowing,
}

/// Something that could not be bound.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// For example `agent assistant`.
    pub what: String,
    pub why: String,
}

impl Tenants {
    /// Binds every tenant of the store.
    ///
    /// # Errors
    /// The store cannot be read, or no routing component can be bound.
    pub async fn load(platform: Platform) -> Result<Self, Error> {
        let defaults = Bindings::installation(&platform).await?;
        let routing = bind::routing(&platform, &defaults).await?;
        let router = Router::new(&platform.runtime, &routing, directory(&platform).await?)?;
        let tenants = Self {
            inner: Arc::new(Inner {
                platform,
                router,
                live: ArcSwap::default(),
                change: Mutex::new(()),
            }),
        };
        tenants.reload_all().await?;
        Ok(tenants)
    }

    #[must_use]
    pub fn router(&self) -> &Router {
        &self.inner.router
    }

    #[must_use]
    pub fn by_id(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.inner.live.load().by_id.get(&id).cloned()
    }

    #[must_use]
    pub fn by_slug(&self, slug: &str) -> Option<Arc<Tenant>> {
        let live = self.inner.live.load();
        live.by_slug
            .get(slug)
            .and_then(|id| live.by_id.get(id))
            .cloned()
    }

    /// Every live tenant, by slug.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all: Vec<_> = self.inner.live.load().by_id.values().cloned().collect();
        all.sort_by(|a, b| a.slug.cmp(&b.slug));
        all
    }

    /// Takes in a change of one tenant's rows.
    ///
    /// # Errors
    /// The new snapshot cannot be built; the old one stays.
    pub async fn reload(&self, id: TenantId) -> Result<(), Error> {
        let _one = self.inner.change.lock().await;
        let defaults = Bindings::installation(&self.inner.platform).await?;
        let row = self
            .inner
            .platform
            .store
            .tenant(id)
            .tenant()
            .await
            .map_err(store_error)?;
        let row = row.ok_or_else(|| Error::not_found("there is no such tenant"))?;
        let tenant = Arc::new(bind::tenant(&self.inner.platform, &defaults, &row).await?);
        let mut live = Live::clone(&self.inner.live.load());
        live.by_slug.insert(tenant.slug.clone(), id);
        live.by_id.insert(id, tenant);
        self.inner.live.store(Arc::new(live));
        Ok(())
    }

    /// Takes in a change of the whole installation: grants, default components, tenants, host names.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn reload_all(&self) -> Result<(), Error> {
        let _one = self.inner.change.lock().await;
        let platform = &self.inner.platform;
        let defaults = Bindings::installation(platform).await?;
        let old = self.inner.live.load_full();
        let mut live = Live::default();
        for row in platform
            .store
            .operator()
            .tenants()
            .await
            .map_err(store_error)?
        {
            let tenant = match bind::tenant(platform, &defaults, &row).await {
                Ok(tenant) => Arc::new(tenant),
                Err(error) => {
                    tracing::error!(tenant = %row.slug, error = &error as &dyn std::error::Error, "a tenant could not be bound");
                    match old.by_id.get(&row.id) {
                        Some(tenant) => tenant.clone(),
                        None => continue,
                    }
                }
            };
            live.by_slug.insert(tenant.slug.clone(), tenant.id);
            live.by_id.insert(tenant.id, tenant);
        }
        self.inner.live.store(Arc::new(live));
        self.reroute(&defaults).await
    }

    /// Puts the bound routing component over today's directory. One that cannot be bound leaves the present one at work, as with tenants.
    async fn reroute(&self, defaults: &Bindings) -> Result<(), Error> {
        let Inner {
            platform, router, ..
        } = &*self.inner;
        let directory = directory(platform).await?;
        let swapped = match bind::routing(platform, defaults).await {
            Ok(routing) => router
                .swap(&routing, directory.clone())
                .map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = swapped {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the routing component could not be bound; the present one goes on"
            );
            router.replace(directory);
        }
        Ok(())
    }

    /// Follows what other processes change, until dropped. Run it once, beside the server.
    pub async fn follow(&self) {
        let mut seen = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.look(&mut seen).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "changes could not be looked for"
                ),
            }
        }
    }

    async fn look(&self, seen: &mut Option<Epochs>) -> Result<(), Error> {
        let now = Epochs::read(&self.inner.platform).await?;
        let Some(before) = seen.replace(now.clone()) else {
            return Ok(());
        };
        if before.installation != now.installation {
            return self.reload_all().await;
        }
        for (tenant, epochs) in &now.tenants {
            if before.tenants.get(tenant) != Some(epochs) {
                self.reload(*tenant).await?;
            }
        }
        Ok(())
    }
}

/// Counters that move with every change.
#[derive(Clone, PartialEq)]
struct Epochs {
    installation: [i64; 2],
    tenants: BTreeMap<TenantId, Vec<i64>>,
}

impl Epochs {
    async fn read(platform: &Platform) -> Result<Self, Error> {
        use ambit_store::InstallationEpochKind::{Components, Directory};
        let operator = platform.store.operator();
        let installation = [
            operator
                .installation_epoch(Components)
                .await
                .map_err(store_error)?,
            operator
                .installation_epoch(Directory)
                .await
                .map_err(store_error)?,
        ];
        let mut tenants: BTreeMap<TenantId, Vec<i64>> = BTreeMap::new();
        let mut rows = operator.tenant_epochs().await.map_err(store_error)?;
        rows.sort_by_key(|row| (row.tenant, row.kind));
        for row in rows {
            tenants.entry(row.tenant).or_default().push(row.value);
        }
        Ok(Self {
            installation,
            tenants,
        })
    }
}

async fn directory(platform: &Platform) -> Result<Directory, Error> {
    let operator = platform.store.operator();
    let labels = operator
        .tenants()
        .await
        .map_err(store_error)?
        .into_iter()
        .map(|tenant| (tenant.slug, tenant.id))
        .collect();
    let names = operator
        .host_names()
        .await
        .map_err(store_error)?
        .into_iter()
        .map(|name| (name.name, name.tenant))
        .collect();
    Ok(Directory::new(
        platform.settings.base_domains.clone(),
        labels,
        names,
    ))
}
