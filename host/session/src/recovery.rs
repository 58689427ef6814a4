//! Sessions that a process left open because it was killed or lost its power.
//!
//! They are closed as `interrupted` by the next process on the same data, with an event that says so. An effect whose intent is in the
//! journal and whose outcome is not may have happened or not: the event names it, and nothing is tried again.

use crate::record::header;
use ambit_store::{Append, Event, NewEvent, Session, SessionState, Store, StoreError};
use futures::future::try_join_all;
use serde_json::{Value, json};

/// Sessions closed, and events read, at a time.
const PAGE: u32 = 256;

/// Closes every open session; the number closed. Only for the one process that owns the data: another's sessions may be at work.
///
/// # Errors
/// The store cannot be read or written.
pub async fn close_abandoned(store: &Store) -> Result<usize, StoreError> {
    let mut closed = 0;
    loop {
        let open = store
            .operator()
            .sessions_in_state(SessionState::Open, PAGE)
            .await?;
        // Together: the journal writes what waits in one commit.
        try_join_all(open.iter().map(|session| close(store, session))).await?;
        closed += open.len();
        if open.len() < PAGE as usize {
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
        let events = store.events(session.id, after, PAGE).await?;
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

fn effect(event: &Event) -> Option<Value> {
    event.header.facts.get("effect").cloned()
}
