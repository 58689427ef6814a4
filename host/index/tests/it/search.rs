//! What a search finds, and what it must not be moved by.

use crate::support::{Fixture, Store, entry, name, put};
use ambit_types::TenantId;

#[tokio::test]
async fn a_change_is_seen_by_the_next_search() {
    let fixture = Fixture::new();
    assert_eq!(fixture.ids("alpha").await, "");
    fixture
        .put(vec![entry("a", "alpha beta"), entry("b", "beta")])
        .await;
    assert_eq!(fixture.ids("alpha").await, "a");
    fixture.put(vec![entry("a", "gamma")]).await;
    assert_eq!(fixture.ids("alpha").await, "");
    assert_eq!(fixture.ids("gamma").await, "a");
    assert_eq!(
        fixture.store.rebuilds(),
        1,
        "only the first search, of an empty collection, read the store"
    );
    let hit = fixture.search("gamma", None).await.remove(0);
    assert_eq!(
        (
            hit.title.as_str(),
            hit.anchor.as_str(),
            hit.headings.as_slice()
        ),
        ("Title a", "#1", &["Heading".to_owned()][..])
    );
}

#[tokio::test]
async fn words_match_by_their_stem_in_every_field() {
    let fixture = Fixture::new();
    fixture
        .put(vec![entry("connection", "The valves are opened slowly.")])
        .await;
    for (text, found) in [
        ("opening valve", 1),
        ("connections", 1),
        ("headings", 1),
        ("the are", 0),
        ("shut", 0),
        ("TITLE", 1),
    ] {
        assert_eq!(fixture.search(text, None).await.len(), found, "{text}");
    }
}

#[tokio::test]
async fn a_prefix_is_deleted_at_once_and_taken_literally() {
    let fixture = Fixture::new();
    let ids = [
        "a",
        "docs/1",
        "docs/10",
        "docs/2",
        "docs0",
        "doc*",
        "ü/1",
        "üb",
        "\u{10ffff}x",
    ];
    fixture.put(ids.map(|id| entry(id, "alpha")).to_vec()).await;
    for (prefix, left) in [
        ("docs/1", "a doc* docs/2 docs0 ü/1 üb \u{10ffff}x"),
        ("docs/", "a doc* docs0 ü/1 üb \u{10ffff}x"),
        ("doc*", "a docs0 ü/1 üb \u{10ffff}x"),
        ("ü/", "a docs0 üb \u{10ffff}x"),
        ("\u{10ffff}", "a docs0 üb"),
        ("nothing", "a docs0 üb"),
        ("", ""),
    ] {
        fixture.delete(prefix).await;
        assert_eq!(fixture.ids("alpha").await, left, "after {prefix:?}");
    }
    assert_eq!(
        fixture.store.rebuilds(),
        0,
        "every answer came from the index"
    );
}

#[tokio::test]
async fn a_tenant_sees_the_same_whether_or_not_another_exists() {
    let fixture = Fixture::new();
    let texts = ["alpha beta", "alpha alpha", "beta gamma delta"];
    let entries = |n: usize| {
        (0..n)
            .map(|place| entry(&place.to_string(), texts[place % 3]))
            .collect::<Vec<_>>()
    };
    fixture.put(entries(3)).await;
    let alone = fixture.search("alpha gamma", None).await;
    let other = (
        fixture.index.collection(TenantId::new(), &name("handbook")),
        Store::new(1),
    );
    put(&other.0, &other.1, entries(300)).await;
    let beside = (
        fixture.index.collection(fixture.tenant, &name("other")),
        Store::new(1),
    );
    put(&beside.0, &beside.1, entries(300)).await;
    assert_eq!(fixture.search("alpha gamma", None).await, alone);
}
