//! Snapshots keep what a component is and save what it does first.

use crate::base::step;
use crate::support::{agent, guest, load, manifest, runtime, scope, tenant};
use ambit_policy::Permissions;
use ambit_runtime::{Pure, admit, snapshot};

#[test]
fn work_done_in_the_snapshot_is_not_done_again() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "snapshots");
    let plain = guest("start_up");
    let snapped = snapshot(&plain).unwrap();
    let answer = |wasm: &[u8]| {
        let code = load(&runtime, wasm, manifest("agent", ""));
        let admitted = admit(&code, &Permissions::default()).unwrap();
        let linked = Pure::<(), agent::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap();
        step(&linked, &scope(&tenant), "").unwrap()
    };
    assert_eq!(answer(&plain), "made 1 times in this call; 1000 entries");
    for _ in 0..2 {
        assert_eq!(
            answer(&snapped),
            "made 0 times in this call; 1000 entries",
            "each fresh instance begins where the snapshot ended"
        );
    }
    assert_eq!(
        snapshot(&plain).unwrap(),
        snapped,
        "the same in every build"
    );
}

#[test]
fn a_component_without_initialisation_stays_as_it_is() {
    let plain = guest("benign");
    assert_eq!(snapshot(&plain).unwrap(), plain);
    assert!(snapshot(b"no component").is_err());
}
