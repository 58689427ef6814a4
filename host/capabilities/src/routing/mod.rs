//! Which tenant a host name belongs to.
//!
//! A [`Router`] runs the routing component over one immutable [`Directory`]. Component, directory and cache of answers are one value that
//! is swapped whole, so that no answer outlives the component and the directory it was made from. Names nobody owns are remembered too: they cost an
//! attacker as little as they cost us.

mod host;

use crate::{Failure, LoadError, RequestFacts};
use ambit_runtime::{Admitted, CallScope, Pure, Runtime};
use ambit_types::{Error, TenantId, TenantSlug};
use arc_swap::ArcSwap;
use host::{Guest, Lookups};
use moka::sync::Cache;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Host names remembered, some hundred bytes each.
const CACHE_CAP: u64 = 10_000;
/// Longer ones are asked about anew each time; no name a browser sends is that long.
const CACHED_HOST_CAP: usize = 300;
/// Waiting for a thread included; the component's own limits are tighter.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest name in DNS.
const NAME_CAP: usize = 253;

/// Every name the installation serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    base_domains: Vec<String>,
    labels: HashMap<TenantSlug, TenantId>,
    names: HashMap<String, TenantId>,
}

impl Directory {
    /// Base domains and names in lower-case A-labels without trailing dot.
    #[must_use]
    pub fn new(
        base_domains: Vec<String>,
        labels: HashMap<TenantSlug, TenantId>,
        names: HashMap<String, TenantId>,
    ) -> Self {
        Self {
            base_domains,
            labels,
            names,
        }
    }
}

/// Whose name it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub tenant: TenantId,
    /// The name that was matched, in its one canonical form.
    pub canonical_host: String,
}

/// Why a request belongs to no tenant. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Not a host name.
    #[error("malformed host: {0}")]
    Malformed(Arc<str>),
    /// Nobody's.
    #[error("nobody owns this host name")]
    Unknown,
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<RouteError> for Error {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Malformed(_) => {
                Self::invalid("host", "the host of the request is not a host name").because(error)
            }
            RouteError::Unknown => Self::not_found("nothing is served under this host name"),
            RouteError::Failure(failure) => failure.into(),
        }
    }
}

/// Finds tenants by host name. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    snapshot: ArcSwap<Snapshot>,
}

/// One component over one directory, with what it answered.
struct Snapshot {
    component: Arc<Pure<Lookups, Guest>>,
    directory: Arc<Directory>,
    answers: Cache<String, Answer>,
}

/// What the directory says of a name.
#[derive(Clone)]
enum Answer {
    Route(Arc<Route>),
    Malformed(Arc<str>),
    Unknown,
}

impl Router {
    /// Links the component over `directory`.
    ///
    /// # Errors
    ///
    /// When it cannot be linked.
    pub fn new(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        directory: Directory,
    ) -> Result<Self, LoadError> {
        let component = Arc::new(host::link(runtime, admitted)?);
        let snapshot = ArcSwap::from_pointee(Snapshot::new(component, directory));
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            snapshot,
        })))
    }

    /// Puts `directory` in place of the present one.
    pub fn replace(&self, directory: Directory) {
        let component = self.0.snapshot.load().component.clone();
        let snapshot = Snapshot::new(component, directory);
        self.0.snapshot.store(Arc::new(snapshot));
    }

    /// Puts another component over `directory` in place of the present ones. A request being routed ends with what it began with.
    ///
    /// # Errors
    ///
    /// When it cannot be linked; everything stays as it was.
    pub fn swap(&self, admitted: &Admitted, directory: Directory) -> Result<(), LoadError> {
        let component = Arc::new(host::link(&self.0.runtime, admitted)?);
        let snapshot = Snapshot::new(component, directory);
        self.0.snapshot.store(Arc::new(snapshot));
        Ok(())
    }

    /// What was answered before about a `Host` header or `:authority`: all that most requests need.
    #[must_use]
    pub fn cached(&self, raw_host: &str) -> Option<Result<Arc<Route>, RouteError>> {
        self.0
            .snapshot
            .load()
            .answers
            .get(raw_host)
            .map(Answer::into_result)
    }

    /// The tenant of a request.
    ///
    /// # Errors
    ///
    /// [`RouteError::Malformed`] and [`RouteError::Unknown`] are the caller's doing, the other is not.
    pub async fn route(&self, facts: &RequestFacts) -> Result<Arc<Route>, RouteError> {
        let snapshot = self.0.snapshot.load_full();
        if let Some(answer) = snapshot.answers.get(&facts.host) {
            return answer.into_result();
        }
        let runtime = &self.0.runtime;
        let scope = CallScope::new(runtime.host_tenant().clone(), Instant::now() + DEADLINE);
        let (component, directory, asked) = (
            snapshot.component.clone(),
            snapshot.directory.clone(),
            facts.clone(),
        );
        let job = move || host::route(&component, &scope, directory, &asked);
        let answer = runtime
            .executor()
            .run(runtime.host_tenant(), job)
            .await
            .map_err(Failure::from)??;
        if facts.host.len() <= CACHED_HOST_CAP {
            snapshot.answers.insert(facts.host.clone(), answer.clone());
        }
        answer.into_result()
    }
}

impl Snapshot {
    fn new(component: Arc<Pure<Lookups, Guest>>, directory: Directory) -> Self {
        Self {
            component,
            directory: Arc::new(directory),
            answers: Cache::new(CACHE_CAP),
        }
    }
}

impl Answer {
    fn into_result(self) -> Result<Arc<Route>, RouteError> {
        match self {
            Self::Route(route) => Ok(route),
            Self::Malformed(what) => Err(RouteError::Malformed(what)),
            Self::Unknown => Err(RouteError::Unknown),
        }
    }
}
