//! Making anchors: what went on since the last one is hashed into the trees, signed, stored.

use crate::Signer;
use ambit_audit::{Anchor, Digest, Frontier, Partition, SessionLeaf, tenant_leaf};
use ambit_store::{Day, Head, Heads, NewAnchor, Note, Operator, Result, Store, StoreError};
use ambit_types::{SessionId, TenantId};
use std::collections::{BTreeMap, HashMap};

/// How often another node may be first before this one gives up for now.
const RACES: u32 = 16;

/// What a killed process may have left unanchored changed within this time before the last anchor. Milliseconds.
const LOOK_BACK: i64 = 3600 * 1000;

/// Makes the anchors of an installation. One per process; of several processes on one database whoever is first makes the next.
#[derive(Debug)]
pub(crate) struct Anchorer {
    store: Store,
    operator: Operator,
    pub(crate) signer: Signer,
    /// What stands in the database, as of the last anchor seen.
    seen: Option<Seen>,
    /// Sessions that other processes left unanchored were looked for.
    looked: bool,
}

#[derive(Debug, Default)]
struct Seen {
    number: i64,
    note: Digest,
    time_ms: i64,
    tenants: BTreeMap<TenantId, BTreeMap<String, Partition>>,
}

/// Heads that go back where they came from unless they are used up: whoever asked may be gone before that.
struct Taken<'a> {
    store: &'a Store,
    heads: Heads,
}

impl<'a> Taken<'a> {
    fn new(store: &'a Store) -> Self {
        let heads = store.journal().take_heads();
        Self { store, heads }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let heads = std::mem::take(&mut self.heads);
        if !heads.is_empty() {
            self.store.journal().give_back_heads(heads);
        }
    }
}

impl Anchorer {
    pub(crate) fn new(store: Store, signer: Signer) -> Self {
        // From here on what changes is collected.
        drop(store.journal().take_heads());
        Self {
            operator: store.operator(),
            store,
            signer,
            seen: None,
            looked: false,
        }
    }

    /// Anchors what went on since the last anchor; its note. None: nothing did.
    ///
    /// # Errors
    /// The store's. What would have been anchored is the next attempt's.
    pub(crate) async fn anchor(&mut self, now_ms: i64) -> Result<Option<Note>> {
        self.look_back().await?;
        let store = self.store.clone();
        let mut taken = Taken::new(&store);
        if taken.heads.is_empty() {
            return Ok(None);
        }
        let made = self.make(&taken.heads, now_ms).await;
        match &made {
            Ok(_) => taken.heads.clear(),
            Err(_) => self.seen = None,
        }
        made.map(Some)
    }

    /// Anchors even where nothing went on: partitions that were removed, an installation without any anchor.
    pub(crate) async fn anchor_anew(&mut self, now_ms: i64) -> Result<Note> {
        self.seen = None;
        match self.anchor(now_ms).await? {
            Some(note) => Ok(note),
            None => self.make(&Heads::new(), now_ms).await,
        }
    }

    async fn make(&mut self, heads: &Heads, now_ms: i64) -> Result<Note> {
        for _ in 0..RACES {
            let mut seen = match self.seen.take() {
                // Another process may have made one since.
                Some(seen) if self.is_last(&seen).await? => seen,
                _ => self.read().await?,
            };
            let anchor = self.next(&mut seen, heads, now_ms).await?;
            match self.operator.put_anchor(&anchor).await {
                Ok(()) => {
                    self.seen = Some(seen);
                    return Ok(Note {
                        number: anchor.number,
                        note: anchor.note,
                        published_ms: None,
                    });
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { what: "anchor" })
    }

    async fn is_last(&self, seen: &Seen) -> Result<bool> {
        let last = self.operator.last_anchor().await?;
        Ok(last.is_some_and(|last| last.number == seen.number))
    }

    async fn read(&self) -> Result<Seen> {
        let mut seen = Seen::default();
        if let Some(Note { number, note, .. }) = self.operator.last_anchor().await? {
            seen.number = number;
            seen.note = Anchor::name(&note);
            let anchor = Anchor::open(&note, self.signer.verifier());
            seen.time_ms = anchor.map_or(0, |anchor| anchor.time_ms);
        }
        for (tenant, partition) in self.operator.partitions().await? {
            let days = seen.tenants.entry(tenant).or_default();
            days.insert(partition.day.clone(), partition);
        }
        Ok(seen)
    }

    async fn next(&self, seen: &mut Seen, heads: &Heads, now_ms: i64) -> Result<NewAnchor> {
        let mut sessions: Vec<(TenantId, Day, SessionId, Head)> = heads
            .iter()
            .filter_map(|((tenant, session), head)| {
                Some((*tenant, Day::of(*session)?, *session, *head))
            })
            .collect();
        sessions.sort_unstable_by_key(|(tenant, day, session, _)| (*tenant, *day, *session));
        let mut keys: Vec<_> = sessions
            .iter()
            .map(|(tenant, day, ..)| (*tenant, *day))
            .collect();
        keys.dedup();
        let mut partitions = self.operator.frontiers(keys).await?;
        for (tenant, day, session, head) in sessions {
            let grown = partitions.entry((tenant, day)).or_default();
            grown.tree.push(leaf(session, head).hash());
            grown.leaves.push((session, head));
        }
        for ((tenant, day), grown) in &partitions {
            let days = seen.tenants.entry(*tenant).or_default();
            let day = day.to_string();
            let removed = days.get(&day).is_some_and(|before| before.removed);
            let partition = Partition {
                day: day.clone(),
                leaves: grown.tree.size,
                root: grown.tree.root(),
                removed,
            };
            days.insert(day, partition);
        }
        let leaves: Frontier = seen
            .tenants
            .iter()
            .map(|(tenant, days)| tenant_hash(*tenant, days.values()))
            .collect();
        let anchor = Anchor {
            number: seen.number.unsigned_abs() + 1,
            root: leaves.root(),
            // A clock that was set back does not make an anchor older than the one before.
            time_ms: now_ms.max(seen.time_ms),
            tenants: leaves.size,
            previous: seen.note,
        };
        let note = self.signer.anchor(&anchor);
        seen.number += 1;
        seen.note = Anchor::name(&note);
        seen.time_ms = anchor.time_ms;
        Ok(NewAnchor {
            number: seen.number,
            time_ms: seen.time_ms,
            note,
            partitions,
        })
    }

    /// Once: takes what a process that died had written and not anchored.
    async fn look_back(&mut self) -> Result<()> {
        if self.looked {
            return Ok(());
        }
        let last = self.operator.last_anchor().await?;
        let last = last.and_then(|last| Anchor::open(&last.note, self.signer.verifier()).ok());
        let since = last.map_or(0, |last| last.time_ms.saturating_sub(LOOK_BACK));
        let mut found: BTreeMap<(TenantId, Day), Vec<(SessionId, Head)>> = BTreeMap::new();
        for ((tenant, session), head) in self.operator.heads_since(since).await? {
            if let Some(day) = Day::of(session) {
                let partition = found.entry((tenant, day)).or_default();
                partition.push((session, head));
            }
        }
        let mut missed = Heads::new();
        for ((tenant, day), sessions) in found {
            let leaves = self.operator.leaves(tenant, day).await?.into_iter();
            let anchored: HashMap<_, _> = leaves.map(|leaf| (leaf.session, leaf.seq)).collect();
            let is_new = |session: &SessionId, head: &Head| {
                let seq = anchored.get(&session.to_string());
                seq.is_none_or(|seq| *seq < head.seq)
            };
            let new = sessions
                .into_iter()
                .filter(|(session, head)| is_new(session, head));
            missed.extend(new.map(|(session, head)| ((tenant, session), head)));
        }
        self.store.journal().give_back_heads(missed);
        self.looked = true;
        Ok(())
    }
}

fn leaf(session: SessionId, head: Head) -> SessionLeaf {
    SessionLeaf {
        session: session.to_string(),
        seq: head.seq,
        hash: head.hash,
    }
}

/// A tenant's leaf in the installation's tree.
pub(crate) fn tenant_hash<'a>(
    tenant: TenantId,
    days: impl IntoIterator<Item = &'a Partition>,
) -> Digest {
    let days: Frontier = days.into_iter().map(Partition::hash).collect();
    tenant_leaf(&tenant.to_string(), days.root())
}
