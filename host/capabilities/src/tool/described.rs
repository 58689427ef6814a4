//! What components say of their tools: asked once of each, whoever uses it.
//!
//! Asking runs a component nobody has called yet, so it is done for nobody: one at a time, for a moment, on a share of its own. One that does not answer in
//! that moment costs it once in a while, not once for every tenant.

use super::{Guest, Host, spec::Specs};
use crate::{Failure, LoadError};
use ambit_runtime::{Admitted, CallError, CallScope, Digest, Effectful, Limit, Runtime};
use moka::sync::Cache;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// For naming a few tools, which needs nothing but memory.
const DEADLINE: Duration = Duration::from_millis(500);
/// How long a component that took longer is not asked again.
const PAUSE: Duration = Duration::from_secs(10);
/// Components remembered.
const KNOWN: u64 = 1_000;

pub(super) struct Described {
    known: Cache<Digest, Arc<Specs>>,
    late: Cache<Digest, ()>,
    turn: Semaphore,
}

impl Default for Described {
    fn default() -> Self {
        Self {
            known: Cache::new(KNOWN),
            late: Cache::builder()
                .max_capacity(KNOWN)
                .time_to_live(PAUSE)
                .build(),
            turn: Semaphore::new(1),
        }
    }
}

impl Described {
    /// The tools of a component, checked and compiled.
    pub(super) async fn of(
        &self,
        runtime: &Runtime,
        admitted: &Admitted,
        component: &Effectful<Host, Guest>,
    ) -> Result<Arc<Specs>, LoadError> {
        let digest = admitted.code().digest();
        if let Some(specs) = self.known.get(&digest) {
            return Ok(specs);
        }
        let _turn = self.turn.acquire().await;
        if let Some(specs) = self.known.get(&digest) {
            return Ok(specs);
        }
        if self.late.contains_key(&digest) {
            return Err(Failure::from(CallError::Limit(Limit::Deadline)).into());
        }
        let specs = match ask(runtime, component).await {
            Err(CallError::Limit(Limit::Deadline)) => {
                self.late.insert(digest, ());
                return Err(Failure::from(CallError::Limit(Limit::Deadline)).into());
            }
            answer => answer.map_err(Failure::from)?,
        };
        let specs = tokio::task::spawn_blocking(move || Specs::new(specs))
            .await
            .map_err(|error| LoadError::Description(error.to_string()))?
            .map_err(LoadError::Description)?;
        let specs = Arc::new(specs);
        self.known.insert(digest, specs.clone());
        Ok(specs)
    }
}

async fn ask(
    runtime: &Runtime,
    component: &Effectful<Host, Guest>,
) -> Result<Vec<super::ToolSpec>, CallError> {
    let scope = CallScope::new(runtime.describing().clone(), Instant::now() + DEADLINE);
    let describe =
        async |store: &mut _, guest: &Guest| guest.ambit_tool_tool().call_describe(store).await;
    component.call(&scope, Host::default(), describe).await
}
