//! A chat completion whose session waited for an approval, gone on with by the client that began it.

use super::WAITS;
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
use ambit_store::Session;
use ambit_types::{CallContext, Error};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

impl Sessions {
    /// Gives a session that waits a message, and answers as [`Sessions::chat`] does; but dropping the events cancels nothing. While somebody still has to
    /// decide, the answer says so again and the message is none. `unheard`: the client has not seen what was answered since; that comes first.
    ///
    /// # Errors
    /// As [`Sessions::message`].
    pub async fn chat_on(
        &self,
        known: &Session,
        context: CallContext,
        tenant: Arc<Tenant>,
        turn: ChatTurn,
        unheard: bool,
    ) -> Result<ChatEvents, Error> {
        at_rest(known)?;
        let key = turn.key.clone();
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
            end(run.notice());
            return Ok(ChatEvents { session, events });
        }
        let waits_for = known.reason.clone();
        let waits_for = waits_for.unwrap_or_else(|| ANSWERED.to_owned());
        let before = match unheard {
            true => self.answered_since(known).await?,
            false => Vec::new(),
        };
        let start = match came_before(key.as_ref(), &keys)? {
            false => Start::Message { waits_for },
            // A client that lost its connection asks again: the answer is there, or is gone on with.
            true if waits_for == ANSWERED || !run.progress.has_more() => {
                let answers = match unheard {
                    true => before,
                    false => self.last_answer(known).await?,
                };
                end(answers.join("\n\n"));
                return Ok(ChatEvents { session, events });
            }
            true => {
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

    /// What was answered since the session waited for an approval the last time: the last of it where there is much.
    async fn answered_since(&self, known: &Session) -> Result<Vec<String>, Error> {
        let store = self.platform.store.tenant(known.tenant);
        let rests = store.events_of_kind(known.id, "suspend").await?;
        let waited = rests.iter().rev().find(|rest| {
            let reason = rest.header.facts.get("reason").and_then(Value::as_str);
            reason == Some(WAITS)
        });
        let since = waited.map_or(0, |rest| rest.seq);
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
