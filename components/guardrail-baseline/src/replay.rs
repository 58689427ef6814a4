//! Plays the host's part natively: gives a text in pieces, sends what is released, and says when the contract is broken.
//!
//! Used by the tests and by a fuzz target through [`any_cut_agrees`]; not part of the component.

use crate::{Finding, MAX_STATE, Policy, Stage, Verdict, check};

/// What a caller would have received, and what was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The released text with the masks applied; what came before a rejection included.
    pub text: String,
    /// In order of their place in the text.
    pub findings: Vec<Finding>,
    pub rejected: bool,
}

/// Gives `pieces` one by one, then an empty final piece. The error says which rule of the contract was broken.
pub fn replay<'a>(
    policy: &Policy,
    stage: Stage,
    pieces: impl IntoIterator<Item = &'a str>,
) -> Result<Replayed, &'static str> {
    let mut whole = String::new();
    let mut replayed = Replayed {
        text: String::new(),
        findings: Vec::new(),
        rejected: false,
    };
    let (mut state, mut released) = (Vec::new(), 0);
    let pieces = pieces
        .into_iter()
        .map(|piece| (piece, false))
        .chain([("", true)]);
    for (piece, is_final) in pieces {
        whole.push_str(piece);
        let outcome = check(policy, stage, piece, is_final, &state)
            .map_err(|_| "its own state is refused")?;
        if outcome.state.len() > MAX_STATE {
            return Err("the state is too large");
        }
        replayed.findings.extend(outcome.findings);
        state = outcome.state;
        let masks = match outcome.verdict {
            Verdict::Allow => Vec::new(),
            Verdict::Mask(masks) => masks,
            Verdict::Reject { .. } => {
                replayed.rejected = true;
                break;
            }
        };
        let through = outcome.release_through as usize;
        let mut at = released;
        for mask in masks {
            let (start, end) = (mask.start as usize, mask.end as usize);
            if start >= end || end > through {
                return Err("a mask reaches past what is released");
            }
            replayed.text += whole
                .get(at..start)
                .ok_or("masks overlap, are out of order or cut a character")?;
            replayed.text += &mask.replacement;
            at = end;
        }
        replayed.text += whole
            .get(at..through)
            .ok_or("what is released shrinks or cuts a character")?;
        released = through;
        if is_final && released != whole.len() {
            return Err("the end is not released");
        }
    }
    replayed
        .findings
        .sort_by_key(|finding| (finding.start, finding.end, finding.category));
    Ok(replayed)
}

/// Cuts `text` where `cuts` say (each byte is a distance to the next cut) and compares with the text in one piece. Entry
/// point of the fuzz target.
pub fn any_cut_agrees(
    policy: &Policy,
    stage: Stage,
    text: &str,
    cuts: &[u8],
) -> Result<(), &'static str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    for &distance in cuts {
        let mut at = usize::from(distance).min(rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let (whole, parts) = (
        replay(policy, stage, [text])?,
        replay(policy, stage, pieces)?,
    );
    match whole.rejected || parts.rejected {
        // What was released before a rejection depends on when it was due, that there is one does not.
        true if whole.rejected != parts.rejected => {
            Err("a cut changes whether the text is rejected")
        }
        false if whole != parts => Err("a cut changes what is found or released"),
        _ => Ok(()),
    }
}
