//! Calls a host function over and over that answers at once and has much to do: hardly any of the time is the guest's own.

#[cfg(target_family = "wasm")]
fn ask(_: String) -> String {
    loop {
        std::hint::black_box(wasip2::random::random::get_random_bytes(4_096));
    }
}

#[cfg(not(target_family = "wasm"))]
fn ask(argument: String) -> String {
    argument
}

ambit_hostile::guest!(ask);
