//! `/v1/sessions`: conversations that outlive their connections.
//!
//! A principal sees its own sessions and no others; with a capability token only those the token is good in. Of the journal it is shown what
//! it said and was answered, and of everything else that it happened: instructions, tool results and internal replies are the tenant's.

mod events;
mod request;

use crate::{
    data::{AgentTally, Call},
    error::OpenAiError,
    openai::json,
    routes::page,
};
use ambit_policy::token::Credential;
use ambit_session::{ChatTurn, Key, View};
use ambit_store::{Requested, Session, SessionState, TenantStore, digest_of};
use ambit_types::{Error, ErrorKind, Scope, SessionId};
use axum::{
    Json,
    body::Body,
    extract::{Path, Query},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use request::{asked, key, messages, nothing_else};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) use events::events;
pub(crate) use request::key as idempotency_key;

/// Sessions of one page at most.
const MAX_PAGE: u32 = 100;

/// What a guardrail may take over a first message while another request with the same key waits for it.
const OPENING: Duration = Duration::from_secs(5);

/// How often that request looks.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Older {
    before: Option<SessionId>,
    limit: Option<u32>,
}

pub(crate) async fn create(
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    call.gateway.accountable()?;
    let read = call.gateway.body(body).await?;
    let asked = asked(&read.bytes).map_err(Error::from)?;
    let Some(agent) = call.tenant.agents.get(&asked.agent).cloned() else {
        return Err(Error::not_found(format!("there is no agent `{}` here", asked.agent)).into());
    };
    if Credential::token_of(&call.context.principal).is_some_and(|token| token.session.is_some()) {
        let why = "this capability token is good in its own session only";
        return Err(Error::forbidden(why).into());
    }
    let store = store(&call);
    let mut id = SessionId::new();
    if let Some(key) = key(&headers, asked.key)? {
        let wanted = Requested {
            session: id,
            digest: digest_of(&read.bytes),
        };
        let principal = &call.context.principal.id;
        let requested = store.request_session(principal, &key, wanted).await;
        let requested = requested.map_err(Error::from)?;
        if requested.digest != wanted.digest {
            return Err(Error::new(
                ErrorKind::Conflict,
                "this idempotency key came with another request before",
            )
            .into());
        }
        id = requested.session;
        if let Some(known) = store.session(id).await.map_err(Error::from)? {
            if !may_see(&call, &known) {
                return Err(unknown().into());
            }
            return shown(&call, known, StatusCode::OK).await;
        }
    }
    let turn = ChatTurn {
        messages: asked.messages,
        metadata: asked.metadata,
        budget: asked.budget,
        ..ChatTurn::default()
    };
    let sessions = &call.gateway.sessions;
    let opened = sessions
        .open(id, call.context.clone(), call.tenant.clone(), agent, turn)
        .await;
    let known = match &opened {
        // Two requests with one key at the same time: the other one is opening it.
        Err(error) if matches!(error.kind(), ErrorKind::Conflict) => soon(&store, id).await?,
        _ => store.session(id).await.map_err(Error::from)?,
    };
    match (opened, known) {
        (Ok(()) | Err(_), Some(known)) if known.state != SessionState::Failed => {
            let mut response = shown(&call, known, StatusCode::CREATED).await?;
            let agent = AgentTally(asked.agent.as_str().into());
            response.extensions_mut().insert(agent);
            Ok(response)
        }
        (Err(error), _) => Err(error.into()),
        (Ok(()), _) => Err(Error::internal("a session that was opened is not there").into()),
    }
}

pub(crate) async fn list(call: Call, Query(asked): Query<Older>) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    let limit = page(asked.limit, 20, MAX_PAGE)?;
    let principal = &call.context.principal.id;
    let page = store(&call)
        .sessions_of(principal, asked.before, limit)
        .await
        .map_err(Error::from)?;
    let has_more = page.len() == limit as usize;
    let last = page.last().map(|session| session.id);
    let data: Vec<_> = page
        .iter()
        .filter(|session| may_see(&call, session))
        .map(view)
        .collect();
    let answer = json!({"object": "list", "data": data, "has_more": has_more, "last_id": last});
    Ok(Json(answer).into_response())
}

pub(crate) async fn show(call: Call, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    let known = find(&call, &id).await?;
    shown(&call, known, StatusCode::OK).await
}

pub(crate) async fn message(
    call: Call,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    call.gateway.accountable()?;
    let read = call.gateway.body(body).await?;
    let mut map = json::object(&read.bytes).map_err(Error::from)?;
    let messages = messages(&mut map).map_err(Error::from)?;
    nothing_else(&map).map_err(Error::from)?;
    let key = key(&headers, None)?;
    let turn = ChatTurn {
        messages,
        key: key.map(|key| Key {
            key: digest_of(key.as_bytes()).to_string(),
            request: digest_of(&read.bytes).to_string(),
        }),
        ..ChatTurn::default()
    };
    let known = find(&call, &id).await?;
    let sessions = &call.gateway.sessions;
    sessions
        .message(&known, call.context.clone(), call.tenant.clone(), turn)
        .await?;
    again(&call, &id).await
}

pub(crate) async fn resume(call: Call, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    call.gateway.accountable()?;
    let known = find(&call, &id).await?;
    let sessions = &call.gateway.sessions;
    sessions
        .resume(&known, call.context.clone(), call.tenant.clone())
        .await?;
    again(&call, &id).await
}

pub(crate) async fn cancel(call: Call, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    let known = find(&call, &id).await?;
    call.gateway.sessions.cancel(&known).await?;
    again(&call, &id).await
}

/// A session that somebody else is opening, once it is there.
async fn soon(store: &TenantStore, id: SessionId) -> Result<Option<Session>, Error> {
    let until = Instant::now() + OPENING;
    loop {
        let known = store.session(id).await?;
        if known.is_some() || Instant::now() >= until {
            return Ok(known);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn store(call: &Call) -> TenantStore {
    call.gateway.platform.store.tenant(call.tenant.id)
}

pub(crate) fn unknown() -> Error {
    Error::not_found("there is no such session")
}

/// Its own, and with a token those it is good in.
pub(crate) fn may_see(call: &Call, session: &Session) -> bool {
    let principal = &call.context.principal;
    let token = Credential::token_of(principal);
    session.principal == principal.id
        && token.is_none_or(|token| {
            let agent = token.agent.as_ref();
            token.session.is_none_or(|own| own == session.id)
                && agent.is_none_or(|agent| agent.as_str() == session.agent)
        })
}

async fn find(call: &Call, id: &str) -> Result<Session, Error> {
    let id: SessionId = id.parse().map_err(|_| unknown())?;
    let known = store(call).session(id).await?;
    known
        .filter(|session| may_see(call, session))
        .ok_or_else(unknown)
}

async fn again(call: &Call, id: &str) -> Result<Response, OpenAiError> {
    let known = find(call, id).await?;
    shown(call, known, StatusCode::ACCEPTED).await
}

async fn shown(call: &Call, session: Session, status: StatusCode) -> Result<Response, OpenAiError> {
    let View {
        session,
        metadata,
        answer,
    } = call.gateway.sessions.view(session).await?;
    let mut body = view(&session);
    body["metadata"] = metadata.into();
    body["answer"] = json!(answer);
    Ok((status, Json(body)).into_response())
}

fn view(session: &Session) -> Value {
    let mut view = json!({"id": session.id, "object": "session", "agent": session.agent, "state": session.state, "reason": session.reason,
        "created_at": session.created_ms / 1000, "updated_at": session.updated_ms / 1000});
    if let Some(parent) = session.parent {
        view["parent"] = json!(parent);
    }
    view
}
