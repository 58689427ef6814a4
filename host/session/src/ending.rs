//! How requests end when the server does: at the drain deadline those still running are told to stop, and the store closes only once the end
//! of each is in the journal.

use crate::chat::Sessions;
use ambit_types::{Error, ErrorKind};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// When another server, or this one started again, can be asked.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The tasks that work on sessions, and whether they are to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    running: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a task that ends by itself when its caller goes away or the server stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(task);
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stop.clone().cancelled_owned()
    }

    /// Why a request that was given up ended, as its journal says it.
    pub(crate) fn reason(&self) -> &'static str {
        if self.stop.is_cancelled() {
            "server-stopped"
        } else {
            "caller-gone"
        }
    }

    /// Waits until all have ended; the number of those that have not after `patience`.
    pub(crate) async fn ended(&self, patience: Duration) -> usize {
        self.running.close();
        if timeout(patience, self.running.wait()).await.is_ok() {
            0
        } else {
            self.running.len()
        }
    }
}

impl Sessions {
    /// Ends every request that is under way: its caller hears [`stopping`], its journal shows it as interrupted.
    pub fn stop(&self) {
        self.tasks.stop();
    }

    /// Resolves once [`Sessions::stop`] was called.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.tasks.stopping()
    }

    /// Waits, when no more requests come, until the end of each is in the journal, but no longer than `patience`. The number of requests
    /// whose end is not.
    pub async fn ended(&self, patience: Duration) -> usize {
        self.tasks.ended(patience).await
    }
}

/// What a caller hears whose request is cut because the server stops.
#[must_use]
pub fn stopping() -> Error {
    let retry_after = RETRY_AFTER;
    Error::new(
        ErrorKind::Unavailable { retry_after },
        "the server is stopping and this request took longer than it could wait; ask again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_every_task_but_not_for_ever() {
        let tasks = Tasks::default();
        assert_eq!(tasks.reason(), "caller-gone");
        let told = tasks.clone();
        tasks.spawn(async move { told.stopping().await });
        assert_eq!(tasks.ended(Duration::from_millis(20)).await, 1);
        tasks.stop();
        assert_eq!(tasks.reason(), "server-stopped");
        assert_eq!(tasks.ended(Duration::from_secs(60)).await, 0);
    }
}
