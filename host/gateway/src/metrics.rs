//! Prometheus families of the gateway, by tenant and agent, with bounded cardinality.
//!
//! A label value counts under its own name only once it is known to exist (a tenant that was routed, an agent that was found) and while
//! [`Labels`] has room for it. So nobody can fill memory or the scraper by inventing names. Other crates register their own families in
//! the same [`Registry`].

use ambit_capabilities::guardrail::{Action, Stage};
use ambit_policy::{
    Refusal,
    token::{Mode, Overlooked, Token},
};
use ambit_session::{ModelCall, Observer};
use ambit_types::Labels;
use parking_lot::RwLock;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{sync::Arc, time::Duration};

/// From a pass-through to the slowest model call.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    tenants: Labels,
    agents: Labels,
    requests: Family<RequestLabels, Counter>,
    latency: Seconds<RouteLabels>,
    first_chunk: Seconds<AgentLabels>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<CostLabels, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    model_calls: Family<ModelLabels, Counter>,
    tool_calls: Family<ToolLabels, Counter>,
    overlooked: Family<OverlookedLabels, Counter>,
    tokens_enforced: Gauge,
    providers: Labels,
    connections: Gauge,
    in_flight: Gauge,
    anchors: Anchored,
}

/// How far the journal's anchors are, as of the last look.
#[derive(Debug, Default)]
struct Anchored {
    last: Gauge,
    unpublished: Gauge,
    waiting_seconds: Gauge,
    taken: Gauge,
    tampered: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    route: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    stage: &'static str,
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    provider: Arc<str>,
    /// `ok` or the stable code of the failure.
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CostLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    provider: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverlookedLabels {
    refusal: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolLabels {
    tenant: Arc<str>,
    agent: Arc<str>,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            registry: RwLock::new(Registry::default()),
            tenants: Labels::default(),
            agents: Labels::default(),
            requests: Family::default(),
            latency: Family::new_with_constructor(seconds),
            first_chunk: Family::new_with_constructor(seconds),
            tokens: Family::default(),
            cost: Family::default(),
            verdicts: Family::default(),
            model_calls: Family::default(),
            tool_calls: Family::default(),
            overlooked: Family::default(),
            tokens_enforced: Gauge::default(),
            providers: Labels::default(),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            anchors: Anchored::default(),
        };
        metrics.register(|r| {
            let anchors = &metrics.anchors;
            for (name, help, gauge) in [
                (
                    "ambit_anchor_number",
                    "The journal's last anchor made here",
                    &anchors.last,
                ),
                (
                    "ambit_anchors_unpublished",
                    "Anchors that are not in the anchor store",
                    &anchors.unpublished,
                ),
                (
                    "ambit_anchors_waiting_seconds",
                    "Age of the oldest of those",
                    &anchors.waiting_seconds,
                ),
                (
                    "ambit_anchor_store_taken",
                    "1: the anchor store holds another anchor under a number of ours",
                    &anchors.taken,
                ),
                (
                    "ambit_journal_tampered",
                    "1: the journal's rows are not what the last anchor signed",
                    &anchors.tampered,
                ),
            ] {
                r.register(name, help, gauge.clone());
            }
            r.register(
                "ambit_requests",
                "Requests answered, by status class",
                metrics.requests.clone(),
            );
            r.register(
                "ambit_request_seconds",
                "Time from request head to the last byte of the answer",
                metrics.latency.clone(),
            );
            r.register(
                "ambit_first_chunk_seconds",
                "Time to the first text of a streamed answer",
                metrics.first_chunk.clone(),
            );
            r.register(
                "ambit_tokens",
                "Tokens of model calls, as providers reported them",
                metrics.tokens.clone(),
            );
            r.register(
                "ambit_cost_nanos",
                "What model calls cost, in billionths of the price file's currency",
                metrics.cost.clone(),
            );
            r.register(
                "ambit_verdicts",
                "Verdicts of the guardrail, by stage and action",
                metrics.verdicts.clone(),
            );
            r.register(
                "ambit_model_calls",
                "Calls of models by outcome: `ok` or the stable code of the failure",
                metrics.model_calls.clone(),
            );
            r.register(
                "ambit_tool_calls",
                "Calls of tools by outcome: `ok` or a code",
                metrics.tool_calls.clone(),
            );
            r.register(
                "ambit_tokens_overlooked",
                "What capability tokens do not allow and was done, as they are not enforced",
                metrics.overlooked.clone(),
            );
            r.register(
                "ambit_tokens_enforced",
                "0: capability tokens are not enforced",
                metrics.tokens_enforced.clone(),
            );
            r.register(
                "ambit_connections",
                "Open connections",
                metrics.connections.clone(),
            );
            r.register(
                "ambit_requests_in_flight",
                "Requests being answered",
                metrics.in_flight.clone(),
            );
        });
        metrics
    }
}

impl Metrics {
    /// Lets another part add its families, for example the runtime's component calls and limit hits.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.write());
    }

    /// Takes over how far anchors are.
    pub(crate) fn anchors(&self, status: ambit_anchor::Status) {
        let gauges = &self.anchors;
        gauges.last.set(status.last);
        gauges.unpublished.set(status.unpublished);
        let waiting = status
            .waiting_since_ms
            .map_or(0, crate::admin::seconds_since);
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        gauges.waiting_seconds.set(waiting);
        gauges.taken.set(status.taken.into());
        gauges.tampered.set(status.tampered.into());
    }

    /// Takes over how strictly capability tokens are taken.
    pub fn tokens(&self, mode: Mode) {
        self.tokens_enforced.set((mode == Mode::Enforced).into());
    }

    /// Everything registered, in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing into a String does not fail; an encoder that does leaves what it wrote so far.
        if text::encode(&mut out, &self.registry.read()).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        out
    }

    pub(crate) fn request(
        &self,
        tenant: Option<&str>,
        agent: Option<&str>,
        route: &'static str,
        status: u16,
        took: Duration,
    ) {
        // Turned away before its path was looked at.
        let route = if route.is_empty() { "none" } else { route };
        let (tenant, agent) = (
            self.tenant(tenant),
            self.agents.get(agent.unwrap_or(Labels::NONE)),
        );
        self.latency
            .get_or_create(&RouteLabels {
                tenant: tenant.clone(),
                agent: agent.clone(),
                route,
            })
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels {
                tenant,
                agent,
                route,
                status: class(status),
            })
            .inc();
    }

    pub(crate) fn first_chunk(&self, tenant: &str, agent: &str, took: Duration) {
        let labels = AgentLabels {
            tenant: self.tenant(Some(tenant)),
            agent: self.agents.get(agent),
        };
        self.first_chunk
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// `agent` is none where a caller asks for a verdict, or searches a collection, itself.
    pub(crate) fn judged(&self, tenant: &str, agent: Option<&str>, stage: Stage, action: Action) {
        let action = match action {
            Action::Allow => "allow",
            Action::Flag => "flag",
            Action::Mask => "mask",
            Action::Reject => "reject",
        };
        let labels = VerdictLabels {
            tenant: self.tenant(Some(tenant)),
            agent: self.agents.get(agent.unwrap_or(Labels::NONE)),
            stage: stage.as_str(),
            action,
        };
        self.verdicts.get_or_create(&labels).inc();
    }

    pub(crate) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    pub(crate) fn in_flight(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    fn tenant(&self, tenant: Option<&str>) -> Arc<str> {
        self.tenants.get(tenant.unwrap_or(Labels::NONE))
    }
}

/// What sessions count, they count here.
impl Observer for Metrics {
    fn verdict(&self, tenant: &str, agent: &str, stage: Stage, action: Action) {
        self.judged(tenant, Some(agent), stage, action);
    }

    fn model_call(&self, tenant: &str, agent: &str, call: ModelCall<'_>) {
        let (tenant, agent) = (self.tenant(Some(tenant)), self.agents.get(agent));
        for (direction, tokens) in [
            ("input", call.usage.input_tokens),
            ("output", call.usage.output_tokens),
        ] {
            let labels = TokenLabels {
                tenant: tenant.clone(),
                agent: agent.clone(),
                direction,
            };
            self.tokens.get_or_create(&labels).inc_by(tokens);
        }
        let provider = self.providers.get(call.provider);
        if let Some(cost) = call.cost {
            let labels = CostLabels {
                tenant: tenant.clone(),
                agent: agent.clone(),
                provider: provider.clone(),
            };
            let nanos = cost.nanos().unsigned_abs();
            self.cost.get_or_create(&labels).inc_by(nanos);
        }
        let labels = ModelLabels {
            tenant,
            agent,
            provider,
            outcome: call.error.unwrap_or("ok"),
        };
        self.model_calls.get_or_create(&labels).inc();
    }

    fn tool_call(&self, tenant: &str, agent: &str, code: &'static str) {
        let labels = ToolLabels {
            tenant: self.tenant(Some(tenant)),
            agent: self.agents.get(agent),
            outcome: code,
        };
        self.tool_calls.get_or_create(&labels).inc();
    }
}

impl Overlooked for Metrics {
    fn overlooked(&self, token: &Token, asked: &str, refusal: Refusal) {
        let word = match refusal {
            Refusal::Token(error) => error.as_str(),
            Refusal::NotCovered(_) | Refusal::Never(_) => "not-covered",
        };
        let labels = OverlookedLabels { refusal: word };
        self.overlooked.get_or_create(&labels).inc();
        tracing::warn!(tenant = %token.tenant, token = %token.jti, asked, refusal = word, "a capability token does not allow this, and tokens are not enforced");
    }
}

fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// Counts in a gauge while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_inference::Usage;

    #[test]
    fn shows_what_happened() {
        let metrics = Metrics::default();
        metrics.request(
            Some("acme"),
            Some("assistant"),
            "chat",
            200,
            Duration::from_millis(3),
        );
        metrics.request(Some("acme"), None, "chat", 429, Duration::from_millis(1));
        let usage = Usage {
            input_tokens: 7,
            output_tokens: 11,
            ..Usage::default()
        };
        let call = ModelCall {
            provider: "openai",
            usage: &usage,
            cost: ambit_ledger::Money::from_nanos(13),
            error: Some("connect_failed"),
        };
        metrics.model_call("acme", "assistant", call);
        let counted = metrics.connection();
        let text = metrics.render();
        for line in [
            r#"ambit_requests_total{tenant="acme",agent="assistant",route="chat",status="2xx"} 1"#,
            r#"ambit_requests_total{tenant="acme",agent="_none",route="chat",status="4xx"} 1"#,
            r#"ambit_tokens_total{tenant="acme",agent="assistant",direction="output"} 11"#,
            r#"ambit_request_seconds_count{tenant="acme",agent="assistant",route="chat"} 1"#,
            r#"ambit_model_calls_total{tenant="acme",agent="assistant",provider="openai",outcome="connect_failed"} 1"#,
            r#"ambit_cost_nanos_total{tenant="acme",agent="assistant",provider="openai"} 13"#,
            "ambit_connections 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(counted);
        assert!(metrics.render().contains("ambit_connections 0"));
    }

    #[test]
    fn many_tenants_and_agents_make_few_series() {
        let metrics = Metrics::default();
        let took = Duration::from_millis(1);
        for n in 0..5_000 {
            let name = format!("name-{n}");
            metrics.verdict(&name, &name, Stage::Input, Action::Allow);
            metrics.request(Some(&name), Some(&name), "chat", 200, took);
            let call = ModelCall {
                provider: &name,
                usage: &Usage::default(),
                cost: None,
                error: None,
            };
            metrics.model_call(&name, &name, call);
        }
        let text = metrics.render();
        for family in [
            "ambit_verdicts_total",
            "ambit_requests_total",
            "ambit_model_calls_total",
        ] {
            let series = text.lines().filter(|line| line.starts_with(family));
            let series = series.count();
            assert!((2..1_000).contains(&series), "{family}: {series}");
        }
        assert!(text.contains(&format!("tenant=\"{}\"", Labels::OTHER)));
    }
}
