//! What is not kept for ever: whole partitions, a tenant's sessions of one day, once all of them are closed and an anchor vouches for them. What stays of
//! one is its leaf, marked as removed, which the next anchor signs. Part of a partition is never removed, because the rest would no longer be
//! what was recorded.

use crate::{
    Day, Result, anchors,
    day::ids_of,
    db::{Access, Db, Row, Statement, statements},
    ledger, now_ms,
};
use std::collections::HashMap;

/// Sessions removed in one transaction: bounds how long SQLite's only writer is held.
const BATCH: i64 = 10;

/// Sessions looked at at a time.
const PAGE: i64 = 1024;

/// What an open session is given beyond the rest: no request is at work for so long, so its process is gone. On a database that nodes share
/// nobody closes it.
const OPEN_MS: i64 = 24 * 3600 * 1000;

/// Removes partitions of days before that of `before_ms` in which nothing changed since; how many sessions there were.
pub(crate) async fn prune(db: &Db, before_ms: i64) -> Result<u64> {
    // What is removed with its session must not be held in an account for ever.
    ledger::release_abandoned(db, now_ms() - OPEN_MS).await?;
    forget_tokens(db, before_ms).await?;
    let before = Day::from_ms(before_ms);
    let mut pruned = 0;
    let rows = {
        let query = OLD_PARTITIONS.query().bind(before.to_string());
        query.all(&mut db.read(Access::Operator).await?).await?
    };
    let mut unanchored = 0;
    for partition in rows {
        match remove(db, &partition, before_ms).await? {
            Some(sessions) => pruned += sessions,
            None => unanchored += 1,
        }
    }
    if unanchored > 0 {
        tracing::warn!(
            partitions = unanchored,
            "past their retention, and kept because no anchor vouches for all of them"
        );
    }
    Ok(pruned)
}

/// Forgets capability tokens that expired before then, their budgets, and idempotency keys from before then.
async fn forget_tokens(db: &Db, before_ms: i64) -> Result<()> {
    let mut tx = db.write(Access::Operator).await?;
    for statement in [
        TOKEN_BUDGETS_EXPIRED,
        TOKEN_ACCOUNTS_EXPIRED,
        TOKENS_EXPIRED,
        REQUESTS_OLD,
    ] {
        statement.query().bind(before_ms).execute(&mut tx).await?;
    }
    tx.commit().await
}

/// How many sessions there were. None: it is to be removed, and no anchor vouches for it.
async fn remove(db: &Db, partition: &Row, before_ms: i64) -> Result<Option<u64>> {
    let (tenant, day) = (partition.text(0)?, partition.text(1)?);
    let (from, to) = ids_of(partition.parsed(1)?);
    let mut pruned = 0;
    let mut marked = partition.optional_int(2)?.is_some();
    let kept = || {
        let query = KEPT_SESSION.query().bind(&tenant).bind(&from).bind(&to);
        query
            .bind(before_ms)
            .bind(before_ms.saturating_sub(OPEN_MS))
    };
    if !marked {
        // Its leaves and heads are many, and one session that waits keeps the day: that is asked first.
        let mut tx = db.read(Access::Operator).await?;
        if kept().optional(&mut tx).await?.is_some() {
            return Ok(Some(0));
        }
        drop(tx);
        if !is_anchored(db, &tenant, &day, (&from, &to)).await? {
            return Ok(None);
        }
    }
    loop {
        let mut tx = db.write(Access::Operator).await?;
        if !marked {
            // What was gone on with meanwhile.
            if kept().optional(&mut tx).await?.is_some() {
                return Ok(Some(0));
            }
            // First of all: who finds sessions missing finds why.
            let query = PARTITION_REMOVED.query().bind(&tenant).bind(&day);
            query.bind(now_ms()).execute(&mut tx).await?;
            let query = LEAVES_DELETE.query().bind(&tenant).bind(&day);
            query.execute(&mut tx).await?;
            marked = true;
        }
        let query = SESSIONS_OF_DAY.query().bind(&tenant).bind(&from).bind(&to);
        let sessions = query.bind(BATCH).all(&mut tx).await?;
        for session in &sessions {
            for statement in OF_SESSION {
                let query = statement.query().bind(&tenant).bind(session.text(0)?);
                query.execute(&mut tx).await?;
            }
        }
        tx.commit().await?;
        pruned += sessions.len() as u64;
        if sessions.is_empty() {
            break;
        }
    }
    let mut tx = db.write(Access::Operator).await?;
    let query = PARTITION_EMPTIED.query().bind(&tenant).bind(&day);
    query.bind(now_ms()).execute(&mut tx).await?;
    tx.commit().await?;
    Ok(Some(pruned))
}

/// Whether an anchor vouches for all that ended of a day: where anchoring stopped in the middle of it, nobody could tell what the rest had been. What a
/// killed process left open may never have been anchored, and must not keep a day for ever.
async fn is_anchored(db: &Db, tenant: &str, day: &str, (from, to): (&str, &str)) -> Result<bool> {
    let mut tx = db.read(Access::Operator).await?;
    let mut anchored: HashMap<String, i64> = HashMap::new();
    for leaf in anchors::leaves(&mut tx, tenant, day).await? {
        let highest = anchored.entry(leaf.session).or_default();
        *highest = leaf.seq.max(*highest);
    }
    let mut after = from.to_owned();
    loop {
        let query = HEADS_OF_DAY.query().bind(tenant).bind(&after).bind(to);
        let heads = query.bind(PAGE).all(&mut tx).await?;
        for head in &heads {
            after = head.text(0)?;
            let (seq, last) = (anchored.get(&after).copied(), head.int(1)?);
            if seq.is_none_or(|seq| seq < last) {
                return Ok(false);
            }
        }
        if heads.len() < PAGE as usize {
            return Ok(true);
        }
    }
}

/// What of a session is removed, after what it cost is carried over.
const OF_SESSION: [Statement; 7] = [
    RESERVATIONS_CARRY,
    RESERVATIONS_DELETE,
    ACCOUNTS_DELETE,
    BUDGETS_DELETE,
    APPROVALS_DELETE,
    EVENTS_DELETE,
    SESSION_DELETE,
];

statements! {
    TOKEN_BUDGETS_EXPIRED = "DELETE FROM budgets WHERE kind = 'token' AND EXISTS (SELECT 1 FROM tokens \
        WHERE tokens.tenant = budgets.tenant AND tokens.token = budgets.scope AND tokens.expires_ms < $1)";
    TOKEN_ACCOUNTS_EXPIRED = "DELETE FROM accounts WHERE kind = 'token' AND EXISTS (SELECT 1 FROM tokens \
        WHERE tokens.tenant = accounts.tenant AND tokens.token = accounts.scope AND tokens.expires_ms < $1)";
    TOKENS_EXPIRED = "DELETE FROM tokens WHERE expires_ms < $1";
    REQUESTS_OLD = "DELETE FROM session_requests WHERE created_ms < $1";
    RESERVATIONS_CARRY = "INSERT INTO spending (tenant, day, agent, key_id, provider, model, calls, input_tokens, cached_tokens, \
            output_tokens, reasoning_tokens, cost, carried) \
        SELECT tenant, at_ms / 86400000, agent, key_id, provider, model, 0, 0, 0, 0, 0, 0, CAST(SUM(cost) AS BIGINT) FROM reservations \
        WHERE tenant = $1 AND session = $2 AND state = 'settled' GROUP BY tenant, at_ms / 86400000, agent, key_id, provider, model \
        ON CONFLICT (tenant, day, agent, key_id, provider, model) DO UPDATE SET carried = spending.carried + excluded.carried";
    RESERVATIONS_DELETE = "DELETE FROM reservations WHERE tenant = $1 AND session = $2 AND state <> 'reserved'";
    ACCOUNTS_DELETE = "DELETE FROM accounts WHERE tenant = $1 AND scope = $2 AND kind = 'session'";
    BUDGETS_DELETE = "DELETE FROM budgets WHERE tenant = $1 AND scope = $2 AND kind = 'session'";
    OLD_PARTITIONS = "SELECT tenant, day, removed_ms FROM partitions WHERE emptied_ms IS NULL AND day < $1 ORDER BY day, tenant";
    KEPT_SESSION = "SELECT session FROM sessions WHERE tenant = $1 AND session >= $2 AND session < $3 \
        AND (updated_ms >= $4 OR state = 'suspended' OR (state = 'open' AND updated_ms >= $5)) LIMIT 1";
    HEADS_OF_DAY = "SELECT session, head_seq FROM sessions WHERE tenant = $1 AND session > $2 AND session < $3 AND state <> 'open' \
        ORDER BY session LIMIT $4";
    PARTITION_REMOVED = "UPDATE partitions SET removed_ms = $3 WHERE tenant = $1 AND day = $2";
    PARTITION_EMPTIED = "UPDATE partitions SET emptied_ms = $3 WHERE tenant = $1 AND day = $2";
    SESSIONS_OF_DAY = "SELECT session FROM sessions WHERE tenant = $1 AND session >= $2 AND session < $3 LIMIT $4";
    LEAVES_DELETE = "DELETE FROM leaves WHERE tenant = $1 AND day = $2";
    APPROVALS_DELETE = "DELETE FROM approvals WHERE tenant = $1 AND session = $2";
    EVENTS_DELETE = "DELETE FROM events WHERE tenant = $1 AND session = $2";
    SESSION_DELETE = "DELETE FROM sessions WHERE tenant = $1 AND session = $2";
}
