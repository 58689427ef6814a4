//! What the caller wrote, on its way into the session.

use crate::{
    bodies::{HandedOn, Request},
    caller::Caller,
    chat::Run,
    event::ChatMessage,
    guard::{arguments, few_enough, replacement},
};
use ambit_capabilities::guardrail::Stage;
use ambit_inference::{Message, Role};
use ambit_ledger::Money;
use ambit_types::Error;
use serde_json::json;

/// Where a text of the conversation stands: the text of a message, or the arguments of one of its calls.
struct Place {
    message: usize,
    call: Option<usize>,
}

impl Run {
    /// Judges what the caller wrote, and notes it.
    pub(crate) async fn take_in(&mut self) -> Result<(), Error> {
        let mut messages = std::mem::take(&mut self.turn.messages);
        let mut facts = vec![("agent", json!(self.agent.definition.name))];
        if let Some(key) = &self.turn.key {
            facts.push(("idempotency", json!(key.key)));
            facts.push(("idempotency_of", json!(key.request)));
        }
        if let Some(parent) = self.parent() {
            facts.push(("parent", json!(parent)));
        }
        if let Some((of, _)) = &self.tape {
            facts.push(("replay_of", json!(of)));
        }
        if let Err(error) = self.judge_messages(&mut messages).await {
            // What was refused is not kept: only that it was.
            facts.push(("refused", json!(true)));
            self.recorder.note("request", &facts, &json!({}))?;
            return Err(error);
        }
        facts.push(("component", json!(self.agent.step.digest())));
        // Whoever goes on with it goes on for whom it acts for from here on.
        let may_wait = !self.agent.definition.agents.is_empty();
        let lasts = self.events.is_none() || self.recorder.is_durable() || may_wait;
        let mut request = Request {
            messages,
            options: std::mem::take(&mut self.turn.options),
            definition: self.definition(self.agent.definition.limits.steps),
            delimiter: self.progress.conversation.delimiter().clone(),
            caller: lasts.then(|| Caller::of(&self.context.principal)),
            budget_nanos: self.turn.budget.map(Money::nanos),
            handed: self.handed.as_deref().map(|handed| HandedOn {
                tools: handed.tools.clone(),
                tokens: handed.tokens,
            }),
            metadata: std::mem::take(&mut self.turn.metadata),
        };
        self.recorder.note("request", &facts, &request)?;
        let messages = std::mem::take(&mut request.messages);
        let messages = messages.into_iter().map(Message::from).collect();
        self.progress.budget = self.turn.budget.or(self.progress.budget);
        self.progress.allow(self.agent.definition.limits.steps);
        self.progress.said(messages, request.options);
        Ok(())
    }

    /// Every text of the messages, the arguments of their calls too, in one go.
    async fn judge_messages(&mut self, messages: &mut [ChatMessage]) -> Result<(), Error> {
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for (n, message) in messages.iter().enumerate() {
            let stage = match message.role {
                Role::Tool => Stage::ToolResult,
                _ => Stage::Input,
            };
            let calls = message.tool_calls.iter().enumerate();
            let calls = calls.map(|(c, call)| (Some(c), Stage::Input, &call.arguments));
            for (call, stage, text) in [(None, stage, &message.text)].into_iter().chain(calls) {
                if !text.is_empty() {
                    places.push(Place { message: n, call });
                    texts.push((stage, text.clone()));
                }
            }
        }
        few_enough(texts.len())?;
        let checked = self.guard.require(&mut self.recorder, texts).await?;
        for (place, checked) in places.into_iter().zip(checked) {
            let message = &mut messages[place.message];
            if let Some(call) = place.call {
                let call = &mut message.tool_calls[call];
                if let Some(masked) = arguments(checked, &call.arguments)? {
                    call.arguments = masked;
                }
            } else if let Some(masked) = replacement(checked) {
                message.text = masked;
            }
        }
        Ok(())
    }
}
