//! A chat completion whose session waited for an approval, gone on with by the client that began it.

use crate::{
    bodies::Answered,
    chat::{CHANNEL, Sessions},
    durable::{ANSWERED, at_rest, came_before},
    event::{ChatEvents, ChatTurn, SessionEvent},
    past::body,
    tenants::Tenant,
    turn::Start,
};
use ambit_inference::{FinishReason, Usage};
use ambit_store::Session;
use ambit_types::{CallContext, Error};
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
        let store = self.platform.store.tenant(known.tenant);
        let answer = match waits_for == ANSWERED {
            true => store.latest(session, "answer").await?,
            false => None,
        };
        let answer = answer.map(|answer| body::<Answered>(&answer)).transpose()?;
        // A client that lost its connection asks again: the answer is there.
        if came_before(key.as_ref(), &keys)?
            && let Some(answer) = answer
        {
            end(answer.text);
            return Ok(ChatEvents { session, events });
        }
        if let Some(answer) = answer.filter(|_| unheard) {
            let _ = sender.try_send(SessionEvent::Text(answer.text + "\n\n"));
        }
        run.events = Some(sender);
        self.work(run, Start::Message { waits_for }).await?;
        Ok(ChatEvents { session, events })
    }
}
