//! What the caller wrote, on its way into the session.

use crate::{
    chat::{Run, bytes},
    event::ChatMessage,
    guard::{arguments, few_enough, replacement},
};
use ambit_capabilities::{
    agent::{Event, Message as NewMessage, Role as AgentRole},
    guardrail::Stage,
};
use ambit_inference::{Message, Role};
use ambit_types::Error;
use serde_json::json;

/// Where a text of the conversation stands: the text of a message, or the arguments of one of its calls.
struct Place {
    message: usize,
    call: Option<usize>,
}

impl Run {
    /// Judges what the caller wrote and numbers it.
    pub(crate) async fn take_in(&mut self) -> Result<Vec<Event>, Error> {
        let mut messages = std::mem::take(&mut self.turn.messages);
        if let Err(error) = self.judge_messages(&mut messages).await {
            // What was refused is not kept: only that it was.
            self.recorder.note(
                "request",
                &[
                    ("agent", json!(self.agent.definition.name)),
                    ("refused", json!(true)),
                ],
                &json!({}),
            )?;
            return Err(error);
        }
        let body = json!({ "messages": messages, "tools": self.offer.client_names(), "options": self.turn.options });
        self.recorder.note(
            "request",
            &[("agent", json!(self.agent.definition.name))],
            &body,
        )?;
        Ok(messages
            .into_iter()
            .map(|message| {
                let (role, size) = (agent_role(message.role), bytes(&message.text));
                let message = Message {
                    role: message.role,
                    text: message.text,
                    tool_calls: message.tool_calls,
                    tool_call_id: message.tool_call_id,
                };
                Event::Message(NewMessage {
                    id: self.conversation.push(message),
                    role,
                    size,
                    text: None,
                })
            })
            .collect())
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

fn agent_role(role: Role) -> AgentRole {
    match role {
        Role::System => AgentRole::System,
        Role::Developer => AgentRole::Developer,
        Role::User => AgentRole::User,
        Role::Assistant => AgentRole::Assistant,
        Role::Tool => AgentRole::Tool,
    }
}
