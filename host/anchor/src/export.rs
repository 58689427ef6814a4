//! A tenant's journal as JSON lines that verify without the database: [`ambit_audit::Exported`] has the format.

use crate::{Anchors, anchorer::tenant_hash, tree::Tree};
use ambit_audit::{Anchor, Exported, FORMAT, Frontier, Line, Partition, SessionLeaf};
use ambit_store::{Day, Result, StoreError, TenantStore, day_of};
use ambit_types::{SessionId, TenantId};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Leaves in a line, events in a piece.
const LEAVES: usize = 1000;
const EVENTS: u32 = 256;

/// How often the journal may go on between an anchor and reading what it vouches for.
const TRIES: u32 = 8;

/// An export on its way, piece by piece.
#[derive(Debug)]
pub struct Export {
    rows: TenantStore,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
enum Step {
    Head(Box<Exported>),
    Leaves(Day, Vec<SessionLeaf>),
    /// Its id, and its highest leaf.
    Session(String, i64),
    /// From after the first number to the second.
    Events(SessionId, i64, i64),
}

impl Anchors {
    /// Everything of a tenant, or one session of it, as of a new anchor.
    ///
    /// # Errors
    /// The store's; [`StoreError::NotFound`] for a session that is not there, or whose content was removed at the end of its retention.
    pub async fn export(&self, tenant: TenantId, session: Option<SessionId>) -> Result<Export> {
        let rows = self.store().tenant(tenant);
        let day = session.map(|session| day_of(session).ok_or(no_session()));
        let day = day.transpose()?;
        for attempt in 1..=TRIES {
            match self.anchor().await {
                // What is there is exported as it is: the verifier says what is wrong with it.
                Err(StoreError::Tampered(_)) => {}
                made => drop(made?),
            }
            let anchored = self.store().operator().anchored(tenant, day).await?;
            let mut tenants: BTreeMap<TenantId, Vec<Partition>> = BTreeMap::new();
            for (tenant, partition) in anchored.partitions {
                tenants.entry(tenant).or_default().push(partition);
            }
            let hash = |(tenant, days): (&TenantId, &Vec<Partition>)| tenant_hash(*tenant, days);
            let hashes: Vec<_> = tenants.iter().map(hash).collect();
            let root = hashes.iter().copied().collect::<Frontier>().root();
            let note = anchored.note.map(|note| note.note).unwrap_or_default();
            let anchor = Anchor::open(&note, &self.verifier());
            if attempt < TRIES && anchor.is_ok_and(|anchor| anchor.root != root) {
                // Another anchor came between the two, or a removal.
                continue;
            }
            let Some(index) = tenants.keys().position(|known| *known == tenant) else {
                return Err(StoreError::NotFound {
                    what: "anchored session",
                });
            };
            let partitions = tenants.remove(&tenant).unwrap_or_default();
            let head = Step::Head(Box::new(Exported {
                format: FORMAT.to_owned(),
                tenant: tenant.to_string(),
                anchor: note,
                partitions,
                path: Tree::new(hashes).path(index),
                complete: session.is_none(),
            }));
            let mut steps = VecDeque::from([head]);
            for (day, leaves) in anchored.leaves {
                let mut last: BTreeMap<String, i64> = BTreeMap::new();
                for leaf in &leaves {
                    let seq = last.entry(leaf.session.clone()).or_default();
                    *seq = leaf.seq.max(*seq);
                }
                steps.push_back(Step::Leaves(day, leaves));
                if let Some(session) = session {
                    let id = session.to_string();
                    last.retain(|known, _| *known == id);
                }
                steps.extend(last.into_iter().map(|(id, seq)| Step::Session(id, seq)));
            }
            if session.is_some() && !steps.iter().any(|step| matches!(step, Step::Session(..))) {
                return Err(no_session());
            }
            return Ok(Export { rows, steps });
        }
        Err(StoreError::Conflict { what: "anchor" })
    }
}

fn no_session() -> StoreError {
    StoreError::NotFound { what: "session" }
}

impl Export {
    /// The next lines, each with its newline. None: that was all.
    ///
    /// # Errors
    /// The store's.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let Some(step) = self.steps.pop_front() else {
            return Ok(None);
        };
        let mut text = String::new();
        match step {
            Step::Head(head) => line(&mut text, &head)?,
            Step::Leaves(day, mut leaves) => {
                let rest = leaves.split_off(leaves.len().min(LEAVES));
                if !rest.is_empty() {
                    self.steps.push_front(Step::Leaves(day, rest));
                }
                let day = day.to_string();
                line(&mut text, &Line::Leaves { day, leaves })?;
            }
            Step::Session(id, to) => {
                let session = id.parse().map_err(|_| no_session())?;
                self.steps.push_front(Step::Events(session, 0, to));
                line(&mut text, &Line::Session(id))?;
            }
            Step::Events(session, after, to) => {
                let rest = u32::try_from(to - after).unwrap_or(EVENTS);
                let events = self.rows.exported(session, after, rest.min(EVENTS)).await?;
                if let Some(last) = events.last().filter(|last| last.seq < to) {
                    self.steps.push_front(Step::Events(session, last.seq, to));
                }
                for event in events {
                    line(&mut text, &Line::Event(event))?;
                }
            }
        }
        Ok(Some(text))
    }
}

fn line(text: &mut String, value: &impl Serialize) -> Result<()> {
    let written = serde_json::to_string(value).map_err(|_| StoreError::Invalid {
        what: "export",
        why: "has no JSON form",
    })?;
    text.push_str(&written);
    text.push('\n');
    Ok(())
}
