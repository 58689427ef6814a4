//! Carrying out an agent's moves. Each effect is checked against the agent's ambit; what reaches outside the host, a model or a tool, is
//! journalled as an intent before it starts; and what comes back passes the guardrail before anybody reads it.

use crate::{
    chat::{Run, bytes},
    conversation::bad_move,
    guard::arguments,
    reply::{CALLS_AT_MOST, Reply, Underway},
    spending::{Extent, Over},
    tools::Source,
};
use ambit_capabilities::{
    agent::{
        self, Audience, Event, FinishReason as AgentFinish, ModelRequest, ToolResult,
        Usage as AgentUsage,
    },
    guardrail::Stage,
    tool::{ToolCall as AgentCall, ToolError},
};
use ambit_inference::{ChatRequest, FinishReason, Message, Role};
use ambit_policy::Ambit;
use ambit_types::{Error, ErrorKind};
use futures::future::join_all;
use serde_json::json;

/// Options that speak of tools: they hold for the caller's question, not for what follows a tool's answer.
const TOOL_OPTIONS: [&str; 2] = ["tool_choice", "parallel_tool_calls"];

impl Run {
    /// What the agent may reach for this caller.
    pub(crate) fn ambit(&self) -> Ambit {
        self.agent.ambit.clone().narrowed_by_caller(&self.context)
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
        let question = ChatRequest {
            messages,
            passages,
            tools,
            options,
        };
        let extent = Extent {
            bytes: question.bytes(),
            media: 0,
            allowed: question.max_tokens(),
            answers: 1,
        };
        let platform = &self.sessions.platform;
        let agent = &self.agent.definition.name;
        let priced = platform.priced(&self.tenant, &self.context, agent, &model, extent)?;
        self.recorder.note(
            "intent",
            &[("effect", json!("model")), ("model", json!(model))],
            &intent,
        )?;
        let to_caller = request.audience == Audience::Caller;
        self.recorder.flush_call(priced).await?;

        let reply = Box::new(Reply::new(model.clone(), self.guard.output()));
        let underway = self.underway.insert(Underway::Model(reply));
        let providers = &self.sessions.platform.providers;
        let answer = providers.complete(&self.context, &permit, question).await;
        if let Underway::Model(reply) = underway {
            let stream = answer.map_err(|error| {
                reply.over = Over::failed(&error);
                Error::from(error)
            })?;
            reply
                .read(stream, to_caller.then_some(&self.events))
                .await?;
        }
        self.judge_calls().await?;
        self.replied(to_caller)
    }

    /// The client's own calls leave the house, so what is in them is judged as everything that does.
    async fn judge_calls(&mut self) -> Result<(), Error> {
        let Some(Underway::Model(reply)) = &mut self.underway else {
            return Ok(());
        };
        let mut calls: Vec<_> = reply
            .calls
            .iter_mut()
            .filter(|call| self.offer.is_client(&call.name))
            .collect();
        let texts = calls
            .iter()
            .map(|call| (Stage::Output, call.arguments.clone()))
            .collect();
        let checked = self.guard.require(&mut self.recorder, texts).await?;
        for (call, checked) in calls.iter_mut().zip(checked) {
            if let Some(masked) = arguments(checked, &call.arguments)? {
                call.arguments = masked;
            }
        }
        Ok(())
    }

    /// Notes the outcome of the reply that was read, and keeps it.
    fn replied(&mut self, to_caller: bool) -> Result<Event, Error> {
        let Some(Underway::Model(reply)) = self.underway.take() else {
            return Err(Error::internal("a reply that nobody asked for"));
        };
        reply.output.note(&mut self.recorder)?;
        let asked: Vec<_> = reply
            .calls
            .iter()
            .map(|c| json!({ "id": c.id, "name": c.name, "arguments": c.arguments }))
            .collect();
        let body = serde_json::to_vec(&json!({ "text": reply.text, "tool_calls": asked }))
            .map_err(Error::internal)?;
        self.note_reply(&reply, ("finish", json!(reply.finish)), None, body);
        let Reply {
            text,
            calls,
            finish,
            usage: spent,
            ..
        } = *reply;
        self.usage.input_tokens += spent.input_tokens;
        self.usage.cached_tokens += spent.cached_tokens;
        self.usage.output_tokens += spent.output_tokens;
        self.usage.reasoning_tokens += spent.reasoning_tokens;

        if finish == FinishReason::ContentFilter {
            return Err(Error::new(
                ErrorKind::ContentFiltered {
                    category: "provider".into(),
                },
                "the model's provider filtered its answer",
            ));
        }
        let size = bytes(&text);
        let id = self.keep_reply(text.clone(), &calls, to_caller);
        Ok(Event::Replied(agent::Reply {
            id,
            finish: match finish {
                FinishReason::Stop | FinishReason::ContentFilter => AgentFinish::Stop,
                FinishReason::Length => AgentFinish::Length,
                FinishReason::ToolCalls => AgentFinish::ToolCalls,
            },
            tool_calls: calls
                .into_iter()
                .map(|c| AgentCall {
                    id: c.id,
                    name: c.name,
                    arguments: c.arguments,
                })
                .collect(),
            usage: AgentUsage {
                input_tokens: spent.input_tokens,
                cached_tokens: spent.cached_tokens,
                output_tokens: spent.output_tokens,
                reasoning_tokens: spent.reasoning_tokens,
            },
            size,
            text: Some(text),
        }))
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
        self.underway = Some(Underway::Tools);

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
                let text = result.as_ref().unwrap_or_else(|f| &f.message);
                (Stage::ToolResult, text.clone())
            })
            .collect();
        let checked = self.guard.check_all(&mut self.recorder, texts).await?;

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
        self.underway = None;
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
                    // What the tool or its arguments say is text of people: the journal has it. Why a component failed is the guest's own log.
                    tracing::info!(tool = %call.name, code = error.code(), "a tool call failed");
                    if let ToolError::Failure(failure) = &error {
                        tracing::debug!(target: "ambit::guest", tool = %call.name, text = %failure);
                    }
                    ToolFailure { code: error.code(), message: error.message() }
                })
            }
        }
    }
}

/// Why a call has no result, for the model.
struct ToolFailure {
    code: &'static str,
    message: String,
}
