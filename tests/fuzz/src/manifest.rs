//! Manifests: what is accepted says the same wherever it is written down again.

use ambit_policy::{Manifest, Permissions};

/// A valid manifest survives its own JSON; an invalid one says what is wrong; a grant is read by the same rules.
pub fn manifest(data: &[u8]) {
    let text = crate::text(data);
    match Manifest::parse(&text) {
        Ok(manifest) => {
            let json = serde_json::to_string(&manifest).expect("a manifest has a JSON form");
            let again: Manifest = serde_json::from_str(&json).expect("which is read back");
            assert_eq!(again, manifest, "{json}");
            let asked = &manifest.permissions;
            let same = serde_json::to_string(asked).expect("so has a grant");
            let granted: Permissions = serde_json::from_str(&same).expect("which is read back");
            assert_eq!(granted, *asked, "{same}");
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(
                problems
                    .iter()
                    .all(|problem| !problem.to_string().is_empty())
            );
        }
    }
}
