//! What one call may do on its way out.

use ambit_policy::{Ambit, Limits};
use ambit_types::TenantId;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{EgressError, Handles};

/// Counts the bytes of a call. The runtime's meter is one.
pub trait Meter: Send + Sync + 'static {
    /// # Errors
    /// The limit is spent; nothing more may be sent or delivered.
    fn charge(&self, bytes: u64) -> Result<(), Spent>;
}

/// The call's egress limit is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent;

/// A number of bytes to use up, where there is no runtime meter.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Budget {
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }
}

impl Meter for Budget {
    fn charge(&self, bytes: u64) -> Result<(), Spent> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .map(drop)
            .map_err(|_| Spent)
    }
}

/// Names a tenant has looked up at a time: each takes a thread, for as long as a name server likes, and there are 16 times as many.
const LOOKUPS: usize = 8;

/// How many exchanges a tenant has under way, over all its calls. One per tenant, shared.
#[derive(Debug, Clone)]
pub struct Connections {
    places: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Connections {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    #[must_use]
    pub fn available(&self) -> usize {
        self.places.available_permits()
    }
}

/// Each tenant's connections, the same for everybody who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shares {
    most: usize,
    tenants: Arc<Mutex<HashMap<TenantId, Connections>>>,
}

impl Shares {
    /// `most`: exchanges one tenant may have under way.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            tenants: Arc::default(),
        }
    }

    #[must_use]
    pub fn of(&self, tenant: TenantId) -> Connections {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Connections::new(self.most);
        tenants.entry(tenant).or_insert_with(new).clone()
    }
}

/// A place among the connections, given back when the last clone is dropped. A name look-up that nobody waits for any more holds one
/// until it ends, so that slow name servers cannot be used to occupy more threads than there are places.
#[derive(Debug, Clone)]
pub struct Slot {
    _places: Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    lookups: Arc<Semaphore>,
    _lookup: Option<Arc<OwnedSemaphorePermit>>,
}

impl Slot {
    /// The slot with a place among the tenant's look-ups, once there is one.
    pub(crate) async fn looking_up(&self) -> Result<Self, EgressError> {
        let lookup = Arc::clone(&self.lookups).acquire_owned().await;
        Ok(Self {
            _lookup: Some(Arc::new(lookup.map_err(|_| EgressError::Busy)?)),
            ..self.clone()
        })
    }
}

/// The ambit of one call with everything else that bounds it. Cheap to clone.
#[derive(Clone)]
pub struct Scope {
    pub(crate) ambit: Arc<Ambit>,
    pub(crate) secrets: Arc<Handles>,
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) deadline: Instant,
    tenant: Connections,
    call: Connections,
}

impl Scope {
    /// `ambit` is narrowed by tenant and token already; `meter` counts what `limits.egress` bounds.
    #[must_use]
    pub fn new(
        ambit: Arc<Ambit>,
        limits: &Limits,
        deadline: Instant,
        tenant: Connections,
        meter: Arc<dyn Meter>,
    ) -> Self {
        let call = Connections::new(limits.connections as usize);
        Self {
            ambit,
            secrets: Arc::default(),
            meter,
            deadline,
            tenant,
            call,
        }
    }

    /// With secrets to swap in.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Arc<Handles>) -> Self {
        self.secrets = secrets;
        self
    }

    pub(crate) fn connect(&self) -> Result<Slot, EgressError> {
        let place = |connections: &Connections| {
            Arc::clone(&connections.places)
                .try_acquire_owned()
                .map_err(|_| EgressError::Busy)
        };
        // The call's own first: a call at its cap must not take a place from others, not even for a moment.
        let call = place(&self.call)?;
        Ok(Slot {
            _places: Arc::new((call, place(&self.tenant)?)),
            lookups: Arc::clone(&self.tenant.lookups),
            _lookup: None,
        })
    }

    pub(crate) fn charge(&self, bytes: usize) -> Result<(), EgressError> {
        self.meter
            .charge(bytes as u64)
            .map_err(|Spent| EgressError::Spent)
    }
}
