//! Calls that somebody has to approve of before they are made: those that cannot be undone, and those that a rule of the agent's definition is about.
//!
//! Such calls are asked for together, and the session waits, suspended, as rows only ([`WAITS`]). Who decides last takes it up again
//! ([`Sessions::decide`](crate::Sessions::decide)). An approval holds for one call of one session with these very arguments, under what was allowed when it
//! was asked for, until it expires; it is used with the call's intent, in one append, so it cannot be used twice.

mod ask;
mod clear;
mod continued;
mod decide;
mod rules;
mod view;

pub use decide::Decision;
pub use rules::{ApprovalRule, Approvals, Pattern};
pub use view::ApprovalView;

use crate::chat::Run;
use ambit_types::{ApprovalId, Error, SessionId};
use ask::Need;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The reason of a session that waits for an approval.
pub(crate) const WAITS: &str = "approval";

/// The kind of the events about approvals.
pub(crate) const KIND: &str = "approval";

/// The approvals that calls are made with, by the place of the call.
pub(crate) type Passes = BTreeMap<usize, ApprovalId>;

impl Run {
    /// What a caller without any notion of approvals is told in place of an answer, or after what it was told already.
    pub(crate) async fn notice(&self) -> String {
        let notice = match self.progress.child() {
            Some(child) => {
                // Where it cannot be read now, whoever decides reads it elsewhere.
                let pending = self.sessions.pending_below(self.tenant.id, child).await;
                let pending = pending.unwrap_or_default();
                let lines: Vec<_> = pending.iter().map(|row| line(&row.tool, row.id)).collect();
                let whose = format!("an agent that I asked in session {child} wants to make");
                notice(self.session, &whose, &lines)
            }
            None => {
                let asked = self.progress.current.iter().flat_map(|one| &one.asked);
                let lines: Vec<_> = asked
                    .filter_map(|asked| {
                        let call = self.progress.call_of(asked.approval)?;
                        Some(line(&call.name, asked.approval))
                    })
                    .collect();
                notice(self.session, "I want to make", &lines)
            }
        };
        match self.progress.has_streamed() {
            true => format!("\n\n{notice}"),
            false => notice,
        }
    }
}

/// Begins with the words by which [`session_of`] finds it again.
fn notice(session: SessionId, whose: &str, lines: &[String]) -> String {
    let (what, verb) = match lines.len() {
        1 => ("a call", "needs"),
        _ => ("calls", "need"),
    };
    format!(
        "{NOTICE}{session}: {what} {whose} {verb} somebody's approval first.\n\n{}\n\nNothing of it is done yet. Once it is decided, write again and I go on.",
        lines.join("\n")
    )
}

fn line(tool: &str, id: ApprovalId) -> String {
    format!("- `{tool}` ({id})")
}

const NOTICE: &str = "Waiting for approval in session ";

/// The session that waits, if this ends in such a notice.
#[must_use]
pub fn session_of(notice: &str) -> Option<SessionId> {
    let mut lines = notice.lines().rev();
    let said = lines.find_map(|line| line.strip_prefix(NOTICE))?;
    said.split_once(':')?.0.parse().ok()
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
        let text = notice(session, "I want to make", &["- `pay` (apr_1)".to_owned()]);
        assert_eq!(session_of(&text), Some(session));
        let other = notice(
            SessionId::new(),
            "I want to make",
            &["- `pay` (apr_2)".to_owned()],
        );
        let after = format!("I will pay now.\n\n{other}\n\n{text}");
        assert_eq!(session_of(&after), Some(session), "the last one");
        for other in ["", "Waiting for approval in session ses_1: x", "Hello"] {
            assert_eq!(session_of(other), None);
        }
    }
}
