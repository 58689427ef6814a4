//! A chat completion whose session waited for an approval, gone on with by the client that began it.

use crate::{
    bodies::Answered,
    chat::{CHANNEL, Sessions},
    durable::{ANSWERED, at_rest},
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
        let pending = self.nothing_pending(known).await.is_err();
        let (mut run, _) = self.taken_up(known, context, tenant, turn).await?;
        let (sender, events) = mpsc::channel(CHANNEL);
        let session = known.id;
        // There is room for these.
        if pending {
            let usage = Usage::default();
            let reason = FinishReason::Stop;
            let _ = sender.try_send(SessionEvent::Text(run.notice()));
            let _ = sender.try_send(SessionEvent::Finished { reason, usage });
            return Ok(ChatEvents { session, events });
        }
        let waits_for = known.reason.clone();
        let waits_for = waits_for.unwrap_or_else(|| ANSWERED.to_owned());
        if unheard && waits_for == ANSWERED {
            let store = self.platform.store.tenant(known.tenant);
            if let Some(answer) = store.latest(session, "answer").await? {
                let said = body::<Answered>(&answer)?.text;
                let _ = sender.try_send(SessionEvent::Text(said + "\n\n"));
            }
        }
        run.events = Some(sender);
        self.work(run, Start::Message { waits_for }).await?;
        Ok(ChatEvents { session, events })
    }
}
