//! Requests and batches out of bounds.

use crate::support::{Fixture, entry, request};
use ambit_index::{Attribute, Batch, Chunk, Entry, IndexError, Request, Value, Weights, limits};

#[tokio::test]
async fn hostile_requests_are_invalid_or_harmless() {
    let fixture = Fixture::new();
    fixture.put(vec![entry("a", "alpha")]).await;
    let weights = |weight: f32| Weights {
        title: weight,
        headings: 0.0,
        text: 1.0,
    };
    for bad in [
        Request {
            limit: 0,
            ..request("alpha")
        },
        Request {
            limit: 1001,
            ..request("alpha")
        },
        Request {
            weights: weights(-1.0),
            ..request("alpha")
        },
        Request {
            weights: weights(f32::NAN),
            ..request("alpha")
        },
        Request {
            weights: weights(f32::INFINITY),
            ..request("alpha")
        },
    ] {
        assert!(matches!(
            fixture.collection().search(&fixture.store, bad).await,
            Err(IndexError::Invalid(_))
        ));
    }
    let all_words = (0..100_000).fold(String::from("alpha"), |text, n| format!("{text} w{n}"));
    for (text, found) in [
        (all_words.as_str(), 1),
        (&"alpha ".repeat(200_000), 1),
        ("document:a", 0),
        ("\0\u{feff}", 0),
    ] {
        assert_eq!(fixture.search(text, None).await.len(), found);
    }
    let nothing = Weights {
        title: 0.0,
        headings: 0.0,
        text: 0.0,
    };
    let found = fixture
        .collection()
        .search(
            &fixture.store,
            Request {
                weights: nothing,
                ..request("alpha")
            },
        )
        .await;
    assert_eq!(found.unwrap(), Vec::new());
}

#[test]
fn batches_keep_the_limits() {
    let long = |length: usize| "x".repeat(length);
    let good = entry("a", "alpha");
    assert!(Batch::new(vec![good.clone(), entry("b", &long(limits::TEXT))]).is_ok());
    let chunk = |anchor: &str| Chunk {
        anchor: anchor.to_owned(),
        ..good.chunks[0].clone()
    };
    let attribute = |name: &str, value: Value| {
        vec![Attribute {
            name: name.to_owned(),
            value,
        }]
    };
    for bad in [
        vec![good.clone(), good.clone()],
        vec![entry("", "x")],
        vec![entry("a\0", "x")],
        vec![entry("a", "x\0")],
        vec![entry(&long(limits::ID + 1), "x")],
        vec![entry("a", &long(limits::TEXT + 1))],
        vec![Entry {
            title: long(limits::TITLE + 1),
            ..good.clone()
        }],
        vec![Entry {
            chunks: vec![chunk("#1"), chunk("#1")],
            ..good.clone()
        }],
        vec![Entry {
            chunks: vec![chunk(&long(limits::ANCHOR + 1))],
            ..good.clone()
        }],
        vec![Entry {
            chunks: (0..=limits::CHUNKS)
                .map(|n| chunk(&n.to_string()))
                .collect(),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute("", Value::Boolean(true)),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute(&long(limits::NAME + 1), Value::Boolean(true)),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute("n", Value::Number(f64::NAN)),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute("n", Value::Text(long(limits::VALUE + 1))),
            ..good.clone()
        }],
        vec![Entry {
            attributes: [
                attribute("n", Value::Boolean(true)),
                attribute("n", Value::Number(1.0)),
            ]
            .concat(),
            ..good.clone()
        }],
        (0..=limits::ENTRIES)
            .map(|n| entry(&n.to_string(), "x"))
            .collect(),
    ] {
        assert!(matches!(Batch::new(bad), Err(IndexError::Invalid(_))));
    }
}
