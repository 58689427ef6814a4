//! A guardrail that says which edition of itself it is: it holds a text to its end and writes its edition over `<in>` in what a caller
//! says and over `<out>` in what a caller hears. A text that another edition began comes out as `mixed`.

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "generated exports")]
mod guest {
    use ambit_hostile::edition;

    wit_bindgen::generate!({
        inline: "
            package ambit:edition;
            world component { include ambit:guardrail/guest@0.1.0; }
        ",
        path: ["../../wit/types", "../../wit/guardrail"],
        world: "ambit:edition/component",
        generate_all,
    });

    use exports::ambit::guardrail::guardrail::{
        Finding, GuardrailError, Guest, Mask, Outcome, Stage, Verdict,
    };

    struct Component;

    impl Guest for Component {
        /// The state is the edition that began the text, a line's end, and the text so far.
        fn check(
            stage: Stage,
            text: String,
            last: bool,
            state: Vec<u8>,
        ) -> Result<Outcome, GuardrailError> {
            let state = String::from_utf8(state).map_err(|_| GuardrailError::BadState)?;
            let own = edition();
            let (began, so_far) = state.split_once('\n').unwrap_or((&own, ""));
            let whole = format!("{so_far}{text}");
            let marker = match stage {
                Stage::Input => "<in>",
                _ => "<out>",
            };
            let said = if began == own { own.as_str() } else { "mixed" };
            let masks = whole.match_indices(marker).map(|(start, found)| Mask {
                start: start as u64,
                end: (start + found.len()) as u64,
                replacement: said.to_owned(),
            });
            Ok(Outcome {
                verdict: if last {
                    Verdict::Mask(masks.collect())
                } else {
                    Verdict::Allow
                },
                findings: Vec::<Finding>::new(),
                release_through: if last { whole.len() as u64 } else { 0 },
                state: format!("{began}\n{whole}").into_bytes(),
            })
        }
    }

    export!(Component);
}
