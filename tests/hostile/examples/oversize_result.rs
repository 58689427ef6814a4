//! Answers with many megabytes.

fn answer(argument: String) -> String {
    "x".repeat(argument.trim().parse().unwrap_or(16 << 20))
}

ambit_hostile::guest!(answer);
