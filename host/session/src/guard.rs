//! The guardrail's place in a session: every text through the right stage, every verdict counted and journalled.

use crate::{observer::Observer, record::Recorder};
use ambit_capabilities::guardrail::{
    Action, Checked, Findings, GuardStream, Guardrail, Rejection, Released, Room, Stage,
};
use ambit_types::{CallContext, Error, ErrorKind};
use serde::de::IgnoredAny;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// As many texts as the gateway takes messages.
const TEXTS_AT_MOST: usize = 4096;

#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) guardrail: Guardrail,
    pub(crate) context: CallContext,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Guard {
    /// Judges whole texts in one go, each at its stage. The caller decides what a rejected one means.
    pub(crate) async fn check_all(
        &self,
        recorder: &mut Recorder,
        texts: Vec<(Stage, String)>,
    ) -> Result<Vec<Checked>, Error> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let stages: Vec<Stage> = texts.iter().map(|(stage, _)| *stage).collect();
        let checked = self.guardrail.check_each(&self.context, texts).await?;
        for (position, (checked, stage)) in checked.iter().zip(stages).enumerate() {
            self.note(
                recorder,
                stage,
                position,
                checked.action(),
                &checked.findings,
                checked.rejection.as_ref(),
            )?;
        }
        Ok(checked)
    }

    /// Judges texts that must pass: a rejected one ends the request.
    pub(crate) async fn require(
        &self,
        recorder: &mut Recorder,
        texts: Vec<(Stage, String)>,
    ) -> Result<Vec<Checked>, Error> {
        let checked = self.check_all(recorder, texts).await?;
        match checked.iter().find_map(|c| c.rejection.as_ref()) {
            Some(rejection) => Err(rejected(&rejection.category)),
            None => Ok(checked),
        }
    }

    pub(crate) fn output(&self) -> OutputGuard {
        OutputGuard {
            stream: self.guardrail.stream(&self.context, Stage::Output),
            guard: self.clone(),
            findings: Findings::default(),
            masked: false,
            rejection: None,
        }
    }

    fn note(
        &self,
        recorder: &mut Recorder,
        stage: Stage,
        position: usize,
        action: Action,
        findings: &Findings,
        rejection: Option<&Rejection>,
    ) -> Result<(), Error> {
        let context = &self.context;
        self.observer
            .verdict(&context.tenant_slug, context.agent(), stage, action);
        // A text nothing was found in leaves one count, not one event.
        if findings.is_empty() && rejection.is_none() {
            return Ok(());
        }
        let categories = findings.categories();
        let categories: BTreeMap<_, _> = categories
            .map(|(category, found)| (category, found.count))
            .collect();
        let facts = [
            ("stage", json!(stage)),
            ("action", json!(action)),
            ("categories", json!(categories)),
        ];
        recorder.note(
            "verdict",
            &facts,
            &json!({ "text": position, "findings": findings.kept(), "rejection": rejection }),
        )
    }
}

/// One streamed text on its way to the caller.
pub(crate) struct OutputGuard {
    stream: GuardStream,
    guard: Guard,
    findings: Findings,
    masked: bool,
    rejection: Option<Rejection>,
}

impl OutputGuard {
    /// What may be sent now.
    pub(crate) async fn push(&mut self, text: String, room: &mut Room) -> Result<String, Error> {
        let released = self.stream.push(text).await?;
        self.take(released, room)
    }

    /// The rest, once no more follows.
    pub(crate) async fn finish(&mut self, room: &mut Room) -> Result<String, Error> {
        let released = self.stream.finish().await?;
        self.take(released, room)
    }

    fn take(&mut self, released: Released, room: &mut Room) -> Result<String, Error> {
        self.findings.take(released.findings, room)?;
        self.masked |= released.masked;
        if let Some(rejection) = released.rejection {
            let error = rejected(&rejection.category);
            self.rejection = Some(rejection);
            return Err(error);
        }
        Ok(released.text)
    }

    /// Journals the verdict on the whole text, however it ended.
    pub(crate) fn note(&self, recorder: &mut Recorder) -> Result<(), Error> {
        let action = match &self.rejection {
            Some(_) => Action::Reject,
            None if self.masked => Action::Mask,
            None if !self.findings.is_empty() => Action::Flag,
            None => Action::Allow,
        };
        self.guard.note(
            recorder,
            Stage::Output,
            0,
            action,
            &self.findings,
            self.rejection.as_ref(),
        )
    }
}

/// What to use in place of a text that passed; None: the text itself.
pub(crate) fn replacement(checked: Checked) -> Option<String> {
    (checked.masks > 0).then_some(checked.text)
}

/// As [`replacement`], for the arguments of a tool call. Where a mask would leave JSON that nobody can read, they do not pass.
pub(crate) fn arguments(checked: Checked, original: &str) -> Result<Option<String>, Error> {
    let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    let category = checked.findings.categories().next();
    let category = category.map(|(category, _)| category.to_owned());
    match replacement(checked) {
        Some(masked) if is_json(original) && !is_json(&masked) => {
            Err(rejected(category.as_deref().unwrap_or("masked")))
        }
        replacement => Ok(replacement),
    }
}

/// Refuses a request with more texts to judge than one may bring, however small they are.
pub(crate) fn few_enough(texts: usize) -> Result<(), Error> {
    if texts <= TEXTS_AT_MOST {
        return Ok(());
    }
    let message = format!(
        "the messages hold {texts} texts, counting parts and the arguments of calls; {TEXTS_AT_MOST} are the most of one request"
    );
    Err(Error::invalid("messages", message))
}

fn rejected(category: &str) -> Error {
    Error::new(
        ErrorKind::ContentFiltered {
            category: category.into(),
        },
        format!("the guardrail rejected the text: {category}"),
    )
}
