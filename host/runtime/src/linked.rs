//! Linked components and calls into them.
//!
//! [`Pure`] and [`Effectful`] are immutable values: a component with the imports its grants leave it. Swapping a component is swapping the
//! `Arc` around one; calls under way end on the version they began on.
//!
//! Each call gets a fresh instance, unless the manifest declares a reuse class; then an instance may serve further calls of
//! the *same tenant* after a call that ended well (one idle instance per tenant for `warm-serial`, up to `concurrency` for
//! `warm-concurrent`, while the process has a place for it, see [`warm`](crate::warm)). An instance serves one call at a time in any class. After a trap or a spent limit it is dropped, whatever it was.
//! The pool key of design §1.5 is in the shape: a linked component *is* one (component, policy), and keeps a share per tenant.

use crate::{
    Admitted, Busy, CallError, CallScope, Code, Limit, Meter, Runtime, Tenant, base,
    call::{Call, arm, classify, new_store},
    engine::EngineClass,
    meter::Place,
    metrics::Counters,
    pace::{paced, pay, thread_time},
    places::Taken,
    warm,
};
use ambit_policy::{Limits, Reuse};
use ambit_types::TenantId;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{Instrument as _, Span};
use wasmtime::{
    Store,
    component::{InstancePre, Linker},
};

/// Calls that may wait for a place of an effectful component, as a multiple of its places.
const WAITING_PER_PLACE: u32 = 16;

/// What `wasmtime::component::bindgen!` generates for a world, made usable by [`Pure`] and [`Effectful`].
/// Implement it with [`bindings!`](crate::bindings).
pub trait Bindings<H: 'static>: Sized + Send + 'static {
    /// The generated type that makes instances.
    type Pre: Send + Sync + 'static;

    /// Checks once that the component exports what the world says.
    ///
    /// # Errors
    ///
    /// When it does not.
    fn prepare(pre: InstancePre<Call<H>>) -> wasmtime::Result<Self::Pre>;

    /// Makes an instance in a store of the pure engine.
    ///
    /// # Errors
    ///
    /// When the component's start traps or a limit is spent.
    fn instantiate(pre: &Self::Pre, store: &mut Store<Call<H>>) -> wasmtime::Result<Self>;

    /// Makes an instance in a store of the effectful engine.
    ///
    /// # Errors
    ///
    /// As for [`Self::instantiate`].
    fn instantiate_async(
        pre: &Self::Pre,
        store: &mut Store<Call<H>>,
    ) -> impl Future<Output = wasmtime::Result<Self>> + Send
    where
        H: Send;
}

/// Implements [`Bindings`] for what `bindgen!` generated: `bindings!(Guest, GuestPre)`.
#[macro_export]
macro_rules! bindings {
    ($bindings:ident, $pre:ident) => {
        impl<H: Send + 'static> $crate::Bindings<H> for $bindings {
            type Pre = $pre<$crate::Call<H>>;

            fn prepare(
                pre: $crate::wasmtime::component::InstancePre<$crate::Call<H>>,
            ) -> $crate::wasmtime::Result<Self::Pre> {
                $pre::new(pre)
            }

            fn instantiate(
                pre: &Self::Pre,
                store: &mut $crate::wasmtime::Store<$crate::Call<H>>,
            ) -> $crate::wasmtime::Result<Self> {
                pre.instantiate(store)
            }

            async fn instantiate_async(
                pre: &Self::Pre,
                store: &mut $crate::wasmtime::Store<$crate::Call<H>>,
            ) -> $crate::wasmtime::Result<Self> {
                pre.instantiate_async(store).await
            }
        }
    };
}

/// A linked pure component: the same one wherever this component is linked with this policy and these limits. `H` is the host's data of a call, `B` the generated bindings.
pub struct Pure<H: Send + 'static, B: Bindings<H>>(Arc<Linked<H, B>>);

/// A linked effectful component: the same one wherever this component is linked with this policy and these limits. `H` is the host's data of a call, `B` the generated bindings.
pub struct Effectful<H: Send + 'static, B: Bindings<H>>(Arc<Linked<H, B>>);

/// A component cannot be linked: its imports or exports have other types than the host's, or it belongs on the other engine.
#[derive(Debug, thiserror::Error)]
#[error("`{component}` cannot be linked")]
pub struct LinkError {
    component: String,
    #[source]
    source: wasmtime::Error,
}

struct Linked<H: Send + 'static, B: Bindings<H>> {
    runtime: Arc<Runtime>,
    code: Arc<Code>,
    limits: Limits,
    pre: B::Pre,
    shares: Arc<Shares<H, B>>,
}

/// By tenant.
struct Shares<H: Send + 'static, B: Bindings<H>>(RwLock<HashMap<TenantId, Arc<Share<H, B>>>>);

/// What one tenant has of a component.
struct Share<H: Send + 'static, B: Bindings<H>> {
    places: Semaphore,
    waiting: AtomicU32,
    /// The one used last is last.
    warm: Mutex<Vec<Kept<H, B>>>,
    /// By agent. As many as the tenant has agents that make use of the component.
    counters: RwLock<HashMap<Option<Arc<str>>, Arc<Counters>>>,
}

/// An instance between calls.
struct Kept<H: Send + 'static, B: Bindings<H>> {
    instance: Instance<H, B>,
    since: Instant,
    _place: Taken,
}

struct Instance<H: Send + 'static, B: Bindings<H>> {
    store: Store<Call<H>>,
    bindings: B,
    /// Given back after the store is gone.
    _slots: Taken,
}

impl<H: Send + 'static, B: Bindings<H>> Pure<H, B> {
    /// Links a component. The base is linked already; `add` adds the interfaces of its kind, always the same ones for `H` and `B`.
    ///
    /// # Errors
    ///
    /// When types do not fit or its kind is effectful.
    pub fn link(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        add: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
    ) -> Result<Self, LinkError> {
        let base = base::link_pure;
        Linked::get(runtime, admitted, EngineClass::Pure, base, add).map(Self)
    }

    /// Calls the component on this thread. Belongs inside a job of the [`Executor`](crate::Executor): the guest may spin
    /// until its limits are spent.
    ///
    /// # Errors
    ///
    /// When the guest fails or spends a limit. Nothing else is affected then.
    pub fn call<R>(
        &self,
        scope: &CallScope,
        host: H,
        run: impl FnOnce(&mut Store<Call<H>>, &B) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        let span = self.0.span(scope);
        let meter = self.0.meter(scope);
        // Ticks are what a limit needs. Who pays by the time has all of it counted, also of calls shorter than one.
        let paid = scope.cpu.as_ref().map(|payer| (payer, thread_time()));
        let result = span.in_scope(|| self.call_metered(scope, &meter, host, run));
        if let Some((payer, began)) = paid {
            pay(payer, thread_time().saturating_sub(began));
        }
        self.0.end(&span, scope, &meter, result)
    }

    fn call_metered<R>(
        &self,
        scope: &CallScope,
        meter: &Arc<Meter>,
        host: H,
        run: impl FnOnce(&mut Store<Call<H>>, &B) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        let linked = &self.0;
        meter
            .check_deadline()
            .map_err(|spent| CallError::Limit(spent.0))?;
        let _tenant = Place::of_tenant(&scope.tenant).ok_or(CallError::Busy(Busy::Tenant))?;
        let share = linked.share(&scope.tenant);
        let _place = share
            .places
            .try_acquire()
            .map_err(|_| CallError::Busy(Busy::Component))?;
        let _running = linked.runtime.ticker().running();
        let outcome = (|| {
            let mut instance = match linked.take_warm(&share, scope, host, meter) {
                Ok(instance) => instance,
                Err(host) => {
                    let slots = linked.slots(scope)?;
                    let mut store = linked.new_store(scope, host, meter);
                    let bindings = B::instantiate(&linked.pre, &mut store)?;
                    Instance {
                        store,
                        bindings,
                        _slots: slots,
                    }
                }
            };
            let result = run(&mut instance.store, &instance.bindings)?;
            linked.keep_warm(&share, scope, instance);
            Ok(result)
        })();
        outcome.map_err(|error| classify(error, meter))
    }

    /// The component.
    #[must_use]
    pub fn code(&self) -> &Arc<Code> {
        &self.0.code
    }
}

impl<H: Send + 'static, B: Bindings<H>> Effectful<H, B> {
    /// Links a component. The base is linked already; `add` adds the interfaces of its kind and grants, always the same ones for `H`, `B`
    /// and the component's policy.
    ///
    /// # Errors
    ///
    /// When types do not fit or its kind is pure.
    pub fn link(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        add: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
    ) -> Result<Self, LinkError> {
        let base = base::link_effectful;
        Linked::get(runtime, admitted, EngineClass::Effectful, base, add).map(Self)
    }

    /// Calls the component. The future may be dropped at any point: the instance goes with it.
    ///
    /// # Errors
    ///
    /// When the guest fails, spends a limit or is still in a host function at its deadline. Nothing else is affected then.
    pub async fn call<R>(
        &self,
        scope: &CallScope,
        host: H,
        run: impl AsyncFnOnce(&mut Store<Call<H>>, &B) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        let span = self.0.span(scope);
        let meter = self.0.meter(scope);
        let whole = self
            .call_metered(scope, &meter, host, run)
            .instrument(span.clone());
        let runtime = &self.0.runtime;
        let paced = paced(runtime, scope.cpu.as_deref(), &meter, whole);
        let result = match tokio::time::timeout_at(meter.deadline().into(), paced).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Limit(Limit::Deadline)),
        };
        self.0.end(&span, scope, &meter, result)
    }

    async fn call_metered<R>(
        &self,
        scope: &CallScope,
        meter: &Arc<Meter>,
        host: H,
        run: impl AsyncFnOnce(&mut Store<Call<H>>, &B) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        let linked = &self.0;
        let share = linked.share(&scope.tenant);
        let _place = share.place(linked.concurrency()).await?;
        let _tenant = Place::of_tenant(&scope.tenant).ok_or(CallError::Busy(Busy::Tenant))?;
        let _running = linked.runtime.ticker().running();
        let outcome = async {
            let mut instance = match linked.take_warm(&share, scope, host, meter) {
                Ok(instance) => instance,
                Err(host) => {
                    let slots = linked.slots(scope)?;
                    let mut store = linked.new_store(scope, host, meter);
                    let bindings = B::instantiate_async(&linked.pre, &mut store).await?;
                    Instance {
                        store,
                        bindings,
                        _slots: slots,
                    }
                }
            };
            let result = run(&mut instance.store, &instance.bindings).await?;
            linked.keep_warm(&share, scope, instance);
            Ok(result)
        };
        outcome.await.map_err(|error| classify(error, meter))
    }

    /// The component.
    #[must_use]
    pub fn code(&self) -> &Arc<Code> {
        &self.0.code
    }
}

impl<H: Send + 'static, B: Bindings<H>> Linked<H, B> {
    fn get(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        class: EngineClass,
        base: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
        add: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
    ) -> Result<Arc<Self>, LinkError> {
        // One wasm may come with several manifests: only the same code is the same component.
        let fits = |linked: &Self| {
            Arc::ptr_eq(&linked.code, admitted.code()) && linked.limits == *admitted.limits()
        };
        let link = || Self::new(runtime, admitted, class, base, add);
        runtime.links().get(admitted.policy(), fits, link)
    }

    fn new(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        class: EngineClass,
        base: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
        add: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
    ) -> Result<Self, LinkError> {
        let code = admitted.code();
        let name = &code.manifest().component.name;
        let link = || {
            if code.class() != class {
                let kind = code.kind();
                wasmtime::bail!("components of kind `{kind}` are not {class}");
            }
            let mut linker = Linker::new(runtime.engines().of(class));
            base(&mut linker)?;
            add(&mut linker)?;
            B::prepare(linker.instantiate_pre(code.component())?)
        };
        let pre = link().map_err(|source| LinkError {
            component: name.to_string(),
            source,
        })?;
        let shares = Arc::new(Shares(RwLock::default()));
        let shelf: Weak<dyn warm::Shelf> = Arc::downgrade(&(shares.clone() as Arc<_>));
        runtime.warm().add(shelf);
        Ok(Self {
            runtime: runtime.clone(),
            code: code.clone(),
            limits: *admitted.limits(),
            pre,
            shares,
        })
    }

    fn concurrency(&self) -> u32 {
        self.limits.concurrency
    }

    /// One span per call, for the trace it belongs to. At the level `debug`: a log at `info` does not pay for it.
    fn span(&self, scope: &CallScope) -> Span {
        tracing::debug_span!(
            "component",
            component = &*self.code.manifest().component.name,
            tenant = self.runtime.label(&scope.tenant),
            agent = scope.agent.as_deref(),
            outcome = tracing::field::Empty,
        )
    }

    fn meter(&self, scope: &CallScope) -> Arc<Meter> {
        let own = &self.limits;
        let limits = scope
            .limits
            .as_ref()
            .map_or(*own, |narrower| own.narrow(narrower));
        let own_deadline = Instant::now().checked_add(limits.deadline);
        let deadline = own_deadline.map_or(scope.deadline, |own| own.min(scope.deadline));
        Meter::new(scope.tenant.clone(), limits, deadline)
    }

    /// The tenant's slots of the engine for one more instance.
    fn slots(&self, scope: &CallScope) -> Result<Taken, Busy> {
        let places = self.runtime.engines().places(self.code.class());
        places
            .take(&scope.tenant, self.code.slots())
            .ok_or(Busy::Tenant)
    }

    fn new_store(&self, scope: &CallScope, host: H, meter: &Arc<Meter>) -> Store<Call<H>> {
        let class = self.code.class();
        new_store(
            self.runtime.engines().of(class),
            class,
            self.runtime.ticker(),
            host,
            meter.clone(),
            scope.clock,
        )
    }

    fn share(&self, tenant: &Tenant) -> Arc<Share<H, B>> {
        if let Some(share) = self.shares.0.read().get(&tenant.id()) {
            return share.clone();
        }
        let new = || Share {
            places: Semaphore::new(self.concurrency() as usize),
            waiting: AtomicU32::new(0),
            warm: Mutex::default(),
            counters: RwLock::default(),
        };
        self.shares
            .0
            .write()
            .entry(tenant.id())
            .or_insert_with(|| Arc::new(new()))
            .clone()
    }

    fn counters(&self, scope: &CallScope) -> Arc<Counters> {
        let share = self.share(&scope.tenant);
        if let Some(counters) = share.counters.read().get(&scope.agent) {
            return counters.clone();
        }
        let component = &self.code.manifest().component.name;
        let tenant = self.runtime.label(&scope.tenant);
        let agent = scope.agent.as_deref();
        let counters = Arc::new(self.runtime.metrics().of(component, tenant, agent));
        let mut known = share.counters.write();
        known.insert(scope.agent.clone(), counters.clone());
        counters
    }

    /// An instance that waits for the tenant's next call; the host data back where there is none.
    fn take_warm(
        &self,
        share: &Share<H, B>,
        scope: &CallScope,
        host: H,
        meter: &Arc<Meter>,
    ) -> Result<Instance<H, B>, H> {
        let Some(Kept { mut instance, .. }) = share.warm.lock().pop() else {
            return Err(host);
        };
        instance
            .store
            .data_mut()
            .renew(host, meter.clone(), scope.clock);
        arm(&mut instance.store);
        Ok(instance)
    }

    fn keep_warm(&self, share: &Share<H, B>, scope: &CallScope, instance: Instance<H, B>) {
        let most = match self.code.manifest().component.reuse {
            Reuse::Fresh => return,
            Reuse::WarmSerial => 1,
            Reuse::WarmConcurrent => self.concurrency() as usize,
        };
        let mut kept = share.warm.lock();
        if kept.len() < most
            && let Some(place) = (self.runtime.warm()).place(&scope.tenant, self.code.slots())
        {
            kept.push(Kept {
                instance,
                since: Instant::now(),
                _place: place,
            });
        }
    }

    fn end<R>(
        &self,
        span: &Span,
        scope: &CallScope,
        meter: &Meter,
        result: Result<R, CallError>,
    ) -> Result<R, CallError> {
        meter.end();
        let outcome = result.as_ref().err().map_or("ok", CallError::as_str);
        span.record("outcome", outcome);
        let tenant = self.runtime.label(meter.tenant());
        let counters = self.counters(scope);
        counters.count(meter.cpu_ms(), &result);
        if result.is_ok() && meter.refused() == Some(Limit::Egress) {
            // The guest was told, and answered all the same: what it makes of a cut transfer is its own affair.
            counters.count_limit(Limit::Egress);
        }
        if let Err(error) = &result {
            let component = &*self.code.manifest().component.name;
            match error {
                // Somebody should look at this one.
                CallError::Host(cause) => tracing::error!(
                    component,
                    tenant,
                    cause = format!("{cause:#}"),
                    "a host function failed"
                ),
                CallError::Trap(_) | CallError::Limit(_) | CallError::Busy(_) => {
                    tracing::info!(component, tenant, %error, "component call failed")
                }
            }
        }
        result
    }
}

impl<H: Send + 'static, B: Bindings<H>> warm::Shelf for Shares<H, B> {
    fn sweep(&self, moment: Instant) {
        let mut idle = Vec::new();
        self.0.write().retain(|_, share| {
            let mut kept = share.warm.lock();
            let fresh = kept.partition_point(|kept| kept.since < moment);
            idle.extend(kept.drain(..fresh));
            // Nobody has it but the map, whose lock is held: nobody calls.
            !kept.is_empty() || Arc::strong_count(share) > 1
        });
        // Instances end when no lock is held any more.
        drop(idle);
    }
}

impl<H: Send + 'static, B: Bindings<H>> Share<H, B> {
    /// A place among the component's calls of this tenant, waiting for one if not too many wait already.
    async fn place(&self, concurrency: u32) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = Place::take(&self.waiting, concurrency.saturating_mul(WAITING_PER_PLACE))
            .ok_or(CallError::Busy(Busy::Component))?;
        self.places
            .acquire()
            .await
            .map_err(|_| CallError::Busy(Busy::Component))
    }
}

impl<H: Send + 'static, B: Bindings<H>> std::fmt::Debug for Linked<H, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = |share: &Arc<Share<H, B>>| share.waiting.load(Ordering::Relaxed);
        f.debug_struct("Linked")
            .field("component", &self.code.manifest().component.name)
            .field("digest", &self.code.digest())
            .field(
                "waiting",
                &self.shares.0.read().values().map(waiting).sum::<u32>(),
            )
            .finish_non_exhaustive()
    }
}

impl<H: Send + 'static, B: Bindings<H>> std::fmt::Debug for Pure<H, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<H: Send + 'static, B: Bindings<H>> std::fmt::Debug for Effectful<H, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
