//! Making anchors: what went on since the last one is hashed into the trees, signed, stored.

use crate::Signer;
use ambit_audit::{Anchor, Digest, Frontier, Partition, SessionLeaf, tenant_leaf};
use ambit_store::{
    Day, Head, Heads, NewAnchor, Note, Operator, Result, Signed, Store, StoreError, day_of,
};
use ambit_types::{SessionId, TenantId};
use std::collections::{BTreeMap, HashMap};

/// How often another node may be first before this one gives up for now.
const RACES: u32 = 16;

/// How often they are looked for, as another node may die at any time, and all trees are read anew. Milliseconds.
const LOOK_EVERY: u64 = 600_000;

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
    /// When sessions that a process left unanchored were looked for.
    looked_ms: i64,
}

#[derive(Debug, Default)]
struct Seen {
    number: i64,
    note: Digest,
    time_ms: i64,
    tenants: BTreeMap<TenantId, BTreeMap<String, Partition>>,
    /// Removed since.
    removed: Vec<(TenantId, String)>,
}

impl Seen {
    /// The installation's tree.
    fn root(&self) -> Frontier {
        let tenants = self.tenants.iter();
        tenants
            .map(|(tenant, days)| tenant_hash(*tenant, days.values()))
            .collect()
    }
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
            looked_ms: 0,
        }
    }

    /// Anchors what went on since the last anchor, removals too; its note. None: nothing did.
    ///
    /// # Errors
    /// The store's. What would have been anchored is the next attempt's.
    pub(crate) async fn anchor(&mut self, now_ms: i64) -> Result<Option<Note>> {
        self.look_back(now_ms).await?;
        let store = self.store.clone();
        let mut taken = Taken::new(&store);
        let made = self.make(&taken.heads, now_ms).await;
        match &made {
            Ok(_) => taken.heads.clear(),
            Err(_) => self.seen = None,
        }
        made
    }

    async fn make(&mut self, heads: &Heads, now_ms: i64) -> Result<Option<Note>> {
        for _ in 0..RACES {
            let mut seen = match self.seen.take() {
                // Another process may have made one since, or removed something.
                Some(seen) if self.is_last(&seen).await? => seen,
                _ => self.read().await?,
            };
            if heads.is_empty() && seen.removed.is_empty() {
                self.seen = Some(seen);
                return Ok(None);
            }
            let anchor = match self.next(&mut seen, heads, now_ms).await {
                // What it saw beside its trees may be another node's next anchor.
                Err(StoreError::Tampered(_)) if self.is_behind(&seen).await? => continue,
                next => next?,
            };
            match self.operator.put_anchor(&anchor).await {
                Ok(()) => {
                    self.seen = Some(seen);
                    return Ok(Some(Note {
                        number: anchor.number,
                        note: anchor.note,
                        published_ms: None,
                    }));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { what: "anchor" })
    }

    async fn is_last(&self, seen: &Seen) -> Result<bool> {
        Ok(!self.is_behind(seen).await? && !self.operator.has_removed().await?)
    }

    async fn is_behind(&self, seen: &Seen) -> Result<bool> {
        let last = self.operator.last_anchor().await?;
        Ok(last.map_or(0, |last| last.number) != seen.number)
    }

    /// What stands in the database. Nothing is ever signed on top of what is not what was signed last.
    async fn read(&self) -> Result<Seen> {
        let Signed {
            note,
            partitions,
            removed,
        } = self.operator.signed().await?;
        let mut seen = Seen {
            removed,
            ..Seen::default()
        };
        for (tenant, partition) in partitions {
            let days = seen.tenants.entry(tenant).or_default();
            days.insert(partition.day.clone(), partition);
        }
        match note {
            Some(Note { number, note, .. }) => {
                let anchor = Anchor::open(&note, self.signer.verifier());
                let anchor = anchor
                    .map_err(|_| StoreError::Tampered("the last anchor is of another key"))?;
                if anchor.root != seen.root().root() || i64::try_from(anchor.number) != Ok(number) {
                    return Err(StoreError::Tampered(
                        "its days do not lead to the last anchor",
                    ));
                }
                seen.number = number;
                seen.note = Anchor::name(&note);
                seen.time_ms = anchor.time_ms;
            }
            None if !seen.tenants.is_empty() => {
                return Err(StoreError::Tampered("there are days, and no anchor"));
            }
            None => {}
        }
        Ok(seen)
    }

    async fn next(&self, seen: &mut Seen, heads: &Heads, now_ms: i64) -> Result<NewAnchor> {
        let mut sessions: Vec<(TenantId, Day, SessionId, Head)> = heads
            .iter()
            .filter_map(|((tenant, session), head)| {
                Some((*tenant, day_of(*session)?, *session, *head))
            })
            .collect();
        sessions.sort_unstable_by_key(|(tenant, day, session, _)| (*tenant, *day, *session));
        let mut keys: Vec<_> = sessions
            .iter()
            .map(|(tenant, day, ..)| (*tenant, *day))
            .collect();
        keys.dedup();
        let mut partitions = self.operator.frontiers(keys).await?;
        for ((tenant, day), grown) in &partitions {
            let known = seen
                .tenants
                .get(tenant)
                .and_then(|days| days.get(&day.to_string()));
            let tree = (grown.tree.size, grown.tree.root());
            if known.map_or(grown.tree.size == 0, |known| {
                (known.leaves, known.root) == tree
            }) {
                continue;
            }
            return Err(StoreError::Tampered(
                "a day's tree is not what was anchored",
            ));
        }
        let removed = std::mem::take(&mut seen.removed);
        for (tenant, day) in &removed {
            if let Some(partition) = seen
                .tenants
                .get_mut(tenant)
                .and_then(|days| days.get_mut(day))
            {
                partition.removed = true;
            }
        }
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
        let leaves = seen.root();
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
            removed,
        })
    }

    /// Now and then: takes what a process that died had written and not anchored.
    async fn look_back(&mut self, now_ms: i64) -> Result<()> {
        if now_ms.abs_diff(self.looked_ms) < LOOK_EVERY {
            return Ok(());
        }
        // Days that nothing is added to are looked at too.
        self.seen = None;
        let last = self.operator.last_anchor().await?;
        let last = last.and_then(|last| {
            let anchor = Anchor::open(&last.note, self.signer.verifier()).ok()?;
            // An anchor is never older than the one before, whatever the clock says. When it was published is what the clock said: one that
            // was set back must not hide what was written by it.
            let published = last.published_ms.unwrap_or(i64::MAX);
            Some(anchor.time_ms.min(published))
        });
        // Nor must one that was ahead once hide what came after.
        let since = last.map_or(0, |last| last.min(now_ms).saturating_sub(LOOK_BACK));
        let mut found: BTreeMap<(TenantId, Day), Vec<(SessionId, Head)>> = BTreeMap::new();
        for ((tenant, session), head) in self.operator.heads_since(since).await? {
            if let Some(day) = day_of(session) {
                let partition = found.entry((tenant, day)).or_default();
                partition.push((session, head));
            }
        }
        let mut missed = Heads::new();
        for ((tenant, day), sessions) in found {
            let mut anchored: HashMap<String, i64> = HashMap::new();
            for leaf in self.operator.leaves(tenant, day).await? {
                let highest = anchored.entry(leaf.session).or_default();
                *highest = leaf.seq.max(*highest);
            }
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
        self.looked_ms = now_ms;
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

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_store::{Append, Header, NewEvent, NewSession, SessionState, testing::TestStore};
    use std::time::{SystemTime, UNIX_EPOCH};

    async fn say(store: &Store, tenant: TenantId, days_ago: u64) -> SessionId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let begun = now.as_millis() as u64 - days_ago * 24 * 3600 * 1000;
        let mut session = SessionId::new().to_bytes();
        session[..6].copy_from_slice(&begun.to_be_bytes()[2..]);
        let session = SessionId::from_bytes(session);
        let open = NewSession {
            agent: "assistant".into(),
            principal: "alice".into(),
        };
        let event = NewEvent::new("request", Header::default(), Vec::new());
        let append = Append::new(tenant, session).open(open).event(event);
        let append = append.state(SessionState::Finished);
        store.journal().append(append).await.unwrap();
        session
    }

    /// Whoever changes a day that is over does not have to wait for a restart to be found.
    #[tokio::test]
    async fn a_day_that_nothing_is_added_to_is_looked_at_while_it_runs() {
        for test in TestStore::both().await.unwrap() {
            let store = &test.store;
            let slug = "acme".parse().unwrap();
            let acme = store.operator().create_tenant(slug, "Acme").await.unwrap();
            let signer = Signer::new("ambit.example", &[7; 32]).unwrap();
            let mut anchorer = Anchorer::new(store.clone(), signer);
            let now = LOOK_EVERY as i64 * 10;
            say(store, acme.id, 3).await;
            assert!(anchorer.anchor(now).await.unwrap().is_some());
            test.tamper("UPDATE partitions SET leaves = leaves + 1")
                .await
                .unwrap();
            say(store, acme.id, 0).await;
            assert!(anchorer.anchor(now + 1).await.unwrap().is_some());
            say(store, acme.id, 0).await;
            let later = now + LOOK_EVERY as i64;
            let found = anchorer.anchor(later).await;
            assert!(matches!(found, Err(StoreError::Tampered(_))), "{found:?}");
            store.close().await;
        }
    }
}
