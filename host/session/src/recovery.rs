//! Sessions that a process left open because it was killed or lost its power.
//!
//! They are closed as `interrupted` by the next process on the same data, with an event that says so. An effect whose intent is in the
//! journal and whose outcome is not may have happened or not: the event names it, and nothing is tried again.

use crate::record::header;
use ambit_store::{Append, EventFacts, NewEvent, Session, SessionState, Store, StoreError};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// Sessions closed, and events read, at a time.
const PAGE: u32 = 256;
/// Sessions read at the same time: no more than the database reads at once, so that none waits in vain for its turn.
const AT_ONCE: usize = 4;

/// Closes every open session; the number closed. Only for the one process that owns the data: another's sessions may be at work.
///
/// A session that cannot be closed stays open, is logged and is tried again at the next start: it keeps nobody from serving.
///
/// # Errors
/// The open sessions cannot be listed.
pub async fn close_abandoned(store: &Store) -> Result<usize, StoreError> {
    let mut closed = 0;
    loop {
        let open = store
            .operator()
            .sessions_in_state(SessionState::Open, PAGE)
            .await?;
        let closing = open.iter().map(async |session| {
            let done = close(store, session).await;
            if let Err(error) = &done {
                tracing::warn!(session = %session.id, error = error as &dyn std::error::Error, "a session an earlier process left open could not be closed");
            }
            done.is_ok()
        });
        let done = stream::iter(closing)
            .buffer_unordered(AT_ONCE)
            .filter(|done| std::future::ready(*done))
            .count()
            .await;
        closed += done;
        // The next page begins with those that could not be closed; a page of nothing else is the last.
        if open.len() < PAGE as usize || done == 0 {
            return Ok(closed);
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
    let append = Append::new(session.tenant, session.id)
        .events([NewEvent::new("end", header(&facts), Vec::new())])
        .state(SessionState::Interrupted);
    store.journal().append(append).await.map(drop)
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
