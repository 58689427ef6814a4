//! The baseline guardrail: how a stream is cut changes nothing, and no state makes it fail.

use guardrail_baseline::{Action, Policy, Rule, Stage, any_cut_agrees, check};

const STAGES: [Stage; 5] = [
    Stage::Input,
    Stage::Retrieved,
    Stage::ToolResult,
    Stage::Output,
    Stage::Ingest,
];
const ACTIONS: [Action; 3] = [Action::Flag, Action::Mask, Action::Reject];
/// Most cuts taken from the data.
const CUTS: usize = 16;

/// The first bytes choose the stage, what is done about findings and the number of cuts; then come the distances between cuts, then the text.
pub fn guardrail(data: &[u8]) {
    let [stage, action, n_cuts, rest @ ..] = data else {
        return;
    };
    let (stage, policy) = choose(*stage, *action);
    let n_cuts = usize::from(*n_cuts) % (CUTS + 1);
    let (cuts, text) = rest.split_at(n_cuts.min(rest.len()));
    let text = crate::text(text);
    assert_eq!(
        any_cut_agrees(&policy, stage, &text, cuts),
        Ok(()),
        "{text:?} cut by {cuts:?}"
    );
    // Byte by byte no word is complete in its piece, so each takes the long way.
    let single = vec![1; text.len().min(4096)];
    assert_eq!(
        any_cut_agrees(&policy, stage, &text, &single),
        Ok(()),
        "{text:?} byte by byte"
    );
}

/// The first bytes choose stage, action and the length of a state; what follows it is the text. The state is refused or used, and
/// what is answered then lies within the text that the state claims to have seen.
pub fn guardrail_state(data: &[u8]) {
    let [stage, action, low, high, rest @ ..] = data else {
        return;
    };
    let (stage, policy) = choose(*stage, *action);
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let (state, text) = rest.split_at(length.min(rest.len()));
    let text = crate::text(text);
    if let Ok(outcome) = check(&policy, stage, &text, false, state) {
        assert!(
            outcome
                .findings
                .iter()
                .all(|finding| finding.start < finding.end)
        );
        let again = check(&policy, stage, "", true, &outcome.state);
        let last = again.expect("its own state is accepted");
        assert!(
            last.release_through >= outcome.release_through,
            "what is released never shrinks"
        );
    }
}

fn choose(stage: u8, action: u8) -> (Stage, Policy) {
    let stage = STAGES[usize::from(stage) % STAGES.len()];
    let action = ACTIONS[usize::from(action) % ACTIONS.len()];
    let rule = |category: &str| Rule {
        category: category.to_owned(),
        action,
    };
    let rules = ["prompt-injection", "pii", "secret"].map(rule);
    (stage, Policy::new(stage, rules.into()))
}
