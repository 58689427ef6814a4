//! Which calls need an approval, and asking for it.

use super::{Approvals, KIND};
use crate::{
    bodies, caller::Caller, calls::ToolFailure, chat::Run, library::now_ms, progress::AskedCall,
    tools::Source,
};
use ambit_capabilities::tool::{ToolCall as AgentCall, ToolError};
use ambit_store::{ApprovalOp, Bound, Digest, NewApproval, digest_of, holds_exact};
use ambit_types::{AgentName, ApprovalId, Error, ErrorKind};
use serde_json::{Value, json};

/// What a call needs.
pub(super) struct Need {
    /// Its arguments as its component will read them, in canonical form (RFC 8785).
    arguments: String,
    policy: Digest,
    /// `irreversible`, or the number of a rule.
    why: String,
}

impl Run {
    /// None: it may be made without anybody's approval.
    pub(super) async fn need(&self, call: &AgentCall) -> Result<Option<Need>, ToolFailure> {
        let reversible = match self.offer.source(&call.name) {
            Some(Source::Host { reversible, .. }) => *reversible,
            Some(Source::Agent(_)) => true,
            Some(Source::Client) | None => return Ok(None),
        };
        if reversible && !self.rules().any(|(_, rules)| rules.concern(&call.name)) {
            return Ok(None);
        }
        let failure = |error: ToolError| ToolFailure {
            code: error.code(),
            message: error.message(),
        };
        let (arguments, terms) = match self.offer.source(&call.name) {
            Some(Source::Host {
                toolbox, narrowing, ..
            }) => {
                let arguments = toolbox.arguments(call).await.map_err(failure)?;
                (arguments, toolbox.terms(narrowing))
            }
            // Who is asked, and what he is.
            Some(Source::Agent(name)) => {
                let asked = self.tenant.agents.get(name);
                (
                    call.arguments.clone(),
                    json!(asked.map(|one| &one.definition)),
                )
            }
            Some(Source::Client) | None => return Ok(None),
        };
        let invalid = |why: &str| ToolFailure {
            code: "invalid",
            message: format!("the arguments of `{}` {why}", call.name),
        };
        let value: Value =
            serde_json::from_str(&arguments).map_err(|_| invalid("are not valid JSON"))?;
        let rule = self.rules().find_map(|(whose, rules)| {
            let rule = rules.of(&call.name, &value)?;
            Some(match whose {
                Some(agent) => format!("rule {rule} of {agent}"),
                None => format!("rule {rule}"),
            })
        });
        let why = match (reversible, rule) {
            (false, _) => "irreversible".to_owned(),
            (true, Some(rule)) => rule,
            (true, None) => return Ok(None),
        };
        if !holds_exact(&value) {
            let why = "hold a whole number beyond 2^53 - 1, which nobody can be asked about exactly; give it as a text";
            return Err(invalid(why));
        }
        let rules: Vec<_> = self.rules().map(|(_, rules)| rules).collect();
        let rules = match &rules[..] {
            [own] => json!(own),
            all => json!(all),
        };
        let policy = json!({ "approvals": rules, "tool": terms });
        let canonical = |value: &Value| {
            let text = serde_json_canonicalizer::to_string(value);
            text.map_err(|_| invalid("have no canonical form"))
        };
        Ok(Some(Need {
            arguments: canonical(&value)?,
            policy: digest_of(canonical(&policy)?.as_bytes()),
            why,
        }))
    }

    /// The rules of its agent, and those of the agents above it: whatever one of them wants approved of is.
    fn rules(&self) -> impl Iterator<Item = (Option<&AgentName>, &Approvals)> {
        let above = self.handed.iter().flat_map(|handed| &handed.approvals);
        let above = above.map(|(agent, rules)| (Some(agent), rules));
        std::iter::once((None, &self.agent.definition.approvals)).chain(above)
    }

    pub(super) async fn bound(&self, need: &Need) -> Result<Bound, Error> {
        let arguments = self.keyed(&need.arguments).await?;
        let policy = need.policy;
        Ok(Bound { arguments, policy })
    }

    async fn keyed(&self, text: &str) -> Result<Digest, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let digest = store.keyed_digest(self.session, text.as_bytes()).await?;
        let erased = || Error::new(ErrorKind::Conflict, "the session's content was erased");
        digest.ok_or_else(erased)
    }

    fn new_approval(&self, tool: &str, bound: Bound) -> NewApproval {
        let now = now_ms();
        let expires = self.rules().map(|(_, rules)| rules.expires).min();
        let expires = expires.unwrap_or_default().saturating_mul(1000);
        let expires = i64::try_from(expires).unwrap_or(i64::MAX);
        NewApproval {
            id: ApprovalId::new(),
            agent: self.agent.definition.name.as_str().into(),
            principal: self.context.principal.id.as_str().into(),
            tool: tool.into(),
            bound,
            by_another: self.rules().any(|(_, rules)| rules.by_another),
            created_ms: now,
            expires_ms: now.saturating_add(expires),
        }
    }

    /// Calls of what cannot be undone that are refused without anybody being asked: they are attempts too.
    pub(super) fn attempts<'a>(
        &self,
        calls: &'a [AgentCall],
        refused: &[Option<ToolFailure>],
    ) -> Vec<(&'a AgentCall, &'static str)> {
        let irreversible = |call: &AgentCall| {
            matches!(
                self.offer.source(&call.name),
                Some(Source::Host {
                    reversible: false,
                    ..
                })
            )
        };
        let attempts = calls.iter().zip(refused);
        let attempts = attempts.filter_map(|(call, refused)| {
            let refused = refused.as_ref().filter(|_| irreversible(call))?;
            Some((call, refused.code))
        });
        attempts.collect()
    }

    /// Asks for approvals and notes attempts: all of it is durable with the session's rest, or none is.
    pub(super) async fn ask(
        &mut self,
        wanted: Vec<(&AgentCall, Need)>,
        attempts: Vec<(&AgentCall, &'static str)>,
    ) -> Result<(), Error> {
        if wanted.is_empty() && attempts.is_empty() {
            return Ok(());
        }
        // The session's key is in its row. After this nothing is waited for.
        self.recorder.flush().await?;
        let mut bounds = Vec::with_capacity(wanted.len());
        for (_, need) in &wanted {
            bounds.push(self.bound(need).await?);
        }
        let mut attempted = Vec::with_capacity(attempts.len());
        for (call, _) in &attempts {
            attempted.push(Bound {
                arguments: self.keyed(&call.arguments).await?,
                policy: Digest::default(),
            });
        }
        for ((call, code), bound) in attempts.into_iter().zip(attempted) {
            self.note_attempt(call, code, bound)?;
        }
        for ((call, need), bound) in wanted.into_iter().zip(bounds) {
            self.note_question(call, need, bound)?;
        }
        Ok(())
    }

    fn note_question(&mut self, call: &AgentCall, need: Need, bound: Bound) -> Result<(), Error> {
        let new = self.new_approval(&call.name, bound);
        let facts = [
            ("action", json!("asked")),
            ("approval", json!(new.id)),
            ("tool", json!(call.name)),
            ("arguments", json!(bound.arguments)),
            ("policy", json!(bound.policy)),
            ("why", json!(need.why)),
            ("by_another", json!(new.by_another)),
            ("expires_ms", json!(new.expires_ms)),
        ];
        let caller = !self.recorder.is_durable();
        let body = bodies::Asked {
            call: call.id.clone(),
            arguments: need.arguments,
            caller: caller.then(|| Caller::of(&self.context.principal)),
        };
        self.recorder.note(KIND, &facts, &body)?;
        self.progress.asked(AskedCall::new(call.id.clone(), new.id));
        self.recorder.approvals([ApprovalOp::Ask(new)]);
        Ok(())
    }

    fn note_attempt(&mut self, call: &AgentCall, code: &str, bound: Bound) -> Result<(), Error> {
        let new = self.new_approval(&call.name, bound);
        let facts = [
            ("action", json!("refused")),
            ("approval", json!(new.id)),
            ("tool", json!(call.name)),
            ("why", json!("irreversible")),
            ("code", json!(code)),
        ];
        let body = bodies::Asked {
            call: call.id.clone(),
            arguments: call.arguments.clone(),
            caller: None,
        };
        self.recorder.note(KIND, &facts, &body)?;
        let refused = ApprovalOp::Refuse(new, code.into());
        self.recorder.approvals([refused]);
        Ok(())
    }
}
