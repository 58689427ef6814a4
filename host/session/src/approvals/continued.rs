//! A chat completion whose session waited for an approval, gone on with by the client that began it.

use super::KIND;
use crate::{
    bodies::Answered,
    chat::{CHANNEL, Sessions},
    durable::{ANSWERED, at_rest, came_before},
    event::{ChatEvents, ChatTurn, SessionEvent},
    past::body,
    tenants::Tenant,
    turn::{BY_CALLER, Start},
};
use ambit_inference::{FinishReason, Usage};
use ambit_store::{Event, Session};
use ambit_types::{CallContext, Error};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

impl Sessions {
    /// Gives a session that waits a message, and answers as [`Sessions::chat`] does; but dropping the events cancels nothing. While somebody still has to
    /// decide, the answer says so again and the message is none. `heard`: the notice that was the last the client was told; what was answered
    /// since comes first.
    ///
    /// # Errors
    /// As [`Sessions::message`].
    pub async fn chat_on(
        &self,
        known: &Session,
        context: CallContext,
        tenant: Arc<Tenant>,
        turn: ChatTurn,
        heard: Option<&str>,
    ) -> Result<ChatEvents, Error> {
        at_rest(known)?;
        let key = turn.key.clone();
        // Before the session's past is read, which is held for the turn: of that there may be more.
        let before = match heard {
            Some(notice) => {
                let _turn = tenant.reading.turn().await?;
                self.answered_since(known, notice).await?
            }
            None => Vec::new(),
        };
        let (mut run, keys) = self.taken_up(known, context, tenant, turn).await?;
        let (sender, events) = mpsc::channel(CHANNEL);
        let session = known.id;
        // There is room for these.
        let end = |text: String| {
            let usage = Usage::default();
            let reason = FinishReason::Stop;
            let _ = sender.try_send(SessionEvent::Text(text));
            let _ = sender.try_send(SessionEvent::Finished { reason, usage });
        };
        if run.pending().await?.is_some() {
            let all = before.into_iter().chain([run.notice().await]);
            end(all.collect::<Vec<_>>().join("\n\n"));
            return Ok(ChatEvents { session, events });
        }
        let waits_for = known.reason.clone();
        let waits_for = waits_for.unwrap_or_else(|| ANSWERED.to_owned());
        let start = match came_before(key.as_ref(), &keys)? {
            false => Start::Message { waits_for },
            // A client that lost its connection asks again: the answer is there, or is gone on with.
            true if waits_for == ANSWERED || !run.progress.has_more() => {
                let answers = match heard {
                    Some(_) => before,
                    None => self.last_answer(known).await?,
                };
                end(answers.join("\n\n"));
                return Ok(ChatEvents { session, events });
            }
            true => {
                let tools = std::mem::take(&mut run.turn.client_tools);
                run.offer_tools(tools)?;
                run.note_resume(BY_CALLER)?;
                Start::Again
            }
        };
        for answer in before {
            let _ = sender.try_send(SessionEvent::Text(answer + "\n\n"));
        }
        run.events = Some(sender);
        self.work(run, start).await?;
        Ok(ChatEvents { session, events })
    }

    /// What was answered since a notice, whose approvals, or whose session, it names: the last of it where there is much.
    async fn answered_since(&self, known: &Session, notice: &str) -> Result<Vec<String>, Error> {
        let store = self.platform.store.tenant(known.tenant);
        let asked = store.events_of_kind(known.id, KIND).await?;
        let named = |events: &[Event], what: &str| {
            let named = events.iter().rev().find(|event| {
                let fact = |name: &str| event.header.facts.get(name).and_then(Value::as_str);
                fact("action").is_none_or(|action| action == "asked")
                    && fact(what).is_some_and(|id| notice.contains(id))
            });
            named.map(|event| event.seq)
        };
        let since = match named(&asked, "approval") {
            Some(since) => Some(since),
            // Or the session that one it asked for waited in.
            None => {
                let begun = store.events_of_kind(known.id, "intent").await?;
                named(&begun, "child")
            }
        };
        let Some(since) = since else {
            return Ok(Vec::new());
        };
        let answers = store.events_of_kind(known.id, "answer").await?;
        let answers = answers.iter().filter(|answer| answer.seq > since);
        let texts = answers.map(|answer| Ok::<_, Error>(body::<Answered>(answer)?.text));
        let mut texts: Vec<_> = texts.collect::<Result<_, _>>()?;
        texts.retain(|text| !text.is_empty());
        Ok(texts.split_off(texts.len().saturating_sub(CHANNEL / 2)))
    }

    async fn last_answer(&self, known: &Session) -> Result<Vec<String>, Error> {
        let store = self.platform.store.tenant(known.tenant);
        let answer = store.latest(known.id, "answer").await?;
        let answer = answer.map(|answer| body::<Answered>(&answer)).transpose()?;
        Ok(answer.map(|answer| answer.text).into_iter().collect())
    }
}
