//! Where a session stands: what was said, what the agent decided and what came of it.
//!
//! The same functions are told of each thing while it happens and when the journal is read again ([`crate::past`]): so a session that is
//! taken up elsewhere, or replayed, stands where it stood.

use crate::{
    chat::bytes,
    children::Below,
    conversation::{Conversation, Found, bad_move, reply_message},
};
use ambit_capabilities::{
    agent::{
        self, Audience, Decision, Event, Failure, FinishReason as AgentFinish, Move, Passage,
        Retrieval, Role as AgentRole, ToolResult, Usage as AgentUsage,
    },
    tool::ToolCall as AgentCall,
};
use ambit_inference::{FinishReason, Message, Role, ToolCall, Usage};
use ambit_ledger::Money;
use ambit_store::{digest_of, holds_exact};
use ambit_types::{ApprovalId, Error, SessionId};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};

/// The longest arguments that are read to tell calls apart, in bytes: as many as a tool takes.
const READ_AT_MOST: usize = 256 << 10;

/// The code of what nobody knows the outcome of.
pub(crate) const UNKNOWN: &str = "unknown";

pub(crate) struct Progress {
    pub(crate) conversation: Conversation,
    /// The agent's own.
    pub(crate) state: Vec<u8>,
    /// What the agent has not been told yet.
    pub(crate) news: Vec<Event>,
    /// What it is told after the calls of the current move have come to something: said while they waited for somebody's approval.
    later: Vec<Event>,
    /// Steps taken in the session.
    pub(crate) step: u32,
    /// Steps left of the turn.
    pub(crate) left: u32,
    allowance: u32,
    /// What was decided and is not carried out.
    pub(crate) current: Option<Current>,
    pub(crate) usage: Usage,
    /// Tokens that models read and wrote in sessions that this one started.
    pub(crate) tokens_below: u64,
    /// What was spent in the session and in those that it started, as its events say.
    pub(crate) spent: Money,
    /// The most that may be, where its caller bounded it.
    pub(crate) budget: Option<Money>,
    /// Fields for the provider, of the caller's.
    pub(crate) options: Map<String, Value>,
    /// Replies whose text the caller has already.
    pub(crate) streamed: BTreeSet<u64>,
    /// Calls the last reply asked for: only these may be made or handed back.
    pub(crate) last_reply_calls: Vec<ToolCall>,
    /// Of the turn.
    pub(crate) model_calls: u32,
    /// How often a tool was called with these arguments in the turn, by [`told_apart`].
    repeated: HashMap<[u8; 32], u32>,
}

/// A move that is being carried out.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) move_: Move,
    /// Parts of it that are: retrievals.
    pub(crate) done: usize,
    /// Its intent is durable; of its outcome nothing is known here.
    pub(crate) begun: bool,
    /// Its calls that somebody was asked to approve of.
    pub(crate) asked: Vec<AskedCall>,
    /// The session that it started.
    pub(crate) child: Option<SessionId>,
    /// Somebody else goes on with this session since, whom that one does not act for.
    pub(crate) abandoned: bool,
}

/// A call that somebody was asked to approve of.
#[derive(Debug, Clone)]
pub(crate) struct AskedCall {
    /// Its id.
    pub(crate) call: String,
    pub(crate) approval: ApprovalId,
    /// Why it was decided as it was.
    pub(crate) reason: Option<String>,
    /// It was begun.
    pub(crate) used: bool,
}

impl AskedCall {
    pub(crate) fn new(call: String, approval: ApprovalId) -> Self {
        Self {
            call,
            approval,
            reason: None,
            used: false,
        }
    }
}

impl Progress {
    /// `allowance`: steps of one turn.
    pub(crate) fn new(conversation: Conversation, allowance: u32) -> Self {
        Self {
            conversation,
            state: Vec::new(),
            news: Vec::new(),
            later: Vec::new(),
            step: 0,
            left: allowance,
            allowance,
            current: None,
            usage: Usage::default(),
            tokens_below: 0,
            spent: Money::ZERO,
            budget: None,
            options: Map::new(),
            streamed: BTreeSet::new(),
            last_reply_calls: Vec::new(),
            model_calls: 0,
            repeated: HashMap::new(),
        }
    }

    /// The caller said something, that passed: a turn begins.
    pub(crate) fn said(&mut self, messages: Vec<Message>, options: Map<String, Value>) {
        // What was decided on meanwhile is done, or refused, before anything else, and of what was begun is told that nobody knows its end: who waited
        // for it is to hear of it.
        let waited = self.current.as_ref();
        let waited = waited.is_some_and(|one| !one.asked.is_empty() || one.child.is_some());
        if !waited {
            self.drop_current();
        }
        self.options = options;
        self.refresh();
        for message in messages {
            let (role, size) = (agent_role(message.role), bytes(&message.text));
            let id = self.conversation.push(message);
            let message = Event::Message(agent::Message {
                id,
                role,
                size,
                text: None,
            });
            match waited {
                true => self.later.push(message),
                false => self.news.push(message),
            }
        }
    }

    /// Steps of each turn from now on.
    pub(crate) fn allow(&mut self, steps: u32) {
        self.allowance = steps;
    }

    pub(crate) fn spend(&mut self, cost: Option<Money>) {
        let nanos = cost.map_or(0, Money::nanos);
        let spent = self.spent.nanos().saturating_add(nanos);
        self.spent = Money::from_nanos(spent).unwrap_or(self.spent);
    }

    /// What a session took that this one started.
    pub(crate) fn took(&mut self, below: Below) {
        self.spend(Some(below.spent));
        self.tokens_below = self.tokens_below.saturating_add(below.tokens);
    }

    /// Whether there is something to go on with.
    pub(crate) fn has_more(&self) -> bool {
        self.current.is_some() || !self.news.is_empty()
    }

    /// Somebody goes on with the session.
    pub(crate) fn resumed(&mut self, steps: u32, by_caller: bool) {
        self.allow(steps);
        if by_caller {
            self.refresh();
        }
    }

    /// The turn was answered.
    pub(crate) fn answered(&mut self) {
        self.current = None;
    }

    /// A turn's allowance anew.
    pub(crate) fn refresh(&mut self) {
        self.left = self.allowance;
        self.model_calls = 0;
        self.repeated.clear();
    }

    /// What was decided and came to nothing is told to the agent, not tried again.
    fn drop_current(&mut self) {
        let current = self.current.take();
        self.news.append(&mut self.later);
        let Some(current) = current.filter(|current| !ends_turn(&current.move_)) else {
            return;
        };
        let (code, message) = match current.begun {
            false => ("unavailable", "it was not begun before the next message"),
            true => (
                UNKNOWN,
                "it was begun and broke off; nobody knows what it did",
            ),
        };
        self.news.push(Event::Failed(Failure {
            move_: crate::chat::move_name(&current.move_).to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
        }));
    }

    /// The agent's step was taken.
    pub(crate) fn decided(&mut self, decision: Decision) {
        self.news.clear();
        self.state = decision.state;
        self.step += 1;
        self.left = self.left.saturating_sub(1);
        self.current = Some(Current {
            move_: decision.move_,
            done: 0,
            begun: false,
            asked: Vec::new(),
            child: None,
            abandoned: false,
        });
    }

    /// Somebody has to approve of a call of the current move.
    pub(crate) fn asked(&mut self, asked: AskedCall) {
        if let Some(current) = &mut self.current {
            current.asked.push(asked);
        }
    }

    pub(crate) fn decided_on(&mut self, approval: ApprovalId, reason: Option<String>) {
        if let Some(asked) = self.asked_for(approval) {
            asked.reason = reason;
        }
    }

    /// The current move is begun with this approval.
    pub(crate) fn used(&mut self, approval: ApprovalId) {
        if let Some(asked) = self.asked_for(approval) {
            asked.used = true;
        }
    }

    /// Whether whoever listens was told something by a model.
    pub(crate) fn has_streamed(&self) -> bool {
        let mut texts = self.streamed.iter();
        texts.any(|id| {
            let text = self.conversation.text(*id);
            text.is_ok_and(|text| !text.is_empty())
        })
    }

    fn asked_for(&mut self, approval: ApprovalId) -> Option<&mut AskedCall> {
        let current = self.current.as_mut()?;
        let mut asked = current.asked.iter_mut();
        asked.find(|asked| asked.approval == approval)
    }

    /// What the current move asked somebody to approve of.
    pub(crate) fn approvals(&self) -> Vec<ApprovalId> {
        let asked = self.current.iter().flat_map(|current| &current.asked);
        asked.map(|asked| asked.approval).collect()
    }

    /// The call that an approval was asked for.
    pub(crate) fn call_of(&self, approval: ApprovalId) -> Option<AgentCall> {
        let current = self.current.as_ref()?;
        let mut asked = current.asked.iter();
        let asked = asked.find(|asked| asked.approval == approval)?;
        match &current.move_ {
            Move::CallTools(calls) => calls.iter().find(|call| call.id == asked.call).cloned(),
            _ => None,
        }
    }

    /// The current move started a session.
    pub(crate) fn started(&mut self, child: SessionId) {
        if let Some(current) = &mut self.current {
            current.child = Some(child);
        }
    }

    /// Somebody else goes on: what was started is not waited for any more.
    pub(crate) fn abandon(&mut self) {
        if let Some(current) = &mut self.current {
            current.abandoned = current.child.is_some();
        }
    }

    /// The session that the current move started.
    pub(crate) fn child(&self) -> Option<SessionId> {
        self.current.as_ref()?.child
    }

    pub(crate) fn begun(&mut self) {
        if let Some(current) = &mut self.current {
            current.begun = true;
        }
    }

    /// A model call ended without a reply, and may be made again.
    pub(crate) fn do_again(&mut self) {
        if let Some(current) = &mut self.current {
            current.begun = false;
        }
    }

    /// Nobody knows what the model answered.
    pub(crate) fn reply_unknown(&mut self) {
        let asked =
            |current: &mut Current| current.begun && matches!(current.move_, Move::AskModel(_));
        if self.current.take_if(asked).is_none() {
            return;
        }
        self.news.push(Event::Failed(Failure {
            move_: "ask-model".to_owned(),
            code: UNKNOWN.to_owned(),
            message: "the process ended while the model was asked; nobody knows what it answered"
                .to_owned(),
        }));
    }

    pub(crate) fn replied(
        &mut self,
        text: String,
        calls: Vec<ToolCall>,
        finish: FinishReason,
        spent: &Usage,
    ) -> Result<(), Error> {
        let current = self.current.take();
        let Some(Move::AskModel(request)) = current.map(|current| current.move_) else {
            return Err(Error::internal("a reply that nobody asked for"));
        };
        self.model_calls += 1;
        self.usage = self.usage.plus(spent);
        self.last_reply_calls = calls.clone();
        let reply = reply_message(text.clone(), calls.clone());
        let id = self.conversation.push(reply);
        if request.audience == Audience::Caller {
            self.streamed.insert(id);
        }
        self.news.push(Event::Replied(agent::Reply {
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
            size: bytes(&text),
            text: Some(text),
        }));
        Ok(())
    }

    /// How often the turn has called a tool with these arguments, this time included.
    pub(crate) fn count_call(&mut self, call: &AgentCall) -> u32 {
        let count = self.repeated.entry(told_apart(call)).or_default();
        *count += 1;
        *count
    }

    /// What came back of the calls of the current move, in their order.
    pub(crate) fn returned(&mut self, results: Vec<(bool, String)>) -> Result<(), Error> {
        let current = self.current.take();
        let Some(Move::CallTools(calls)) = current.map(|current| current.move_) else {
            return Err(Error::internal("results of tools that nobody called"));
        };
        for (call, (ok, text)) in calls.into_iter().zip(results) {
            let size = bytes(&text);
            let message = Message {
                tool_call_id: Some(call.id.clone()),
                ..Message::new(Role::Tool, text)
            };
            let id = self.conversation.push(message);
            self.news.push(Event::ToolReturned(ToolResult {
                id,
                call_id: call.id,
                name: call.name,
                ok,
                size,
            }));
        }
        self.news.append(&mut self.later);
        Ok(())
    }

    /// The current move's next retrieval came to this.
    pub(crate) fn retrieved(&mut self, found: Result<Vec<Found>, Failure>) -> Result<(), Error> {
        let Some(current) = &mut self.current else {
            return Err(Error::internal("passages that nobody asked for"));
        };
        let Move::Retrieve(requests) = &current.move_ else {
            return Err(Error::internal("passages that nobody asked for"));
        };
        let Some(request) = requests.get(current.done) else {
            return Err(bad_move("more was found than was asked for".into()));
        };
        let collection = request.collection.clone();
        current.done += 1;
        if current.done == requests.len() {
            self.current = None;
        }
        let event = match found {
            Err(failure) => Event::Failed(failure),
            Ok(found) => {
                let passages = found
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
                Event::Retrieved(Retrieval {
                    id: self.conversation.push_passages(found),
                    collection,
                    passages,
                })
            }
        };
        self.news.push(event);
        Ok(())
    }
}

/// What calls are told apart by: their tools, and their arguments in canonical form (RFC 8785), so that another spelling makes no other call. Where
/// that does not say all of them exactly, and where they are no JSON or longer than any tool takes, as they were written. A hash of it: a
/// turn may have many long ones.
fn told_apart(call: &AgentCall) -> [u8; 32] {
    let arguments = &*call.arguments;
    let read = Some(arguments).filter(|text| text.len() <= READ_AT_MOST);
    let value = read.and_then(|text| serde_json::from_str(text).ok());
    let value = value.filter(holds_exact);
    let canonical = value.and_then(|value| serde_json_canonicalizer::to_string(&value).ok());
    let arguments = canonical.as_deref().unwrap_or(arguments);
    let name = &call.name;
    digest_of(format!("{}:{name}{arguments}", name.len()).as_bytes()).0
}

/// Whether nothing follows it in its turn.
pub(crate) fn ends_turn(move_: &Move) -> bool {
    matches!(move_, Move::Finish(_) | Move::HandBack(_))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a name ends is no matter of what follows it.
    #[test]
    fn calls_of_two_tools_are_two() {
        let call = |name: &str, arguments: &str| AgentCall {
            id: "call_1".to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(told_apart(&call("a", "1")), told_apart(&call("a", "1")));
        assert_ne!(told_apart(&call("a", "1")), told_apart(&call("b", "1")));
        assert_ne!(told_apart(&call("a", "b{")), told_apart(&call("ab", "{")));
    }

    /// How often the last of these calls of one tool was made, itself included.
    #[track_caller]
    fn check(arguments: &[&str], expected: u32) {
        let mut progress = Progress::new(Conversation::new(), 1);
        let count = |arguments: &&str| {
            progress.count_call(&AgentCall {
                id: "call_1".to_owned(),
                name: "pay".to_owned(),
                arguments: (*arguments).to_owned(),
            })
        };
        let counts: Vec<_> = arguments.iter().map(count).collect();
        assert_eq!(counts.last(), Some(&expected), "{arguments:?}");
    }

    #[test]
    fn a_call_is_the_same_however_it_is_spelled() {
        check(
            &[
                r#"{"a":1,"b":"x"}"#,
                " {\"b\" :\n\"x\", \"a\": 1}",
                r#"{"b":"\u0078","a":1.0}"#,
            ],
            3,
        );
        check(&[r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#], 1);
        check(&[r#"{"a":1}"#, r#"{"a":"1"}"#], 1);
        // The canonical form would round these to the same number.
        check(
            &[r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#],
            1,
        );
        // No JSON is the same word for word only.
        check(&["{", "{", "{ "], 1);
        check(&["{", "{"], 2);
        let long = |space: &str| format!("[{space}\"{}\"]", "x".repeat(READ_AT_MOST));
        check(&[&long(""), &long(" ")], 1);
        check(&[&long(" "), &long(" ")], 2);
    }
}
