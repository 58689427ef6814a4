//! Erasing what was said: the key of a session's content is forgotten, its journal keeps every event and says when and by whom.

use crate::record::header;
use ambit_store::{Append, NewEvent, Session, Store, StoreError};
use ambit_types::{SessionId, TenantId};
use serde::Serialize;
use serde_json::json;

/// Sessions looked at at a time.
const PAGE: u32 = 256;

/// What an erasure did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Sessions whose content is gone now, and was not before.
    pub erased: u64,
    /// Sessions that are not over: their content stays until they are, and this is asked again.
    pub open: u64,
}

/// Erases the content of a closed session. Asked again, it does nothing.
///
/// # Errors
/// [`StoreError::NotFound`] without such a session, [`StoreError::Conflict`] for one that is not closed.
pub async fn erase(
    store: &Store,
    tenant: TenantId,
    session: SessionId,
) -> Result<Erased, StoreError> {
    let known = store.tenant(tenant).session(session).await?;
    let known = known.ok_or(StoreError::NotFound { what: "session" })?;
    if !known.state.is_closed() {
        return Err(StoreError::Conflict { what: "session" });
    }
    erase_closed(store, &known).await
}

/// Erases the content of every closed session of a principal.
///
/// # Errors
/// The store's. What was erased before stays so.
pub async fn erase_principal(
    store: &Store,
    tenant: TenantId,
    principal: &str,
) -> Result<Erased, StoreError> {
    let rows = store.tenant(tenant);
    let (mut all, mut after) = (Erased::default(), None);
    loop {
        let sessions = rows.unerased(principal, after, PAGE).await?;
        for session in &sessions {
            if session.state.is_closed() {
                all.erased += erase_closed(store, session).await?.erased;
            } else {
                all.open += 1;
            }
            after = Some(session.id);
        }
        if sessions.len() < PAGE as usize {
            return Ok(all);
        }
    }
}

async fn erase_closed(store: &Store, session: &Session) -> Result<Erased, StoreError> {
    if session.erased_ms.is_some() {
        return Ok(Erased::default());
    }
    // First what says so: an erasure nobody can account for would look like a loss.
    let event = NewEvent::new("erasure", header(&[("by", json!("operator"))]), Vec::new());
    // With its state, so that the session's row has it as its last event.
    let append = Append::new(session.tenant, session.id).event(event);
    let append = match session.reason.clone() {
        Some(reason) => append.state_because(session.state, reason),
        None => append.state(session.state),
    };
    store.journal().append(append).await?;
    let erased = store.tenant(session.tenant).erase(session.id).await?;
    Ok(Erased {
        erased: erased.into(),
        open: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_store::{NewSession, SessionState, testing::TestStore};

    #[tokio::test]
    async fn a_principals_content_goes_and_the_account_of_it_stays() {
        for test in TestStore::both().await.unwrap() {
            let store = &test.store;
            let slug = "acme".parse().unwrap();
            let tenant = store.operator().create_tenant(slug, "Acme").await.unwrap();
            let begin = async |principal: &str, state| {
                let id = SessionId::new();
                let session = NewSession {
                    agent: "assistant".into(),
                    principal: principal.into(),
                };
                let event = NewEvent::new("request", header(&[]), b"said".to_vec());
                let append = Append::new(tenant.id, id).open(session).event(event);
                let append = match state {
                    SessionState::Failed => append.state_because(state, "limit_exceeded"),
                    _ => append.state(state),
                };
                store.journal().append(append).await.unwrap();
                id
            };
            let alice = begin("alice", SessionState::Finished).await;
            let failed = begin("alice", SessionState::Failed).await;
            let open = begin("alice", SessionState::Open).await;
            let bob = begin("bob", SessionState::Finished).await;
            let all = erase_principal(store, tenant.id, "alice").await.unwrap();
            assert_eq!(all, Erased { erased: 2, open: 1 });
            let again = erase_principal(store, tenant.id, "alice").await.unwrap();
            assert_eq!(again, Erased { erased: 0, open: 1 });
            assert_eq!(
                erase(store, tenant.id, alice).await.unwrap(),
                Erased::default()
            );
            let outcome = erase(store, tenant.id, open).await;
            assert!(
                matches!(outcome, Err(StoreError::Conflict { .. })),
                "{outcome:?}"
            );
            let rows = store.tenant(tenant.id);
            for (session, kept) in [(alice, false), (failed, false), (open, true), (bob, true)] {
                let events = rows.events(session, 0, 10).await.unwrap();
                assert_eq!(events[0].body.is_some(), kept);
                assert_eq!(events.iter().any(|event| event.kind == "erasure"), !kept);
                assert!(rows.verify_chain(session).await.is_ok());
            }
            // How it ended is no content.
            let row = rows.session(failed).await.unwrap().unwrap();
            assert_eq!(row.reason.as_deref(), Some("limit_exceeded"));
            let row = rows.session(alice).await.unwrap().unwrap();
            assert_eq!(row.reason, None);
            store.close().await;
        }
    }
}
