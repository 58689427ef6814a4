//! API skeleton; each method answers `Unavailable` until its part lands.
#![allow(unused_variables, clippy::unused_async, reason = "skeleton")]

use crate::{
    Agent, ApiKey, Collection, CollectionStats, Component, Deleted, Digest, Document, Epoch, Event,
    Grant, GuardrailRule, HostName, InstallationEpochKind, Issuer, Journal, Result, Session,
    SessionState, SlotBinding, StoreConfig, StoreError, Tenant, TenantEpoch, VerifiedChain,
};
use ambit_types::{AgentName, CollectionName, ComponentName, SessionId, TenantId, TenantSlug};
use serde_json::Value;

fn pending<T>() -> Result<T> {
    Err(StoreError::Unavailable("not built yet".into()))
}

#[derive(Debug, Clone)]
pub struct Store {
    journal: Journal,
}

#[derive(Debug, Clone)]
pub struct Operator {}

#[derive(Debug, Clone)]
pub struct TenantStore {
    tenant: TenantId,
}

impl Store {
    /// Opens, migrates (SQLite always; PostgreSQL when an owner is configured) and checks that the logins are harmless.
    pub async fn open(config: &StoreConfig) -> Result<Self> {
        pending()
    }
    /// Everything of one tenant. Does not check that the tenant exists: an unknown one has no rows.
    #[must_use]
    pub fn tenant(&self, tenant: TenantId) -> TenantStore {
        TenantStore { tenant }
    }
    /// What crosses tenants: for the operator's commands and for the host's own snapshots, never for a request.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator {}
    }
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
    /// Whether the database answers; for `/readyz`.
    pub async fn check(&self) -> Result<()> {
        pending()
    }
    /// Writes what the journal has accepted, then closes every connection.
    pub async fn close(&self) {}
}
impl Operator {
    pub async fn create_tenant(&self, slug: TenantSlug, display_name: &str) -> Result<Tenant> {
        pending()
    }
    pub async fn tenants(&self) -> Result<Vec<Tenant>> {
        pending()
    }
    pub async fn tenant_by_slug(&self, slug: &TenantSlug) -> Result<Option<Tenant>> {
        pending()
    }
    /// Gives a name to a tenant. [`StoreError::Conflict`] when another tenant has it.
    pub async fn add_host_name(&self, host_name: &HostName) -> Result<()> {
        pending()
    }
    pub async fn remove_host_name(&self, host_name: &HostName) -> Result<bool> {
        pending()
    }
    pub async fn host_names(&self) -> Result<Vec<HostName>> {
        pending()
    }
    /// Records a component version; the same digest twice is one row.
    pub async fn install_component(&self, component: &Component) -> Result<()> {
        pending()
    }
    pub async fn components(&self) -> Result<Vec<Component>> {
        pending()
    }
    pub async fn component(&self, digest: Digest) -> Result<Option<Component>> {
        pending()
    }
    pub async fn put_grant(&self, grant: &Grant) -> Result<()> {
        pending()
    }
    pub async fn grants(&self) -> Result<Vec<Grant>> {
        pending()
    }
    pub async fn grant(&self, component: &ComponentName) -> Result<Option<Grant>> {
        pending()
    }
    pub async fn remove_grant(&self, component: &ComponentName) -> Result<bool> {
        pending()
    }
    /// The component of a slot for tenants that bind none themselves.
    pub async fn bind_default_slot(&self, binding: &SlotBinding) -> Result<()> {
        pending()
    }
    pub async fn unbind_default_slot(&self, slot: &str) -> Result<bool> {
        pending()
    }
    pub async fn default_slots(&self) -> Result<Vec<SlotBinding>> {
        pending()
    }
    /// Every tenant's epochs that ever moved, to find what to reload.
    pub async fn tenant_epochs(&self) -> Result<Vec<TenantEpoch>> {
        pending()
    }
    /// 0 until the first change.
    pub async fn installation_epoch(&self, kind: InstallationEpochKind) -> Result<i64> {
        pending()
    }
    /// Sessions of any tenant in this state, oldest change first.
    pub async fn sessions_in_state(&self, state: SessionState, limit: u32) -> Result<Vec<Session>> {
        pending()
    }
    /// Removes whole sessions that are closed and unchanged since `before_ms`; the number removed.
    pub async fn prune_sessions(&self, before_ms: i64) -> Result<u64> {
        pending()
    }
}
impl TenantStore {
    #[must_use]
    pub fn id(&self) -> TenantId {
        self.tenant
    }
    pub async fn tenant(&self) -> Result<Option<Tenant>> {
        pending()
    }
    pub async fn create_key(&self, key: &ApiKey) -> Result<()> {
        pending()
    }
    /// All, revoked ones too, oldest first.
    pub async fn keys(&self) -> Result<Vec<ApiKey>> {
        pending()
    }
    pub async fn key(&self, id: &str) -> Result<Option<ApiKey>> {
        pending()
    }
    /// False when there is none or it is revoked already.
    pub async fn revoke_key(&self, id: &str, at_ms: i64) -> Result<bool> {
        pending()
    }
    pub async fn put_issuer(&self, issuer: &Issuer) -> Result<()> {
        pending()
    }
    pub async fn issuers(&self) -> Result<Vec<Issuer>> {
        pending()
    }
    pub async fn remove_issuer(&self, issuer: &str) -> Result<bool> {
        pending()
    }
    pub async fn put_grant(&self, grant: &Grant) -> Result<()> {
        pending()
    }
    pub async fn grants(&self) -> Result<Vec<Grant>> {
        pending()
    }
    pub async fn remove_grant(&self, component: &ComponentName) -> Result<bool> {
        pending()
    }
    pub async fn bind_slot(&self, binding: &SlotBinding) -> Result<()> {
        pending()
    }
    pub async fn unbind_slot(&self, slot: &str) -> Result<bool> {
        pending()
    }
    pub async fn slots(&self) -> Result<Vec<SlotBinding>> {
        pending()
    }
    /// Puts these rules in place of all earlier ones.
    pub async fn replace_rules(&self, rules: &[GuardrailRule]) -> Result<()> {
        pending()
    }
    pub async fn rules(&self) -> Result<Vec<GuardrailRule>> {
        pending()
    }
    /// Creates or changes an agent; the same definition again is no change.
    pub async fn apply_agent(&self, name: &AgentName, definition: &Value) -> Result<Agent> {
        pending()
    }
    pub async fn agents(&self) -> Result<Vec<Agent>> {
        pending()
    }
    pub async fn agent(&self, name: &AgentName) -> Result<Option<Agent>> {
        pending()
    }
    pub async fn remove_agent(&self, name: &AgentName) -> Result<bool> {
        pending()
    }
    /// Creates it when absent.
    pub async fn ensure_collection(
        &self,
        name: &CollectionName,
        retrieval: Option<Digest>,
    ) -> Result<Collection> {
        pending()
    }
    pub async fn collections(&self) -> Result<Vec<Collection>> {
        pending()
    }
    pub async fn collection(&self, name: &CollectionName) -> Result<Option<Collection>> {
        pending()
    }
    /// Removes it with all its documents.
    pub async fn remove_collection(&self, name: &CollectionName) -> Result<bool> {
        pending()
    }
    /// The stored content hash of each id, in the same order.
    pub async fn content_hashes(
        &self,
        collection: &CollectionName,
        ids: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        pending()
    }
    /// Stores these documents in place of whatever stood under their ids, all or none; the collection's new revision.
    /// One call is one transaction and, on SQLite, holds the only writer: pass at most some hundred documents.
    pub async fn put_documents(
        &self,
        collection: &CollectionName,
        documents: &[Document],
    ) -> Result<i64> {
        pending()
    }
    /// Removes every document whose id starts with `prefix` (empty: all).
    pub async fn delete_documents(
        &self,
        collection: &CollectionName,
        prefix: &str,
    ) -> Result<Deleted> {
        pending()
    }
    /// Documents with their chunks in order of id, from after `after`: for rebuilding an index.
    pub async fn documents(
        &self,
        collection: &CollectionName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>> {
        pending()
    }
    pub async fn stats(&self, collection: &CollectionName) -> Result<CollectionStats> {
        pending()
    }
    /// Every kind, 0 where nothing changed yet.
    pub async fn epochs(&self) -> Result<Vec<Epoch>> {
        pending()
    }
    pub async fn session(&self, session: SessionId) -> Result<Option<Session>> {
        pending()
    }
    /// Newest first; `before`: only sessions whose id is smaller (ids sort by age).
    pub async fn sessions(&self, before: Option<SessionId>, limit: u32) -> Result<Vec<Session>> {
        pending()
    }
    /// Events in order, from after `after_seq` (0: from the first).
    pub async fn events(
        &self,
        session: SessionId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        pending()
    }
    /// Recomputes every hash of the session's chain: [`StoreError::BrokenChain`] names the first event that does not fit.
    pub async fn verify_chain(&self, session: SessionId) -> Result<VerifiedChain> {
        pending()
    }
}
