//! `GET /v1/sessions/{session}/events`: a journal as server-sent events.

use super::{find, store, unknown};
use crate::{
    data::Call,
    error::OpenAiError,
    openai::{
        answer::HEARTBEAT,
        events::{sse, until_stopped},
    },
    trace,
};
use ambit_policy::token::Credential;
use ambit_store::{Event, Session, SessionState, TenantStore};
use ambit_types::{Error, ErrorKind, Scope, SessionId};
use axum::{
    extract::{Path, Query},
    response::Response,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::VecDeque,
    convert::Infallible,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Events read at a time.
const EVENTS: u32 = 16;

/// The longest that one answer goes on; who listens comes back with `Last-Event-ID`, as clients of server-sent events do by themselves.
const LISTENING: Duration = Duration::from_secs(600);

/// How often a listener looks for more, at first and in the end.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Facts of an event's header that a principal is shown.
const SHOWN: [&str; 15] = [
    "action",
    "agent",
    "again",
    "approval",
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
    "tool",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// The beginning of the kinds wanted.
    kind: Option<String>,
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
