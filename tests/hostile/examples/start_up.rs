//! Has work to do before its first answer, and a snapshot that does it.

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How often the table was made since this counter was last put back.
static MADE: AtomicUsize = AtomicUsize::new(0);

static TABLE: LazyLock<BTreeMap<String, usize>> = LazyLock::new(|| {
    MADE.fetch_add(1, Ordering::Relaxed);
    (0..1_000).map(|n| (format!("entry {n}"), n)).collect()
});

fn answer(_: String) -> String {
    let entries = TABLE.len();
    format!(
        "made {} times in this call; {entries} entries",
        MADE.load(Ordering::Relaxed)
    )
}

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "generated exports")]
mod initialize {
    wit_bindgen::generate!({
        inline: "
            package ambit:start-up;
            world component { export wizer-initialize: func(); }
        ",
        world: "ambit:start-up/component",
    });

    struct Component;

    impl Guest for Component {
        fn wizer_initialize() {
            std::sync::LazyLock::force(&super::TABLE);
            super::MADE.store(0, std::sync::atomic::Ordering::Relaxed);
        }
    }

    export!(Component);
}

ambit_hostile::guest!(answer);
