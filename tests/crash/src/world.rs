//! The clock and the disk as the process finds them: a clock that is set back by so many seconds as the file `AMBIT_BEHIND` says, a disk that is
//! full while the file `AMBIT_FULL` is there.

use libc::{CLOCK_REALTIME, ENOSPC, c_int, c_long, clockid_t, timespec};
use std::{ffi::OsString, path::Path, sync::OnceLock};

static BEHIND: OnceLock<Option<OsString>> = OnceLock::new();
static FULL: OnceLock<Option<OsString>> = OnceLock::new();

fn told(name: &str, place: &'static OnceLock<Option<OsString>>) -> Option<&'static Path> {
    #[allow(clippy::disallowed_methods, reason = "what it is told")]
    let file = place.get_or_init(|| std::env::var_os(name));
    file.as_deref().map(Path::new)
}

fn behind() -> i64 {
    let file = told("AMBIT_BEHIND", &BEHIND);
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Whether there is no room; what failed is told so.
pub(crate) fn full() -> bool {
    let full = told("AMBIT_FULL", &FULL).is_some_and(Path::exists);
    if full {
        // SAFETY: the place is this thread's own.
        unsafe { *libc::__errno_location() = ENOSPC };
    }
    full
}

/// The time, behind by what it is told.
///
/// # Safety
/// As the C library's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the caller's promise.
    let done: c_long = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if done == 0 && clock == CLOCK_REALTIME {
        // SAFETY: the kernel wrote there.
        unsafe { (*time).tv_sec -= behind() };
    }
    done as c_int
}
