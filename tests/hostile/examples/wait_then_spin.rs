//! Waits in a host function that answers with a list, for as many milliseconds as it is told, and never ends after that.
//!
//! Told `edges`, it looks for the host's clock instead: waits a little and works a little, over and over, so that no single piece of
//! work is as long as a tick.

#[cfg(target_family = "wasm")]
fn wait_then_spin(argument: String) -> String {
    use std::time::{Duration, Instant};
    use wasip2::{clocks::monotonic_clock::subscribe_duration, io::poll::poll};

    let wait = |millis: u64| poll(&[&subscribe_duration(millis * 1_000_000)]);
    if argument == "edges" {
        loop {
            wait(1);
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(400) {}
        }
    }
    wait(argument.parse().unwrap_or(200));
    loop {
        std::hint::black_box(&argument);
    }
}

#[cfg(not(target_family = "wasm"))]
fn wait_then_spin(argument: String) -> String {
    argument
}

ambit_hostile::guest!(wait_then_spin);
