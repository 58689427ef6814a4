//! Live tenants: for each, one immutable snapshot of everything it is bound to.
//!
//! A change (a key revoked, a component swapped, an agent applied) builds a new snapshot beside the old one and swaps an `Arc`. A request
//! takes its snapshot once, at its start: it never sees two versions of anything, and a swap makes no request wait or fail. A tenant
//! whose new snapshot cannot be built keeps the old one, with the keys and issuers of today; one that never had any is not served.
//!
//! Changes of one tenant follow each other and wait for nobody else's: a snapshot is read whole after its turn has come, so the one that is put in place last
//! is the newest.

use crate::{
    bind::{self, Bindings},
    definition::AgentDefinition,
    follow::Seen,
    library::store_error,
    past::Reading,
    platform::Platform,
};
use ambit_capabilities::{
    Narrowing,
    agent::Agent as Step,
    auth::{AuthSource as _, Authenticator},
    guardrail::Guardrail,
    retrieval::Retriever,
    routing::{Directory, Router},
    tool::Toolbox,
};
use ambit_ledger::ScopeKind;
use ambit_policy::{Ambit, token::Revoked};
use ambit_store::TenantStore;
use ambit_types::{AgentName, ComponentName, Error, TenantId, TenantSlug, TokenId};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::Mutex as Turn;

/// Tenants bound at a time where several are.
pub(crate) const AT_ONCE: usize = 4;

/// All live tenants. Cheap to clone.
#[derive(Clone)]
pub struct Tenants {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) platform: Platform,
    router: Router,
    live: RwLock<Live>,
    /// One change of a tenant at a time; readers never wait.
    turns: Mutex<HashMap<TenantId, Arc<Turn<()>>>>,
    rerouting: Turn<()>,
    seen: Mutex<Seen>,
    now: Mutex<HashMap<TenantId, Now>>,
}

/// What of a tenant holds at once, also for requests that run: shared by every snapshot of it.
#[derive(Clone, Default)]
pub(crate) struct Now {
    pub(crate) revoked: Revoked,
    pub(crate) budgeted: Arc<Budgeted>,
    pub(crate) reading: Arc<Reading>,
}

/// Whether a tenant has budgets.
#[derive(Debug, Default)]
pub struct Budgeted {
    any: AtomicBool,
    /// Of who reads and says so: of two, the second reads later.
    turn: Turn<()>,
}

impl Budgeted {
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Relaxed)
    }
}

#[derive(Default)]
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
    /// Capability tokens that are good no more, as this process knows it now: shared by every snapshot of the tenant.
    pub revoked: Revoked,
    /// Whether there are budgets: then what a call can cost is held back before it is made. As this process knows it now, as `revoked`.
    pub budgeted: Arc<Budgeted>,
    /// Of the journals of its sessions, shared as `revoked`.
    pub(crate) reading: Arc<Reading>,
    /// What could not be bound, for the operator.
    pub problems: Vec<Problem>,
}

impl Tenant {
    /// A token of it is good no more, here and at once; other processes read it.
    pub(crate) fn end_token(&self, id: TokenId, expires_ms: i64) {
        let ended = (id, until(expires_ms));
        self.revoked.rcu(|known| known.with([ended]));
    }
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

impl LiveAgent {
    /// Its tool components, as far as they are among `only`. None: all.
    pub(crate) fn tools_within(
        &self,
        only: Option<&[ComponentName]>,
    ) -> impl Iterator<Item = (&ComponentName, &BoundTool)> {
        let tools = self.definition.tools.iter().zip(&self.tools);
        tools.filter(move |(name, _)| only.is_none_or(|only| only.contains(name)))
    }
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
        // First: what changes while the rest is read is then seen as changed.
        let seen = Seen::read(&platform).await?;
        let defaults = Bindings::installation(&platform).await?;
        let routing = bind::routing(&platform, &defaults).await?;
        let router = Router::new(&platform.runtime, &routing, directory(&platform).await?)?;
        let tenants = Self {
            inner: Arc::new(Inner {
                platform,
                router,
                live: RwLock::default(),
                turns: Mutex::default(),
                rerouting: Turn::new(()),
                seen: Mutex::new(seen),
                now: Mutex::default(),
            }),
        };
        let failed = tenants.rebind_all().await?;
        tenants.seen().retry(failed);
        Ok(tenants)
    }

    #[must_use]
    pub fn router(&self) -> &Router {
        &self.inner.router
    }

    #[must_use]
    pub fn by_id(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.live().by_id.get(&id).cloned()
    }

    #[must_use]
    pub fn by_slug(&self, slug: &str) -> Option<Arc<Tenant>> {
        let live = self.live();
        live.by_slug
            .get(slug)
            .and_then(|id| live.by_id.get(id))
            .cloned()
    }

    /// Every live tenant, by slug.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all: Vec<_> = self.live().by_id.values().cloned().collect();
        all.sort_by(|a, b| a.slug.cmp(&b.slug));
        all
    }

    /// Takes in a change of one tenant's rows.
    ///
    /// # Errors
    /// The new snapshot cannot be built; the old one stays.
    pub async fn reload(&self, id: TenantId) -> Result<(), Error> {
        if self.rebind(id).await? {
            Ok(())
        } else {
            Err(Error::not_found("there is no such tenant"))
        }
    }

    /// Takes in a change of the whole installation: grants, default components, tenants, host names. A tenant that cannot be bound keeps what it has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn reload_all(&self) -> Result<(), Error> {
        let failed = self.rebind_all().await?;
        self.seen().retry(failed);
        Ok(())
    }

    /// Binds a tenant as its rows are now; one that is gone is no longer served. Whether there is one.
    pub(crate) async fn rebind(&self, id: TenantId) -> Result<bool, Error> {
        let platform = &self.inner.platform;
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        let store = platform.store.tenant(id);
        let Some(row) = store.tenant().await.map_err(store_error)? else {
            self.live_mut().remove(id);
            return Ok(false);
        };
        self.renew_credentials(id).await?;
        let defaults = Bindings::installation(platform).await?;
        let tenant = bind::tenant(platform, &defaults, &row, self.now(id)).await?;
        let tenant = Arc::new(tenant);
        // What was revoked while it was being bound; between this and the next line the look at credentials takes it in.
        renew(&store, &tenant).await?;
        self.live_mut().put(tenant);
        Ok(true)
    }

    /// Gives a live tenant today's credentials: a revoked key ends here, whatever else of the tenant is out of order or slow.
    pub(crate) async fn renew_credentials(&self, id: TenantId) -> Result<(), Error> {
        match self.by_id(id) {
            Some(tenant) => renew(&self.inner.platform.store.tenant(id), &tenant).await,
            None => Ok(()),
        }
    }

    /// Has a live tenant's budgets kept from here on, whatever else of it is out of order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn renew_budgets(&self, id: TenantId) -> Result<(), Error> {
        match self.by_id(id) {
            Some(tenant) => renew_budgeted(&self.inner.platform.store.tenant(id), &tenant).await,
            None => Ok(()),
        }
    }

    /// Binds every tenant, those that fail being told to the log, and the routing component. Which failed.
    pub(crate) async fn rebind_all(&self) -> Result<Vec<TenantId>, Error> {
        let operator = self.inner.platform.store.operator();
        let rows = operator.tenants().await.map_err(store_error)?;
        let mut ids: BTreeSet<_> = rows.into_iter().map(|row| row.id).collect();
        ids.extend(self.live().by_id.keys());
        let failed = stream::iter(ids)
            .map(async |id| self.rebind_or_tell(id).await.err().map(|()| id))
            .buffer_unordered(AT_ONCE)
            .filter_map(async |failed| failed)
            .collect()
            .await;
        self.reroute().await?;
        Ok(failed)
    }

    /// What failed is in the log.
    pub(crate) async fn rebind_or_tell(&self, id: TenantId) -> Result<(), ()> {
        self.rebind(id).await.map(drop).map_err(|error| {
            tracing::error!(tenant = %id, error = &error as &dyn std::error::Error, "a tenant could not be bound");
        })
    }

    fn now(&self, id: TenantId) -> Now {
        let now = self.inner.now.lock();
        let mut now = now.unwrap_or_else(PoisonError::into_inner);
        now.entry(id).or_default().clone()
    }

    fn turn(&self, id: TenantId) -> Arc<Turn<()>> {
        let turns = self.inner.turns.lock();
        let mut turns = turns.unwrap_or_else(PoisonError::into_inner);
        // Nobody has a turn whose only holder is this map.
        turns.retain(|other, turn| *other == id || Arc::strong_count(turn) > 1);
        turns.entry(id).or_default().clone()
    }

    /// Puts the bound routing component over today's directory. One that cannot be bound leaves the present one at work, as with tenants.
    async fn reroute(&self) -> Result<(), Error> {
        let Inner {
            platform,
            router,
            rerouting,
            ..
        } = &*self.inner;
        let _turn = rerouting.lock().await;
        let defaults = Bindings::installation(platform).await?;
        let directory = directory(platform).await?;
        let swapped = match bind::routing(platform, &defaults).await {
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

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        let seen = self.inner.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> RwLockReadGuard<'_, Live> {
        let live = self.inner.live.read();
        live.unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        let live = self.inner.live.write();
        live.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn put(&mut self, tenant: Arc<Tenant>) {
        self.by_slug.insert(tenant.slug.clone(), tenant.id);
        self.by_id.insert(tenant.id, tenant);
    }

    fn remove(&mut self, id: TenantId) {
        self.by_id.remove(&id);
        self.by_slug.retain(|_, other| *other != id);
    }
}

async fn renew(store: &TenantStore, tenant: &Tenant) -> Result<(), Error> {
    let records = store.load().await.map_err(Error::internal)?;
    tenant.authenticator.replace(records);
    renew_revoked(store, tenant).await?;
    renew_budgeted(store, tenant).await
}

/// Takes in whether there are budgets. Those of capability tokens count with their tokens alone.
pub(crate) async fn renew_budgeted(store: &TenantStore, tenant: &Tenant) -> Result<(), Error> {
    let _turn = tenant.budgeted.turn.lock().await;
    let budgets = store.budgets().await.map_err(store_error)?;
    let own = budgets
        .iter()
        .any(|budget| budget.scope.kind() != ScopeKind::Token);
    tenant.budgeted.any.store(own, Relaxed);
    Ok(())
}

/// Takes in what was revoked. Nothing is forgotten before its time, so two readings cannot undo each other.
async fn renew_revoked(store: &TenantStore, tenant: &Tenant) -> Result<(), Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let revoked = store.revoked_tokens(now_ms).await.map_err(store_error)?;
    let revoked = revoked.into_iter();
    let revoked: Vec<_> = revoked
        .map(|(id, until_ms)| (id, until(until_ms)))
        .collect();
    tenant
        .revoked
        .rcu(|known| known.with(revoked.iter().copied()).pruned(now.as_secs()));
    Ok(())
}

/// In seconds, rounded up: a token is revoked to its very end.
fn until(ms: i64) -> u64 {
    ms.unsigned_abs().div_ceil(1000)
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
