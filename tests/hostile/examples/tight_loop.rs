//! Never ends, and never calls the host.

fn spin(argument: String) -> String {
    let mut sum = 0_u64;
    loop {
        sum = std::hint::black_box(sum.wrapping_add(argument.len() as u64));
    }
}

ambit_hostile::guest!(spin);
