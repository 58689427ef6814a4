//! What sessions tell whoever counts.

use ambit_capabilities::guardrail::{Action, Stage};
use ambit_inference::Usage;
use ambit_ledger::Money;

/// A model call that ended.
#[derive(Debug, Clone, Copy)]
pub struct ModelCall<'a> {
    pub provider: &'a str,
    pub usage: &'a Usage,
    /// None: its model has no price, or nothing was spent.
    pub cost: Option<Money>,
    /// The stable code of its failure.
    pub error: Option<&'static str>,
}

/// Receives counts as they happen. Implemented over metrics by the gateway; called on hot paths, so it must not block.
pub trait Observer: Send + Sync + 'static {
    /// The guardrail judged a text of this tenant. `agent` is `provider/*` for a pass-through, here and below.
    fn verdict(&self, tenant: &str, agent: &str, stage: Stage, action: Action);
    /// A model call ended.
    fn model_call(&self, tenant: &str, agent: &str, call: ModelCall<'_>);
    /// A tool call ended with this code, `ok` or one of [`ambit_capabilities::tool`]'s.
    fn tool_call(&self, tenant: &str, agent: &str, code: &'static str);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn verdict(&self, _: &str, _: &str, _: Stage, _: Action) {}
    fn model_call(&self, _: &str, _: &str, _: ModelCall<'_>) {}
    fn tool_call(&self, _: &str, _: &str, _: &'static str) {}
}
