//! What a turn may use at most: the same call so often, so many steps, so much time. Whoever goes on with its session has all of it again.

use crate::{
    crash::{Outside, install_poster},
    sessions::{get, open, post, serving, wait},
};
use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, NewComponent, Tenant, until};
use serde_json::{Value, json};

/// An agent that listens to nobody, however many steps it has left: it asks its model in each of a session's first five, and finishes in the
/// sixth. As text, since no guest of `tests/hostile` decides anything as an agent.
const STUBBORN: &str = r#"
(component
  (core module $agent
    (memory (export "memory") 4)
    (data (i32.const 16) "Go on.")
    (data (i32.const 32) "Done.")
    ;; A prompt-part: the instruction at 16.
    (data (i32.const 64) "\02\00\00\00\00\00\00\00\10\00\00\00\06\00\00\00")
    ;; A result at 128: ask-model with that prompt, no tools, internal. Its state is empty.
    (data (i32.const 156) "\40\00\00\00\01")
    (data (i32.const 172) "\01")
    ;; A result at 192: finish with the text at 32.
    (data (i32.const 200) "\03")
    (data (i32.const 208) "\01")
    (data (i32.const 216) "\20\00\00\00\05")
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $place i32)
      (local.set $place (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $place) (local.get 3)))
      (local.get $place))
    ;; A turn's step stands after its definition.
    (func (export "step") (param i32) (result i32)
      (select (i32.const 192) (i32.const 128)
        (i32.ge_u (i32.load offset=48 (local.get 0)) (i32.const 5)))))
  (core instance $agent (instantiate $agent))

  (type $role' (enum "system" "developer" "user" "assistant" "tool"))
  (export $role "role" (type $role'))
  (type $call' (record (field "id" string) (field "name" string) (field "arguments" string)))
  (export $call "tool-call" (type $call'))
  (type $spec' (record (field "name" string) (field "description" string) (field "parameters" string)
    (field "reversible" bool) (field "idempotent" bool)))
  (export $spec "tool-spec" (type $spec'))
  (type $usage' (record (field "input-tokens" u64) (field "cached-tokens" u64) (field "output-tokens" u64)
    (field "reasoning-tokens" u64)))
  (export $usage "usage" (type $usage'))
  (type $message' (record (field "id" u64) (field "role" $role) (field "size" u32) (field "text" (option string))))
  (export $message "message" (type $message'))
  (type $reason' (enum "stop" "length" "tool-calls" "content-filter"))
  (export $reason "finish-reason" (type $reason'))
  (type $reply' (record (field "id" u64) (field "finish" $reason) (field "tool-calls" (list $call))
    (field "usage" $usage) (field "size" u32) (field "text" (option string))))
  (export $reply "reply" (type $reply'))
  (type $returned' (record (field "id" u64) (field "call-id" string) (field "name" string) (field "ok" bool)
    (field "size" u32)))
  (export $returned "tool-result" (type $returned'))
  (type $passage' (record (field "number" u32) (field "document" string) (field "title" string)
    (field "anchor" string) (field "score" f32) (field "size" u32)))
  (export $passage "passage" (type $passage'))
  (type $retrieval' (record (field "id" u64) (field "collection" string) (field "passages" (list $passage))))
  (export $retrieval "retrieval" (type $retrieval'))
  (type $failure' (record (field "move" string) (field "code" string) (field "message" string)))
  (export $failure "failure" (type $failure'))
  (type $event' (variant (case "message" $message) (case "replied" $reply) (case "tool-returned" $returned)
    (case "retrieved" $retrieval) (case "failed" $failure)))
  (export $event "event" (type $event'))
  (type $definition' (record (field "name" string) (field "instructions" string) (field "tools" (list $spec))
    (field "client-tools" (list $spec)) (field "collections" (list string)) (field "max-passages" u32)
    (field "steps-left" u32)))
  (export $definition "definition" (type $definition'))
  (type $turn' (record (field "definition" $definition) (field "step" u32) (field "events" (list $event))
    (field "state" (list u8))))
  (export $turn "turn" (type $turn'))

  (type $audience' (enum "caller" "internal"))
  (export $audience "audience" (type $audience'))
  (type $part' (variant (case "message" u64) (case "passages" u64) (case "instruction" string)))
  (export $part "prompt-part" (type $part'))
  (type $request' (record (field "model" (option string)) (field "prompt" (list $part))
    (field "tools" (list string)) (field "audience" $audience)))
  (export $request "model-request" (type $request'))
  (type $query' (variant (case "message" u64) (case "text" string)))
  (export $query "query" (type $query'))
  (type $retrieve' (record (field "collection" string) (field "query" $query) (field "max-passages" u32)))
  (export $retrieve "retrieve-request" (type $retrieve'))
  (type $answer' (variant (case "message" u64) (case "text" string)))
  (export $answer "answer" (type $answer'))
  (type $finish' (record (field "answer" $answer) (field "addendum" string) (field "citations" (list u32))))
  (export $finish "finish" (type $finish'))
  (type $move' (variant (case "ask-model" $request) (case "call-tools" (list $call))
    (case "retrieve" (list $retrieve)) (case "finish" $finish) (case "hand-back" (list $call))))
  (export $move "move" (type $move'))
  (type $decision' (record (field "move" $move) (field "state" (list u8))))
  (export $decision "decision" (type $decision'))
  (type $error' (variant (case "bad-state") (case "bad-turn" string) (case "other" string)))
  (export $error "agent-error" (type $error'))

  (func $step (param "turn" $turn) (result (result $decision (error $error)))
    (canon lift (core func $agent "step") (memory (core memory $agent "memory"))
      (realloc (core func $agent "realloc"))))
  (instance $exports (export "step" (func $step)))
  (export "ambit:agent/agent@0.1.0" (instance $exports)))
"#;

/// Codes of what the calls of a session came to, of each move's together.
async fn codes(ambit: &Ambit, tenant: &Tenant, id: &str) -> Vec<Vec<String>> {
    let events = ambit.events(tenant, id).await.unwrap();
    let tools = |event: &&Value| {
        event["kind"] == "outcome" && event["header"]["facts"]["effect"] == "tools"
    };
    let code = |one: &Value| one["code"].as_str().unwrap().to_owned();
    let of = |event: &Value| event["body"].as_array().unwrap().iter().map(code).collect();
    events.iter().filter(tools).map(of).collect()
}

fn calling(rounds: &[&[&str]]) -> Script {
    let call = |arguments: &&str| Call::new("put", *arguments);
    let round = |calls: &&[&str]| calls.iter().map(call).collect();
    let rounds = rounds.iter().map(round).collect();
    Script {
        reply: Reply::ToolsThenTell(rounds),
        ..Script::default()
    }
}

async fn resume(ambit: &Ambit, tenant: &Tenant, id: &str) {
    let path = format!("/sessions/{id}/resume");
    let (status, told) = post(ambit, tenant, &path, json!({})).await;
    assert_eq!(status, 202, "{told}");
}

async fn say(ambit: &Ambit, tenant: &Tenant, id: &str) {
    let path = format!("/sessions/{id}/messages");
    let (status, told) = post(ambit, tenant, &path, json!({ "input": "And now?" })).await;
    assert_eq!(status, 202, "{told}");
}

/// The session after so many questions to its model, once it waits again.
async fn asked(ambit: &Ambit, tenant: &Tenant, id: &str, mock: &Mock, questions: u64) -> Value {
    until("its model is asked", async || {
        mock.stats().requests >= questions
    })
    .await;
    let session = wait(ambit, tenant, id, "suspended").await;
    assert_eq!(mock.stats().requests, questions, "{session}");
    session
}

/// However it is spelled, and whether it comes in one reply or in several.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_is_made_so_often_in_a_turn_and_no_more() {
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "[rate]\nunlimited = true\n").await else {
        return;
    };
    let (outside, authority) = Outside::start().await;
    install_poster(&ambit, &authority).await;
    let agent = json!({ "name": "plain", "model": "paid/mock-1", "tools": ["hostile:poster"], "limits": { "same_call": 2 } });
    ambit.apply(&acme, &agent).await.unwrap();

    let once = format!(r#"{{"authority":"{authority}","name":"a"}}"#);
    let spaced = format!(r#"{{ "authority": "{authority}", "name": "a" }}"#);
    let turned = format!(r#"{{"name":"a","authority":"{authority}"}}"#);
    let escaped = format!(r#"{{"name":"\u0061","authority":"{authority}"}}"#);
    let other = format!(r#"{{"authority":"{authority}","name":"b"}}"#);
    // The agent lets all of these pass: it looks for circles from reply to reply, word for word.
    let rounds: [&[&str]; 4] = [
        &[&once, &spaced, &turned, &other],
        &[&escaped],
        &[&other],
        &[&once, &turned, &once],
    ];
    mock.follow(calling(&rounds[..3]));
    let id = open(&ambit, &acme, "Hello?").await;
    let session = wait(&ambit, &acme, &id, "suspended").await;
    // The turn goes on, and its model was told.
    assert_eq!(session["reason"], "message", "{session}");
    let answer = session["answer"].as_str().unwrap();
    let told = "was called with these very arguments 2 times already";
    assert_eq!(answer.matches(told).count(), 2, "{answer}");
    let first = [
        vec!["ok", "ok", "repeated", "ok"],
        vec!["repeated"],
        vec!["ok"],
    ];
    assert_eq!(codes(&ambit, &acme, &id).await, first);
    let made = |name: &str| outside.of(&id)[name].0;
    assert_eq!((made("/a"), made("/b")), (2, 2));

    // The next turn may call it anew.
    mock.follow(calling(&rounds));
    say(&ambit, &acme, &id).await;
    wait(&ambit, &acme, &id, "suspended").await;
    let codes = codes(&ambit, &acme, &id).await;
    assert_eq!(codes[3..], [["ok", "ok", "repeated"]]);
    assert_eq!((made("/a"), made("/b")), (4, 2));
}

/// What was refused for that was not made, so it does not count as made.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_are_made_at_once_than_allowed() {
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "[rate]\nunlimited = true\n").await else {
        return;
    };
    let (outside, authority) = Outside::start().await;
    install_poster(&ambit, &authority).await;
    let limits = json!({ "parallel_tools": 2, "same_call": 1 });
    let agent = json!({ "name": "plain", "model": "paid/mock-1", "tools": ["hostile:poster"], "limits": limits });
    ambit.apply(&acme, &agent).await.unwrap();
    let [a, b, c] =
        ["a", "b", "c"].map(|name| json!({ "authority": authority, "name": name }).to_string());
    mock.follow(calling(&[&[&a, &b, &c], &[&c, &a]]));
    let id = open(&ambit, &acme, "Hello?").await;
    let session = wait(&ambit, &acme, &id, "suspended").await;
    assert_eq!(session["reason"], "message", "{session}");
    let expected = [vec!["ok", "ok", "limit"], vec!["ok", "repeated"]];
    assert_eq!(codes(&ambit, &acme, &id).await, expected);
    let seen = outside.of(&id);
    assert!(
        seen.len() == 3 && seen.values().all(|seen| *seen == (1, 1)),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_takes_no_more_steps_than_it_has() {
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "[rate]\nunlimited = true\n").await else {
        return;
    };
    // The shipped agent keeps to its steps, whatever its model wants: it asks, calls, asks, and has to finish.
    let (outside, authority) = Outside::start().await;
    install_poster(&ambit, &authority).await;
    let agent = json!({ "name": "plain", "model": "paid/mock-1", "tools": ["hostile:poster"], "limits": { "steps": 4 } });
    ambit.apply(&acme, &agent).await.unwrap();
    let calls = ["a", "b", "c", "d", "e"]
        .map(|name| json!({ "authority": authority, "name": name }).to_string());
    let rounds = calls.each_ref().map(|call| [call.as_str()]);
    let rounds = rounds.each_ref().map(<[_; 1]>::as_slice);
    mock.follow(calling(&rounds));
    let id = open(&ambit, &acme, "Hello?").await;
    let session = asked(&ambit, &acme, &id, &mock, 2).await;
    assert_eq!(session["reason"], "message", "{session}");
    let seen = outside.of(&id);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["/a"]);

    // One that does not is stopped by the host.
    let name = "hostile:stubborn";
    let asks = "[permissions]\nmodels = [\"*\"]\n";
    let wasm = wat::parse_str(STUBBORN).unwrap();
    let component = NewComponent::new(name, "agent", wasm).tables(asks);
    let component = component.granted(json!({ "models": ["paid/*"] }));
    ambit.install(&component).await.unwrap();
    let slot = json!({ "component": name });
    let path = format!("/slots/agent/{name}");
    ambit.put(&path, &slot).await.unwrap();
    let agent = json!({ "name": "plain", "component": name, "model": "paid/mock-1", "limits": { "steps": 2 } });
    ambit.apply(&acme, &agent).await.unwrap();
    mock.follow(Script::text("Not yet."));
    let before = mock.stats().requests;
    let id = open(&ambit, &acme, "Hello?").await;
    let session = asked(&ambit, &acme, &id, &mock, before + 2).await;
    assert_eq!(session["reason"], "limit_exceeded", "{session}");

    // Who goes on with it gives it as many again; so does who has something to say.
    resume(&ambit, &acme, &id).await;
    let session = asked(&ambit, &acme, &id, &mock, before + 4).await;
    assert_eq!(session["reason"], "limit_exceeded", "{session}");
    say(&ambit, &acme, &id).await;
    let session = asked(&ambit, &acme, &id, &mock, before + 5).await;
    assert_eq!(session["reason"], "message", "{session}");
    assert_eq!(session["answer"], "Done.");
    ambit.session(&acme, &id).await.unwrap();

    // A chat completion has one turn.
    let chat = json!({ "model": "plain", "messages": [{ "role": "user", "content": "Hello?" }] });
    let answer = ambit.ask(&acme, &chat).await.unwrap();
    assert_eq!((answer.status, answer.code()), (500, "limit_exceeded"));
    assert_eq!(mock.stats().requests, before + 7);
    let (_, state) = ambit.newest(&acme).await.unwrap().unwrap();
    assert_eq!(state, "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_takes_no_more_time_than_it_has() {
    let slow = Script {
        latency_ms: 60_000,
        ..Script::text("Too late.")
    };
    let mock = Mock::start(slow).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "[rate]\nunlimited = true\n").await else {
        return;
    };
    // Enough for a turn whose model is quick, on a machine that runs other tests.
    let agent = json!({ "name": "plain", "model": "paid/mock-1", "limits": { "deadline": 3 } });
    ambit.apply(&acme, &agent).await.unwrap();
    let id = open(&ambit, &acme, "Hello?").await;
    let session = wait(&ambit, &acme, &id, "suspended").await;
    assert_eq!(session["reason"], "deadline_exceeded", "{session}");
    assert_eq!(session["answer"], Value::Null);
    let chat = json!({ "model": "plain", "messages": [{ "role": "user", "content": "Hello?" }] });
    let answer = ambit.ask(&acme, &chat).await.unwrap();
    assert_eq!((answer.status, answer.code()), (504, "deadline_exceeded"));
    let (_, state) = ambit.newest(&acme).await.unwrap().unwrap();
    assert_eq!(state, "failed");

    // The first turn had no time left; the one that goes on has all of it, and asks again what was not answered.
    mock.follow(Script::text("In time."));
    resume(&ambit, &acme, &id).await;
    until("an answer", async || {
        let (_, now) = get(&ambit, &acme, &format!("/sessions/{id}")).await;
        now["answer"] == "In time." && now["state"] == "suspended"
    })
    .await;
    let (.., kinds) = ambit.session(&acme, &id).await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "request").count(), 1);
    assert_eq!(mock.stats().requests, 3);
}

/// A provider that goes mad, or is somebody else's, fills no memory and no journal with calls.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_no_more_calls_than_there_is_room_for() {
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "[rate]\nunlimited = true\n").await else {
        return;
    };
    let calls = |count: usize, bytes: usize| {
        let arguments = json!({ "text": "x".repeat(bytes) }).to_string();
        Script::tools(vec![Call::new("put", arguments); count], "Done.")
    };
    let fails = async |model: &str, stream: bool| {
        let said = [json!({ "role": "user", "content": "Hello?" })];
        let chat = json!({ "model": model, "stream": stream, "messages": said });
        let answer = ambit.ask(&acme, &chat).await.unwrap();
        assert_eq!(answer.code(), "invalid_response", "{}", answer.body);
        let (_, state) = ambit.newest(&acme).await.unwrap().unwrap();
        assert_eq!(state, "failed");
        answer.error["message"].as_str().unwrap().to_owned()
    };
    mock.follow(calls(129, 1));
    let told = fails("plain", false).await;
    assert!(told.contains("too many tools"), "{told}");
    mock.follow(calls(3, 400 << 10));
    let told = fails("plain", true).await;
    assert!(told.contains("more than 1 MiB of arguments"), "{told}");
    // Passed through, each call's arguments are a text of their own.
    let models = json!({ "models": ["paid/*"] });
    let grant = "/grants/ambit:pass-through";
    ambit.put(grant, &models).await.unwrap();
    mock.follow(calls(1025, 1));
    let told = fails("paid/mock-1", true).await;
    assert!(told.contains("more texts"), "{told}");

    // However much is found in however many of them: the journal takes it.
    let mails = json!({ "text": "a@b.co ".repeat(1000) }).to_string();
    mock.follow(Script::tools(vec![Call::new("put", mails); 100], "Done."));
    let said = [json!({ "role": "user", "content": "Hello?" })];
    let chat = json!({ "model": "paid/mock-1", "stream": true, "messages": said });
    let answer = ambit.ask(&acme, &chat).await.unwrap();
    assert!(answer.complete, "{}", answer.error);
    let id = answer.session.unwrap();
    let events = ambit.events(&acme, &id).await.unwrap();
    let verdicts = events.iter().filter(|event| event["kind"] == "verdict");
    let places = |event: &Value| event["body"]["findings"].as_array().map_or(0, Vec::len);
    let count = |event: &Value| event["header"]["facts"]["categories"]["pii/email"].as_u64();
    let found: Vec<_> = verdicts
        .map(|event| (places(event), count(event)))
        .collect();
    let kept: usize = found.iter().map(|(places, _)| places).sum();
    let counted: u64 = found.iter().filter_map(|(_, count)| *count).sum();
    assert_eq!((kept, counted), (4096, 100_000));

    mock.follow(Script::text("Good day."));
    let chat = json!({ "model": "plain", "messages": [{ "role": "user", "content": "Hello?" }] });
    assert_eq!(ambit.ask(&acme, &chat).await.unwrap().text, "Good day.");
}
