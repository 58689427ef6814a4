//! Judging text: one shot, or a stream piece by piece.
//!
//! The component finds; this module makes sure that nothing is released that was not judged. It keeps the contract of
//! `ambit:guardrail` (release only forward and on character boundaries, masks in order, bounded state), caps the text that may
//! be held back, and answers an error, never text, where a component fails or breaks any of it: a guardrail fails closed.

mod batch;
mod filter;
mod findings;
mod host;
mod policy;

pub use crate::Severity;
pub use findings::{Findings, Found, Room};
pub use policy::{Action, Rule, Rules, Stage};

use crate::{Failure, LoadError};
use ambit_runtime::{Admitted, CallScope, Pure, Runtime};
use ambit_types::CallContext;
use batch::Batch;
use filter::{Filter, Judged};
use host::{Guest, Lookups};
use std::sync::Arc;

/// Most bytes of a stream that may be held back; a component that holds more has the stream rejected.
const HELD_CAP: usize = 64 * 1024;
/// The category of that rejection.
pub const HELD_TOO_LONG: &str = "held-too-long";
/// The category of the rejection of a text that masks would make several times as long.
pub const MASKED_TOO_LONG: &str = "masked-too-long";

/// Something found, whatever was done about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// UTF-8 byte offsets in the original text; `start < end`, on character boundaries.
    pub start: u64,
    pub end: u64,
    pub category: String,
    pub severity: Severity,
}

/// Bytes of the original text that were replaced.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mask {
    pub start: u64,
    pub end: u64,
    pub replacement: String,
}

/// Why nothing more of a text may be released.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rejection {
    pub category: String,
    pub severity: Severity,
}

/// The verdict on a whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The text with its masks applied; empty when it was rejected.
    pub text: String,
    /// Places of it that were replaced.
    pub masks: usize,
    pub findings: Findings,
    pub rejection: Option<Rejection>,
}

impl Checked {
    /// The strictest thing that was done about the text.
    #[must_use]
    pub fn action(&self) -> Action {
        if self.rejection.is_some() {
            Action::Reject
        } else if self.masks > 0 {
            Action::Mask
        } else if !self.findings.is_empty() {
            Action::Flag
        } else {
            Action::Allow
        }
    }
}

/// What one more piece of a stream set free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// May be sent now: judged, masks applied. Often shorter or longer than what was pushed.
    pub text: String,
    /// Something of it was replaced.
    pub masked: bool,
    /// Reported for the first time.
    pub findings: Vec<Finding>,
    /// Nothing more will be released.
    pub rejection: Option<Rejection>,
}

/// A tenant's guardrail. Cheap to clone.
#[derive(Clone)]
pub struct Guardrail(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    component: Pure<Lookups, Guest>,
    rules: Arc<Rules>,
}

impl Guardrail {
    /// Links the component over the tenant's rules.
    ///
    /// # Errors
    ///
    /// When it cannot be linked.
    pub fn new(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        rules: Rules,
    ) -> Result<Self, LoadError> {
        let component = host::link(runtime, admitted)?;
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            component,
            rules: Arc::new(rules),
        })))
    }

    /// Judges a whole text.
    ///
    /// # Errors
    ///
    /// When the component fails: then nothing of the text may be used.
    pub async fn check(
        &self,
        ctx: &CallContext,
        stage: Stage,
        text: String,
    ) -> Result<Checked, Failure> {
        let mut checked = self.check_all(ctx, stage, vec![text]).await?;
        checked
            .pop()
            .ok_or_else(|| Failure::Contract("no verdict".to_owned()))
    }

    /// Judges whole texts of one stage, each for itself; see [`Guardrail::check_each`].
    ///
    /// # Errors
    ///
    /// When the component fails on any of them.
    pub async fn check_all(
        &self,
        ctx: &CallContext,
        stage: Stage,
        texts: Vec<String>,
    ) -> Result<Vec<Checked>, Failure> {
        self.check_each(ctx, texts.into_iter().map(|text| (stage, text)).collect())
            .await
    }

    /// Judges whole texts, each for itself and at its stage. The verdicts are in the texts' order.
    ///
    /// What fits one turn (a usual request does) costs one hand-over to another thread; more of it takes further turns, between which
    /// others have theirs, and which end when the caller goes away.
    ///
    /// # Errors
    ///
    /// When the component fails on any of them, or all together take longer than a request's share.
    pub async fn check_each(
        &self,
        ctx: &CallContext,
        texts: Vec<(Stage, String)>,
    ) -> Result<Vec<Checked>, Failure> {
        let (scope, mut batch) = (self.0.runtime.scope(ctx), Batch::new(texts));
        while !batch.is_done() {
            let (guardrail, own) = (self.clone(), scope.clone());
            let turn = move || batch.turn(&guardrail.0, &own).map(|()| batch);
            let executor = self.0.runtime.executor();
            batch = executor.run(&scope.tenant, turn).await??;
        }
        Ok(batch.into_checked())
    }

    /// Begins to judge a text that arrives in pieces.
    #[must_use]
    pub fn stream(&self, ctx: &CallContext, stage: Stage) -> GuardStream {
        GuardStream {
            guardrail: self.clone(),
            scope: self.0.runtime.scope(ctx),
            stage,
            state: State::Open(Filter::new(HELD_CAP)),
        }
    }
}

impl Inner {
    /// One call of the component over the next piece of a text.
    fn judge(
        &self,
        scope: &CallScope,
        stage: Stage,
        filter: &mut Filter,
        piece: &str,
        last: bool,
    ) -> Result<Judged, Failure> {
        let outcome = host::check(
            &self.component,
            scope,
            &self.rules,
            stage,
            piece,
            last,
            filter.state(),
        )?;
        filter.judge(piece, last, outcome)
    }
}

/// A text being judged as it arrives.
pub struct GuardStream {
    guardrail: Guardrail,
    scope: CallScope,
    stage: Stage,
    state: State,
}

enum State {
    Open(Filter),
    Rejected(Rejection),
    Finished,
    /// The component failed, or a call was dropped half-way: what was judged is not known.
    Failed,
}

impl GuardStream {
    /// Judges the next piece and answers what may be sent now. After a rejection it answers that rejection.
    ///
    /// # Errors
    ///
    /// When the component fails, now or before: nothing more of the text may be sent.
    pub async fn push(&mut self, piece: String) -> Result<Released, Failure> {
        self.step(piece, false).await
    }

    /// Judges what was held back, now that nothing follows.
    ///
    /// # Errors
    ///
    /// As for [`GuardStream::push`].
    pub async fn finish(&mut self) -> Result<Released, Failure> {
        self.step(String::new(), true).await
    }

    async fn step(&mut self, piece: String, last: bool) -> Result<Released, Failure> {
        let mut filter = match std::mem::replace(&mut self.state, State::Failed) {
            State::Open(filter) => filter,
            State::Rejected(rejection) => {
                self.state = State::Rejected(rejection.clone());
                return Ok(Released {
                    rejection: Some(rejection),
                    ..Released::default()
                });
            }
            State::Finished | State::Failed => {
                return Err(Failure::Contract(
                    "the text is judged to its end, or its judging failed".to_owned(),
                ));
            }
        };
        let (guardrail, scope, stage) = (self.guardrail.clone(), self.scope.clone(), self.stage);
        let job = move || {
            guardrail
                .0
                .judge(&scope, stage, &mut filter, &piece, last)
                .map(|judged| (judged, filter))
        };
        let (judged, filter) = self
            .guardrail
            .0
            .runtime
            .executor()
            .run(&self.scope.tenant, job)
            .await??;
        self.state = match (&judged.rejection, last) {
            (Some(rejection), _) => State::Rejected(rejection.clone()),
            (None, true) => State::Finished,
            (None, false) => State::Open(filter),
        };
        Ok(Released {
            text: judged.text,
            masked: judged.masks > 0,
            findings: judged.findings,
            rejection: judged.rejection,
        })
    }
}
