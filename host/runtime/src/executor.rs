//! Threads for pure calls.
//!
//! A guest may spin until its limit is spent, so it never runs on an I/O thread. The executor's own threads serve the tenants in
//! turn: each has a bounded queue and a cap on jobs in flight that is one less than the threads, so one tenant's jobs can neither
//! fill another's queue nor take the last thread. While others wait, a tenant that has half of the threads gets no further one: two that
//! are busy cannot keep all of them from a third. A job is one closure: several pure calls of a request go in one, because handing over
//! costs more than a call.
//!
//! A tenant whose guests took long has its jobs run on threads apart for a while, which the operating system lets run when others
//! have little to do: where cores are scarce, guests that spin wait for those that do not, and for I/O, not the other way round.
//!
//! A job whose caller has gone away before it began is not run; one that has begun ends by its own limits.

use crate::{Busy, CallError, Tenant, engine::THREAD_STACK};
use ambit_types::TenantId;
use parking_lot::{Condvar, Mutex};
use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, Weak},
    thread::{self, JoinHandle},
};
use tokio::sync::oneshot;
use tracing::Span;

/// The executor. Dropping it lets running jobs end and forgets the waiting ones.
#[derive(Debug)]
pub struct Executor {
    quick: Lane,
    slow: Lane,
}

/// Threads of one priority, and who waits for them.
#[derive(Debug)]
struct Lane {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The tenant has as many jobs waiting as it may.
    #[error("{0}")]
    Busy(Busy),
    /// The job panicked: a bug of the host's, since guests only trap.
    #[error("a job of the executor panicked")]
    Panicked,
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopped,
}

impl From<ExecutorError> for CallError {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Busy(busy) => Self::Busy(busy),
            ExecutorError::Stopped => Self::Busy(Busy::Host),
            ExecutorError::Panicked => Self::Host(error.into()),
        }
    }
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Jobs one tenant may have in flight.
    cap: usize,
    /// Jobs it may have in flight before those who have fewer.
    half: usize,
    /// Jobs of a tenant that turned out to be slow while they waited go to the others.
    is_quick: bool,
    /// The threads of the other priority.
    other: OnceLock<Weak<Shared>>,
}

#[derive(Default)]
struct State {
    tenants: HashMap<TenantId, Queue>,
    /// Tenants with a waiting job that may start, each once, in the order of their turns.
    turns: VecDeque<TenantId>,
    stopped: bool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    in_flight: usize,
    /// In `turns`.
    queued: bool,
}

struct Job {
    tenant: Arc<Tenant>,
    run: Box<dyn FnOnce() + Send>,
}

impl Executor {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let (quick, slow) = (Shared::new(threads, true), Shared::new(threads, false));
        let _ = quick.other.set(Arc::downgrade(&slow));
        let _ = slow.other.set(Arc::downgrade(&quick));
        Ok(Self {
            quick: Lane::start("ambit-pure", quick, || ())?,
            slow: Lane::start("ambit-slow", slow, step_back)?,
        })
    }

    /// Runs `job` on one of the threads when it is the tenant's turn.
    ///
    /// # Errors
    ///
    /// At once, when the tenant has as many jobs waiting as it may.
    pub async fn run<R: Send + 'static>(
        &self,
        tenant: &Arc<Tenant>,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, ExecutorError> {
        let (sender, receiver) = oneshot::channel();
        // What the job tells belongs to the caller's trace.
        let span = Span::current();
        let run = Box::new(move || {
            // Nobody waits any more: the caller's future was dropped.
            if !sender.is_closed() {
                let job = || span.in_scope(job);
                let result: Result<R, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(job));
                let _ = sender.send(result.map_err(|_| ExecutorError::Panicked));
            }
        });
        let job = Job {
            tenant: tenant.clone(),
            run,
        };
        let lane = if tenant.is_slow() {
            &self.slow
        } else {
            &self.quick
        };
        if !tenant.waits() {
            return Err(ExecutorError::Busy(Busy::Tenant));
        }
        lane.shared.push(job).map_err(|_| ExecutorError::Stopped)?;
        receiver.await.unwrap_or(Err(ExecutorError::Stopped))
    }

    /// Jobs waiting, over all tenants.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let waiting = |state: &State| -> usize {
            let queues = state.tenants.values();
            queues.map(|queue| queue.waiting.len()).sum()
        };
        // The first is held while the second is asked: a job that moves from there is counted once.
        let quick = self.quick.shared.state.lock();
        waiting(&quick) + waiting(&self.slow.shared.state.lock())
    }
}

impl Lane {
    fn start(name: &str, shared: Arc<Shared>, prepare: fn()) -> std::io::Result<Self> {
        let threads = (0..=shared.cap)
            .map(|n| {
                let shared = shared.clone();
                thread::Builder::new()
                    .name(format!("{name}-{n}"))
                    .stack_size(THREAD_STACK)
                    .spawn(move || {
                        prepare();
                        shared.work();
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }
}

/// Gives this thread a tenth of the weight others have, where the system knows such a thing of threads.
fn step_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lower = getpriority_process(None).map(|nice| (nice + 10).min(19));
        if let Err(error) = lower.and_then(|nice| setpriority_process(None, nice)) {
            tracing::debug!(%error, "slow jobs run at the priority of all others");
        }
    }
}

impl Shared {
    fn new(threads: usize, is_quick: bool) -> Arc<Self> {
        // One tenant's cap is one less than the threads, so there are two at least.
        let threads = threads.max(2);
        Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            cap: threads - 1,
            half: threads / 2,
            is_quick,
            other: OnceLock::new(),
        })
    }

    fn other(&self) -> Option<Arc<Self>> {
        self.other.get()?.upgrade()
    }

    /// A place among a tenant's running jobs is free: one that waits here may start.
    fn look_again(&self, id: TenantId) {
        let given = self.state.lock().give_turn(id, self.cap);
        if given {
            self.work.notify_one();
        }
    }

    /// The job comes back where nothing runs any more.
    fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(job);
        }
        let id = job.tenant.id();
        let queue = state.tenants.entry(id).or_default();
        queue.waiting.push_back(job);
        if state.give_turn(id, self.cap) {
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return;
            }
            let Some((id, job)) = state.take(self.half, self.cap) else {
                self.work.wait(&mut state);
                continue;
            };
            // There may be more for a thread that sleeps: this tenant's next job, after everybody else's.
            let more = state.give_turn(id, self.cap);
            drop(state);
            if more {
                self.work.notify_one();
            }
            let tenant = job.tenant.clone();
            match self.other().filter(|_| self.is_quick && tenant.is_slow()) {
                Some(slow) => {
                    tenant.ended();
                    // Where nothing runs any more its caller hears that.
                    let _ = slow.push(job);
                }
                None => {
                    tenant.waits_no_more();
                    (job.run)();
                    tenant.ended();
                    if tenant.has_waiting()
                        && let Some(other) = self.other()
                    {
                        other.look_again(id);
                    }
                }
            }
            state = self.state.lock();
            state.finish(id, self.cap);
        }
    }
}

impl State {
    /// Puts the tenant at the end of the turns, if it has a job that may start and is not there yet.
    fn give_turn(&mut self, id: TenantId, cap: usize) -> bool {
        let Some(queue) = self.tenants.get_mut(&id) else {
            return false;
        };
        let give = !queue.queued && !queue.waiting.is_empty() && queue.in_flight < cap;
        if give {
            queue.queued = true;
            self.turns.push_back(id);
        }
        give
    }

    /// The next job: of the first tenant whose turn it is and which has less than half of the threads, else of the first. One that has as
    /// many running as it may, those on the threads of the other priority included, has its turn again when one of them ends.
    fn take(&mut self, half: usize, cap: usize) -> Option<(TenantId, Job)> {
        loop {
            let modest = |id: &TenantId| self.tenants.get(id).is_some_and(|q| q.in_flight < half);
            let place = self.turns.iter().position(modest).unwrap_or(0);
            let id = self.turns.remove(place)?;
            let Some(queue) = self.tenants.get_mut(&id) else {
                continue;
            };
            queue.queued = false;
            let next = queue.waiting.front();
            if next.is_some_and(|job| job.tenant.starts(cap))
                && let Some(job) = queue.waiting.pop_front()
            {
                queue.in_flight += 1;
                return Some((id, job));
            }
        }
    }

    fn finish(&mut self, id: TenantId, cap: usize) {
        if let Some(queue) = self.tenants.get_mut(&id) {
            queue.in_flight -= 1;
            if queue.in_flight == 0 && queue.waiting.is_empty() {
                self.tenants.remove(&id);
                return;
            }
        }
        self.give_turn(id, cap);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let forgotten = {
            let mut state = self.shared.state.lock();
            state.stopped = true;
            state.turns.clear();
            std::mem::take(&mut state.tenants)
        };
        self.shared.work.notify_all();
        // Their callers learn that the host is stopping.
        drop(forgotten);
        let current = thread::current().id();
        for thread in self.threads.drain(..) {
            // A job may hold the last handle of the runtime: its thread cannot wait for itself.
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("cap", &self.cap)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "executor_tests.rs"]
mod tests;
