//! Everything of one tenant.
//!
//! One file per area: who may call (`access`, `tokens`), what its components and agents are (`agents`), what they know (`documents`) and keep
//! (`key_values`), what they did (`sessions`) and may spend (`ledger`). Each read is one transaction on one snapshot; each change bumps its epoch in its own transaction.

mod access;
mod agents;
mod approvals;
mod documents;
mod key_values;
mod ledger;
mod running;
mod sessions;
mod tokens;

use crate::{
    Epoch, EpochKind, Result, Tenant,
    db::{Access, Db, Query, Statement, Turns, Tx, statements},
    keys::Keyring,
    operator::tenant_from,
};
use ambit_types::TenantId;
use std::sync::Arc;

#[cfg(test)]
pub(crate) use self::{
    access::ALL as ACCESS, agents::ALL as AGENTS, approvals::ALL as APPROVALS,
    documents::ALL as DOCUMENTS, key_values::ALL as KEY_VALUES, ledger::ALL as LEDGER,
    running::ALL as RUNNING, sessions::ALL as SESSIONS, tokens::ALL as TOKENS,
};
pub use self::{
    key_values::{KEY_CAP, TENANT_CAP, VALUE_CAP},
    running::Requested,
};

/// The rows of one tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TenantStore {
    db: Db,
    keys: Arc<Keyring>,
    /// Of the one write of the tenant that is under way.
    turns: Turns,
    tenant: TenantId,
}

impl TenantStore {
    pub(crate) fn new(db: Db, keys: Arc<Keyring>, turns: Turns, tenant: TenantId) -> Self {
        Self {
            db,
            keys,
            turns,
            tenant,
        }
    }

    #[must_use]
    pub fn id(&self) -> TenantId {
        self.tenant
    }

    pub async fn tenant(&self) -> Result<Option<Tenant>> {
        let row = self
            .query(TENANT_GET)
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(tenant_from).transpose()
    }

    /// Every kind that ever changed; the others are 0.
    pub async fn epochs(&self) -> Result<Vec<Epoch>> {
        let rows = self.query(EPOCH_LIST).all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| {
                Ok(Epoch {
                    kind: row.parsed(0)?,
                    value: row.int(1)?,
                })
            })
            .collect()
    }

    async fn read(&self) -> Result<Tx> {
        self.db.read(Access::Tenant(self.tenant)).await
    }

    async fn write(&self) -> Result<Tx> {
        let turn = self.turns.first().await?;
        let tx = self.db.write(Access::Tenant(self.tenant)).await?;
        Ok(tx.holding([turn]))
    }

    /// For what tools write: of it there may be much, and a revoked key does not wait for it.
    async fn write_of_tools(&self) -> Result<Tx> {
        let turns = self.turns.second().await?;
        let tx = self.db.write(Access::Tenant(self.tenant)).await?;
        Ok(tx.holding(turns))
    }

    /// A statement whose `$1` is the tenant: all of this module are.
    fn query(&self, statement: Statement) -> Query {
        statement.query().bind(self.tenant.to_string())
    }

    async fn bump(&self, tx: &mut Tx, kind: EpochKind) -> Result<()> {
        self.query(EPOCH_BUMP)
            .bind(kind.as_str())
            .execute(tx)
            .await
            .map(drop)
    }

    /// Runs one statement; when it changed a row, bumps the epoch with it.
    async fn change(&self, query: Query, kind: EpochKind) -> Result<bool> {
        let mut tx = self.write().await?;
        if query.execute(&mut tx).await? == 0 {
            return Ok(false);
        }
        self.bump(&mut tx, kind).await?;
        tx.commit().await?;
        Ok(true)
    }
}

statements! {
    TENANT_GET = "SELECT tenant, slug, display_name, created_ms FROM tenants WHERE tenant = $1";
    EPOCH_LIST = "SELECT kind, epoch FROM tenant_epochs WHERE tenant = $1 ORDER BY kind";
    EPOCH_BUMP = "INSERT INTO tenant_epochs (tenant, kind, epoch) VALUES ($1, $2, 1) \
        ON CONFLICT (tenant, kind) DO UPDATE SET epoch = tenant_epochs.epoch + 1";
}
