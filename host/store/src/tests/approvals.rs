//! One call, one approval, once.

use super::{event, on_both, opening, tenant};
use crate::{
    Append, ApprovalOp, ApprovalState, Asked, Bound, Digest, NewApproval, SessionState, Store,
    StoreError, TenantStore, digest_of, now_ms, testing::TestStore,
};
use ambit_types::{ApprovalId, SessionId};
use futures::future::join_all;

const EVERYTHING: Asked = Asked {
    pending: false,
    within: None,
    before: None,
    limit: 100,
};

const PENDING: Asked = Asked {
    pending: true,
    ..EVERYTHING
};

fn bound() -> Bound {
    Bound {
        arguments: digest_of(b"arguments"),
        policy: digest_of(b"policy"),
    }
}

fn asked(id: ApprovalId) -> NewApproval {
    NewApproval {
        id,
        agent: "assistant".into(),
        principal: "alice".into(),
        tool: "pay".into(),
        bound: bound(),
        by_another: true,
        created_ms: now_ms(),
        expires_ms: now_ms() + 60_000,
    }
}

fn decide(id: ApprovalId, approved: bool, by: &str) -> ApprovalOp {
    let (by, at_ms) = (by.into(), now_ms());
    ApprovalOp::Decide {
        id,
        approved,
        by,
        at_ms,
    }
}

fn using(id: ApprovalId) -> ApprovalOp {
    let (bound, at_ms) = (bound(), now_ms());
    ApprovalOp::Use { id, bound, at_ms }
}

struct Desk<'a> {
    store: &'a TestStore,
    rows: TenantStore,
    session: SessionId,
}

impl<'a> Desk<'a> {
    async fn new(store: &'a TestStore, slug: &str) -> Self {
        let (_, rows) = tenant(store, slug).await;
        let session = SessionId::new();
        let journal = store.store.journal();
        journal.append(opening(&rows, session)).await.unwrap();
        Self {
            store,
            rows,
            session,
        }
    }

    async fn append(
        &self,
        session: SessionId,
        ops: impl IntoIterator<Item = ApprovalOp>,
    ) -> Result<(), StoreError> {
        let append = Append::new(self.rows.id(), session).event(event("approval"));
        let append = append.approvals(ops);
        self.store.store.journal().append(append).await.map(drop)
    }

    /// Asks, and leaves the session waiting.
    async fn ask(&self, new: NewApproval) -> ApprovalId {
        let id = new.id;
        let append = Append::new(self.rows.id(), self.session).event(event("approval"));
        let append = append
            .approvals([ApprovalOp::Ask(new)])
            .state_because(SessionState::Suspended, "approval");
        self.store.store.journal().append(append).await.unwrap();
        id
    }

    async fn approved(&self) -> ApprovalId {
        let id = self.ask(asked(ApprovalId::new())).await;
        let approve = decide(id, true, "bob");
        self.append(self.session, [approve]).await.unwrap();
        id
    }

    async fn state(&self, id: ApprovalId) -> ApprovalState {
        self.rows.approval(id).await.unwrap().unwrap().state
    }

    /// Nothing of it is written.
    async fn refused(&self, session: SessionId, ops: impl IntoIterator<Item = ApprovalOp>) {
        let events = async || self.rows.event_facts(session, 0, 100).await.unwrap().len();
        let before = events().await;
        let refused = self.append(session, ops).await;
        assert!(
            matches!(refused, Err(StoreError::Conflict { what: "approval" })),
            "{refused:?}"
        );
        assert_eq!(events().await, before);
    }
}

#[tokio::test]
async fn an_approval_is_asked_for_decided_used_and_told_the_end_of() {
    on_both(async |store| {
        let desk = Desk::new(store, "acme").await;
        let id = desk.ask(asked(ApprovalId::new())).await;
        let row = async || desk.rows.approval(id).await.unwrap().unwrap();
        let known = row().await;
        assert_eq!((known.session, known.bound), (desk.session, bound()));
        assert!(known.by_another && known.is_pending(now_ms()));
        assert_eq!(known.standing(known.expires_ms), "expired");
        let approve = decide(id, true, "bob");
        desk.append(desk.session, [approve]).await.unwrap();
        let known = row().await;
        assert_eq!(known.decided_by.as_deref(), Some("bob"));
        assert_eq!(known.standing(now_ms()), "approved");
        desk.append(desk.session, [using(id)]).await.unwrap();
        let outcome = |code: &str| ApprovalOp::Outcome {
            id,
            code: code.into(),
            at_ms: now_ms(),
        };
        desk.append(desk.session, [outcome("ok")]).await.unwrap();
        // Said again it stays what it was.
        desk.append(desk.session, [outcome("no")]).await.unwrap();
        let known = row().await;
        assert_eq!(known.standing(i64::MAX), "used");
        assert_eq!(known.outcome.as_deref(), Some("ok"));
        assert!(known.used_ms.is_some());
        let chain = desk.rows.verify_chain(desk.session).await;
        assert_eq!(chain.unwrap().events, 6);
    })
    .await;
}

#[tokio::test]
async fn what_was_not_approved_of_is_not_used() {
    on_both(async |store| {
        let desk = Desk::new(store, "acme").await;
        let session = desk.session;
        let id = desk.approved().await;
        let (other, at_ms) = (Digest([7; 32]), now_ms());
        let uses = |bound, at_ms| [ApprovalOp::Use { id, bound, at_ms }];
        let changed = Bound {
            arguments: other,
            ..bound()
        };
        desk.refused(session, uses(changed, at_ms)).await;
        let changed = Bound {
            policy: other,
            ..bound()
        };
        desk.refused(session, uses(changed, at_ms)).await;
        let known = desk.rows.approval(id).await.unwrap().unwrap();
        desk.refused(session, uses(bound(), known.expires_ms)).await;

        // Of another session, and of another tenant, who cannot even see it.
        let elsewhere = SessionId::new();
        let append = opening(&desk.rows, elsewhere);
        store.store.journal().append(append).await.unwrap();
        desk.refused(elsewhere, [using(id)]).await;
        let globex = Desk::new(store, "globex").await;
        globex.refused(globex.session, [using(id)]).await;
        globex
            .refused(globex.session, [decide(id, false, "eve")])
            .await;
        assert_eq!(globex.rows.approval(id).await.unwrap(), None);
        assert_eq!(globex.rows.approvals(&EVERYTHING, 0).await.unwrap(), []);

        // Once.
        desk.append(session, [using(id)]).await.unwrap();
        desk.refused(session, [using(id)]).await;
        // Of what was used there is nothing to decide.
        desk.refused(session, [decide(id, false, "bob")]).await;

        // Neither before a decision nor after another one.
        let id = desk.ask(asked(ApprovalId::new())).await;
        desk.refused(session, [using(id)]).await;
        desk.append(session, [decide(id, false, "bob")])
            .await
            .unwrap();
        desk.refused(session, [using(id)]).await;
        desk.refused(session, [decide(id, true, "bob")]).await;
        let id = desk.ask(asked(ApprovalId::new())).await;
        // By the one who asked, unless he may.
        desk.refused(session, [decide(id, true, "alice")]).await;
        let new = NewApproval {
            by_another: false,
            ..asked(ApprovalId::new())
        };
        let own = desk.ask(new).await;
        desk.append(session, [decide(own, true, "alice")])
            .await
            .unwrap();
        // The agent went on without it.
        let (code, at_ms) = ("void".into(), now_ms());
        desk.append(session, [ApprovalOp::Outcome { id, code, at_ms }])
            .await
            .unwrap();
        desk.refused(session, [decide(id, true, "bob")]).await;
        // Too late.
        let new = NewApproval {
            expires_ms: now_ms(),
            ..asked(ApprovalId::new())
        };
        let late = desk.ask(new).await;
        desk.refused(session, [decide(late, true, "bob")]).await;
        // There is one of an id.
        desk.refused(session, [ApprovalOp::Ask(asked(late))]).await;
        let opens = opening(&desk.rows, SessionId::new());
        let opens = opens.approvals([ApprovalOp::Ask(asked(ApprovalId::new()))]);
        let refused = store.store.journal().append(opens).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    })
    .await;
}

/// Two calls of one move: either both may be made or neither is.
#[tokio::test]
async fn a_refused_append_takes_nothing_of_itself_and_nobody_elses_along() {
    on_both(async |store| {
        let desk = Desk::new(store, "acme").await;
        let (good, bad) = (desk.approved().await, ApprovalId::new());
        let others: Vec<_> = (0..20).map(|_| SessionId::new()).collect();
        let journal = store.store.journal();
        let others = others
            .iter()
            .map(|session| journal.append(opening(&desk.rows, *session)));
        let refused = desk.append(desk.session, [using(good), using(bad)]);
        let (refused, others) = tokio::join!(refused, join_all(others));
        assert!(matches!(
            refused,
            Err(StoreError::Conflict { what: "approval" })
        ));
        assert!(others.iter().all(Result::is_ok), "{others:?}");
        assert_eq!(desk.state(good).await, ApprovalState::Approved);
        desk.append(desk.session, [using(good)]).await.unwrap();
        assert!(desk.rows.verify_chain(desk.session).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn of_many_at_once_one_decides_and_one_uses() {
    on_both(async |store| {
        let desk = Desk::new(store, "acme").await;
        let id = desk.ask(asked(ApprovalId::new())).await;
        let deciding = (0..32).map(|n| {
            let by = format!("bob{n}");
            desk.append(desk.session, [decide(id, n % 2 == 0, &by)])
        });
        let decided = join_all(deciding).await;
        let first = decided.iter().position(Result::is_ok).unwrap();
        assert_eq!(decided.iter().filter(|one| one.is_ok()).count(), 1);
        let known = desk.rows.approval(id).await.unwrap().unwrap();
        assert_eq!(known.decided_by, Some(format!("bob{first}")));
        let id = desk.approved().await;
        let used = (0..32).map(|_| desk.append(desk.session, [using(id)]));
        let used = join_all(used).await;
        assert_eq!(used.iter().filter(|one| one.is_ok()).count(), 1);
        assert!(desk.rows.verify_chain(desk.session).await.is_ok());
    })
    .await;
}

/// Two processes on one database, each with many who decide and use.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_decides_and_one_uses() {
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let other = Store::open(&store.config).await.unwrap();
    let desk = Desk::new(&store, "acme").await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(desk.ask(asked(ApprovalId::new())).await);
    }
    // In both orders, so that whoever waited for another would wait for ever.
    let elsewhere = Append::new(desk.rows.id(), desk.session).event(event("approval"));
    let both = |id: ApprovalId, op: fn(ApprovalId, usize) -> ApprovalOp| {
        let (here, there) = (desk.store.store.journal(), other.journal());
        let append = |n| elsewhere.clone().approvals([op(id, n)]);
        join_all((0..4).map(move |n| match n % 2 {
            0 => here.append(append(n)),
            _ => there.append(append(n)),
        }))
    };
    for op in [
        (|id, n| decide(id, true, &format!("bob{n}"))) as fn(ApprovalId, usize) -> ApprovalOp,
        |id, _| using(id),
    ] {
        let (forth, back) = (ids.iter(), ids.iter().rev());
        let (forth, back) = tokio::join!(
            join_all(forth.map(|id| both(*id, op))),
            join_all(back.map(|id| both(*id, op)))
        );
        let mut all = 0;
        for (n, id) in ids.iter().enumerate() {
            let tried = forth[n].iter().chain(&back[ids.len() - 1 - n]);
            let done = tried.clone().filter(|one| one.is_ok()).count();
            // Who lost a place in the chain to the other node is told of the session, not of the approval.
            let refused = tried.filter_map(|one| one.as_ref().err());
            let refused: Vec<_> = refused.collect();
            let told = |error: &&StoreError| matches!(error, StoreError::Conflict { .. });
            assert!(refused.iter().all(told), "{refused:?}");
            assert!(done <= 1, "{id}: {done}");
            all += done;
        }
        assert!(all > 0, "everybody was refused");
    }
    assert!(desk.rows.verify_chain(desk.session).await.is_ok());
    other.close().await;
    store.store.close().await;
}

#[tokio::test]
async fn approvals_are_listed_newest_first_and_withdrawn_with_their_session() {
    on_both(async |store| {
        let (acme, globex) = (
            Desk::new(store, "acme").await,
            Desk::new(store, "globex").await,
        );
        let mut ids = Vec::new();
        for desk in [&acme, &globex, &acme] {
            ids.push(desk.ask(asked(ApprovalId::new())).await);
        }
        let expired = NewApproval {
            expires_ms: 1,
            ..asked(ApprovalId::new())
        };
        let expired = acme.ask(expired).await;
        let operator = store.store.operator();
        let all = async |asked: Asked| {
            let listed = operator.approvals(&asked, now_ms()).await.unwrap();
            listed.iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(all(EVERYTHING).await, [expired, ids[2], ids[1], ids[0]]);
        assert_eq!(all(PENDING).await, [ids[2], ids[1], ids[0]]);
        let page = Asked {
            before: Some(ids[2]),
            limit: 1,
            ..PENDING
        };
        assert_eq!(all(page).await, [ids[1]]);
        let before = Asked {
            within: Some((0, now_ms() - 3_600_000)),
            ..EVERYTHING
        };
        assert_eq!(all(before).await, []);
        let since = Asked {
            within: Some((now_ms() - 3_600_000, i64::MAX)),
            ..EVERYTHING
        };
        assert_eq!(all(since).await.len(), 4);
        // What was decided then was not asked for then.
        let past = NewApproval {
            created_ms: now_ms() - 7_200_000,
            ..asked(ApprovalId::new())
        };
        let past = acme.ask(past).await;
        assert!(!all(since).await.contains(&past));
        acme.append(acme.session, [decide(past, false, "bob")])
            .await
            .unwrap();
        assert!(all(since).await.contains(&past) && all(before).await.contains(&past));
        // Nobody is asked about what could not be done anyway.
        let refused = asked(ApprovalId::new());
        let (refused, op) = (refused.id, ApprovalOp::Refuse(refused, "invalid".into()));
        acme.append(acme.session, [op]).await.unwrap();
        let known = acme.rows.approval(refused).await.unwrap().unwrap();
        assert_eq!(
            (known.standing(0), known.outcome.as_deref()),
            ("refused", Some("invalid"))
        );
        acme.refused(acme.session, [decide(refused, true, "bob")])
            .await;
        acme.refused(acme.session, [using(refused)]).await;
        let own = acme.rows.approvals(&PENDING, now_ms()).await.unwrap();
        assert_eq!(
            own.iter().map(|one| one.id).collect::<Vec<_>>(),
            [ids[2], ids[0]]
        );
        let of_session = acme.rows.approvals_of(acme.session).await.unwrap();
        assert_eq!(of_session.len(), 5);
        let found = operator.tenant_of_approval(ids[1]).await.unwrap();
        assert_eq!(found, Some(globex.rows.id()));

        // What is withdrawn with its session waits for nobody.
        let end = Append::new(acme.rows.id(), acme.session).event(event("end"));
        let end = end.state(SessionState::Cancelled);
        store.store.journal().append(end).await.unwrap();
        assert_eq!(all(PENDING).await, [ids[1]]);
        let known = acme.rows.approval(ids[0]).await.unwrap().unwrap();
        assert_eq!(known.standing(now_ms()), "withdrawn");
    })
    .await;
}

#[tokio::test]
async fn a_digest_is_the_sessions_own_and_goes_with_its_key() {
    on_both(async |store| {
        let (one, two) = (
            Desk::new(store, "acme").await,
            Desk::new(store, "globex").await,
        );
        let digest = async |desk: &Desk<'_>, text: &[u8]| {
            desk.rows.keyed_digest(desk.session, text).await.unwrap()
        };
        let first = digest(&one, b"{}").await;
        assert!(first.is_some_and(|first| first != digest_of(b"{}")));
        assert_eq!(digest(&one, b"{}").await, first);
        assert_ne!(digest(&one, b"[]").await, first);
        assert_ne!(digest(&two, b"{}").await, first);
        let unknown = one.rows.keyed_digest(two.session, b"{}").await.unwrap();
        assert_eq!(unknown, None);
        let end = Append::new(one.rows.id(), one.session).event(event("end"));
        let end = end.state(SessionState::Finished);
        store.store.journal().append(end).await.unwrap();
        one.rows.erase(one.session).await.unwrap();
        assert_eq!(digest(&one, b"{}").await, None);
    })
    .await;
}
