//! What a process has one of: engines, clock, code cache, executor, tenants' shares.

use crate::{
    CallScope, Code, Digest, Executor, LoadError, Metrics, Tenant, TenantLimits,
    cache::Cache,
    code::{Compiled, MAX_COMPONENT},
    engine::{Allocation, EngineClass, Engines, default_threads},
    links::Links,
    metrics::Pools,
    ticker::Ticker,
    turnstile::Turnstile,
    warm::Warm,
};
use ambit_policy::Manifest;
use ambit_types::{CallContext, Labels, TenantId, TenantSlug};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Weak},
};
use wasmtime::component::Component;

/// How a runtime is set up. The default suits every role.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where compiled code is kept; made if it is missing. `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// Threads for pure calls, at least 2.
    pub threads: usize,
    /// What each tenant may use.
    pub tenant: TenantLimits,
    /// Where the memories of instances come from.
    pub allocation: Allocation,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            cache: None,
            threads: default_threads(),
            tenant: TenantLimits::default(),
            allocation: Allocation::default(),
        }
    }
}

/// The process cannot run components.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No engine for this machine.
    #[error("cannot make an engine")]
    Engine(#[source] wasmtime::Error),
    /// No threads.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// Runs components.
#[derive(Debug)]
pub struct Runtime {
    engines: Engines,
    ticker: Arc<Ticker>,
    warm: Warm,
    executor: Executor,
    turnstile: Turnstile,
    links: Links,
    cache: Option<Cache>,
    compiled: Mutex<HashMap<(Digest, EngineClass), Weak<Compiled>>>,
    /// Held while compiling: it uses every core by itself, and two requests for one component compile it once.
    compiling: Mutex<()>,
    tenants: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    host: Arc<Tenant>,
    describing: Arc<Tenant>,
    tenant_limits: TenantLimits,
    metrics: Metrics,
}

impl Runtime {
    /// Makes the engines and starts the threads.
    ///
    /// # Errors
    ///
    /// Where this machine cannot run an engine or give a thread.
    pub fn new(config: RuntimeConfig) -> Result<Arc<Self>, StartError> {
        let engines = Engines::new(config.allocation).map_err(StartError::Engine)?;
        let warm = Warm::default();
        let ticker = Ticker::start(engines.clone(), warm.clone()).map_err(StartError::Thread)?;
        let executor = Executor::start(config.threads).map_err(StartError::Thread)?;
        #[allow(clippy::expect_used, reason = "a constant; a test makes a runtime")]
        let host: TenantSlug = "host".parse().expect("a valid name");
        let id = TenantId::new();
        Ok(Arc::new(Self {
            engines,
            ticker: Arc::new(ticker),
            warm,
            executor,
            turnstile: Turnstile::new(),
            links: Links::default(),
            cache: config.cache.as_deref().and_then(Cache::open),
            compiled: Mutex::default(),
            compiling: Mutex::default(),
            tenants: RwLock::default(),
            host: Tenant::new(id, host.clone(), config.tenant),
            describing: Tenant::new(id, host, config.tenant),
            tenant_limits: config.tenant,
            metrics: Metrics::default(),
        }))
    }

    /// Checks and compiles a component, or takes it from the cache, away from the threads that serve requests.
    ///
    /// # Errors
    ///
    /// When it is not a component of its manifest's kind.
    pub async fn load(
        self: &Arc<Self>,
        wasm: Bytes,
        manifest: Manifest,
    ) -> Result<Arc<Code>, LoadError> {
        let runtime = self.clone();
        let load = move || runtime.load_blocking(&wasm, manifest);
        tokio::task::spawn_blocking(load)
            .await
            .unwrap_or(Err(LoadError::Interrupted))
    }

    /// As [`Self::load`], on this thread.
    ///
    /// # Errors
    ///
    /// As for [`Self::load`].
    pub fn load_blocking(&self, wasm: &[u8], manifest: Manifest) -> Result<Arc<Code>, LoadError> {
        if wasm.len() > MAX_COMPONENT {
            return Err(LoadError::TooLong(wasm.len()));
        }
        let class = EngineClass::of(manifest.component.kind);
        let compiled = self.compiled(wasm, class)?;
        Code::new(compiled, manifest).map(Arc::new)
    }

    fn compiled(&self, wasm: &[u8], class: EngineClass) -> Result<Arc<Compiled>, LoadError> {
        let digest = Digest::of(wasm);
        if let Some(compiled) = self.in_memory(digest, class) {
            return Ok(compiled);
        }
        let _compiling = self.compiling.lock();
        if let Some(compiled) = self.in_memory(digest, class) {
            return Ok(compiled);
        }
        let engine = self.engines.of(class);
        let component = match self
            .cache
            .as_ref()
            .and_then(|cache| cache.load(engine, class, digest))
        {
            Some(component) => component,
            None => {
                // Only the binary format: a text would have two digests for one component.
                let component = Component::from_binary(engine, wasm).map_err(LoadError::Invalid)?;
                if let Some(cache) = &self.cache {
                    cache.store(&component, class, digest);
                }
                component
            }
        };
        let compiled = Arc::new(Compiled::new(component, class, digest));
        let mut known = self.compiled.lock();
        known.retain(|_, compiled| compiled.strong_count() > 0);
        known.insert((digest, class), Arc::downgrade(&compiled));
        Ok(compiled)
    }

    fn in_memory(&self, digest: Digest, class: EngineClass) -> Option<Arc<Compiled>> {
        self.compiled
            .lock()
            .get(&(digest, class))
            .and_then(Weak::upgrade)
    }

    pub(crate) fn turnstile(&self) -> &Turnstile {
        &self.turnstile
    }

    /// Threads for pure calls.
    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// A tenant's share, the same for everybody who asks.
    #[must_use]
    pub fn tenant(&self, id: TenantId, slug: &TenantSlug) -> Arc<Tenant> {
        if let Some(tenant) = self.tenants.read().get(&id) {
            return tenant.clone();
        }
        let new = || Tenant::new(id, slug.clone(), self.tenant_limits);
        self.tenants.write().entry(id).or_insert_with(new).clone()
    }

    /// A call in this context: its tenant pays, its deadline counts.
    #[must_use]
    pub fn scope(&self, ctx: &CallContext) -> CallScope {
        let tenant = self.tenant(ctx.tenant, &ctx.tenant_slug);
        CallScope {
            agent: ctx.agent.clone(),
            cpu: ctx.cpu.clone(),
            ..CallScope::new(tenant, ctx.deadline)
        }
    }

    /// Pays for what is done before a tenant is known: routing.
    #[must_use]
    pub fn host_tenant(&self) -> &Arc<Tenant> {
        &self.host
    }

    /// Pays for asking tools what they are, apart from the share that every request's routing needs. Its name is the host's.
    #[must_use]
    pub fn describing(&self) -> &Arc<Tenant> {
        &self.describing
    }

    /// What the runtime counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes what the runtime counts visible in `registry`, with how full its pools are.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        self.metrics.register(registry);
        registry.register_collector(Box::new(Pools(Arc::downgrade(self))));
    }

    /// What a tenant is called in metrics, spans and logs. The host's own share has a name that no tenant can have.
    pub(crate) fn label<'a>(&self, tenant: &'a Tenant) -> &'a str {
        if tenant.id() == self.host.id() {
            Labels::HOST
        } else {
            tenant.slug()
        }
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn warm(&self) -> &Warm {
        &self.warm
    }

    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }
}
