//! What crosses tenants: the directory, components, the operator's grants, epochs, retention.

use crate::{
    Component, CostBy, Costs, Digest, Grant, HostName, InstallationEpochKind, Result, Session,
    SessionState, SlotBinding, StoreError, Tenant, TenantEpoch,
    db::{Access, Db, Row, Tx, json, statements},
    journal::session_from,
    ledger::costs_from,
    now_ms, retention,
};
use ambit_ledger::Day;
use ambit_types::{ComponentName, TenantId, TenantSlug};

/// For the operator's commands and the host's own snapshots, never for a request.
#[derive(Debug, Clone)]
pub struct Operator {
    db: Db,
}

impl Operator {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn read(&self) -> Result<Tx> {
        self.db.read(Access::Operator).await
    }

    pub(crate) async fn write(&self) -> Result<Tx> {
        self.db.write(Access::Operator).await
    }

    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn create_tenant(&self, slug: TenantSlug, display_name: &str) -> Result<Tenant> {
        let tenant = Tenant {
            id: TenantId::new(),
            slug,
            display_name: display_name.to_owned(),
            created_ms: now_ms(),
        };
        let mut tx = self.write().await?;
        TENANT_INSERT
            .query()
            .bind(tenant.id.to_string())
            .bind(tenant.slug.as_str())
            .bind(display_name)
            .bind(tenant.created_ms)
            .execute(&mut tx)
            .await
            .map_err(|e| conflict(e, "tenant"))?;
        bump(&mut tx, InstallationEpochKind::Directory).await?;
        tx.commit().await?;
        Ok(tenant)
    }

    /// In order of name.
    pub async fn tenants(&self) -> Result<Vec<Tenant>> {
        let rows = TENANT_LIST.query().all(&mut self.read().await?).await?;
        rows.iter().map(tenant_from).collect()
    }

    pub async fn tenant_by_slug(&self, slug: &TenantSlug) -> Result<Option<Tenant>> {
        let row = TENANT_BY_SLUG
            .query()
            .bind(slug.as_str())
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(tenant_from).transpose()
    }

    /// Gives a name to a tenant. [`StoreError::Conflict`] when any tenant has it.
    pub async fn add_host_name(&self, host_name: &HostName) -> Result<()> {
        // RFC 1035 §2.3.4
        if host_name.name.is_empty() || host_name.name.len() > 253 {
            return Err(StoreError::Invalid {
                what: "host name",
                why: "must have 1 to 253 bytes",
            });
        }
        let mut tx = self.write().await?;
        let tenant = host_name.tenant.to_string();
        HOST_NAME_INSERT
            .query()
            .bind(tenant)
            .bind(&host_name.name)
            .execute(&mut tx)
            .await
            .map_err(|e| conflict(e, "host name"))?;
        bump(&mut tx, InstallationEpochKind::Directory).await?;
        tx.commit().await
    }

    pub async fn remove_host_name(&self, host_name: &HostName) -> Result<bool> {
        let mut tx = self.write().await?;
        let removed = HOST_NAME_DELETE
            .query()
            .bind(host_name.tenant.to_string())
            .bind(&host_name.name)
            .execute(&mut tx)
            .await?;
        bump_and_commit(tx, InstallationEpochKind::Directory, removed).await
    }

    pub async fn host_names(&self) -> Result<Vec<HostName>> {
        let rows = HOST_NAME_LIST.query().all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| {
                Ok(HostName {
                    tenant: row.parsed(0)?,
                    name: row.text(1)?,
                })
            })
            .collect()
    }

    /// Records a component version; the same digest twice is one row.
    pub async fn install_component(&self, component: &Component) -> Result<()> {
        let mut tx = self.write().await?;
        let added = COMPONENT_INSERT
            .query()
            .bind(component.digest)
            .bind(component.name.as_str())
            .bind(&component.version)
            .bind(&component.kind)
            .bind(&component.manifest)
            .bind(component.installed_ms)
            .execute(&mut tx)
            .await?;
        bump_and_commit(tx, InstallationEpochKind::Components, added)
            .await
            .map(drop)
    }

    /// By name, oldest installation first.
    pub async fn components(&self) -> Result<Vec<Component>> {
        let rows = COMPONENT_LIST.query().all(&mut self.read().await?).await?;
        rows.iter().map(component_from).collect()
    }

    pub async fn component(&self, digest: Digest) -> Result<Option<Component>> {
        let row = COMPONENT_GET
            .query()
            .bind(digest)
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(component_from).transpose()
    }

    /// Puts the operator's grant in place of an earlier one.
    pub async fn put_grant(&self, grant: &Grant) -> Result<()> {
        let mut tx = self.write().await?;
        let changed = OPERATOR_GRANT_PUT
            .query()
            .bind(grant.component.as_str())
            .bind(json(&grant.permissions)?)
            .bind(json(&grant.limits)?)
            .execute(&mut tx)
            .await?;
        bump_and_commit(tx, InstallationEpochKind::Components, changed)
            .await
            .map(drop)
    }

    pub async fn grants(&self) -> Result<Vec<Grant>> {
        let rows = OPERATOR_GRANT_LIST
            .query()
            .all(&mut self.read().await?)
            .await?;
        rows.iter().map(grant_from).collect()
    }

    pub async fn grant(&self, component: &ComponentName) -> Result<Option<Grant>> {
        let row = OPERATOR_GRANT_GET
            .query()
            .bind(component.as_str())
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(grant_from).transpose()
    }

    pub async fn remove_grant(&self, component: &ComponentName) -> Result<bool> {
        let mut tx = self.write().await?;
        let removed = OPERATOR_GRANT_DELETE
            .query()
            .bind(component.as_str())
            .execute(&mut tx)
            .await?;
        bump_and_commit(tx, InstallationEpochKind::Components, removed).await
    }

    /// The component of a slot for tenants that bind none themselves. [`StoreError::NotFound`] when it is not installed.
    pub async fn bind_default_slot(&self, binding: &SlotBinding) -> Result<()> {
        binding.check()?;
        let mut tx = self.write().await?;
        let changed = DEFAULT_SLOT_PUT
            .query()
            .bind(&binding.slot)
            .bind(binding.component)
            .execute(&mut tx)
            .await?;
        bump_and_commit(tx, InstallationEpochKind::Components, changed)
            .await
            .map(drop)
    }

    pub async fn unbind_default_slot(&self, slot: &str) -> Result<bool> {
        let mut tx = self.write().await?;
        let removed = DEFAULT_SLOT_DELETE
            .query()
            .bind(slot)
            .execute(&mut tx)
            .await?;
        bump_and_commit(tx, InstallationEpochKind::Components, removed).await
    }

    pub async fn default_slots(&self) -> Result<Vec<SlotBinding>> {
        let rows = DEFAULT_SLOT_LIST
            .query()
            .all(&mut self.read().await?)
            .await?;
        rows.iter().map(slot_from).collect()
    }

    /// Every tenant's epochs that ever moved, to find what to reload.
    pub async fn tenant_epochs(&self) -> Result<Vec<TenantEpoch>> {
        let rows = TENANT_EPOCH_LIST
            .query()
            .all(&mut self.read().await?)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(TenantEpoch {
                    tenant: row.parsed(0)?,
                    kind: row.parsed(1)?,
                    value: row.int(2)?,
                })
            })
            .collect()
    }

    /// 0 until the first change.
    pub async fn installation_epoch(&self, kind: InstallationEpochKind) -> Result<i64> {
        let row = INSTALLATION_EPOCH_GET
            .query()
            .bind(kind.as_str())
            .optional(&mut self.read().await?)
            .await?;
        row.map_or(Ok(0), |row| row.int(0))
    }

    /// Sessions of any tenant in this state, longest unchanged first.
    pub async fn sessions_in_state(&self, state: SessionState, limit: u32) -> Result<Vec<Session>> {
        let query = SESSIONS_IN_STATE
            .query()
            .bind(state.as_str())
            .bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }

    /// What was spent from one day to another, both included, by all tenants, told apart by `by`; in order of those, the day last.
    pub async fn costs(&self, from: Day, to: Day, by: &[CostBy]) -> Result<Vec<Costs>> {
        let mut query = COSTS_OF_ALL.query().bind(from.number()).bind(to.number());
        for column in [
            CostBy::Tenant,
            CostBy::Agent,
            CostBy::Key,
            CostBy::Model,
            CostBy::Day,
        ] {
            query = query.bind(i64::from(by.contains(&column)));
        }
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(|row| costs_from(row, by)).collect()
    }

    /// Removes whole sessions that are closed and unchanged since `before_ms`, and those left open a day before; the number removed.
    pub async fn prune_sessions(&self, before_ms: i64) -> Result<u64> {
        retention::prune(&self.db, before_ms).await
    }
}

pub(crate) fn tenant_from(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: row.parsed(0)?,
        slug: row.parsed(1)?,
        display_name: row.text(2)?,
        created_ms: row.int(3)?,
    })
}

fn component_from(row: &Row) -> Result<Component> {
    Ok(Component {
        digest: row.digest(0)?,
        name: row.parsed(1)?,
        version: row.text(2)?,
        kind: row.text(3)?,
        manifest: row.text(4)?,
        installed_ms: row.int(5)?,
    })
}

pub(crate) fn grant_from(row: &Row) -> Result<Grant> {
    Ok(Grant {
        component: row.parsed(0)?,
        permissions: row.json(1)?,
        limits: row.json(2)?,
    })
}

pub(crate) fn slot_from(row: &Row) -> Result<SlotBinding> {
    Ok(SlotBinding {
        slot: row.text(0)?,
        component: row.digest(1)?,
    })
}

/// Names what was already there.
pub(crate) fn conflict(error: StoreError, what: &'static str) -> StoreError {
    match error {
        StoreError::Conflict { what: "row" } => StoreError::Conflict { what },
        other => other,
    }
}

async fn bump(tx: &mut Tx, kind: InstallationEpochKind) -> Result<()> {
    INSTALLATION_EPOCH_BUMP
        .query()
        .bind(kind.as_str())
        .execute(tx)
        .await
        .map(drop)
}

/// Whether anything changed; what did not change bumps nothing.
async fn bump_and_commit(mut tx: Tx, kind: InstallationEpochKind, rows: u64) -> Result<bool> {
    if rows > 0 {
        bump(&mut tx, kind).await?;
        tx.commit().await?;
    }
    Ok(rows > 0)
}

statements! {
    TENANT_INSERT = "INSERT INTO tenants (tenant, slug, display_name, created_ms) VALUES ($1, $2, $3, $4)";
    TENANT_LIST = "SELECT tenant, slug, display_name, created_ms FROM tenants ORDER BY slug";
    TENANT_BY_SLUG = "SELECT tenant, slug, display_name, created_ms FROM tenants WHERE slug = $1";
    HOST_NAME_INSERT = "INSERT INTO host_names (tenant, host_name) VALUES ($1, $2)";
    HOST_NAME_DELETE = "DELETE FROM host_names WHERE tenant = $1 AND host_name = $2";
    HOST_NAME_LIST = "SELECT tenant, host_name FROM host_names ORDER BY host_name";
    COMPONENT_INSERT = "INSERT INTO components (digest, name, version, kind, manifest, installed_ms) VALUES ($1, $2, $3, $4, $5, $6) \
        ON CONFLICT (digest) DO NOTHING";
    COMPONENT_LIST = "SELECT digest, name, version, kind, manifest, installed_ms FROM components ORDER BY name, installed_ms";
    COMPONENT_GET = "SELECT digest, name, version, kind, manifest, installed_ms FROM components WHERE digest = $1";
    OPERATOR_GRANT_PUT = "INSERT INTO operator_grants (component, permissions, limits) VALUES ($1, $2, $3) \
        ON CONFLICT (component) DO UPDATE SET permissions = excluded.permissions, limits = excluded.limits";
    OPERATOR_GRANT_LIST = "SELECT component, permissions, limits FROM operator_grants ORDER BY component";
    OPERATOR_GRANT_GET = "SELECT component, permissions, limits FROM operator_grants WHERE component = $1";
    OPERATOR_GRANT_DELETE = "DELETE FROM operator_grants WHERE component = $1";
    DEFAULT_SLOT_PUT = "INSERT INTO default_slots (slot, component) VALUES ($1, $2) \
        ON CONFLICT (slot) DO UPDATE SET component = excluded.component";
    DEFAULT_SLOT_LIST = "SELECT slot, component FROM default_slots ORDER BY slot";
    DEFAULT_SLOT_DELETE = "DELETE FROM default_slots WHERE slot = $1";
    TENANT_EPOCH_LIST = "SELECT tenant, kind, epoch FROM tenant_epochs ORDER BY tenant, kind";
    INSTALLATION_EPOCH_GET = "SELECT epoch FROM installation_epochs WHERE kind = $1";
    INSTALLATION_EPOCH_BUMP = "INSERT INTO installation_epochs (kind, epoch) VALUES ($1, 1) \
        ON CONFLICT (kind) DO UPDATE SET epoch = installation_epochs.epoch + 1";
    SESSIONS_IN_STATE = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent FROM sessions \
        WHERE state = $1 ORDER BY updated_ms LIMIT $2";
    COSTS_OF_ALL = "SELECT CASE WHEN CAST($3 AS BIGINT) = 1 THEN tenant ELSE '' END, CASE WHEN CAST($4 AS BIGINT) = 1 THEN agent ELSE '' END, \
            CASE WHEN CAST($5 AS BIGINT) = 1 THEN key_id ELSE '' END, \
            CASE WHEN CAST($6 AS BIGINT) = 1 THEN provider ELSE '' END, CASE WHEN CAST($6 AS BIGINT) = 1 THEN model ELSE '' END, \
            CASE WHEN CAST($7 AS BIGINT) = 1 THEN day ELSE 0 END, CAST(SUM(calls) AS BIGINT), \
            CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(cached_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), \
            CAST(SUM(reasoning_tokens) AS BIGINT), CAST(SUM(cost) AS BIGINT) \
        FROM spending WHERE day >= $1 AND day <= $2 \
        GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6";
}
