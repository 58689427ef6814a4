//! Old sessions go as a whole, and only closed ones.

use crate::{
    SessionState, StoreError,
    tests::{event, on_both, opening, tenant},
};
use ambit_types::SessionId;

#[tokio::test]
async fn retention_removes_whole_closed_sessions() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let (journal, operator) = (store.store.journal(), store.store.operator());
        let open = SessionId::new();
        journal.append(opening(&acme, open)).await.unwrap();
        let mut closed = Vec::new();
        for n in 0..230 {
            let rows = if n % 2 == 0 { &acme } else { &globex };
            let state = [
                SessionState::Finished,
                SessionState::Failed,
                SessionState::Interrupted,
            ][n % 3];
            let session = SessionId::new();
            journal
                .append(opening(rows, session).event(event("end")).state(state))
                .await
                .unwrap();
            closed.push((rows, session));
        }
        let suspended = SessionId::new();
        journal
            .append(opening(&acme, suspended).state(SessionState::Suspended))
            .await
            .unwrap();

        assert_eq!(
            operator
                .sessions_in_state(SessionState::Open, 10)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            operator
                .prune_sessions(crate::now_ms() - 60_000)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            operator
                .prune_sessions(crate::now_ms() + 60_000)
                .await
                .unwrap(),
            230
        );
        for (rows, session) in closed {
            assert_eq!(rows.session(session).await.unwrap(), None);
            assert_eq!(rows.events(session, 0, 10).await.unwrap(), []);
            assert!(matches!(
                rows.verify_chain(session).await,
                Err(StoreError::NotFound { .. })
            ));
        }
        // What a killed process left open on a shared database goes too, a day later; what waits for an answer stays.
        let day = 24 * 3600 * 1000;
        let prune = |after: i64| operator.prune_sessions(crate::now_ms() + after);
        assert_eq!(acme.verify_chain(open).await.unwrap().events, 1);
        assert_eq!(prune(day - 60_000).await.unwrap(), 0);
        assert_eq!(prune(day + 60_000).await.unwrap(), 1);
        assert_eq!(acme.session(open).await.unwrap(), None);
        assert_eq!(acme.events(open, 0, 10).await.unwrap(), []);
        assert_eq!(acme.verify_chain(suspended).await.unwrap().events, 1);
    })
    .await;
}
