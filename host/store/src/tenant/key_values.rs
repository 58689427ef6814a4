//! What a tenant's tools keep from call to call.
//!
//! Entries are small and their sum is bounded, so that no tool can fill the disk others write their journal to. The sum stands in a row of its own: a
//! write takes that row first, which lets one write of a tenant follow the other and makes every count exact.

use super::TenantStore;
use crate::{
    Result, StoreError,
    db::{Tx, statements},
};

/// Longest key, as of a rule that names it.
pub const KEY_CAP: usize = 256;
/// Longest value.
pub const VALUE_CAP: usize = 256 << 10;
/// All of a tenant's entries together.
pub const TENANT_CAP: u64 = 16 << 20;
/// What an entry counts beside its key and value: about what its row costs.
const ROW: usize = 64;

impl TenantStore {
    pub async fn key_value(&self, key: &str) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let query = self.query(KEY_VALUE_GET).bind(key);
        let row = query.optional(&mut self.read().await?).await?;
        row.map(|row| row.blob(0)).transpose()
    }

    pub async fn has_key_value(&self, key: &str) -> Result<bool> {
        check_key(key)?;
        let query = self.query(KEY_VALUE_SIZE).bind(key);
        Ok(query.optional(&mut self.read().await?).await?.is_some())
    }

    /// Puts a value in place of an earlier one. [`StoreError::Invalid`] when it is too long or the tenant has too much.
    pub async fn put_key_value(&self, key: &str, value: &[u8]) -> Result<()> {
        check_key(key)?;
        let mut tx = self.write_of_tools().await?;
        let used = self.lock_key_values(&mut tx).await?;
        self.write_key_value(&mut tx, used, key, value).await?;
        tx.commit().await
    }

    /// Adds to a decimal number, in one step whoever else does; none yet counts as 0. The sum.
    pub async fn increment_key_value(&self, key: &str, delta: u64) -> Result<u64> {
        check_key(key)?;
        let mut tx = self.write_of_tools().await?;
        let used = self.lock_key_values(&mut tx).await?;
        let row = self
            .query(KEY_VALUE_GET)
            .bind(key)
            .optional(&mut tx)
            .await?;
        let before = match row {
            None => 0,
            Some(row) => std::str::from_utf8(&row.blob(0)?)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(invalid("value", "is not a decimal number"))?,
        };
        let sum = before
            .checked_add(delta)
            .ok_or(invalid("sum", "is beyond 64 bits"))?;
        self.write_key_value(&mut tx, used, key, sum.to_string().as_bytes())
            .await?;
        tx.commit().await?;
        Ok(sum)
    }

    /// False when there is none.
    pub async fn remove_key_value(&self, key: &str) -> Result<bool> {
        check_key(key)?;
        let mut tx = self.write_of_tools().await?;
        let used = self.lock_key_values(&mut tx).await?;
        let Some(freed) = self.key_value_size(&mut tx, key).await? else {
            return Ok(false);
        };
        self.query(KEY_VALUE_DELETE)
            .bind(key)
            .execute(&mut tx)
            .await?;
        self.query(KEY_VALUE_USED)
            .bind(used - freed)
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Keys from `from` on and before `end`, in order; where there is `after`, those after it.
    pub async fn keys_between(
        &self,
        from: &str,
        end: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        // One more than wanted: `after` itself, if it is still there.
        let query = self
            .query(KEY_VALUE_RANGE)
            .bind(after.unwrap_or(from))
            .bind(end)
            .bind(i64::from(limit) + i64::from(after.is_some()));
        let rows = query.all(&mut self.read().await?).await?;
        let keys = rows.iter().map(|row| row.text(0));
        let keys =
            keys.filter(|key| !matches!((key, after), (Ok(key), Some(after)) if key == after));
        keys.take(limit as usize).collect()
    }

    /// What is used, held until the transaction ends.
    async fn lock_key_values(&self, tx: &mut Tx) -> Result<i64> {
        let row = self.query(KEY_VALUE_LOCK).optional(tx).await?;
        row.map_or(Ok(0), |row| row.int(0))
    }

    async fn key_value_size(&self, tx: &mut Tx, key: &str) -> Result<Option<i64>> {
        let row = self.query(KEY_VALUE_SIZE).bind(key).optional(tx).await?;
        row.map(|row| row.int(0)).transpose()
    }

    async fn write_key_value(&self, tx: &mut Tx, used: i64, key: &str, value: &[u8]) -> Result<()> {
        if value.len() > VALUE_CAP {
            return Err(invalid("value", "must have at most 262,144 bytes"));
        }
        let size = i64::try_from(ROW + key.len() + value.len()).unwrap_or(i64::MAX);
        let freed = self.key_value_size(tx, key).await?.unwrap_or(0);
        let used = used - freed + size;
        if u64::try_from(used).is_ok_and(|used| used > TENANT_CAP) {
            return Err(invalid("key-value store", "is full: 16 MiB of the tenant"));
        }
        self.query(KEY_VALUE_PUT)
            .bind(key)
            .bind(value)
            .bind(size)
            .execute(tx)
            .await?;
        self.query(KEY_VALUE_USED).bind(used).execute(tx).await?;
        Ok(())
    }
}

fn check_key(key: &str) -> Result<()> {
    if (1..=KEY_CAP).contains(&key.len()) {
        Ok(())
    } else {
        Err(invalid("key", "must have 1 to 256 bytes"))
    }
}

fn invalid(what: &'static str, why: &'static str) -> StoreError {
    StoreError::Invalid { what, why }
}

statements! {
    KEY_VALUE_GET = "SELECT content FROM key_values WHERE tenant = $1 AND entry = $2";
    KEY_VALUE_SIZE = "SELECT size FROM key_values WHERE tenant = $1 AND entry = $2";
    KEY_VALUE_PUT = "INSERT INTO key_values (tenant, entry, content, size) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (tenant, entry) DO UPDATE SET content = excluded.content, size = excluded.size";
    KEY_VALUE_DELETE = "DELETE FROM key_values WHERE tenant = $1 AND entry = $2";
    KEY_VALUE_RANGE = "SELECT entry FROM key_values WHERE tenant = $1 AND entry >= $2 AND entry < $3 ORDER BY entry LIMIT $4";
    KEY_VALUE_LOCK = "INSERT INTO key_value_usage (tenant, size) VALUES ($1, 0) \
        ON CONFLICT (tenant) DO UPDATE SET size = key_value_usage.size RETURNING size";
    KEY_VALUE_USED = "UPDATE key_value_usage SET size = $2 WHERE tenant = $1";
}
