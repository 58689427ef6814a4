//! Whole texts on their way through the judge, turn by turn.
//!
//! A turn is one job of the executor. It ends after so much text that a thread goes from hand to hand within milliseconds however much
//! a request brings, so nobody waits behind somebody else's eight megabytes.

use super::{Checked, Findings, Inner, Rejection, Room, Stage, filter::Filter};
use crate::Failure;
use ambit_runtime::{CallError, CallScope, Limit};
use std::time::{Duration, Instant};

/// A text is judged whole in one call up to this size, beyond in pieces, so that no call's limits depend on a caller's size.
const ONE_CALL_CAP: usize = 64 * 1024;
/// What one turn takes on: more than a usual request has.
const TURN_BYTES: usize = ONE_CALL_CAP;
const TURN_TEXTS: usize = 32;
/// A turn takes on nothing more after this, for a component that is slow.
const TURN_TIME: Duration = Duration::from_millis(10);
/// CPU time of the executor's threads for all texts together: ten times what the largest request takes the shipped guardrail.
const SHARE: Duration = Duration::from_secs(5);

/// CPU time that the calling thread has used.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

pub(super) struct Batch {
    texts: Vec<(Stage, String)>,
    /// Of the first texts.
    checked: Vec<Checked>,
    open: Open,
    room: Room,
    spent: Duration,
}

/// The text being judged.
struct Open {
    filter: Filter,
    checked: Checked,
    /// Bytes judged.
    at: usize,
}

impl Batch {
    pub(super) fn new(texts: Vec<(Stage, String)>) -> Self {
        Self {
            checked: Vec::with_capacity(texts.len()),
            texts,
            open: Open::new(),
            room: Room::default(),
            spent: Duration::ZERO,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.checked.len() == self.texts.len()
    }

    pub(super) fn into_checked(self) -> Vec<Checked> {
        self.checked
    }

    /// Judges until the turn is over or everything is judged.
    pub(super) fn turn(&mut self, judge: &Inner, scope: &CallScope) -> Result<(), Failure> {
        let (began, cpu) = (Instant::now(), thread_cpu());
        let (mut bytes, mut texts) = (0, 0);
        while let Some((stage, text)) = self.texts.get(self.checked.len()) {
            let (taken, ended) = self
                .open
                .go_on(judge, scope, *stage, text, &mut self.room)?;
            if ended {
                let open = std::mem::replace(&mut self.open, Open::new());
                self.checked.push(open.checked);
                texts += 1;
            }
            bytes += taken;
            if bytes >= TURN_BYTES || texts == TURN_TEXTS || began.elapsed() >= TURN_TIME {
                break;
            }
        }
        // Not what the clock says: who shares his cores with others is no slower judge.
        self.spent += thread_cpu().saturating_sub(cpu);
        if self.spent > SHARE && !self.is_done() {
            return Err(CallError::Limit(Limit::Cpu).into());
        }
        Ok(())
    }
}

impl Open {
    fn new() -> Self {
        Self {
            // The whole text is here already, so holding it back costs nothing.
            filter: Filter::new(usize::MAX),
            checked: Checked {
                text: String::new(),
                masks: 0,
                findings: Findings::default(),
                rejection: None,
            },
            at: 0,
        }
    }

    /// Judges the next piece of the text: its size, and whether the verdict stands.
    fn go_on(
        &mut self,
        judge: &Inner,
        scope: &CallScope,
        stage: Stage,
        text: &str,
        room: &mut Room,
    ) -> Result<(usize, bool), Failure> {
        if text.is_empty() {
            return Ok((0, true));
        }
        let rest = &text[self.at..];
        let (piece, more) = rest.split_at(rest.floor_char_boundary(ONE_CALL_CAP));
        let judged = judge.judge(scope, stage, &mut self.filter, piece, more.is_empty())?;
        self.at += piece.len();
        let checked = &mut self.checked;
        checked.findings.take(judged.findings, room)?;
        if let Some(rejection) = judged.rejection {
            self.reject(rejection);
            return Ok((piece.len(), true));
        }
        if checked.text.is_empty() && more.is_empty() {
            checked.text = judged.text;
        } else {
            checked.text.push_str(&judged.text);
        }
        checked.masks += judged.masks;
        Ok((piece.len(), more.is_empty()))
    }

    fn reject(&mut self, rejection: Rejection) {
        self.checked.text.clear();
        self.checked.masks = 0;
        self.checked.rejection = Some(rejection);
    }
}
