//! Loading rows as they come: what cannot be taken is named, and keeps nothing else out.

use ambit_scenarios::{Ambit, binary};
use serde_json::{Map, Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_row_stops_no_load() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let mut rows: Vec<Value> = (0..120)
        .map(|n| json!({"_id": n.to_string(), "text": format!("Row {n} about herons."), "year": n}))
        .collect();
    let many: Map<String, Value> = (0..33).map(|n| (format!("a{n}"), json!(n))).collect();
    rows.insert(10, many.into_iter().collect());
    rows[10]["_id"] = "many".into();
    rows[10]["text"] = "x".into();
    rows.insert(
        90,
        json!({"_id": "long", "text": "x", "notes": "y".repeat(3000)}),
    );
    rows.insert(
        91,
        json!({"_id": "nested", "text": "x", "tags": ["y".repeat(3000)]}),
    );
    rows.insert(92, json!({"_id": "nul", "text": "x", "tag": "\0"}));
    // Twice: the later is the one that stays, as if it had been loaded later.
    rows.push(json!({"_id": "115", "text": "Row 115 is about storks by now."}));
    let file = ambit.data().join("rows.jsonl");
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();

    let file = file.display().to_string();
    let load = ["collection", "load", "odd", &file, "--tenant", "acme"];
    let load = Ambit::command(&binary, ambit.data(), load).await.unwrap();
    let told = String::from_utf8(load.stdout).unwrap();
    assert!(!load.status.success(), "not everything was taken: {told}");
    assert!(told.starts_with("121 documents written"), "{told}");
    for part in [
        "rejected: many: ",
        "33 attributes",
        "rejected: long: ",
        "`notes`",
        "rejected: nested: ",
        "`tags`",
        "rejected: nul: ",
    ] {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
    let listed = ambit.get("/tenants/acme/collections").await.unwrap();
    let mut collections = listed["data"].as_array().unwrap().iter();
    let odd = collections.find(|one| one["name"] == "odd").unwrap();
    assert_eq!(odd["documents"], 120);
    let search = json!({"query": "storks", "max_num_results": 3});
    let acme = ambit.tenant("acme");
    let found = ambit
        .post(acme, "/vector_stores/odd/search", &search)
        .await
        .unwrap();
    let found: Value = found.json().await.unwrap();
    assert_eq!(found["data"][0]["file_id"], "115", "{found}");
}
