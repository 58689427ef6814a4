//! Reading a session's journal: where it stood when its last event was written.

use crate::{
    approvals,
    bodies::{
        Asked, Checkpoint, Decided, HandedOn, Key, NotFound, Passage, Reply, Request, Resume,
        Returned,
    },
    caller::Caller,
    children::Below,
    conversation::{Conversation, Found},
    durable::is_request,
    progress::{AskedCall, Progress, UNKNOWN, ends_turn},
    turn::{BY_CALLER, RECOVERY},
};
use ambit_capabilities::agent::{Decision, Definition, Failure, Move};
use ambit_inference::{FinishReason, Message, Usage};
use ambit_ledger::Money;
use ambit_store::{Event, TenantStore};
use ambit_types::{Error, ErrorKind, SessionId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Events read at a time.
const PAGE: u32 = 16;

/// The longest journal that is read into memory, in bytes of bodies. A session that has become longer is over.
const LONGEST: usize = 64 << 20;

/// Journals that are read at once of one tenant, and of those that are looked after: who asks for many long ones waits, and holds no more
/// memory than these.
const AT_ONCE: usize = 2;

/// From this version on events say enough to go on from.
const TELLING: i64 = 3;

/// Reads journals, as many at once as may be.
#[derive(Debug)]
pub(crate) struct Reading(Semaphore);

impl Default for Reading {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Reading {
    /// While it is held one of them may be read.
    ///
    /// # Errors
    /// None: they are never closed.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.0.acquire().await.map_err(Error::internal)
    }
}

/// What the journal says of a session.
pub(crate) struct Past {
    pub(crate) progress: Progress,
    /// Of the last turn.
    pub(crate) caller: Option<Caller>,
    /// What the steps of the last turn were told of the agent.
    pub(crate) definition: Option<Definition>,
    /// What it has of the session that started it, as it was then.
    pub(crate) handed: Option<HandedOn>,
    /// Idempotency keys of its messages.
    pub(crate) keys: Vec<Key>,
    /// Times it was gone on with after a process had ended, since anything came of that.
    pub(crate) recoveries: u32,
    bytes: usize,
    pub(crate) last_seq: i64,
}

impl Past {
    pub(crate) fn new() -> Self {
        Self {
            progress: Progress::new(Conversation::new(), 0),
            caller: None,
            definition: None,
            handed: None,
            keys: Vec::new(),
            recoveries: 0,
            bytes: 0,
            last_seq: 0,
        }
    }

    /// Reads all of it, when it is its turn.
    ///
    /// # Errors
    /// The store's; and an event that cannot be read: erased, or not what this program writes.
    pub(crate) async fn read(
        store: &TenantStore,
        session: SessionId,
        reading: &Reading,
    ) -> Result<Self, Error> {
        let _turn = reading.turn().await?;
        let mut past = Self::new();
        loop {
            let events = store.events(session, past.last_seq, PAGE).await?;
            for event in &events {
                past.take(event)?;
            }
            if events.len() < PAGE as usize {
                return Ok(past);
            }
        }
    }

    /// Takes in the next event.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn take(&mut self, event: &Event) -> Result<(), Error> {
        self.last_seq = event.seq;
        self.bytes += event.body.as_ref().map_or(0, Vec::len);
        if self.bytes > LONGEST {
            let what = format!("the session has become longer than {} MiB", LONGEST >> 20);
            return Err(Error::new(ErrorKind::Conflict, what));
        }
        self.progress.spend(event.header.cost);
        let fact = |name: &str| event.header.facts.get(name).and_then(Value::as_str);
        match event.kind.as_str() {
            "request" => {
                self.recoveries = 0;
                if is_request(event) {
                    let seen = fact("idempotency").zip(fact("idempotency_of"));
                    self.keys.extend(seen.map(|(key, request)| Key {
                        key: key.to_owned(),
                        request: request.to_owned(),
                    }));
                    self.request(body(event)?);
                }
            }
            "checkpoint" => {
                let Checkpoint { move_, state } = body(event)?;
                self.progress.decided(Decision { move_, state });
            }
            "intent" => {
                self.progress.begun();
                let used = event
                    .header
                    .facts
                    .get("approvals")
                    .and_then(Value::as_array);
                for id in used.into_iter().flatten().filter_map(Value::as_str) {
                    id.parse().into_iter().for_each(|id| self.progress.used(id));
                }
                let child = fact("child").and_then(|id| id.parse().ok());
                child.into_iter().for_each(|id| self.progress.started(id));
                let counted = event.header.facts.get("counted").and_then(Value::as_u64);
                self.count_calls(usize::try_from(counted.unwrap_or(0)).unwrap_or(0));
            }
            "outcome" if fact("code") != Some(UNKNOWN) => {
                self.recoveries = 0;
                self.outcome(event)?;
            }
            "outcome" => self.outcome(event)?,
            "answer" => self.progress.answered(),
            "end" => {
                let current = &self.progress.current;
                if current.as_ref().is_some_and(|one| ends_turn(&one.move_)) {
                    self.progress.answered();
                }
            }
            approvals::KIND => {
                let id = fact("approval").and_then(|id| id.parse().ok());
                let id = id.ok_or_else(|| Error::internal("an approval without its id"))?;
                match fact("action") {
                    Some("asked") => {
                        let Asked { call, caller, .. } = body(event)?;
                        self.progress.asked(AskedCall::new(call, id));
                        self.caller = caller.or(self.caller.take());
                    }
                    Some("approved" | "denied") => {
                        let Decided { reason } = body(event)?;
                        self.progress.decided_on(id, reason);
                    }
                    _ => {}
                }
            }
            "resume" => {
                let Resume { definition, caller } = body(event)?;
                let by_caller = fact("by") == Some(BY_CALLER);
                self.recoveries += u32::from(fact("by") == Some(RECOVERY));
                self.progress.resumed(definition.steps_left, by_caller);
                self.definition = Some(definition);
                self.goes_on(caller);
            }
            _ => {}
        }
        Ok(())
    }

    fn outcome(&mut self, event: &Event) -> Result<(), Error> {
        let fact = |name: &str| event.header.facts.get(name).and_then(Value::as_str);
        match fact("effect") {
            Some("model") => match fact("code") {
                None => {
                    let reply: Reply = body(event)?;
                    let finish = event.header.facts.get("finish").cloned();
                    let finish = serde_json::from_value(finish.unwrap_or_default());
                    let finish: FinishReason = finish.map_err(|error| unreadable(event, error))?;
                    let usage = Usage {
                        input_tokens: reply.usage.input_tokens,
                        cached_tokens: reply.usage.cached_tokens,
                        output_tokens: reply.usage.output_tokens,
                        reasoning_tokens: reply.usage.reasoning_tokens,
                    };
                    let Reply {
                        text, tool_calls, ..
                    } = reply;
                    match finish {
                        // The turn ended there, as its caller was told.
                        FinishReason::ContentFilter => self.progress.do_again(),
                        _ => self.progress.replied(text, tool_calls, finish, &usage)?,
                    }
                }
                Some(UNKNOWN) => self.progress.reply_unknown(),
                Some(_) => self.progress.do_again(),
            },
            Some("tools") => {
                let below = Below::told(&event.header.facts);
                self.progress.took(below);
                let returned: Vec<Returned> = body(event)?;
                let results = returned.into_iter().map(|one| (one.ok, one.content));
                self.progress.returned(results.collect())?;
            }
            Some("retrieve") => {
                self.progress.retrieved(found(event)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn request(&mut self, request: Request) {
        if self.definition.is_none() {
            self.progress.budget = request.budget_nanos.and_then(Money::from_nanos);
            self.progress.conversation = Conversation::delimited_by(request.delimiter);
            self.handed = request.handed;
        }
        self.goes_on(request.caller);
        self.progress.allow(request.definition.steps_left);
        self.definition = Some(request.definition);
        let messages = request.messages.into_iter().map(Message::from).collect();
        self.progress.said(messages, request.options);
    }

    /// Somebody, where the event says who.
    fn goes_on(&mut self, caller: Option<Caller>) {
        let Some(caller) = caller else { return };
        if self.caller.as_ref().is_some_and(|known| *known != caller) {
            self.progress.abandon();
        }
        self.caller = Some(caller);
    }

    /// As they were counted when they were made.
    fn count_calls(&mut self, counted: usize) {
        let current = self.progress.current.as_ref();
        if let Some(Move::CallTools(calls)) = current.map(|current| current.move_.clone()) {
            for call in calls.iter().take(counted) {
                self.progress.count_call(call);
            }
        }
    }
}

/// What a retrieval came to.
pub(crate) fn found(event: &Event) -> Result<Result<Vec<Found>, Failure>, Error> {
    match event.header.facts.get("code").and_then(Value::as_str) {
        Some("ok") | None => {
            let found: Vec<Passage> = body(event)?;
            Ok(Ok(found.into_iter().map(Found::from).collect()))
        }
        Some(code) => {
            let NotFound { message, .. } = body(event)?;
            Ok(Err(Failure {
                move_: "retrieve".to_owned(),
                code: code.to_owned(),
                message,
            }))
        }
    }
}

/// The body of an event.
pub(crate) fn body<T: DeserializeOwned>(event: &Event) -> Result<T, Error> {
    if event.schema_version < TELLING {
        return Err(Error::new(
            ErrorKind::Conflict,
            "an earlier version wrote this session's journal, which does not say enough to go on from",
        ));
    }
    let Some(content) = &event.body else {
        return Err(Error::new(
            ErrorKind::Conflict,
            "the session's content was erased",
        ));
    };
    serde_json::from_slice(content).map_err(|error| unreadable(event, error))
}

fn unreadable(event: &Event, error: serde_json::Error) -> Error {
    let what = format!(
        "event {} ({}) cannot be read: {error}",
        event.seq, event.kind
    );
    Error::internal(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_store::{Digest, Header};

    fn event(schema_version: i64, kind: &str, content: &[u8]) -> Event {
        Event {
            seq: 1,
            schema_version,
            kind: kind.to_owned(),
            time_ms: 0,
            header: Header::default(),
            body: Some(content.to_vec()),
            content_hash: Digest::default(),
            previous_hash: Digest::default(),
        }
    }

    /// Whoever asks for many long ones at once waits for the first of them to be read.
    #[tokio::test]
    async fn of_one_tenant_few_journals_are_read_at_once() {
        let test = ambit_store::testing::TestStore::sqlite().await.unwrap();
        let slug = "acme".parse().unwrap();
        let acme = test.store.operator().create_tenant(slug, "Acme").await;
        let rows = test.store.tenant(acme.unwrap().id);
        let reading = Reading::default();
        let read = || Past::read(&rows, SessionId::new(), &reading);
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            assert_eq!(read().await.unwrap().last_seq, 0);
            turns.push(reading.turn().await.unwrap());
        }
        let waits = tokio::time::timeout(std::time::Duration::from_millis(100), read()).await;
        assert!(waits.is_err(), "there is no room");
        turns.pop();
        assert_eq!(read().await.unwrap().last_seq, 0);
    }

    /// The store reads it, and whoever asks for it is shown it; there is no telling where it stood.
    #[test]
    fn what_earlier_versions_wrote_is_not_gone_on_with() {
        for version in 1..TELLING {
            for kind in ["request", "checkpoint", "resume"] {
                let refused = Past::new().take(&event(version, kind, b"{}"));
                let error = refused.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Conflict), "{kind}");
                let told = error.message();
                assert!(told.starts_with("an earlier version wrote"), "{told}");
            }
            // That it ended is all that its end says.
            let mut past = Past::new();
            past.take(&event(version, "end", b"")).unwrap();
            assert_eq!(past.last_seq, 1);
        }
        let content: Value = body(&event(TELLING, "request", b"{}")).unwrap();
        assert_eq!(content, serde_json::json!({}));
    }
}
