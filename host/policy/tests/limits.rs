//! Limits against a naive model: the least number that anybody wrote.

use ambit_policy::{Ceiling, Kind, Limits};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

/// Some limits, some not, a few values each: so that layers agree now and then.
fn ceiling() -> impl Strategy<Value = Ceiling> {
    use proptest::{option::of, sample::select};
    let size = || of(select(vec![1_u64, 5 << 10, 64 << 20]));
    let time = || of(select(vec![1_u64, 1_500, 90_000_000]).prop_map(Duration::from_micros));
    let count = || of(select(vec![1_u32, 7, 100_000]));
    (
        (size(), time(), time(), size(), size()),
        (size(), count(), count(), count(), count()),
    )
        .prop_map(
            |(
                (memory, cpu, deadline, egress, result),
                (log, concurrency, connections, tables, instances),
            )| Ceiling {
                memory,
                cpu,
                deadline,
                egress,
                result,
                log,
                concurrency,
                connections,
                tables,
                instances,
            },
        )
}

/// What is written, as numbers by name.
fn numbers(ceiling: &Ceiling) -> BTreeMap<&'static str, u128> {
    let time = |time: Option<Duration>| time.map(|time| time.as_micros());
    let count = |count: Option<u32>| count.map(u128::from);
    let size = |size: Option<u64>| size.map(u128::from);
    [
        ("memory", size(ceiling.memory)),
        ("cpu", time(ceiling.cpu)),
        ("deadline", time(ceiling.deadline)),
        ("egress", size(ceiling.egress)),
        ("result", size(ceiling.result)),
        ("log", size(ceiling.log)),
        ("concurrency", count(ceiling.concurrency)),
        ("connections", count(ceiling.connections)),
        ("tables", count(ceiling.tables)),
        ("instances", count(ceiling.instances)),
    ]
    .into_iter()
    .filter_map(|(name, number)| Some((name, number?)))
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn limits_are_the_least_of_every_layer(author in ceiling(), layers in proptest::collection::vec(ceiling(), 0..4)) {
        // What a manifest does not say has its default.
        let whole = |ceiling: &Ceiling| serde_json::from_str::<Limits>(&serde_json::to_string(ceiling).unwrap()).unwrap();
        let author = whole(&author);
        let left = layers.iter().fold(author, |left, layer| left.under(layer));
        let left = numbers(&left.into());
        for (limit, of_author) in numbers(&author.into()) {
            // The naive model: the least number anybody wrote.
            let written = layers.iter().filter_map(|layer| numbers(layer).get(limit).copied());
            prop_assert_eq!(left[limit], written.chain([of_author]).min().unwrap(), "{}", limit);
        }
        // In any order, and again, it is the same; with any layer more it is not more.
        let back = layers.iter().rev().chain(&layers).fold(author, |left, layer| left.under(layer));
        prop_assert_eq!(numbers(&back.into()), left);
    }

    #[test]
    fn an_author_gets_no_more_than_the_maximum_unless_the_operator_says_so(author in ceiling(), operator in ceiling(), pure in any::<bool>()) {
        let author: Limits = serde_json::from_str(&serde_json::to_string(&author).unwrap()).unwrap();
        let kind = if pure { Kind::Guardrail } else { Kind::Tool };
        let granted = numbers(&author.granted(kind, &operator).into());
        let (written, most) = (numbers(&operator), numbers(&Limits::MOST.into()));
        for (limit, of_author) in numbers(&author.into()) {
            let most = if limit == "cpu" && pure { 250_000 } else { most[limit] };
            let above = written.get(limit).copied().unwrap_or(most);
            prop_assert_eq!(granted[limit], of_author.min(above), "{}", limit);
        }
    }
}

#[test]
fn a_manifest_asks_for_a_terabyte_in_vain() {
    let asked =
        r#"{"result": "1024GiB", "memory": "1024GiB", "cpu": "1440m", "concurrency": 100000}"#;
    let asked: Limits = serde_json::from_str(asked).unwrap();
    let granted = asked.granted(Kind::Tool, &Ceiling::default());
    assert_eq!(
        (granted.result, granted.memory, granted.concurrency),
        (
            Limits::MOST.result,
            Limits::MOST.memory,
            Limits::MOST.concurrency
        )
    );
    assert_eq!(granted.cpu, Limits::MOST.cpu);
    let operator: Ceiling = serde_json::from_str(r#"{"memory": "1GiB"}"#).unwrap();
    assert_eq!(asked.granted(Kind::Tool, &operator).memory, 1 << 30);
    // The default is never more than what any kind may have.
    for kind in Kind::ALL {
        assert_eq!(
            Limits::default().granted(*kind, &Ceiling::default()),
            Limits::default()
        );
    }
}
