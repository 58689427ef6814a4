//! A plain governed pass-through: `provider/model` in a client's own request. Every text is judged on its way in and out, every call is
//! journalled, and everything else passes as it was sent.

use crate::{
    chat::Sessions,
    definition::ModelName,
    ending::Tasks,
    guard::{Guard, arguments, few_enough, replacement},
    observer::ModelCall,
    passing::{Passing, PassingTexts},
    record::{INTERRUPTED, Recorder, header, unwritten},
    spending::{Extent, Over, spent},
    tenants::Tenant,
};
use ambit_capabilities::guardrail::{Checked, Stage};
use ambit_inference::{RawChat, RawCompletion, RawReply, TextKind, TextSpan, Usage};
use ambit_store::SessionState;
use ambit_types::{CallContext, Error, SessionId};
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::json;
use std::sync::Arc;

/// The answer of a pass-through, or why there is none: its session has either.
pub struct PassThrough {
    pub session: SessionId,
    pub reply: Result<PassReply, Error>,
}

pub enum PassReply {
    /// The body, durable.
    Json(Bytes),
    /// Server-sent events, each item whole ones. The chunk with the finish reason and `[DONE]` come after the outcome is durable; an
    /// error is the last item. Dropping it cancels the call upstream.
    Stream(BoxStream<'static, Result<Bytes, Error>>),
}

impl Sessions {
    /// Passes a client's request on to a model.
    ///
    /// # Errors
    /// The tenant may not use the model, or the request cannot be passed: there is no session then.
    pub async fn pass_through(
        &self,
        mut context: CallContext,
        tenant: Arc<Tenant>,
        model: ModelName,
        request: RawChat,
    ) -> Result<PassThrough, Error> {
        if request.wants_logprobs() {
            // They repeat the text beside where the guardrail looks.
            return Err(Error::invalid(
                "logprobs",
                "`logprobs` cannot be passed through: they would show text the guardrail masks",
            ));
        }
        let session = SessionId::new();
        context.session = Some(session);
        context.agent = Some(agent(&model).into());
        let models = tenant.models.clone().narrowed_by_caller(&context);
        let permit = models
            .model(&model.provider, &model.model)
            .map_err(|denied| {
                Error::not_found(format!("there is no model `{model}` here")).because(denied)
            })?;
        let name = model.to_string();
        let compute = self.platform.compute(&mut context, "");
        let mut call = Call {
            recorder: Recorder::new(
                self.platform.store.journal().clone(),
                context.clone(),
                session,
                &name,
            )
            .charging(compute),
            guard: Guard {
                guardrail: tenant.guardrail.clone(),
                context: context.clone(),
                observer: self.observer.clone(),
            },
            tasks: self.tasks.clone(),
            name,
            provider: model.provider.to_string(),
            usage: Usage::default(),
            texts: PassingTexts::default(),
            said: String::new(),
            heard: 0,
            begun: false,
            over: Over::Unheard,
            closed: false,
        };
        let begun = async {
            let request = call.judge_request(request).await?;
            let extent = Extent {
                bytes: request.body().len(),
                media: request.media(),
                allowed: request.max_tokens(),
                answers: request.choices(),
            };
            // To no agent: the model is told apart by itself.
            let priced = self
                .platform
                .priced(&tenant, &context, "", &model, extent, false)?;
            let facts = [("effect", json!("model")), ("model", json!(call.name))];
            call.recorder.note("intent", &facts, &json!({}))?;
            call.recorder.flush_call(priced).await?;
            call.begun = true;
            let forwarded = self.platform.providers.forward(&context, &permit, request);
            forwarded.await.map_err(|error| {
                call.over = Over::failed(&error);
                Error::from(error)
            })
        }
        .await;
        let reply = match begun {
            Ok(RawReply::Json(completion)) => call.whole(completion).await.map(PassReply::Json),
            Ok(RawReply::Stream(stream)) => {
                call.over = Over::Broken;
                Ok(PassReply::Stream(Passing::new(call, stream).into_stream()))
            }
            Err(error) => Err(call.fail(error).await),
        };
        Ok(PassThrough { session, reply })
    }
}

/// One call being passed through.
pub(crate) struct Call {
    pub(crate) recorder: Recorder,
    pub(crate) guard: Guard,
    tasks: Tasks,
    name: String,
    provider: String,
    pub(crate) usage: Usage,
    /// One guard per streamed text: choices and kinds of text do not mix.
    pub(crate) texts: PassingTexts,
    /// What was released of the stream, for the journal.
    pub(crate) said: String,
    /// Bytes of text that the provider said.
    pub(crate) heard: usize,
    /// The provider was asked, so there is an outcome to tell.
    begun: bool,
    /// What it is over as, should it be over now.
    over: Over,
    pub(crate) closed: bool,
}

impl Call {
    async fn judge_request(&mut self, request: RawChat) -> Result<RawChat, Error> {
        match self.judged(request).await {
            Ok(request) => {
                let facts = header(&[("model", json!(self.name))]);
                self.recorder
                    .note_bytes("request", facts, request.body().to_vec());
                Ok(request)
            }
            Err(error) => {
                // What was refused is not kept: only that it was.
                self.recorder.note(
                    "request",
                    &[("model", json!(self.name)), ("refused", json!(true))],
                    &json!({}),
                )?;
                Err(error)
            }
        }
    }

    /// The request with what the guardrail leaves of its texts: what a tool answered is data, all else what the caller says.
    async fn judged(&mut self, request: RawChat) -> Result<RawChat, Error> {
        let spans = request.texts();
        few_enough(spans.len())?;
        let texts = spans
            .iter()
            .map(|span| {
                let stage = if request.is_of_tool(span) {
                    Stage::ToolResult
                } else {
                    Stage::Input
                };
                (stage, span.text.clone())
            })
            .collect();
        let checked = self.guard.require(&mut self.recorder, texts).await?;
        let masked = replacements(spans, checked)?;
        if masked.iter().all(Option::is_none) {
            return Ok(request);
        }
        Ok(request.with_texts(masked.iter().map(Option::as_deref))?)
    }

    async fn whole(mut self, completion: RawCompletion) -> Result<Bytes, Error> {
        self.over = Over::Ended;
        self.usage = completion.usage;
        let spans = completion.texts();
        self.heard = spans.iter().map(|span| span.text.len()).sum();
        let texts = spans
            .iter()
            .map(|span| (Stage::Output, span.text.clone()))
            .collect();
        let judged = self.guard.require(&mut self.recorder, texts).await;
        let body = match judged.and_then(|checked| replacements(spans, checked)) {
            Ok(masked) => completion.with_texts(masked.iter().map(Option::as_deref)),
            Err(error) => return Err(self.fail(error).await),
        };
        self.succeed(json!(completion.finish), body.to_vec())
            .await?;
        Ok(body)
    }

    pub(crate) async fn succeed(
        &mut self,
        finish: serde_json::Value,
        body: Vec<u8>,
    ) -> Result<(), Error> {
        self.over = Over::Ended;
        self.settle(("finish", finish.clone()), None, body);
        self.close(SessionState::Finished, finish).await
    }

    async fn close(&mut self, state: SessionState, reason: serde_json::Value) -> Result<(), Error> {
        self.closed = true;
        self.recorder.close_apart(&self.tasks, state, reason).await
    }

    /// Journals the failure; the error to answer.
    pub(crate) async fn fail(&mut self, error: Error) -> Error {
        let reason = self.cut(error.code());
        if let Err(failed) = self.close(SessionState::Failed, reason).await {
            unwritten(&failed);
        }
        error
    }

    /// Notes what is known of a call that does not end well: what was released, what it cost, what was found. Its code.
    fn cut(&mut self, code: &'static str) -> serde_json::Value {
        self.closed = true;
        if self.begun {
            for text in self.texts.iter() {
                // A verdict that cannot be written as JSON says nothing anyway.
                let _ = text.guard.note(&mut self.recorder);
            }
            let body = json!({ "text": self.said }).to_string();
            self.settle(("code", json!(code)), Some(code), body.into_bytes());
        }
        json!(code)
    }

    /// Notes and counts the outcome, with what it cost.
    fn settle(
        &mut self,
        how: (&str, serde_json::Value),
        code: Option<&'static str>,
        body: Vec<u8>,
    ) {
        let facts = [("effect", json!("model")), ("model", json!(self.name)), how];
        let spent = spent(&self.usage, self.heard, self.over);
        let settled = self.recorder.outcome(header(&facts), spent, body);
        let context = &self.guard.context;
        let call = ModelCall {
            provider: &self.provider,
            usage: &self.usage,
            cost: settled.map(|settled| settled.cost),
            error: code,
        };
        let observer = &self.guard.observer;
        observer.model_call(&context.tenant_slug, context.agent(), call);
    }
}

impl Drop for Call {
    /// The caller went away in the middle, of an answer or of waiting for one: the end is journalled without it.
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        self.cut(INTERRUPTED);
        let reason = json!(self.tasks.reason());
        // Nobody is left to hear of it.
        drop(
            self.recorder
                .close_apart(&self.tasks, SessionState::Interrupted, reason),
        );
    }
}

/// What metrics call the agent of a pass-through: models are the provider's names and the caller's words, so they are counted by provider.
#[must_use]
pub fn agent(model: &ModelName) -> String {
    format!("{}/*", model.provider)
}

/// What to put in the places of texts that passed. None: the text itself.
fn replacements(spans: &[TextSpan], checked: Vec<Checked>) -> Result<Vec<Option<String>>, Error> {
    let replaced = spans
        .iter()
        .zip(checked)
        .map(|(span, checked)| match span.kind {
            TextKind::ToolArguments(_) => arguments(checked, &span.text),
            _ => Ok(replacement(checked)),
        });
    replaced.collect()
}
