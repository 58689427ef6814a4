//! What anchors are made of: the heads of sessions as leaves, the partitions they make, and the signed notes. How they are hashed and signed is
//! the business of `ambit-anchor` and `ambit-audit`; here are the rows.

use crate::{
    Day, Digest, Operator, Result, SessionState, StoreError,
    db::{Row, Tx, statements},
    operator::conflict,
};
use ambit_audit::{Frontier, Partition, SessionLeaf};
use ambit_types::{SessionId, TenantId};
use std::collections::BTreeMap;

/// Bytes of a leaf: id, number, hash.
const ENTRY: usize = 16 + 8 + 32;

/// Leaves in a row.
const ENTRIES: usize = 4096;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of its last event.
    pub seq: i64,
    pub hash: Digest,
}

/// A signed note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// 1 for the first of an installation.
    pub number: i64,
    pub note: String,
    /// When it was in the anchor store.
    pub published_ms: Option<i64>,
}

/// A partition as it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grown {
    pub tree: Frontier,
    /// Leaves that are new.
    pub leaves: Vec<(SessionId, Head)>,
}

/// Everything that one anchor changes.
#[derive(Debug, Clone)]
pub struct NewAnchor {
    pub number: i64,
    pub time_ms: i64,
    pub note: String,
    pub partitions: BTreeMap<(TenantId, Day), Grown>,
    /// Partitions that it says were removed.
    pub removed: Vec<(TenantId, String)>,
}

/// What an export is made of, as it was at one moment.
#[derive(Debug, Clone)]
pub struct Anchored {
    pub note: Option<Note>,
    /// Of all tenants, in order of tenants and days.
    pub partitions: Vec<(TenantId, Partition)>,
    /// Of the partitions that were asked for and are not removed.
    pub leaves: Vec<(Day, Vec<SessionLeaf>)>,
}

/// What stands in the database of the last anchor and its trees, at one moment.
#[derive(Debug, Clone)]
pub struct Signed {
    pub note: Option<Note>,
    /// Of all tenants, in order of tenants and days, as the last anchor has them.
    pub partitions: Vec<(TenantId, Partition)>,
    /// Those of them that were removed since.
    pub removed: Vec<(TenantId, String)>,
}

impl Operator {
    /// Where the next anchor goes on.
    pub async fn signed(&self) -> Result<Signed> {
        let mut tx = self.read().await?;
        let note = last_anchor(&mut tx).await?;
        let mut partitions = partitions(&mut tx).await?;
        let mut removed = Vec::new();
        for row in REMOVED_SINCE.query().all(&mut tx).await? {
            removed.push((row.parsed(0)?, row.text(1)?));
        }
        for (tenant, partition) in &mut partitions {
            let since = |(of, day): &(TenantId, String)| of == tenant && *day == partition.day;
            partition.removed &= !removed.iter().any(since);
        }
        Ok(Signed {
            note,
            partitions,
            removed,
        })
    }

    /// Whether partitions were removed that no anchor says so of.
    pub async fn has_removed(&self) -> Result<bool> {
        let rows = REMOVED_SINCE.query().all(&mut self.read().await?).await?;
        Ok(!rows.is_empty())
    }

    /// The trees of these partitions; of one that is new, an empty one.
    pub async fn frontiers(
        &self,
        keys: impl IntoIterator<Item = (TenantId, Day)>,
    ) -> Result<BTreeMap<(TenantId, Day), Grown>> {
        let mut tx = self.read().await?;
        let mut found = BTreeMap::new();
        for (tenant, day) in keys {
            let query = FRONTIER.query().bind(tenant.to_string());
            let row = query.bind(day.to_string()).optional(&mut tx).await?;
            let tree = row.map_or(Ok(Frontier::default()), |row| {
                Ok(Frontier {
                    size: row.unsigned(0)?,
                    roots: row.digests(1)?,
                })
            })?;
            let leaves = Vec::new();
            found.insert((tenant, day), Grown { tree, leaves });
        }
        Ok(found)
    }

    /// The newest anchor.
    pub async fn last_anchor(&self) -> Result<Option<Note>> {
        last_anchor(&mut self.read().await?).await
    }

    /// Anchors in order, from after `after`.
    pub async fn anchors(&self, after: i64, limit: u32) -> Result<Vec<Note>> {
        let query = ANCHOR_PAGE.query().bind(after).bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(note_from).collect()
    }

    /// Anchors that are not in the anchor store yet, in order.
    pub async fn unpublished(&self, limit: u32) -> Result<Vec<Note>> {
        let query = UNPUBLISHED.query().bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(note_from).collect()
    }

    /// How many those are.
    pub async fn unpublished_count(&self) -> Result<u64> {
        let mut tx = self.read().await?;
        let row = UNPUBLISHED_COUNT.query().optional(&mut tx).await?;
        row.map_or(Ok(0), |row| row.unsigned(0))
    }

    /// Notes that an anchor is in the anchor store.
    pub async fn published(&self, number: i64, at_ms: i64) -> Result<()> {
        let mut tx = self.write().await?;
        let query = PUBLISHED.query().bind(number).bind(at_ms);
        query.execute(&mut tx).await?;
        tx.commit().await
    }

    /// Takes an anchor, with what it vouches for, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another node took this number first.
    pub async fn put_anchor(&self, anchor: &NewAnchor) -> Result<()> {
        let mut tx = self.write().await?;
        let query = ANCHOR_PUT.query().bind(anchor.number);
        let query = query.bind(anchor.time_ms).bind(&anchor.note);
        let put = query.execute(&mut tx).await;
        put.map_err(|error| conflict(error, "anchor"))?;
        for (tenant, day) in &anchor.removed {
            let query = REMOVAL_ANCHORED.query().bind(tenant.to_string());
            query.bind(day).bind(anchor.number).execute(&mut tx).await?;
        }
        for ((tenant, day), grown) in &anchor.partitions {
            let (tenant, day, tree) = (tenant.to_string(), day.to_string(), &grown.tree);
            let size = count(tree.size)?;
            let frontier: Vec<u8> = tree.roots.iter().flat_map(|root| root.0).collect();
            let query = PARTITION_PUT.query().bind(&tenant).bind(&day);
            let query = query.bind(size).bind(tree.root()).bind(&frontier[..]);
            query.execute(&mut tx).await?;
            let mut first = size - count(grown.leaves.len() as u64)?;
            for leaves in grown.leaves.chunks(ENTRIES) {
                let entries: Vec<u8> = leaves.iter().flat_map(entry).collect();
                let query = LEAVES_PUT.query().bind(&tenant).bind(&day);
                let query = query.bind(first).bind(&entries[..]);
                query.execute(&mut tx).await.map_err(twice)?;
                first += count(leaves.len() as u64)?;
            }
        }
        tx.commit().await
    }

    /// The leaves of a partition, in their order.
    pub async fn leaves(&self, tenant: TenantId, day: Day) -> Result<Vec<SessionLeaf>> {
        leaves(
            &mut self.read().await?,
            &tenant.to_string(),
            &day.to_string(),
        )
        .await
    }

    /// The last anchor, all partitions, and the leaves of this tenant's: of all, or of one day.
    pub async fn anchored(&self, tenant: TenantId, day: Option<Day>) -> Result<Anchored> {
        let mut tx = self.read().await?;
        let note = last_anchor(&mut tx).await?;
        let partitions = partitions(&mut tx).await?;
        let (mut found, name) = (Vec::new(), tenant.to_string());
        for (of, partition) in &partitions {
            let this: Day = partition.day.parse().map_err(|_| no_day())?;
            if *of == tenant && !partition.removed && day.is_none_or(|day| day == this) {
                found.push((this, leaves(&mut tx, &name, &partition.day).await?));
            }
        }
        Ok(Anchored {
            note,
            partitions,
            leaves: found,
        })
    }

    /// Heads of sessions that came to rest since `since_ms`: what an anchor may have missed when a process died.
    pub async fn heads_since(&self, since_ms: i64) -> Result<Vec<((TenantId, SessionId), Head)>> {
        let mut tx = self.read().await?;
        let mut heads = Vec::new();
        for state in SessionState::AT_REST {
            let query = HEADS_SINCE.query().bind(state.as_str()).bind(since_ms);
            for row in query.all(&mut tx).await? {
                let head = Head {
                    seq: row.int(2)?,
                    hash: row.digest(3)?,
                };
                heads.push(((row.parsed(0)?, row.parsed(1)?), head));
            }
        }
        Ok(heads)
    }
}

async fn partitions(tx: &mut Tx) -> Result<Vec<(TenantId, Partition)>> {
    let rows = PARTITIONS.query().all(tx).await?;
    let read = |row: &Row| {
        let partition = Partition {
            day: row.text(1)?,
            leaves: row.unsigned(2)?,
            root: row.digest(3)?,
            removed: row.optional_int(4)?.is_some(),
        };
        Ok((row.parsed(0)?, partition))
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn leaves(tx: &mut Tx, tenant: &str, day: &str) -> Result<Vec<SessionLeaf>> {
    let rows = LEAVES.query().bind(tenant).bind(day);
    let mut leaves = Vec::new();
    for row in rows.all(tx).await? {
        leaves.extend(row.blob(0)?.chunks_exact(ENTRY).filter_map(leaf));
    }
    Ok(leaves)
}

async fn last_anchor(tx: &mut Tx) -> Result<Option<Note>> {
    let row = LAST_ANCHOR.query().optional(tx).await?;
    row.as_ref().map(note_from).transpose()
}

fn note_from(row: &Row) -> Result<Note> {
    Ok(Note {
        number: row.int(0)?,
        note: row.text(1)?,
        published_ms: row.optional_int(2)?,
    })
}

fn entry((session, head): &(SessionId, Head)) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..16].copy_from_slice(&session.to_bytes());
    entry[16..24].copy_from_slice(&head.seq.to_be_bytes());
    entry[24..].copy_from_slice(&head.hash.0);
    entry
}

fn leaf(entry: &[u8]) -> Option<SessionLeaf> {
    let (session, rest) = entry.split_first_chunk()?;
    let (seq, hash) = rest.split_first_chunk()?;
    Some(SessionLeaf {
        session: SessionId::from_bytes(*session).to_string(),
        seq: i64::from_be_bytes(*seq),
        hash: Digest(hash.try_into().ok()?),
    })
}

fn count(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| StoreError::Invalid {
        what: "partition",
        why: "has more leaves than can be counted",
    })
}

/// Leaves where there are some: not another node's anchor, whose number is taken before.
fn twice(error: StoreError) -> StoreError {
    match error {
        StoreError::Conflict { .. } => {
            StoreError::Tampered("a day has leaves that its tree has not")
        }
        other => other,
    }
}

fn no_day() -> StoreError {
    StoreError::Invalid {
        what: "partition",
        why: "is of no day",
    }
}

statements! {
    PARTITIONS = "SELECT tenant, day, leaves, root, removed_ms FROM partitions ORDER BY tenant, day";
    REMOVED_SINCE = "SELECT tenant, day FROM partitions WHERE removed_ms IS NOT NULL AND removed_anchor IS NULL ORDER BY tenant, day";
    REMOVAL_ANCHORED = "UPDATE partitions SET removed_anchor = $3 WHERE tenant = $1 AND day = $2";
    FRONTIER = "SELECT leaves, frontier FROM partitions WHERE tenant = $1 AND day = $2";
    LEAVES = "SELECT entries FROM leaves WHERE tenant = $1 AND day = $2 ORDER BY first";
    LAST_ANCHOR = "SELECT number, note, published_ms FROM anchors ORDER BY number DESC LIMIT 1";
    ANCHOR_PAGE = "SELECT number, note, published_ms FROM anchors WHERE number > $1 ORDER BY number LIMIT $2";
    UNPUBLISHED = "SELECT number, note, published_ms FROM anchors WHERE published_ms IS NULL ORDER BY number LIMIT $1";
    UNPUBLISHED_COUNT = "SELECT count(*) FROM anchors WHERE published_ms IS NULL";
    PUBLISHED = "UPDATE anchors SET published_ms = $2 WHERE number = $1";
    ANCHOR_PUT = "INSERT INTO anchors (number, time_ms, note) VALUES ($1, $2, $3)";
    PARTITION_PUT = "INSERT INTO partitions (tenant, day, leaves, root, frontier) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (tenant, day) DO UPDATE SET leaves = excluded.leaves, root = excluded.root, frontier = excluded.frontier";
    LEAVES_PUT = "INSERT INTO leaves (tenant, day, first, entries) VALUES ($1, $2, $3, $4)";
    HEADS_SINCE = "SELECT tenant, session, head_seq, head_hash FROM sessions WHERE state = $1 AND updated_ms >= $2";
}
