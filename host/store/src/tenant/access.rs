//! Who may call a tenant: API keys and trusted issuers.

use super::TenantStore;
use crate::{
    ApiKey, EpochKind, Issuer, Result, StoreError,
    db::{Row, json, statements},
    operator::conflict,
};

impl TenantStore {
    /// [`StoreError::Conflict`] when the public id is taken, [`StoreError::NotFound`] when the tenant is gone.
    pub async fn create_key(&self, key: &ApiKey) -> Result<()> {
        if key.id.is_empty() || key.id.len() > 64 {
            return Err(StoreError::Invalid {
                what: "key id",
                why: "must have 1 to 64 bytes",
            });
        }
        let query = self
            .query(KEY_INSERT)
            .bind(&key.id)
            .bind(&key.name)
            .bind(&key.principal)
            .bind(key.secret_hash)
            .bind(json(&key.scopes)?)
            .bind(&key.last_four)
            .bind(key.created_ms)
            .bind(key.expires_ms)
            .bind(key.revoked_ms)
            .bind(key.permissions.as_ref().map(json).transpose()?);
        self.change(query, EpochKind::Keys)
            .await
            .map(drop)
            .map_err(|e| conflict(e, "key"))
    }

    /// All, revoked and expired ones too, oldest first.
    pub async fn keys(&self) -> Result<Vec<ApiKey>> {
        let rows = self.query(KEY_LIST).all(&mut self.read().await?).await?;
        rows.iter().map(key_from).collect()
    }

    pub async fn key(&self, id: &str) -> Result<Option<ApiKey>> {
        let row = self
            .query(KEY_GET)
            .bind(id)
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(key_from).transpose()
    }

    /// False when there is none or it is revoked already.
    pub async fn revoke_key(&self, id: &str, at_ms: i64) -> Result<bool> {
        self.change(self.query(KEY_REVOKE).bind(id).bind(at_ms), EpochKind::Keys)
            .await
    }

    /// Trusts an issuer, in place of an earlier entry for it.
    pub async fn put_issuer(&self, issuer: &Issuer) -> Result<()> {
        if issuer.issuer.is_empty() || issuer.issuer.len() > 1024 {
            return Err(StoreError::Invalid {
                what: "issuer",
                why: "must have 1 to 1,024 bytes",
            });
        }
        let query = self
            .query(ISSUER_PUT)
            .bind(&issuer.issuer)
            .bind(json(&issuer.audiences)?)
            .bind(json(&issuer.algorithms)?)
            .bind(json(&issuer.types)?)
            .bind(i64::from(issuer.leeway))
            .bind(json(&issuer.scopes)?)
            .bind(issuer.jwks_uri.clone())
            .bind(issuer.jwks.as_ref().map(json).transpose()?);
        self.change(query, EpochKind::Issuers).await.map(drop)
    }

    pub async fn issuers(&self) -> Result<Vec<Issuer>> {
        let rows = self.query(ISSUER_LIST).all(&mut self.read().await?).await?;
        rows.iter().map(issuer_from).collect()
    }

    pub async fn remove_issuer(&self, issuer: &str) -> Result<bool> {
        self.change(self.query(ISSUER_DELETE).bind(issuer), EpochKind::Issuers)
            .await
    }
}

fn key_from(row: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.text(0)?,
        name: row.text(1)?,
        principal: row.text(2)?,
        secret_hash: row.digest(3)?,
        scopes: row.json(4)?,
        last_four: row.text(5)?,
        created_ms: row.int(6)?,
        expires_ms: row.optional_int(7)?,
        revoked_ms: row.optional_int(8)?,
        permissions: row.optional_json(9)?,
    })
}

fn issuer_from(row: &Row) -> Result<Issuer> {
    Ok(Issuer {
        issuer: row.text(0)?,
        audiences: row.json(1)?,
        algorithms: row.json(2)?,
        types: row.json(3)?,
        leeway: row.unsigned_32(4)?,
        scopes: row.json(5)?,
        jwks_uri: row.optional_text(6)?,
        jwks: row.optional_json(7)?,
    })
}

statements! {
    KEY_INSERT = "INSERT INTO api_keys \
        (tenant, key_id, name, principal, secret_hash, scopes, last_four, created_ms, expires_ms, revoked_ms, permissions) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    KEY_LIST = "SELECT key_id, name, principal, secret_hash, scopes, last_four, created_ms, expires_ms, revoked_ms, permissions FROM api_keys \
        WHERE tenant = $1 ORDER BY created_ms, key_id";
    KEY_GET = "SELECT key_id, name, principal, secret_hash, scopes, last_four, created_ms, expires_ms, revoked_ms, permissions FROM api_keys \
        WHERE tenant = $1 AND key_id = $2";
    KEY_REVOKE = "UPDATE api_keys SET revoked_ms = $3 WHERE tenant = $1 AND key_id = $2 AND revoked_ms IS NULL";
    ISSUER_PUT = "INSERT INTO issuers (tenant, issuer, audiences, algorithms, types, leeway_s, scopes, jwks_uri, jwks) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant, issuer) DO UPDATE SET \
        audiences = excluded.audiences, algorithms = excluded.algorithms, types = excluded.types, leeway_s = excluded.leeway_s, \
        scopes = excluded.scopes, jwks_uri = excluded.jwks_uri, jwks = excluded.jwks";
    ISSUER_LIST = "SELECT issuer, audiences, algorithms, types, leeway_s, scopes, jwks_uri, jwks FROM issuers \
        WHERE tenant = $1 ORDER BY issuer";
    ISSUER_DELETE = "DELETE FROM issuers WHERE tenant = $1 AND issuer = $2";
}
