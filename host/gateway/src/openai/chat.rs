//! `POST /v1/chat/completions`: from a session's events to an answer, whole or streamed.
//!
//! Rules kept here: a stream is begun only once the session has something to say, so that what fails before has its own status; the
//! finish chunk and `[DONE]` follow [`SessionEvent::Finished`], which the session sends after its outcome is durable; a stream that
//! fails ends in an error event and nothing else. Dropping an answer drops the session's events, which cancels everything upstream.

use super::{
    answer::{Call as ToolCall, DONE, Envelope, HEARTBEAT, Source, Tokens, error_event},
    chat_request::{AgentRequest, ChatBody, parse_chat_request},
    events::{sse, until_stopped},
};
use crate::{
    data::{AgentTally, Call},
    error::{self, OpenAiError},
    sessions::{idempotency_key, may_see, unknown},
    trace,
};
use ambit_inference::{RawChat, Role, Usage};
use ambit_session::{
    ChatEvents, ChatTurn, Citation, Key, ModelName, PassReply, SessionEvent, agent_of_pass_through,
    session_of, stopping,
};
use ambit_store::{Session, digest_of};
use ambit_types::{Error, Scope, SessionId};
use axum::{
    Json,
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The session of an answer, and the one a request goes on with.
const SESSION: HeaderName = HeaderName::from_static("x-ambit-session");

pub(crate) async fn create(
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    call.gateway.accountable()?;
    let read = call.gateway.body(body).await?;
    let request = parse_chat_request(&read.bytes)?;
    match request.body {
        ChatBody::Agent(agent) => {
            let continued = continued(&call, &headers, &agent, &read.bytes).await?;
            ask(
                call,
                *agent,
                continued,
                request.stream,
                request.include_usage,
            )
            .await
        }
        ChatBody::PassThrough {
            provider,
            model,
            body,
        } => {
            pass(
                call,
                ModelName { provider, model },
                RawChat::parse(body).map_err(Error::from)?,
            )
            .await
        }
    }
}

async fn ask(
    call: Call,
    request: AgentRequest,
    continued: Option<Continued>,
    stream: bool,
    include_usage: bool,
) -> Result<Response, OpenAiError> {
    let Some(agent) = call.tenant.agents.get(&request.agent).cloned() else {
        return Err(Error::not_found(format!("there is no agent `{}` here", request.agent)).into());
    };
    let tally = AgentTally(request.agent.as_str().into());
    let envelope = Envelope::new(&call.context.request.to_string(), &request.agent);
    let (sessions, context) = (&call.gateway.sessions, call.context.clone());
    let tenant = call.tenant.clone();
    let events = match continued {
        None => sessions.chat(context, tenant, agent, request.turn),
        Some(Continued {
            session,
            heard,
            key,
        }) => {
            let mut turn = since_last_answer(request.turn)?;
            turn.key = key;
            let events = sessions.chat_on(&session, context, tenant, turn, heard.as_deref());
            events.await?
        }
    };
    let session = events.session();
    let answered = if stream {
        streamed(&call, tally.0.clone(), envelope, events, include_usage).await
    } else {
        whole(&envelope, events).await
    };
    // A failed request belongs to its session and agent as well.
    let mut response = answered.unwrap_or_else(axum::response::IntoResponse::into_response);
    name_session(&mut response, session);
    response.extensions_mut().insert(tally);
    Ok(response)
}

/// A session that waited for an approval, which a request goes on with.
struct Continued {
    session: Session,
    /// The notice that the client was told last: it has not heard what was answered since.
    heard: Option<String>,
    /// Under which the message is taken once, however often the client sends it.
    key: Option<Key>,
}

/// The session that a request goes on with: the one its header names, or whose notice is the last thing its client was told. One that is over, or somebody
/// else's, is none: the client has the conversation and goes on by itself.
async fn continued(
    call: &Call,
    headers: &HeaderMap,
    request: &AgentRequest,
    body: &[u8],
) -> Result<Option<Continued>, Error> {
    let mut told = request.turn.messages.iter().rev();
    let told = told.find(|message| message.role == Role::Assistant);
    let noticed = told.and_then(|message| session_of(&message.text));
    let named = trace::one(headers, SESSION.as_str());
    let named = named.map(str::parse::<SessionId>).transpose();
    let named = named.map_err(|error| Error::invalid(SESSION.as_str(), error.to_string()))?;
    let Some(id) = named.or(noticed) else {
        return Ok(None);
    };
    let store = call.gateway.platform.store.tenant(call.tenant.id);
    let known = store.session(id).await?;
    let known = known.filter(|session| may_see(call, session));
    let found = known.filter(|known| {
        let same = known.agent == request.agent.as_str();
        named.is_some() || (same && known.durable && !known.state.is_closed())
    });
    match found {
        None if named.is_some() => Err(unknown()),
        None => Ok(None),
        Some(session) if session.agent != request.agent.as_str() => Err(Error::invalid(
            "model",
            format!("the session is one of the agent `{}`", session.agent),
        )),
        Some(session) => {
            // A conversation that ends in the notice is sent twice only by a client that lost the answer.
            let heard = told.filter(|_| noticed == Some(session.id));
            let heard = heard.map(|message| message.text.clone());
            let digest = digest_of(body).to_string();
            let given = idempotency_key(headers, None)?;
            let key = given.or_else(|| heard.is_some().then(|| digest.clone()));
            let key = key.map(|key| Key {
                key: digest_of(key.as_bytes()).to_string(),
                request: digest,
            });
            Ok(Some(Continued {
                session,
                heard,
                key,
            }))
        }
    }
}

/// What the client has said since it was told something: the session has the rest.
fn since_last_answer(mut turn: ChatTurn) -> Result<ChatTurn, Error> {
    let mut messages = turn.messages.iter();
    let told = messages.rposition(|message| message.role == Role::Assistant);
    turn.messages.drain(..told.map_or(0, |told| told + 1));
    match turn.messages.is_empty() {
        true => Err(Error::invalid(
            "messages",
            "expected a message after the last answer, to go on with its session",
        )),
        false => Ok(turn),
    }
}

/// What a session said, gathered.
#[derive(Default)]
struct Gathered {
    text: String,
    calls: Vec<ToolCall>,
    sources: Vec<Source>,
}

async fn whole(envelope: &Envelope, mut events: ChatEvents) -> Result<Response, OpenAiError> {
    let mut said = Gathered::default();
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Text(text) => said.text.push_str(&text),
            SessionEvent::ToolCalls(calls) => said.calls.extend(calls.into_iter().map(tool_call)),
            SessionEvent::Citations(citations) => {
                said.sources.extend(citations.into_iter().map(source))
            }
            SessionEvent::Finished { reason, usage } => {
                let body = envelope.completion(
                    &said.text,
                    &said.calls,
                    reason.as_str(),
                    &said.sources,
                    tokens(&usage),
                );
                return Ok(Json(body).into_response());
            }
            SessionEvent::Failed(error) => return Err(error.into()),
        }
    }
    Err(broke_off().into())
}

async fn streamed(
    call: &Call,
    agent: Arc<str>,
    envelope: Envelope,
    mut events: ChatEvents,
    include_usage: bool,
) -> Result<Response, OpenAiError> {
    let heartbeat = call.gateway.config.heartbeat;
    // A session that fails at once gets its status. One that takes longer than a proxy would wait begins its stream without a word.
    let first = match timeout(heartbeat, events.next()).await {
        Ok(Some(SessionEvent::Failed(error))) => return Err(error.into()),
        Ok(Some(event)) => Some(event),
        Ok(None) => return Err(broke_off().into()),
        Err(_) => None,
    };
    let metrics = call.gateway.metrics.clone();
    let (tenant, at) = (call.context.tenant_slug.clone(), call.at);
    let mut first_text = true;
    let events = stream::iter(first).chain(events).inspect(move |event| {
        if first_text && matches!(event, SessionEvent::Text(_)) {
            first_text = false;
            metrics.first_chunk(&tenant, &agent, at.elapsed());
        }
    });
    Ok(sse(chunks(
        envelope,
        Box::pin(events),
        include_usage,
        heartbeat,
    )
    .map(Ok::<_, Infallible>)))
}

/// The events of a stream's answer.
fn chunks(
    envelope: Envelope,
    events: impl Stream<Item = SessionEvent> + Unpin + Send + 'static,
    include_usage: bool,
    heartbeat: Duration,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let role = envelope.role();
    let state = Some((envelope, events, Gathered::default()));
    let rest = stream::unfold(state, move |state| async move {
        let (envelope, mut events, mut said) = state?;
        let event = loop {
            match timeout(heartbeat, events.next()).await {
                Err(_) => return Some((HEARTBEAT, Some((envelope, events, said)))),
                // They belong to the last delta.
                Ok(Some(SessionEvent::Citations(citations))) => {
                    said.sources.extend(citations.into_iter().map(source))
                }
                Ok(event) => break event.unwrap_or_else(|| SessionEvent::Failed(broke_off())),
            }
        };
        match event {
            SessionEvent::Text(text) => {
                let chunk = envelope.text(&text);
                said.text.push_str(&text);
                Some((chunk, Some((envelope, events, said))))
            }
            SessionEvent::ToolCalls(calls) => {
                let calls: Vec<_> = calls.into_iter().map(tool_call).collect();
                Some((envelope.calls(&calls), Some((envelope, events, said))))
            }
            SessionEvent::Finished { reason, usage } => {
                let mut end = envelope
                    .finish(reason.as_str(), &said.text, &said.sources)
                    .to_vec();
                if include_usage {
                    end.extend_from_slice(&envelope.usage(tokens(&usage)));
                }
                end.extend_from_slice(&DONE);
                Some((end.into(), None))
            }
            SessionEvent::Failed(error) => {
                error::log(&error);
                Some((error_event(&error), None))
            }
            SessionEvent::Citations(_) => None,
        }
    });
    stream::iter([role]).chain(rest)
}

async fn pass(call: Call, model: ModelName, request: RawChat) -> Result<Response, OpenAiError> {
    let tally = AgentTally(agent_of_pass_through(&model).into());
    let sessions = call.gateway.sessions.clone();
    let answer = tokio::select! {
        biased;
        () = sessions.stopping() => return Err(stopping().into()),
        answer = sessions.pass_through(call.context.clone(), call.tenant.clone(), model, request) => answer?,
    };
    let mut response = match answer.reply {
        Ok(PassReply::Json(body)) => (
            [(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )],
            body,
        )
            .into_response(),
        Ok(PassReply::Stream(stream)) => sse(until_stopped(&sessions, stream).map(|piece| {
            Ok::<_, Infallible>(piece.unwrap_or_else(|error| {
                error::log(&error);
                error_event(&error)
            }))
        })),
        Err(error) => OpenAiError::from(error).into_response(),
    };
    name_session(&mut response, answer.session);
    response.extensions_mut().insert(tally);
    Ok(response)
}

fn name_session(response: &mut Response, session: SessionId) {
    if let Ok(session) = HeaderValue::from_str(&session.to_string()) {
        response.headers_mut().insert(SESSION, session);
    }
}

/// A session always says how it ended; that it did not is our fault.
fn broke_off() -> Error {
    Error::internal("a session ended without saying how")
}

fn tool_call(call: ambit_inference::ToolCall) -> ToolCall {
    ToolCall {
        id: call.id,
        name: call.name,
        arguments: call.arguments,
    }
}

fn source(citation: Citation) -> Source {
    Source {
        number: citation.number,
        document: citation.document,
        title: citation.title,
        anchor: citation.anchor,
    }
}

fn tokens(usage: &Usage) -> Tokens {
    Tokens {
        input: usage.input_tokens,
        cached: usage.cached_tokens,
        output: usage.output_tokens,
        reasoning: usage.reasoning_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_inference::FinishReason;
    use ambit_types::ErrorKind;
    use serde_json::{Value, json};

    async fn stream_of(events: Vec<SessionEvent>, include_usage: bool) -> Vec<String> {
        let chunks = chunks(
            Envelope::new("req_1", "assistant"),
            stream::iter(events),
            include_usage,
            Duration::from_secs(60),
        );
        let all = chunks.collect::<Vec<_>>().await.concat();
        let text = String::from_utf8(all).unwrap();
        text.split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
            .collect()
    }

    fn read(event: &str) -> Value {
        serde_json::from_str(event).unwrap()
    }

    fn finished() -> SessionEvent {
        SessionEvent::Finished {
            reason: FinishReason::Stop,
            usage: Usage {
                input_tokens: 3,
                output_tokens: 2,
                ..Usage::default()
            },
        }
    }

    #[tokio::test]
    async fn a_good_stream_ends_in_finish_usage_and_done() {
        let citation = Citation {
            number: 1,
            collection: "docs".into(),
            document: "a.md".into(),
            title: "A".into(),
            anchor: "x#1".into(),
        };
        let said = vec![
            SessionEvent::Text("Hi [1]".into()),
            SessionEvent::Citations(vec![citation]),
            finished(),
        ];
        let events = stream_of(said, true).await;
        assert_eq!(events.len(), 5, "{events:?}");
        assert_eq!(read(&events[0])["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(read(&events[1])["choices"][0]["delta"]["content"], "Hi [1]");
        let last = read(&events[2]);
        assert_eq!(
            (
                &last["choices"][0]["finish_reason"],
                &last["choices"][0]["delta"]["annotations"][0]["url_citation"]["title"]
            ),
            (&json!("stop"), &json!("A"))
        );
        assert_eq!(
            (
                &read(&events[3])["choices"],
                &read(&events[3])["usage"]["total_tokens"]
            ),
            (&json!([]), &json!(5))
        );
        assert_eq!(events[4], "[DONE]");
    }

    #[tokio::test]
    async fn a_failed_stream_ends_in_its_error_and_never_in_done() {
        let failed = SessionEvent::Failed(Error::new(
            ErrorKind::ProviderFailed {
                code: "stream_interrupted",
            },
            "broke off",
        ));
        for events in [
            vec![SessionEvent::Text("half".into()), failed],
            vec![SessionEvent::Text("half".into())],
        ] {
            let events = stream_of(events, true).await;
            assert_eq!(events.len(), 3);
            assert!(read(&events[2])["error"]["code"].is_string());
            assert!(
                !events
                    .iter()
                    .any(|event| event == "[DONE]" || event.contains("\"finish_reason\":\""))
            );
        }
    }

    #[tokio::test]
    async fn without_being_asked_there_is_no_usage() {
        let events = stream_of(vec![finished()], false).await;
        assert_eq!((events.len(), events[2].as_str()), (3, "[DONE]"));
    }

    #[tokio::test]
    async fn silence_is_filled_with_comments() {
        let chunks = chunks(
            Envelope::new("req_1", "a"),
            stream::pending(),
            false,
            Duration::from_millis(5),
        );
        let two: Vec<_> = chunks.skip(1).take(2).collect().await;
        assert_eq!(two, [HEARTBEAT, HEARTBEAT]);
    }
}
