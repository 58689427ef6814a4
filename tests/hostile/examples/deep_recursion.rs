//! Calls itself without end, with a frame the compiler cannot do without.

fn dig(argument: String) -> String {
    #[allow(unconditional_recursion, reason = "the point of it")]
    fn deeper(frame: &[u64; 16]) -> u64 {
        let next = std::hint::black_box(frame.map(|n| n.wrapping_add(1)));
        deeper(&next).wrapping_add(next[0])
    }
    deeper(&[argument.len() as u64; 16]).to_string()
}

ambit_hostile::guest!(dig);
