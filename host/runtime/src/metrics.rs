//! What the runtime counts, for `/metrics`. Labels are components and tenants, both of which operators make: few.

use crate::{CallError, Limit};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The runtime's metrics. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    limits: Family<LimitLabels, Counter>,
    cpu: Family<ComponentLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    component: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    component: String,
    tenant: String,
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ComponentLabels {
    component: String,
}

/// One component's metrics, looked up once when it is linked.
#[derive(Debug, Clone)]
pub(crate) struct ComponentMetrics {
    component: String,
    metrics: Metrics,
    ok: Counter,
    cpu: Counter,
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
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
            "Time guests ran",
            self.cpu.clone(),
        );
    }

    /// Calls of this component that ended so (`ok`, `limit`, `trap`, `busy`, `host`).
    #[must_use]
    pub fn calls(&self, component: &str, outcome: &'static str) -> u64 {
        self.calls
            .get_or_create(&CallLabels {
                component: component.into(),
                outcome,
            })
            .get()
    }

    /// Calls of this component for this tenant that spent this limit.
    #[must_use]
    pub fn limit_hits(&self, component: &str, tenant: &str, limit: Limit) -> u64 {
        let labels = LimitLabels {
            component: component.into(),
            tenant: tenant.into(),
            limit: limit.as_str(),
        };
        self.limits.get_or_create(&labels).get()
    }

    pub(crate) fn of(&self, component: &str) -> ComponentMetrics {
        ComponentMetrics {
            component: component.into(),
            ok: self
                .calls
                .get_or_create(&CallLabels {
                    component: component.into(),
                    outcome: "ok",
                })
                .clone(),
            cpu: self
                .cpu
                .get_or_create(&ComponentLabels {
                    component: component.into(),
                })
                .clone(),
            metrics: self.clone(),
        }
    }
}

impl ComponentMetrics {
    pub(crate) fn count<R>(&self, tenant: &str, cpu_ms: u64, result: &Result<R, CallError>) {
        if cpu_ms > 0 {
            self.cpu.inc_by(cpu_ms);
        }
        let Err(error) = result else {
            self.ok.inc();
            return;
        };
        let outcome = error.as_str();
        self.metrics
            .calls
            .get_or_create(&CallLabels {
                component: self.component.clone(),
                outcome,
            })
            .inc();
        if let CallError::Limit(limit) = error {
            self.count_limit(tenant, *limit);
        }
    }

    pub(crate) fn count_limit(&self, tenant: &str, limit: Limit) {
        let labels = LimitLabels {
            component: self.component.clone(),
            tenant: tenant.into(),
            limit: limit.as_str(),
        };
        self.metrics.limits.get_or_create(&labels).inc();
    }
}
