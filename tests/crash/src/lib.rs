//! Kills the process it is preloaded into (`LD_PRELOAD`), as `kill -9` does, right before its n-th boundary: a write to a file, a commit to
//! disk, a connection to another server, or bytes sent on one.
//!
//! So the binary under test is the one that ships. `AMBIT_CRASH` names a file; from the moment it is there, with a number in it, boundaries are
//! counted. Being killed right before a boundary is being killed right after everything before it.
//!
//! [`world`] has another time, and no room.
#![cfg(target_os = "linux")]
#![allow(
    unsafe_code,
    reason = "takes the place of functions of the C library, which it then asks the kernel for itself"
)]

pub mod world;

use libc::{c_int, c_long, c_uint, c_void, iovec, off64_t, size_t, sockaddr, socklen_t, ssize_t};
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicI64, Ordering},
};
use world::full;

/// Boundaries left; before it is armed, [`UNARMED`].
static LEFT: AtomicI64 = AtomicI64::new(UNARMED);
const UNARMED: i64 = i64::MIN;

/// Descriptors of connections this process made.
static OUTBOUND: [AtomicBool; 4096] = [const { AtomicBool::new(false) }; 4096];

fn boundary() {
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "the one thing it is told")]
    let Some(file) = FILE.get_or_init(|| std::env::var_os("AMBIT_CRASH")) else {
        return;
    };
    if LEFT.load(Ordering::SeqCst) == UNARMED {
        let Ok(told) = std::fs::read_to_string(file) else {
            return;
        };
        let Ok(left) = told.trim().parse::<i64>() else {
            return;
        };
        let _ = LEFT.compare_exchange(UNARMED, left, Ordering::SeqCst, Ordering::SeqCst);
    }
    if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
        // SAFETY: takes no pointer.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

fn is_file(fd: c_int) -> bool {
    if fd <= 2 {
        return false;
    }
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is as big as `fstat` writes, and read only when it says that it did.
    unsafe {
        libc::fstat(fd, stat.as_mut_ptr()) == 0
            && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFREG
    }
}

fn outbound(fd: c_int) -> Option<&'static AtomicBool> {
    OUTBOUND.get(usize::try_from(fd).ok()?)
}

fn is_outbound(fd: c_int) -> bool {
    outbound(fd).is_some_and(|place| place.load(Ordering::Relaxed))
}

macro_rules! instead {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty = $number:ident, $before:expr, $full:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the C library's own, whose arguments go to the kernel as they are.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> $out {
            $before;
            if $full {
                return -1;
            }
            // SAFETY: the caller's promise.
            let done: c_long = unsafe { libc::syscall(libc::$number, $($arg),*) };
            done as $out
        }
    )*};
}

instead! {
    /// A commit.
    fn fsync(fd: c_int) -> c_int = SYS_fsync, boundary(), false;
    /// A commit.
    fn fdatasync(fd: c_int) -> c_int = SYS_fdatasync, boundary(), false;
    /// A write to a file.
    fn pwrite(fd: c_int, from: *const c_void, count: size_t, at: off64_t) -> ssize_t = SYS_pwrite64, boundary(), full();
    /// A write to a file.
    fn pwrite64(fd: c_int, from: *const c_void, count: size_t, at: off64_t) -> ssize_t = SYS_pwrite64, boundary(), full();
    /// A write to a file; others are none of its business.
    fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t = SYS_write,
        if is_file(fd) || is_outbound(fd) { boundary() }, is_file(fd) && full();
    /// Bytes to another server.
    fn writev(fd: c_int, from: *const iovec, count: c_int) -> ssize_t = SYS_writev, if is_outbound(fd) { boundary() }, false;
    /// A connection to another server.
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int = SYS_connect, {
        boundary();
        if let Some(place) = outbound(fd) {
            place.store(true, Ordering::Relaxed);
        }
    }, false;
}

/// Bytes to another server.
///
/// # Safety
/// As the C library's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(
    fd: c_int,
    from: *const c_void,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    if is_outbound(fd) {
        boundary();
    }
    let nowhere: *const sockaddr = std::ptr::null();
    let none: c_uint = 0;
    // SAFETY: the caller's promise; `send` is `sendto` without an address.
    let sent = unsafe { libc::syscall(libc::SYS_sendto, fd, from, count, flags, nowhere, none) };
    sent as ssize_t
}

/// A descriptor that is closed is nobody's.
///
/// # Safety
/// As the C library's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(place) = outbound(fd) {
        place.store(false, Ordering::Relaxed);
    }
    // SAFETY: the caller's promise.
    let closed = unsafe { libc::syscall(libc::SYS_close, fd) };
    closed as c_int
}
