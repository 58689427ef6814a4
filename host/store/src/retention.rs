//! What is not kept for ever: whole sessions, closed ones and those whose process died. Part of a session is never removed, because the rest
//! would no longer be the chain that was recorded.

use crate::{
    Result, SessionState,
    db::{Access, Db, statements},
};

/// Sessions removed in one transaction: bounds how long SQLite's only writer is held.
const BATCH: i64 = 10;

/// What an open session is given beyond the rest: no request is at work for so long, so its process is gone. On a database that nodes share
/// nobody closes it.
const OPEN_MS: i64 = 24 * 3600 * 1000;

pub(crate) async fn prune(db: &Db, before_ms: i64) -> Result<u64> {
    let mut pruned = 0;
    for (state, before_ms) in [
        (SessionState::Finished, before_ms),
        (SessionState::Failed, before_ms),
        (SessionState::Interrupted, before_ms),
        (SessionState::Open, before_ms.saturating_sub(OPEN_MS)),
    ] {
        loop {
            let mut tx = db.write(Access::Operator).await?;
            let sessions = OLD_SESSIONS
                .query()
                .bind(state.as_str())
                .bind(before_ms)
                .bind(BATCH)
                .all(&mut tx)
                .await?;
            for session in &sessions {
                let (tenant, session) = (session.text(0)?, session.text(1)?);
                EVENTS_DELETE
                    .query()
                    .bind(&tenant)
                    .bind(&session)
                    .execute(&mut tx)
                    .await?;
                SESSION_DELETE
                    .query()
                    .bind(&tenant)
                    .bind(&session)
                    .execute(&mut tx)
                    .await?;
            }
            tx.commit().await?;
            if sessions.is_empty() {
                break;
            }
            pruned += sessions.len() as u64;
        }
    }
    Ok(pruned)
}

statements! {
    OLD_SESSIONS = "SELECT tenant, session FROM sessions WHERE state = $1 AND updated_ms < $2 ORDER BY updated_ms LIMIT $3";
    EVENTS_DELETE = "DELETE FROM events WHERE tenant = $1 AND session = $2";
    SESSION_DELETE = "DELETE FROM sessions WHERE tenant = $1 AND session = $2";
}
