//! Anchors over a real store, on both databases: what is anchored verifies with the public key alone, and whatever is done to it is found.

mod anchors;
mod mutations;
mod retention;

use ambit_anchor::{Anchors, Folder, Signer};
use ambit_audit::{Fault, Report, verify_export};
use ambit_store::{
    Append, Header, NewEvent, NewSession, SessionState, Store, TenantStore, testing::TestStore,
};
use ambit_types::{SessionId, TenantId};
use std::path::Path;

/// The program that an auditor reads is one that can be read.
#[test]
fn the_verifier_has_fewer_than_500_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../audit/src");
    let mut lines = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let code = text.lines().map(str::trim);
        let code = code.take_while(|line| *line != "#[cfg(test)]");
        lines += code
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count();
    }
    assert!((100..500).contains(&lines), "{lines}");
}

/// Runs a test on each database that is there.
async fn on_both(test: impl AsyncFn(&TestStore)) {
    for store in TestStore::both().await.unwrap() {
        test(&store).await;
        store.store.close().await;
    }
}

fn anchors(store: &Store, folder: &Path) -> Anchors {
    let signer = Signer::new("ambit.example", &[7; 32]).unwrap();
    Anchors::new(store.clone(), signer, Box::new(Folder::new(folder)))
}

/// A tenant with so many finished sessions of four events each.
async fn tenant(store: &Store, slug: &str, sessions: usize) -> (TenantStore, Vec<SessionId>) {
    let operator = store.operator();
    let tenant = operator.create_tenant(slug.parse().unwrap(), slug).await;
    let rows = store.tenant(tenant.unwrap().id);
    let mut ids = Vec::new();
    for _ in 0..sessions {
        let session = SessionId::new();
        say(store, &rows, session, true).await;
        ids.push(session);
    }
    (rows, ids)
}

fn event(kind: &'static str) -> NewEvent {
    NewEvent::new(kind, Header::default(), kind.as_bytes().to_vec())
}

async fn say(store: &Store, rows: &TenantStore, session: SessionId, open: bool) {
    let mut append = Append::new(rows.id(), session)
        .events([
            event("request"),
            event("intent"),
            event("outcome"),
            event("end"),
        ])
        .state(SessionState::Finished);
    if open {
        append = append.open(NewSession {
            agent: "assistant".into(),
            principal: "alice".into(),
        });
    }
    store.journal().append(append).await.unwrap();
}

async fn exported(anchors: &Anchors, tenant: TenantId, session: Option<SessionId>) -> String {
    let mut export = anchors.export(tenant, session).await.unwrap();
    let mut text = String::new();
    while let Some(lines) = export.next().await.unwrap() {
        text.push_str(&lines);
    }
    text
}

fn verified(anchors: &Anchors, export: &str) -> Result<Report, Fault> {
    verify_export(export.as_bytes(), &anchors.verifier(), None)
}

fn fault(anchors: &Anchors, export: &str) -> String {
    match verified(anchors, export) {
        Err(fault) => fault.to_string(),
        Ok(report) => panic!("it verifies: {report:?}"),
    }
}
