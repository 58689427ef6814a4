//! The export of a tenant's journal, and its verifier: offline, with public keys only.
//!
//! An export is JSON lines. The first is the [`Exported`] head: the anchor and how the tenant's partitions lead up to it. Then, for each
//! partition, all its leaves, and the sessions that were asked for, each with its events up to its leaf. Bodies are as stored, sealed: they verify
//! without any key, and after the key is gone.

use crate::{Anchor, Digest, Envelope, Fault, Frontier, Partition, Path, SessionLeaf, Verifier, body_hash, ensure, tenant_leaf};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::BufRead};

/// Version of the format.
pub const FORMAT: &str = "ambit-export-1";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// `ambit-export-1`.
    pub format: String,
    pub tenant: String,
    /// The note of the anchor that everything here leads up to.
    pub anchor: String,
    /// Every partition of the tenant, in order of days, removed ones too.
    pub partitions: Vec<Partition>,
    /// From the tenant's tree to the anchor's.
    pub path: Path,
    /// Whether every session of every partition that is not removed follows. Else it is a selection.
    pub complete: bool,
}

/// Any further line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// Leaves of a partition, in their order, some at a time.
    Leaves {
        day: String,
        leaves: Vec<SessionLeaf>,
    },
    /// A session of this partition. Its events follow, up to its highest leaf.
    Session(String),
    Event(Event),
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub seq: i64,
    pub schema_version: i64,
    pub kind: String,
    pub time_ms: i64,
    pub header: String,
    /// In base64.
    pub body: String,
    pub content_hash: Digest,
}

/// What an export proves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    pub tenant: String,
    pub anchor: u64,
    pub anchor_time_ms: i64,
    pub sessions: u64,
    pub events: u64,
    /// Partitions whose events were removed at the end of their retention.
    pub removed: u64,
    /// A selection proves what is in it. Only a complete export proves that nothing is missing.
    pub complete: bool,
}

/// Verifies an export with the key that anchors are signed with, and that it goes on from an `earlier` one, of which the first line is
/// enough. That the anchor is the installation's, and the newest, is for whoever has the anchors themselves to say ([`crate::follow`]).
///
/// # Errors
/// The first line that cannot be read or does not hold.
pub fn verify_export(export: impl BufRead, key: &Verifier, earlier: Option<&str>) -> Result<Report, Fault> {
    let earlier = earlier.map(|line| Checker::new(read(line)?, key, BTreeMap::new()));
    let mut earlier = earlier.transpose()?.map(|earlier| earlier.partitions).unwrap_or_default();
    let mut checker = None;
    for (number, line) in (1..).zip(export.lines()) {
        let at = |what: &dyn std::fmt::Display| Fault(format!("line {number}: {what}"));
        let line = line.map_err(|error| at(&error))?;
        let taken = match &mut checker {
            None => read(&line).and_then(|head| Checker::new(head, key, std::mem::take(&mut earlier))).map(|new| checker = Some(new)),
            Some(checker) => read(&line).and_then(|line| checker.take(line)),
        };
        taken.map_err(|fault| at(&fault))?;
    }
    checker.ok_or_else(|| Fault("the export is empty".to_owned()))?.end()
}

/// A line has one form, so that nothing in it can be changed without a trace.
fn read<T: Serialize + for<'a> Deserialize<'a>>(line: &str) -> Result<T, Fault> {
    let no_line = |why: &str| Fault(format!("it is not of an export: {why}"));
    let value: T = serde_json::from_str(line).map_err(|error| no_line(&error.to_string()))?;
    let same = serde_json::to_string(&value).is_ok_and(|written| written == line);
    same.then_some(value).ok_or_else(|| no_line("it is written otherwise"))
}

struct Checker {
    earlier: BTreeMap<String, Partition>,
    /// Those whose content did not follow yet.
    partitions: BTreeMap<String, Partition>,
    /// The partition that is read, and the leaves of its sessions that did not follow yet.
    day: String,
    tree: Frontier,
    leaves: BTreeMap<String, Leaves>,
    session: Option<Chain>,
    report: Report,
}

/// What anchors vouch for of a session: hashes by numbers of events.
type Leaves = BTreeMap<i64, Digest>;

/// A session as far as it was read.
struct Chain {
    session: String,
    leaves: Leaves,
    seq: i64,
    hash: Digest,
}

impl Checker {
    fn new(head: Exported, key: &Verifier, earlier: BTreeMap<String, Partition>) -> Result<Self, Fault> {
        ensure(head.format == FORMAT, || format!("the format is not `{FORMAT}`"))?;
        let anchor = Anchor::open(&head.anchor, key)?;
        ensure(head.partitions.is_sorted_by(|a, b| a.day < b.day), || "the days are not in order".to_owned())?;
        let days: Frontier = head.partitions.iter().map(Partition::hash).collect();
        let leaf = tenant_leaf(&head.tenant, days.root());
        let leads = head.path.size == anchor.tenants && head.path.root(leaf) == Some(anchor.root);
        ensure(leads, || "the partitions do not lead to the anchor's root".to_owned())?;
        for (day, before) in &earlier {
            let goes_on = |now: &Partition| now.day == *day && (now.leaves > before.leaves || now.root == before.root);
            ensure(head.partitions.iter().any(goes_on), || format!("{day} does not go on from the earlier export"))?;
        }
        let (removed, kept): (Vec<_>, Vec<_>) = head.partitions.into_iter().partition(|partition| partition.removed);
        Ok(Self {
            earlier,
            partitions: kept.into_iter().map(|one| (one.day.clone(), one)).collect(),
            day: String::new(),
            tree: Frontier::default(),
            leaves: BTreeMap::new(),
            session: None,
            report: Report {
                tenant: head.tenant,
                anchor: anchor.number,
                anchor_time_ms: anchor.time_ms,
                removed: removed.len() as u64,
                complete: head.complete,
                ..Report::default()
            },
        })
    }

    fn take(&mut self, line: Line) -> Result<(), Fault> {
        match line {
            Line::Leaves { day, leaves } => self.leaves(day, leaves),
            Line::Session(session) => self.session(session),
            Line::Event(event) => {
                self.report.events += 1;
                let chain = self.session.as_mut().ok_or_else(|| Fault("an event stands before any session".to_owned()))?;
                chain.take(&self.report.tenant, &event)
            }
        }
    }

    fn leaves(&mut self, day: String, leaves: Vec<SessionLeaf>) -> Result<(), Fault> {
        if day != self.day {
            self.end_partition()?;
            (self.day, self.tree) = (day, Frontier::default());
        }
        for leaf in leaves {
            self.tree.push(leaf.hash());
            let before = self.earlier.get(&self.day).filter(|before| before.leaves == self.tree.size);
            ensure(before.is_none_or(|before| before.root == self.tree.root()), || {
                format!("{} is not what it was in the earlier export", self.day)
            })?;
            let known = self.leaves.entry(leaf.session.clone()).or_default().insert(leaf.seq, leaf.hash);
            let one = leaf.seq > 0 && known.is_none_or(|known| known == leaf.hash);
            ensure(one, || format!("session {} has two events {}", leaf.session, leaf.seq))?;
        }
        Ok(())
    }

    fn session(&mut self, session: String) -> Result<(), Fault> {
        self.end_session()?;
        self.check_leaves()?;
        let leaves = self.leaves.remove(&session).unwrap_or_default();
        ensure(!leaves.is_empty(), || format!("session {session} is not in its partition, or here twice"))?;
        self.report.sessions += 1;
        self.session = Some(Chain { session, leaves, seq: 0, hash: Digest::default() });
        Ok(())
    }

    fn check_leaves(&self) -> Result<(), Fault> {
        let (leaves, root) = (self.tree.size, self.tree.root());
        let partition = self.partitions.get(&self.day);
        ensure(partition.is_some_and(|one| one.leaves == leaves && one.root == root), || {
            format!("the leaves of {} are not those of its partition", self.day)
        })
    }

    fn end_session(&mut self) -> Result<(), Fault> {
        self.session
            .take()
            .map_or(Ok(()), |chain| chain.ensure(chain.leaves.range(chain.seq + 1..).next().is_none(), chain.seq + 1, "missing"))
    }

    fn end_partition(&mut self) -> Result<(), Fault> {
        self.end_session()?;
        if !self.day.is_empty() {
            self.check_leaves()?;
            self.partitions.remove(&self.day);
        }
        let session = std::mem::take(&mut self.leaves).into_keys().next();
        self.none_missing(session)
    }

    fn end(mut self) -> Result<Report, Fault> {
        self.end_partition()?;
        self.none_missing(self.partitions.keys().next().cloned())?;
        Ok(self.report)
    }

    fn none_missing(&self, which: Option<String>) -> Result<(), Fault> {
        let which = which.filter(|_| self.report.complete);
        which.map_or(Ok(()), |which| Err(Fault(format!("{which} is missing"))))
    }
}

impl Chain {
    fn ensure(&self, holds: bool, seq: i64, otherwise: &str) -> Result<(), Fault> {
        ensure(holds, || format!("event {seq} of session {} is {otherwise}", self.session))
    }

    fn take(&mut self, tenant: &str, event: &Event) -> Result<(), Fault> {
        self.ensure(event.seq == self.seq + 1, self.seq + 1, "missing or out of order")?;
        let body = STANDARD.decode(&event.body).unwrap_or_default();
        let envelope = Envelope {
            schema_version: event.schema_version,
            tenant,
            session: &self.session,
            seq: event.seq,
            kind: &event.kind,
            time_ms: event.time_ms,
            header: &event.header,
            previous_hash: self.hash,
            body_length: body.len() as u64,
            body_hash: body_hash(&body),
        };
        let same = STANDARD.encode(&body) == event.body && envelope.hash() == event.content_hash;
        self.ensure(same, event.seq, "not what was recorded")?;
        let next = self.leaves.range(event.seq..).next();
        let vouched = next.is_some_and(|(seq, hash)| *seq > event.seq || *hash == event.content_hash);
        self.ensure(vouched, event.seq, "not the one the anchor vouches for")?;
        (self.seq, self.hash) = (event.seq, event.content_hash);
        Ok(())
    }
}
