//! `/v1/approvals`: what agents of the tenant wait for, for whoever has the scope `approve`.

use crate::{admin::now_ms, data::Call, error::OpenAiError, openai::json, routes::page};
use ambit_policy::token::Credential;
use ambit_session::{ApprovalView, Decision};
use ambit_store::{Approval, Asked};
use ambit_types::{ApprovalId, Error, Scope};
use axum::{
    Json,
    body::Body,
    extract::{Path, Query},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Approvals of one page at most.
const MAX_PAGE: u32 = 100;

/// The longest reason, in bytes.
const REASON_CAP: usize = 2000;

/// Which approvals are listed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Which {
    /// Those that wait for somebody.
    #[default]
    Pending,
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Older {
    #[serde(default)]
    state: Which,
    before: Option<ApprovalId>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Page {
    object: &'static str,
    data: Vec<ApprovalView>,
    has_more: bool,
    last_id: Option<ApprovalId>,
}

pub(crate) async fn list(call: Call, Query(asked): Query<Older>) -> Result<Response, OpenAiError> {
    call.require(Scope::Approve)?;
    let limit = page(asked.limit, 20, MAX_PAGE)?;
    let wanted = Asked {
        pending: asked.state == Which::Pending,
        within: None,
        before: asked.before,
        limit,
    };
    let store = call.gateway.platform.store.tenant(call.tenant.id);
    let rows = store.approvals(&wanted, now_ms()).await;
    let rows = rows.map_err(Error::from)?;
    let has_more = rows.len() == limit as usize;
    let last = rows.last().map(|row| row.id);
    let seen = rows.into_iter().filter(|row| may_see(&call, row)).collect();
    let data = call.gateway.sessions.approvals(seen).await?;
    let object = "list";
    Ok(Json(Page {
        object,
        data,
        has_more,
        last_id: last,
    })
    .into_response())
}

pub(crate) async fn show(call: Call, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    call.require(Scope::Approve)?;
    let row = find(&call, &id).await?;
    shown(&call, row).await
}

pub(crate) async fn approve(
    call: Call,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, OpenAiError> {
    decide(call, &id, body, true).await
}

pub(crate) async fn deny(
    call: Call,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, OpenAiError> {
    decide(call, &id, body, false).await
}

async fn decide(call: Call, id: &str, body: Body, approved: bool) -> Result<Response, OpenAiError> {
    call.require(Scope::Approve)?;
    call.gateway.accountable()?;
    let read = call.gateway.body(body).await?;
    let decision = Decision {
        approved,
        by: call.context.principal.id.clone(),
        reason: reason(&read.bytes)?,
    };
    let row = find(&call, id).await?;
    let sessions = &call.gateway.sessions;
    let decided = sessions
        .decide(call.tenant.clone(), row.id, decision)
        .await?;
    shown(&call, decided).await
}

/// Of a body that may be empty, or `{"reason": "…"}`.
pub(crate) fn reason(body: &[u8]) -> Result<Option<String>, Error> {
    let map = match body.trim_ascii().is_empty() {
        true => Map::new(),
        false => json::object(body)?,
    };
    let mut reason = None;
    for (name, value) in map {
        match (name.as_str(), value) {
            ("reason", Value::Null) => {}
            ("reason", Value::String(text)) if text.len() <= REASON_CAP && !text.contains('\0') => {
                reason = Some(text);
            }
            ("reason", _) => {
                let expected = format!("expected a text of at most {REASON_CAP} bytes");
                return Err(Error::invalid("reason", expected));
            }
            (other, _) => {
                let shown: String = other.chars().take(80).collect();
                return Err(Error::invalid(
                    "reason",
                    format!("there is no field `{shown}` here; expected `reason` or nothing"),
                ));
            }
        }
    }
    Ok(reason)
}

/// With a capability token, those of what the token is good in.
fn may_see(call: &Call, row: &Approval) -> bool {
    let token = Credential::token_of(&call.context.principal);
    token.is_none_or(|token| {
        let agent = token.agent.as_ref();
        token.session.is_none_or(|own| own == row.session)
            && agent.is_none_or(|agent| agent.as_str() == row.agent)
    })
}

async fn find(call: &Call, id: &str) -> Result<Approval, Error> {
    let unknown = || Error::not_found("there is no such approval");
    let id: ApprovalId = id.parse().map_err(|_| unknown())?;
    let store = call.gateway.platform.store.tenant(call.tenant.id);
    let row = store.approval(id).await?;
    row.filter(|row| may_see(call, row)).ok_or_else(unknown)
}

async fn shown(call: &Call, row: Approval) -> Result<Response, OpenAiError> {
    let view = one(call.gateway.sessions.approvals(vec![row]).await?)?;
    Ok(Json(view).into_response())
}

pub(crate) fn one(views: Vec<ApprovalView>) -> Result<ApprovalView, Error> {
    let view = views.into_iter().next();
    view.ok_or_else(|| Error::internal("an approval without a view"))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn a_decision_may_say_why() {
        for (body, expected) in [
            ("", None),
            (" \n", None),
            ("{}", None),
            (r#"{"reason":null}"#, None),
            (r#"{"reason":"too much"}"#, Some("too much")),
        ] {
            let found = reason(body.as_bytes()).unwrap();
            assert_eq!(found.as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"reason":"{}"}}"#, "a".repeat(2001));
        for bad in [
            "[]",
            "{",
            r#"{"reason":1}"#,
            r#"{"reason":"a\u0000"}"#,
            r#"{"because":"x"}"#,
            &long,
        ] {
            assert!(reason(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
