//! What the runtime counts, for `/metrics`. Labels are components, which operators make: few; and tenants and agents, of which [`Labels`]
//! keeps few.

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
    cpu: Family<Of, Counter>,
    tenants: Arc<Labels>,
    agents: Arc<Labels>,
}

/// Whose calls of which component.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    component: Arc<str>,
    tenant: Arc<str>,
    agent: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    #[prometheus(flatten)]
    of: Of,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    #[prometheus(flatten)]
    of: Of,
    limit: &'static str,
}

/// What is counted of one component's calls for one agent of a tenant. What is counted with nearly every call is looked up once.
#[derive(Debug)]
pub(crate) struct Counters {
    of: Of,
    ok: Counter,
    cpu: Counter,
    metrics: Metrics,
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

    /// Calls of this component for this tenant and agent that spent this limit. Without an agent: calls made for none.
    #[must_use]
    pub fn limit_hits(
        &self,
        component: &str,
        tenant: &str,
        agent: Option<&str>,
        limit: Limit,
    ) -> u64 {
        let labels = LimitLabels {
            of: self.labels(component, tenant, agent),
            limit: limit.as_str(),
        };
        self.limits.get_or_create(&labels).get()
    }

    pub(crate) fn of(&self, component: &str, tenant: &str, agent: Option<&str>) -> Counters {
        let of = self.labels(component, tenant, agent);
        let outcome = "ok";
        let labels = CallLabels {
            of: of.clone(),
            outcome,
        };
        Counters {
            ok: self.calls.get_or_create(&labels).clone(),
            cpu: self.cpu.get_or_create(&of).clone(),
            metrics: self.clone(),
            of,
        }
    }

    fn labels(&self, component: &str, tenant: &str, agent: Option<&str>) -> Of {
        Of {
            component: component.into(),
            tenant: self.tenants.get(tenant),
            agent: self.agents.get(agent.unwrap_or(Labels::NONE)),
        }
    }
}

impl Counters {
    /// Counts a call that ended (`ok`, `limit`, `trap`, `busy`, `host`).
    pub(crate) fn count<R>(&self, cpu_ms: u64, result: &Result<R, CallError>) {
        if cpu_ms > 0 {
            self.cpu.inc_by(cpu_ms);
        }
        let Err(error) = result else {
            self.ok.inc();
            return;
        };
        let labels = CallLabels {
            of: self.of.clone(),
            outcome: error.as_str(),
        };
        self.metrics.calls.get_or_create(&labels).inc();
        if let CallError::Limit(limit) = error {
            self.count_limit(*limit);
        }
    }

    pub(crate) fn count_limit(&self, limit: Limit) {
        let labels = LimitLabels {
            of: self.of.clone(),
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
