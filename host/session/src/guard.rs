//! The guardrail's place in a session: every text through the right stage, every verdict counted and journalled.

use crate::{observer::Observer, record::Recorder};
use ambit_capabilities::guardrail::{
    Action, Checked, Finding, GuardStream, Guardrail, Rejection, Stage,
};
use ambit_types::{CallContext, Error, ErrorKind};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) guardrail: Guardrail,
    pub(crate) context: CallContext,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Guard {
    /// Judges whole texts in one go. The caller decides what a rejected one means.
    pub(crate) async fn check_all(
        &self,
        recorder: &mut Recorder,
        stage: Stage,
        texts: Vec<String>,
    ) -> Result<Vec<Checked>, Error> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let checked = self
            .guardrail
            .check_all(&self.context, stage, texts)
            .await?;
        for (position, checked) in checked.iter().enumerate() {
            self.note(
                recorder,
                stage,
                position,
                action(checked),
                &checked.findings,
                checked.rejection.as_ref(),
            )?;
        }
        Ok(checked)
    }

    /// Judges texts that must pass: a rejected one ends the request. Returns what to use instead where something was masked.
    pub(crate) async fn require(
        &self,
        recorder: &mut Recorder,
        stage: Stage,
        texts: Vec<String>,
    ) -> Result<Vec<Option<String>>, Error> {
        let checked = self.check_all(recorder, stage, texts).await?;
        if let Some(rejection) = checked.iter().find_map(|c| c.rejection.as_ref()) {
            return Err(rejected(rejection));
        }
        Ok(checked
            .into_iter()
            .map(|c| (!c.masks.is_empty()).then_some(c.text))
            .collect())
    }

    pub(crate) fn output(&self) -> OutputGuard {
        OutputGuard {
            stream: self.guardrail.stream(&self.context, Stage::Output),
            guard: self.clone(),
            findings: Vec::new(),
            rejection: None,
        }
    }

    fn note(
        &self,
        recorder: &mut Recorder,
        stage: Stage,
        position: usize,
        action: Action,
        findings: &[Finding],
        rejection: Option<&Rejection>,
    ) -> Result<(), Error> {
        self.observer
            .verdict(&self.context.tenant_slug, stage, action);
        // A text nothing was found in leaves one count, not one event.
        if findings.is_empty() && rejection.is_none() {
            return Ok(());
        }
        let mut categories: BTreeMap<&str, u32> = BTreeMap::new();
        for finding in findings {
            *categories.entry(&finding.category).or_default() += 1;
        }
        let facts = [
            ("stage", json!(stage)),
            ("action", json!(action)),
            ("categories", json!(categories)),
        ];
        recorder.note(
            "verdict",
            &facts,
            &json!({ "text": position, "findings": findings, "rejection": rejection }),
        )
    }
}

/// One streamed text on its way to the caller.
pub(crate) struct OutputGuard {
    stream: GuardStream,
    guard: Guard,
    findings: Vec<Finding>,
    rejection: Option<Rejection>,
}

impl OutputGuard {
    /// What may be sent now.
    pub(crate) async fn push(&mut self, text: String) -> Result<String, Error> {
        let released = self.stream.push(text).await?;
        self.take(released)
    }

    /// The rest, once no more follows.
    pub(crate) async fn finish(&mut self) -> Result<String, Error> {
        let released = self.stream.finish().await?;
        self.take(released)
    }

    fn take(&mut self, released: ambit_capabilities::guardrail::Released) -> Result<String, Error> {
        self.findings.extend(released.findings);
        if let Some(rejection) = released.rejection {
            let error = rejected(&rejection);
            self.rejection = Some(rejection);
            return Err(error);
        }
        Ok(released.text)
    }

    /// Journals the verdict on the whole text, however it ended.
    pub(crate) fn note(&self, recorder: &mut Recorder) -> Result<(), Error> {
        let action = match (&self.rejection, self.findings.is_empty()) {
            (Some(_), _) => Action::Reject,
            (None, false) => Action::Flag,
            (None, true) => Action::Allow,
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

fn action(checked: &Checked) -> Action {
    match checked {
        Checked {
            rejection: Some(_), ..
        } => Action::Reject,
        Checked { masks, .. } if !masks.is_empty() => Action::Mask,
        Checked { findings, .. } if !findings.is_empty() => Action::Flag,
        _ => Action::Allow,
    }
}

pub(crate) fn rejected(rejection: &Rejection) -> Error {
    Error::new(
        ErrorKind::ContentFiltered {
            category: rejection.category.clone(),
        },
        format!("the guardrail rejected the text: {}", rejection.category),
    )
}
