//! What stays when a process dies between reserving and settling, and what gives it back.

use super::{NOON, Spending, conflicts, event, over};
use crate::{
    SessionState, Store, StoreConfig,
    testing::TestStore,
    tests::{hand_over, on_both, opening},
};
use ambit_types::SessionId;

#[tokio::test]
async fn what_a_dead_process_had_reserved_is_released_with_its_session() {
    on_both(async |test| {
        let shop = Spending::limited(test, 100).await;
        let dead = Store::open(&test.config).await.unwrap();
        let session = SessionId::new();
        let append = opening(&shop.acme, session);
        dead.journal().append(append).await.unwrap();
        let its = Spending {
            acme: shop.acme.clone(),
            session,
        };
        let [settled, held] = [
            its.reserve(&dead, 30).await.unwrap(),
            its.reserve(&dead, 50).await.unwrap(),
        ];
        its.settle(&dead, settled, 20).await.unwrap();
        dead.close().await;
        let store = &test.store;
        let alive = shop.reserve(store, 10).await.unwrap();
        // Its session is open yet: somebody may be at work.
        assert_eq!(store.release_abandoned(0).await.unwrap(), 0);
        over(shop.reserve(store, 21).await);
        hand_over(&shop.acme, session, &dead, store).await;
        let end = its.append().event(event("end"));
        let end = end.state(SessionState::Interrupted);
        store.journal().append(end).await.unwrap();
        assert_eq!(store.release_abandoned(0).await.unwrap(), 1);
        assert_eq!(store.release_abandoned(0).await.unwrap(), 0);
        assert_eq!(shop.tenant_stands().await, [20, 10, 70]);
        // Its age too gives one up; who lives after all has spent what he spent.
        assert_eq!(store.release_abandoned(NOON).await.unwrap(), 0);
        assert_eq!(store.release_abandoned(NOON + 1).await.unwrap(), 1);
        assert_eq!(shop.tenant_stands().await, [20, 0, 80]);
        shop.settle(store, alive, 5).await.unwrap();
        conflicts(shop.settle(store, alive, 5).await);
        its.release(store, held).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [25, 0, 75]);
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn a_suspended_session_keeps_what_it_reserved() {
    on_both(async |test| {
        let shop = Spending::limited(test, 100).await;
        shop.reserve(&test.store, 30).await.unwrap();
        let wait = shop.append().event(event("wait"));
        let wait = wait.state(SessionState::Suspended);
        test.store.journal().append(wait).await.unwrap();
        assert_eq!(test.store.release_abandoned(0).await.unwrap(), 0);
        assert_eq!(shop.tenant_stands().await, [0, 30, 70]);
    })
    .await;
}

#[tokio::test]
async fn more_than_a_batch_is_released() {
    on_both(async |test| {
        let shop = Spending::limited(test, 1000).await;
        let mut append = shop.append().event(event("intent"));
        for _ in 0..700 {
            append.ledger.extend(shop.intent(1, NOON).1.ledger);
        }
        test.store.journal().append(append).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [0, 700, 300]);
        let released = test.store.release_abandoned(i64::MAX).await;
        assert_eq!(released.unwrap(), 700);
        assert_eq!(shop.tenant_stands().await, [0, 0, 1000]);
        shop.adds_up().await;
    })
    .await;
}

/// The files of a process killed at any time are what lies there at that time. Its intent and what is reserved for it are there
/// together, or neither.
#[tokio::test]
async fn a_reservation_survives_a_kill_with_its_intent() {
    let test = TestStore::sqlite().await.unwrap();
    let shop = Spending::limited(&test, 1000).await;
    let mut reserved = 0;
    for n in 1..20 {
        let held = shop.reserve(&test.store, n).await.unwrap();
        reserved += n;
        let copy = tempfile::tempdir().unwrap();
        for name in ["ambit.db", "ambit.db-wal", "master.key"] {
            std::fs::copy(test.folder().unwrap().join(name), copy.path().join(name)).unwrap();
        }
        let revived = Store::open(&StoreConfig::sqlite(copy.path().join("ambit.db")))
            .await
            .unwrap();
        let its = Spending {
            acme: revived.tenant(shop.acme.id()),
            session: shop.session,
        };
        assert_eq!(its.tenant_stands().await, [0, reserved, 1000 - reserved]);
        let events = its.acme.event_facts(shop.session, 0, 100).await.unwrap();
        assert_eq!(events.len() as i64, n + 1);
        its.adds_up().await;
        hand_over(&its.acme, its.session, &test.store, &revived).await;
        its.settle(&revived, held, 1).await.unwrap();
        assert_eq!(
            its.tenant_stands().await,
            [1, reserved - n, 1000 - reserved + n - 1]
        );
        its.adds_up().await;
        revived.close().await;
    }
    test.store.close().await;
}

/// A full disk, a read-only database: neither the event nor the reservation is there.
#[tokio::test]
async fn what_cannot_be_written_holds_nothing() {
    on_both(async |test| {
        let shop = Spending::limited(test, 100).await;
        let held = shop.reserve(&test.store, 40).await.unwrap();
        test.set_read_only(true).await;
        assert!(shop.reserve(&test.store, 1).await.is_err());
        assert!(shop.settle(&test.store, held, 1).await.is_err());
        test.set_read_only(false).await;
        test.set_full(true).await;
        let (_, mut big) = shop.intent(1, NOON);
        big.events[0].body = vec![1; 4 << 20];
        assert!(test.store.journal().append(big).await.is_err());
        test.set_full(false).await;
        assert_eq!(shop.tenant_stands().await, [0, 40, 60]);
        shop.settle(&test.store, held, 7).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [7, 0, 93]);
        shop.adds_up().await;
    })
    .await;
}
