//! The imports of a guardrail component and the call into its export.

use super::{Finding, Mask, Rejection, Rules, Severity, Stage, filter::Outcome, policy::Action};
use crate::{Failure, LoadError, bindings::types};
use ambit::guardrail::rules;
use ambit_runtime::{Admitted, Call, CallScope, Pure, Runtime};
use exports::ambit::guardrail::guardrail::{GuardrailError, Verdict};
use std::sync::Arc;
use wasmtime::component::HasSelf;

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/guardrail"],
    world: "ambit:guardrail/guest",
    with: { "ambit:types/types": crate::bindings::types },
});

ambit_runtime::bindings!(Guest, GuestPre);

/// What one call looks things up in.
pub(super) struct Lookups(Arc<Rules>);

pub(super) fn link(
    runtime: &Arc<Runtime>,
    admitted: &Admitted,
) -> Result<Pure<Lookups, Guest>, LoadError> {
    Ok(Pure::link(runtime, admitted, |linker| {
        rules::add_to_linker::<Call<Lookups>, HasSelf<Lookups>>(linker, |call| &mut call.host)
    })?)
}

pub(super) fn check(
    component: &Pure<Lookups, Guest>,
    scope: &CallScope,
    rules: &Arc<Rules>,
    stage: Stage,
    text: &str,
    last: bool,
    state: &[u8],
) -> Result<Outcome, Failure> {
    let answer = component.call(scope, Lookups(rules.clone()), |store, guest| {
        guest
            .ambit_guardrail_guardrail()
            .call_check(store, stage.into(), text, last, state)
    })?;
    let outcome = answer.map_err(|error| match error {
        GuardrailError::BadState => {
            Failure::Contract("its own state is not one it made".to_owned())
        }
        GuardrailError::Other(what) => Failure::Component(what),
    })?;
    let (masks, rejection) = match outcome.verdict {
        Verdict::Allow => (Vec::new(), None),
        Verdict::Mask(masks) => (
            masks
                .into_iter()
                .map(|mask| Mask {
                    start: mask.start,
                    end: mask.end,
                    replacement: mask.replacement,
                })
                .collect(),
            None,
        ),
        Verdict::Reject(rejection) => (
            Vec::new(),
            Some(Rejection {
                category: rejection.category,
                severity: rejection.severity.into(),
            }),
        ),
    };
    let findings = outcome.findings.into_iter().map(|finding| Finding {
        start: finding.start,
        end: finding.end,
        category: finding.category,
        severity: finding.severity.into(),
    });
    Ok(Outcome {
        masks,
        rejection,
        findings: findings.collect(),
        release_through: outcome.release_through,
        state: outcome.state,
    })
}

impl rules::Host for Lookups {
    fn for_stage(&mut self, stage: rules::Stage) -> Vec<rules::Rule> {
        let rules = self.0.at(stage.into()).iter();
        rules
            .map(|rule| rules::Rule {
                category: rule.category.clone(),
                action: rule.action.into(),
            })
            .collect()
    }
}

impl From<Stage> for rules::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Input => Self::Input,
            Stage::Retrieved => Self::Retrieved,
            Stage::ToolResult => Self::ToolResult,
            Stage::Output => Self::Output,
            Stage::Ingest => Self::Ingest,
        }
    }
}

impl From<rules::Stage> for Stage {
    fn from(stage: rules::Stage) -> Self {
        match stage {
            rules::Stage::Input => Self::Input,
            rules::Stage::Retrieved => Self::Retrieved,
            rules::Stage::ToolResult => Self::ToolResult,
            rules::Stage::Output => Self::Output,
            rules::Stage::Ingest => Self::Ingest,
        }
    }
}

impl From<Action> for rules::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Flag => Self::Flag,
            Action::Mask => Self::Mask,
            Action::Reject => Self::Reject,
        }
    }
}

impl From<types::Severity> for Severity {
    fn from(severity: types::Severity) -> Self {
        match severity {
            types::Severity::Low => Self::Low,
            types::Severity::Medium => Self::Medium,
            types::Severity::High => Self::High,
            types::Severity::Critical => Self::Critical,
        }
    }
}
