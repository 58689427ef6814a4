//! What a tenant's components may do and which it uses, its guardrail's rules, its agents.

use super::TenantStore;
use crate::{
    Agent, EpochKind, Grant, GuardrailRule, Result, SlotBinding, StoreError,
    db::{Row, json, statements},
    now_ms,
    operator::{grant_from, slot_from},
};
use ambit_types::{AgentName, ComponentName};
use serde_json::Value;

impl TenantStore {
    /// Narrows a component for this tenant, in place of an earlier grant.
    pub async fn put_grant(&self, grant: &Grant) -> Result<()> {
        let query = self
            .query(GRANT_PUT)
            .bind(grant.component.as_str())
            .bind(json(&grant.permissions)?)
            .bind(json(&grant.limits)?);
        self.change(query, EpochKind::Grants).await.map(drop)
    }

    pub async fn grants(&self) -> Result<Vec<Grant>> {
        let rows = self.query(GRANT_LIST).all(&mut self.read().await?).await?;
        rows.iter().map(grant_from).collect()
    }

    pub async fn remove_grant(&self, component: &ComponentName) -> Result<bool> {
        self.change(
            self.query(GRANT_DELETE).bind(component.as_str()),
            EpochKind::Grants,
        )
        .await
    }

    /// Binds a slot, in place of an earlier component. [`StoreError::NotFound`] when the component is not installed.
    pub async fn bind_slot(&self, binding: &SlotBinding) -> Result<()> {
        binding.check()?;
        self.change(
            self.query(SLOT_PUT)
                .bind(&binding.slot)
                .bind(binding.component),
            EpochKind::Slots,
        )
        .await
        .map(drop)
    }

    pub async fn unbind_slot(&self, slot: &str) -> Result<bool> {
        self.change(self.query(SLOT_DELETE).bind(slot), EpochKind::Slots)
            .await
    }

    /// This tenant's own; the installation's defaults fill the rest.
    pub async fn slots(&self) -> Result<Vec<SlotBinding>> {
        let rows = self.query(SLOT_LIST).all(&mut self.read().await?).await?;
        rows.iter().map(slot_from).collect()
    }

    /// Puts these rules in place of all earlier ones.
    pub async fn replace_rules(&self, rules: &[GuardrailRule]) -> Result<()> {
        let mut tx = self.write().await?;
        self.query(RULES_DELETE).execute(&mut tx).await?;
        for rule in rules {
            if [&rule.stage, &rule.category, &rule.action]
                .iter()
                .any(|word| word.is_empty() || word.len() > 128)
            {
                return Err(StoreError::Invalid {
                    what: "guardrail rule",
                    why: "must have words of 1 to 128 bytes",
                });
            }
            self.query(RULE_INSERT)
                .bind(&rule.stage)
                .bind(&rule.category)
                .bind(&rule.action)
                .execute(&mut tx)
                .await?;
        }
        self.bump(&mut tx, EpochKind::Rules).await?;
        tx.commit().await
    }

    pub async fn rules(&self) -> Result<Vec<GuardrailRule>> {
        let rows = self.query(RULE_LIST).all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| {
                Ok(GuardrailRule {
                    stage: row.text(0)?,
                    category: row.text(1)?,
                    action: row.text(2)?,
                })
            })
            .collect()
    }

    /// Creates or changes an agent; the same definition again is no change.
    pub async fn apply_agent(&self, name: &AgentName, definition: &Value) -> Result<Agent> {
        let mut tx = self.write().await?;
        let query = self
            .query(AGENT_PUT)
            .bind(name.as_str())
            .bind(json(definition)?)
            .bind(now_ms());
        let changed = query.execute(&mut tx).await? > 0;
        let row = self
            .query(AGENT_GET)
            .bind(name.as_str())
            .optional(&mut tx)
            .await?;
        let agent = agent_from(&row.ok_or(StoreError::NotFound { what: "agent" })?)?;
        if changed {
            self.bump(&mut tx, EpochKind::Agents).await?;
            tx.commit().await?;
        }
        Ok(agent)
    }

    pub async fn agents(&self) -> Result<Vec<Agent>> {
        let rows = self.query(AGENT_LIST).all(&mut self.read().await?).await?;
        rows.iter().map(agent_from).collect()
    }

    pub async fn agent(&self, name: &AgentName) -> Result<Option<Agent>> {
        let row = self
            .query(AGENT_GET)
            .bind(name.as_str())
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(agent_from).transpose()
    }

    pub async fn remove_agent(&self, name: &AgentName) -> Result<bool> {
        self.change(
            self.query(AGENT_DELETE).bind(name.as_str()),
            EpochKind::Agents,
        )
        .await
    }
}

impl SlotBinding {
    pub(crate) fn check(&self) -> Result<()> {
        if self.slot.is_empty() || self.slot.len() > 128 {
            return Err(StoreError::Invalid {
                what: "slot",
                why: "must have 1 to 128 bytes",
            });
        }
        Ok(())
    }
}

fn agent_from(row: &Row) -> Result<Agent> {
    Ok(Agent {
        name: row.parsed(0)?,
        definition: row.json(1)?,
        version: row.int(2)?,
        updated_ms: row.int(3)?,
    })
}

statements! {
    GRANT_PUT = "INSERT INTO tenant_grants (tenant, component, permissions, limits) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (tenant, component) DO UPDATE SET permissions = excluded.permissions, limits = excluded.limits";
    GRANT_LIST = "SELECT component, permissions, limits FROM tenant_grants WHERE tenant = $1 ORDER BY component";
    GRANT_DELETE = "DELETE FROM tenant_grants WHERE tenant = $1 AND component = $2";
    SLOT_PUT = "INSERT INTO tenant_slots (tenant, slot, component) VALUES ($1, $2, $3) \
        ON CONFLICT (tenant, slot) DO UPDATE SET component = excluded.component";
    SLOT_LIST = "SELECT slot, component FROM tenant_slots WHERE tenant = $1 ORDER BY slot";
    SLOT_DELETE = "DELETE FROM tenant_slots WHERE tenant = $1 AND slot = $2";
    RULES_DELETE = "DELETE FROM guardrail_rules WHERE tenant = $1";
    RULE_INSERT = "INSERT INTO guardrail_rules (tenant, stage, category, action) VALUES ($1, $2, $3, $4)";
    RULE_LIST = "SELECT stage, category, action FROM guardrail_rules WHERE tenant = $1 ORDER BY stage, category";
    AGENT_PUT = "INSERT INTO agents (tenant, name, definition, version, updated_ms) VALUES ($1, $2, $3, 1, $4) \
        ON CONFLICT (tenant, name) DO UPDATE SET \
        definition = excluded.definition, version = agents.version + 1, updated_ms = excluded.updated_ms \
        WHERE agents.definition <> excluded.definition";
    AGENT_LIST = "SELECT name, definition, version, updated_ms FROM agents WHERE tenant = $1 ORDER BY name";
    AGENT_GET = "SELECT name, definition, version, updated_ms FROM agents WHERE tenant = $1 AND name = $2";
    AGENT_DELETE = "DELETE FROM agents WHERE tenant = $1 AND name = $2";
}
