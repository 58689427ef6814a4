//! What the runtime counts, for `/metrics`. Labels are components, which operators make: few; and tenants, of which [`Labels`] keeps
//! few.

use crate::{
    CallError, Limit, Runtime,
    engine::{self, EngineClass},
};
use ambit_types::Labels;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// The runtime's metrics. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    limits: Family<LimitLabels, Counter>,
    cpu: Family<CpuLabels, Counter>,
    tenants: Arc<Labels>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    component: String,
    tenant: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    component: String,
    tenant: Arc<str>,
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CpuLabels {
    component: String,
    tenant: Arc<str>,
}

/// One component's metrics, looked up once when it is linked.
#[derive(Debug, Clone)]
pub(crate) struct ComponentMetrics {
    component: String,
    metrics: Metrics,
}

/// What is counted with nearly every call of one tenant, looked up once.
#[derive(Debug)]
pub(crate) struct TenantCounters {
    ok: Counter,
    cpu: Counter,
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "ambit_component_calls",
            "Component calls by how they ended",
            self.calls.clone(),
        );
        registry.register(
            "ambit_component_limits",
            "Component calls that spent a limit",
            self.limits.clone(),
        );
        registry.register(
            "ambit_component_cpu_milliseconds",
            "CPU time spent on calls",
            self.cpu.clone(),
        );
    }

    /// Calls of this component for this tenant that ended so (`ok`, `limit`, `trap`, `busy`, `host`).
    #[must_use]
    pub fn calls(&self, component: &str, tenant: &str, outcome: &'static str) -> u64 {
        let labels = CallLabels {
            component: component.into(),
            tenant: self.tenants.get(tenant),
            outcome,
        };
        self.calls.get_or_create(&labels).get()
    }

    /// Calls of this component for this tenant that spent this limit.
    #[must_use]
    pub fn limit_hits(&self, component: &str, tenant: &str, limit: Limit) -> u64 {
        let labels = LimitLabels {
            component: component.into(),
            tenant: self.tenants.get(tenant),
            limit: limit.as_str(),
        };
        self.limits.get_or_create(&labels).get()
    }

    pub(crate) fn of(&self, component: &str) -> ComponentMetrics {
        ComponentMetrics {
            component: component.into(),
            metrics: self.clone(),
        }
    }
}

impl ComponentMetrics {
    pub(crate) fn of(&self, tenant: &str) -> TenantCounters {
        let labels = CpuLabels {
            component: self.component.clone(),
            tenant: self.metrics.tenants.get(tenant),
        };
        TenantCounters {
            ok: self.calls(tenant, "ok"),
            cpu: self.metrics.cpu.get_or_create(&labels).clone(),
        }
    }

    fn calls(&self, tenant: &str, outcome: &'static str) -> Counter {
        let labels = CallLabels {
            component: self.component.clone(),
            tenant: self.metrics.tenants.get(tenant),
            outcome,
        };
        self.metrics.calls.get_or_create(&labels).clone()
    }

    pub(crate) fn count<R>(
        &self,
        counters: &TenantCounters,
        tenant: &str,
        cpu_ms: u64,
        result: &Result<R, CallError>,
    ) {
        if cpu_ms > 0 {
            counters.cpu.inc_by(cpu_ms);
        }
        let Err(error) = result else {
            counters.ok.inc();
            return;
        };
        self.calls(tenant, error.as_str()).inc();
        if let CallError::Limit(limit) = error {
            self.count_limit(tenant, *limit);
        }
    }

    pub(crate) fn count_limit(&self, tenant: &str, limit: Limit) {
        let labels = LimitLabels {
            component: self.component.clone(),
            tenant: self.metrics.tenants.get(tenant),
            limit: limit.as_str(),
        };
        self.metrics.limits.get_or_create(&labels).inc();
    }
}

/// How full the pools of instances are and who waits for a thread, asked when somebody scrapes.
#[derive(Debug)]
pub(crate) struct Pools(pub(crate) Weak<Runtime>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    engine: &'static str,
    of: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EngineLabels {
    engine: &'static str,
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(runtime) = self.0.upgrade() else {
            return Ok(());
        };
        let pools = [EngineClass::Pure, EngineClass::Effectful].map(|class| {
            let engine = runtime.engines().of(class);
            (class, engine.pooling_allocator_metrics())
        });
        // Without address space there is no pool, and nothing to say of it.
        let pools = || {
            let pools = pools.iter();
            pools.filter_map(|(class, pool)| Some((*class, pool.as_ref()?)))
        };
        let mut used = gauge(
            &mut encoder,
            "ambit_pool_used",
            "Slots of the instance pool in use",
        )?;
        for (class, pool) in pools() {
            for (of, count) in [
                ("instances", pool.component_instances()),
                ("core_instances", pool.core_instances()),
                ("memories", pool.memories() as u64),
                ("tables", pool.tables() as u64),
                ("stacks", pool.stacks() as u64),
            ] {
                let labels = PoolLabels {
                    engine: class.as_str(),
                    of,
                };
                ConstGauge::new(count).encode(used.encode_family(&labels)?)?;
            }
        }
        let mut slots = gauge(
            &mut encoder,
            "ambit_pool_slots",
            "Slots the instance pool has",
        )?;
        for (class, _) in pools() {
            for (of, count) in engine::slots(class) {
                let labels = PoolLabels {
                    engine: class.as_str(),
                    of,
                };
                ConstGauge::new(u64::from(count)).encode(slots.encode_family(&labels)?)?;
            }
        }
        let help = "Memory of slots that are not in use but ready for the next instance";
        let mut idle = gauge(&mut encoder, "ambit_pool_idle_bytes", help)?;
        for (class, pool) in pools() {
            let bytes = pool.unused_memory_bytes_resident()
                + pool.unused_table_bytes_resident()
                + pool.unused_stack_bytes_resident().unwrap_or(0);
            let labels = EngineLabels {
                engine: class.as_str(),
            };
            ConstGauge::new(bytes as u64).encode(idle.encode_family(&labels)?)?;
        }
        let help = "Pure calls that wait for a thread";
        let waiting = gauge(&mut encoder, "ambit_executor_waiting", help)?;
        ConstGauge::new(runtime.executor().waiting() as u64).encode(waiting)
    }
}

fn gauge<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &'a str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}
