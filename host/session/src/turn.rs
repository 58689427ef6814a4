//! A turn of a durable session: begun durably, gone through by a task of its own, and brought to rest.

use crate::{
    bodies::Resume,
    caller::Caller,
    chat::{Ended, Run, Sessions, say},
    children::{CHILD, Handed},
    durable::{ANSWERED, CANCELLED},
    ending::Tasks,
    event::SessionEvent,
    past::Past,
    progress::UNKNOWN,
    record::{INTERRUPTED, header},
};
use ambit_capabilities::agent::Move;
use ambit_inference::FinishReason;
use ambit_ledger::Money;
use ambit_store::SessionState;
use ambit_types::{Error, ErrorKind, ReservationId, SessionId};
use serde_json::json;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// By whom a session is gone on with: somebody who asked for it.
pub(crate) const BY_CALLER: &str = "caller";

/// After the process that worked on it ended.
pub(crate) const RECOVERY: &str = "recovery";

/// How often a server that stops looks whether tools are at work.
const LOOK: Duration = Duration::from_millis(20);

/// The sessions this process works on, and how each is told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtWork(Arc<Mutex<HashMap<SessionId, Turn>>>);

/// A turn that is gone through here.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// Ends it.
    cancel: CancellationToken,
    /// It is at rest.
    done: CancellationToken,
}

impl AtWork {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worked on here.
    pub(crate) fn cancel(&self, session: SessionId) -> bool {
        let known = self.lock().get(&session).cloned();
        known.is_some_and(|turn| {
            turn.cancel.cancel();
            true
        })
    }

    /// Once it is not worked on here.
    pub(crate) async fn rests(&self, session: SessionId) {
        let known = self.lock().get(&session).cloned();
        if let Some(turn) = known {
            turn.done.cancelled().await;
        }
    }

    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.lock().contains_key(&session)
    }
}

/// Forgets that a session is worked on.
struct Working(AtWork, SessionId);

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(turn) = self.0.lock().remove(&self.1) {
            turn.done.cancel();
        }
    }
}

/// How a session is to go on.
pub(crate) enum Start {
    /// With the turn's message, in a session of its own.
    New,
    /// With the turn's message.
    Message {
        /// What it waits for, should the message be refused.
        waits_for: String,
    },
    /// From its last event.
    Again,
}

impl Sessions {
    /// Works on a turn in a task of its own. Returns when what it begins with is durable.
    pub(crate) async fn work(&self, mut run: Run, start: Start) -> Result<(), Error> {
        let turn = Turn::default();
        let cancel = turn.cancel.clone();
        let session = run.session;
        match self.at_work.lock().entry(session) {
            Entry::Vacant(place) => drop(place.insert(turn)),
            Entry::Occupied(_) => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the session is being worked on",
                ));
            }
        }
        let working = Working(self.at_work.clone(), session);
        let (tell, begun) = oneshot::channel();
        let span = tracing::info_span!("session", %session, agent = %run.agent.definition.name);
        let task = async move {
            match run.start(start).await {
                Ok(()) => {
                    // Whoever asked may have gone: the session stays.
                    let _ = tell.send(Ok(()));
                    let listens = run.events.clone();
                    let last = run.turn_to_end(cancel).await;
                    // It is at rest, however long its listener takes.
                    drop(working);
                    if let Some(listens) = listens {
                        for event in last {
                            say(&listens, event).await;
                        }
                    }
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        };
        self.tasks.spawn(task.instrument(span));
        begun
            .await
            .unwrap_or_else(|gone| Err(Error::internal(gone)))
    }
}

impl Run {
    /// Stands where the session stands.
    pub(crate) fn take_over(&mut self, past: Past) -> Result<(), Error> {
        if let Some(on) = &past.handed {
            let handed = self.handed.take();
            let handed = handed.map_or_else(
                || Handed::recorded(on),
                |now| Handed::clone(&now).within(on),
            );
            self.handed = Some(Arc::new(handed));
        }
        self.offer_tools(Vec::new())?;
        self.recorder.go_on(past.last_seq);
        self.progress = past.progress;
        // Whoever listens from here on has heard nothing of it.
        self.progress.streamed.clear();
        Ok(())
    }

    /// Of a model that was asked by a process that is no more: nobody knows what it answered, so it is taken to have cost what was held back.
    pub(crate) fn settle_unknown(&mut self, held: Vec<(ReservationId, Money)>) {
        let current = self.progress.current.as_ref();
        let asked = current
            .is_some_and(|current| current.begun && matches!(current.move_, Move::AskModel(_)));
        if asked || !held.is_empty() {
            let facts = [("effect", json!("model")), ("code", json!(UNKNOWN))];
            let cost = self.recorder.unknown(header(&facts), held);
            self.progress.spend(cost);
            self.progress.reply_unknown();
        }
    }

    /// Notes that the session is gone on with, by whom and as what.
    pub(crate) fn note_resume(&mut self, by: &str) -> Result<(), Error> {
        let steps = self.agent.definition.limits.steps;
        let by_caller = by == BY_CALLER;
        let caller = by_caller.then(|| Caller::of(&self.context.principal));
        let body = Resume {
            definition: self.definition(steps),
            caller,
        };
        let facts = [
            ("by", json!(by)),
            ("component", json!(self.agent.step.digest())),
        ];
        self.recorder.note("resume", &facts, &body)?;
        self.progress.resumed(steps, by_caller);
        Ok(())
    }

    /// Makes durable what the turn begins with.
    async fn start(&mut self, start: Start) -> Result<(), Error> {
        let begun = match &start {
            Start::Again => Ok(()),
            Start::New | Start::Message { .. } => {
                self.within_deadline(async |run| run.begin().await).await
            }
        };
        let begun = match begun {
            Ok(()) => return self.recorder.flush().await,
            Err(error) => error,
        };
        // A session whose first message is refused is none; one that has a past waits as it did before.
        match &start {
            Start::New => {
                let reason = begun.code();
                self.close(SessionState::Failed, reason, INTERRUPTED).await;
            }
            Start::Message { waits_for } => {
                self.close(SessionState::Suspended, waits_for, INTERRUPTED)
                    .await;
            }
            Start::Again => {}
        }
        Err(begun)
    }

    /// Goes through the turn, whoever asked for it.
    /// What is left to say to who listens.
    async fn turn_to_end(mut self, cancel: CancellationToken) -> Vec<SessionEvent> {
        let (tasks, outside) = (self.sessions.tasks.clone(), self.outside.clone());
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                self.close(SessionState::Cancelled, CANCELLED, CANCELLED).await;
                self.end_children().await;
                self.tell_family();
                let over = Error::new(ErrorKind::Conflict, "the session was cancelled");
                return vec![SessionEvent::Failed(over)];
            }
            () = stopping(&tasks, &outside) => {
                self.leave().await;
                return vec![SessionEvent::Failed(crate::ending::stopping())];
            }
            ended = self.within_deadline(async |run| run.go().await) => ended,
        };
        let waits = SessionState::Suspended;
        // Whoever started it waits for this turn, and there is no other.
        let (answered, failed) = match self.parent() {
            Some(_) => (SessionState::Finished, SessionState::Failed),
            None => (waits, waits),
        };
        let last = match ended {
            Ok(ended) => {
                let (state, waits_for, reason, notice) = match ended {
                    Ended::Answered(reason) => (answered, ANSWERED, reason, String::new()),
                    Ended::Waits(waits_for) => {
                        let notice = self.notice().await;
                        (waits, waits_for, FinishReason::Stop, notice)
                    }
                };
                match self.close(state, waits_for, INTERRUPTED).await {
                    None => vec![SessionEvent::Text(notice), self.finished(reason)],
                    Some(unwritten) => vec![SessionEvent::Failed(unwritten)],
                }
            }
            // The one that it started goes on, and this one is woken when that is over.
            Err(error) if passes_by(&error) && self.has_to_wait().await => {
                self.close(waits, CHILD, INTERRUPTED).await;
                vec![SessionEvent::Failed(error)]
            }
            Err(error) => {
                tracing::info!(
                    code = error.code(),
                    error = &error as &dyn std::error::Error,
                    "a turn failed; its session is suspended, or over where another one started it"
                );
                self.close(failed, error.code(), error.code()).await;
                if failed.is_closed() {
                    self.end_children().await;
                }
                vec![SessionEvent::Failed(error)]
            }
        };
        if let Err(error) = self.cancelled_meanwhile(&cancel).await {
            crate::record::unwritten(&error);
        }
        self.tell_family();
        last
    }

    /// Somebody may have asked for the end of the session while it came to rest: then that is what it is.
    async fn cancelled_meanwhile(&self, cancel: &CancellationToken) -> Result<(), Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let Some(now) = store.session(self.session).await? else {
            return Ok(());
        };
        let asked = cancel.is_cancelled() || now.cancel_ms.is_some();
        match asked && now.state == SessionState::Suspended {
            true => {
                self.sessions.end(&now).await?;
                self.sessions.cancel_children(now.tenant, now.id).await
            }
            false => Ok(()),
        }
    }

    /// Leaves the session to the next process, with what is known.
    async fn leave(&mut self) {
        self.settle(INTERRUPTED);
        if let Err(error) = self.recorder.flush().await {
            crate::record::unwritten(&error);
        }
    }
}

/// Whether who waits for another session can go on doing so.
fn passes_by(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::LimitExceeded { limit: "deadline" } | ErrorKind::Unavailable { .. }
    )
}

/// Once the server stops and no tool is at work: of one that is cut nobody would know what it did.
async fn stopping(tasks: &Tasks, outside: &AtomicBool) {
    tasks.stopping().await;
    while outside.load(Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}
