//! Handles: which index a call means, whether it is up to date, and who may write it.

use crate::{
    Batch, Entry, Hit, IndexError, Request,
    shelf::{self, Change, Shelf, broken},
};
use ambit_types::{CollectionName, TenantId};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    error::Error,
    future::Future,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinError;

/// Up to where an index has followed the store.
///
/// The store moves `number` by exactly one, starting from 0, in every transaction that changes the collection's documents. A
/// collection that is deleted and created again under the same name has another `incarnation` (its creation time will do).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Revision {
    pub incarnation: i64,
    pub number: i64,
}

impl Revision {
    fn covers(self, wanted: Self) -> bool {
        self.incarnation == wanted.incarnation && self.number >= wanted.number
    }
}

/// Where an index is rebuilt from: one collection in the store, on behalf of its own tenant.
pub trait Source: Clone + Send + Sync + 'static {
    type Error: Error + Send + Sync + 'static;

    /// The revision of what is committed now.
    fn revision(&self) -> impl Future<Output = Result<Revision, Self::Error>> + Send;

    /// The next documents in order of their ids, from the first whose id is above `after`; none when all were given. A few hundred
    /// at a time: a page is held in memory.
    fn page(
        &self,
        after: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Entry>, Self::Error>> + Send;
}

/// What an [`Index`] may use.
#[derive(Debug, Clone)]
pub struct IndexConfig {
    /// Collections whose readers stay open; the least recently used is closed when another is asked for.
    pub open_collections: usize,
    /// How long a writer outlives the last change.
    pub writer_idle: Duration,
}

impl Default for IndexConfig {
    fn default() -> Self {
        // A reader of 100,000 chunks is some file maps and under 1 MB of heap. A writer kept for 2 s serves a whole bulk load.
        Self {
            open_collections: 64,
            writer_idle: Duration::from_secs(2),
        }
    }
}

/// All indexes of one host, under one folder that no other process uses. Cheap to clone. Needs a tokio runtime around its calls.
#[derive(Clone)]
pub struct Index(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    config: IndexConfig,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    clock: AtomicU64,
}

type Key = (TenantId, CollectionName);

/// What is open of one collection.
struct Slot {
    dir: PathBuf,
    used: AtomicU64,
    shelf: Mutex<Option<Arc<Shelf>>>,
    /// Held by whoever opens, rebuilds or changes the index. Counts the changes, so that an idle writer can be told from a busy one.
    writing: Arc<tokio::sync::Mutex<u64>>,
}

impl Index {
    /// Opens `dir`, created where missing. Nothing inside is read until a collection is asked for.
    ///
    /// # Errors
    /// [`IndexError::Broken`] where the folder cannot be created.
    pub fn open(dir: impl Into<PathBuf>, config: IndexConfig) -> Result<Self, IndexError> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir).map_err(broken)?;
        let shared = Shared {
            dir,
            config,
            slots: Mutex::default(),
            clock: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// A handle; opens nothing.
    #[must_use]
    pub fn collection(&self, tenant: TenantId, name: &CollectionName) -> Collection {
        Collection {
            index: self.clone(),
            key: (tenant, name.clone()),
        }
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let now = self.0.clock.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.0.slots.lock();
        let slot = slots.entry(key.clone()).or_insert_with(|| {
            Arc::new(Slot {
                dir: self.0.dir.join(key.0.to_string()).join(key.1.as_str()),
                used: AtomicU64::new(now),
                shelf: Mutex::default(),
                writing: Arc::default(),
            })
        });
        slot.used.store(now, Ordering::Relaxed);
        let slot = Arc::clone(slot);
        if slots.len() > self.0.config.open_collections.max(1) {
            // Only one that nobody holds (they are given out under this lock, so it stays so) and whose writer is closed: two writers
            // of one folder would lock each other out.
            let unused = |slot: &Arc<Slot>| {
                Arc::strong_count(slot) == 1 && Arc::strong_count(&slot.writing) == 1
            };
            let idle = slots.iter().filter(|(_, slot)| unused(slot));
            let oldest = idle.min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                slots.remove(&oldest);
            }
        }
        slot
    }
}

/// One collection's index. Cheap to clone.
#[derive(Clone)]
pub struct Collection {
    index: Index,
    key: Key,
}

impl Collection {
    /// The best chunks, best first, over everything `source` has committed before the call. Catches up first where the index is
    /// behind; that work goes on when the caller goes away, so that a short deadline cannot make it start over forever.
    ///
    /// # Errors
    /// [`IndexError::Invalid`] for the request; the others where the index could not be brought up to date.
    pub async fn search(
        &self,
        source: &impl Source,
        request: Request,
    ) -> Result<Vec<Hit>, IndexError> {
        request.check()?;
        let slot = self.index.slot(&self.key);
        let wanted = source.revision().await.map_err(unreadable)?;
        let shelf = match slot.current(wanted) {
            Some(shelf) => shelf,
            None => catch_up(&slot, source).await?,
        };
        let request = Arc::new(request);
        match search(&shelf, &request).await {
            // Damage that appeared after the check at opening: start over from the store, once.
            Err(error @ IndexError::Broken(_)) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "a search index failed and will be rebuilt"
                );
                slot.discard(shelf).await?;
                search(&catch_up(&slot, source).await?, &request).await
            }
            found => found,
        }
    }

    /// The right to change: one at a time, first come first served. Take it *before* the store's transaction, so that index and
    /// store see the changes in the same order. Searches of what was committed before go on meanwhile; one that must see a change
    /// in flight waits for it.
    pub async fn writer(&self) -> Writer {
        let slot = self.index.slot(&self.key);
        let turn = Arc::clone(&slot.writing).lock_owned().await;
        Writer {
            slot,
            turn,
            idle: self.index.0.config.writer_idle,
        }
    }

    /// Closes and deletes the index. For a collection that is gone from the store.
    ///
    /// # Errors
    /// [`IndexError::Broken`] where files remain. They are never searched again: their incarnation is gone.
    pub async fn remove(&self) -> Result<(), IndexError> {
        let Writer { slot, turn, .. } = self.writer().await;
        blocking(move || {
            let _turn = turn;
            let open = slot.shelf.lock().take();
            if let Some(shelf) = open {
                // A merge that is still writing would put files back.
                shelf.close_writer();
            }
            shelf::remove(&slot.dir)
        })
        .await
    }
}

/// The right to change one collection's index. An error of its methods loses nothing: the store has the change, and the next search
/// finds the index behind and rebuilds it.
pub struct Writer {
    slot: Arc<Slot>,
    turn: tokio::sync::OwnedMutexGuard<u64>,
    idle: Duration,
}

impl Writer {
    /// Replaces these documents. `to` is where the store's transaction moved the collection.
    ///
    /// # Errors
    /// [`IndexError::Behind`] where the index is not at the revision before `to`.
    pub async fn put(self, to: Revision, batch: Batch) -> Result<(), IndexError> {
        self.apply(to, move |shelf| shelf.add(&Change::Put(batch.entries())))
            .await
    }

    /// Removes every document whose id starts with `prefix`. The store counts them.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub async fn delete_prefix(self, to: Revision, prefix: &str) -> Result<(), IndexError> {
        let prefix = prefix.to_owned();
        self.apply(to, move |shelf| shelf.add(&Change::DeletePrefix(&prefix)))
            .await
    }

    /// Runs to its end even when the caller goes away: a change that stops half-way would cost a rebuild.
    async fn apply(
        self,
        to: Revision,
        change: impl FnOnce(&Shelf) -> Result<(), IndexError> + Send + 'static,
    ) -> Result<(), IndexError> {
        let Self {
            slot,
            mut turn,
            idle,
        } = self;
        *turn += 1;
        #[allow(
            clippy::disallowed_methods,
            reason = "the task ends a moment after the last change"
        )]
        tokio::spawn(close_writer_after(
            idle,
            Arc::downgrade(&slot),
            Arc::clone(&slot.writing),
            *turn,
        ));
        blocking(move || {
            let _turn = turn;
            let shelf = match slot.opened() {
                Some(shelf) if shelf.revision().is_some_and(|at| at.covers(to)) => return Ok(()),
                Some(shelf) if shelf.revision() == Some(before(to)) => shelf,
                _ if to.number == 1 => slot.fill(Shelf::create(&slot.dir)?),
                _ => return Err(IndexError::Behind),
            };
            change(&shelf)?;
            shelf.commit(to)?;
            if to.number == 1 {
                shelf.supersede();
            }
            Ok(())
        })
        .await
    }
}

/// Gives a writer's thread and memory back when no further change has come. Holds the slot's lock alive, not the slot: see
/// [`Index::slot`].
async fn close_writer_after(
    idle: Duration,
    slot: Weak<Slot>,
    writing: Arc<tokio::sync::Mutex<u64>>,
    change: u64,
) {
    tokio::time::sleep(idle).await;
    let turn = writing.lock_owned().await;
    let Some(slot) = slot.upgrade().filter(|_| *turn == change) else {
        return;
    };
    let closed = blocking(move || {
        let _turn = turn;
        let shelf = slot.shelf.lock().clone();
        if let Some(shelf) = shelf {
            shelf.close_writer();
        }
        Ok(())
    });
    if let Err(error) = closed.await {
        tracing::warn!(
            error = &error as &dyn Error,
            "the writer of a search index could not be closed"
        );
    }
}

fn before(to: Revision) -> Revision {
    Revision {
        number: to.number.saturating_sub(1),
        ..to
    }
}

impl Slot {
    /// The open index, where it is at least at `wanted`.
    fn current(&self, wanted: Revision) -> Option<Arc<Shelf>> {
        self.shelf
            .lock()
            .clone()
            .filter(|shelf| shelf.revision().is_some_and(|at| at.covers(wanted)))
    }

    /// The open index, opened now if it is not. Blocks; needs the right to write.
    fn opened(&self) -> Option<Arc<Shelf>> {
        let open = self.shelf.lock().clone();
        open.or_else(|| Some(self.fill(Shelf::open(&self.dir)?)))
    }

    fn fill(&self, shelf: Shelf) -> Arc<Shelf> {
        let shelf = Arc::new(shelf);
        *self.shelf.lock() = Some(Arc::clone(&shelf));
        shelf
    }

    /// Forgets an index that failed, unless another has taken its place.
    async fn discard(&self, failed: Arc<Shelf>) -> Result<(), IndexError> {
        {
            let mut open = self.shelf.lock();
            if open
                .as_ref()
                .is_some_and(|shelf| Arc::ptr_eq(shelf, &failed))
            {
                *open = None;
            }
        }
        blocking(move || {
            failed.condemn();
            Ok(())
        })
        .await
    }
}

async fn search(shelf: &Arc<Shelf>, request: &Arc<Request>) -> Result<Vec<Hit>, IndexError> {
    let (shelf, request) = (Arc::clone(shelf), Arc::clone(request));
    blocking(move || shelf.search(&request)).await
}

/// Opens the index, and rebuilds it where it is not at the store's revision. One caller does it, the others wait; it outlives them.
async fn catch_up<S: Source>(slot: &Arc<Slot>, source: &S) -> Result<Arc<Shelf>, IndexError> {
    let (slot, source) = (Arc::clone(slot), source.clone());
    #[allow(
        clippy::disallowed_methods,
        reason = "its caller waits for it; when that goes away it ends with the rebuild"
    )]
    let work = tokio::spawn(async move {
        let turn = Arc::clone(&slot.writing).lock_owned().await;
        let opened = {
            let slot = Arc::clone(&slot);
            blocking(move || Ok(slot.opened())).await
        };
        // Read before the documents: what is written meanwhile is in the pages or in a later revision, never lost.
        let wanted = source.revision().await.map_err(unreadable)?;
        if let Ok(Some(shelf)) = opened
            && shelf.revision().is_some_and(|at| at.covers(wanted))
        {
            return Ok(shelf);
        }
        let rebuilt = rebuild(&slot, &source, wanted).await;
        drop(turn);
        rebuilt
    });
    joined(work.await)
}

/// Builds a new index in place of the old one. Nothing commits a revision before the end, so a rebuild that was cut off is no index.
async fn rebuild<S: Source>(
    slot: &Arc<Slot>,
    source: &S,
    at: Revision,
) -> Result<Arc<Shelf>, IndexError> {
    let started = std::time::Instant::now();
    let shelf = {
        let slot = Arc::clone(slot);
        blocking(move || Shelf::create(&slot.dir).map(Arc::new)).await?
    };
    let (mut last, mut documents): (Option<String>, usize) = (None, 0);
    loop {
        let page = source.page(last.as_deref()).await.map_err(unreadable)?;
        // A source that does not move on would keep us here forever.
        let Some(next) = page
            .last()
            .map(|entry| entry.id.clone())
            .filter(|next| Some(next) != last.as_ref())
        else {
            break;
        };
        last = Some(next);
        documents += page.len();
        let shelf = Arc::clone(&shelf);
        blocking(move || shelf.add(&Change::Put(&page))).await?;
    }
    let slot = Arc::clone(slot);
    let rebuilt = blocking(move || {
        shelf.commit(at)?;
        shelf.close_writer();
        *slot.shelf.lock() = Some(Arc::clone(&shelf));
        shelf.supersede();
        Ok(shelf)
    })
    .await?;
    tracing::info!(
        documents,
        seconds = started.elapsed().as_secs_f64(),
        "rebuilt a search index from the store"
    );
    Ok(rebuilt)
}

/// A panic inside becomes an error: tantivy asserts where it meets damaged files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(done: Result<Result<T, IndexError>, JoinError>) -> Result<T, IndexError> {
    match done {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => Err(IndexError::Stopped),
        Err(panic) => Err(broken(panic)),
    }
}

fn unreadable(error: impl Error + Send + Sync + 'static) -> IndexError {
    IndexError::Source(Arc::new(error))
}
