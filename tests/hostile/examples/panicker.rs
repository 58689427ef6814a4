//! Panics with a text that must not reach anybody but the log.

fn panic(argument: String) -> String {
    std::panic::panic_any(argument)
}

ambit_hostile::guest!(panic);
