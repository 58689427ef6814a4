//! Sessions that a process left open because it was killed or lost its power, or because it stopped and others go on.
//!
//! A chat completion belonged to its connection: it is closed as `interrupted`, with an event that says so, and nothing is tried again. A
//! durable session is gone on with from its last event. An effect whose intent is in the journal and whose outcome is not may have happened or
//! not: the journal says `unknown` of it, and it is only made again where its tool says that this does nothing twice.
//!
//! Whoever shares a database says that he lives by counting up a number. One whose number stands still for [`LEASE`], by the clock of who looks
//! at it, is taken for dead. Should he be alive after all, he can write nothing more to what was taken over: an append of his finds another's
//! node at the session, or another's event in its place.

use crate::{chat::Sessions, library::now_ms, progress::UNKNOWN, record::header, tenants::Tenants};
use ambit_ledger::{LedgerOp, Money, Usage};
use ambit_store::{Append, EventFacts, NewEvent, Session, SessionState, Store, StoreError};
use ambit_types::{Error, ReservationId, SessionId};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// Sessions closed, and events read, at a time.
const PAGE: u32 = 256;
/// Sessions read at the same time: no more than the database reads at once, so that none waits in vain for its turn.
const AT_ONCE: usize = 4;

/// How often a process says that it lives and looks after the others.
const EVERY: Duration = Duration::from_secs(2);

/// After so long without a beat a process is taken for dead.
const LEASE: Duration = Duration::from_secs(15);

/// What is known of the other processes.
#[derive(Debug, Default)]
struct Others {
    beats: HashMap<String, (i64, Instant)>,
    /// This process's own sessions that it did not work on.
    idle: HashSet<SessionId>,
}

impl Others {
    /// Those at work of which no sign of life came for a lease.
    fn dead(&mut self, at_work: Vec<String>, beats: Vec<(String, i64)>) -> Vec<String> {
        let now = Instant::now();
        let beats: HashMap<_, _> = beats.into_iter().collect();
        self.beats.retain(|node, _| beats.contains_key(node));
        for (node, beat) in &beats {
            let known = self.beats.entry(node.clone()).or_insert((*beat, now));
            if known.0 != *beat {
                *known = (*beat, now);
            }
        }
        let is_dead = |node: &String| {
            self.beats
                .get(node)
                .is_none_or(|(_, since)| since.elapsed() > LEASE)
        };
        at_work.into_iter().filter(is_dead).collect()
    }
}

impl Sessions {
    /// Says to the other processes on the same data that this one lives. Before it works on anything.
    ///
    /// # Errors
    /// The store's.
    pub async fn say_alive(&self) -> Result<(), StoreError> {
        let store = &self.platform.store;
        store.operator().beat(store.node(), now_ms()).await
    }

    /// Goes on saying so, for ever: ends when dropped. Apart from everything that may take its time.
    pub async fn stay_alive(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.say_alive().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "other processes cannot be told that this one lives"
                );
            }
        }
    }

    /// Looks after sessions that nobody works on any more, for ever: ends when dropped. `alone`: no other process works on the data, so whatever
    /// is open and not this one's was left.
    pub async fn look_after(&self, tenants: &Tenants, alone: bool) {
        let mut others = Others::default();
        loop {
            if let Err(error) = self.look_once(tenants, &mut others, alone).await {
                // Nobody could say that he lives while the database did not answer.
                others.beats.clear();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sessions that nobody works on could not be looked after"
                );
            }
            let next = Instant::now() + EVERY;
            while self.families.changed(next).await {
                if let Err(error) = self.look_after_families(tenants).await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "sessions that wait for others could not be looked after just now"
                    );
                }
            }
        }
    }

    async fn look_once(
        &self,
        tenants: &Tenants,
        others: &mut Others,
        alone: bool,
    ) -> Result<(), StoreError> {
        let operator = self.platform.store.operator();
        let me = self.platform.store.node();
        for (_, session) in operator.sessions_to_cancel(me).await? {
            self.at_work.cancel(session);
        }
        self.go_on_with_own(tenants, &mut others.idle).await?;
        // In this order: who is at work has said that he lives before.
        let at_work = operator.nodes_at_work().await?;
        if alone && at_work.contains(&None) {
            self.take_over(tenants, None).await?;
        }
        let at_work = at_work.into_iter().flatten().filter(|node| node != me);
        let beats = operator.nodes().await?;
        for node in others.dead(at_work.collect(), beats) {
            let taken = self.take_over(tenants, Some(&node)).await?;
            tracing::warn!(node, sessions = taken, "a process left sessions open");
            operator.forget_node(&node).await?;
        }
        // Last: what a dead process left is closed by now, or gone on with.
        self.look_after_families(tenants).await
    }

    /// Goes on with sessions that are this process's and that it does not work on: their end could not be written, or they could not be
    /// taken up. Only those of which that was so the last time too: others are just being opened.
    async fn go_on_with_own(
        &self,
        tenants: &Tenants,
        idle: &mut HashSet<SessionId>,
    ) -> Result<(), StoreError> {
        let store = &self.platform.store;
        let (mut after, mut found) = (None, HashSet::new());
        loop {
            let page = store.operator();
            let page = page
                .sessions_of_node(Some(store.node()), after, PAGE)
                .await?;
            for session in page.iter().filter(|one| one.durable) {
                if self.at_work.has(session.id) {
                    continue;
                }
                if !idle.contains(&session.id) {
                    found.insert(session.id);
                } else if let Err(error) = self.recover(tenants, session).await {
                    tracing::warn!(session = %session.id, error = &error as &dyn std::error::Error, "a session could not be taken up again");
                    found.insert(session.id);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = Some(last.id),
                _ => break,
            }
        }
        *idle = found;
        Ok(())
    }

    /// Closes or goes on with every open session of a process that is no more; the number of both.
    async fn take_over(&self, tenants: &Tenants, node: Option<&str>) -> Result<usize, StoreError> {
        let store = &self.platform.store;
        // Chat completions first: what they started ends with them.
        let completion = |session: &Session| !session.durable;
        let close = async |session: &Session| Ok(close(store, session).await?);
        let closed = each_of(store, node, completion, close).await?;
        let durable = |session: &Session| session.durable;
        let recover = async |session: &Session| self.recover(tenants, session).await;
        let taken = each_of(store, node, durable, recover).await?;
        store.release_abandoned(0).await?;
        Ok(closed + taken)
    }
}

/// Finishes sessions that have waited since before then; the number of them.
///
/// # Errors
/// They cannot be listed. One that goes on just now is left alone.
pub async fn finish_idle(store: &Store, before_ms: i64) -> Result<usize, StoreError> {
    let mut finished = 0;
    loop {
        let page = store.operator().idle_sessions(before_ms, PAGE).await?;
        let mut done = 0;
        for session in &page {
            let append = Append::new(session.tenant, session.id)
                .after(session.head_seq)
                .event(NewEvent::new(
                    "end",
                    header(&[("reason", json!("idle"))]),
                    Vec::new(),
                ))
                .state_because(SessionState::Finished, "idle");
            match store.journal().append(append).await {
                Ok(_) => done += 1,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        finished += done;
        if page.len() < PAGE as usize || done == 0 {
            return Ok(finished);
        }
    }
}

/// Closes every chat completion that is open; the number closed. Only for the one process that owns the data: another's may be at work.
///
/// A session that cannot be closed stays open, is logged and is tried again at the next start: it keeps nobody from serving.
///
/// # Errors
/// The open sessions cannot be listed.
pub async fn close_abandoned(store: &Store) -> Result<usize, StoreError> {
    let mut closed = 0;
    for node in store.operator().nodes_at_work().await? {
        let completion = |session: &Session| !session.durable;
        let close = async |session: &Session| Ok(close(store, session).await?);
        closed += each_of(store, node.as_deref(), completion, close).await?;
    }
    Ok(closed)
}

/// Claims the open sessions of a process one after another and does something with each; the number of which that went well.
async fn each_of(
    store: &Store,
    node: Option<&str>,
    wanted: impl Fn(&Session) -> bool,
    does: impl AsyncFn(&Session) -> Result<(), Error>,
) -> Result<usize, StoreError> {
    let (mut after, mut done) = (None, 0);
    loop {
        let page = store.operator().sessions_of_node(node, after, PAGE).await?;
        let each = page.iter().filter(|one| wanted(one)).map(async |session| {
            let claimed = store
                .tenant(session.tenant)
                .claim(session.id, node, store.node())
                .await;
            let done = match claimed {
                Ok(true) => does(session).await,
                Ok(false) => return false,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = &done {
                tracing::warn!(session = %session.id, error = error as &dyn std::error::Error, "a session an earlier process left open could not be taken over");
            }
            done.is_ok()
        });
        done += stream::iter(each)
            .buffer_unordered(AT_ONCE)
            .filter(|done| std::future::ready(*done))
            .count()
            .await;
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(last.id),
            _ => return Ok(done),
        }
    }
}

async fn close(store: &Store, session: &Session) -> Result<(), StoreError> {
    let mut facts = vec![("reason", json!("process-ended"))];
    facts.extend(
        unsettled(store, session)
            .await?
            .map(|effect| ("unknown", effect)),
    );
    let rows = store.tenant(session.tenant);
    let append = Append::new(session.tenant, session.id);
    let append = unknown(append, rows.held_back(session.id).await?);
    let append = append
        .event(NewEvent::new("end", header(&facts), Vec::new()))
        .state_because(SessionState::Interrupted, "process-ended");
    store.journal().append(append).await.map(drop)
}

/// Of calls that were under way nobody knows what came: they are taken to have cost what was held back for them.
pub(crate) fn unknown(append: Append, held: Vec<(ReservationId, Money)>) -> Append {
    held.into_iter().fold(append, |append, (id, cost)| {
        let usage = Usage::default();
        let known = [
            ("effect", json!("model")),
            ("code", json!(UNKNOWN)),
            ("estimated", json!(true)),
        ];
        let mut known = header(&known);
        known.cost = Some(cost);
        append
            .event(NewEvent::new("outcome", known, Vec::new()))
            .ledger([LedgerOp::Settle { id, cost, usage }])
    })
}

/// The effect that was begun last, if its outcome is not known.
async fn unsettled(store: &Store, session: &Session) -> Result<Option<Value>, StoreError> {
    let store = store.tenant(session.tenant);
    let (mut after, mut begun) = (0, None);
    loop {
        // Without their bodies: a conversation's may be megabytes each, and none of it matters here.
        let events = store.event_facts(session.id, after, PAGE).await?;
        for event in &events {
            match event.kind.as_str() {
                "intent" => begun = effect(event),
                "outcome" if effect(event) == begun => begun = None,
                _ => {}
            }
            after = event.seq;
        }
        if events.len() < PAGE as usize {
            return Ok(begun);
        }
    }
}

fn effect(event: &EventFacts) -> Option<Value> {
    event.header.facts.get("effect").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_store::{Header, NewSession, testing::TestStore};
    use ambit_types::{SessionId, TenantId};

    async fn begin(store: &Store, tenant: TenantId, events: &[(&'static str, &str)]) -> SessionId {
        let id = SessionId::new();
        let session = NewSession {
            agent: "assistant".into(),
            principal: "alice".into(),
        };
        let events = events.iter().map(|&(kind, effect)| {
            let facts = json!({ "effect": effect });
            let header = Header {
                facts: facts.as_object().unwrap().clone(),
                ..Header::default()
            };
            NewEvent::new(kind, header, vec![b'x'; 100_000])
        });
        let append = Append::new(tenant, id).open(session).events(events);
        store.journal().append(append).await.unwrap();
        id
    }

    #[tokio::test]
    async fn who_waits_for_too_long_is_over() {
        let test = TestStore::sqlite().await.unwrap();
        let store = &test.store;
        let slug = "acme".parse().unwrap();
        let tenant = store.operator().create_tenant(slug, "Acme").await.unwrap();
        let rows = store.tenant(tenant.id);
        let waits = begin(store, tenant.id, &[("intent", "model")]).await;
        let works = begin(store, tenant.id, &[("intent", "model")]).await;
        let append = Append::new(tenant.id, waits)
            .event(NewEvent::new("suspend", Header::default(), Vec::new()))
            .state_because(SessionState::Suspended, "message");
        store.journal().append(append).await.unwrap();
        let since = rows.session(waits).await.unwrap().unwrap().updated_ms;
        assert_eq!(finish_idle(store, since).await.unwrap(), 0);
        assert_eq!(finish_idle(store, since + 1).await.unwrap(), 1);
        assert_eq!(finish_idle(store, i64::MAX).await.unwrap(), 0);
        let row = async |id| rows.session(id).await.unwrap().unwrap();
        let ended = row(waits).await;
        assert_eq!(
            (ended.state, ended.reason.as_deref()),
            (SessionState::Finished, Some("idle"))
        );
        assert_eq!(row(works).await.state, SessionState::Open);
        assert!(rows.verify_chain(waits).await.is_ok());
    }

    #[tokio::test]
    async fn what_cannot_be_closed_keeps_the_rest_from_nothing() {
        let test = TestStore::sqlite().await.unwrap();
        let store = &test.store;
        let slug = "acme".parse().unwrap();
        let tenant = store.operator().create_tenant(slug, "Acme").await.unwrap();
        let damaged = begin(store, tenant.id, &[("intent", "model")]).await;
        let begun = begin(store, tenant.id, &[("intent", "model")]).await;
        let both = [("intent", "model"), ("outcome", "model")];
        let done = begin(store, tenant.id, &both).await;
        for _ in 0..20 {
            begin(store, tenant.id, &both).await;
        }
        let file = test.folder().unwrap().join("ambit.db");
        rusqlite::Connection::open(file)
            .unwrap()
            .execute(
                "UPDATE events SET header = 'no JSON' WHERE session = ?1",
                [damaged.to_string()],
            )
            .unwrap();

        assert_eq!(close_abandoned(store).await.unwrap(), 22);
        let rows = store.tenant(tenant.id);
        let state = async |id| rows.session(id).await.unwrap().unwrap().state;
        assert_eq!(state(damaged).await, SessionState::Open);
        for (session, unknown) in [(begun, Some(&json!("model"))), (done, None)] {
            assert_eq!(state(session).await, SessionState::Interrupted);
            let events = rows.event_facts(session, 0, 10).await.unwrap();
            let end = events.last().unwrap();
            assert_eq!(end.kind, "end");
            assert_eq!(end.header.facts.get("unknown"), unknown);
            assert!(rows.verify_chain(session).await.is_ok());
        }
    }
}
