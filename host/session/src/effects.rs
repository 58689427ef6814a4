//! Carrying out an agent's moves. Each effect is checked against the agent's ambit, journalled as an intent before it starts, and what
//! comes back passes the guardrail before anybody reads it.

use crate::{
    chat::{Run, bytes},
    conversation::{Found, bad_move},
    event::{Citation, SessionEvent},
    record::{header, usage},
    tools::Source,
};
use ambit_capabilities::{
    agent::{
        Audience, Event, Failure, FinishReason as AgentFinish, ModelRequest, Passage, Query, Reply,
        Retrieval, RetrieveRequest, ToolResult, Usage as AgentUsage,
    },
    guardrail::Stage,
    retrieval, token_of,
    tool::{ToolCall as AgentCall, ToolError},
};
use ambit_inference::{
    ChatRequest, Delta, FinishReason, Message, Role, ToolCall, ToolCallFragment, Usage,
};
use ambit_policy::{Access, Ambit};
use ambit_types::{CollectionName, Error, ErrorKind};
use futures::{StreamExt as _, future::join_all};
use serde_json::json;

/// Options that speak of tools: they hold for the caller's question, not for what follows a tool's answer.
const TOOL_OPTIONS: [&str; 2] = ["tool_choice", "parallel_tool_calls"];

/// Tool calls one reply may hold, whatever the model says.
const CALLS_AT_MOST: usize = 128;

impl Run {
    /// What the agent may reach for this caller.
    fn ambit(&self) -> Ambit {
        let token = token_of(&self.context.principal);
        self.agent.ambit.clone().narrowed_by_token(token)
    }

    pub(crate) async fn ask_model(&mut self, request: ModelRequest) -> Result<Event, Error> {
        let model = match request.model {
            Some(name) => name.parse().map_err(bad_move)?,
            None => self.agent.definition.model.clone(),
        };
        let ambit = self.ambit();
        let permit = ambit
            .model(&model.provider, &model.model)
            .map_err(|denied| {
                Error::forbidden("this agent may not use that model").because(denied)
            })?;

        let (messages, passages) = self.conversation.prompt(&request.prompt)?;
        let tools = self.offer.for_model(&request.tools)?;
        let mut options = self.turn.options.clone();
        if tools.is_empty() || self.model_calls > 0 {
            TOOL_OPTIONS
                .iter()
                .for_each(|name| drop(options.remove(*name)));
        }
        self.model_calls += 1;
        let intent = json!({ "messages": messages.len(), "passages": passages.len(), "tools": request.tools });
        self.recorder.note(
            "intent",
            &[("effect", json!("model")), ("model", json!(model))],
            &intent,
        )?;
        self.recorder.flush().await?;

        let to_caller = request.audience == Audience::Caller;
        let providers = self.sessions.platform.providers.clone();
        let context = self.context.clone();
        let asked = async {
            let stream = providers
                .complete(
                    &context,
                    &permit,
                    ChatRequest {
                        messages,
                        passages,
                        tools,
                        options,
                    },
                )
                .await?;
            self.read_reply(stream, to_caller).await
        }
        .await;
        let observer = self.sessions.observer.clone();
        let code = asked.as_ref().err().map(Error::code);
        let spent = asked
            .as_ref()
            .map_or_else(|_| Usage::default(), |said| said.usage);
        observer.model_call(
            &self.context.tenant_slug,
            &self.agent.definition.name,
            &model.provider,
            &spent,
            code,
        );
        let said = match asked {
            Ok(said) => said,
            Err(error) => {
                self.recorder.note(
                    "outcome",
                    &[("effect", json!("model")), ("code", json!(error.code()))],
                    &json!({}),
                )?;
                return Err(error);
            }
        };
        self.usage.input_tokens += said.usage.input_tokens;
        self.usage.cached_tokens += said.usage.cached_tokens;
        self.usage.output_tokens += said.usage.output_tokens;
        self.usage.reasoning_tokens += said.usage.reasoning_tokens;
        let mut outcome = header(&[
            ("effect", json!("model")),
            ("model", json!(model)),
            ("finish", json!(said.finish)),
        ]);
        outcome.usage = Some(usage(&said.usage));
        let calls: Vec<_> = said
            .calls
            .iter()
            .map(|c| json!({ "id": c.id, "name": c.name, "arguments": c.arguments }))
            .collect();
        let body = serde_json::to_vec(&json!({ "text": said.text, "tool_calls": calls }))
            .map_err(Error::internal)?;
        self.recorder.note_bytes("outcome", outcome, body);

        if said.finish == FinishReason::ContentFilter {
            return Err(Error::new(
                ErrorKind::ContentFiltered {
                    category: "provider".into(),
                },
                "the model's provider filtered its answer",
            ));
        }
        let size = bytes(&said.text);
        let id = self.keep_reply(said.text.clone(), &said.calls, to_caller);
        Ok(Event::Replied(Reply {
            id,
            finish: match said.finish {
                FinishReason::Stop | FinishReason::ContentFilter => AgentFinish::Stop,
                FinishReason::Length => AgentFinish::Length,
                FinishReason::ToolCalls => AgentFinish::ToolCalls,
            },
            tool_calls: said
                .calls
                .into_iter()
                .map(|c| AgentCall {
                    id: c.id,
                    name: c.name,
                    arguments: c.arguments,
                })
                .collect(),
            usage: AgentUsage {
                input_tokens: said.usage.input_tokens,
                cached_tokens: said.usage.cached_tokens,
                output_tokens: said.usage.output_tokens,
                reasoning_tokens: said.usage.reasoning_tokens,
            },
            size,
            text: Some(said.text),
        }))
    }

    /// Reads a reply to its end; its text goes to the caller as it is released.
    async fn read_reply(
        &mut self,
        mut stream: ambit_inference::ChatStream,
        to_caller: bool,
    ) -> Result<Said, Error> {
        let mut said = Said::default();
        let mut output = self.guard.output();
        let read = async {
            while let Some(delta) = stream.next().await {
                match delta? {
                    Delta::Text(text) | Delta::Refusal(text) => {
                        let released = output.push(text).await?;
                        said.text.push_str(&released);
                        if to_caller {
                            self.say(SessionEvent::Text(released)).await;
                        }
                    }
                    Delta::ToolCall(fragment) => said.add(fragment)?,
                    Delta::Finish(reason) => said.finish = reason,
                    Delta::Usage(usage) => said.usage = usage,
                }
            }
            let released = output.finish().await?;
            said.text.push_str(&released);
            if to_caller {
                self.say(SessionEvent::Text(released)).await;
            }
            Ok::<_, Error>(())
        }
        .await;
        output.note(&mut self.recorder)?;
        read?;
        said.complete()
    }

    pub(crate) async fn call_tools(&mut self, calls: Vec<AgentCall>) -> Result<Vec<Event>, Error> {
        let limit = self.agent.definition.limits.parallel_tools as usize;
        let mut seen = std::collections::BTreeSet::new();
        if calls.is_empty()
            || calls.len() > CALLS_AT_MOST
            || !calls.iter().all(|call| seen.insert(&call.id))
        {
            return Err(bad_move(format!(
                "{} tool calls at once, or two of one id",
                calls.len()
            )));
        }
        let body: Vec<_> = calls
            .iter()
            .map(|c| json!({ "id": c.id, "name": c.name, "arguments": c.arguments }))
            .collect();
        self.recorder
            .note("intent", &[("effect", json!("tools"))], &body)?;
        self.recorder.flush().await?;

        let results = join_all(calls.iter().enumerate().map(|(place, call)| {
            let refused = (place >= limit).then(|| ToolFailure {
                code: "limit",
                message: format!(
                    "at most {limit} tools can be called at once; call this one again"
                ),
            });
            self.call_tool(call, refused)
        }))
        .await;
        let texts = results
            .iter()
            .map(|result| {
                result
                    .as_ref()
                    .map_or_else(|f| f.message.clone(), Clone::clone)
            })
            .collect();
        let checked = self
            .guard
            .check_all(&mut self.recorder, Stage::ToolResult, texts)
            .await?;

        let mut events = Vec::with_capacity(calls.len());
        let mut outcome = Vec::with_capacity(calls.len());
        for ((call, result), checked) in calls.into_iter().zip(&results).zip(checked) {
            let code = result
                .as_ref()
                .map_or_else(|failure| failure.code, |_| "ok");
            self.sessions.observer.tool_call(
                &self.context.tenant_slug,
                &self.agent.definition.name,
                code,
            );
            let (text, ok) = match checked.rejection {
                Some(rejection) => (
                    format!(
                        "The result was withheld by the guardrail ({}).",
                        rejection.category
                    ),
                    false,
                ),
                None => (checked.text, result.is_ok()),
            };
            outcome.push(json!({ "id": call.id, "code": code, "content": text }));
            let size = bytes(&text);
            let message = Message {
                tool_call_id: Some(call.id.clone()),
                ..Message::new(Role::Tool, text)
            };
            let id = self.conversation.push(message);
            events.push(Event::ToolReturned(ToolResult {
                id,
                call_id: call.id,
                name: call.name,
                ok,
                size,
            }));
        }
        self.recorder
            .note("outcome", &[("effect", json!("tools"))], &outcome)?;
        Ok(events)
    }

    /// One call. A failure is for the model to read; it never ends the request.
    async fn call_tool(
        &self,
        call: &AgentCall,
        refused: Option<ToolFailure>,
    ) -> Result<String, ToolFailure> {
        if let Some(refused) = refused {
            return Err(refused);
        }
        // Only what the model asked for in its last reply, word for word: an agent invents no calls.
        if !self.last_reply_calls.iter().any(|asked| {
            asked.id == call.id && asked.name == call.name && asked.arguments == call.arguments
        }) {
            return Err(ToolFailure {
                code: "denied",
                message: format!("no reply asked for this call of `{}`", call.name),
            });
        }
        match self.offer.source(&call.name) {
            None | Some(Source::Client) => Err(ToolFailure {
                code: "denied",
                message: format!("there is no tool `{}` to call", call.name),
            }),
            Some(Source::Host {
                reversible: false, ..
            }) => Err(ToolFailure {
                code: "denied",
                message: format!(
                    "`{}` cannot be undone, so it needs a person's approval, and nobody can be asked here",
                    call.name
                ),
            }),
            Some(Source::Host {
                toolbox, narrowing, ..
            }) => {
                let output = toolbox.invoke(&self.context, narrowing, call.clone()).await;
                output.map(|output| output.content).map_err(|error: ToolError| {
                    tracing::info!(tool = %call.name, error = &error as &dyn std::error::Error, "a tool call failed");
                    ToolFailure { code: error.code(), message: error.message() }
                })
            }
        }
    }

    pub(crate) async fn retrieve(
        &mut self,
        requests: Vec<RetrieveRequest>,
    ) -> Result<Vec<Event>, Error> {
        if requests.is_empty() || requests.len() > 16 {
            return Err(bad_move(format!("{} retrievals at once", requests.len())));
        }
        let mut queries = Vec::with_capacity(requests.len());
        for request in &requests {
            let text = match &request.query {
                Query::Message(id) => self.conversation.text(*id)?.to_owned(),
                Query::Text(text) => text.clone(),
            };
            queries.push(text);
        }
        let found = join_all(
            requests
                .iter()
                .zip(queries)
                .map(|(request, text)| self.search(request, text)),
        )
        .await;
        let mut events = Vec::with_capacity(requests.len());
        for (request, found) in requests.into_iter().zip(found) {
            let passages = match found {
                Ok(passages) => passages,
                Err(failure) => {
                    self.recorder.note(
                        "outcome",
                        &[("effect", json!("retrieve")), ("code", json!(failure.code))],
                        &json!({ "collection": request.collection }),
                    )?;
                    events.push(Event::Failed(failure));
                    continue;
                }
            };
            events.push(self.keep_passages(request.collection, passages).await?);
        }
        Ok(events)
    }

    async fn search(
        &self,
        request: &RetrieveRequest,
        text: String,
    ) -> Result<Vec<retrieval::Passage>, Failure> {
        let failure = |code: &str, message: String| Failure {
            move_: "retrieve".into(),
            code: code.into(),
            message,
        };
        let collection: CollectionName = request
            .collection
            .parse()
            .map_err(|error: ambit_types::NameError| failure("invalid", error.to_string()))?;
        let ambit = self.ambit();
        let permit = ambit
            .collection(Access::Read, &collection)
            .map_err(|denied| failure("denied", denied.to_string()))?;
        let Some(retriever) = &self.tenant.retriever else {
            return Err(failure(
                "unavailable",
                "no retrieval component is bound".into(),
            ));
        };
        let max_results = request.max_passages.clamp(1, 50);
        let query = retrieval::Query {
            collection: permit.into_inner().name,
            text,
            max_results,
            filter: None,
            mode: None,
        };
        retriever.search(&self.context, &self.tenant.retrieval, &query).await.map_err(|error| {
            let error = Error::from(error);
            tracing::warn!(error = &error as &dyn std::error::Error, collection = %request.collection, "a retrieval failed");
            failure(error.code(), error.message().to_owned())
        })
    }

    /// Judges, numbers and keeps passages. What the guardrail rejects is left out, as if it had not been found.
    async fn keep_passages(
        &mut self,
        collection: String,
        passages: Vec<retrieval::Passage>,
    ) -> Result<Event, Error> {
        let texts = passages.iter().map(|p| p.text.clone()).collect();
        let checked = self
            .guard
            .check_all(&mut self.recorder, Stage::Retrieved, texts)
            .await?;
        let mut found = Vec::with_capacity(passages.len());
        for (passage, checked) in passages
            .into_iter()
            .zip(checked)
            .filter(|(_, checked)| checked.rejection.is_none())
        {
            let citation = Citation {
                number: self.conversation.next_passage(),
                collection: collection.clone(),
                document: passage.document,
                title: passage.title,
                anchor: passage.anchor,
            };
            found.push(Found {
                citation,
                text: checked.text,
                score: passage.score,
            });
        }
        let facts = [("effect", json!("retrieve")), ("code", json!("ok"))];
        let body: Vec<_> = found
            .iter()
            .map(|f| json!({ "citation": f.citation, "text": f.text, "score": f.score }))
            .collect();
        self.recorder.note("outcome", &facts, &body)?;
        let shown = found
            .iter()
            .map(|f| Passage {
                number: f.citation.number,
                document: f.citation.document.clone(),
                title: f.citation.title.clone(),
                anchor: f.citation.anchor.clone(),
                score: f.score,
                size: bytes(&f.text),
            })
            .collect();
        let id = self.conversation.push_passages(found);
        Ok(Event::Retrieved(Retrieval {
            id,
            collection,
            passages: shown,
        }))
    }
}

/// Why a call has no result, for the model.
struct ToolFailure {
    code: &'static str,
    message: String,
}

/// A reply while it is read.
struct Said {
    text: String,
    calls: Vec<ToolCall>,
    places: Vec<u32>,
    finish: FinishReason,
    usage: Usage,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            text: String::new(),
            calls: Vec::new(),
            places: Vec::new(),
            finish: FinishReason::Stop,
            usage: Usage::default(),
        }
    }
}

impl Said {
    fn add(&mut self, fragment: ToolCallFragment) -> Result<(), Error> {
        let place = match self
            .places
            .iter()
            .position(|index| *index == fragment.index)
        {
            Some(place) => place,
            None if self.places.len() >= CALLS_AT_MOST => {
                return Err(Error::new(
                    ErrorKind::ProviderFailed {
                        code: "invalid_response",
                    },
                    "the model asked for too many tools at once",
                ));
            }
            None => {
                self.places.push(fragment.index);
                self.calls.push(ToolCall {
                    id: String::new(),
                    name: String::new(),
                    arguments: String::new(),
                });
                self.places.len() - 1
            }
        };
        let call = &mut self.calls[place];
        call.id.push_str(fragment.id.as_deref().unwrap_or_default());
        call.name
            .push_str(fragment.name.as_deref().unwrap_or_default());
        call.arguments.push_str(&fragment.arguments);
        Ok(())
    }

    /// Gives calls without an id one: some servers leave it out, and results need something to refer to.
    fn complete(mut self) -> Result<Self, Error> {
        for (place, call) in self.calls.iter_mut().enumerate() {
            if call.name.is_empty() {
                return Err(Error::new(
                    ErrorKind::ProviderFailed {
                        code: "invalid_response",
                    },
                    "the model asked for a tool without naming it",
                ));
            }
            if call.id.is_empty() {
                call.id = format!("call_{place}");
            }
            if call.arguments.trim().is_empty() {
                call.arguments = "{}".into();
            }
        }
        Ok(self)
    }
}
