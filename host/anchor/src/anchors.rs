//! The anchors of an installation: made every few seconds, published to where nobody can change them.

use crate::{Place, PlaceError, Signer, anchorer::Anchorer};
use ambit_audit::Verifier;
use ambit_store::{Note, Result, Store, StoreError};
use std::{
    error::Error,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

/// Notes published between two looks.
const PAGE: u32 = 100;

/// What somebody who waits for an answer waits for the anchor store.
const SOON: Duration = Duration::from_secs(3);

/// What putting one note may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Anchors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    verifier: Verifier,
    anchorer: Mutex<Anchorer>,
    place: Box<dyn Place>,
    publishing: Mutex<()>,
    status: Shared,
}

#[derive(Debug, Default)]
struct Shared {
    last: AtomicI64,
    unpublished: AtomicI64,
    oldest_ms: AtomicI64,
    taken: AtomicBool,
    failing_since: AtomicI64,
    tampered: AtomicBool,
}

/// How far anchors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Number of the last one that this process saw.
    pub last: i64,
    /// Anchors that are not in the anchor store.
    pub unpublished: i64,
    /// Since when something waits: the oldest of those, or the first attempt to make one that failed.
    pub waiting_since_ms: Option<i64>,
    /// The anchor store holds another note under a number of ours: somebody else signs there, or the database was put back.
    pub taken: bool,
    /// What stands in the database is not what the last anchor signed: nothing more is signed.
    pub tampered: bool,
}

impl Anchors {
    #[must_use]
    pub fn new(store: Store, signer: Signer, place: Box<dyn Place>) -> Self {
        Self(Arc::new(Inner {
            verifier: signer.verifier().clone(),
            anchorer: Mutex::new(Anchorer::new(store.clone(), signer)),
            store,
            place,
            publishing: Mutex::default(),
            status: Shared::default(),
        }))
    }

    /// The public key.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        self.0.verifier.clone()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    #[must_use]
    pub fn status(&self) -> Status {
        let status = &self.0.status;
        let unpublished = status.unpublished.load(Relaxed);
        Status {
            last: status.last.load(Relaxed),
            unpublished,
            waiting_since_ms: [
                (unpublished > 0).then(|| status.oldest_ms.load(Relaxed)),
                Some(status.failing_since.load(Relaxed)).filter(|since| *since > 0),
            ]
            .into_iter()
            .flatten()
            .min(),
            taken: status.taken.load(Relaxed),
            tampered: status.tampered.load(Relaxed),
        }
    }

    /// Anchors what went on since the last anchor.
    ///
    /// # Errors
    /// The store's.
    pub async fn anchor(&self) -> Result<Option<Note>> {
        let made = self.0.anchorer.lock().await.anchor(now_ms()).await;
        let status = &self.0.status;
        match &made {
            Ok(note) => {
                status.failing_since.store(0, Relaxed);
                status.tampered.store(false, Relaxed);
                if let Some(note) = note {
                    status.last.fetch_max(note.number, Relaxed);
                }
            }
            Err(error) => {
                let _ = status
                    .failing_since
                    .compare_exchange(0, now_ms(), Relaxed, Relaxed);
                let tampered = matches!(error, StoreError::Tampered(_));
                status.tampered.store(tampered, Relaxed);
            }
        }
        made
    }

    /// Puts into the anchor store what is not there yet, in order. Where it does not answer, the rest waits.
    ///
    /// # Errors
    /// The store's, or the anchor store's.
    pub async fn publish(&self) -> Result<(), PublishError> {
        let _one = self.0.publishing.lock().await;
        let (status, operator) = (&self.0.status, self.0.store.operator());
        loop {
            let waiting = operator.unpublished(PAGE).await?;
            let count = operator.unpublished_count().await?;
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            status.unpublished.store(count, Relaxed);
            let Some(first) = waiting.first() else {
                return Ok(());
            };
            let anchor = ambit_audit::Anchor::open(&first.note, &self.0.verifier);
            status
                .oldest_ms
                .store(anchor.map_or(0, |anchor| anchor.time_ms), Relaxed);
            for Note { number, note, .. } in waiting {
                let put = timeout(PATIENCE, self.0.place.put(number, &note)).await;
                let put = put.unwrap_or_else(|late| Err(PlaceError::Unavailable(late.into())));
                status
                    .taken
                    .store(matches!(put, Err(PlaceError::Taken(_))), Relaxed);
                put?;
                operator.published(number, now_ms()).await?;
                status.unpublished.fetch_sub(1, Relaxed);
            }
        }
    }

    /// Publishes what can be within a short time: for whoever answers somebody.
    pub async fn publish_soon(&self) -> bool {
        let published = timeout(SOON, self.publish()).await;
        published.is_ok_and(|published| published.is_ok())
    }

    /// Anchors and publishes every `interval`, sooner when so many `events` have been written. Ends when dropped.
    pub async fn run(&self, interval: Duration, events: NonZeroU32) {
        let mut told = false;
        loop {
            tokio::select! {
                () = sleep(interval) => {}
                () = self.0.store.journal().many_heads(events.get().into()) => {}
            }
            let failed = self.round().await.err();
            match &failed {
                // Once, and not at every attempt: the metric says how far behind it is.
                Some(error) if !told => tracing::error!(
                    error = &**error,
                    "the journal is not anchored; what waits is kept, and tried again"
                ),
                None if told => tracing::info!("the journal is anchored again"),
                _ => {}
            }
            told = failed.is_some();
            if told {
                // However much waits: what failed is not tried again at once.
                sleep(interval).await;
            }
        }
    }

    /// Anchors what there is, and publishes it.
    ///
    /// # Errors
    /// The first of either.
    pub async fn round(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let anchored = self.anchor().await;
        self.publish().await?;
        anchored?;
        Ok(())
    }
}

/// Why an anchor is not in the anchor store.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Store(#[from] ambit_store::StoreError),
    #[error(transparent)]
    Place(#[from] PlaceError),
}

fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
