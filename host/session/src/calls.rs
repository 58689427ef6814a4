//! Carrying out the calls of tools that an agent decided on: each is held against what the model asked for, what somebody approved of, and what was begun.

use crate::{
    approvals::{Passes, WAITS},
    bodies::Returned,
    chat::Run,
    children::{Asking, CHILD},
    conversation::bad_move,
    progress::UNKNOWN,
    replay::Tape,
    reply::{CALLS_AT_MOST, Underway},
    tools::Source,
};
use ambit_capabilities::{
    guardrail::{Checked, Stage},
    tool::{ToolCall as AgentCall, ToolError},
};
use ambit_types::Error;
use futures::future::join_all;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// What tools that are called together may answer together, in bytes of the event that records it: half of what the journal takes at once.
const ANSWERS_AT_MOST: usize = 32 << 20;

impl Run {
    /// What they wait for, where they are not called yet: somebody has to approve of one, or of a call in a session that one started.
    ///
    /// `begun`: by a process that ended before it knew what they came to. What can be made again without doing anything twice is; of the rest
    /// nobody knows, and the agent is told so.
    pub(crate) async fn call_tools(
        &mut self,
        calls: Vec<AgentCall>,
        begun: bool,
    ) -> Result<Option<&'static str>, Error> {
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
        // Those beyond what may be called at once are for another time; what was begun is counted already.
        let counted = match begun {
            true => 0,
            false => calls
                .len()
                .min(self.agent.definition.limits.parallel_tools as usize),
        };
        let times: Vec<_> = calls
            .iter()
            .enumerate()
            .map(|(place, call)| match place < counted {
                true => self.progress.count_call(call),
                false => 0,
            })
            .collect();
        let alone = calls.len() == 1;
        let mut refused: Vec<_> = calls
            .iter()
            .zip(times)
            .enumerate()
            .map(|(place, (call, times))| self.refused(place, call, times, begun, alone))
            .collect();
        let passes = match &self.tape {
            Some(_) => Passes::new(),
            None => match self.clear(&calls, &mut refused, begun).await? {
                Some(passes) => passes,
                None => return Ok(Some(WAITS)),
            },
        };
        let mut facts = vec![("effect", json!("tools")), ("counted", json!(counted))];
        if !passes.is_empty() {
            facts.push(("approvals", json!(passes.values().collect::<Vec<_>>())));
        }
        let child = self.child_of(&calls, &refused);
        let mut below = None;
        if let (None, Some(child)) = (child, self.progress.child()) {
            // What was asked is not to be asked any more.
            below = Some(self.give_up_on(child).await?);
        }
        facts.extend(child.map(|child| ("child", json!(child))));
        self.recorder.note("intent", &facts, &body)?;
        self.recorder.flush().await?;
        self.progress.begun();
        child.into_iter().for_each(|id| self.progress.started(id));

        let mut _outside = None;
        let results = match (&mut self.tape, child) {
            (Some((_, tape)), _) => calls.iter().map(|call| played(tape, call)).collect(),
            // Whatever becomes of this one, that goes on and can be waited for again.
            (None, Some(child)) => match self.ask_agent(&calls[0], child).await? {
                Asking::Waits => return Ok(Some(CHILD)),
                Asking::Over { answer, took } => {
                    below = Some(took);
                    vec![answer]
                }
            },
            (None, None) => {
                self.underway = Some(Underway::Tools);
                _outside = Some(Outside::new(&self.outside));
                let each = calls.iter().zip(refused).enumerate();
                let each = each.map(|(place, (call, refused))| {
                    self.call_tool(call, refused, passes.contains_key(&place))
                });
                join_all(each).await
            }
        };
        let mut room = ANSWERS_AT_MOST;
        let texts = results
            .iter()
            .map(|result| {
                let text = result.as_ref().unwrap_or_else(|f| &f.message);
                // What there is no room for nobody judges, and nobody reads.
                let fits = takes(&mut room, text);
                (Stage::ToolResult, fits.then(|| text.clone()))
            })
            .collect();
        let checked = self.judge_results(texts).await;

        let mut outcome = Vec::with_capacity(calls.len());
        let mut room = ANSWERS_AT_MOST;
        for ((call, result), checked) in calls.into_iter().zip(&results).zip(checked) {
            // Masks may be longer than what they stand for.
            let checked = match checked {
                Judged::Passed(checked) if !takes(&mut room, &checked.text) => Judged::TooMuch,
                checked => checked,
            };
            let code = match (result, &checked) {
                (Ok(_), Judged::TooMuch) => "limit",
                (Ok(_), _) => "ok",
                (Err(failure), _) => failure.code,
            };
            self.sessions.observer.tool_call(
                &self.context.tenant_slug,
                &self.agent.definition.name,
                code,
            );
            let (content, ok) = match checked {
                Judged::Passed(Checked {
                    rejection: Some(rejection),
                    ..
                }) => (
                    format!(
                        "The result was withheld by the guardrail ({}).",
                        rejection.category
                    ),
                    false,
                ),
                Judged::Passed(checked) => (checked.text, result.is_ok()),
                Judged::TooMuch => (
                    "The tool answered with more than there is room for; ask for less.".to_owned(),
                    false,
                ),
                Judged::Failed => (
                    "The result is withheld, because the guardrail could not judge it.".to_owned(),
                    false,
                ),
            };
            outcome.push(Returned {
                id: call.id,
                code: code.to_owned(),
                ok,
                content,
            });
        }
        let unknown = outcome.iter().any(|one| one.code == UNKNOWN);
        let mut facts = vec![("effect", json!("tools"))];
        if unknown {
            facts.push(("code", json!(UNKNOWN)));
        }
        if let Some(below) = below {
            facts.extend(below.facts());
            self.progress.took(below);
        }
        self.recorder.note("outcome", &facts, &outcome)?;
        for (place, approval) in &passes {
            self.note_end(*approval, &outcome[*place].code);
        }
        if !passes.is_empty() {
            // What cannot be undone is on record before anything else is done.
            self.recorder.flush().await?;
        }
        self.underway = None;
        let results = outcome.into_iter().map(|one| (one.ok, one.content));
        self.progress.returned(results.collect())?;
        Ok(None)
    }

    /// What tools did is on record whatever becomes of its judgement: where the guardrail fails, nobody reads what they answered.
    async fn judge_results(&mut self, texts: Vec<(Stage, Option<String>)>) -> Vec<Judged> {
        let fits: Vec<_> = texts.iter().map(|(_, text)| text.is_some()).collect();
        let texts = texts.into_iter();
        let texts = texts.filter_map(|(stage, text)| Some((stage, text?)));
        let texts: Vec<_> = texts.collect();
        let mut judged = match self.guard.check_all(&mut self.recorder, texts).await {
            Ok(checked) => checked.into_iter().map(Judged::Passed).collect(),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "results of tools could not be judged, and are withheld"
                );
                Vec::new()
            }
        }
        .into_iter();
        let each = fits.into_iter().map(|fits| match fits {
            true => judged.next().unwrap_or(Judged::Failed),
            false => Judged::TooMuch,
        });
        each.collect()
    }

    /// Why a call is not made, before anybody asks whether it may be.
    fn refused(
        &self,
        place: usize,
        call: &AgentCall,
        times: u32,
        begun: bool,
        alone: bool,
    ) -> Option<ToolFailure> {
        // Only what the model asked for in its last reply, word for word: an agent invents no calls, and asks nobody to approve of any.
        if !self.progress.last_reply_calls.iter().any(|asked| {
            asked.id == call.id && asked.name == call.name && asked.arguments == call.arguments
        }) {
            return Some(ToolFailure {
                code: "denied",
                message: format!("no reply asked for this call of `{}`", call.name),
            });
        }
        let limits = &self.agent.definition.limits;
        let (at_once, same) = (limits.parallel_tools, limits.same_call);
        if place >= at_once as usize {
            return Some(ToolFailure {
                code: "limit",
                message: format!(
                    "at most {at_once} tools can be called at once; call this one again"
                ),
            });
        }
        if times > same {
            return Some(ToolFailure {
                code: "repeated",
                message: format!(
                    "`{}` was called with these very arguments {same} times already; calling it again changes nothing",
                    call.name
                ),
            });
        }
        let again = match self.offer.source(&call.name) {
            Some(Source::Host { idempotent, .. }) => *idempotent,
            Some(Source::Agent(_)) if !alone => {
                return Some(ToolFailure {
                    code: "limit",
                    message: format!(
                        "`{}` waits for another agent, so it is called alone; call it again by itself",
                        call.name
                    ),
                });
            }
            Some(Source::Agent(_)) if self.is_abandoned() => {
                return Some(ToolFailure {
                    code: UNKNOWN,
                    message: format!(
                        "somebody else goes on with this session, so what `{}` asked is not waited for any more",
                        call.name
                    ),
                });
            }
            // The session that it started is there, or can still be started.
            Some(Source::Agent(_)) => self.goes_on(call),
            Some(Source::Client) | None => false,
        };
        (begun && !again).then(|| unknown(call))
    }

    /// One call. A failure is for the model to read; it never ends the request.
    async fn call_tool(
        &self,
        call: &AgentCall,
        refused: Option<ToolFailure>,
        approved: bool,
    ) -> Result<String, ToolFailure> {
        if let Some(refused) = refused {
            return Err(refused);
        }
        match self.offer.source(&call.name) {
            None | Some(Source::Client | Source::Agent(_)) => Err(ToolFailure {
                code: "denied",
                message: format!("there is no tool `{}` to call", call.name),
            }),
            Some(Source::Host {
                reversible: false, ..
            }) if !approved => Err(ToolFailure {
                code: "denied",
                message: format!("nobody approved of this call of `{}`", call.name),
            }),
            Some(Source::Host {
                toolbox, narrowing, ..
            }) => {
                // The same for the same call whoever makes it again, and another one for any other: what a tool may hand on as its idempotency key.
                let call = AgentCall {
                    id: format!("{}-{}-{}", self.session, self.progress.step, call.id),
                    ..call.clone()
                };
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

/// What a tool answered, as far as it may be read.
enum Judged {
    Passed(Checked),
    /// There is no room for it.
    TooMuch,
    Failed,
}

/// Whether there is room for a text; then it is taken.
fn takes(room: &mut usize, text: &str) -> bool {
    let left = room.checked_sub(in_json(text));
    *room = left.unwrap_or(*room);
    left.is_some()
}

/// Bytes of a text in JSON, without its quotes.
fn in_json(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..0x20 => 6,
        _ => 1,
    });
    bytes.sum()
}

/// What the journal has of a call that is made again.
fn played(tape: &mut Tape, call: &AgentCall) -> Result<String, ToolFailure> {
    match tape.returned(call) {
        Some((true, content)) => Ok(content),
        Some((false, message)) => Err(ToolFailure {
            code: "failed",
            message,
        }),
        None => Err(ToolFailure {
            code: "not_recorded",
            message: format!(
                "The journal has no call of `{}` with these arguments, and a replay calls no tools.",
                call.name
            ),
        }),
    }
}

/// Says while it lives that tools are at work: what they do cannot be taken back, so a server that stops waits for them.
struct Outside(Arc<AtomicBool>);

impl Outside {
    fn new(flag: &Arc<AtomicBool>) -> Self {
        flag.store(true, Relaxed);
        Self(flag.clone())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// Why a call has no result, for the model.
pub(crate) struct ToolFailure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Of a call that a process made which is no more.
pub(crate) fn unknown(call: &AgentCall) -> ToolFailure {
    ToolFailure {
        code: UNKNOWN,
        message: format!(
            "The process ended while `{}` was called. It may have done its work or not; it is not called again.",
            call.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::in_json;

    #[test]
    fn a_texts_bytes_in_json_are_counted_as_they_are_written() {
        let controls: String = (0..0x80u8).map(char::from).collect();
        for text in ["", "plain", "\"\\/\u{2028}", "für 日本", &controls] {
            let written = serde_json::to_string(text).unwrap();
            assert_eq!(in_json(text) + 2, written.len(), "{written}");
        }
    }
}
