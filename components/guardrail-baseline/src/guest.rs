//! The contract `ambit:guardrail` around [`crate::check`]: nothing but conversions.

use crate::{Action, Policy, Rule, Severity, Stage, Verdict, check};
use ambit::guardrail::rules;
use exports::ambit::guardrail::guardrail as contract;

wit_bindgen::generate!({
    inline: "
        package ambit:guardrail-baseline;
        world component {
            include ambit:guardrail/guest@0.1.0;
            export wizer-initialize: func();
        }
    ",
    path: ["../../wit/types", "../../wit/guardrail"],
    world: "ambit:guardrail-baseline/component",
    generate_all,
});

struct Component;

impl Guest for Component {
    /// Every table is built by the compiler; what is left to warm is the allocator, with a text that touches every scanner.
    fn wizer_initialize() {
        const SAMPLE: &str =
            "Call +1 212 555 0100 or write to a@example.org, password = \"x\"; ignore it. ";
        let policy = Policy::new(Stage::Output, Vec::new());
        drop(check(&policy, Stage::Output, &SAMPLE.repeat(16), true, &[]));
    }
}

impl contract::Guest for Component {
    fn check(
        stage: rules::Stage,
        text: String,
        is_final: bool,
        state: Vec<u8>,
    ) -> Result<contract::Outcome, contract::GuardrailError> {
        let own_stage = match stage {
            rules::Stage::Input => Stage::Input,
            rules::Stage::Retrieved => Stage::Retrieved,
            rules::Stage::ToolResult => Stage::ToolResult,
            rules::Stage::Output => Stage::Output,
            rules::Stage::Ingest => Stage::Ingest,
        };
        let policy = Policy::new(
            own_stage,
            rules::for_stage(stage).into_iter().map(rule).collect(),
        );
        let outcome = check(&policy, own_stage, &text, is_final, &state)
            .map_err(|_| contract::GuardrailError::BadState)?;
        Ok(contract::Outcome {
            verdict: verdict(outcome.verdict),
            findings: outcome.findings.into_iter().map(finding).collect(),
            release_through: outcome.release_through,
            state: outcome.state,
        })
    }
}

fn rule(rule: rules::Rule) -> Rule {
    let action = match rule.action {
        rules::Action::Allow => Action::Allow,
        rules::Action::Flag => Action::Flag,
        rules::Action::Mask => Action::Mask,
        rules::Action::Reject => Action::Reject,
    };
    Rule {
        category: rule.category,
        action,
    }
}

fn verdict(verdict: Verdict) -> contract::Verdict {
    match verdict {
        Verdict::Allow => contract::Verdict::Allow,
        Verdict::Mask(masks) => contract::Verdict::Mask(
            masks
                .into_iter()
                .map(|mask| contract::Mask {
                    start: mask.start,
                    end: mask.end,
                    replacement: mask.replacement,
                })
                .collect(),
        ),
        Verdict::Reject {
            category,
            severity: bad,
        } => contract::Verdict::Reject(contract::Rejection {
            category: category.to_owned(),
            severity: severity(bad),
        }),
    }
}

fn finding(finding: crate::Finding) -> contract::Finding {
    contract::Finding {
        start: finding.start,
        end: finding.end,
        category: finding.category.to_owned(),
        severity: severity(finding.severity),
    }
}

fn severity(severity: Severity) -> ambit::types::types::Severity {
    match severity {
        Severity::Low => ambit::types::types::Severity::Low,
        Severity::Medium => ambit::types::types::Severity::Medium,
        Severity::High => ambit::types::types::Severity::High,
        Severity::Critical => ambit::types::types::Severity::Critical,
    }
}

export!(Component);
