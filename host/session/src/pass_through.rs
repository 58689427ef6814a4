//! A plain governed pass-through: `provider/model` in a client's own request. Every text is judged on its way in and out, every call is
//! journalled, and everything else passes as it was sent.

use crate::{
    chat::Sessions,
    definition::ModelName,
    ending::Tasks,
    guard::{Guard, OutputGuard},
    record::{Recorder, header, usage},
    tenants::Tenant,
};
use ambit_capabilities::{guardrail::Stage, token_of};
use ambit_inference::{RawChat, RawChunk, RawCompletion, RawReply, RawStream, TextKind, Usage};
use ambit_store::SessionState;
use ambit_types::{CallContext, Error, ErrorKind, SessionId};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use serde_json::json;
use std::sync::Arc;

/// The answer of a pass-through.
pub struct PassThrough {
    pub session: SessionId,
    pub reply: PassReply,
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
    /// The tenant may not use the model, the guardrail rejects the text, or the provider fails before it begins to answer.
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
        let models = tenant
            .models
            .clone()
            .narrowed_by_token(token_of(&context.principal));
        let permit = models
            .model(&model.provider, &model.model)
            .map_err(|denied| {
                Error::not_found(format!("there is no model `{model}` here")).because(denied)
            })?;
        let session = SessionId::new();
        context.session = Some(session);
        let name = model.to_string();
        let mut call = Call {
            recorder: Recorder::new(
                self.platform.store.journal().clone(),
                context.clone(),
                session,
                &name,
            ),
            guard: Guard {
                guardrail: tenant.guardrail.clone(),
                context: context.clone(),
                observer: self.observer.clone(),
            },
            tasks: self.tasks.clone(),
            name,
            provider: model.provider.to_string(),
            usage: Usage::default(),
            closed: false,
        };
        let begun = async {
            let request = call.judge_request(request).await?;
            let facts = [("effect", json!("model")), ("model", json!(call.name))];
            call.recorder.note("intent", &facts, &json!({}))?;
            call.recorder.flush().await?;
            Ok(self
                .platform
                .providers
                .forward(&context, &permit, request)
                .await?)
        }
        .await;
        let reply = match begun {
            Ok(RawReply::Json(completion)) => call.whole(completion).await.map(PassReply::Json),
            Ok(RawReply::Stream(stream)) => {
                Ok(PassReply::Stream(Passing::new(call, stream).into_stream()))
            }
            Err(error) => Err(call.fail(error).await),
        };
        Ok(PassThrough {
            session,
            reply: reply?,
        })
    }
}

/// One call being passed through.
struct Call {
    recorder: Recorder,
    guard: Guard,
    tasks: Tasks,
    name: String,
    provider: String,
    usage: Usage,
    closed: bool,
}

impl Call {
    async fn judge_request(&mut self, request: RawChat) -> Result<RawChat, Error> {
        let texts = request
            .texts()
            .iter()
            .map(|span| span.text.to_string())
            .collect();
        let judged = self
            .guard
            .require(&mut self.recorder, Stage::Input, texts)
            .await;
        let masked = match judged {
            Ok(masked) => masked,
            Err(error) => {
                self.recorder.note(
                    "request",
                    &[("model", json!(self.name)), ("refused", json!(true))],
                    &json!({}),
                )?;
                return Err(error);
            }
        };
        let request = if masked.iter().any(Option::is_some) {
            request.with_texts(masked.iter().map(Option::as_deref))?
        } else {
            request
        };
        self.recorder.note_bytes(
            "request",
            header(&[("model", json!(self.name))]),
            request.body().to_vec(),
        );
        Ok(request)
    }

    async fn whole(mut self, completion: RawCompletion) -> Result<Bytes, Error> {
        let texts = completion
            .texts()
            .iter()
            .map(|span| span.text.to_string())
            .collect();
        let body = match self
            .guard
            .require(&mut self.recorder, Stage::Output, texts)
            .await
        {
            Ok(masked) => completion.with_texts(masked.iter().map(Option::as_deref)),
            Err(error) => return Err(self.fail(error).await),
        };
        self.usage = completion.usage;
        self.succeed(json!(completion.finish), body.to_vec())
            .await?;
        Ok(body)
    }

    async fn succeed(&mut self, finish: serde_json::Value, body: Vec<u8>) -> Result<(), Error> {
        self.count(None);
        let mut outcome = header(&[
            ("effect", json!("model")),
            ("model", json!(self.name)),
            ("finish", finish.clone()),
        ]);
        outcome.usage = Some(usage(&self.usage));
        self.recorder.note_bytes("outcome", outcome, body);
        self.closed = true;
        self.recorder
            .close(SessionState::Finished, &[("reason", finish)])
            .await
    }

    /// Journals the failure; the error to answer.
    async fn fail(&mut self, error: Error) -> Error {
        self.count(Some(error.code()));
        self.closed = true;
        let noted = self.recorder.note(
            "outcome",
            &[("effect", json!("model")), ("code", json!(error.code()))],
            &json!({}),
        );
        match (
            noted,
            self.recorder
                .close(SessionState::Failed, &[("reason", json!(error.code()))])
                .await,
        ) {
            (Ok(()), Ok(())) => {}
            (Err(failed), _) | (_, Err(failed)) => tracing::error!(
                error = &failed as &dyn std::error::Error,
                "a failure could not be journalled"
            ),
        }
        error
    }

    fn count(&self, code: Option<&'static str>) {
        self.guard.observer.model_call(
            &self.guard.context.tenant_slug,
            "-",
            &self.provider,
            &self.usage,
            code,
        );
    }
}

impl Drop for Call {
    /// The caller went away in the middle, of an answer or of waiting for one: the end is journalled without it.
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let mut recorder = self.recorder.take();
        let reason = self.tasks.reason();
        self.tasks.spawn(async move {
            if let Err(error) = recorder
                .close(SessionState::Interrupted, &[("reason", json!(reason))])
                .await
            {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a session's end could not be journalled"
                );
            }
        });
    }
}

/// A streamed answer on its way through.
struct Passing {
    call: Option<Call>,
    stream: RawStream,
    /// One guard per text: choices and kinds of text do not mix.
    texts: Vec<PassingText>,
    /// What was released, for the journal.
    said: String,
    finish: Option<&'static str>,
    /// What must wait for the outcome: the finish reason and all after it.
    held: BytesMut,
    done: bool,
}

/// One text of the answer, for example the content of choice 0.
struct PassingText {
    of: (u32, TextKind),
    guard: OutputGuard,
    /// A chunk with this text alone, to carry what the guard sets free at the end.
    template: Option<RawChunk>,
    finished: bool,
}

impl Passing {
    fn new(call: Call, stream: RawStream) -> Self {
        Self {
            call: Some(call),
            stream,
            texts: Vec::new(),
            said: String::new(),
            finish: None,
            held: BytesMut::new(),
            done: false,
        }
    }

    fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        stream::unfold(self, |mut passing| async move {
            if passing.done {
                return None;
            }
            let item = passing.next().await;
            passing.done |= item.is_err();
            let item = match (item, &mut passing.call) {
                (Err(error), Some(call)) if !call.closed => Err(call.fail(error).await),
                (item, _) => item,
            };
            Some((item, passing))
        })
        .boxed()
    }

    /// The next bytes to send.
    async fn next(&mut self) -> Result<Bytes, Error> {
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk?;
            if let (Some(usage), Some(call)) = (chunk.usage, &mut self.call) {
                call.usage = usage;
            }
            let mut released = self.judge(&chunk).await?;
            let mut before = BytesMut::new();
            for (choice, reason) in &chunk.finishes {
                self.finish.get_or_insert(reason.as_str());
                self.finish_texts(Some(*choice), Some((&chunk, &mut released)), &mut before)
                    .await?;
            }
            if chunk.for_client {
                let replaced = chunk
                    .texts()
                    .iter()
                    .zip(&released)
                    .map(|(span, text)| (span.text != *text).then_some(text.as_str()));
                put_frame(&mut before, &chunk.with_texts(replaced));
            }
            let waits = !chunk.finishes.is_empty() || !self.held.is_empty();
            self.remember(chunk);
            if waits {
                self.held.extend_from_slice(&before);
            } else if !before.is_empty() {
                return Ok(before.freeze());
            }
        }
        self.end().await
    }

    /// What of each text of this chunk may be sent.
    async fn judge(&mut self, chunk: &RawChunk) -> Result<Vec<String>, Error> {
        let mut released = Vec::with_capacity(chunk.texts().len());
        for span in chunk.texts() {
            let of = (span.index, span.kind);
            let place = match self.texts.iter().position(|text| text.of == of) {
                Some(place) => place,
                None => {
                    let guard = self
                        .call
                        .as_ref()
                        .map(|call| call.guard.output())
                        .ok_or_else(|| Error::internal("a stream without its call"))?;
                    self.texts.push(PassingText {
                        of,
                        guard,
                        template: None,
                        finished: false,
                    });
                    self.texts.len() - 1
                }
            };
            let text = &mut self.texts[place];
            if text.finished {
                return Err(Error::new(
                    ErrorKind::ProviderFailed {
                        code: "invalid_response",
                    },
                    "the provider went on after its finish reason",
                ));
            }
            let free = text.guard.push(span.text.clone()).await?;
            self.said.push_str(&free);
            released.push(free);
        }
        Ok(released)
    }

    /// Ends the texts of one choice, or of all: what their guards still held goes into this chunk where it has that text, else into a
    /// frame of its own before it.
    async fn finish_texts(
        &mut self,
        choice: Option<u32>,
        mut chunk: Option<(&RawChunk, &mut Vec<String>)>,
        before: &mut BytesMut,
    ) -> Result<(), Error> {
        for text in self
            .texts
            .iter_mut()
            .filter(|text| !text.finished && choice.is_none_or(|choice| text.of.0 == choice))
        {
            text.finished = true;
            let rest = text.guard.finish().await?;
            if rest.is_empty() {
                continue;
            }
            self.said.push_str(&rest);
            let place = chunk.as_ref().and_then(|(chunk, _)| {
                chunk
                    .texts()
                    .iter()
                    .rposition(|span| (span.index, span.kind) == text.of)
            });
            match (&mut chunk, place, &text.template) {
                (Some((_, released)), Some(place), _) => released[place].push_str(&rest),
                (_, _, Some(template)) => {
                    put_frame(before, &template.with_texts([Some(rest.as_str())]))
                }
                _ => {
                    let message =
                        "the provider mixed texts in a way that cannot be judged in parts";
                    return Err(Error::new(
                        ErrorKind::ProviderFailed {
                            code: "invalid_response",
                        },
                        message,
                    ));
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, chunk: RawChunk) {
        if let ([span], true) = (chunk.texts(), chunk.finishes.is_empty())
            && let of = (span.index, span.kind)
            && let Some(text) = self.texts.iter_mut().find(|text| text.of == of)
        {
            text.template = Some(chunk);
        }
    }

    /// The provider is done: make the outcome durable, then let the finish go.
    async fn end(&mut self) -> Result<Bytes, Error> {
        let mut last = BytesMut::new();
        self.finish_texts(None, None, &mut last).await?;
        if let Some(call) = &mut self.call {
            for text in &self.texts {
                text.guard.note(&mut call.recorder)?;
            }
            call.succeed(
                json!(self.finish),
                json!({ "text": self.said }).to_string().into_bytes(),
            )
            .await?;
        }
        last.extend_from_slice(&self.held);
        last.put_slice(b"data: [DONE]\n\n");
        self.done = true;
        Ok(last.freeze())
    }
}

fn put_frame(frame: &mut BytesMut, body: &[u8]) {
    frame.put_slice(b"data: ");
    frame.put_slice(body);
    frame.put_slice(b"\n\n");
}
