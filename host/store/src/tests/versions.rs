//! Journals of earlier versions. What their programs wrote is written here by hand and not by what writes today, so that it stays what it was:
//! it is read, proven, and found out when it is changed.

use super::{on_both, tenant};
use crate::{
    Append, Digest, Event, Header, MasterKey, NewEvent, SessionState, StoreError, TenantStore,
    Usage, day_of, testing::TestStore,
};
use ambit_audit::{
    Anchor, Exported, FORMAT, Fault, Frontier, Line, Partition, Path, SessionLeaf, Verifier,
    tenant_leaf, verify_export,
};
use ambit_types::SessionId;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, RandomizedNonceKey},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// 2026-11-21T12:00:00Z.
const NOON: i64 = 1_795_262_400_000;

/// Kinds and bodies of a chat, which both versions meant alike.
const CHAT: [(&str, &[u8]); 5] = [
    (
        "request",
        br#"{"messages":[{"role":"user","content":"Where do herons stand?"}]}"#,
    ),
    ("intent", br#"{"messages":1,"passages":0,"tools":[]}"#),
    ("outcome", br#"{"text":"In the reeds.","tool_calls":[]}"#),
    ("checkpoint", b"\0\xffan agent's own"),
    ("end", b""),
];

/// The event that cost something.
const OUTCOME: usize = 2;

/// Version 1 wrote a header's fields as its program declared them.
const DECLARED: [&str; 5] = [
    r#"{"facts":{"agent":"assistant"}}"#,
    r#"{"facts":{"effect":"model","model":"openai/mock-1"}}"#,
    r#"{"usage":{"input_tokens":7,"output_tokens":3},"facts":{"effect":"model","finish":"stop"}}"#,
    r#"{"facts":{"move":"answer","step":2}}"#,
    r#"{"facts":{"reason":"answered"}}"#,
];

/// Version 2 in canonical form, and with what a call cost.
const CANONICAL: [&str; 5] = [
    DECLARED[0],
    DECLARED[1],
    r#"{"cost_nanos":1200,"facts":{"effect":"model","finish":"stop"},"usage":{"input_tokens":7,"output_tokens":3}}"#,
    DECLARED[3],
    DECLARED[4],
];

/// AES-256-GCM as version 2 stored it: nonce, ciphertext, tag.
fn sealed(key: &[u8; 32], of: &str, text: &[u8]) -> Vec<u8> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).unwrap();
    let mut sealed = text.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(of.as_bytes()), &mut sealed);
    [&nonce.unwrap().as_ref()[..], &sealed].concat()
}

fn master_key(store: &TestStore) -> [u8; 32] {
    let text = match &store.config.master_key {
        MasterKey::Given(secret) => secret.expose().to_owned(),
        MasterKey::File(path) => std::fs::read_to_string(path).unwrap(),
    };
    hex::decode(text.trim()).unwrap().try_into().unwrap()
}

/// Bytes as SQL says them.
fn literal(store: &TestStore, bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    match store.database {
        "sqlite" => format!("X'{digits}'"),
        _ => format!("'\\x{digits}'"),
    }
}

/// A session of which a program of that version had written so many events.
async fn written(store: &TestStore, rows: &TenantStore, version: u32, events: usize) -> SessionId {
    let (tenant, session) = (rows.id(), SessionId::new());
    let (tenant_key, session_key) = ([1; 32], [2; 32]);
    let headers = if version == 1 { DECLARED } else { CANONICAL };
    let mut sql = String::new();
    let mut head = [0; 32];
    for (n, ((kind, said), header)) in CHAT.iter().zip(headers).take(events).enumerate() {
        let (seq, time) = (n as i64 + 1, NOON + n as i64);
        let body = match version {
            2 if !said.is_empty() => {
                let of = format!("ambit-body-2\n{tenant}\n{session}\n{kind}");
                sealed(&session_key, &of, said)
            }
            _ => said.to_vec(),
        };
        let mut hashed = b"ambit-event-1".to_vec();
        let text = |hashed: &mut Vec<u8>, text: &str| {
            hashed.extend((text.len() as u32).to_be_bytes());
            hashed.extend(text.bytes());
        };
        hashed.extend(version.to_be_bytes());
        text(&mut hashed, &tenant.to_string());
        text(&mut hashed, &session.to_string());
        hashed.extend(seq.to_be_bytes());
        text(&mut hashed, kind);
        hashed.extend(time.to_be_bytes());
        text(&mut hashed, header);
        hashed.extend(head);
        hashed.extend((body.len() as u64).to_be_bytes());
        hashed.extend(Sha256::digest(&body));
        let previous = std::mem::replace(&mut head, Sha256::digest(hashed).into());
        let [body, hash, previous] =
            [&body[..], &head, &previous].map(|bytes| literal(store, bytes));
        sql += &format!(
            "INSERT INTO events (tenant, session, seq, schema_version, kind, time_ms, header, body, content_hash, previous_hash) \
             VALUES ('{tenant}', '{session}', {seq}, {version}, '{kind}', {time}, '{header}', {body}, {hash}, {previous}); "
        );
    }
    let mut key = "NULL".to_owned();
    if version == 2 {
        let of = format!("ambit-tenant-key-1\n{tenant}");
        let wrapped = literal(store, &sealed(&master_key(store), &of, &tenant_key));
        sql += &format!(
            "INSERT INTO tenant_keys (tenant, wrapped, created_ms) VALUES ('{tenant}', {wrapped}, {NOON}) ON CONFLICT (tenant) DO NOTHING; "
        );
        let of = format!("ambit-session-key-1\n{tenant}\n{session}");
        key = literal(store, &sealed(&tenant_key, &of, &session_key));
    }
    let whole = events == CHAT.len();
    let (state, head) = (
        if whole { "finished" } else { "open" },
        literal(store, &head),
    );
    sql += &format!(
        "INSERT INTO sessions (tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, sealed_key) \
         VALUES ('{tenant}', '{session}', 'assistant', 'alice', '{state}', {NOON}, {NOON}, {events}, {head}, {key})"
    );
    store.tamper(&sql).await.unwrap();
    session
}

/// What somebody finds who has nothing but an export and the public key, where an anchor vouches for the session as far as this head.
async fn audited(rows: &TenantStore, session: SessionId, seq: i64, hash: Digest) -> Option<Fault> {
    const NAME: &str = "ambit.example";
    let signer = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let verifier = Verifier::new(NAME, signer.public_key().as_ref()).unwrap();
    let leaf = SessionLeaf {
        session: session.to_string(),
        seq,
        hash,
    };
    let day = day_of(session).unwrap().to_string();
    let partition = Partition {
        day: day.clone(),
        leaves: 1,
        root: Frontier::from_iter([leaf.hash()]).root(),
        removed: false,
    };
    let tenant = rows.id().to_string();
    let days = Frontier::from_iter([partition.hash()]);
    let text = Anchor {
        number: 1,
        root: Frontier::from_iter([tenant_leaf(&tenant, days.root())]).root(),
        time_ms: NOON,
        tenants: 1,
        previous: Digest::default(),
    }
    .text(NAME);
    let signature = [&verifier.id[..], signer.sign(text.as_bytes()).as_ref()].concat();
    let head = Exported {
        format: FORMAT.to_owned(),
        tenant,
        anchor: format!("{text}\n— {NAME} {}\n", STANDARD.encode(signature)),
        partitions: vec![partition],
        path: Path {
            index: 0,
            size: 1,
            hashes: Vec::new(),
        },
        complete: true,
    };
    let leaves = Line::Leaves {
        day,
        leaves: vec![leaf],
    };
    let mut export = vec![serde_json::to_string(&head).unwrap()];
    let events = rows.exported(session, 0, 10).await.unwrap();
    let lines = [leaves, Line::Session(session.to_string())];
    let lines = lines.into_iter().chain(events.into_iter().map(Line::Event));
    export.extend(lines.map(|line| serde_json::to_string(&line).unwrap()));
    match verify_export(export.join("\n").as_bytes(), &verifier, None) {
        Ok(report) => {
            assert_eq!((report.sessions, report.complete), (1, true));
            None
        }
        Err(fault) => Some(fault),
    }
}

/// That the chain holds, on the spot and offline: its last event.
async fn holds(rows: &TenantStore, session: SessionId) -> i64 {
    let chain = rows.verify_chain(session).await.unwrap();
    let fault = audited(rows, session, chain.events, chain.head).await;
    assert_eq!(fault, None);
    chain.events
}

fn said(event: &Event) -> (&str, Option<&[u8]>) {
    (&event.kind, event.body.as_deref())
}

#[tokio::test]
async fn what_earlier_versions_wrote_is_read_and_proven() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        for version in [1, 2] {
            let session = written(store, &acme, version, CHAT.len()).await;
            assert_eq!(holds(&acme, session).await, 5);
            let known = acme.session(session).await.unwrap().unwrap();
            assert_eq!(
                (known.state, known.head_seq, known.durable, known.erased_ms),
                (SessionState::Finished, 5, false, None)
            );

            let events = acme.events(session, 0, 10).await.unwrap();
            assert_eq!(events.len(), CHAT.len());
            for (n, (event, (kind, body))) in (0..).zip(events.iter().zip(CHAT)) {
                assert_eq!(said(event), (kind, Some(body)), "version {version}");
                assert_eq!(
                    (event.seq, event.schema_version, event.time_ms),
                    (n + 1, i64::from(version), NOON + n)
                );
            }
            let outcome = &events[OUTCOME].header;
            let usage = Usage {
                input_tokens: 7,
                output_tokens: 3,
                ..Usage::default()
            };
            assert_eq!(outcome.usage, Some(usage));
            let cost = outcome.cost.map(|cost| cost.nanos());
            assert_eq!(cost, (version == 2).then_some(1200));
            let facts = json!({ "effect": "model", "finish": "stop" });
            assert_eq!(json!(outcome.facts), facts);

            // However it is asked for.
            let first = acme.first(session, "request").await.unwrap();
            assert_eq!(first.as_ref(), Some(&events[0]));
            let latest = acme.latest(session, "checkpoint").await.unwrap();
            assert_eq!(latest.as_ref(), Some(&events[3]));
            assert_eq!(acme.events(session, 3, 1).await.unwrap(), &events[3..4]);
            let facts = acme.event_facts(session, 0, 10).await.unwrap();
            assert_eq!(facts[OUTCOME].header, *outcome);

            // What was written in clear is in clear, and what was sealed is not.
            let stored = &acme.stored(session, 0, 1).await.unwrap()[0].body;
            let in_clear = stored.windows(6).any(|part| part == b"herons");
            assert_eq!(in_clear, version == 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_byte_changed_in_an_earlier_versions_event_is_found() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        for version in [1, 2] {
            let session = written(store, &acme, version, CHAT.len()).await;
            let head = acme.verify_chain(session).await.unwrap().head;
            let set = async |what: String| {
                let sql =
                    format!("UPDATE events SET {what} WHERE session = '{session}' AND seq = 3");
                store.tamper(&sql).await.unwrap();
            };
            let found = async |what: &str| {
                let outcome = acme.verify_chain(session).await;
                assert!(
                    matches!(outcome, Err(StoreError::BrokenChain { seq: 3, .. })),
                    "version {version}: {what}: {outcome:?}"
                );
                let fault = audited(&acme, session, 5, head).await;
                let told = fault.map_or_else(String::new, |fault| fault.to_string());
                assert!(
                    told.contains("event 3 of") && told.ends_with("is not what was recorded"),
                    "version {version}: {what}: {told}"
                );
            };
            let body = acme
                .stored(session, OUTCOME as i64, 1)
                .await
                .unwrap()
                .remove(0)
                .body;
            for at in [0, body.len() / 2, body.len() - 1] {
                let mut changed = body.clone();
                changed[at] ^= 1;
                set(format!("body = {}", literal(store, &changed))).await;
                found(&format!("byte {at} of the body")).await;
            }
            set(format!("body = {}", literal(store, &body))).await;
            assert_eq!(holds(&acme, session).await, 5, "it is as it was");

            // The header is hashed as it stands: the same said in another way is another text.
            let [header, other] = match version {
                1 => [DECLARED, CANONICAL],
                _ => [CANONICAL, DECLARED],
            }
            .map(|headers| headers[OUTCOME]);
            let changes = [
                (
                    format!("header = '{}'", header.replace('7', "6")),
                    format!("header = '{header}'"),
                ),
                (
                    format!("header = '{other}'"),
                    format!("header = '{header}'"),
                ),
                ("kind = 'outcomf'".to_owned(), "kind = 'outcome'".to_owned()),
                (
                    "time_ms = time_ms + 1".to_owned(),
                    "time_ms = time_ms - 1".to_owned(),
                ),
                // Nothing passes for what another version wrote.
                (
                    format!("schema_version = {}", 3 - version),
                    format!("schema_version = {version}"),
                ),
                (
                    "schema_version = 3".to_owned(),
                    format!("schema_version = {version}"),
                ),
            ];
            for (change, back) in changes {
                set(change.clone()).await;
                found(&change).await;
                set(back).await;
                assert_eq!(holds(&acme, session).await, 5, "{change}: it is as it was");
            }
        }
    })
    .await;
}

/// What an earlier program left open is ended by this one: one chain, of two versions.
#[tokio::test]
async fn an_earlier_versions_journal_goes_on_in_this_one() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        for version in [1, 2] {
            let session = written(store, &acme, version, 2).await;
            let end = NewEvent::new("end", Header::default(), Vec::new());
            let end = Append::new(acme.id(), session).event(end);
            let end = end.after(2).state(SessionState::Interrupted);
            let end = store.store.journal().append(end).await.unwrap();
            assert_eq!((end.first_seq, holds(&acme, session).await), (3, 3));
            let events = acme.events(session, 0, 10).await.unwrap();
            let versions = events.iter().map(|event| event.schema_version);
            let version = i64::from(version);
            assert!(versions.eq([version, version, crate::SCHEMA_VERSION]));
            assert_eq!(events[2].previous_hash, events[1].content_hash);
            let read: Vec<_> = events.iter().map(said).collect();
            assert_eq!(
                read,
                [
                    (CHAT[0].0, Some(CHAT[0].1)),
                    (CHAT[1].0, Some(CHAT[1].1)),
                    ("end", Some(&b""[..])),
                ]
            );
        }
    })
    .await;
}

/// The content of version 2 goes with its key, and its chain stays proven.
#[tokio::test]
async fn what_version_2_sealed_can_be_erased() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let session = written(store, &acme, 2, CHAT.len()).await;
        assert!(acme.erase(session).await.unwrap());
        let events = acme.events(session, 0, 10).await.unwrap();
        let (end, rest) = events.split_last().unwrap();
        assert!(rest.iter().all(|event| event.body.is_none()));
        assert_eq!(end.body.as_deref(), Some(&b""[..]), "it never had one");
        assert_eq!(holds(&acme, session).await, 5);
    })
    .await;
}
