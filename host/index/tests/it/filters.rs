//! Filters compare typed values; hostile ones are refused.

use crate::support::{Fixture, with};
use ambit_index::{Filter, IndexError, Value};

#[tokio::test]
async fn filters_compare_typed_values() {
    let fixture = Fixture::new();
    let text = |text: &str| Value::Text(text.to_owned());
    let number = Value::Number;
    fixture
        .put(vec![
            with(
                "1",
                &[
                    ("year", number(1960.0)),
                    ("kind", text("report")),
                    ("open", Value::Boolean(true)),
                ],
            ),
            with("2", &[("year", number(1970.5)), ("kind", text("note"))]),
            with(
                "3",
                &[("year", number(-3.0)), ("open", Value::Boolean(false))],
            ),
            with("4", &[("year", text("1960")), ("date", text("2024-05-01"))]),
            with("5", &[]),
        ])
        .await;
    let check = async |filter: &str, expected: &str| {
        let mut ids: Vec<_> = fixture
            .search("alpha", Some(filter))
            .await
            .into_iter()
            .map(|hit| hit.document)
            .collect();
        ids.sort();
        assert_eq!(ids.join(" "), expected, "{filter}");
    };
    check(r#"{"type":"eq","key":"year","value":1960}"#, "1").await;
    check(r#"{"type":"eq","key":"year","value":1960.0}"#, "1").await;
    check(r#"{"type":"eq","key":"year","value":"1960"}"#, "4").await;
    check(r#"{"type":"ne","key":"year","value":1960}"#, "2 3 4 5").await;
    check(r#"{"type":"gt","key":"year","value":1960}"#, "2").await;
    check(r#"{"type":"gte","key":"year","value":1960}"#, "1 2").await;
    check(r#"{"type":"lt","key":"year","value":1960}"#, "3").await;
    check(r#"{"type":"lte","key":"year","value":1960}"#, "1 3").await;
    check(r#"{"type":"gte","key":"date","value":"2024-01-01"}"#, "4").await;
    check(r#"{"type":"lt","key":"date","value":"2024-05-01T00"}"#, "4").await;
    check(r#"{"type":"eq","key":"open","value":true}"#, "1").await;
    check(r#"{"type":"ne","key":"open","value":true}"#, "2 3 4 5").await;
    check(
        r#"{"type":"in","key":"kind","value":["note","report","x"]}"#,
        "1 2",
    )
    .await;
    check(
        r#"{"type":"in","key":"year","value":[1960,"1960",true]}"#,
        "1 4",
    )
    .await;
    check(r#"{"type":"in","key":"kind","value":[]}"#, "").await;
    check(r#"{"type":"nin","key":"kind","value":["note"]}"#, "1 3 4 5").await;
    check(r#"{"type":"nin","key":"kind","value":[]}"#, "1 2 3 4 5").await;
    check(r#"{"type":"eq","key":"absent","value":"x"}"#, "").await;
    check(r#"{"type":"gt","key":"kin","value":""}"#, "").await;
    let both = |kind: &str| {
        format!(
            r#"{{"type":"{kind}","filters":[{{"type":"gt","key":"year","value":0}},{{"type":"or","filters":[
               {{"type":"eq","key":"kind","value":"note"}},{{"type":"eq","key":"open","value":false}}]}}]}}"#
        )
    };
    check(&both("and"), "2").await;
    check(&both("or"), "1 2 3").await;
    // A filter chooses; it does not rank.
    let free = fixture.search("alpha", None).await;
    let held = fixture
        .search("alpha", Some(r#"{"type":"ne","key":"absent","value":1}"#))
        .await;
    assert_eq!(held, free);
}

#[test]
fn hostile_filters_are_invalid() {
    let deep = |levels: usize| {
        let open = r#"{"type":"and","filters":["#.repeat(levels);
        format!(
            r#"{open}{{"type":"eq","key":"a","value":1}}{}"#,
            "]}".repeat(levels)
        )
    };
    assert!(Filter::parse(&deep(16)).is_ok());
    let many = |count: usize| {
        let each = vec![r#"{"type":"eq","key":"a","value":1}"#; count].join(",");
        format!(r#"{{"type":"or","filters":[{each}]}}"#)
    };
    assert!(Filter::parse(&many(128)).is_ok());
    let list = |count: usize| {
        format!(
            r#"{{"type":"in","key":"a","value":[{}]}}"#,
            vec!["1"; count].join(",")
        )
    };
    assert!(Filter::parse(&list(1000)).is_ok());
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        "{\"type\":\"eq\"",
        &deep(17),
        &deep(50_000),
        &"[".repeat(60_000),
        &many(129),
        &list(1001),
        &"x".repeat(1_000_000),
        r#"{"type":"like","key":"a","value":"b"}"#,
        r#"{"type":1,"key":"a","value":"b"}"#,
        r#"{"type":"eq","key":"","value":"b"}"#,
        r#"{"type":"eq","key":7,"value":"b"}"#,
        r#"{"type":"eq","key":"a"}"#,
        r#"{"type":"eq","key":"a","value":null}"#,
        r#"{"type":"eq","key":"a","value":[1]}"#,
        r#"{"type":"eq","key":"a","value":{"$gt":""}}"#,
        r#"{"type":"eq","key":"a","value":1e999}"#,
        r#"{"type":"gt","key":"a","value":true}"#,
        r#"{"type":"in","key":"a","value":"b"}"#,
        r#"{"type":"in","key":"a","value":[[1]]}"#,
        r#"{"type":"and","filters":[]}"#,
        r#"{"type":"and","filters":{}}"#,
        r#"{"type":"and","filters":[1]}"#,
        r#"{"type":"and","filters":[{"type":"eq","key":"a","value":1}],"key":"a"}"#,
        r#"{"type":"eq","key":"a","value":1,"tenant":"other"}"#,
    ] {
        let short: String = bad.chars().take(80).collect();
        assert!(
            matches!(Filter::parse(bad), Err(IndexError::Invalid(_))),
            "{short}"
        );
    }
}
