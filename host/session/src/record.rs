//! A session's part of the journal: what is written when.
//!
//! Events gather until something must be durable: before an effect starts (its intent) and before anybody may rely on an outcome. So a
//! plain request costs two commits, however many events it has: one before the provider is called, one before the finish chunk leaves.
//!
//! | kind | header facts | body |
//! |---|---|---|
//! | `request` | agent or model | JSON: messages, tools, options |
//! | `verdict` | stage, action, categories | JSON: findings by message, no text |
//! | `intent` | effect, and provider, model or tools | JSON: what is about to be done |
//! | `outcome` | effect, code; what it cost, as far as it is known | JSON: the reply (what was released of it, if it was cut), results or passages |
//! | `checkpoint` | step, move, time | the agent's state, its bytes |
//! | `erasure` | by whom; after the end | empty |
//! | `end` | reason or error code; `unknown`: an effect whose outcome nobody saw; `unwritten`: how many events the journal refused | empty |

use crate::ending::Tasks;
use ambit_store::{
    Append, Appended, Header, Journal, NewEvent, NewSession, SessionState, StoreError,
};
use ambit_types::{CallContext, Error, SessionId};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// The code of an outcome that nobody waited for.
pub(crate) const INTERRUPTED: &str = "interrupted";

pub(crate) struct Recorder {
    journal: Journal,
    context: CallContext,
    session: SessionId,
    /// Until the journal has the session.
    open: Option<NewSession>,
    pending: Vec<NewEvent>,
    writing: Option<Writing>,
    /// Events the journal refused.
    unwritten: usize,
}

/// An append on its way. Kept here and not by whoever waits for it: who goes away while the journal has no room takes nothing along.
struct Writing {
    /// Never locked: it makes the whole one that may be looked at from other threads, which nobody does.
    append: Mutex<BoxFuture<'static, Result<Appended, StoreError>>>,
    events: usize,
}

impl Recorder {
    pub(crate) fn new(
        journal: Journal,
        context: CallContext,
        session: SessionId,
        agent: &str,
    ) -> Self {
        let open = NewSession {
            agent: agent.into(),
            principal: Arc::from(context.principal.id.as_str()),
        };
        Self {
            journal,
            context,
            session,
            open: Some(open),
            pending: Vec::with_capacity(4),
            writing: None,
            unwritten: 0,
        }
    }

    /// Takes over what is noted and the right to end the session, for an owner that is being dropped.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            journal: self.journal.clone(),
            context: self.context.clone(),
            session: self.session,
            open: self.open.take(),
            pending: std::mem::take(&mut self.pending),
            writing: self.writing.take(),
            unwritten: self.unwritten,
        }
    }

    /// Notes an event with a JSON body; durable after the next [`Recorder::flush`].
    pub(crate) fn note(
        &mut self,
        kind: &'static str,
        facts: &[(&str, Value)],
        body: &impl Serialize,
    ) -> Result<(), Error> {
        let body = serde_json::to_vec(body).map_err(Error::internal)?;
        self.note_bytes(kind, header(facts), body);
        Ok(())
    }

    pub(crate) fn note_bytes(&mut self, kind: &'static str, header: Header, body: Vec<u8>) {
        self.pending.push(NewEvent::new(kind, header, body));
    }

    /// Makes everything noted durable.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.written().await.map_err(unavailable)?;
        if self.pending.is_empty() {
            return Ok(());
        }
        self.append(None).await.map_err(unavailable)
    }

    /// Ends the session: everything noted and its end become durable together, with everything that was on its way before.
    pub(crate) async fn close(
        &mut self,
        state: SessionState,
        facts: &[(&str, Value)],
    ) -> Result<(), Error> {
        // Whoever waited for it heard of its failure; the end says it too.
        let _ = self.written().await;
        let mut end = header(facts);
        if self.unwritten > 0 {
            end.facts.insert("unwritten".into(), json!(self.unwritten));
        }
        self.note_bytes("end", end.clone(), Vec::new());
        let opens = self.open.is_some();
        match self.append(Some(state)).await {
            // The append that was to open it failed without anybody knowing how far it had come: it had come to its end.
            Err(StoreError::Conflict { .. }) if opens => {
                self.open = None;
                self.note_bytes("end", end, Vec::new());
                self.append(Some(state)).await.map_err(unavailable)
            }
            ended => ended.map_err(unavailable),
        }
    }

    /// As [`Recorder::close`], in a task of its own: who goes away while the journal has no room takes nothing along. What fails when nobody
    /// waits any more is in the log.
    pub(crate) fn close_apart(
        &mut self,
        tasks: &Tasks,
        state: SessionState,
        reason: Value,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let mut recorder = self.take();
        let (tell, told) = oneshot::channel();
        tasks.spawn(async move {
            let ended = recorder.close(state, &[("reason", reason)]).await;
            if let Err(Err(error)) = tell.send(ended) {
                unwritten(&error);
            }
        });
        async move { told.await.unwrap_or_else(|gone| Err(Error::internal(gone))) }
    }

    async fn append(&mut self, state: Option<SessionState>) -> Result<(), StoreError> {
        let events = self.pending.len();
        let mut append =
            Append::new(self.context.tenant, self.session).events(self.pending.drain(..));
        if let Some(open) = &self.open {
            append = append.open(open.clone());
        }
        if let Some(state) = state {
            append = append.state(state);
        }
        let journal = self.journal.clone();
        self.writing = Some(Writing {
            append: Mutex::new(Box::pin(async move { journal.append(append).await })),
            events,
        });
        self.written().await
    }

    /// Waits for what is on its way.
    async fn written(&mut self) -> Result<(), StoreError> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        let append = writing.append.get_mut();
        let written = append.unwrap_or_else(PoisonError::into_inner).await;
        match &written {
            Ok(_) => self.open = None,
            Err(_) => self.unwritten += writing.events,
        }
        self.writing = None;
        written.map(drop)
    }
}

pub(crate) fn unwritten(error: &Error) {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "a session's end could not be journalled"
    );
}

fn unavailable(error: StoreError) -> Error {
    let retry_after = std::time::Duration::from_secs(5);
    Error::new(
        ambit_types::ErrorKind::Unavailable { retry_after },
        "the journal cannot be written, so nothing was done that it would have to show",
    )
    .because(error)
}

pub(crate) fn header(facts: &[(&str, Value)]) -> Header {
    Header {
        facts: facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<Map<_, _>>(),
        ..Header::default()
    }
}

pub(crate) fn usage(usage: &ambit_inference::Usage) -> ambit_store::Usage {
    ambit_store::Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_store::{Store, StoreConfig};
    use ambit_types::{Principal, RequestId, TraceContext};
    use futures::{FutureExt as _, future::join_all};
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn who_goes_away_while_the_journal_has_no_room_takes_no_event_along() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::sqlite(folder.path().join("ambit.db"));
        config.journal.queue_bytes = 1 << 20;
        let store = Store::open(&config).await.unwrap();
        let slug = "acme".parse().unwrap();
        let acme = store.operator().create_tenant(slug, "Acme").await.unwrap();
        let context = CallContext {
            tenant: acme.id,
            tenant_slug: acme.slug.clone(),
            principal: Arc::new(Principal {
                id: "key:test".to_owned(),
                scopes: Vec::new(),
                expires_at: None,
                permissions: None,
            }),
            request: RequestId::new(),
            session: None,
            agent: None,
            trace: TraceContext::new(),
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let recorder = || {
            let session = SessionId::new();
            let journal = store.journal().clone();
            Recorder::new(journal, context.clone(), session, "agent")
        };
        // A crowd whose events fill the queue many times over stands before it.
        let mut crowd: Vec<_> = (0..64).map(|_| recorder()).collect();
        let mut before = Box::pin(join_all(crowd.iter_mut().map(|one| {
            one.note_bytes("outcome", Header::default(), vec![7; 900 << 10]);
            one.flush()
        })));
        assert!((&mut before).now_or_never().is_none());

        let mut hurried = recorder();
        hurried.note("intent", &[], &json!({})).unwrap();
        assert!(hurried.flush().now_or_never().is_none(), "there is room");
        // Its owner is dropped as well, and somebody else ends the session.
        let mut last = hurried.take();
        drop(hurried);
        // Another is dropped in the middle of its own end.
        let (mut ending, tasks) = (recorder(), Tasks::default());
        let cut_short = ending.session;
        ending.note("intent", &[], &json!({})).unwrap();
        let closing = ending.close_apart(&tasks, SessionState::Finished, json!("stop"));
        tokio::task::yield_now().await;
        assert!(closing.now_or_never().is_none(), "there is room");
        drop(ending);

        let (_, closed) = tokio::join!(before, last.close(SessionState::Interrupted, &[]));
        closed.unwrap();
        assert_eq!(tasks.ended(Duration::from_secs(60)).await, 0);
        let store = store.tenant(acme.id);
        let written = async |session| store.events(session, 0, 10).await.unwrap();
        for session in [last.session, cut_short] {
            let events = written(session).await;
            let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
            assert_eq!(kinds, ["intent", "end"]);
        }
        let events = written(last.session).await;
        assert!(events[1].header.facts.is_empty(), "nothing was refused");
    }
}
