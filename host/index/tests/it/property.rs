//! Whatever happens in whichever order, the index shows what the store holds.

use crate::support::{Fixture, entry};
use ambit_index::Batch;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Restart,
    /// Only the store takes it.
    Lost(u8),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_index_always_shows_the_store(steps in prop::collection::vec(
        prop_oneof![
            6 => (0..12u8, 0..3u8).prop_map(|(id, word)| Step::Put(id, word)),
            2 => (0..12u8).prop_map(Step::Delete),
            1 => Just(Step::Restart),
            1 => (0..12u8).prop_map(Step::Lost),
        ], 1..25)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut fixture = Fixture::new();
            let words = ["alpha", "beta", "gamma"];
            for step in steps {
                match step {
                    Step::Put(id, word) => {
                        let entry = entry(&format!("d{id}"), words[usize::from(word)]);
                        let batch = Batch::new(vec![entry.clone()]).unwrap();
                        let writer = fixture.collection().writer().await;
                        let to = fixture.store.change(|entries| drop(entries.insert(entry.id.clone(), entry)));
                        // Behind after a lost change: allowed, the next search mends it.
                        let _ = writer.put(to, batch).await;
                    }
                    Step::Delete(id) => {
                        let prefix = format!("d{id}");
                        let writer = fixture.collection().writer().await;
                        let to = fixture.store.change(|entries| entries.retain(|id, _| !id.starts_with(&prefix)));
                        let _ = writer.delete_prefix(to, &prefix).await;
                    }
                    Step::Restart => fixture.reopen(),
                    Step::Lost(id) => {
                        fixture.store.change(|entries| drop(entries.remove(&format!("d{id}"))));
                    }
                }
                for word in words {
                    let stored = fixture.store.documents(word);
                    assert_eq!(fixture.ids(word).await, stored.join(" "));
                }
            }
        });
    }
}
