//! Every way to change what was recorded, one at a time: in the rows of the database, whose owner can compute hashes again, and in the text
//! of an export. Each must be found by the verifier, which has the public key and nothing else. The counts are printed.

use super::{anchors, event, exported, fault, on_both, say, tenant, verified};
use ambit_anchor::{Anchors, Signer};
use ambit_audit::{Envelope, Event, Exported, Line, body_hash};
use ambit_store::{Append, Store, StoreError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt::Write as _;

fn told(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Three sessions, one of them anchored in two steps.
async fn recorded(store: &Store, anchors: &Anchors) -> (ambit_store::TenantStore, String) {
    let (acme, sessions) = tenant(store, "acme", 3).await;
    tenant(store, "globex", 2).await;
    anchors.anchor().await.unwrap();
    say(store, &acme, sessions[1], false).await;
    let export = exported(anchors, acme.id(), None).await;
    assert_eq!(verified(anchors, &export).unwrap().events, 16);
    (acme, export)
}

#[tokio::test]
async fn every_bit_of_an_export_counts() {
    let store = ambit_store::testing::TestStore::sqlite().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let anchors = anchors(&store.store, folder.path());
    let (_, export) = recorded(&store.store, &anchors).await;
    let mut flipped = 0;
    for at in 0..export.len() {
        for bit in 0..8 {
            let mut bytes = export.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let outcome = ambit_audit::verify_export(&bytes[..], &anchors.verifier(), None);
            assert!(outcome.is_err(), "byte {at}, bit {bit}: {outcome:?}");
            flipped += 1;
        }
    }
    told(&format!("{flipped} flipped bits of an export, all found"));
    store.store.close().await;
}

#[tokio::test]
async fn every_line_of_an_export_has_its_place() {
    let store = ambit_store::testing::TestStore::sqlite().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let anchors = anchors(&store.store, folder.path());
    let (_, export) = recorded(&store.store, &anchors).await;
    let lines: Vec<&str> = export.lines().collect();
    let mut counts = [0; 4];
    let found = |lines: &[&str], what: &str| {
        let text = lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n");
        assert!(verified(&anchors, &text).is_err(), "{what}");
    };
    for at in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(at);
        found(&dropped, &format!("line {at} dropped"));
        counts[0] += 1;
        found(&lines[..at], &format!("cut before line {at}"));
        counts[1] += 1;
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        // An empty line of leaves could be there twice; there is none.
        found(&twice, &format!("line {at} twice"));
        counts[2] += 1;
        for other in at + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            found(&swapped, &format!("lines {at} and {other} swapped"));
            counts[3] += 1;
        }
    }
    let [dropped, cut, twice, swapped] = counts;
    told(&format!(
        "{dropped} lines dropped, {cut} times cut, {twice} repeated, {swapped} swapped, all found"
    ));
    store.store.close().await;
}

/// An operator who rewrites history and computes every hash again is found by the anchor.
#[tokio::test]
async fn a_history_that_was_written_again_is_found() {
    let store = ambit_store::testing::TestStore::sqlite().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let anchors = anchors(&store.store, folder.path());
    let (acme, export) = recorded(&store.store, &anchors).await;
    let mut rewritten = 0;
    let mut lines: Vec<Line> = export
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for at in 0..lines.len() {
        let Line::Event(_) = &lines[at] else { continue };
        for change in [
            "kind", "time", "header", "body", "version", "dropped", "inserted",
        ] {
            let mut forged = lines.clone();
            match (&mut forged[at], change) {
                (Line::Event(event), "kind") => event.kind = "allowed".into(),
                (Line::Event(event), "time") => event.time_ms += 1,
                (Line::Event(event), "header") => event.header = "{\"cost_micros\":0}".into(),
                (Line::Event(event), "body") => event.body = STANDARD.encode(b"another"),
                (Line::Event(event), "version") => event.schema_version = 1,
                (Line::Event(_), "dropped") => drop(forged.remove(at)),
                (Line::Event(_), _) => {
                    let again = forged[at].clone();
                    forged.insert(at, again);
                }
                _ => unreachable!(),
            }
            let forged = chained(&acme.id().to_string(), forged);
            let mut text = format!("{}\n", export.lines().next().unwrap());
            for line in &forged {
                writeln!(text, "{}", serde_json::to_string(line).unwrap()).unwrap();
            }
            let found = fault(&anchors, &text);
            assert!(
                ["vouches", "missing", "not what", "not in its partition"]
                    .iter()
                    .any(|words| found.contains(words)),
                "{change} of line {at}: {found}"
            );
            rewritten += 1;
        }
    }
    // Nor do leaves, partitions and the anchor's own text help, without the key.
    let mut head: Exported = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    let forger = Signer::new("ambit.example", &[9; 32]).unwrap();
    let text = anchors.verifier().open(&head.anchor).unwrap().to_owned();
    head.anchor = forger.sign(&text);
    let forged = export.replacen(
        export.lines().next().unwrap(),
        &serde_json::to_string(&head).unwrap(),
        1,
    );
    assert!(fault(&anchors, &forged).contains("signature"));
    lines.clear();
    told(&format!("{rewritten} rewritten histories, all found"));
    store.store.close().await;
}

/// Numbers and hashes made to fit again, from the first event of each session on.
fn chained(tenant: &str, lines: Vec<Line>) -> Vec<Line> {
    let (mut session, mut seq, mut hash) = (String::new(), 0, ambit_audit::Digest::default());
    let again = |line| match line {
        Line::Session(id) => {
            (session, seq, hash) = (id.clone(), 0, Default::default());
            Line::Session(id)
        }
        Line::Event(mut event) => {
            seq += 1;
            event.seq = seq;
            hash = rehashed(tenant, &session, &event, hash);
            event.content_hash = hash;
            Line::Event(event)
        }
        leaves => leaves,
    };
    lines.into_iter().map(again).collect()
}

fn rehashed(
    tenant: &str,
    session: &str,
    event: &Event,
    previous_hash: ambit_audit::Digest,
) -> ambit_audit::Digest {
    let body = STANDARD.decode(&event.body).unwrap();
    Envelope {
        schema_version: event.schema_version,
        tenant,
        session,
        seq: event.seq,
        kind: &event.kind,
        time_ms: event.time_ms,
        header: &event.header,
        previous_hash,
        body_length: body.len() as u64,
        body_hash: body_hash(&body),
    }
    .hash()
}

/// What the database's owner does to rows, whatever hashes he computes again.
#[tokio::test]
async fn whatever_is_done_to_the_rows_is_found() {
    const WRONG: &str = "do not lead to the anchor";
    let tamperings: [(&str, &str); 17] = [
        (
            "UPDATE events SET kind = 'allowed' WHERE seq = 2",
            "not what was recorded",
        ),
        (
            "UPDATE events SET time_ms = time_ms + 1 WHERE seq = 4",
            "not what was recorded",
        ),
        (
            "UPDATE events SET header = '{\"a\":1}' WHERE seq = 3",
            "not what was recorded",
        ),
        (
            "UPDATE events SET body = content_hash WHERE seq = 1",
            "not what was recorded",
        ),
        (
            "UPDATE events SET content_hash = previous_hash WHERE seq = 4",
            "not what was recorded",
        ),
        ("DELETE FROM events WHERE seq = 4", "missing"),
        ("DELETE FROM events WHERE seq = 2", "missing"),
        ("DELETE FROM events", "missing"),
        (
            "DELETE FROM events WHERE session = (SELECT min(session) FROM events)",
            "missing",
        ),
        (
            "UPDATE events SET seq = -seq WHERE seq IN (2, 3); UPDATE events SET seq = 5 + seq WHERE seq < 0",
            "not what was recorded",
        ),
        (
            "UPDATE partitions SET root = (SELECT content_hash FROM events LIMIT 1)",
            WRONG,
        ),
        ("UPDATE partitions SET leaves = leaves - 1", WRONG),
        ("DELETE FROM leaves", "not those of its partition"),
        (
            "UPDATE leaves SET entries = (SELECT entries FROM leaves ORDER BY first, tenant LIMIT 1)",
            "not those of its partition",
        ),
        ("UPDATE partitions SET day = '2020-01-01'", WRONG),
        (
            "UPDATE partitions SET removed_ms = 1, removed_anchor = 1",
            WRONG,
        ),
        ("DELETE FROM partitions; DELETE FROM leaves", "refused"),
    ];
    let mut tampered = 0;
    for (sql, words) in tamperings {
        on_both(async |store| {
            let folder = tempfile::tempdir().unwrap();
            let before = anchors(&store.store, folder.path());
            let (acme, _) = recorded(&store.store, &before).await;
            before.publish().await.unwrap();
            store.tamper(sql).await.unwrap();
            // As a server that starts on what it finds, and is asked at once.
            let after = anchors(&store.store, folder.path());
            let found = match after.export(acme.id(), None).await {
                Ok(mut export) => {
                    let mut text = String::new();
                    while let Some(lines) = export.next().await.unwrap() {
                        text.push_str(&lines);
                    }
                    match verified(&after, &text) {
                        Err(fault) => fault.to_string(),
                        Ok(report) => panic!("{sql}: it verifies: {report:?}"),
                    }
                }
                Err(error) => format!("refused: {error}"),
            };
            assert!(found.contains(words), "{}: {sql}: {found}", store.database);
            // Nor is anything signed on top of trees that are not those that were signed.
            if words != "missing"
                && words != "not what was recorded"
                && !sql.contains("leaves SET")
                && !sql.starts_with("DELETE FROM leaves")
            {
                say(&store.store, &acme, ambit_types::SessionId::new(), true).await;
                let refused = after.anchor().await;
                assert!(
                    matches!(refused, Err(StoreError::Tampered(_))),
                    "{sql}: {refused:?}"
                );
                assert!(after.status().tampered && after.status().waiting_since_ms.is_some());
            }
        })
        .await;
        tampered += 1;
    }
    told(&format!(
        "{tampered} tamperings with rows on each database, all found"
    ));
}

/// A tail that was cut off before any anchor saw it leaves no trace but in what the client was told; from the next anchor on it does.
#[tokio::test]
async fn a_tail_is_safe_from_the_next_anchor_on() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, sessions) = tenant(&store.store, "acme", 1).await;
        anchors.anchor().await.unwrap();
        let append = Append::new(acme.id(), sessions[0]).event(event("late"));
        store.store.journal().append(append).await.unwrap();
        anchors.anchor().await.unwrap();
        store
            .tamper("DELETE FROM events WHERE seq = 5")
            .await
            .unwrap();
        let export = exported(&anchors, acme.id(), None).await;
        assert!(fault(&anchors, &export).contains("event 5"));
    })
    .await;
}

/// An operator who has the signing key can sign another history. Who kept the first line of an earlier export finds it.
#[tokio::test]
async fn a_history_that_was_signed_again_is_found_by_who_kept_a_line() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let before = anchors(&store.store, folder.path());
        let (acme, earlier) = recorded(&store.store, &before).await;
        let kept = earlier.lines().next().unwrap();
        let goes_on = |export: &str| {
            let key = before.verifier();
            ambit_audit::verify_export(export.as_bytes(), &key, Some(kept)).map_err(|fault| fault.to_string())
        };
        assert_eq!(goes_on(&earlier).unwrap().sessions, 3);
        let (session, other) = (ambit_types::SessionId::new(), acme.sessions(None, 1).await.unwrap()[0].id);
        say(&store.store, &acme, session, true).await;
        assert_eq!(goes_on(&exported(&before, acme.id(), None).await).unwrap().sessions, 4);
        // One session alone goes on from there too.
        assert_eq!(goes_on(&exported(&before, acme.id(), Some(session)).await).unwrap().sessions, 1);

        // All of it anew, without one session, and then more leaves than there were.
        let wipe = "DELETE FROM partitions; DELETE FROM leaves; DELETE FROM anchors";
        store.tamper(&format!("{wipe}; DELETE FROM events WHERE session = '{other}'; DELETE FROM sessions WHERE session = '{other}'")).await.unwrap();
        let after = anchors(&store.store, folder.path());
        let fewer = exported(&after, acme.id(), None).await;
        assert_eq!(verified(&after, &fewer).unwrap().sessions, 3, "whoever knows nothing else");
        assert!(goes_on(&fewer).unwrap_err().contains("does not go on"));
        for _ in 0..5 {
            say(&store.store, &acme, ambit_types::SessionId::new(), true).await;
        }
        let more = exported(&after, acme.id(), None).await;
        assert_eq!(verified(&after, &more).unwrap().sessions, 8);
        assert!(goes_on(&more).unwrap_err().contains("is not what it was"));
    })
    .await;
}

/// A session whose events were written again, all hashes computed anew, and which then went on: its earlier leaf gives it away.
#[tokio::test]
async fn a_fork_that_goes_on_is_found() {
    for cut in [false, true] {
        on_both(async |store| {
            let folder = tempfile::tempdir().unwrap();
            let before = anchors(&store.store, folder.path());
            let (acme, sessions) = tenant(&store.store, "acme", 1).await;
            before.anchor().await.unwrap();
            let (tenant, id) = (acme.id().to_string(), sessions[0]);
            let mut hash = ambit_audit::Digest::default();
            let mut sql = String::new();
            for mut event in acme.exported(id, 0, 10).await.unwrap() {
                if cut && event.seq > 2 {
                    write!(sql, "DELETE FROM events WHERE seq = {};", event.seq).unwrap();
                    continue;
                }
                event.kind = if cut { event.kind } else { "forged".into() };
                let previous = hash;
                hash = rehashed(&tenant, &id.to_string(), &event, previous);
                let hex = |digest: ambit_audit::Digest| match store.database {
                    "sqlite" => format!("x'{digest}'"),
                    _ => format!("'\\x{digest}'"),
                };
                write!(
                    sql,
                    "UPDATE events SET kind = '{}', content_hash = {}, previous_hash = {} WHERE seq = {};",
                    event.kind, hex(hash), hex(previous), event.seq
                )
                .unwrap();
            }
            store.tamper(&sql).await.unwrap();
            // A process that knows nothing of it goes on with the session.
            let other = Store::open(&store.config).await.unwrap();
            let after = anchors(&other, folder.path());
            for _ in 0..if cut { 1 } else { 2 } {
                say(&other, &acme, id, false).await;
            }
            let export = exported(&after, acme.id(), None).await;
            let found = fault(&after, &export);
            assert!(found.contains("vouches"), "{}: {found}", store.database);
            other.close().await;
        })
        .await;
    }
}

/// Heads that were taken in the wrong order, as by two nodes, vouch for the same events.
#[tokio::test]
async fn leaves_may_come_in_any_order() {
    on_both(async |store| {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&store.store, folder.path());
        let (acme, sessions) = tenant(&store.store, "acme", 1).await;
        let older = store.store.journal().take_heads();
        say(&store.store, &acme, sessions[0], false).await;
        anchors.anchor().await.unwrap();
        store.store.journal().give_back_heads(older);
        anchors.anchor().await.unwrap();
        let export = exported(&anchors, acme.id(), None).await;
        let report = verified(&anchors, &export).unwrap();
        assert_eq!((report.sessions, report.events), (1, 8));
    })
    .await;
}
