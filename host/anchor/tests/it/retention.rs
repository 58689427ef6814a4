//! What leaves at the end of its retention: whole partitions, with a signed stub in their place.

use super::{anchors, event, exported, on_both, say, tenant, verified};
use ambit_store::{
    Append, ApprovalOp, Bound, Digest, NewApproval, NewSession, SessionState, Store, StoreError,
    TenantStore,
};
use ambit_types::{ApprovalId, SessionId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600 * 1000;

/// A session whose id says that it began so many days ago.
fn begun(days_ago: u64) -> SessionId {
    let then = SystemTime::now() - Duration::from_secs(days_ago * 24 * 3600);
    let millis = then.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut bytes = SessionId::new().to_bytes();
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    SessionId::from_bytes(bytes)
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

async fn open(store: &Store, rows: &TenantStore, session: SessionId, state: SessionState) {
    let opened = NewSession {
        agent: "assistant".into(),
        principal: "alice".into(),
    };
    let append = Append::new(rows.id(), session).open(opened);
    let append = append.event(event("request")).state(state);
    store.journal().append(append).await.unwrap();
}

/// Asks for an approval in a session; its id.
async fn ask(store: &Store, rows: &TenantStore, session: SessionId) -> ApprovalId {
    let id = ApprovalId::new();
    let (arguments, policy) = (Digest::default(), Digest::default());
    let ask = ApprovalOp::Ask(NewApproval {
        id,
        agent: "assistant".into(),
        principal: "alice".into(),
        tool: "pay".into(),
        bound: Bound { arguments, policy },
        by_another: true,
        created_ms: now(),
        expires_ms: now(),
    });
    let append = Append::new(rows.id(), session).event(event("approval"));
    let append = append.approvals([ask]).state(SessionState::Finished);
    store.journal().append(append).await.unwrap();
    id
}

#[tokio::test]
async fn whole_partitions_leave_and_what_remains_verifies() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let operator = store.store.operator();
        let (acme, _) = tenant(&store.store, "acme", 0).await;
        let (globex, _) = tenant(&store.store, "globex", 0).await;
        let (old, waiting, fresh) = (begun(9), begun(8), begun(0));
        for n in 0..25 {
            let state = [
                SessionState::Finished,
                SessionState::Failed,
                SessionState::Interrupted,
            ][n % 3];
            open(&store.store, &acme, begun(9), state).await;
        }
        say(&store.store, &acme, old, true).await;
        let asked = ask(&store.store, &acme, old).await;
        say(&store.store, &globex, begun(9), true).await;
        open(&store.store, &acme, begun(8), SessionState::Finished).await;
        open(&store.store, &acme, waiting, SessionState::Suspended).await;
        say(&store.store, &acme, fresh, true).await;
        anchors.anchor().await.unwrap();

        // Everything changed just now.
        assert_eq!(operator.prune_sessions(now() - DAY).await.unwrap(), 0);
        // Two days on, the partition of nine days ago has nothing that is younger or waits; that of eight days ago has.
        store
            .tamper(&format!(
                "UPDATE sessions SET updated_ms = updated_ms - {} WHERE session < '{}'",
                5 * DAY,
                fresh
            ))
            .await
            .unwrap();
        assert_eq!(operator.prune_sessions(now() - 4 * DAY).await.unwrap(), 27);
        assert_eq!(operator.prune_sessions(now() - 4 * DAY).await.unwrap(), 0);
        assert_eq!(acme.session(old).await.unwrap(), None);
        let listed = operator.tenant_of_approval(asked).await.unwrap();
        assert_eq!(listed, None, "what it asked for leaves with it");
        assert_eq!(acme.events(old, 0, 10).await.unwrap(), []);
        assert!(matches!(
            acme.verify_chain(old).await,
            Err(StoreError::NotFound { .. })
        ));
        assert_eq!(acme.verify_chain(waiting).await.unwrap().events, 1);

        let export = exported(&anchors, acme.id(), None).await;
        let report = verified(&anchors, &export).unwrap();
        assert_eq!(
            (report.sessions, report.removed, report.complete),
            (3, 1, true)
        );
        let outcome = anchors.export(acme.id(), Some(old)).await;
        assert!(
            matches!(outcome, Err(StoreError::NotFound { .. })),
            "{outcome:?}"
        );

        // A stub that no anchor signed is none.
        let hidden = export.replacen("\"removed\":false", "\"removed\":true", 1);
        assert_ne!(hidden, export);
        assert!(super::fault(&anchors, &hidden).contains("do not lead to the anchor"));
    })
    .await;
}

/// Where anchoring stopped in the middle of a day, nobody could tell later what was in the rest of it.
#[tokio::test]
async fn what_no_anchor_vouches_for_stays() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let operator = store.store.operator();
        let (acme, _) = tenant(&store.store, "acme", 0).await;
        open(&store.store, &acme, begun(9), SessionState::Finished).await;
        anchors.anchor().await.unwrap();
        open(&store.store, &acme, begun(9), SessionState::Finished).await;
        let aged = format!("UPDATE sessions SET updated_ms = {}", now() - 8 * DAY);
        store.tamper(&aged).await.unwrap();
        assert_eq!(operator.prune_sessions(now() - 4 * DAY).await.unwrap(), 0);
        anchors.anchor().await.unwrap();
        assert_eq!(operator.prune_sessions(now() - 4 * DAY).await.unwrap(), 2);
    })
    .await;
}

/// What a killed process left open on a shared database goes too, a day later.
#[tokio::test]
async fn sessions_left_open_leave_later() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let operator = store.store.operator();
        let (acme, _) = tenant(&store.store, "acme", 0).await;
        let left = begun(9);
        open(&store.store, &acme, left, SessionState::Open).await;
        anchors.anchor().await.unwrap();
        let age = |days: i64| format!("UPDATE sessions SET updated_ms = {}", now() - days * DAY);
        store.tamper(&age(2)).await.unwrap();
        assert_eq!(
            operator
                .prune_sessions(now() - DAY - DAY / 2)
                .await
                .unwrap(),
            0
        );
        store.tamper(&age(3)).await.unwrap();
        assert_eq!(
            operator
                .prune_sessions(now() - DAY - DAY / 2)
                .await
                .unwrap(),
            1
        );
    })
    .await;
}

/// A removal that was cut short goes on, and who looks meanwhile finds why sessions are missing.
#[tokio::test]
async fn a_removal_that_was_cut_short_goes_on() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 0).await;
        for _ in 0..3 {
            say(&store.store, &acme, begun(9), true).await;
        }
        say(&store.store, &acme, begun(0), true).await;
        anchors.anchor().await.unwrap();
        store.tamper("UPDATE partitions SET removed_ms = 1 WHERE day = (SELECT min(day) FROM partitions)").await.unwrap();
        store.tamper("DELETE FROM sessions WHERE session = (SELECT min(session) FROM sessions)").await.unwrap();
        let export = exported(&anchors, acme.id(), None).await;
        let report = verified(&anchors, &export).unwrap();
        assert_eq!((report.sessions, report.removed), (1, 1));
        let operator = store.store.operator();
        assert_eq!(operator.prune_sessions(now()).await.unwrap(), 2);
        assert_eq!(operator.prune_sessions(now()).await.unwrap(), 0);
    })
    .await;
}
