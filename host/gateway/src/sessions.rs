//! `/v1/sessions`: conversations that outlive their connections.
//!
//! A principal sees its own sessions and no others; with a capability token only those the token is good in. Of the journal it is shown what
//! it said and was answered, and of everything else that it happened: instructions, tool results and internal replies are the tenant's.

use crate::{
    data::{AgentTally, Call},
    error::OpenAiError,
    openai::{
        answer::HEARTBEAT,
        chat_request,
        events::{sse, until_stopped},
        json::{self, Bad},
    },
    trace,
};
use ambit_ledger::Money;
use ambit_policy::token::Credential;
use ambit_session::{ChatMessage, ChatTurn, Key, View};
use ambit_store::{Event, Requested, Session, SessionState, TenantStore, digest_of};
use ambit_types::{AgentName, Error, ErrorKind, Scope, SessionId};
use axum::{
    Json,
    body::Body,
    extract::{Path, Query},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::VecDeque,
    convert::Infallible,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Sessions of one page at most.
const MAX_PAGE: u32 = 100;

/// As OpenAI bounds metadata: entries, bytes of a name, bytes of a value.
const METADATA: (usize, usize, usize) = (16, 64, 512);

/// Events read at a time.
const EVENTS: u32 = 16;

/// The longest that one answer goes on; who listens comes back with `Last-Event-ID`, as clients of server-sent events do by themselves.
const LISTENING: Duration = Duration::from_secs(600);

/// How often a listener looks for more, at first and in the end.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a guardrail may take over a first message while another request with the same key waits for it.
const OPENING: Duration = Duration::from_secs(5);

/// Facts of an event's header that a principal is shown.
const SHOWN: [&str; 13] = [
    "action",
    "agent",
    "again",
    "by",
    "categories",
    "code",
    "effect",
    "finish",
    "move",
    "reason",
    "refused",
    "stage",
    "step",
];

struct Asked {
    agent: AgentName,
    messages: Vec<ChatMessage>,
    metadata: Map<String, Value>,
    budget: Option<Money>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Older {
    before: Option<SessionId>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// The beginning of the kinds wanted.
    kind: Option<String>,
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
    let limit = match asked.limit {
        None => 20,
        Some(limit @ 1..=MAX_PAGE) => limit,
        Some(_) => {
            return Err(Error::invalid("limit", format!("expected 1 to {MAX_PAGE}")).into());
        }
    };
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

/// `text/event-stream` of the journal: what is there from after `Last-Event-ID`, and what comes, until the session is closed.
pub(crate) async fn events(
    call: Call,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    let after = match trace::one(&headers, "last-event-id") {
        None => None,
        Some(seen) => Some(
            seen.parse::<i64>()
                .ok()
                .filter(|seq| *seq >= 0)
                .ok_or_else(|| {
                    Error::invalid(
                        "last-event-id",
                        "expected the id of an event of this stream",
                    )
                })?,
        ),
    };
    let store = store(&call);
    let known = find(&call, &id).await;
    let (session, first) = match (known, after) {
        (Ok(known), after) => {
            let after = after.unwrap_or(0);
            let last = last_seq(&store, &known).await?;
            match after > last {
                // An older copy of the database was put back.
                true => (known.id, vec![gap(after, "the journal ends before it")]),
                false => (known.id, Vec::new()),
            }
        }
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some(after)) => {
            let id: SessionId = id.parse().map_err(|_| error)?;
            if !store.was_removed(id).await.map_err(Error::from)? {
                return Err(unknown().into());
            }
            let gone = gap(after, "the session was removed after the retention time");
            return Ok(sse(stream::iter([Ok::<_, Infallible>(gone)])));
        }
    };
    let sessions = call.gateway.sessions.clone();
    let heartbeat = call.gateway.config.heartbeat;
    let tail = Tail {
        call,
        store,
        session,
        after: if first.is_empty() {
            after.unwrap_or(0)
        } else {
            0
        },
        kind: which.kind.unwrap_or_default(),
        ready: first.into(),
        poll: POLL.0,
        since: Instant::now(),
        told: Instant::now(),
        heartbeat,
        ended: false,
    };
    let stream = until_stopped(&sessions, Box::pin(tail.stream()));
    Ok(sse(stream.map(|event| {
        Ok::<_, Infallible>(event.unwrap_or_else(|error| failed(&error)))
    })))
}

/// A listener of a journal.
struct Tail {
    call: Call,
    store: TenantStore,
    session: SessionId,
    after: i64,
    kind: String,
    ready: VecDeque<Bytes>,
    poll: Duration,
    since: Instant,
    /// When something was sent last.
    told: Instant,
    heartbeat: Duration,
    ended: bool,
}

impl Tail {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        stream::try_unfold(self, async |mut tail| {
            let next = tail.next().await?;
            Ok(next.map(|bytes| (bytes, tail)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                self.told = Instant::now();
                return Ok(Some(ready));
            }
            if self.ended {
                return Ok(None);
            }
            if !still_good(&self.call) {
                let why = "the credential is no longer valid";
                return Err(Error::new(ErrorKind::Unauthenticated, why));
            }
            // Before the events: what closes it comes with its last one.
            let Some(known) = self.store.session(self.session).await? else {
                self.ended = true;
                self.ready
                    .push_back(gap(self.after, "the session was removed"));
                continue;
            };
            // While nobody works on it, its row says whether there is more.
            let at_rest = known.state != SessionState::Open;
            let page = match at_rest && self.after >= known.head_seq {
                true => Vec::new(),
                false => self.store.events(self.session, self.after, EVENTS).await?,
            };
            for event in &page {
                self.after = event.seq;
                if event.kind.starts_with(&self.kind) {
                    self.ready.push_back(sent(event));
                }
            }
            if !page.is_empty() {
                self.poll = POLL.0;
                continue;
            }
            if known.state.is_closed() && self.after >= known.head_seq {
                self.ended = true;
                continue;
            }
            if self.since.elapsed() >= LISTENING {
                self.ended = true;
                continue;
            }
            if self.told.elapsed() >= self.heartbeat {
                self.ready.push_back(HEARTBEAT);
                continue;
            }
            tokio::time::sleep(self.poll.min(self.heartbeat)).await;
            self.poll = (self.poll * 2).min(POLL.1);
        }
    }
}

/// An event as it is sent.
fn sent(event: &Event) -> Bytes {
    let facts: Map<_, _> = event
        .header
        .facts
        .iter()
        .filter(|(name, _)| SHOWN.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut data =
        json!({"seq": event.seq, "kind": event.kind, "time_ms": event.time_ms, "facts": facts});
    if let Some(usage) = &event.header.usage {
        data["usage"] = json!(usage);
    }
    let of_caller = match event.kind.as_str() {
        "request" => &["messages", "metadata"][..],
        "answer" => &["text", "citations"],
        _ => &[],
    };
    if !of_caller.is_empty() {
        match &event.body {
            None => data["erased"] = true.into(),
            Some(body) => {
                let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
                for (name, value) in body {
                    if of_caller.contains(&name.as_str()) {
                        data[name.as_str()] = value;
                    }
                }
            }
        }
    }
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.kind).into()
}

/// Says that events are missing which the listener counted on.
fn gap(after: i64, why: &str) -> Bytes {
    let data = json!({"after": after, "reason": why});
    format!("event: gap\ndata: {data}\n\n").into()
}

fn failed(error: &Error) -> Bytes {
    let data = json!({"code": error.code(), "message": error.message()});
    format!("event: error\ndata: {data}\n\n").into()
}

/// Whether who listens may still: his key, his issuer and his capability token as they are known now.
fn still_good(call: &Call) -> bool {
    let Some(tenant) = call.gateway.tenants.by_id(call.tenant.id) else {
        return false;
    };
    let (principal, by) = (&call.context.principal, &tenant.authenticator);
    let token = Credential::token_of(principal);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    principal.key.as_deref().is_none_or(|key| by.has_key(key))
        && principal.issuer.as_deref().is_none_or(|one| by.trusts(one))
        && principal.expires_at.is_none_or(|end| now < end)
        && token.is_none_or(|token| token.check_standing(now, &tenant.revoked.load()).is_ok())
}

async fn last_seq(store: &TenantStore, known: &Session) -> Result<i64, Error> {
    if known.state != SessionState::Open {
        return Ok(known.head_seq);
    }
    // While it is worked on, its row does not say.
    let mut last = known.head_seq;
    loop {
        let page = store.event_facts(known.id, last, 256).await?;
        match page.last() {
            Some(event) => last = event.seq,
            None => return Ok(last),
        }
    }
}

fn asked(body: &[u8]) -> Result<Asked, Bad> {
    let mut map = json::object(body)?;
    let agent = json::required(&mut map, "agent", |value| {
        json::string(value)?
            .parse()
            .map_err(|_| Bad::new("expected an agent's name"))
    })?;
    let messages = messages(&mut map)?;
    let metadata = json::optional(&mut map, "metadata", metadata)?.unwrap_or_default();
    let budget = json::optional(&mut map, "budget", |value| {
        let text = json::string(value)?;
        let amount = text.parse::<Money>();
        amount.map_err(|error| Bad::new(error.to_string()))
    })?;
    let key = json::optional(&mut map, "idempotency_key", json::string)?;
    nothing_else(&map)?;
    Ok(Asked {
        agent,
        messages,
        metadata,
        budget,
        key,
    })
}

/// `input`: a text, or messages as in a chat completion.
fn messages(map: &mut Map<String, Value>) -> Result<Vec<ChatMessage>, Bad> {
    json::required(map, "input", |input| {
        let input = match input {
            Value::String(text) => json!([{"role": "user", "content": text}]),
            input => input,
        };
        let messages = chat_request::messages(input)?;
        match messages.is_empty() {
            true => Err(Bad::new("needs at least one message")),
            false => Ok(messages),
        }
    })
}

fn metadata(value: Value) -> Result<Map<String, Value>, Bad> {
    let (entries, name, text) = METADATA;
    let map = json::map(value)?;
    let fits = map.len() <= entries
        && map.iter().all(|(key, value)| {
            key.len() <= name && value.as_str().is_some_and(|value| value.len() <= text)
        });
    match fits {
        true => Ok(map),
        false => Err(Bad::new(format!(
            "expected at most {entries} texts of {text} bytes, under names of {name}"
        ))),
    }
}

/// What is not known would be lost without a word.
fn nothing_else(map: &Map<String, Value>) -> Result<(), Bad> {
    // What was read is null by now.
    match map.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(Bad::new("there is no such field here").in_field(name)),
        None => Ok(()),
    }
}

/// A session that somebody else is opening, once it is there.
async fn soon(store: &TenantStore, id: SessionId) -> Result<Option<Session>, Error> {
    let until = Instant::now() + OPENING;
    loop {
        let known = store.session(id).await?;
        if known.is_some() || Instant::now() >= until {
            return Ok(known);
        }
        tokio::time::sleep(POLL.0).await;
    }
}

/// The idempotency key, of the header or the body.
fn key(headers: &HeaderMap, of_body: Option<String>) -> Result<Option<String>, Error> {
    let of_header = headers.get("idempotency-key").map(|value| value.to_str());
    let of_header = of_header.transpose().map_err(|_| no_key())?;
    let key = match (of_header, of_body) {
        (Some(header), Some(body)) if header != body => return Err(no_key()),
        (header, body) => body.or(header.map(str::to_owned)),
    };
    match key {
        Some(key) if key.is_empty() || key.len() > 255 || key.chars().any(char::is_control) => {
            Err(no_key())
        }
        key => Ok(key),
    }
}

fn no_key() -> Error {
    Error::invalid(
        "idempotency-key",
        "expected one of 1 to 255 bytes without control characters, once",
    )
}

fn store(call: &Call) -> TenantStore {
    call.gateway.platform.store.tenant(call.tenant.id)
}

fn unknown() -> Error {
    Error::not_found("there is no such session")
}

/// Its own, and with a token those it is good in.
fn may_see(call: &Call, session: &Session) -> bool {
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
    json!({"id": session.id, "object": "session", "agent": session.agent, "state": session.state, "reason": session.reason,
        "created_at": session.created_ms / 1000, "updated_at": session.updated_ms / 1000})
}
