//! What nobody will settle any more.

use crate::{
    Result, Store, StoreError,
    db::{Access, statements},
    ledger::{self, Wanted},
};
use ambit_ledger::{LedgerOp, Refusal};
use ambit_types::{ReservationId, SessionId, TenantId};

/// Released in one transaction: bounds how long the journal waits for it.
const BATCH: i64 = 256;

impl Store {
    /// Releases reservations that nobody will settle: those of sessions that are closed or gone, and those from before `before_ms`, when
    /// no process that still runs can have made them. The number released. For recovery, after it has closed the sessions it found open.
    ///
    /// Whoever was only taken for dead may still settle: what was spent is counted then, even beyond a limit.
    ///
    /// # Errors
    /// Those of the database. What was released before stays so, and a second call goes on.
    pub async fn release_abandoned(&self, before_ms: i64) -> Result<u64> {
        release(&self.db, before_ms).await
    }
}

pub(crate) async fn release(db: &crate::db::Db, before_ms: i64) -> Result<u64> {
    let mut released = 0;
    loop {
        let query = RESERVATIONS_ABANDONED.query().bind(before_ms).bind(BATCH);
        let rows = query.all(&mut db.read(Access::Operator).await?).await?;
        let mut abandoned = Vec::with_capacity(rows.len());
        for row in &rows {
            let tenant: TenantId = row.parsed(0)?;
            let session: SessionId = row.parsed(2)?;
            let id: ReservationId = row.parsed(1)?;
            abandoned.push((tenant, session, [LedgerOp::Release { id }]));
        }
        if abandoned.is_empty() {
            return Ok(released);
        }
        let mut tx = db.write(Access::EachTenant).await?;
        let wanted = abandoned.iter().map(|(tenant, session, ops)| Wanted {
            tenant: *tenant,
            session: *session,
            ops,
        });
        let mut books = ledger::load(&mut tx, wanted).await?;
        for (tenant, session, ops) in &abandoned {
            match books.apply(*tenant, *session, ops) {
                // Removed meanwhile, with its session.
                Ok(()) | Err(Refusal::Unknown) => {}
                Err(refusal) => return Err(StoreError::refused(refusal)),
            }
        }
        released += books.changed_reservations().count() as u64;
        ledger::write(&mut tx, &books).await?;
        tx.commit().await?;
    }
}

statements! {
    RESERVATIONS_ABANDONED = "SELECT r.tenant, r.reservation, r.session FROM reservations r \
        LEFT JOIN sessions s ON s.tenant = r.tenant AND s.session = r.session \
        WHERE r.state = 'reserved' AND (r.at_ms < $1 OR s.state IS NULL OR s.state NOT IN ('open', 'suspended')) \
        ORDER BY r.tenant, r.reservation LIMIT $2";
}
