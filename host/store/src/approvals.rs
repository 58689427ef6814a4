//! What agents may do only once somebody approved of it. A row is one call, bound to its session, tool, arguments and policy.
//!
//! Rows change only with events of the journal, by [`crate::Append::approval`]: an operation whose conditions do not hold refuses the whole append. So
//! an approval is used at most once, by the call it was given for, in whatever order people and processes come.

use crate::{
    Digest, Operator, Result, SessionState, StoreError,
    db::{Query, Row, Statement, Tx, statements},
    records::text_enum,
};
use ambit_types::{ApprovalId, SessionId, TenantId};
use std::sync::Arc;

text_enum! {
    /// What was decided and done.
    ApprovalState {
        Pending = "pending",
        Approved = "approved",
        Denied = "denied",
        /// The call was begun.
        Used = "used",
        /// Nobody was asked: the call could not have been made anyway.
        Refused = "refused",
    }
}

/// What an approval holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Of the call's canonical arguments (RFC 8785), by [`crate::TenantStore::keyed_digest`].
    pub arguments: Digest,
    /// Of everything the call is allowed by.
    pub policy: Digest,
}

/// A call that somebody has to approve of.
#[derive(Debug, Clone)]
pub struct NewApproval {
    pub id: ApprovalId,
    pub agent: Arc<str>,
    /// Whom the session acts for.
    pub principal: Arc<str>,
    pub tool: Arc<str>,
    pub bound: Bound,
    /// Whether that principal may not decide itself.
    pub by_another: bool,
    pub created_ms: i64,
    pub expires_ms: i64,
}

/// A change of an approval, with events that say the same.
#[derive(Debug, Clone)]
pub enum ApprovalOp {
    Ask(NewApproval),
    /// Notes a call that could not be made anyway, so that nobody is asked.
    Refuse(NewApproval, Arc<str>),
    /// Of one that is pending and has not expired, by whom it allows.
    Decide {
        id: ApprovalId,
        approved: bool,
        by: Arc<str>,
        at_ms: i64,
    },
    /// Begins the call. Of one that was approved, has not expired, was not used and holds for this.
    Use {
        id: ApprovalId,
        bound: Bound,
        at_ms: i64,
    },
    /// What became of the call, the first time that is said.
    Outcome {
        id: ApprovalId,
        code: Arc<str>,
        at_ms: i64,
    },
}

/// An approval as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub tenant: TenantId,
    pub id: ApprovalId,
    pub session: SessionId,
    pub agent: String,
    pub principal: String,
    pub tool: String,
    pub bound: Bound,
    pub by_another: bool,
    pub state: ApprovalState,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub decided_ms: Option<i64>,
    pub decided_by: Option<String>,
    pub used_ms: Option<i64>,
    /// `ok`, or why there is no result.
    pub outcome: Option<String>,
    pub outcome_ms: Option<i64>,
    /// Of the session, now.
    pub session_state: SessionState,
}

impl Approval {
    /// Where it stands: `pending`, `approved`, `denied`, `used`, `refused`; or why it can be none of these any more: `expired`, `withdrawn` with its session, or
    /// `void` because the agent went on without it.
    #[must_use]
    pub fn standing(&self, now_ms: i64) -> &'static str {
        match self.state {
            ApprovalState::Denied | ApprovalState::Used | ApprovalState::Refused => {
                self.state.as_str()
            }
            _ if self.session_state.is_closed() => "withdrawn",
            _ if self.expires_ms <= now_ms => "expired",
            _ if self.outcome.is_some() => "void",
            state => state.as_str(),
        }
    }

    /// Whether somebody can still decide.
    #[must_use]
    pub fn is_pending(&self, now_ms: i64) -> bool {
        self.standing(now_ms) == ApprovalState::Pending.as_str()
    }
}

/// Approvals of a list, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Only those that wait for somebody.
    pub pending: bool,
    /// Only those that something happened to from then on, and before then, in milliseconds.
    pub within: Option<(i64, i64)>,
    /// Only those whose id is smaller.
    pub before: Option<ApprovalId>,
    pub limit: u32,
}

impl Asked {
    /// With the values that its statement takes after a tenant.
    pub(crate) fn query(
        &self,
        which: &Statements,
        query: impl Fn(Statement) -> Query,
        now_ms: i64,
    ) -> Query {
        // Every id is smaller than "apr_g".
        let before = self
            .before
            .map_or_else(|| "apr_g".to_owned(), |id| id.to_string());
        let bound = |statement| query(statement).bind(&before).bind(i64::from(self.limit));
        match self.within {
            Some((from, to)) => bound(which.within).bind(from).bind(to),
            None if self.pending => bound(which.pending).bind(now_ms),
            None => bound(which.all),
        }
    }
}

/// Of one who sees all tenants, or one.
pub(crate) struct Statements {
    pub(crate) all: Statement,
    pub(crate) pending: Statement,
    pub(crate) within: Statement,
}

impl Operator {
    /// Every tenant's.
    pub async fn approvals(&self, asked: &Asked, now_ms: i64) -> Result<Vec<Approval>> {
        let which = Statements {
            all: APPROVALS,
            pending: APPROVALS_PENDING,
            within: APPROVALS_WITHIN,
        };
        let query = asked.query(&which, Statement::query, now_ms);
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(approval_from).collect()
    }

    /// The tenant of an approval.
    pub async fn tenant_of_approval(&self, id: ApprovalId) -> Result<Option<TenantId>> {
        let query = APPROVAL_TENANT.query().bind(id.to_string());
        let row = query.optional(&mut self.read().await?).await?;
        row.map(|row| row.parsed(0)).transpose()
    }
}

/// Carries operations out.
///
/// # Errors
/// [`StoreError::Conflict`] when the conditions of one do not hold: what was done before it must be undone with the transaction.
pub(crate) async fn apply(
    tx: &mut Tx,
    tenant: &Arc<str>,
    session: &Arc<str>,
    ops: &[ApprovalOp],
) -> Result<()> {
    if ops.is_empty() {
        return Ok(());
    }
    tx.enter(tenant).await?;
    for op in ops {
        let of = |query: Query, id: &ApprovalId| {
            let query = query.bind(Arc::clone(tenant)).bind(Arc::clone(session));
            query.bind(id.to_string())
        };
        let new = |new: &NewApproval, state: ApprovalState| {
            of(APPROVAL_NEW.query(), &new.id)
                .bind(Arc::clone(&new.agent))
                .bind(Arc::clone(&new.principal))
                .bind(Arc::clone(&new.tool))
                .bind(new.bound.arguments)
                .bind(new.bound.policy)
                .bind(i64::from(new.by_another))
                .bind(new.created_ms)
                .bind(new.expires_ms)
                .bind(state.as_str())
        };
        let query = match op {
            ApprovalOp::Ask(asked) => new(asked, ApprovalState::Pending)
                .bind(None::<String>)
                .bind(None::<i64>),
            ApprovalOp::Refuse(refused, code) => new(refused, ApprovalState::Refused)
                .bind(Arc::clone(code))
                .bind(refused.created_ms),
            ApprovalOp::Decide {
                id,
                approved,
                by,
                at_ms,
            } => {
                let state = match approved {
                    true => ApprovalState::Approved,
                    false => ApprovalState::Denied,
                };
                let query = APPROVAL_DECIDE.query().bind(state.as_str());
                of(query.bind(*at_ms).bind(Arc::clone(by)), id)
            }
            ApprovalOp::Use { id, bound, at_ms } => of(APPROVAL_USE.query().bind(*at_ms), id)
                .bind(bound.arguments)
                .bind(bound.policy),
            ApprovalOp::Outcome { id, code, at_ms } => {
                let query = APPROVAL_OUTCOME.query().bind(Arc::clone(code));
                of(query.bind(*at_ms), id)
            }
        };
        let changed = query.execute(tx).await?;
        if changed == 0 && !matches!(op, ApprovalOp::Outcome { .. }) {
            return Err(StoreError::Conflict { what: "approval" });
        }
    }
    Ok(())
}

pub(crate) fn approval_from(row: &Row) -> Result<Approval> {
    Ok(Approval {
        tenant: row.parsed(0)?,
        id: row.parsed(1)?,
        session: row.parsed(2)?,
        agent: row.text(3)?,
        principal: row.text(4)?,
        tool: row.text(5)?,
        bound: Bound {
            arguments: row.digest(6)?,
            policy: row.digest(7)?,
        },
        by_another: row.int(8)? != 0,
        state: row.parsed(9)?,
        created_ms: row.int(10)?,
        expires_ms: row.int(11)?,
        decided_ms: row.optional_int(12)?,
        decided_by: row.optional_text(13)?,
        used_ms: row.optional_int(14)?,
        outcome: row.optional_text(15)?,
        outcome_ms: row.optional_int(16)?,
        session_state: row.parsed(17)?,
    })
}

/// Approvals with the state of their sessions.
macro_rules! select_approvals {
    ($($which:expr),*) => {
        concat!(
            "SELECT a.tenant, a.approval, a.session, a.agent, a.principal, a.tool, a.arguments, a.policy, a.by_another, a.state, a.created_ms, \
                a.expires_ms, a.decided_ms, a.decided_by, a.used_ms, a.outcome, a.outcome_ms, s.state \
                FROM approvals a JOIN sessions s ON s.tenant = a.tenant AND s.session = a.session WHERE ",
            $($which),*
        )
    };
}
pub(crate) use select_approvals;

/// Those that somebody can decide on.
macro_rules! pending_at {
    ($now:literal) => {
        concat!(
            "a.state = 'pending' AND a.outcome IS NULL AND s.state = 'suspended' AND s.reason = 'approval' AND a.expires_ms > ",
            $now
        )
    };
}
pub(crate) use pending_at;

/// Those that something happened to.
macro_rules! within {
    ($from:literal, $to:literal) => {
        concat!(
            "a.changed_ms >= ",
            $from,
            " AND (",
            $crate::approvals::between!("a.created_ms", $from, $to),
            " OR ",
            $crate::approvals::between!("a.decided_ms", $from, $to),
            " OR ",
            $crate::approvals::between!("a.used_ms", $from, $to),
            " OR ",
            $crate::approvals::between!("a.outcome_ms", $from, $to),
            ")"
        )
    };
}
macro_rules! between {
    ($time:literal, $from:literal, $to:literal) => {
        concat!("(", $time, " >= ", $from, " AND ", $time, " < ", $to, ")")
    };
}
pub(crate) use between;
pub(crate) use within;

/// Those of the journal's writer.
#[cfg(test)]
pub(crate) const OF_WRITER: [Statement; 4] = [
    APPROVAL_NEW,
    APPROVAL_DECIDE,
    APPROVAL_USE,
    APPROVAL_OUTCOME,
];

statements! {
    APPROVAL_NEW = "INSERT INTO approvals \
        (tenant, session, approval, agent, principal, tool, arguments, policy, by_another, created_ms, expires_ms, state, outcome, outcome_ms, changed_ms) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $10) ON CONFLICT DO NOTHING";
    APPROVAL_DECIDE = "UPDATE approvals SET state = $1, decided_ms = $2, changed_ms = CASE WHEN changed_ms > $2 THEN changed_ms ELSE $2 END, decided_by = $3 \
        WHERE tenant = $4 AND session = $5 AND approval = $6 AND state = 'pending' AND expires_ms > $2 AND outcome IS NULL \
        AND (by_another = 0 OR principal <> $3)";
    APPROVAL_USE = "UPDATE approvals SET state = 'used', used_ms = $1, changed_ms = CASE WHEN changed_ms > $1 THEN changed_ms ELSE $1 END \
        WHERE tenant = $2 AND session = $3 AND approval = $4 AND state = 'approved' AND expires_ms > $1 AND outcome IS NULL \
        AND arguments = $5 AND policy = $6";
    APPROVAL_OUTCOME = "UPDATE approvals SET outcome = $1, outcome_ms = $2, changed_ms = CASE WHEN changed_ms > $2 THEN changed_ms ELSE $2 END \
        WHERE tenant = $3 AND session = $4 AND approval = $5 AND outcome IS NULL";
    APPROVAL_TENANT = "SELECT tenant FROM approvals WHERE approval = $1";
    APPROVALS = select_approvals!("a.approval < $1 ORDER BY a.approval DESC LIMIT $2");
    APPROVALS_PENDING = select_approvals!("a.approval < $1 AND ", pending_at!("$3"), " ORDER BY a.approval DESC LIMIT $2");
    APPROVALS_WITHIN = select_approvals!("a.approval < $1 AND ", within!("$3", "$4"), " ORDER BY a.approval DESC LIMIT $2");
}
