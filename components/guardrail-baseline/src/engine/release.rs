//! What was found, what of the text may go, and what is masked in it.

use super::{Continuation, Finding, Mask, Outcome, Stream, Verdict};
use crate::{
    category,
    policy::{self, Action, Policy},
};

impl Stream {
    pub(super) fn extend_mask(&mut self, policy: &Policy) {
        let (category, masked_to, end) = match &mut self.continuation {
            Continuation::None => return,
            Continuation::Word {
                category,
                masked_to,
                end,
                ..
            } => (*category, masked_to, *end),
            Continuation::Key { masked_to, end, .. } => (category::PRIVATE_KEY, masked_to, *end),
        };
        if end > *masked_to && policy.action(category) >= Action::Mask {
            self.masks.push((*masked_to, end, None));
        }
        *masked_to = end;
    }

    pub(super) fn end_continuation(&mut self, policy: &Policy) {
        match std::mem::replace(&mut self.continuation, Continuation::None) {
            Continuation::None => {}
            Continuation::Word {
                category,
                start,
                end,
                ..
            } => self.find(policy, start, end, category),
            Continuation::Key { start, end, .. } => {
                self.find(policy, start, end, category::PRIVATE_KEY)
            }
        }
    }

    /// A finding without an end in sight that would be rejected is rejected now.
    pub(super) fn reject_early(&mut self, policy: &Policy, category: &'static str) {
        if policy.action(category) == Action::Reject {
            self.end_continuation(policy);
        }
    }

    pub(super) fn find(&mut self, policy: &Policy, start: u64, end: u64, category: &'static str) {
        match policy.action(category) {
            Action::Allow => return,
            Action::Reject => self.rejected = self.rejected.or(Some(category)),
            Action::Flag | Action::Mask => {}
        }
        self.findings.push(Finding {
            start,
            end,
            category,
            severity: policy::severity(category),
        });
    }

    pub(super) fn mask(&mut self, policy: &Policy, start: u64, end: u64, category: &'static str) {
        if policy.action(category) == Action::Mask {
            self.masks.push((start, end, Some(category)));
        }
    }

    pub(super) fn take_injections(&mut self, policy: &Policy) {
        for (start, end) in self.injection.take_found() {
            self.find(policy, start, end, category::PROMPT_INJECTION);
            self.mask(
                policy,
                start.max(self.released),
                end,
                category::PROMPT_INJECTION,
            );
        }
    }

    /// Everything before this byte is decided, and no mask reaches across it. Masks are in order.
    pub(super) fn settled(&self, policy: &Policy) -> u64 {
        let mut settled = self.pending.first().unwrap_or(self.consumed);
        // What stands between the words of a key is masked with the next one, if it goes on.
        if let Some((category, masked_to)) = self.continuation.open()
            && policy.action(category) >= Action::Mask
        {
            settled = settled.min(masked_to);
        }
        if policy.action(category::PROMPT_INJECTION) >= Action::Mask {
            settled = settled.min(self.injection.sentence_start().unwrap_or(self.consumed));
            // A sentence is judged when it ends, its last word may still be open. From the last mask to the first: where one moves the
            // bound, an earlier one may reach across it there.
            for (start, end, _) in self.masks.iter().rev() {
                if *start < settled && settled < *end {
                    settled = *start;
                }
            }
        }
        settled
    }

    pub(super) fn outcome(&mut self, policy: &Policy, is_final: bool) -> Outcome {
        let findings = std::mem::take(&mut self.findings);
        let verdict = if let Some(category) = self.rejected {
            Verdict::Reject {
                category,
                severity: policy::severity(category),
            }
        } else {
            self.masks
                .sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
            let settled = if is_final {
                self.consumed
            } else {
                self.settled(policy)
            };
            self.released = self.released.max(settled);
            match self.releasable_masks() {
                masks if masks.is_empty() => Verdict::Allow,
                masks => Verdict::Mask(masks),
            }
        };
        // Nothing follows a final piece, so nothing has to be carried to it.
        let state = if is_final {
            Vec::new()
        } else {
            self.to_state()
        };
        Outcome {
            verdict,
            findings,
            release_through: self.released,
            state,
        }
    }

    /// The masks of what is released now, merged.
    pub(super) fn releasable_masks(&mut self) -> Vec<Mask> {
        let released = self.released;
        let mut merged: Vec<Mask> = Vec::new();
        self.masks.retain(|&(start, end, category)| {
            if end > released {
                return true;
            }
            match merged.last_mut() {
                Some(last) if start < last.end || category.is_none() && start == last.end => {
                    last.end = last.end.max(end)
                }
                _ => {
                    let replacement =
                        category.map_or(String::new(), |category| format!("[{category}]"));
                    merged.push(Mask {
                        start,
                        end,
                        replacement,
                    });
                }
            }
            false
        });
        merged
    }
}
