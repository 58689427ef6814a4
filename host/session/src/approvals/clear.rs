//! Holding calls against what was approved of.

use super::{Need, Passes};
use crate::{
    calls::{ToolFailure, unknown},
    chat::Run,
    library::now_ms,
    progress::AskedCall,
};
use ambit_capabilities::tool::ToolCall as AgentCall;
use ambit_store::{Approval, ApprovalOp};
use ambit_types::{ApprovalId, Error};

impl Run {
    /// Holds calls against what was approved of. Says of each that may not be made why, asks for what nobody was asked for, and notes what is used with
    /// the intent that follows. None: somebody has to decide first.
    ///
    /// `begun`: by a process that is no more; what it used stands in its intent.
    pub(crate) async fn clear(
        &mut self,
        calls: &[AgentCall],
        refused: &mut [Option<ToolFailure>],
        begun: bool,
    ) -> Result<Option<Passes>, Error> {
        let current = self.progress.current.as_ref();
        let asked = current.map_or_else(Vec::new, |current| current.asked.clone());
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let known = match asked.is_empty() {
            true => Vec::new(),
            false => store.approvals_of(self.session).await?,
        };
        let of_call = |call: &AgentCall| {
            let asked = asked.iter().find(|one| one.call == call.id)?;
            Some((asked, known.iter().find(|row| row.id == asked.approval)))
        };
        if begun {
            return self.clear_begun(calls, refused, of_call).await.map(Some);
        }
        let (mut wanted, mut waits, mut uses) = (Vec::new(), false, Vec::new());
        let (mut passes, now) = (Passes::new(), now_ms());
        let acting = self.ambit().acting().is_ok();
        for (place, call) in calls.iter().enumerate() {
            if refused[place].is_some() {
                continue;
            }
            let (need, asked) = match (self.need(call).await, of_call(call)) {
                (Err(failure), _) => {
                    refused[place] = Some(failure);
                    continue;
                }
                (Ok(None), None) => continue,
                (Ok(Some(need)), None) => {
                    wanted.push((call, need));
                    continue;
                }
                (Ok(need), Some(asked)) => (need, asked),
            };
            let (asked, row) = asked;
            let standing = row.map_or("void", |row| row.standing(now));
            match (standing, row) {
                ("pending", _) => waits = true,
                // Who may do nothing any more spends nothing either.
                ("approved", Some(row)) if acting && self.holds(need, row, now).await? => {
                    let (id, bound, at_ms) = (row.id, row.bound, now);
                    uses.push(ApprovalOp::Use { id, bound, at_ms });
                    passes.insert(place, id);
                }
                ("approved", _) => refused[place] = Some(changed(call)),
                ("expired", _) => refused[place] = Some(expired(call)),
                _ => refused[place] = Some(not_approved(call, asked)),
            }
        }
        waits |= !wanted.is_empty();
        // The first time that this move is looked at.
        let attempts = match asked.is_empty() {
            true => self.attempts(calls, refused),
            false => Vec::new(),
        };
        self.ask(wanted, attempts).await?;
        if waits {
            return Ok(None);
        }
        self.recorder.approvals(uses);
        for (call, refused) in calls.iter().zip(refused) {
            if let (Some((asked, _)), Some(refused)) = (of_call(call), refused) {
                self.note_end(asked.approval, refused.code);
            }
        }
        Ok(Some(passes))
    }

    /// Of calls that an earlier process began.
    async fn clear_begun<'a>(
        &self,
        calls: &[AgentCall],
        refused: &mut [Option<ToolFailure>],
        of_call: impl Fn(&AgentCall) -> Option<(&'a AskedCall, Option<&'a Approval>)>,
    ) -> Result<Passes, Error> {
        let (mut passes, now) = (Passes::new(), now_ms());
        let acting = self.ambit().acting().is_ok();
        let started = self.was_started().await?;
        for (place, call) in calls.iter().enumerate() {
            let again = refused[place].is_none();
            match of_call(call) {
                // What it started goes on, and is waited for.
                Some((asked, _)) if asked.used && again && started && self.goes_on(call) => {
                    passes.insert(place, asked.approval);
                }
                // It is made again only where it would be made anew.
                Some((asked, row)) if asked.used => {
                    passes.insert(place, asked.approval);
                    let need = self.need(call).await.ok().flatten();
                    let holds = match row {
                        Some(row) => again && acting && self.holds(need, row, now).await?,
                        None => false,
                    };
                    if !holds {
                        refused[place] = Some(unknown(call));
                    }
                }
                // Its intent does not name it, so it was not made; why not was noted with that.
                Some((asked, row)) => {
                    let why = row.and_then(|row| row.outcome.as_deref());
                    refused[place] = Some(match why {
                        Some("expired") => expired(call),
                        Some("changed") => changed(call),
                        Some("denied") | None => not_approved(call, asked),
                        Some(_) => not_made(call),
                    });
                }
                // It was made when nobody had to approve of it.
                None if again && started && self.goes_on(call) => {}
                None if again && !matches!(self.need(call).await, Ok(None)) => {
                    refused[place] = Some(unknown(call));
                }
                None => {}
            }
        }
        Ok(passes)
    }

    /// Whether an approval holds for a call now.
    async fn holds(&self, need: Option<Need>, row: &Approval, now: i64) -> Result<bool, Error> {
        match need {
            Some(need) => Ok(row.expires_ms > now && self.bound(&need).await? == row.bound),
            None => Ok(false),
        }
    }

    /// Whether the call that this was asked for would be made under the same terms now.
    pub(super) async fn still_holds(&self, row: &Approval) -> Result<bool, Error> {
        let need = match self.progress.call_of(row.id) {
            Some(call) => self.need(&call).await.ok().flatten(),
            None => None,
        };
        self.holds(need, row, now_ms()).await
    }

    /// Notes what became of a call that was asked for.
    pub(crate) fn note_end(&mut self, id: ApprovalId, code: &str) {
        let (code, at_ms) = (code.into(), now_ms());
        let end = ApprovalOp::Outcome { id, code, at_ms };
        self.recorder.approvals([end]);
    }
}

fn not_approved(call: &AgentCall, asked: &AskedCall) -> ToolFailure {
    let reason = asked.reason.as_deref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    ToolFailure {
        code: "denied",
        message: format!(
            "`{}` was not called, because its approval was refused{reason}",
            call.name
        ),
    }
}

fn not_made(call: &AgentCall) -> ToolFailure {
    ToolFailure {
        code: "invalid",
        message: format!("`{}` was not called, as it could not be", call.name),
    }
}

fn expired(call: &AgentCall) -> ToolFailure {
    ToolFailure {
        code: "expired",
        message: format!(
            "`{}` was not called, because its approval has expired; call it again to ask again",
            call.name
        ),
    }
}

fn changed(call: &AgentCall) -> ToolFailure {
    ToolFailure {
        code: "changed",
        message: format!(
            "`{}` was not called, because what it was approved under has changed since; call it again to ask again",
            call.name
        ),
    }
}
