//! Traps before anything of it can be called.

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "what runs at the start is a section of its own")]
mod start {
    #[used]
    #[unsafe(link_section = ".init_array")]
    static START: extern "C" fn() = start;

    extern "C" fn start() {
        std::arch::wasm32::unreachable()
    }
}

fn answer(argument: String) -> String {
    argument
}

ambit_hostile::guest!(answer);
