use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn schema(document: &Value) -> Result<Schema, String> {
    Schema::new(&document.to_string(), &mut 64)
}

/// What a check comes to. Well under a second, whatever was asked: a few of the schemas here would take years.
#[track_caller]
fn check(document: &Value, arguments: &Value) -> Result<(), String> {
    let began = Instant::now();
    let schema = schema(document).unwrap();
    let fit = match schema.steps(arguments) {
        Some(steps) => schema.check(arguments, steps),
        None => Err("too much".to_owned()),
    };
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    fit
}

#[track_caller]
fn refused(document: &Value, why: &str) {
    let began = Instant::now();
    assert_eq!(schema(document).err().as_deref(), Some(why));
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// `levels` definitions that each apply the next one twice.
fn doubling(keyword: &str, levels: usize, last: Value) -> Value {
    let mut definitions = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/a{}", level + 1) });
        definitions.insert(format!("a{level}"), json!({ keyword: [next, next] }));
    }
    definitions.insert(format!("a{levels}"), last);
    json!({ "type": "object", "$defs": definitions, "$ref": "#/$defs/a0" })
}

#[test]
fn references_that_fan_out_are_not_followed_without_end() {
    for last in [json!(true), json!(false), json!({ "required": ["x"] })] {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let fit = check(&doubling(keyword, 60, last.clone()), &json!({}));
            assert_eq!(fit, Err("too much".to_owned()), "{keyword} {last}");
        }
    }
    assert_eq!(
        check(&doubling("allOf", 8, json!(true)), &json!({})),
        Ok(())
    );
    // Doubled by the arguments' depth, through a schema that refers to itself.
    let own = json!({ "$ref": "#" });
    let tree = json!({ "type": "object", "properties": { "n": { "allOf": [own, own] } } });
    let nested = |levels| (0..levels).fold(json!({}), |inner, _| json!({ "n": inner }));
    assert_eq!(check(&tree, &nested(8)), Ok(()));
    assert_eq!(check(&tree, &nested(60)), Err("too much".to_owned()));
    // A tree as it should be written goes as deep as arguments do.
    let tree = json!({ "type": "object", "properties": { "n": own } });
    assert_eq!(check(&tree, &nested(100)), Ok(()));
    let endless =
        json!({ "type": "object", "$defs": { "a": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" });
    assert_eq!(check(&endless, &json!({})), Err("too much".to_owned()));
}

/// Looking a long pointer up costs by its length, once for every item.
#[test]
fn a_long_pointer_is_not_followed_for_every_item() {
    let name = "n".repeat(15_000);
    let to = |name: &str| {
        json!({
            "type": "object",
            "$defs": { name: true },
            "properties": { "l": { "items": { "$ref": format!("#/$defs/{name}") } } },
        })
    };
    let many = json!({ "l": vec![0; 100_000] });
    assert_eq!(check(&to("item"), &many), Ok(()));
    assert_eq!(check(&to(&name), &many), Err("too much".to_owned()));
    assert_eq!(check(&to(&name), &json!({ "l": [0, 0] })), Ok(()));
}

#[test]
fn what_large_arguments_cost_is_counted() {
    let list =
        |items: Value| json!({ "type": "object", "properties": { "l": { "items": items } } });
    let numbers = json!({ "l": vec![1; 100_000] });
    assert_eq!(
        check(&list(json!({ "type": "integer", "minimum": 0 })), &numbers),
        Ok(())
    );
    let fit = check(&list(json!({ "type": "string" })), &numbers);
    assert_eq!(
        fit,
        Err("they do not fit the tool's schema".to_owned()),
        "in short"
    );
    let many = vec![json!({ "minimum": 0 }); 1_000];
    assert!(check(&list(json!({ "allOf": many })), &numbers).is_err());
    let text = |schema: Value| json!({ "type": "object", "properties": { "t": schema } });
    let long = json!({ "t": "a".repeat(200_000) });
    assert_eq!(
        check(
            &text(json!({ "pattern": "^[a-z]*$", "maxLength": 200_000 })),
            &long
        ),
        Ok(())
    );
    let many: Vec<_> = (0..64)
        .map(|n| json!({ "pattern": format!("(a|b|ab)*{n}") }))
        .collect();
    assert!(check(&text(json!({ "anyOf": many })), &long).is_err());
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let with = |name: &str, value: Value| json!({ "type": "object", "properties": { "a": { name: value } } });
    for keyword in ["unevaluatedItems", "unevaluatedProperties"] {
        let why = format!("the schema has `{keyword}`, which is not supported");
        refused(&with(keyword, json!(false)), &why);
    }
    refused(
        &with("$dynamicRef", json!("#a")),
        "the schema has `$dynamicRef`, which is not supported",
    );
    refused(
        &with("$id", json!("urn:a")),
        "a part of the schema has an `$id` of its own",
    );
    for target in ["#name", "#/$defs/%61", "https://example.com/a", ""] {
        let why = format!("the schema refers to `{target}`; expected `#` or `#/…` without `%`");
        refused(&with("$ref", json!(target)), &why);
    }
    // Names of a tool's own parameters.
    for name in ["$id", "$dynamicRef", "$ref", "pattern"] {
        let own = json!({ "type": "object", "properties": { name: { "type": "string" } } });
        assert_eq!(check(&own, &json!({ name: "x" })), Ok(()), "{name}");
    }
    assert_eq!(
        check(
            &json!({ "$id": "urn:a", "type": "object", "$ref": "#/$defs/a", "$defs": { "a": {} } }),
            &json!({})
        ),
        Ok(())
    );
}

#[test]
fn patterns_are_few_and_small() {
    let patterns = |count: usize, pattern: &dyn Fn(usize) -> String| {
        let parts: Vec<_> = (0..count)
            .map(|n| json!({ "pattern": pattern(n) }))
            .collect();
        json!({ "type": "object", "properties": { "a": { "anyOf": parts } } })
    };
    refused(
        &patterns(65, &|n| n.to_string()),
        "the component's schemas have too many patterns",
    );
    refused(
        &patterns(1, &|_| "x".repeat(513)),
        "a pattern of the schema is longer than 512 bytes",
    );
    let began = Instant::now();
    assert!(
        schema(&patterns(64, &|n| format!("(?:\\p{{L}}{{200}}){n}"))).is_err(),
        "megabytes each"
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        check(
            &patterns(1, &|_| "^[\\w.-]+@[\\w-]+\\.[a-z]{2,}$".to_owned()),
            &json!({ "a": "a@b.example" })
        ),
        Ok(())
    );
}

/// Depth is a thread's stack, and an overflow would end the process.
#[test]
fn depth_is_bounded() {
    let chain = |length: usize| {
        let next = |n: usize| {
            (
                format!("a{n}"),
                json!({ "$ref": format!("#/$defs/a{}", n + 1) }),
            )
        };
        let mut definitions: Map<_, _> = (0..length).map(next).collect();
        definitions.insert(format!("a{length}"), json!(true));
        json!({ "type": "object", "$ref": "#/$defs/a0", "$defs": definitions })
    };
    assert_eq!(check(&chain(200), &json!({})), Ok(()));
    refused(
        &chain(600),
        "the schema with what it refers to is nested too deeply",
    );
}
