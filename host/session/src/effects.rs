//! Carrying out an agent's moves: asking models here, calling tools in `calls`, retrieving in `retrieve`. Each effect is checked against the agent's ambit; what reaches outside the host, a model or a tool, is
//! journalled as an intent before it starts; and what comes back passes the guardrail before anybody reads it.

use crate::{
    bodies,
    chat::Run,
    conversation::bad_move,
    definition::ModelName,
    guard::arguments,
    reply::{Reply, Underway},
    spending::{Extent, Over, Priced},
};
use ambit_capabilities::{
    agent::{Audience, ModelRequest, Usage as AgentUsage},
    guardrail::Stage,
};
use ambit_inference::{ChatRequest, FinishReason};
use ambit_policy::Ambit;
use ambit_types::{Error, ErrorKind};
use serde_json::json;
use std::time::Duration;

/// Options that speak of tools: they hold for the caller's question, not for what follows a tool's answer.
const TOOL_OPTIONS: [&str; 2] = ["tool_choice", "parallel_tool_calls"];

impl Run {
    /// What the agent may reach for this caller.
    pub(crate) fn ambit(&self) -> Ambit {
        let above = self.handed.iter().flat_map(|handed| &handed.layers);
        let ambit = above.fold(self.agent.ambit.clone(), |ambit, layer| {
            ambit.narrowed_by_tenant(Some(layer.clone()))
        });
        ambit.narrowed_by_caller(&self.context)
    }

    pub(crate) async fn ask_model(&mut self, request: ModelRequest) -> Result<(), Error> {
        self.within_tokens()?;
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

        let (messages, passages) = self.progress.conversation.prompt(&request.prompt)?;
        let tools = self.offer.for_model(&request.tools)?;
        let mut options = self.progress.options.clone();
        if tools.is_empty() || self.progress.model_calls > 0 {
            TOOL_OPTIONS
                .iter()
                .for_each(|name| drop(options.remove(*name)));
        }
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
        let priced = platform.priced(
            &self.tenant,
            &self.context,
            agent,
            &model,
            extent,
            self.progress.budget.is_some(),
        )?;
        let priced = priced.map(|priced| priced.below(self.above()));
        self.within_budget(&model, priced.as_ref())?;
        self.recorder.note(
            "intent",
            &[("effect", json!("model")), ("model", json!(model))],
            &intent,
        )?;
        let to_caller = request.audience == Audience::Caller;
        self.recorder.flush_call(priced).await?;
        self.progress.begun();

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
                .read(stream, self.events.as_ref().filter(|_| to_caller))
                .await?;
        }
        self.judge_calls().await?;
        self.replied()
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

    /// Tokens that models may read and write in the session and in those that it starts.
    pub(crate) fn most_tokens(&self) -> Option<u64> {
        let own = self.agent.definition.limits.tokens;
        let handed = self.handed.as_ref().and_then(|handed| handed.tokens);
        own.into_iter().chain(handed).min()
    }

    pub(crate) fn tokens_used(&self) -> u64 {
        let usage = &self.progress.usage;
        let own = usage.input_tokens.saturating_add(usage.output_tokens);
        own.saturating_add(self.progress.tokens_below)
    }

    /// Whether the session may use more tokens.
    fn within_tokens(&self) -> Result<(), Error> {
        let used = self.tokens_used();
        match self.most_tokens() {
            Some(most) if used >= most => Err(Error::new(
                ErrorKind::LimitExceeded { limit: "tokens" },
                format!("the session has used {used} tokens, and {most} are allowed"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the session may spend what a call can cost. It makes one call at a time, so what its events say is all of it.
    fn within_budget(&self, model: &ModelName, priced: Option<&Priced>) -> Result<(), Error> {
        let Some(budget) = self.progress.budget else {
            return Ok(());
        };
        let Some(priced) = priced else {
            let message = format!("`{model}` has no price, so the session's budget cannot be kept");
            return Err(Error::forbidden(message));
        };
        let (spent, most) = (self.progress.spent, priced.most());
        if spent.nanos().saturating_add(most.nanos()) <= budget.nanos() {
            return Ok(());
        }
        let message = format!(
            "the session's budget is {budget}, {spent} of it is spent, and this call may cost {most}"
        );
        let retry_after = Duration::from_secs(24 * 3600);
        Err(Error::new(
            ErrorKind::InsufficientQuota { retry_after },
            message,
        ))
    }

    /// Notes the outcome of the reply that was read, and keeps it.
    fn replied(&mut self) -> Result<(), Error> {
        let Some(Underway::Model(reply)) = self.underway.take() else {
            return Err(Error::internal("a reply that nobody asked for"));
        };
        reply.output.note(&mut self.recorder)?;
        let body = bodies::Reply {
            text: reply.text.clone(),
            tool_calls: reply.calls.clone(),
            usage: AgentUsage {
                input_tokens: reply.usage.input_tokens,
                cached_tokens: reply.usage.cached_tokens,
                output_tokens: reply.usage.output_tokens,
                reasoning_tokens: reply.usage.reasoning_tokens,
            },
        };
        let body = serde_json::to_vec(&body).map_err(Error::internal)?;
        self.note_reply(&reply, ("finish", json!(reply.finish)), None, body);
        if reply.finish == FinishReason::ContentFilter {
            return Err(filtered());
        }
        let Reply {
            text,
            calls,
            finish,
            usage,
            ..
        } = *reply;
        self.progress.replied(text, calls, finish, &usage)
    }
}

/// The provider's own filter.
fn filtered() -> Error {
    Error::new(
        ErrorKind::ContentFiltered {
            category: "provider".into(),
        },
        "the model's provider filtered its answer",
    )
}
