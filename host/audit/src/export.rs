//! The export of a tenant's journal, and its verifier: offline, with public keys only.
//!
//! An export is JSON lines. The first is the [`Exported`] head: the anchor and how the tenant's partitions lead up to it. Then, for each
//! session, a [`Line::Session`] with its path into its partition and its events as [`Line::Event`]s. Bodies are as stored, sealed: they
//! verify without any key, and after the key is gone.

use crate::{
    Anchor, AnchorError, Digest, Envelope, Partition, Path, SessionLeaf, Verifier, body_hash, root,
    tenant_leaf,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead},
};

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
    /// A session, whose events follow.
    Session {
        #[serde(flatten)]
        leaf: SessionLeaf,
        /// The day of its partition.
        day: String,
        /// From its leaf to the partition's root.
        path: Path,
    },
    Event {
        seq: i64,
        schema_version: i64,
        kind: String,
        time_ms: i64,
        header: String,
        /// As stored, base64.
        body: String,
        content_hash: Digest,
    },
}

/// What an export proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub tenant: String,
    pub anchor: u64,
    pub anchor_time_ms: i64,
    pub sessions: u64,
    /// Events up to where the anchor reaches.
    pub events: u64,
    /// Events after the anchor: they follow their session's chain, and no anchor vouches for them yet.
    pub unanchored: u64,
    /// Partitions whose events were removed at the end of their retention.
    pub removed: u64,
    pub complete: bool,
}

/// An export that cannot be read, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the export cannot be read")]
    Io(#[from] io::Error),
    #[error("line {line} is not of an export")]
    Malformed {
        line: u64,
        #[source]
        why: serde_json::Error,
    },
    #[error("line {line}: {fault}")]
    Fault { line: u64, fault: Fault },
}

/// What does not hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    #[error("the format is `{0}`; this verifier reads `ambit-export-1`")]
    Format(String),
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    #[error("the partitions do not lead to the anchor's root")]
    Root,
    #[error("the partitions are not in order of days")]
    Order,
    #[error("there is no partition of the day {0}")]
    Day(String),
    #[error("session {0} is not in its partition as it is here")]
    Session(String),
    #[error("session {0} is here twice, or another in its place")]
    Twice(String),
    #[error("an event stands before any session")]
    Orphan,
    #[error("event {seq} of session {session} is missing or out of order")]
    Missing { session: String, seq: i64 },
    #[error("event {seq} of session {session} is not what was recorded")]
    Changed { session: String, seq: i64 },
    #[error("event {seq} of session {session} is not the one the anchor vouches for")]
    Replaced { session: String, seq: i64 },
    #[error("session {session} ends at event {found}; the anchor vouches for {anchored}")]
    Truncated {
        session: String,
        found: i64,
        anchored: i64,
    },
    #[error("{found} of {expected} sessions of {day} are here")]
    Sessions {
        day: String,
        found: u64,
        expected: u64,
    },
}

/// Verifies an export with the key that anchors are signed with. That the anchor is the installation's, and the newest, is for whoever
/// has the anchors themselves to say ([`crate::follow`]).
///
/// # Errors
/// The first line that cannot be read or does not hold.
pub fn verify_export(export: impl BufRead, key: &Verifier) -> Result<Report, ExportError> {
    let mut lines = export.lines();
    let mut number = 1;
    let head = lines.next().transpose()?.unwrap_or_default();
    let head: Exported = parse(&head, number)?;
    let mut checker = at(number, Checker::new(head, key))?;
    for line in lines {
        number += 1;
        let line = parse(&line?, number)?;
        at(number, checker.take(line))?;
    }
    at(number, checker.end())
}

fn parse<T: for<'a> Deserialize<'a>>(line: &str, number: u64) -> Result<T, ExportError> {
    serde_json::from_str(line).map_err(|why| ExportError::Malformed { line: number, why })
}

fn at<T>(line: u64, checked: Result<T, Fault>) -> Result<T, ExportError> {
    checked.map_err(|fault| ExportError::Fault { line, fault })
}

struct Checker {
    head: Exported,
    partitions: BTreeMap<String, Partition>,
    /// Leaves seen, by day and place.
    seen: BTreeSet<(String, u64)>,
    session: Option<Chain>,
    report: Report,
}

/// A session as far as it was read.
struct Chain {
    leaf: SessionLeaf,
    seq: i64,
    hash: Digest,
}

impl Checker {
    fn new(head: Exported, key: &Verifier) -> Result<Self, Fault> {
        if head.format != FORMAT {
            return Err(Fault::Format(head.format.chars().take(40).collect()));
        }
        let anchor = Anchor::open(&head.anchor, key, 0)?;
        if !head.partitions.is_sorted_by(|a, b| a.day < b.day) {
            return Err(Fault::Order);
        }
        let leaves: Vec<_> = head.partitions.iter().map(Partition::hash).collect();
        let tenant = tenant_leaf(&head.tenant, root(&leaves));
        if head.path.size != anchor.tenants || head.path.root(tenant) != Some(anchor.root) {
            return Err(Fault::Root);
        }
        let partitions = head.partitions.iter();
        let removed = partitions.clone().filter(|one| one.removed).count();
        Ok(Self {
            partitions: partitions
                .map(|one| (one.day.clone(), one.clone()))
                .collect(),
            seen: BTreeSet::new(),
            session: None,
            report: Report {
                tenant: head.tenant.clone(),
                anchor: anchor.number,
                anchor_time_ms: anchor.time_ms,
                sessions: 0,
                events: 0,
                unanchored: 0,
                removed: removed as u64,
                complete: head.complete,
            },
            head,
        })
    }

    fn take(&mut self, line: Line) -> Result<(), Fault> {
        match line {
            Line::Session { leaf, day, path } => self.session(leaf, day, &path),
            Line::Event {
                seq,
                schema_version,
                kind,
                time_ms,
                header,
                body,
                content_hash,
            } => {
                let chain = self.session.as_mut().ok_or(Fault::Orphan)?;
                let session = || chain.leaf.session.clone();
                if seq != chain.seq + 1 {
                    let (session, seq) = (session(), chain.seq + 1);
                    return Err(Fault::Missing { session, seq });
                }
                let changed = || Fault::Changed {
                    session: session(),
                    seq,
                };
                let body = STANDARD.decode(body).map_err(|_| changed())?;
                let envelope = Envelope {
                    schema_version,
                    tenant: &self.head.tenant,
                    session: &chain.leaf.session,
                    seq,
                    kind: &kind,
                    time_ms,
                    header: &header,
                    previous_hash: chain.hash,
                    body_length: body.len() as u64,
                    body_hash: body_hash(&body),
                };
                if envelope.hash() != content_hash {
                    return Err(changed());
                }
                if seq == chain.leaf.seq && content_hash != chain.leaf.hash {
                    let session = session();
                    return Err(Fault::Replaced { session, seq });
                }
                if seq <= chain.leaf.seq {
                    self.report.events += 1;
                } else {
                    self.report.unanchored += 1;
                }
                (chain.seq, chain.hash) = (seq, content_hash);
                Ok(())
            }
        }
    }

    fn session(&mut self, leaf: SessionLeaf, day: String, path: &Path) -> Result<(), Fault> {
        self.end_session()?;
        let Some(partition) = self.partitions.get(&day) else {
            return Err(Fault::Day(day));
        };
        if path.size != partition.sessions || path.root(leaf.hash()) != Some(partition.root) {
            return Err(Fault::Session(leaf.session));
        }
        if !self.seen.insert((day, path.index)) {
            return Err(Fault::Twice(leaf.session));
        }
        self.report.sessions += 1;
        self.session = Some(Chain {
            leaf,
            seq: 0,
            hash: Digest::default(),
        });
        Ok(())
    }

    fn end_session(&mut self) -> Result<(), Fault> {
        match self.session.take() {
            Some(chain) if chain.seq < chain.leaf.seq => Err(Fault::Truncated {
                session: chain.leaf.session,
                found: chain.seq,
                anchored: chain.leaf.seq,
            }),
            _ => Ok(()),
        }
    }

    fn end(mut self) -> Result<Report, Fault> {
        self.end_session()?;
        for partition in self.head.partitions.iter().filter(|one| !one.removed) {
            let of_day = |(day, _): &&(String, u64)| *day == partition.day;
            let found = self.seen.iter().filter(of_day).count() as u64;
            if self.head.complete && found != partition.sessions {
                return Err(Fault::Sessions {
                    day: partition.day.clone(),
                    found,
                    expected: partition.sessions,
                });
            }
        }
        Ok(self.report)
    }
}
