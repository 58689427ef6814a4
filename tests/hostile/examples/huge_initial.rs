//! Wants more memory than anybody gives it before it says a word.

#[cfg(target_family = "wasm")]
fn fill(argument: String) -> String {
    use std::{mem::MaybeUninit, sync::atomic::AtomicU8};
    static HUGE: MaybeUninit<[AtomicU8; 64 << 20]> = MaybeUninit::uninit();
    std::hint::black_box(HUGE.as_ptr());
    argument
}

#[cfg(not(target_family = "wasm"))]
fn fill(argument: String) -> String {
    argument
}

ambit_hostile::guest!(fill);
