//! What a fresh instance costs: start-up work belongs into the snapshot, not into each call.

use crate::samples::{self, COMPONENTS, Sample};
use crate::support::{component, components, runtime, scope, tenant};
use ambit_policy::{Kind, Manifest};
use ambit_runtime::{CallScope, snapshot};

/// Most that a fresh instance may add to a call, in microseconds. One costs some 12; a set of regular expressions compiled at
/// first use, 9,900.
const MOST_ADDED: f64 = 50.0;

#[test]
fn a_fresh_call_costs_little_more_than_a_reused_one() {
    let runtime = runtime();
    let scope = scope(&tenant(&runtime, "fresh"));
    for (name, what) in COMPONENTS {
        let wasm = snapshot(&component(name)).unwrap();
        let mut reused = samples::sample(&runtime, name, &wasm, "warm-serial").unwrap();
        let mut fresh = samples::sample(&runtime, name, &wasm, "fresh").unwrap();
        // In turns, so that whatever slows the machine slows both.
        let (mut of_reused, mut of_fresh): (Vec<f64>, Vec<f64>) = (0..15)
            .map(|_| (cost(&mut reused, &scope), cost(&mut fresh, &scope)))
            .unzip();
        let added = median(&mut of_fresh) - median(&mut of_reused);
        assert!(
            added <= MOST_ADDED,
            "{name}, {what}: a fresh instance adds {added:.1} µs to {:.1} µs",
            median(&mut of_reused)
        );
    }
}

#[test]
fn every_pure_component_is_measured() {
    for name in components() {
        let text = std::fs::read_to_string(format!(
            "{}/../../components/{name}/component.toml",
            env!("CARGO_MANIFEST_DIR")
        ));
        let kind = Manifest::parse(&text.unwrap()).unwrap().component.kind;
        let pure = matches!(
            kind,
            Kind::Auth | Kind::Routing | Kind::Guardrail | Kind::Agent
        );
        let measured = COMPONENTS.iter().any(|(measured, _)| *measured == name);
        assert_eq!(pure, measured, "{name}");
    }
}

/// Microseconds of a call, of this thread's time.
fn cost(call: &mut Sample, scope: &CallScope) -> f64 {
    const CALLS: u32 = 100;
    let began = samples::cpu_time();
    for _ in 0..CALLS {
        assert!(call(scope), "the call succeeds");
    }
    (samples::cpu_time() - began).as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}
