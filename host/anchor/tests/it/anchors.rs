//! Making anchors, publishing them, and exports that lead up to them.

use super::{anchors, event, exported, fault, on_both, say, tenant, verified};
use ambit_anchor::{Answer, Folder, Place, PlaceError, PublishError, Signer};
use ambit_audit::{Anchor, follow};
use ambit_store::{Append, NewSession, SessionState, Store};
use ambit_types::SessionId;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

fn notes(folder: &std::path::Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let read = |file| std::fs::read_to_string(file).unwrap();
    files.into_iter().map(read).collect()
}

#[tokio::test]
async fn a_tenants_export_verifies_without_the_others() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, sessions) = tenant(&store.store, "acme", 30).await;
        let (globex, _) = tenant(&store.store, "globex", 3).await;
        assert_eq!(anchors.anchor().await.unwrap().unwrap().number, 1);
        assert_eq!(anchors.anchor().await.unwrap(), None, "nothing went on");
        say(&store.store, &acme, sessions[4], false).await;
        let (initech, _) = tenant(&store.store, "initech", 1).await;

        // An export takes what went on until it was asked for.
        let export = exported(&anchors, acme.id(), None).await;
        let report = verified(&anchors, &export).unwrap();
        assert_eq!(
            (report.anchor, report.sessions, report.events),
            (2, 30, 124)
        );
        assert_eq!((report.removed, report.complete), (0, true));
        for other in [&globex, &initech] {
            assert!(!export.contains(&other.id().to_string()));
        }
        assert!(!export.contains("outcome\\"), "bodies are sealed");

        // One session, as it stands now; what is said in it later is the next anchor's.
        say(&store.store, &acme, sessions[7], false).await;
        let mut export = anchors.export(acme.id(), Some(sessions[7])).await.unwrap();
        say(&store.store, &acme, sessions[7], false).await;
        let mut text = String::new();
        while let Some(lines) = export.next().await.unwrap() {
            text.push_str(&lines);
        }
        let report = verified(&anchors, &text).unwrap();
        assert_eq!(
            (report.anchor, report.sessions, report.complete),
            (3, 1, false)
        );
        assert_eq!(report.events, 8);

        // Another key, another tenant's session, one that is not there.
        let other = Signer::new("ambit.example", &[8; 32]).unwrap();
        let other = ambit_audit::verify_export(text.as_bytes(), other.verifier(), None);
        assert!(other.unwrap_err().to_string().contains("signature"));
        for (rows, session) in [(&globex, sessions[0]), (&acme, SessionId::new())] {
            let outcome = anchors.export(rows.id(), Some(session)).await;
            assert!(matches!(
                outcome,
                Err(ambit_store::StoreError::NotFound { .. })
            ));
        }

        anchors.publish().await.unwrap();
        let notes = notes(folder.path());
        let last = follow(notes.iter().map(String::as_str), &anchors.verifier());
        assert_eq!(last.unwrap().unwrap().number, 4);
    })
    .await;
}

/// Tokens of content that is gone stay gone; the chain over what was sealed stays.
#[tokio::test]
async fn what_was_erased_still_verifies() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, sessions) = tenant(&store.store, "acme", 3).await;
        let before = exported(&anchors, acme.id(), None).await;
        acme.erase(sessions[1]).await.unwrap();
        let after = exported(&anchors, acme.id(), None).await;
        assert_eq!(verified(&anchors, &after), verified(&anchors, &before));
    })
    .await;
}

/// A session of many events and leaves, in several pieces.
#[tokio::test]
async fn long_sessions_and_many_of_them_are_exported_whole() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, sessions) = tenant(&store.store, "acme", 1).await;
        let journal = store.store.journal();
        for _ in 0..6 {
            let events = (0..100).map(|_| event("more"));
            let append = Append::new(acme.id(), sessions[0]).events(events);
            journal.append(append).await.unwrap();
            anchors.anchor().await.unwrap();
        }
        let open = |session| {
            let opened = NewSession {
                agent: "assistant".into(),
                principal: "alice".into(),
            };
            let append = Append::new(acme.id(), session).open(opened);
            journal.append(append.event(event("request")))
        };
        let opened = (0..9000).map(|_| open(SessionId::new()));
        for outcome in futures::future::join_all(opened).await {
            outcome.unwrap();
        }
        let export = exported(&anchors, acme.id(), None).await;
        let report = verified(&anchors, &export).unwrap();
        assert_eq!((report.sessions, report.events), (9001, 9604));
    })
    .await;
}

/// What a killed process had written and not anchored is the next one's; what an open session says later is never taken back.
#[tokio::test]
async fn what_was_missed_is_anchored_after_a_restart() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let (acme, sessions) = tenant(&store.store, "acme", 5).await;
        let first = anchors(&store.store, folder.path());
        assert!(
            first.anchor().await.unwrap().is_some(),
            "from before anchors"
        );
        let journal = store.store.journal();
        say(&store.store, &acme, sessions[0], false).await;
        let suspended = SessionId::new();
        let opened = NewSession {
            agent: "assistant".into(),
            principal: "alice".into(),
        };
        let append = Append::new(acme.id(), suspended).open(opened);
        let append = append
            .event(event("request"))
            .state(SessionState::Suspended);
        journal.append(append).await.unwrap();
        drop(first);

        let second = anchors(&store.store, folder.path());
        let export = exported(&second, acme.id(), None).await;
        let report = verified(&second, &export).unwrap();
        assert_eq!((report.anchor, report.sessions, report.events), (2, 6, 25));

        let append = Append::new(acme.id(), suspended).event(event("message"));
        journal.append(append).await.unwrap();
        assert!(second.anchor().await.unwrap().is_some());
        let third = anchors(&store.store, folder.path());
        assert_eq!(third.anchor().await.unwrap(), None, "nothing was missed");
        let export = exported(&third, acme.id(), None).await;
        assert_eq!(verified(&third, &export).unwrap().events, 26);
    })
    .await;
}

/// Nodes on one database make one chain, whoever is first.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_anchor_together() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let other = Store::open(&store.config).await.unwrap();
        let nodes = [
            anchors(&store.store, folder.path()),
            anchors(&other, folder.path()),
        ];
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        for node in &nodes {
            node.anchor().await.unwrap();
        }
        let work = [&store.store, &other].map(|database| {
            let acme = acme.clone();
            async move {
                for _ in 0..40 {
                    say(database, &acme, SessionId::new(), true).await;
                }
            }
        });
        let anchor = nodes.each_ref().map(|node| async move {
            for _ in 0..20 {
                node.round().await.unwrap();
            }
        });
        futures::join!(
            futures::future::join_all(work),
            futures::future::join_all(anchor)
        );
        // Each anchors what was written through it.
        for node in &nodes {
            node.round().await.unwrap();
        }
        for node in &nodes {
            let export = exported(node, acme.id(), None).await;
            assert_eq!(verified(node, &export).unwrap().sessions, 81);
        }
        let notes = notes(folder.path());
        let last = follow(notes.iter().map(String::as_str), &nodes[0].verifier());
        assert!(last.unwrap().unwrap().number > 1);
        other.close().await;
    })
    .await;
}

/// An anchor store that is away at times, or does not answer at all.
#[derive(Debug)]
struct Away {
    folder: Folder,
    away: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
}

impl Place for Away {
    fn put<'a>(&'a self, number: i64, note: &'a str) -> Answer<'a, ()> {
        if self.silent.load(Relaxed) {
            return Box::pin(std::future::pending());
        }
        if self.away.load(Relaxed) {
            return Box::pin(async { Err(PlaceError::Unavailable("away".into())) });
        }
        self.folder.put(number, note)
    }

    fn get(&self, number: i64) -> Answer<'_, Option<String>> {
        self.folder.get(number)
    }
}

#[tokio::test]
async fn an_anchor_store_that_is_away_holds_up_nothing() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let away = Arc::new(AtomicBool::new(true));
        let silent = Arc::new(AtomicBool::new(false));
        let place = Away {
            folder: Folder::new(folder.path()),
            away: away.clone(),
            silent: silent.clone(),
        };
        let signer = Signer::new("ambit.example", &[7; 32]).unwrap();
        let anchors = ambit_anchor::Anchors::new(store.store.clone(), signer, Box::new(place));
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        for _ in 0..3 {
            assert!(anchors.round().await.is_err());
            say(&store.store, &acme, SessionId::new(), true).await;
        }
        let status = anchors.status();
        assert_eq!(
            (status.last, status.unpublished, status.taken),
            (3, 3, false)
        );
        assert!(status.waiting_since_ms.is_some_and(|time| time > 0));
        let export = exported(&anchors, acme.id(), None).await;
        assert_eq!(verified(&anchors, &export).unwrap().sessions, 4);
        // One that hangs holds up neither whoever asks nor the anchors themselves.
        silent.store(true, Relaxed);
        assert!(
            !timeout(Duration::from_secs(8), anchors.publish_soon())
                .await
                .unwrap()
        );
        assert_eq!(
            exported(&anchors, acme.id(), None).await.lines().count(),
            export.lines().count()
        );
        silent.store(false, Relaxed);
        away.store(false, Relaxed);
        anchors.round().await.unwrap();
        let status = anchors.status();
        assert_eq!((status.unpublished, status.waiting_since_ms), (0, None));
        assert_eq!(notes(folder.path()).len(), 4);
    })
    .await;
}

/// A database that was put back signs again what it signed before, otherwise: the anchor store remembers.
#[tokio::test]
async fn a_database_that_was_put_back_is_noticed() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let before = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        before.round().await.unwrap();
        let wipe = "DELETE FROM anchors; DELETE FROM partitions; DELETE FROM leaves";
        store.tamper(wipe).await.unwrap();
        let after = anchors(&store.store, folder.path());
        say(&store.store, &acme, SessionId::new(), true).await;
        after.anchor().await.unwrap();
        let published = after.publish().await;
        let taken = matches!(published, Err(PublishError::Place(PlaceError::Taken(1))));
        assert!(taken && after.status().taken, "{published:?}");
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_older_anchor() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let first = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        let note = first.anchor().await.unwrap().unwrap().note;
        let ahead = Anchor {
            time_ms: 9_000_000_000_000,
            ..Anchor::open(&note, &first.verifier()).unwrap()
        };
        let signer = Signer::new("ambit.example", &[7; 32]).unwrap();
        let ahead = signer.anchor(&ahead);
        store
            .tamper(&format!("UPDATE anchors SET note = '{ahead}'"))
            .await
            .unwrap();
        let second = anchors(&store.store, folder.path());
        say(&store.store, &acme, SessionId::new(), true).await;
        second.round().await.unwrap();
        let notes = notes(folder.path());
        follow(notes.iter().map(String::as_str), &second.verifier()).unwrap();
    })
    .await;
}

/// Anchors come by themselves: every interval, and sooner where much is to be anchored.
/// Killed while its clock was two days behind; the next process finds it put right.
#[tokio::test]
async fn what_was_written_while_the_clock_was_behind_is_not_missed() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let first = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        first.round().await.unwrap();
        let unseen = SessionId::new();
        say(&store.store, &acme, unseen, true).await;
        // Who is killed forgets what it had to anchor.
        drop(store.store.journal().take_heads());
        for (table, column) in [("anchors", "published_ms"), ("sessions", "updated_ms")] {
            let behind = format!("UPDATE {table} SET {column} = {column} - 2 * 24 * 3600 * 1000");
            store.tamper(&behind).await.unwrap();
        }
        let second = anchors(&store.store, folder.path());
        let export = exported(&second, acme.id(), None).await;
        assert_eq!(verified(&second, &export).unwrap().sessions, 2);
    })
    .await;
}

#[tokio::test]
async fn anchors_come_by_themselves() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        let anchored = async |at_least| {
            while anchors.status().last < at_least {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = anchors.run(Duration::from_millis(20), NonZeroU32::MAX) => unreachable!(),
            done = timeout(Duration::from_secs(30), anchored(1)) => done.unwrap(),
        }
        // An interval of hours, and many events, of however few sessions.
        let journal = store.store.journal();
        let open = |session| {
            let opened = NewSession {
                agent: "assistant".into(),
                principal: "alice".into(),
            };
            let append = Append::new(acme.id(), session).open(opened);
            journal.append(append.events((0..100).map(|_| event("request"))))
        };
        let hours = Duration::from_secs(36_000);
        let many = NonZeroU32::new(300).unwrap();
        let written = async |sessions| {
            let opened = (0..sessions).map(|_| open(SessionId::new()));
            futures::future::join_all(opened).await;
        };
        let waits = async {
            written(2).await;
            timeout(Duration::from_millis(200), anchored(2)).await
        };
        tokio::select! {
            () = anchors.run(hours, many) => unreachable!(),
            early = waits => assert!(early.is_err(), "not many yet"),
        }
        let comes = async {
            written(1).await;
            anchored(2).await;
        };
        tokio::select! {
            () = anchors.run(hours, many) => unreachable!(),
            done = timeout(Duration::from_secs(60), comes) => done.unwrap(),
        }
    })
    .await;
}

#[tokio::test]
async fn an_export_of_nothing_is_refused_in_words() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 0).await;
        let outcome = anchors.export(acme.id(), None).await;
        assert!(
            matches!(outcome, Err(ambit_store::StoreError::NotFound { .. })),
            "{outcome:?}"
        );
        assert_eq!(fault(&anchors, ""), "the export is empty");
    })
    .await;
}

/// Whoever asked for an anchor may be gone before it is made: what it would have taken is the next one's.
#[tokio::test]
async fn an_anchor_that_was_given_up_loses_nothing() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, _) = tenant(&store.store, "acme", 1).await;
        anchors.anchor().await.unwrap();
        for polls in 0..20 {
            say(&store.store, &acme, SessionId::new(), true).await;
            let mut given_up = Box::pin(anchors.anchor());
            for _ in 0..polls {
                if futures::poll!(given_up.as_mut()).is_ready() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        let export = exported(&anchors, acme.id(), None).await;
        assert_eq!(verified(&anchors, &export).unwrap().sessions, 21);
    })
    .await;
}
