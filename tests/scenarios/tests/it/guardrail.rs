//! The shipped guardrail through HTTP: what the rules reject goes nowhere and says why, what they mask arrives masked, whole or streamed,
//! through an agent or straight to a model, wherever the provider cuts its stream.

use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, Answer, Tenant, binary};
use serde_json::{Value, json};

/// Personal access tokens look like this; between letters of two and three bytes, so that a cut may fall into one.
const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
const BEFORE: &str = "Für später – der Schlüssel: ";
const AFTER: &str = " – und € 5 für den Rest.";
const MODELS: [&str; 2] = ["plain", "openai/mock-1"];

struct Scene {
    ambit: Ambit,
    mock: Mock,
    acme: Tenant,
}

fn said() -> String {
    format!("{BEFORE}{SECRET}{AFTER}")
}

impl Scene {
    async fn new() -> Option<Self> {
        let binary = binary()?;
        let mock = Mock::start(Script::text("Fine.")).await.unwrap();
        let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
        let acme = ambit.tenant("acme").clone();
        let agent = json!({"name": "plain", "model": "openai/mock-1"});
        ambit.apply(&acme, &agent).await.unwrap();
        Some(Self { ambit, mock, acme })
    }

    /// Rules under which secrets meet `action` at this stage and nothing happens anywhere else.
    async fn only(&self, stage: &str, action: &str) {
        let stages = ["input", "retrieved", "tool-result", "output", "ingest"];
        let rules = stages.map(|name| {
            let action = if name == stage { action } else { "flag" };
            json!({"stage": name, "category": "secret", "action": action})
        });
        let rules = json!({ "rules": rules });
        let path = format!("/tenants/{}/guardrail/rules", self.acme.slug);
        self.ambit.put(&path, &rules).await.unwrap();
    }

    async fn ask(&self, model: &str, stream: bool, messages: &Value, tools: &Value) -> Answer {
        let mut body = json!({"model": model, "stream": stream, "messages": messages});
        if !tools.is_null() {
            body["tools"] = tools.clone();
        }
        self.ambit.ask(&self.acme, &body).await.unwrap()
    }

    /// The provider was not asked since `before`, or was and read no secret.
    fn asked_without_secret(&self, before: u64) -> bool {
        let stats = self.mock.stats();
        let seen = stats.bodies.last();
        stats.requests > before
            && seen.is_some_and(|body| !String::from_utf8_lossy(body).contains(SECRET))
    }

    /// The session's journal shows this verdict of this stage, and no secret that was masked or rejected.
    async fn journalled(&self, answer: &Answer, stage: &str, action: &str) {
        let session = answer.session.as_ref();
        let session = session.expect("what is refused has a session too, and names it");
        let events = self.ambit.events(&self.acme, session).await.unwrap();
        let verdict = |event: &&Value| {
            let facts = &event["header"]["facts"];
            event["kind"] == "verdict" && facts["stage"] == stage && facts["action"] == action
        };
        assert!(
            events.iter().any(|e| verdict(&e)),
            "{stage} {action}: {events:?}"
        );
        assert!(!json!(events).to_string().contains(SECRET), "{events:?}");
    }

    fn rejected(answer: &Answer, stream: bool, what: &str) {
        assert_eq!(answer.code(), "content_filter", "{what}: {answer:?}");
        let category = answer.error["category"].as_str().unwrap_or_default();
        assert!(category.starts_with("secret/"), "{what}: {answer:?}");
        assert!(!answer.complete, "{what}: no success is made of it");
        if !stream {
            assert_eq!(answer.status, 400, "{what}");
        }
    }
}

/// Messages that bring the secret in, and the stage that has to see it there.
fn brought() -> [(&'static str, Value); 4] {
    let arguments = json!({ "note": SECRET }).to_string();
    let call = |arguments: &str| json!([{"id": "c1", "type": "function", "function": {"name": "save", "arguments": arguments}}]);
    let user = json!({"role": "user", "content": "Save it."});
    [
        ("input", json!([{"role": "user", "content": said()}])),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "text", "text": "Well:"}, {"type": "text", "text": said()}]}]),
        ),
        (
            "input",
            json!([user, {"role": "assistant", "content": null, "tool_calls": call(&arguments)},
                {"role": "tool", "tool_call_id": "c1", "content": "saved"}]),
        ),
        (
            "tool-result",
            json!([user, {"role": "assistant", "content": null, "tool_calls": call("{}")},
                {"role": "tool", "tool_call_id": "c1", "content": said()}]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_is_judged_at_its_stage() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    for action in ["mask", "reject"] {
        for (n, (stage, messages)) in brought().iter().enumerate() {
            scene.only(stage, action).await;
            for model in MODELS {
                for stream in [false, true] {
                    let what = format!("{action}, {stage} {n}, {model}, stream {stream}");
                    let before = scene.mock.stats().requests;
                    let answer = scene.ask(model, stream, messages, &json!(null)).await;
                    if action == "reject" {
                        Scene::rejected(&answer, stream, &what);
                        assert_eq!(answer.status, 400, "{what}: nothing was begun");
                        assert_eq!(scene.mock.stats().requests, before, "{what}");
                    } else {
                        assert!(answer.is_good(), "{what}: {answer:?}");
                        assert!(scene.asked_without_secret(before), "{what}");
                    }
                    scene.journalled(&answer, stage, action).await;
                }
            }
        }
    }
    // Arguments a mask would break do not pass.
    scene.only("input", "mask").await;
    let broken = json!([{"role": "user", "content": "Go on."},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
            "function": {"name": "save", "arguments": format!("{{\"password\": \"{SECRET}\"}}")}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "saved"}]);
    let before = scene.mock.stats().requests;
    for model in MODELS {
        let answer = scene.ask(model, false, &broken, &json!(null)).await;
        assert!(answer.code() == "content_filter" || answer.is_good());
    }
    let stats = scene.mock.stats();
    for body in &stats.bodies[usize::try_from(before).unwrap()..] {
        let body: Value = serde_json::from_slice(body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        let calling = messages.iter().find(|one| one["tool_calls"].is_array());
        let arguments = &calling.unwrap()["tool_calls"][0]["function"]["arguments"];
        let read = serde_json::from_str::<Value>(arguments.as_str().unwrap());
        assert!(read.is_ok(), "{arguments}");
        assert!(!arguments.to_string().contains(SECRET));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_very_many_texts_is_refused_by_name() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let part = json!({"type": "text", "text": "x"});
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "save", "arguments": "{}"}});
    let user = |parts: usize| json!({"role": "user", "content": vec![part.clone(); parts]});
    let calling = json!({"role": "assistant", "content": null, "tool_calls": vec![call; 128]});
    for (model, messages, good) in [
        ("openai/mock-1", json!([user(4096)]), true),
        ("openai/mock-1", json!([user(4097)]), false),
        // To an agent a message is one text, whatever its parts.
        ("plain", json!([user(1000)]), true),
        ("plain", json!(vec![calling; 33]), false),
    ] {
        let answer = scene.ask(model, false, &messages, &json!(null)).await;
        assert_eq!(answer.is_good(), good, "{model}: {answer:?}");
        if !good {
            assert_eq!(
                (answer.status, &answer.error["param"]),
                (400, &json!("messages"))
            );
            let message = answer.error["message"].as_str().unwrap();
            assert!(message.contains("4096"), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_leaks_nothing_wherever_the_stream_is_cut() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let messages = json!([{"role": "user", "content": "Tell me."}]);
    let length = said().chars().count();
    // Every character boundary is a boundary of events of some size; bytes cut inside of events and characters.
    let cuts = (1..=length)
        .map(|n| (n, 0))
        .chain([(1, 1), (3, 7), (200, 2)]);
    let cuts: Vec<_> = cuts.collect();
    for action in ["mask", "reject"] {
        scene.only("output", action).await;
        for model in MODELS {
            scene.mock.follow(Script::text(said()));
            let whole = scene.ask(model, false, &messages, &json!(null)).await;
            let what = format!("{action}, {model}");
            if action == "mask" {
                let (start, end) = (whole.text.starts_with(BEFORE), whole.text.ends_with(AFTER));
                assert!(whole.is_good() && start && end, "{what}: {whole:?}");
            } else {
                Scene::rejected(&whole, false, &what);
            }
            assert!(!whole.body.contains(SECRET), "{what}");
            scene.journalled(&whole, "output", action).await;
            for (chars_per_event, bytes_per_chunk) in &cuts {
                let what = format!("{what}, {chars_per_event} characters, {bytes_per_chunk} bytes");
                scene.mock.follow(Script {
                    chars_per_event: *chars_per_event,
                    bytes_per_chunk: *bytes_per_chunk,
                    record: false,
                    ..Script::text(said())
                });
                let answer = scene.ask(model, true, &messages, &json!(null)).await;
                if action == "mask" {
                    assert!(answer.is_good(), "{what}: {answer:?}");
                    assert_eq!(answer.text, whole.text, "{what}");
                } else {
                    Scene::rejected(&answer, true, &what);
                    assert!(BEFORE.starts_with(&answer.text), "{what}: {answer:?}");
                }
                if *chars_per_event % 16 == 1 {
                    scene.journalled(&answer, "output", action).await;
                }
            }
        }
    }
    let metrics = format!("{}/metrics", scene.ambit.up.ops_url);
    let metrics = scene.ambit.client.get(metrics).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for action in ["mask", "reject"] {
        let of_output = metrics.lines().filter(|line| {
            line.starts_with("ambit_verdicts_total{tenant=\"acme\"")
                && line.contains("stage=\"output\"")
                && line.contains(&format!("action=\"{action}\""))
        });
        let counts = of_output.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        let count: usize = counts.sum();
        assert!(count >= 2 * cuts.len(), "{action}: {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_for_the_callers_own_tools_are_judged_as_what_goes_out() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let tools = json!([{"type": "function", "function": {"name": "save", "parameters": {"type": "object"}}}]);
    let messages = json!([{"role": "user", "content": "Save it."}]);
    let arguments = json!({ "note": said() }).to_string();
    for action in ["mask", "reject"] {
        scene.only("output", action).await;
        for model in MODELS {
            for (stream, chars_per_event) in [(false, 1), (true, 1), (true, 5), (true, 1000)] {
                let what = format!("{action}, {model}, stream {stream}, {chars_per_event}");
                let calls = vec![Call::new("save", &arguments)];
                let text = String::new();
                scene.mock.follow(Script {
                    reply: Reply::ToolsIfOffered { calls, text },
                    chars_per_event,
                    ..Script::default()
                });
                let answer = scene.ask(model, stream, &messages, &tools).await;
                let called = called(&answer, stream);
                if action == "mask" {
                    assert!(answer.is_good(), "{what}: {answer:?}");
                    let note: Value = serde_json::from_str(&called).expect(&what);
                    let note = note["note"].as_str().expect(&what);
                    assert!(
                        note.starts_with(BEFORE) && note.ends_with(AFTER),
                        "{what}: {note}"
                    );
                } else {
                    Scene::rejected(&answer, stream, &what);
                    assert!(arguments.starts_with(&called), "{what}: {called}");
                }
                assert!(!called.contains("ghp_"), "{what}: {called}");
                scene.journalled(&answer, "output", action).await;
            }
        }
    }
}

/// The arguments of the one call an answer makes, as far as they came.
fn called(answer: &Answer, stream: bool) -> String {
    let of = |said: &Value| {
        let arguments = &said["tool_calls"][0]["function"]["arguments"];
        arguments.as_str().unwrap_or_default().to_owned()
    };
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    if !stream {
        return of(&read(&answer.body)["choices"][0]["message"]);
    }
    let events = answer.body.split_terminator("\n\n");
    let events = events.filter_map(|event| event.strip_prefix("data: "));
    events
        .map(|event| of(&read(event)["choices"][0]["delta"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_headings_and_attributes_are_judged_like_the_text() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let of_acme = |path: &str| format!("/tenants/acme{path}");
    scene.only("retrieved", "flag").await;
    let path = of_acme("/collections/notes");
    scene.ambit.put(&path, &json!({})).await.unwrap();
    let documents = [
        json!({"_id": "title", "title": SECRET, "text": "A walrus in the title."}),
        json!({"_id": "attribute", "title": "Two", "text": "A walrus in an attribute.", "author": SECRET}),
        json!({"_id": "heading", "title": "Three", "text": format!("# {SECRET}\n\nA walrus under a heading."), "media_type": "markdown"}),
    ];
    let load = |documents: &[Value]| {
        let lines: Vec<_> = documents.iter().map(ToString::to_string).collect();
        let path = of_acme("/collections/notes/documents");
        let scene = &scene;
        async move {
            let loaded = scene
                .ambit
                .admin(reqwest::Method::POST, &path, lines.join("\n"));
            loaded.await.unwrap()
        }
    };
    let loaded = load(&documents).await;
    assert_eq!(loaded["written"], 3, "{loaded}");
    let agent = json!({"name": "reader", "model": "openai/mock-1", "collections": ["notes"]});
    scene.ambit.apply(&scene.acme, &agent).await.unwrap();
    let search = async || {
        let query = json!({"query": "walrus", "max_num_results": 10});
        let path = "/vector_stores/notes/search";
        let found = scene.ambit.post(&scene.acme, path, &query).await.unwrap();
        found.json::<Value>().await.unwrap()
    };
    let question = json!([{"role": "user", "content": "Where is the walrus?"}]);
    for (action, left) in [("flag", 3), ("mask", 3), ("reject", 0)] {
        scene.only("retrieved", action).await;
        let found = search().await;
        assert_eq!(
            found["data"].as_array().map(Vec::len),
            Some(left),
            "{action}: {found}"
        );
        let shown = found["data"].to_string().contains(SECRET);
        assert_eq!(shown, action == "flag", "{action}: {found}");
        let before = scene.mock.stats().requests;
        let answer = scene.ask("reader", false, &question, &json!(null)).await;
        assert!(answer.is_good(), "{action}: {answer:?}");
        assert_eq!(
            !scene.asked_without_secret(before),
            action == "flag",
            "{action}"
        );
    }

    // On the way in: a title is masked, and what is rejected is named.
    scene.only("ingest", "mask").await;
    let masked =
        json!({"_id": "title", "title": SECRET, "text": "A walrus, newer.", "author": SECRET});
    assert_eq!(load(&[masked]).await["written"], 1);
    scene.only("ingest", "reject").await;
    for (id, field) in [("one", "title"), ("two", "author"), (SECRET, "x")] {
        let document = json!({"_id": id, "text": "A walrus.", field: SECRET});
        let loaded = load(&[document]).await;
        assert_eq!(loaded["rejected"][0]["id"], id, "{loaded}");
    }
    let found = search().await;
    let newer = found["data"].as_array().unwrap();
    let newer = newer.iter().find(|one| one["file_id"] == "title").unwrap();
    assert!(!newer.to_string().contains(SECRET), "{newer}");
}
