//! Keys of the journal's content.
//!
//! A session's bodies are sealed with a key of its own; that lies in its row, wrapped with the tenant's; the tenant's lies in `tenant_keys`,
//! wrapped with the master key, which is in no database. So whoever has the database alone reads nothing, and one person's content is
//! erased by forgetting the keys of its sessions: the chain is over the sealed bytes and still verifies.
//!
//! Everything is AES-256-GCM (NIST SP 800-38D) with random nonces, stored as `nonce (12 bytes) ‖ ciphertext ‖ tag (16)`. What a sealed
//! text belongs to is bound to it as associated data, so that nothing opens in another's place.

use crate::{
    Digest, Result, StoreError,
    db::{Access, Db, statements},
    now_ms,
};
use ambit_types::{Secret, SessionId, TenantId};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac, rand,
};
use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// Keys of sessions kept for their next append; beyond it all are forgotten and unwrapped again when they go on.
const REMEMBERED: usize = 16_384;

/// Where the master key is: 64 hexadecimal digits.
#[derive(Debug, Clone)]
pub enum MasterKey {
    /// A file, made where there is none and nothing is sealed yet. Its loss is the loss of everything sealed.
    File(PathBuf),
    Given(Secret),
}

/// A key that seals and opens.
pub(crate) struct Key(RandomizedNonceKey);

type Bytes = Zeroizing<[u8; 32]>;

impl Key {
    fn new(bytes: &Bytes) -> Result<Self> {
        RandomizedNonceKey::new(&AES_256_GCM, &bytes[..])
            .map(Self)
            .map_err(|_| StoreError::Sealed("a key cannot be used"))
    }

    /// A new key, and itself wrapped with `self`.
    fn wrap_new(&self, of: &[u8]) -> Result<(Self, Vec<u8>)> {
        let mut bytes = Bytes::default();
        rand::fill(&mut bytes[..])
            .map_err(|_| StoreError::Sealed("the system gives no random numbers"))?;
        Ok((Self::new(&bytes)?, self.seal(of, &bytes[..])?))
    }

    fn unwrap(&self, of: &[u8], wrapped: &[u8]) -> Result<Self> {
        let opened = Zeroizing::new(self.open(of, wrapped)?);
        let bytes: [u8; 32] = opened[..]
            .try_into()
            .map_err(|_| StoreError::Sealed("a wrapped key is none"))?;
        Self::new(&Zeroizing::new(bytes))
    }

    pub(crate) fn seal(&self, of: &[u8], text: &[u8]) -> Result<Vec<u8>> {
        let broken = |_| StoreError::Sealed("content cannot be sealed");
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.resize(NONCE_LEN, 0);
        sealed.extend_from_slice(text);
        let (nonce, tag) = {
            let aad = Aad::from(of);
            let sealing = &mut sealed[NONCE_LEN..];
            self.0
                .seal_in_place_separate_tag(aad, sealing)
                .map_err(broken)?
        };
        sealed[..NONCE_LEN].copy_from_slice(nonce.as_ref());
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    pub(crate) fn open(&self, of: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let broken = || StoreError::Sealed("content is not what was sealed, or not with this key");
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = sealed.to_vec();
        let aad = Aad::from(of);
        let opened = self.0.open_in_place(nonce, aad, &mut text);
        let length = opened.map_err(|_| broken())?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The keys a process works with.
#[derive(Debug)]
pub(crate) struct Keyring {
    db: Db,
    master: Key,
    tenants: Mutex<HashMap<TenantId, Arc<Key>>>,
    /// Held while a tenant's key is looked for or made: a thousand sessions that begin at once ask once.
    looking: tokio::sync::Mutex<()>,
    sessions: Mutex<HashMap<(TenantId, SessionId), Arc<Key>>>,
}

impl Keyring {
    /// With the master key, which must be the one that everything there is sealed with.
    pub(crate) async fn open(db: Db, master: &MasterKey) -> Result<Arc<Self>> {
        let sample = {
            let mut tx = db.read(Access::Operator).await?;
            ANY_TENANT_KEY.query().optional(&mut tx).await?
        };
        let text = match master {
            MasterKey::Given(secret) => Zeroizing::new(secret.expose().to_owned()),
            MasterKey::File(path) => {
                let key = key_file(path, sample.is_none())?;
                key.ok_or(StoreError::MasterKey(
                    "its file is not there, and without it nothing that is sealed can be read; put it back from where it is kept",
                ))?
            }
        };
        let mut bytes = Bytes::default();
        hex::decode_to_slice(text.trim(), &mut bytes[..]).map_err(|_| {
            StoreError::MasterKey(
                "it must be 64 hexadecimal digits, as `openssl rand -hex 32` prints",
            )
        })?;
        let master = Key::new(&bytes)?;
        if let Some(row) = sample {
            let tenant: TenantId = row.parsed(0)?;
            let opened = master.unwrap(&of_tenant(tenant), &row.blob(1)?);
            opened.map_err(|_| {
                StoreError::MasterKey(
                    "it is not the one that this database's keys are wrapped with",
                )
            })?;
        }
        Ok(Arc::new(Self {
            db,
            master,
            tenants: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
        }))
    }

    /// The key of a session that begins, and what is stored of it. To be remembered once it is.
    pub(crate) async fn begin(
        &self,
        tenant: TenantId,
        session: SessionId,
    ) -> Result<(Arc<Key>, Vec<u8>)> {
        let own = self.tenant(tenant).await?;
        let (key, wrapped) = own.wrap_new(&of_session(tenant, session))?;
        Ok((Arc::new(key), wrapped))
    }

    pub(crate) fn began(&self, tenant: TenantId, session: SessionId, key: &Arc<Key>) {
        remember(&self.sessions, (tenant, session), key);
    }

    /// The key of a session that goes on. None: there is no such session, or its content was erased.
    pub(crate) async fn session(
        &self,
        tenant: TenantId,
        session: SessionId,
    ) -> Result<Option<Arc<Key>>> {
        if let Some(key) = recall(&self.sessions, &(tenant, session)) {
            return Ok(Some(key));
        }
        let Some(wrapped) = self.wrapped(tenant, session).await? else {
            return Ok(None);
        };
        let key = Arc::new(self.unwrap(tenant, session, &wrapped).await?);
        remember(&self.sessions, (tenant, session), &key);
        Ok(Some(key))
    }

    /// The key that a session's row holds.
    pub(crate) async fn unwrap(
        &self,
        tenant: TenantId,
        session: SessionId,
        wrapped: &[u8],
    ) -> Result<Key> {
        let own = self.tenant(tenant).await?;
        own.unwrap(&of_session(tenant, session), wrapped)
    }

    /// A text under a key derived from a session's. None: there is no such session, or its content was erased.
    pub(crate) async fn digest(
        &self,
        tenant: TenantId,
        session: SessionId,
        text: &[u8],
    ) -> Result<Option<Digest>> {
        let Some(wrapped) = self.wrapped(tenant, session).await? else {
            return Ok(None);
        };
        let own = self.tenant(tenant).await?;
        let bytes = Zeroizing::new(own.open(&of_session(tenant, session), &wrapped)?);
        // One key for one purpose (NIST SP 800-108): this one never seals.
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), FOR_DIGESTS);
        let key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        let digest = hmac::sign(&key, text);
        let digest = digest.as_ref().try_into().map(Digest);
        Ok(Some(digest.map_err(|_| {
            StoreError::Sealed("a digest has no 32 bytes")
        })?))
    }

    async fn wrapped(&self, tenant: TenantId, session: SessionId) -> Result<Option<Vec<u8>>> {
        let mut tx = self.db.read(Access::Tenant(tenant)).await?;
        let query = SESSION_KEY.query().bind(tenant.to_string());
        let row = query.bind(session.to_string()).optional(&mut tx).await?;
        Ok(row.map(|row| row.optional_blob(0)).transpose()?.flatten())
    }

    pub(crate) fn forget(&self, tenant: TenantId, session: SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&(tenant, session));
    }

    /// The tenant's key, made when it is first needed.
    async fn tenant(&self, tenant: TenantId) -> Result<Arc<Key>> {
        if let Some(key) = recall(&self.tenants, &tenant) {
            return Ok(key);
        }
        let _looking = self.looking.lock().await;
        if let Some(key) = recall(&self.tenants, &tenant) {
            return Ok(key);
        }
        let stored = async || {
            let mut tx = self.db.read(Access::Tenant(tenant)).await?;
            let query = TENANT_KEY.query().bind(tenant.to_string());
            let row = query.optional(&mut tx).await?;
            row.map(|row| row.blob(0)).transpose()
        };
        let wrapped = match stored().await? {
            Some(wrapped) => wrapped,
            None => {
                let (_, wrapped) = self.master.wrap_new(&of_tenant(tenant))?;
                let mut tx = self.db.write(Access::Tenant(tenant)).await?;
                let query = TENANT_KEY_PUT.query().bind(tenant.to_string());
                let query = query.bind(&wrapped[..]).bind(now_ms());
                query.execute(&mut tx).await?;
                tx.commit().await?;
                // Another process may have been first.
                stored()
                    .await?
                    .ok_or(StoreError::NotFound { what: "tenant key" })?
            }
        };
        let key = Arc::new(self.master.unwrap(&of_tenant(tenant), &wrapped)?);
        remember(&self.tenants, tenant, &key);
        Ok(key)
    }
}

/// What keys of digests are derived for.
const FOR_DIGESTS: &[u8] = b"ambit-digest-1";

/// What a body is bound to.
pub(crate) fn of_body(tenant: TenantId, session: SessionId, kind: &str) -> Vec<u8> {
    format!("ambit-body-2\n{tenant}\n{session}\n{kind}").into_bytes()
}

fn of_session(tenant: TenantId, session: SessionId) -> Vec<u8> {
    format!("ambit-session-key-1\n{tenant}\n{session}").into_bytes()
}

fn of_tenant(tenant: TenantId) -> Vec<u8> {
    format!("ambit-tenant-key-1\n{tenant}").into_bytes()
}

fn recall<K: Eq + Hash>(known: &Mutex<HashMap<K, Arc<Key>>>, whose: &K) -> Option<Arc<Key>> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.get(whose).cloned()
}

fn remember<K: Eq + Hash>(known: &Mutex<HashMap<K, Arc<Key>>>, whose: K, key: &Arc<Key>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(whose, Arc::clone(key));
}

/// The key in a file, 64 hexadecimal digits; where there is no file, one is made (mode 0600) if it may be.
///
/// # Errors
/// [`StoreError::Unavailable`] when it cannot be read or made.
pub fn key_file(path: &Path, may_make: bool) -> Result<Option<Zeroizing<String>>> {
    match std::fs::read_to_string(path) {
        Ok(text) => return Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::unavailable(error)),
    }
    let mut bytes = Bytes::default();
    rand::fill(&mut bytes[..])
        .map_err(|_| StoreError::Sealed("the system gives no random numbers"))?;
    let text = Zeroizing::new(hex::encode(&bytes[..]));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // Durable before anything is done with it.
        file.sync_all()
    });
    match made {
        Ok(()) => Ok(Some(text)),
        // Another process was first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => key_file(path, false),
        Err(error) => Err(StoreError::unavailable(error)),
    }
}

statements! {
    ANY_TENANT_KEY = "SELECT tenant, wrapped FROM tenant_keys ORDER BY tenant LIMIT 1";
    TENANT_KEY = "SELECT wrapped FROM tenant_keys WHERE tenant = $1";
    TENANT_KEY_PUT = "INSERT INTO tenant_keys (tenant, wrapped, created_ms) VALUES ($1, $2, $3) ON CONFLICT (tenant) DO NOTHING";
    SESSION_KEY = "SELECT sealed_key FROM sessions WHERE tenant = $1 AND session = $2";
}
