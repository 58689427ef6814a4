//! What scenarios need: the real binary, started on an empty folder, and the two planes it serves.
//!
//! The binary is the one `cargo xtask build` leaves beside the tests; the components are found as it finds them, or by
//! `AMBIT_COMPONENTS`. Where it is missing a scenario is skipped and says so.
//!
//! [`Ambit`] is a running process, [`Answer`] what a chat request came to, [`guest`] a component of `tests/hostile`.

mod ambit;
mod answer;
mod guests;
mod start;

pub use ambit::{Ambit, Signal, Tenant, Up};
pub use answer::Answer;
pub use guests::{NewComponent, edition, guest};

use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long a condition may take to come true: far more than it ever needs, on a machine that runs other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, if it was built. Says so when it was not.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()?
        .ancestors()
        .nth(2)?
        .join("ambit");
    // A binary without its components cannot serve; cargo alone does not build those.
    let built = beside.is_file() && shipped(&beside).is_dir();
    if !built {
        ambit_skips::skipped(&format!(
            "scenarios: no binary and components at {}; `cargo xtask build` makes them",
            beside.display()
        ));
    }
    built.then_some(beside)
}

/// Prints although the test harness captures output.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Waits until `condition` holds.
///
/// # Panics
/// It does not within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        while !condition().await {
            assert!(
                began.elapsed() < PATIENCE,
                "{caller}: {what}: not in {PATIENCE:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The folder of the components that ship with the binary.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "a test harness is told by its environment where things are"
)]
pub fn shipped(binary: &Path) -> PathBuf {
    std::env::var_os("AMBIT_COMPONENTS")
        .map_or_else(|| binary.with_file_name("components"), PathBuf::from)
}
