//! Capability tokens that were issued, without the tokens.

use super::TenantStore;
use crate::{
    EpochKind, Result, TokenRecord,
    db::{Row, statements},
    operator::conflict,
};
use ambit_ledger::Money;
use ambit_types::TokenId;

impl TenantStore {
    /// Notes a token before it is handed out; with what may be spent with it and its descendants, where that is bounded.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] when its id is taken, [`crate::StoreError::NotFound`] when the tenant is gone.
    pub async fn create_token(&self, token: &TokenRecord, budget: Option<Money>) -> Result<()> {
        let id = token.id.to_string();
        let query = self
            .query(TOKEN_INSERT)
            .bind(&id)
            .bind(token.parent.map(|parent| parent.to_string()))
            .bind(&token.principal)
            .bind(token.key.clone())
            .bind(token.agent.clone())
            .bind(token.session.clone())
            .bind(token.created_ms)
            .bind(token.expires_ms);
        let mut tx = self.write().await?;
        let inserted = query.execute(&mut tx).await;
        inserted.map_err(|error| conflict(error, "token"))?;
        if let Some(budget) = budget {
            let query = self.query(TOKEN_BUDGET).bind(&id).bind(budget.nanos());
            query.execute(&mut tx).await?;
        }
        tx.commit().await
    }

    /// Newest first, those that have expired too, as long as they are kept.
    pub async fn tokens(&self, before: Option<TokenId>, limit: u32) -> Result<Vec<TokenRecord>> {
        // Every id sorts before this.
        let before = before.map_or_else(|| "tok_~".to_owned(), |id| id.to_string());
        let query = self.query(TOKEN_LIST).bind(before).bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(token_from).collect()
    }

    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>> {
        let query = self.query(TOKEN_GET).bind(id.to_string());
        let row = query.optional(&mut self.read().await?).await?;
        row.as_ref().map(token_from).transpose()
    }

    /// Ends a token and its descendants, at once and for good. False when there is none or it is revoked already.
    pub async fn revoke_token(&self, id: TokenId, at_ms: i64) -> Result<bool> {
        let query = self.query(TOKEN_REVOKE).bind(id.to_string()).bind(at_ms);
        self.change(query, EpochKind::Keys).await
    }

    /// Tokens that were revoked and would still be good, with the time, in milliseconds, at which they would not.
    pub async fn revoked_tokens(&self, now_ms: i64) -> Result<Vec<(TokenId, i64)>> {
        let query = self.query(TOKENS_REVOKED).bind(now_ms);
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| Ok((row.parsed(0)?, row.int(1)?)))
            .collect()
    }
}

fn token_from(row: &Row) -> Result<TokenRecord> {
    Ok(TokenRecord {
        id: row.parsed(0)?,
        parent: row.optional_text(1)?.map(|_| row.parsed(1)).transpose()?,
        principal: row.text(2)?,
        key: row.optional_text(3)?,
        agent: row.optional_text(4)?,
        session: row.optional_text(5)?,
        created_ms: row.int(6)?,
        expires_ms: row.int(7)?,
        revoked_ms: row.optional_int(8)?,
    })
}

statements! {
    TOKEN_INSERT = "INSERT INTO tokens (tenant, token, parent, principal, key_id, agent, session, created_ms, expires_ms) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    TOKEN_BUDGET = "INSERT INTO budgets (tenant, scope, kind, period, cap) VALUES ($1, $2, 'token', 'none', $3)";
    TOKEN_LIST = "SELECT token, parent, principal, key_id, agent, session, created_ms, expires_ms, revoked_ms \
        FROM tokens WHERE tenant = $1 AND token < $2 ORDER BY token DESC LIMIT $3";
    TOKEN_GET = "SELECT token, parent, principal, key_id, agent, session, created_ms, expires_ms, revoked_ms \
        FROM tokens WHERE tenant = $1 AND token = $2";
    TOKEN_REVOKE = "UPDATE tokens SET revoked_ms = $3 WHERE tenant = $1 AND token = $2 AND revoked_ms IS NULL";
    TOKENS_REVOKED = "SELECT token, expires_ms FROM tokens WHERE tenant = $1 AND revoked_ms IS NOT NULL AND expires_ms > $2";
}
