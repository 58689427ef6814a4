//! Has effects outside: its tools `pay` (not idempotent), `put` (idempotent) and `wire` (not to be undone) and `send` (neither, but
//! idempotent) post to `http://AUTHORITY/NAME`, with the call's id as
//! idempotency key, and answer with what they are answered. Arguments: `{"authority": …, "name": …}`.

#[cfg(target_family = "wasm")]
mod guest {
    use ambit_hostile::bindings::exports::ambit::{agent::agent, tool::tool};
    use wasip2::http::{
        outgoing_handler::handle,
        types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme},
    };

    struct Component;

    fn spec(name: &str, reversible: bool, idempotent: bool) -> tool::ToolSpec {
        let parameters = r#"{"type":"object","properties":{"authority":{"type":"string"},"name":{"type":"string"}},"required":["authority","name"]}"#;
        tool::ToolSpec {
            name: name.into(),
            description: "Does something outside.".into(),
            parameters: parameters.into(),
            reversible,
            idempotent,
        }
    }

    impl tool::Guest for Component {
        fn describe() -> Vec<tool::ToolSpec> {
            vec![
                spec("pay", true, false),
                spec("put", true, true),
                spec("wire", false, false),
                spec("send", false, true),
            ]
        }

        fn invoke(call: tool::ToolCall) -> Result<tool::ToolOutput, tool::ToolError> {
            post(&call)
                .map(|content| tool::ToolOutput { content })
                .map_err(tool::ToolError::Unavailable)
        }
    }

    fn value<'a>(arguments: &'a str, name: &str) -> &'a str {
        let after = arguments
            .split_once(&format!("\"{name}\":\""))
            .map(|(_, after)| after);
        after
            .and_then(|after| after.split_once('"'))
            .map_or("", |(value, _)| value)
    }

    fn post(call: &tool::ToolCall) -> Result<String, String> {
        let headers = Fields::new();
        headers
            .append("idempotency-key", call.id.as_bytes())
            .map_err(said)?;
        let request = OutgoingRequest::new(headers);
        let path = format!("/{}", value(&call.arguments, "name"));
        request.set_method(&Method::Post).map_err(said)?;
        request.set_scheme(Some(&Scheme::Http)).map_err(said)?;
        request
            .set_authority(Some(value(&call.arguments, "authority")))
            .map_err(said)?;
        request.set_path_with_query(Some(&path)).map_err(said)?;
        let body = request.body().map_err(said)?;
        let future = handle(request, None).map_err(said)?;
        OutgoingBody::finish(body, None).map_err(said)?;
        future.subscribe().block();
        let answer = future.get().ok_or("no answer")?;
        let response = answer.map_err(said)?.map_err(said)?;
        Ok(format!("done {}", response.status()))
    }

    fn said(error: impl std::fmt::Debug) -> String {
        format!("{error:?}")
    }

    impl agent::Guest for Component {
        fn step(_: agent::Turn) -> Result<agent::Decision, agent::AgentError> {
            Err(agent::AgentError::Other("it is a tool".into()))
        }
    }

    ambit_hostile::bindings::export!(Component);
}
