//! A session's part of the journal: what is written when.
//!
//! Events gather until something must be durable: before an effect starts (its intent) and before anybody may rely on an outcome. So a
//! plain request costs two commits, however many events it has: one before the provider is called, one before the finish chunk leaves.
//! What a call holds back of its budgets is part of the first, what it cost part of the second.
//!
//! | kind | header facts | body |
//! |---|---|---|
//! | `request` | agent or model; the component's digest; the idempotency key, hashed; the session that started this one | JSON: messages, options, what the agent is told of itself, delimiters; of a durable session whom it acts for, and metadata; of one that another one started what it was handed |
//! | `verdict` | stage, action, categories | JSON: findings by message, no text |
//! | `intent` | effect, and provider and model; of tools how many calls count against `same_call`, the approvals they are made with, and the session that one starts | JSON: what is about to be done |
//! | `outcome` | effect, code; what it cost, as far as it is known; of tools what a session took that one started, in money and tokens, whose own journal has the costs | JSON: the reply (what was released of it, if it was cut), results or passages |
//! | `checkpoint` | step, move, time | JSON: the move, and the agent's state in base64 |
//! | `answer` | of a durable session's turn | JSON: text, citations |
//! | `approval` | action: asked, refused, approved or denied; its id; of a question the tool, digests of arguments and policy, why, until when; of a decision by whom | JSON: of a question the call, its arguments in canonical form; of a decision the reason |
//! | `suspend` | as `end`, with what the session waits for | empty |
//! | `resume` | by whom it is gone on with; the component's digest | JSON: what the agent is told of itself from here on, whom it acts for where that is another one |
//! | `erasure` | by whom; after the end | empty |
//! | `end` | what its components cost, where that has a price; reason or error code; `unknown`: an effect whose outcome nobody saw; `unwritten`: how many events the journal refused | empty |

use crate::{
    ending::Tasks,
    spending::{Compute, Priced, Settled, Spent},
};
use ambit_ledger::{LedgerOp, Money, Usage};
use ambit_store::{
    Append, Appended, ApprovalOp, Header, Journal, NewEvent, NewSession, SessionState, StoreError,
};
use ambit_types::{CallContext, Error, ReservationId, SessionId};
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
    parent: Option<SessionId>,
    /// Another process goes on with it, should this one die.
    durable: bool,
    /// Its last event, of a durable session: nothing is written unless it still is the last. So whoever lost the session writes nothing more.
    last: Option<i64>,
    /// It was at rest, or another process's, until this goes on with it.
    reopens: bool,
    pending: Vec<NewEvent>,
    /// What goes to the ledger with them.
    ledger: Vec<LedgerOp>,
    /// What changes of approvals with them.
    approvals: Vec<ApprovalOp>,
    /// The call whose intent is on its way or durable, until its outcome is noted.
    priced: Option<Priced>,
    compute: Option<Compute>,
    writing: Option<Writing>,
    /// Events the journal refused.
    unwritten: usize,
}

/// An append on its way. Kept here and not by whoever waits for it: who goes away while the journal has no room takes nothing along.
struct Writing {
    /// Never locked: it makes the whole one that may be looked at from other threads, which nobody does.
    append: Mutex<BoxFuture<'static, Result<Appended, StoreError>>>,
    events: usize,
    /// What it holds besides the intent of the call that it holds something back for: written with what follows where no budget has enough.
    of_call: Option<Besides>,
}

/// What is written with the intent of a call and does not hang on it.
type Besides = (Vec<NewEvent>, Vec<LedgerOp>);

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
            parent: None,
            durable: false,
            last: None,
            reopens: false,
            pending: Vec::with_capacity(4),
            ledger: Vec::new(),
            approvals: Vec::new(),
            priced: None,
            compute: None,
            writing: None,
            unwritten: 0,
        }
    }

    /// Charges the session for its components, at its end.
    pub(crate) fn charging(mut self, compute: Option<Compute>) -> Self {
        self.compute = compute;
        self
    }

    /// Of a session that another process goes on with.
    pub(crate) fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Of a session that these started, the nearest first.
    pub(crate) fn below(&mut self, above: &Arc<[SessionId]>) {
        self.parent = above.first().copied();
        if let Some(compute) = &mut self.compute {
            compute.below(above.clone());
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// From its next append on another process goes on with the session, should this one die.
    ///
    /// # Errors
    /// Something of it could not be written, so nobody could go on with it.
    pub(crate) fn outlive_connection(&mut self) -> Result<(), Error> {
        if self.unwritten > 0 {
            let what = "events of this session could not be written, so it cannot wait";
            return Err(Error::internal(what));
        }
        self.durable = true;
        Ok(())
    }

    /// What changes of approvals with the events that are noted.
    pub(crate) fn approvals(&mut self, ops: impl IntoIterator<Item = ApprovalOp>) {
        self.approvals.extend(ops);
    }

    /// Goes on with a durable session that is in the journal already, after this event.
    pub(crate) fn go_on(&mut self, last: i64) {
        self.open = None;
        self.durable = true;
        self.last = Some(last);
        self.reopens = true;
    }

    /// Takes over what is noted and the right to end the session, for an owner that is being dropped.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            journal: self.journal.clone(),
            context: self.context.clone(),
            session: self.session,
            open: self.open.take(),
            parent: self.parent,
            durable: self.durable,
            last: self.last,
            reopens: self.reopens,
            pending: std::mem::take(&mut self.pending),
            ledger: std::mem::take(&mut self.ledger),
            approvals: std::mem::take(&mut self.approvals),
            priced: self.priced.take(),
            compute: self.compute.take(),
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

    /// Notes what became of a call, and what it cost.
    pub(crate) fn outcome(
        &mut self,
        mut header: Header,
        spent: Spent,
        body: Vec<u8>,
    ) -> Option<Settled> {
        let mut settled = None;
        match (self.priced.take(), spent) {
            (Some(priced), spent) => {
                let op;
                (op, settled) = priced.settle(spent);
                self.ledger.extend(op);
            }
            (None, Spent::Counted(usage)) => header.usage = Some(usage),
            (None, Spent::Nothing | Spent::Said(_) | Spent::Unheard) => {}
        }
        if let Some(settled) = &settled {
            header.usage = Some(settled.usage);
            header.cost = Some(settled.cost);
            if settled.estimated {
                header.facts.insert("estimated".into(), json!(true));
            }
        }
        self.note_bytes("outcome", header, body);
        settled
    }

    /// Notes that nobody knows what became of a call that another process made, with what it is taken to have cost.
    pub(crate) fn unknown(
        &mut self,
        mut header: Header,
        held: Vec<(ReservationId, Money)>,
    ) -> Option<Money> {
        let cost = (!held.is_empty()).then(|| {
            let nanos = held.iter().map(|(_, cost)| cost.nanos()).sum();
            Money::from_nanos(nanos).unwrap_or(Money::ZERO)
        });
        if cost.is_some() {
            header.cost = cost;
            header.facts.insert("estimated".into(), json!(true));
        }
        let settled = held.into_iter().map(|(id, cost)| LedgerOp::Settle {
            id,
            cost,
            usage: Usage::default(),
        });
        self.ledger.extend(settled);
        self.note_bytes("outcome", header, Vec::new());
        cost
    }

    /// Makes everything noted durable, the last of which is a call's intent, with what is held back for the call.
    ///
    /// # Errors
    /// A budget has not enough: then the intent is forgotten, and the rest is written with what follows.
    pub(crate) async fn flush_call(&mut self, priced: Option<Priced>) -> Result<(), Error> {
        self.written().await.map_err(unavailable)?;
        let reservation = priced.as_ref().and_then(Priced::reservation);
        let of_call = reservation.is_some().then(|| {
            let besides = self.pending.len().saturating_sub(1);
            (self.pending[..besides].to_vec(), self.ledger.clone())
        });
        self.ledger.extend(reservation);
        self.priced = priced;
        self.append(None, of_call).await.map_err(unavailable)
    }

    /// Makes everything noted durable.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.written().await.map_err(unavailable)?;
        if self.pending.is_empty() {
            return Ok(());
        }
        self.append(None, None).await.map_err(unavailable)
    }

    /// Ends the session, or leaves it suspended: everything noted and its end become durable together, with everything that was on its way before.
    pub(crate) async fn close(
        &mut self,
        state: SessionState,
        facts: &[(&str, Value)],
    ) -> Result<(), Error> {
        // Whoever waited for it heard of its failure; the end says it too.
        let written = self.written().await;
        if self.durable && self.unwritten > 0 {
            // Something is missing that the session cannot go on without: it stays open, and is taken up again as the journal has it.
            return written.map_err(unavailable).and_then(|()| {
                let what = "events of this session could not be written";
                Err(Error::internal(what))
            });
        }
        let mut end = header(facts);
        if self.unwritten > 0 {
            end.facts.insert("unwritten".into(), json!(self.unwritten));
        }
        let computed = self.compute.take().and_then(|c| c.spend(&self.context));
        end.cost = computed.as_ref().map(|(_, cost)| *cost);
        let computed = computed.map(|(op, _)| op);
        let kind = match state {
            SessionState::Suspended => "suspend",
            _ => "end",
        };
        self.note_bytes(kind, end.clone(), Vec::new());
        self.ledger
            .extend(self.priced.take().and_then(Priced::release));
        self.ledger.extend(computed.clone());
        let opens = self.open.is_some();
        let reason = end
            .facts
            .get("reason")
            .and_then(Value::as_str)
            .map(str::to_owned);
        match self.append(Some((state, reason.clone())), None).await {
            // The append that was to open it failed without anybody knowing how far it had come: it had come to its end.
            Err(StoreError::Conflict { .. }) if opens && !self.durable => {
                self.open = None;
                self.note_bytes(kind, end, Vec::new());
                self.ledger.extend(computed);
                self.append(Some((state, reason)), None)
                    .await
                    .map_err(unavailable)
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

    async fn append(
        &mut self,
        state: Option<(SessionState, Option<String>)>,
        of_call: Option<Besides>,
    ) -> Result<(), StoreError> {
        let events = self.pending.len();
        let mut append = Append::new(self.context.tenant, self.session)
            .events(self.pending.drain(..))
            .ledger(self.ledger.drain(..))
            .approvals(self.approvals.drain(..));
        if let Some(open) = &self.open {
            append = append.open(open.clone());
            if let Some(parent) = self.parent {
                append = append.started_by(parent);
            }
        }
        if self.durable {
            append = append.durable();
        }
        if let Some(last) = self.last {
            append = append.after(last);
        }
        if self.reopens {
            append = append.state(SessionState::Open);
        }
        append = match state {
            Some((state, Some(reason))) => append.state_because(state, reason),
            Some((state, None)) => append.state(state),
            None => append,
        };
        let journal = self.journal.clone();
        self.writing = Some(Writing {
            append: Mutex::new(Box::pin(async move { journal.append(append).await })),
            events,
            of_call,
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
        let writing = self.writing.take();
        let (events, of_call) = writing.map_or((0, None), |w| (w.events, w.of_call));
        // Nothing is held back for a call whose intent is not there.
        if written.is_err() && of_call.is_some() {
            self.priced = None;
        }
        match (&written, of_call) {
            (Ok(appended), _) => {
                self.open = None;
                self.reopens = false;
                self.last = self.durable.then_some(appended.last_seq);
            }
            (Err(StoreError::OverBudget(_)), Some((events, ops))) => {
                self.pending.splice(..0, events);
                self.ledger.splice(..0, ops);
            }
            (Err(_), _) => self.unwritten += events,
        }
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
    match error {
        StoreError::OverBudget(_) => return error.into(),
        StoreError::Conflict { .. } => {
            return Error::new(
                ambit_types::ErrorKind::Conflict,
                "somebody else is going on with this session; look at it and try again",
            )
            .because(error);
        }
        _ => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spending::priced;
    use ambit_ledger::{Budget, BudgetScope, Period};
    use ambit_store::{Store, StoreConfig, Tenant};
    use ambit_types::{Principal, RequestId, TraceContext};
    use futures::{FutureExt as _, future::join_all};
    use std::time::{Duration, Instant};

    fn context(tenant: &Tenant) -> CallContext {
        CallContext {
            tenant: tenant.id,
            tenant_slug: tenant.slug.clone(),
            principal: Arc::new(Principal {
                id: "key:test".to_owned(),
                scopes: Vec::new(),
                key: None,
                issuer: None,
                expires_at: None,
                credential: None,
            }),
            request: RequestId::new(),
            session: None,
            agent: None,
            cpu: None,
            trace: TraceContext::new(),
            deadline: Instant::now() + Duration::from_secs(60),
        }
    }

    /// A second call that a budget has not enough for, before what the first came to was durable.
    #[tokio::test]
    async fn what_is_over_budget_takes_nothing_of_what_was_noted_before_along() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig::sqlite(folder.path().join("ambit.db"));
        let store = Store::open(&config).await.unwrap();
        let slug = "acme".parse().unwrap();
        let acme = store.operator().create_tenant(slug, "Acme").await.unwrap();
        let rows = store.tenant(acme.id);
        let budget = Budget {
            scope: BudgetScope::tenant(),
            period: Period::None,
            limit: Money::from_nanos(60_000).unwrap(),
        };
        rows.set_budget(&budget).await.unwrap();
        let usage = Usage {
            input_tokens: 5,
            output_tokens: 3,
            ..Usage::default()
        };
        for gone in [false, true] {
            let session = SessionId::new();
            let journal = store.journal().clone();
            let mut recorder = Recorder::new(journal, context(&acme), session, "agent");
            recorder.note("request", &[], &json!({})).unwrap();
            recorder.note("intent", &[], &json!({ "n": 1 })).unwrap();
            if gone {
                // 11,000 spent and 50,000 more are too much.
                let refused = recorder.flush_call(Some(priced(true))).await.unwrap_err();
                assert_eq!(refused.code(), "insufficient_quota");
            } else {
                recorder.flush_call(Some(priced(true))).await.unwrap();
                let spent = Spent::Counted(usage);
                let settled = recorder.outcome(Header::default(), spent, b"one".to_vec());
                assert_eq!(settled.unwrap().cost.nanos(), 11_000);
                recorder.note("intent", &[], &json!({ "n": 2 })).unwrap();
                let refused = recorder.flush_call(Some(priced(true))).await.unwrap_err();
                assert_eq!(refused.code(), "insufficient_quota");
                assert!(refused.message().contains("left of 0.00006"), "{refused}");
            }
            recorder.close(SessionState::Failed, &[]).await.unwrap();
            let kinds: Vec<_> = rows.event_facts(session, 0, 10).await.unwrap();
            let kinds: Vec<_> = kinds.iter().map(|event| event.kind.as_str()).collect();
            let expected: &[&str] = match gone {
                false => &["request", "intent", "outcome", "end"],
                true => &["request", "end"],
            };
            assert_eq!(kinds, expected);
            let standing = rows.standing(&budget.scope, 0).await.unwrap();
            let nanos = (standing[0].settled.nanos(), standing[0].reserved.nanos());
            assert_eq!(nanos, (11_000, 0));
            assert_eq!(rows.verify_costs().await.unwrap().faults, []);
        }
        store.close().await;
    }

    #[tokio::test]
    async fn who_goes_away_while_the_journal_has_no_room_takes_no_event_along() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::sqlite(folder.path().join("ambit.db"));
        config.journal.queue_bytes = 1 << 20;
        let store = Store::open(&config).await.unwrap();
        let slug = "acme".parse().unwrap();
        let acme = store.operator().create_tenant(slug, "Acme").await.unwrap();
        let context = context(&acme);
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
