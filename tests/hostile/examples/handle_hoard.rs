//! Takes handles of host resources and never gives one back.

#[cfg(target_family = "wasm")]
fn hoard(argument: String) -> String {
    let mut streams = Vec::new();
    loop {
        streams.push(wasip2::cli::stdout::get_stdout());
        std::hint::black_box((&argument, &streams));
    }
}

#[cfg(not(target_family = "wasm"))]
fn hoard(argument: String) -> String {
    argument
}

ambit_hostile::guest!(hoard);
