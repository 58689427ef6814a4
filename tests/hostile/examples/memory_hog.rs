//! Allocates and touches memory until there is none.

fn hoard(argument: String) -> String {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![argument.len() as u8 | 1; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

ambit_hostile::guest!(hoard);
