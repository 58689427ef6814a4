//! Linked components of a process: one per component, what its grants leave of it and limits, however many tenants and agents bind it.

use crate::Digest;
use parking_lot::Mutex;
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, Weak},
};

type Link = Weak<dyn Any + Send + Sync>;

/// By type, which says what is linked into it, and policy. Nothing is kept that nobody binds any more.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<HashMap<(TypeId, Digest), Vec<Link>>>);

impl Links {
    /// The one that fits, or a new one.
    pub(crate) fn get<T: Any + Send + Sync, E>(
        &self,
        policy: Digest,
        fits: impl Fn(&T) -> bool,
        link: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let key = (TypeId::of::<T>(), policy);
        let found = self.0.lock().get(&key).and_then(|links| {
            let mut alive = links.iter().filter_map(Weak::upgrade);
            alive.find_map(|link| link.downcast::<T>().ok().filter(|link| fits(link)))
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let new = Arc::new(link()?);
        let mut links = self.0.lock();
        links.retain(|_, links| {
            links.retain(|link| link.strong_count() > 0);
            !links.is_empty()
        });
        let link: Arc<dyn Any + Send + Sync> = new.clone();
        links.entry(key).or_default().push(Arc::downgrade(&link));
        Ok(new)
    }
}
