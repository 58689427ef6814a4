//! Starting a child: what it is asked, and what it has.

use crate::{
    calls::ToolFailure,
    chat::{Run, Sessions, not_good},
    event::{ChatMessage, ChatTurn},
    tenants::LiveAgent,
    tools::Source,
    turn::Start,
};
use ambit_capabilities::tool::ToolCall as AgentCall;
use ambit_inference::Role;
use ambit_ledger::Money;
use ambit_policy::Permissions;
use ambit_types::{CallContext, Error, ErrorKind, RequestId, SessionId};
use serde::Deserialize;
use std::{sync::Arc, time::Instant};

/// What an agent is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    input: String,
    /// In units.
    budget: Option<String>,
}

impl Run {
    /// Starts the session `child` for a call. The inner error is for the model, and there is no such session.
    ///
    /// # Errors
    /// The journal's.
    pub(super) async fn open_child(
        &self,
        call: &AgentCall,
        child: SessionId,
    ) -> Result<Result<(), ToolFailure>, Error> {
        let failure = |code, message: String| Ok(Err(ToolFailure { code, message }));
        let (question, asked) = match question(call) {
            Ok(question) => question,
            Err(why) => {
                let message = format!("the arguments of `{}` are not valid: {why}", call.name);
                return failure("invalid", message);
            }
        };
        let agent = match self.offer.source(&call.name) {
            Some(Source::Agent(name)) => self.tenant.agents.get(name).cloned(),
            _ => None,
        };
        let Some(agent) = agent else {
            return failure("denied", format!("there is no agent `{}`", call.name));
        };
        let name = &agent.definition.name;
        let handed = self.sessions.handed(&self.tenant, name, self.session);
        let mut handed = match handed.await {
            Err(error) if is_final(&error) => return failure("denied", error.message().to_owned()),
            handed => handed?,
        };
        if let Some(tools) = self.tools_left() {
            handed.tools.retain(|tool| tools.contains(tool));
        }
        let used = self.tokens_used();
        handed.tokens = self.most_tokens().map(|most| most.saturating_sub(used));
        let principal = match self.hand_over(child, &agent).await {
            Err(error) if is_final(&error) => return failure("denied", error.message().to_owned()),
            principal => principal?,
        };
        let left = self.progress.budget.map(|budget| {
            let left = budget.nanos().saturating_sub(self.progress.spent.nanos());
            Money::from_nanos(left.max(0)).unwrap_or(Money::ZERO)
        });
        let message = ChatMessage {
            role: Role::User,
            text: question,
            tool_calls: Vec::new(),
            tool_call_id: None,
        };
        let turn = ChatTurn {
            messages: vec![message],
            budget: left.into_iter().chain(asked).min(),
            ..ChatTurn::default()
        };
        let context = CallContext {
            principal,
            request: RequestId::new(),
            session: None,
            agent: None,
            // What it costs is its own.
            cpu: None,
            deadline: Instant::now() + agent.definition.limits.deadline(),
            ..self.context.clone()
        };
        let sessions = &self.sessions;
        let mut run = sessions.run(child, context, self.tenant.clone(), agent, turn);
        run.recorder = run.recorder.durable();
        run.hand(handed);
        let opened = sessions.work_apart(run, Start::New).await;
        if let Err(error) = opened {
            let store = self.sessions.platform.store.tenant(self.tenant.id);
            // What was refused is on record, and so is one that is there already, or is just being opened.
            let there = store.session(child).await?.is_some() || sessions.at_work.has(child);
            if !there {
                return Err(error);
            }
        }
        Ok(Ok(()))
    }

    /// Whom the child acts for: the same principal, with no more than this session has.
    async fn hand_over(
        &self,
        child: SessionId,
        agent: &LiveAgent,
    ) -> Result<Arc<ambit_types::Principal>, Error> {
        let _acting = self.ambit().acting().map_err(not_good)?;
        let Some(tokens) = &self.sessions.platform.tokens else {
            let why = "this installation has no key to sign capability tokens with, so nothing can be handed to another agent";
            return Err(Error::forbidden(why));
        };
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let to = (child, &agent.definition.name);
        let layers = self.layers_to_hand_on();
        tokens
            .hand_over(&store, &self.tenant, &self.context, to, layers)
            .await
    }

    /// What the child is narrowed to: in models and collections every layer of this agent's. What tools reach their own layers bound, which are the
    /// same for both agents; so of the rest it is what any tool of this session may ask for.
    fn layers_to_hand_on(&self) -> Vec<Arc<Permissions>> {
        let mut of_tools = Permissions::default();
        for (_, bound) in self.agent.tools_within(self.tools_left()) {
            let asks = bound.toolbox.asks();
            of_tools.http.extend_from_slice(&asks.http);
            of_tools.keyvalue.extend_from_slice(&asks.keyvalue);
            of_tools.config.extend_from_slice(&asks.config);
            of_tools.secrets.extend_from_slice(&asks.secrets);
        }
        let mut layers: Vec<Arc<Permissions>> = Vec::new();
        for (_, layer) in self.agent.ambit.layers() {
            let layer = Permissions {
                models: layer.models.clone(),
                collections: layer.collections.clone(),
                ..of_tools.clone()
            };
            if !layers.iter().any(|known| **known == layer) {
                layers.push(Arc::new(layer));
            }
        }
        layers
    }
}

impl Sessions {
    /// As [`Sessions::work`]. A turn that starts another one would hold itself otherwise.
    pub(crate) fn work_apart(
        &self,
        run: Run,
        start: Start,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        Box::pin(self.work(run, start))
    }
}

/// Whether it is so whenever it is tried.
fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Forbidden | ErrorKind::Invalid { .. } | ErrorKind::NotFound
    )
}

fn question(call: &AgentCall) -> Result<(String, Option<Money>), String> {
    let asked = serde_json::from_str::<Question>(&call.arguments);
    let Question { input, budget } = asked.map_err(|error| error.to_string())?;
    if input.trim().is_empty() {
        return Err("`input` is empty".to_owned());
    }
    let budget = budget.map(|budget| {
        let budget = budget.parse::<Money>();
        budget.map_err(|error| format!("`budget`: {error}"))
    });
    Ok((input, budget.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_writes_is_read_or_named() {
        let read = |arguments: &str| {
            question(&AgentCall {
                id: "1".into(),
                name: "ask_x".into(),
                arguments: arguments.into(),
            })
        };
        let budget = Money::from_nanos(500_000_000);
        let whole = read(r#"{"input":"why?","budget":"0.50"}"#).unwrap();
        assert_eq!(whole, ("why?".to_owned(), budget));
        assert_eq!(read(r#"{"input":"why?"}"#).unwrap().1, None);
        for (bad, word) in [
            ("", "EOF"),
            ("{}", "input"),
            ("[]", "expected"),
            (r#"{"input":" "}"#, "empty"),
            (r#"{"input":"a","model":"b"}"#, "model"),
            (r#"{"input":"a","budget":"-1"}"#, "budget"),
            (r#"{"input":"a","budget":"much"}"#, "budget"),
            (r#"{"input":"a","budget":1}"#, "string"),
        ] {
            let why = read(bad).unwrap_err();
            assert!(why.contains(word), "{bad}: {why}");
        }
    }
}
