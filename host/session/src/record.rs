//! A session's part of the journal: what is written when.
//!
//! Events gather until something must be durable: before an effect starts (its intent) and before anybody may rely on an outcome. So a
//! plain request costs two commits, however many events it has: one before the provider is called, one before the finish chunk leaves.
//!
//! | kind | header facts | body |
//! |---|---|---|
//! | `request` | agent or model | JSON: messages, tools, options |
//! | `verdict` | stage, action, categories | JSON: findings by message, no text |
//! | `intent` | effect, and provider, model or tools | JSON: what is about to be done |
//! | `outcome` | effect, code | JSON: the reply, results or passages |
//! | `checkpoint` | step, move, time | the agent's state, its bytes |
//! | `end` | reason or error code; `unknown`: an effect whose outcome nobody saw | empty |

use ambit_store::{Append, Header, Journal, NewEvent, NewSession, SessionState};
use ambit_types::{CallContext, Error, SessionId};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(crate) struct Recorder {
    journal: Journal,
    context: CallContext,
    session: SessionId,
    open: Option<NewSession>,
    pending: Vec<NewEvent>,
}

impl Recorder {
    pub(crate) fn new(
        journal: Journal,
        context: CallContext,
        session: SessionId,
        agent: &str,
    ) -> Self {
        let open = NewSession {
            agent: agent.into(),
            principal: Arc::from(context.principal.id.as_str()),
        };
        Self {
            journal,
            context,
            session,
            open: Some(open),
            pending: Vec::with_capacity(4),
        }
    }

    /// Takes over what is noted and the right to end the session, for an owner that is being dropped.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            journal: self.journal.clone(),
            context: self.context.clone(),
            session: self.session,
            open: self.open.take(),
            pending: std::mem::take(&mut self.pending),
        }
    }

    /// Notes an event with a JSON body; durable after the next [`Recorder::flush`].
    pub(crate) fn note(
        &mut self,
        kind: &'static str,
        facts: &[(&str, Value)],
        body: &impl Serialize,
    ) -> Result<(), Error> {
        let body = serde_json::to_vec(body).map_err(Error::internal)?;
        self.note_bytes(kind, header(facts), body);
        Ok(())
    }

    pub(crate) fn note_bytes(&mut self, kind: &'static str, header: Header, body: Vec<u8>) {
        self.pending.push(NewEvent::new(kind, header, body));
    }

    /// Makes everything noted durable.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.append(None).await
    }

    /// Ends the session: everything noted and its end become durable together. A session that was never opened leaves nothing.
    pub(crate) async fn close(
        &mut self,
        state: SessionState,
        facts: &[(&str, Value)],
    ) -> Result<(), Error> {
        self.note_bytes("end", header(facts), Vec::new());
        self.append(Some(state)).await
    }

    async fn append(&mut self, state: Option<SessionState>) -> Result<(), Error> {
        if self.pending.is_empty() && state.is_none() {
            return Ok(());
        }
        let mut append =
            Append::new(self.context.tenant, self.session).events(self.pending.drain(..));
        if let Some(open) = self.open.take() {
            append = append.open(open);
        }
        if let Some(state) = state {
            append = append.state(state);
        }
        self.journal
            .append(append)
            .await
            .map(drop)
            .map_err(|error| {
                Error::new(
                    ambit_types::ErrorKind::Unavailable {
                        retry_after: std::time::Duration::from_secs(5),
                    },
                    "the journal cannot be written, so nothing was done that it would have to show",
                )
                .because(error)
            })
    }
}

pub(crate) fn header(facts: &[(&str, Value)]) -> Header {
    Header {
        facts: facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<Map<_, _>>(),
        ..Header::default()
    }
}

pub(crate) fn usage(usage: &ambit_inference::Usage) -> ambit_store::Usage {
    ambit_store::Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
    }
}
