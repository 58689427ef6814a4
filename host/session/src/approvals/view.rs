//! Approvals as those who decide see them: with what was asked, read from the journal.

use super::KIND;
use crate::{bodies, chat::Sessions, library::now_ms, past::body};
use ambit_store::{Approval, Event, SessionState};
use ambit_types::{ApprovalId, Error, SessionId, TenantId};
use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use std::collections::{HashMap, HashSet};

/// An approval with what it is about. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, Serialize)]
pub struct ApprovalView {
    pub id: ApprovalId,
    pub object: &'static str,
    #[serde(skip)]
    pub tenant: TenantId,
    pub session: SessionId,
    pub agent: String,
    /// Whom the agent acts for.
    pub principal: String,
    pub tool: String,
    /// None: the session's content was erased.
    pub arguments: Option<Box<RawValue>>,
    /// `irreversible`, or which rule of the definition wants it.
    pub why: Option<String>,
    pub by_another: bool,
    /// `pending`, `approved`, `denied`, `used`, `refused`, `expired`, `withdrawn` or `void`.
    pub state: &'static str,
    pub created_at: i64,
    pub expires_at: i64,
    pub decided_at: Option<i64>,
    pub decided_by: Option<String>,
    pub reason: Option<String>,
    pub used_at: Option<i64>,
    /// Of the call: `ok`, or why there is no result; `unknown` of one that was begun in a session that is not at work and never came back.
    pub outcome: Option<String>,
}

/// What the journal says of one.
#[derive(Default)]
struct Said {
    arguments: Option<Box<RawValue>>,
    why: Option<String>,
    reason: Option<String>,
}

impl Sessions {
    /// With what their sessions' journals say of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn approvals(&self, rows: Vec<Approval>) -> Result<Vec<ApprovalView>, Error> {
        let wanted: HashSet<_> = rows.iter().map(|row| row.id.to_string()).collect();
        let (mut said, mut read) = (HashMap::new(), HashSet::new());
        for row in &rows {
            if read.insert(row.session) {
                let store = self.platform.store.tenant(row.tenant);
                let events = store.events_of_kind(row.session, KIND).await?;
                take(&mut said, &wanted, &events);
            }
        }
        let now = now_ms();
        let views = rows.into_iter().map(|row| {
            let said = said.remove(&row.id.to_string());
            view(row, said.unwrap_or_default(), now)
        });
        Ok(views.collect())
    }
}

/// Arguments are shown as text where they are nested deeper: whoever reads a listing must be able to read all of it.
const DEEPEST: usize = 32;

/// Or the text that it is, where a model wrote what is no JSON.
fn as_json(arguments: String) -> Box<RawValue> {
    let is_plain =
        serde_json::from_str::<Value>(&arguments).is_ok_and(|json| depth(&json) <= DEEPEST);
    let json = match is_plain {
        true => RawValue::from_string(arguments.clone()).ok(),
        false => None,
    };
    json.unwrap_or_else(|| to_raw_value(&arguments).unwrap_or_default())
}

/// A reader of JSON gave it: no deeper than that goes.
fn depth(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What events say of those that are wanted.
fn take(said: &mut HashMap<String, Said>, wanted: &HashSet<String>, events: &[Event]) {
    for event in events {
        let fact = |name: &str| event.header.facts.get(name).and_then(Value::as_str);
        let Some(id) = fact("approval").filter(|id| wanted.contains(*id)) else {
            continue;
        };
        let of = said.entry(id.to_owned()).or_default();
        match fact("action") {
            Some("asked" | "refused") => {
                of.why = fact("why").map(str::to_owned);
                let asked = body::<bodies::Asked>(event).ok();
                of.arguments = asked.map(|asked| as_json(asked.arguments));
            }
            _ => {
                let decided = body::<bodies::Decided>(event).ok();
                of.reason = decided.and_then(|decided| decided.reason);
            }
        }
    }
}

fn view(row: Approval, said: Said, now_ms: i64) -> ApprovalView {
    let state = row.standing(now_ms);
    let at_work = row.session_state == SessionState::Open;
    let unknown = (state == "used" && !at_work).then(|| "unknown".to_owned());
    ApprovalView {
        id: row.id,
        object: "approval",
        tenant: row.tenant,
        session: row.session,
        agent: row.agent,
        principal: row.principal,
        tool: row.tool,
        arguments: said.arguments,
        why: said.why,
        by_another: row.by_another,
        state,
        created_at: row.created_ms / 1000,
        expires_at: row.expires_ms / 1000,
        decided_at: row.decided_ms.map(|at| at / 1000),
        decided_by: row.decided_by,
        reason: said.reason,
        used_at: row.used_ms.map(|at| at / 1000),
        outcome: row.outcome.or(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::as_json;

    #[test]
    fn whatever_a_model_writes_is_shown_and_can_be_read_within_a_page() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for (written, as_it_is) in [
            (r#"{"amount":9007199254740993}"#.to_owned(), true),
            (deep(32), true),
            (deep(33), false),
            (deep(100_000), false),
            (r#"{"a":1e999}"#.to_owned(), false),
            (r#""\ud800""#.to_owned(), false),
            ("{".to_owned(), false),
            (String::new(), false),
        ] {
            let shown = as_json(written.clone());
            let page = format!("{{\"data\":[{{\"arguments\":{shown}}}]}}");
            let read: serde_json::Value = serde_json::from_str(&page).unwrap();
            let arguments = &read["data"][0]["arguments"];
            match as_it_is {
                true => assert_eq!(shown.get(), written),
                false => assert_eq!(arguments.as_str(), Some(written.as_str())),
            }
        }
    }
}
