//! The clock guests are measured by: one thread, one tick per millisecond, for both engines.
//!
//! It also has idle instances dropped. It sleeps while no guest runs, so that an idle host makes no wake-ups. It does not stop with the last call but some ticks
//! after it: otherwise each call of a lightly loaded host would pay for waking it.

use crate::{
    engine::Engines,
    warm::{self, Warm},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Length of a tick. Limits on guest time are counted in these.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Ticks without a call before the thread sleeps.
const LINGER: u32 = 200;

/// Keeps time; stops when dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug)]
struct Shared {
    /// Calls in flight.
    calls: AtomicU64,
    /// Ticks so far: the engines' epochs, which they do not tell.
    now: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// A call in flight: while one lives, the clock runs.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engines: Engines, warm: Warm) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            calls: AtomicU64::new(0),
            now: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let thread = thread::Builder::new()
            .name("ambit-ticker".into())
            .spawn({
                let shared = shared.clone();
                move || run(&shared, &engines, &warm)
            })?
            .thread()
            .clone();
        Ok(Self { shared, thread })
    }

    /// Says that a guest is about to run.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }

    /// Ticks since the start.
    pub(crate) fn now(&self) -> u64 {
        self.shared.now.load(Ordering::Relaxed)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(shared: &Shared, engines: &Engines, warm: &Warm) {
    let mut idle = 0;
    let mut swept = Instant::now();
    while !shared.stopped.load(Ordering::SeqCst) {
        if shared.calls.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > LINGER {
            // First say that we sleep, then look again: a call that started in between either sees it or is seen.
            shared.asleep.store(true, Ordering::SeqCst);
            while shared.calls.load(Ordering::SeqCst) == 0 && !shared.stopped.load(Ordering::SeqCst)
            {
                if warm.is_empty() {
                    thread::park();
                } else {
                    thread::park_timeout(warm::IDLE);
                    warm.sweep(warm::IDLE);
                }
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
        if swept.elapsed() >= warm::IDLE {
            warm.sweep(warm::IDLE);
            swept = Instant::now();
        }
        thread::sleep(TICK);
        shared.now.fetch_add(1, Ordering::Relaxed);
        engines.pure.increment_epoch();
        engines.effectful.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Allocation;
    use std::time::Instant;

    fn advances(ticker: &Ticker) -> bool {
        let before = ticker.now();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if ticker.now() > before + 3 {
                return true;
            }
            thread::sleep(TICK);
        }
        false
    }

    #[test]
    fn runs_while_calls_run_and_rests_after() {
        let ticker =
            Ticker::start(Engines::new(Allocation::OnDemand).unwrap(), Warm::default()).unwrap();
        for _ in 0..2 {
            let running = ticker.running();
            assert!(advances(&ticker));
            drop(running);
            let until = Instant::now() + Duration::from_secs(20);
            while !ticker.shared.asleep.load(Ordering::SeqCst) {
                assert!(Instant::now() < until, "an idle clock goes to sleep");
                thread::sleep(TICK);
            }
            let before = ticker.now();
            thread::sleep(TICK * 20);
            assert_eq!(ticker.now(), before);
        }
    }
}
