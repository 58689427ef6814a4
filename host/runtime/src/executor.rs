//! Threads for pure calls.
//!
//! A guest may spin until its limit is spent, so it never runs on an I/O thread. The executor's own threads serve the tenants in
//! turn: each has a bounded queue and a cap on jobs in flight that is one less than the threads, so one tenant's jobs can neither
//! fill another's queue nor take the last thread. While others wait, a tenant that has half of the threads gets no further one: two that
//! are busy cannot keep all of them from a third. A job is one closure: several pure calls of a request go in one, because handing over
//! costs more than a call.
//!
//! A job whose caller has gone away before it began is not run; one that has begun ends by its own limits.

use crate::{Busy, CallError, Tenant, engine::THREAD_STACK};
use ambit_types::TenantId;
use parking_lot::{Condvar, Mutex};
use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};
use tokio::sync::oneshot;
use tracing::Span;

/// The executor. Dropping it lets running jobs end and forgets the waiting ones.
#[derive(Debug)]
pub struct Executor {
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

type Job = Box<dyn FnOnce() + Send>;

impl Executor {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        // One tenant's cap is one less than the threads, so there are two at least.
        let threads = threads.max(2);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            cap: threads - 1,
            half: threads / 2,
        });
        let threads = (0..threads)
            .map(|n| {
                let shared = shared.clone();
                thread::Builder::new()
                    .name(format!("ambit-pure-{n}"))
                    .stack_size(THREAD_STACK)
                    .spawn(move || shared.work())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Runs `job` on one of the threads when it is the tenant's turn.
    ///
    /// # Errors
    ///
    /// At once, when the tenant has as many jobs waiting as it may.
    pub async fn run<R: Send + 'static>(
        &self,
        tenant: &Tenant,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, ExecutorError> {
        let (sender, receiver) = oneshot::channel();
        // What the job tells belongs to the caller's trace.
        let span = Span::current();
        let job = Box::new(move || {
            // Nobody waits any more: the caller's future was dropped.
            if !sender.is_closed() {
                let job = || span.in_scope(job);
                let result: Result<R, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(job));
                let _ = sender.send(result.map_err(|_| ExecutorError::Panicked));
            }
        });
        self.shared.push(tenant, job)?;
        receiver.await.unwrap_or(Err(ExecutorError::Stopped))
    }

    /// Jobs waiting, over all tenants.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared
            .state
            .lock()
            .tenants
            .values()
            .map(|queue| queue.waiting.len())
            .sum()
    }
}

impl Shared {
    fn push(&self, tenant: &Tenant, job: Job) -> Result<(), ExecutorError> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(ExecutorError::Stopped);
        }
        let id = tenant.id();
        let queue = state.tenants.entry(id).or_default();
        if queue.waiting.len() >= tenant.limits().queue {
            return Err(ExecutorError::Busy(Busy::Tenant));
        }
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
            let Some((id, job)) = state.take(self.half) else {
                self.work.wait(&mut state);
                continue;
            };
            // There may be more for a thread that sleeps: this tenant's next job, after everybody else's.
            let more = state.give_turn(id, self.cap);
            drop(state);
            if more {
                self.work.notify_one();
            }
            job();
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

    /// The next job: of the first tenant whose turn it is and which has less than half of the threads, else of the first.
    fn take(&mut self, half: usize) -> Option<(TenantId, Job)> {
        let modest = |id: &TenantId| self.tenants.get(id).is_some_and(|q| q.in_flight < half);
        let place = self.turns.iter().position(modest).unwrap_or(0);
        let id = self.turns.remove(place)?;
        let queue = self.tenants.get_mut(&id)?;
        queue.queued = false;
        let job = queue.waiting.pop_front()?;
        queue.in_flight += 1;
        Some((id, job))
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

impl Drop for Executor {
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
mod tests {
    use super::*;
    use crate::TenantLimits;
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };

    fn tenant(name: &str, queue: usize) -> Arc<Tenant> {
        Tenant::new(
            TenantId::new(),
            name.parse().unwrap(),
            TenantLimits {
                queue,
                ..TenantLimits::default()
            },
        )
    }

    /// Starts a job without waiting for it; it is queued when this returns.
    fn spawn<R: Send + 'static>(
        executor: &Arc<Executor>,
        tenant: &Arc<Tenant>,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<R, ExecutorError>> {
        let (executor, tenant) = (executor.clone(), tenant.clone());
        #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
        tokio::spawn(async move { executor.run(&tenant, job).await })
    }

    /// Starts a job that runs until `gate` opens, and waits until it runs.
    async fn hold(
        executor: &Arc<Executor>,
        tenant: &Arc<Tenant>,
        gate: &Arc<Barrier>,
    ) -> tokio::task::JoinHandle<Result<(), ExecutorError>> {
        let (gate, (begun, begins)) = (gate.clone(), oneshot::channel());
        let job = spawn(executor, tenant, move || {
            begun.send(()).unwrap();
            gate.wait();
        });
        begins.await.unwrap();
        job
    }

    #[tokio::test]
    async fn a_tenant_that_fills_its_share_leaves_the_others_theirs() {
        let executor = Arc::new(Executor::start(3).unwrap());
        let (loud, quiet) = (tenant("loud", 10), tenant("quiet", 10));
        let gate = Arc::new(Barrier::new(3));
        let loud_jobs = [
            hold(&executor, &loud, &gate).await,
            hold(&executor, &loud, &gate).await,
        ];
        let more: Vec<_> = (0..12)
            .map(|n| spawn(&executor, &loud, move || n))
            .collect();
        // All its threads are taken, and yet the other tenant's jobs run.
        for n in 0..100 {
            assert_eq!(executor.run(&quiet, move || n).await, Ok(n));
        }
        assert_eq!(executor.waiting(), 10, "the queue is bounded");
        gate.wait();
        for job in loud_jobs {
            job.await.unwrap().unwrap();
        }
        let mut done = 0;
        for job in more {
            match job.await.unwrap() {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error, ExecutorError::Busy(Busy::Tenant)),
            }
        }
        assert_eq!(done, 10);
        // A job is answered a moment before its thread puts its tenant away.
        for _ in 0..1000 {
            if executor.shared.state.lock().tenants.is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("something is kept of a tenant without jobs");
    }

    #[tokio::test]
    async fn tenants_take_turns() {
        let executor = Arc::new(Executor::start(2).unwrap());
        let tenants = [tenant("a", 100), tenant("b", 100), tenant("c", 100)];
        let gate = Arc::new(Barrier::new(3));
        // Hold both threads while the queues fill.
        let holders = [tenant("one", 1), tenant("two", 1)];
        let holders = [
            hold(&executor, &holders[0], &gate).await,
            hold(&executor, &holders[1], &gate).await,
        ];
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut jobs = Vec::new();
        for tenant in &tenants {
            for _ in 0..20 {
                let (order, id) = (order.clone(), tenant.id());
                jobs.push(spawn(&executor, tenant, move || order.lock().push(id)));
            }
        }
        while executor.waiting() < 60 {
            tokio::task::yield_now().await;
        }
        gate.wait();
        for job in jobs.into_iter().chain(holders.into_iter()) {
            job.await.unwrap().unwrap();
        }
        let order = order.lock();
        for tenant in &tenants {
            let early = order
                .iter()
                .take(30)
                .filter(|id| **id == tenant.id())
                .count();
            assert!(
                (5..=15).contains(&early),
                "about a third of the first half, where first come first served would be 20, 10, 0: {early}"
            );
        }
    }

    #[tokio::test]
    async fn who_has_half_of_the_threads_waits_for_those_who_have_less() {
        let executor = Arc::new(Executor::start(4).unwrap());
        let [loud, louder, quiet] = ["loud", "louder", "quiet"].map(|name| tenant(name, 10));
        let (gate, first) = (Arc::new(Barrier::new(4)), Arc::new(Barrier::new(2)));
        let mut holders = vec![hold(&executor, &louder, &first).await];
        for tenant in [&loud, &loud, &louder] {
            holders.push(hold(&executor, tenant, &gate).await);
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut jobs = Vec::new();
        for (waiting, tenant) in [&loud, &quiet].into_iter().enumerate() {
            let (order, id) = (order.clone(), tenant.id());
            jobs.push(spawn(&executor, tenant, move || order.lock().push(id)));
            while executor.waiting() <= waiting {
                tokio::task::yield_now().await;
            }
        }
        // One thread becomes free: the quiet tenant has it, although it came last.
        first.wait();
        for job in jobs {
            job.await.unwrap().unwrap();
        }
        gate.wait();
        for holder in holders {
            holder.await.unwrap().unwrap();
        }
        assert_eq!(*order.lock(), [quiet.id(), loud.id()]);
    }

    #[tokio::test]
    async fn jobs_nobody_waits_for_are_not_run_and_panics_stay_inside() {
        let executor = Arc::new(Executor::start(2).unwrap());
        let acme = tenant("acme", 10);
        let gate = Arc::new(Barrier::new(2));
        let holder = hold(&executor, &acme, &gate).await;
        let ran = Arc::new(AtomicUsize::new(0));
        let abandoned: Vec<_> = (0..5)
            .map(|_| {
                let ran = ran.clone();
                spawn(&executor, &acme, move || ran.fetch_add(1, Ordering::SeqCst))
            })
            .collect();
        while executor.waiting() < 5 {
            tokio::task::yield_now().await;
        }
        for job in abandoned {
            job.abort();
            assert!(job.await.is_err());
        }
        gate.wait();
        holder.await.unwrap().unwrap();
        let panicked = executor
            .run(&acme, || -> u32 {
                std::panic::panic_any("expected by a test")
            })
            .await;
        assert_eq!(panicked, Err(ExecutorError::Panicked));
        assert_eq!(
            executor.run(&acme, || 7).await,
            Ok(7),
            "the thread lives on"
        );
        assert_eq!(ran.load(Ordering::SeqCst), 0);
        assert_eq!(executor.waiting(), 0);
    }

    #[tokio::test]
    async fn stopping_answers_those_who_wait() {
        let executor = Arc::new(Executor::start(2).unwrap());
        let acme = tenant("acme", 10);
        let gate = Arc::new(Barrier::new(2));
        let holder = hold(&executor, &acme, &gate).await;
        let waiting = spawn(&executor, &acme, || ());
        while executor.waiting() < 1 {
            tokio::task::yield_now().await;
        }
        executor.shared.state.lock().stopped = true;
        let forgotten = std::mem::take(&mut executor.shared.state.lock().tenants);
        drop(forgotten);
        assert_eq!(waiting.await.unwrap(), Err(ExecutorError::Stopped));
        gate.wait();
        assert_eq!(holder.await.unwrap(), Ok(()));
        assert_eq!(
            executor.run(&acme, || ()).await,
            Err(ExecutorError::Stopped)
        );
    }
}
