use super::*;
use serde_json::json;

fn parse(body: Value) -> Result<ChatRequest, Error> {
    parse_chat_request(&Bytes::from(body.to_string()))
}

fn agent(body: Value) -> AgentRequest {
    match parse(body).unwrap().body {
        ChatBody::Agent(request) => *request,
        other => panic!("{other:?}"),
    }
}

/// The `param` of the error that a request gets when `field` is set to `value`.
fn param(field: &str, value: Value) -> Option<String> {
    let mut body = json!({"model": "assistant", "messages": [{"role": "user", "content": "x"}]});
    body[field] = value;
    match parse(body).unwrap_err().kind() {
        ambit_types::ErrorKind::Invalid { param } => param.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_what_the_openai_client_sends() {
    let request = agent(json!({
        "model": "assistant",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "u"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
        ],
        "tools": [{"type": "function", "function": {"name": "now", "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "now"}},
        "temperature": 1, "max_tokens": 5, "max_completion_tokens": 7, "stop": "end", "n": 1, "user": "someone",
        "metadata": {"unknown": [1, 2, {"deep": null}]},
    }));
    let turn = request.turn;
    assert_eq!(
        (turn.messages[1].role, turn.messages[1].text.as_str()),
        (Role::User, "ab")
    );
    assert_eq!(
        (
            turn.messages[3].tool_call_id.as_deref(),
            turn.messages[3].text.as_str()
        ),
        (Some("c1"), "12:00")
    );
    assert_eq!(turn.messages[2].tool_calls[0].name, "now");
    assert!(turn.client_tools[0].parameters.get().contains("object"));
    let options = json!({"temperature": 1, "max_completion_tokens": 7, "stop": "end",
        "tool_choice": {"type": "function", "function": {"name": "now"}}});
    assert_eq!(Value::Object(turn.options), options);
}

#[test]
fn a_refusal_of_an_earlier_turn_stays_in_the_conversation() {
    let request = agent(
        json!({"model": "a", "messages": [{"role": "assistant", "content": null, "refusal": "no"}]}),
    );
    assert_eq!(request.turn.messages[0].text, "no");
}

#[test]
fn null_is_absent_and_streaming_options_are_read() {
    let body = json!({"model": "a", "messages": [{"role": "user", "content": ""}], "stream": true, "tools": null, "stop": null,
        "stream_options": {"include_usage": true, "new": 1}});
    let request = parse(body).unwrap();
    assert!(request.stream && request.include_usage);
}

#[test]
fn passes_a_model_through_untouched() {
    let body = Bytes::from_static(br#"{ "model":"openai/org/m-1", "messages":[{"role":"odd","x":[1.50]}], "n":3, "top_k":1e2 }"#);
    let ChatBody::PassThrough {
        provider,
        model,
        body: passed,
    } = parse_chat_request(&body).unwrap().body
    else {
        panic!()
    };
    assert_eq!(
        (provider.as_str(), model.as_str(), passed),
        ("openai", "org/m-1", body)
    );
}

#[test]
fn names_the_wrong_field() {
    for (field, value, expected) in [
        ("model", json!(1), "model"),
        ("model", json!("Not An Agent"), "model"),
        ("model", json!("openai/"), "model"),
        ("model", json!("../x"), "model"),
        ("model", json!("openai/a b"), "model"),
        ("model", json!(null), "model"),
        ("stream", json!("yes"), "stream"),
        (
            "stream_options",
            json!({"include_usage": 1}),
            "stream_options.include_usage",
        ),
        ("messages", json!("hi"), "messages"),
        ("messages", json!([]), "messages"),
        ("messages", json!([1]), "messages[0]"),
        ("messages", json!([{"content": "x"}]), "messages[0].role"),
        ("messages", json!([{"role": "user"}]), "messages[0].content"),
        (
            "messages",
            json!([{"role": "root", "content": "x"}]),
            "messages[0].role",
        ),
        (
            "messages",
            json!([{"role": "user", "content": 5}]),
            "messages[0].content",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "text", "text": 5}]}]),
            "messages[0].content[0].text",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image_url"}]}]),
            "messages[0].content[0].type",
        ),
        (
            "messages",
            json!([{"role": "tool", "content": "x"}]),
            "messages[0].tool_call_id",
        ),
        (
            "messages",
            json!([{"role": "assistant", "tool_calls": [{"id": "a"}]}]),
            "messages[0].tool_calls[0].function",
        ),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        (
            "tools",
            json!([{"function": {"name": "a b"}}]),
            "tools[0].function.name",
        ),
        (
            "tools",
            json!([{"function": {"name": "a"}}, {"function": {"name": "a"}}]),
            "tools[1]",
        ),
        ("tool_choice", json!("maybe"), "tool_choice"),
        (
            "tool_choice",
            json!({"function": {"name": "absent"}}),
            "tool_choice",
        ),
        ("n", json!(2), "n"),
        ("logprobs", json!(true), "logprobs"),
        (
            "response_format",
            json!({"type": "json_object"}),
            "response_format",
        ),
        ("temperature", json!(2.5), "temperature"),
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!(1.5), "max_tokens"),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
        ("stop", json!(["a", 1]), "stop[1]"),
        ("seed", json!("x"), "seed"),
    ] {
        assert_eq!(
            param(field, value.clone()).as_deref(),
            Some(expected),
            "{field} = {value}"
        );
    }
}

#[test]
fn hostile_bodies_are_refused_in_words() {
    let deep = ["[".repeat(1 << 20), "]".repeat(1 << 20)].concat();
    let many = format!(
        r#"{{"model":"a","messages":[{}]}}"#,
        vec![r#"{"role":"user","content":""}"#; MAX_MESSAGES + 1].join(",")
    );
    for body in [
        &b""[..],
        b"null",
        b"{",
        b"{\"model\":\"\xc3\x28\"}",
        br#"{"model":"a","messages":[{"role":"user","content":"good","content":"bad"}]}"#,
        br#"{"model":"a","model":"b","messages":[]}"#,
        deep.as_bytes(),
        many.as_bytes(),
    ] {
        let error = parse_chat_request(&Bytes::copy_from_slice(body)).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.message().len() < 300, "{}", error.message());
    }
}

#[test]
fn an_error_never_repeats_the_prompt() {
    let body = json!({"model": "a", "messages": {"role": "user", "content": "my secret prompt"}});
    assert!(!parse(body).unwrap_err().message().contains("secret"));
}

#[test]
fn random_damage_never_panics() {
    let whole = json!({"model": "assistant", "stream": true, "messages": [{"role": "user", "content": [{"type": "text", "text": "ä🦀"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": "auto"})
    .to_string()
    .into_bytes();
    // A small multiplicative generator: the same damage in every run.
    let mut seed = 0x9e37_79b9_u64;
    for _ in 0..20_000 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut damaged = whole.clone();
        let at = (seed >> 33) as usize % damaged.len();
        damaged[at] = (seed >> 24) as u8;
        if seed & 1 == 1 {
            damaged.truncate(at);
        }
        let _ = parse_chat_request(&Bytes::from(damaged));
    }
}
