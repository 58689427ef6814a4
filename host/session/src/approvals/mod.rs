//! Calls that somebody has to approve of before they are made: those that cannot be undone, and those that a rule of the agent's definition is about.
//!
//! Such calls are asked for together, and the session waits, suspended, as rows only ([`WAITS`]). Who decides last takes it up again
//! ([`Sessions::decide`](crate::Sessions::decide)). An approval holds for one call of one session with these very arguments, under what was allowed when it
//! was asked for, until it expires; it is used with the call's intent, in one append, so it cannot be used twice.

mod continued;
mod decide;
mod rules;
mod view;

pub use decide::Decision;
pub use rules::{ApprovalRule, Approvals, Pattern};
pub use view::ApprovalView;

use crate::{
    bodies,
    caller::Caller,
    chat::Run,
    effects::{ToolFailure, unknown},
    library::now_ms,
    progress::AskedCall,
    tools::Source,
};
use ambit_capabilities::tool::ToolCall as AgentCall;
use ambit_store::{Approval, ApprovalOp, Bound, Digest, NewApproval, digest_of, holds_exact};
use ambit_types::{ApprovalId, Error, ErrorKind, SessionId};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The reason of a session that waits for an approval.
pub(crate) const WAITS: &str = "approval";

/// The kind of the events about approvals.
pub(crate) const KIND: &str = "approval";

/// What a call needs.
struct Need {
    /// Its arguments as its component will read them, in canonical form (RFC 8785).
    arguments: String,
    policy: Digest,
    /// `irreversible`, or the number of a rule.
    why: String,
}

/// The approvals that calls are made with, by the place of the call.
pub(crate) type Passes = BTreeMap<usize, ApprovalId>;

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
        let of_call = |call: &AgentCall| asked.iter().find(|one| one.call == call.id);
        let (mut needs, mut passes) = (Vec::new(), Passes::new());
        for (place, (call, refused)) in calls.iter().zip(refused.iter_mut()).enumerate() {
            match (begun, of_call(call)) {
                (true, Some(asked)) if asked.used => {
                    passes.insert(place, asked.approval);
                    continue;
                }
                // Its intent does not name it, so it was not made.
                (true, Some(asked)) => {
                    *refused = Some(not_approved(call, asked.reason.as_deref()));
                    continue;
                }
                _ if refused.is_some() => continue,
                // It was made when nobody had to approve of it, and is not made again.
                (true, None) => {
                    if !matches!(self.need(call).await, Ok(None)) {
                        *refused = Some(unknown(call));
                    }
                    continue;
                }
                (false, _) => {}
            }
            match self.need(call).await {
                Ok(None) if of_call(call).is_none() => {}
                Ok(need) => needs.push((place, need)),
                Err(failure) => *refused = Some(failure),
            }
        }
        let known = match asked.is_empty() {
            true => Vec::new(),
            false => {
                let store = self.sessions.platform.store.tenant(self.tenant.id);
                store.approvals_of(self.session).await?
            }
        };
        let (now, mut waits, mut uses) = (now_ms(), false, Vec::new());
        for (place, need) in needs {
            let call = &calls[place];
            let Some(asked) = of_call(call) else {
                if let Some(need) = need {
                    self.ask(call, need).await?;
                    waits = true;
                }
                continue;
            };
            let row = known.iter().find(|row| row.id == asked.approval);
            let standing = row.map_or("void", |row| row.standing(now));
            match (standing, need, row) {
                ("pending", ..) => waits = true,
                ("approved", Some(need), Some(row)) if self.bound(&need).await? == row.bound => {
                    let (id, bound) = (row.id, row.bound);
                    uses.push(ApprovalOp::Use {
                        id,
                        bound,
                        at_ms: now,
                    });
                    passes.insert(place, id);
                }
                ("approved", ..) => refused[place] = Some(changed(call)),
                ("expired", ..) => refused[place] = Some(expired(call)),
                _ => refused[place] = Some(not_approved(call, asked.reason.as_deref())),
            }
        }
        if waits {
            return Ok(None);
        }
        self.recorder.approvals(uses);
        for (place, call) in calls.iter().enumerate() {
            if let (Some(asked), Some(refused)) = (of_call(call), &refused[place]) {
                self.note_end(asked.approval, refused.code);
            }
        }
        Ok(Some(passes))
    }

    /// Notes what became of a call that was asked for.
    pub(crate) fn note_end(&mut self, id: ApprovalId, code: &str) {
        let code = code.into();
        self.recorder.approvals([ApprovalOp::Outcome { id, code }]);
    }

    /// None: it may be made without anybody's approval.
    async fn need(&self, call: &AgentCall) -> Result<Option<Need>, ToolFailure> {
        let Some(Source::Host {
            toolbox,
            narrowing,
            reversible,
            ..
        }) = self.offer.source(&call.name)
        else {
            return Ok(None);
        };
        let rules = &self.agent.definition.approvals;
        if *reversible && !rules.concern(&call.name) {
            return Ok(None);
        }
        let failure = |error: ambit_capabilities::tool::ToolError| ToolFailure {
            code: error.code(),
            message: error.message(),
        };
        let arguments = toolbox.arguments(call).await.map_err(failure)?;
        let invalid = |why: &str| ToolFailure {
            code: "invalid",
            message: format!("the arguments of `{}` {why}", call.name),
        };
        let value: Value =
            serde_json::from_str(&arguments).map_err(|_| invalid("are not valid JSON"))?;
        let why = match (reversible, rules.of(&call.name, &value)) {
            (false, _) => "irreversible".to_owned(),
            (true, Some(rule)) => format!("rule {rule}"),
            (true, None) => return Ok(None),
        };
        if !holds_exact(&value) {
            let why = "hold a whole number beyond 2^53 - 1, which nobody can be asked about exactly; give it as a text";
            return Err(invalid(why));
        }
        let policy = json!({ "approvals": rules, "tool": toolbox.terms(narrowing) });
        let canonical = |value: &Value| {
            let text = serde_json_canonicalizer::to_string(value);
            text.map_err(|_| invalid("have no canonical form"))
        };
        Ok(Some(Need {
            arguments: canonical(&value)?,
            policy: digest_of(canonical(&policy)?.as_bytes()),
            why,
        }))
    }

    async fn bound(&self, need: &Need) -> Result<Bound, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let arguments = need.arguments.as_bytes();
        let arguments = store.keyed_digest(self.session, arguments).await?;
        let erased = || Error::new(ErrorKind::Conflict, "the session's content was erased");
        Ok(Bound {
            arguments: arguments.ok_or_else(erased)?,
            policy: need.policy,
        })
    }

    /// Asks for an approval: durable with the session's rest.
    async fn ask(&mut self, call: &AgentCall, need: Need) -> Result<(), Error> {
        // The session's key is in its row.
        self.recorder.flush().await?;
        let bound = self.bound(&need).await?;
        let rules = &self.agent.definition.approvals;
        let (id, now) = (ApprovalId::new(), now_ms());
        let expires = i64::try_from(rules.expires.saturating_mul(1000)).unwrap_or(i64::MAX);
        let new = NewApproval {
            id,
            agent: self.agent.definition.name.as_str().into(),
            principal: self.context.principal.id.as_str().into(),
            tool: call.name.as_str().into(),
            bound,
            by_another: rules.by_another,
            created_ms: now,
            expires_ms: now.saturating_add(expires),
        };
        let facts = [
            ("action", json!("asked")),
            ("approval", json!(id)),
            ("tool", json!(call.name)),
            ("arguments", json!(bound.arguments)),
            ("policy", json!(bound.policy)),
            ("why", json!(need.why)),
            ("by_another", json!(new.by_another)),
            ("expires_ms", json!(new.expires_ms)),
        ];
        let body = bodies::Asked {
            call: call.id.clone(),
            arguments: need.arguments,
            caller: (!self.recorder.is_durable()).then(|| Caller::of(&self.context.principal)),
        };
        self.recorder.note(KIND, &facts, &body)?;
        self.recorder.approvals([ApprovalOp::Ask(new)]);
        self.progress.asked(AskedCall::new(call.id.clone(), id));
        Ok(())
    }

    /// Whether the call that this was asked for would be made under the same terms now.
    pub(super) async fn still_holds(&self, row: &Approval) -> Result<bool, Error> {
        let call = self.progress.call_of(row.id);
        match call {
            None => Ok(false),
            Some(call) => match self.need(&call).await {
                Ok(Some(need)) => Ok(self.bound(&need).await? == row.bound),
                Ok(None) | Err(_) => Ok(false),
            },
        }
    }

    /// What a caller without any notion of approvals is told in place of an answer.
    pub(crate) fn notice(&self) -> String {
        let asked = self.progress.current.iter().flat_map(|one| &one.asked);
        let lines: Vec<_> = asked
            .filter_map(|asked| {
                let call = self.progress.call_of(asked.approval)?;
                Some(format!("- `{}` ({})", call.name, asked.approval))
            })
            .collect();
        notice(self.session, &lines)
    }
}

/// Begins with the words by which [`session_of`] finds it again.
fn notice(session: SessionId, lines: &[String]) -> String {
    let (what, verb) = match lines.len() {
        1 => ("a call", "needs"),
        _ => ("calls", "need"),
    };
    format!(
        "{NOTICE}{session}: {what} I want to make {verb} somebody's approval first.\n\n{}\n\nNothing of it is done yet. Once it is decided, write again and I go on.",
        lines.join("\n")
    )
}

const NOTICE: &str = "Waiting for approval in session ";

/// The session that waits, if this is such a notice.
#[must_use]
pub fn session_of(notice: &str) -> Option<SessionId> {
    let (session, _) = notice.strip_prefix(NOTICE)?.split_once(':')?;
    session.parse().ok()
}

fn not_approved(call: &AgentCall, reason: Option<&str>) -> ToolFailure {
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    ToolFailure {
        code: "denied",
        message: format!(
            "`{}` was not called, because its approval was refused{reason}",
            call.name
        ),
    }
}

fn expired(call: &AgentCall) -> ToolFailure {
    ToolFailure {
        code: "expired",
        message: format!(
            "`{}` was not called, because nobody decided on it in time; call it again to ask again",
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

/// Header facts of a decision.
pub(super) fn decided(id: ApprovalId, approved: bool, by: &str) -> [(&'static str, Value); 3] {
    let action = match approved {
        true => "approved",
        false => "denied",
    };
    [
        ("action", json!(action)),
        ("approval", json!(id)),
        ("by", json!(by)),
    ]
}

pub(super) fn in_bytes(body: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::{notice, session_of};
    use ambit_types::SessionId;

    #[test]
    fn a_notice_leads_back_to_its_session() {
        let session = SessionId::new();
        let text = notice(session, &["- `pay` (apr_1)".to_owned()]);
        assert_eq!(session_of(&text), Some(session));
        for other in ["", "Waiting for approval in session ses_1: x", "Hello"] {
            assert_eq!(session_of(other), None);
        }
    }
}
