//! The time of an effectful call: what its thread spends on it is billed, what it waits is not.
//!
//! Each stretch between two waits is one poll of the call's future, on one thread. It counts as much of that thread's CPU time as it took, host
//! functions included: a thread taken off its core is nobody's doing. A guest that does not wait yields at every tick, so that a stretch is
//! about a tick long at most and another task has its turn after it.
//!
//! Measuring at the guest's calls of the host instead (`Store::call_hook`) would leave out a host function that does not wait, which a
//! guest can call in a loop, and would have to tell a wait from work in calls that nest.

use crate::{Busy, CallError, Meter, Runtime, ticker::TICK};
use rustix::time::{ClockId, clock_gettime};
use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

/// Carries `call` out, turn by turn, and bills its time, in nanoseconds also to `payer`; ends it where it has spent its limit.
pub(crate) async fn paced<R>(
    runtime: &Runtime,
    payer: Option<&AtomicU64>,
    meter: &Meter,
    call: impl Future<Output = Result<R, CallError>>,
) -> Result<R, CallError> {
    let mut call = pin!(call);
    let mut unbilled = Duration::ZERO;
    let result = loop {
        let Some(turn) = runtime.turnstile().pass(meter.tenant()).await else {
            break Err(CallError::Busy(Busy::Host));
        };
        let stretch = poll_fn(|context| {
            meter.resume(runtime.ticker().now());
            let began = thread_time();
            let polled = call.as_mut().poll(context);
            let took = thread_time().saturating_sub(began);
            unbilled += took;
            if let Some(payer) = payer {
                pay(payer, took);
            }
            Poll::Ready(polled)
        });
        let polled = stretch.await;
        drop(turn);
        let mut spent = Ok(());
        while unbilled >= TICK {
            unbilled -= TICK;
            spent = spent.and(meter.tick());
        }
        match (polled, spent) {
            // What is done is done.
            (Poll::Ready(result), _) => break result,
            (Poll::Pending, Err(spent)) => break Err(CallError::Limit(spent.0)),
            (Poll::Pending, Ok(())) => woken().await,
        }
    };
    if meter.tenant().carry(unbilled) {
        let _ = meter.tick();
    }
    result
}

/// Adds what a session's components took of a thread's time.
pub(crate) fn pay(payer: &AtomicU64, took: Duration) {
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    payer.fetch_add(took, Ordering::Relaxed);
}

/// Waits for what a poll that is over has asked to be woken by.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// CPU time of this thread.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Never negative, and less than a second of them.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
