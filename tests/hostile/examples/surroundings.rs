//! Tells what it finds around it: nothing of the host's, and time and chance as the host gives them.

use std::time::{Duration, Instant, SystemTime};

fn tell(question: String) -> String {
    match question.as_str() {
        "environment" => {
            let stdin =
                std::io::read_to_string(std::io::stdin()).map_or(usize::MAX, |text| text.len());
            format!(
                "arguments {}, variables {}, stdin {stdin}",
                std::env::args().count(),
                std::env::vars().count()
            )
        }
        "time and chance" => {
            let began = Instant::now();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let passed = began.elapsed().as_nanos();
            format!(
                "{}.{:09}, {passed} ns later, {:?}",
                now.as_secs(),
                now.subsec_nanos(),
                chance()
            )
        }
        "exit" => std::process::exit(1),
        "nap" => {
            std::thread::sleep(Duration::from_millis(2));
            "rested".into()
        }
        "naps" => {
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(2));
            }
            "rested".into()
        }
        other => other.into(),
    }
}

#[cfg(target_family = "wasm")]
fn chance() -> (u64, u64, (u64, u64)) {
    use wasip2::random::{insecure, insecure_seed, random};
    (
        random::get_random_u64(),
        insecure::get_insecure_random_u64(),
        insecure_seed::insecure_seed(),
    )
}

#[cfg(not(target_family = "wasm"))]
fn chance() -> (u64, u64, (u64, u64)) {
    (0, 0, (0, 0))
}

ambit_hostile::guest!(tell);
