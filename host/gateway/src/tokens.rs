//! `/v1/tokens`: handing on a part of what one may do.

use crate::{data::Call, error::OpenAiError, openai::json};
use ambit_ledger::Money;
use ambit_policy::{
    Permissions,
    token::{Credential, MAX_ANCESTORS},
};
use ambit_session::{Issued, NewToken, Tokens, revoke_token};
use ambit_types::{AgentName, Error, ErrorKind, Scope, SessionId, TokenId};
use axum::{
    Json,
    body::Body,
    extract::Path,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    scopes: Option<Vec<Scope>>,
    /// As in a grant.
    grants: Option<Permissions>,
    /// A decimal text.
    budget: Option<String>,
    /// Seconds.
    expires_in: Option<u64>,
    agent: Option<AgentName>,
    session: Option<SessionId>,
}

pub(crate) async fn create(call: Call, body: Body) -> Result<Response, OpenAiError> {
    let tokens = tokens(&call)?;
    let read = call.gateway.body(body).await?;
    let asked = Value::Object(json::object(&read.bytes)?);
    let asked: Asked = serde_path_to_error::deserialize(asked).map_err(|error| {
        let path = error.path().to_string();
        Error::invalid(&path, format!("`{path}`: {}", error.inner()))
    })?;
    let budget = asked
        .budget
        .map(|budget| budget.parse::<Money>())
        .transpose();
    let new = NewToken {
        scopes: asked.scopes,
        grants: asked.grants,
        budget: budget.map_err(|error| Error::invalid("budget", error.to_string()))?,
        lifetime: asked.expires_in.map(Duration::from_secs),
        agent: asked.agent,
        session: asked.session,
    };
    let store = call.gateway.platform.store.tenant(call.tenant.id);
    let Issued { token, text } = tokens.issue(&store, &call.context, new).await?;
    let answer = json!({
        "id": token.jti, "object": "capability_token", "token": text, "expires_at": token.exp, "principal": token.sub,
        "scopes": token.scopes, "agent": token.agent, "session": token.session, "parent": token.ancestors.first(),
        "budget_micros": token.budget_micros,
    });
    Ok(Json(answer).into_response())
}

pub(crate) async fn revoke(call: Call, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    tokens(&call)?;
    let unknown = || Error::not_found("there is no such capability token");
    let id: TokenId = id.parse().map_err(|_| unknown())?;
    let store = call.gateway.platform.store.tenant(call.tenant.id);
    let found = store.token(id).await.map_err(Error::from)?;
    // His own; with a token only that and what was delegated from it.
    let mine = found.filter(|found| found.principal == call.context.principal.id);
    let mut above = mine.ok_or_else(unknown)?;
    if let Some(held) = Credential::token_of(&call.context.principal) {
        for _ in 0..MAX_ANCESTORS {
            if above.id == held.jti {
                break;
            }
            let parent = above.parent.ok_or_else(unknown)?;
            let found = store.token(parent).await.map_err(Error::from)?;
            above = found.ok_or_else(unknown)?;
        }
        if above.id != held.jti {
            return Err(unknown().into());
        }
    }
    let revoked = revoke_token(&store, Some(&call.tenant), id).await?;
    let revoked = revoked.ok_or_else(unknown)?;
    let answer = json!({"id": revoked.id, "object": "capability_token", "revoked": true});
    Ok(Json(answer).into_response())
}

fn tokens(call: &Call) -> Result<&Arc<Tokens>, Error> {
    let tokens = call.gateway.platform.tokens.as_ref();
    tokens.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "this installation issues no capability tokens: it has no key to sign them with",
        )
    })
}
