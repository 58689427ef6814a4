//! The time of an effectful call: what its thread spends on it is billed, what it waits is not.
//!
//! Each stretch between two waits is one poll of the call's future. A guest that does not wait yields at every tick, so a stretch is about
//! a tick long at most, and another task has its turn after it. A stretch counts as long as it took, host functions included, but for
//! a tick at most: a thread taken off its core is not the guest's doing.
//!
//! Measuring at the guest's calls of the host instead (`Store::call_hook`) would leave out a host function that does not wait, which a
//! guest can call in a loop, and would have to tell a wait from work in calls that nest.

use crate::{
    CallError, Meter,
    ticker::{TICK, Ticker},
};
use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

/// Carries `call` out and bills its time; ends it where it has spent its limit.
pub(crate) async fn paced<R>(
    ticker: &Ticker,
    meter: &Meter,
    call: impl Future<Output = Result<R, CallError>>,
) -> Result<R, CallError> {
    let mut call = pin!(call);
    let mut unbilled = Duration::ZERO;
    poll_fn(|context| {
        meter.resume(ticker.now());
        let began = Instant::now();
        let polled = call.as_mut().poll(context);
        unbilled += began.elapsed().min(TICK);
        if unbilled < TICK {
            return polled;
        }
        unbilled -= TICK;
        match meter.tick() {
            Err(spent) if polled.is_pending() => Poll::Ready(Err(CallError::Limit(spent.0))),
            // What is done is done.
            Ok(()) | Err(_) => polled,
        }
    })
    .await
}
