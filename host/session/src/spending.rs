//! What a model call costs: held back with its intent, settled with its outcome, both in the journal's own appends. The rules are
//! [`ambit_ledger`]'s; here is what a call can cost at most, and what one that broke off is taken to have cost.

use crate::{definition::ModelName, library::now_ms, platform::Platform, tenants::Tenant};
use ambit_inference::ProviderError;
use ambit_ledger::{Day, LedgerOp, Money, Price, PriceTable, Reserve, Spender, Usage};
use ambit_policy::token::Credential;
use ambit_types::{CallContext, Error, ReservationId, SessionId, TokenId};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Tokens that a picture, a recording or a file in a prompt is taken to have at most: what the dearest of today's models make of a large
/// picture in full detail.
const MEDIA_TOKENS: u64 = 50_000;

/// Bytes of text that are taken for a token where the provider did not count: fewer than a token of any language it is good at has, so
/// that a break is not cheaper than an end.
const BYTES_OF_TOKEN: usize = 3;

/// Counts beyond this are no counts: a provider that goes mad must not keep a session from ending.
const MOST_TOKENS: u64 = ambit_inference::Usage::MOST;

/// The most that one call is said to have cost: an event carries no more exactly.
const MOST_COST: i64 = (1 << 53) - 1;

/// How long a prompt is and its answers can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Of the prompt as it is sent, with everything around its texts. No tokenizer makes more tokens than there are bytes.
    pub(crate) bytes: usize,
    /// Parts of it that are no text.
    pub(crate) media: usize,
    /// Tokens that the caller allows each answer.
    pub(crate) allowed: Option<u64>,
    pub(crate) answers: u32,
}

/// What is known of the tokens a call took.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spent {
    /// It was not made, or refused before anything was read.
    Nothing,
    /// As the provider counted.
    Counted(Usage),
    /// The provider did not say. It was sent the prompt, and said so many bytes.
    Said(usize),
    /// It was sent the prompt, and may have worked on an answer that nobody heard: no model is taken to write more than 250 tokens a second.
    Unheard,
}

/// A call whose model has a price.
#[derive(Debug)]
pub(crate) struct Priced {
    /// With the most it can cost.
    call: Reserve,
    price: Price,
    /// Tokens of the prompt, guessed.
    prompt: u64,
    /// Tokens its answers can have at most.
    answers: u64,
    begun: Instant,
    /// There are budgets, so the most it can cost is held back.
    holds: bool,
}

/// What a call came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    pub(crate) cost: Money,
    pub(crate) usage: Usage,
    /// By what was sent and said, not as the provider counted.
    pub(crate) estimated: bool,
}

/// What the components of one session cost.
#[derive(Debug, Clone)]
pub(crate) struct Compute {
    /// In nanoseconds.
    cpu: Arc<AtomicU64>,
    prices: Arc<PriceTable>,
    agent: Arc<str>,
    above: Arc<[SessionId]>,
}

impl Compute {
    /// Of a session that these started: it counts in their budgets too.
    pub(crate) fn below(&mut self, above: Arc<[SessionId]>) {
        self.above = above;
    }

    /// Spends what they cost since it was asked last. None: nothing.
    pub(crate) fn spend(&self, context: &CallContext) -> Option<(LedgerOp, Money)> {
        let cpu = Duration::from_nanos(self.cpu.swap(0, Relaxed));
        let cost = self.prices.compute(cpu);
        let call = Reserve {
            id: ReservationId::new(),
            amount: cost,
            at_ms: now_ms(),
            spender: Spender {
                agent: self.agent.clone(),
                key: context.principal.key.clone().unwrap_or_default(),
                provider: "ambit".into(),
                model: "compute".into(),
            },
            tokens: tokens(context),
            above: self.above.clone(),
        };
        let usage = Usage::default();
        (cost > Money::ZERO).then_some((LedgerOp::Spend { call, usage }, cost))
    }
}

impl Platform {
    /// Has the CPU time of a session's components added up, where it costs anything.
    pub(crate) fn compute(&self, context: &mut CallContext, agent: &str) -> Option<Compute> {
        let second = self.prices.compute(Duration::from_secs(1));
        (second > Money::ZERO).then(|| Compute {
            cpu: context.cpu.get_or_insert_default().clone(),
            prices: self.prices.clone(),
            agent: agent.into(),
            above: Arc::default(),
        })
    }

    /// What a call can cost, to be held back before it is made. `bounded`: its session has a budget of its own. None: its model has no price, and nobody set a budget.
    ///
    /// # Errors
    /// Its model has no price, so that no budget of the tenant could be kept.
    pub(crate) fn priced(
        &self,
        tenant: &Tenant,
        context: &CallContext,
        agent: &str,
        model: &ModelName,
        extent: Extent,
        bounded: bool,
    ) -> Result<Option<Priced>, Error> {
        let at_ms = now_ms();
        let token = Credential::token_of(&context.principal);
        let holds = bounded
            || tenant.budgeted.any()
            || token.is_some_and(|token| token.budget_micros.is_some());
        let found = self
            .prices
            .price(&model.provider, &model.model, Day::from_ms(at_ms));
        let price = match found {
            Ok(price) => price,
            Err(_) if !holds => return Ok(None),
            Err(unpriced) => {
                let message = format!(
                    "`{model}` has no price, so it cannot be used where budgets are to be kept"
                );
                return Err(Error::forbidden(message).because(unpriced));
            }
        };
        let media = (extent.media as u64).saturating_mul(MEDIA_TOKENS);
        let prompt = (extent.bytes as u64).saturating_add(media);
        let answers = price
            .most_output(extent.allowed)
            .saturating_mul(extent.answers.max(1).into());
        let spender = Spender {
            agent: agent.into(),
            key: context.principal.key.clone().unwrap_or_default(),
            provider: model.provider.as_str().into(),
            model: model.model.as_str().into(),
        };
        Ok(Some(Priced {
            call: Reserve {
                id: ReservationId::new(),
                amount: price.upper_bound(prompt, answers),
                at_ms,
                spender,
                tokens: tokens(context),
                above: Arc::default(),
            },
            price,
            prompt: media.saturating_add(guess(extent.bytes)),
            holds,
            begun: Instant::now(),
            answers,
        }))
    }
}

impl Priced {
    /// Made in a session that these started: it counts in their budgets too.
    pub(crate) fn below(mut self, above: Arc<[SessionId]>) -> Self {
        self.call.above = above;
        self
    }

    /// The most it can cost.
    pub(crate) fn most(&self) -> Money {
        self.call.amount
    }

    /// What goes with its intent.
    pub(crate) fn reservation(&self) -> Option<LedgerOp> {
        self.holds.then(|| LedgerOp::Reserve(self.call.clone()))
    }

    /// What goes with an end that is no outcome.
    pub(crate) fn release(self) -> Option<LedgerOp> {
        let id = self.call.id;
        self.holds.then_some(LedgerOp::Release { id })
    }

    /// What goes with its outcome, and what that says. None: nothing was spent.
    pub(crate) fn settle(self, spent: Spent) -> (Option<LedgerOp>, Option<Settled>) {
        let (usage, estimated) = match spent {
            Spent::Nothing => return (self.release(), None),
            Spent::Counted(usage) => (usage, false),
            Spent::Said(bytes) => (self.guessed(guess(bytes)), true),
            Spent::Unheard => {
                let while_it_ran = self.begun.elapsed().as_millis() as u64 / 4;
                (self.guessed(while_it_ran.min(self.answers)), true)
            }
        };
        let cost = self.price.of(&usage);
        let cost = Money::from_nanos(MOST_COST).map_or(cost, |most| cost.min(most));
        let op = if self.holds {
            let id = self.call.id;
            LedgerOp::Settle { id, cost, usage }
        } else {
            let call = Reserve {
                amount: cost,
                ..self.call
            };
            LedgerOp::Spend { call, usage }
        };
        let settled = Settled {
            cost,
            usage,
            estimated,
        };
        (Some(op), Some(settled))
    }

    fn guessed(&self, output_tokens: u64) -> Usage {
        Usage {
            input_tokens: self.prompt.min(MOST_TOKENS),
            output_tokens: output_tokens.min(MOST_TOKENS),
            ..Usage::default()
        }
    }
}

fn guess(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_OF_TOKEN) as u64
}

/// What a call took, by what is known of it when it is over.
pub(crate) fn spent(usage: &ambit_inference::Usage, heard: usize, how: Over) -> Spent {
    match (counted(usage), how) {
        (_, Over::Refused) => Spent::Nothing,
        (Some(usage), Over::Ended) => Spent::Counted(usage),
        // What was counted on the way may be less than what came after.
        (Some(usage), Over::Broken | Over::Unheard) => {
            let output_tokens = usage.output_tokens.max(guess(heard));
            Spent::Counted(Usage {
                output_tokens,
                ..usage
            })
        }
        (None, Over::Unheard) if heard == 0 => Spent::Unheard,
        (None, Over::Ended | Over::Broken | Over::Unheard) => Spent::Said(heard),
    }
}

/// How a call was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// As it should.
    Ended,
    /// In the middle of what was heard of it.
    Broken,
    /// Nobody knows how far the provider came.
    Unheard,
    /// The provider said that there is no answer, or never heard of it.
    Refused,
}

impl Over {
    /// Of a call that failed before its answer was heard.
    pub(crate) fn failed(error: &ProviderError) -> Self {
        match error {
            ProviderError::UnknownProvider(_)
            | ProviderError::NoPassThrough(_)
            | ProviderError::Invalid { .. }
            | ProviderError::ConnectFailed(_)
            | ProviderError::RateLimited { .. }
            | ProviderError::Upstream { .. } => Self::Refused,
            ProviderError::Timeout(_)
            | ProviderError::InvalidResponse { .. }
            | ProviderError::Interrupted(_)
            | ProviderError::TooLarge { .. } => Self::Unheard,
        }
    }
}

/// A provider's counts, as far as they are some. None where it counted nothing.
fn counted(usage: &ambit_inference::Usage) -> Option<Usage> {
    let counted = |count: u64| count.min(MOST_TOKENS);
    (*usage != ambit_inference::Usage::default()).then(|| Usage {
        input_tokens: counted(usage.input_tokens),
        cached_tokens: counted(usage.cached_tokens),
        output_tokens: counted(usage.output_tokens),
        reasoning_tokens: counted(usage.reasoning_tokens),
    })
}

/// The capability token a call is made with, and its ancestors: each may have a budget.
fn tokens(context: &CallContext) -> Arc<[TokenId]> {
    let token = Credential::token_of(&context.principal);
    token.map_or_else(Arc::default, |token| token.lineage().collect())
}

/// A call that can cost 50,000 nano-units.
#[cfg(test)]
pub(crate) fn priced(holds: bool) -> Priced {
    let table = PriceTable::parse(
        r#"price = [{ provider = "p", model = "m", effective_from = 2020-01-01, input = "1", output = "2" }]"#,
    );
    let price = table.unwrap().price("p", "m", Day::from_ms(now_ms()));
    let price = price.unwrap();
    let [agent, key, provider, model] = ["a", "", "p", "m"].map(Into::into);
    Priced {
        call: Reserve {
            id: ReservationId::new(),
            amount: price.upper_bound(10, 20),
            at_ms: 0,
            spender: Spender {
                agent,
                key,
                provider,
                model,
            },
            tokens: Arc::default(),
            above: Arc::default(),
        },
        price,
        prompt: guess(10),
        answers: 20,
        begun: Instant::now(),
        holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(settled: Option<Settled>) -> Option<(i64, bool)> {
        settled.map(|settled| (settled.cost.nanos(), settled.estimated))
    }

    #[test]
    fn what_was_held_back_is_settled_and_what_was_not_is_spent() {
        let usage = Usage {
            input_tokens: 5,
            output_tokens: 3,
            ..Usage::default()
        };
        for (spent, cost) in [
            (Spent::Nothing, None),
            (Spent::Counted(usage), Some((5_000 + 6_000, false))),
            (Spent::Said(7), Some((4_000 + 6_000, true))),
            (Spent::Said(0), Some((4_000, true))),
            // As if it had just begun.
            (Spent::Unheard, Some((4_000, true))),
        ] {
            let held = priced(true);
            assert!(matches!(held.reservation(), Some(LedgerOp::Reserve(_))));
            let (op, settled) = held.settle(spent);
            assert_eq!(nanos(settled), cost);
            match op {
                Some(LedgerOp::Settle { cost: settled, .. }) => {
                    assert_eq!(Some(settled.nanos()), cost.map(|(nanos, _)| nanos));
                }
                Some(LedgerOp::Release { .. }) => assert_eq!(cost, None),
                other => panic!("{other:?}"),
            }
            let free = priced(false);
            assert!(free.reservation().is_none());
            let (op, settled) = free.settle(spent);
            assert_eq!(nanos(settled), cost);
            match op {
                Some(LedgerOp::Spend { call, .. }) => {
                    assert_eq!(Some(call.amount.nanos()), cost.map(|(nanos, _)| nanos));
                }
                None => assert_eq!(cost, None),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            priced(true).release(),
            Some(LedgerOp::Release { .. })
        ));
        assert!(priced(false).release().is_none());
    }

    #[test]
    fn what_nobody_heard_is_what_a_model_can_write_meanwhile() {
        for (millis, tokens) in [(0, 0), (40, 10), (10_000, 20)] {
            let mut call = priced(true);
            call.begun = Instant::now() - Duration::from_millis(millis);
            let (_, settled) = call.settle(Spent::Unheard);
            let output = settled.unwrap().usage.output_tokens;
            // No less, and no more than the answer's limit; the clock goes on while this runs.
            assert!(output >= tokens && output <= 20, "{millis}: {output}");
        }
    }

    #[test]
    fn what_is_known_decides_what_was_spent() {
        let usage = |output_tokens| ambit_inference::Usage {
            input_tokens: 5,
            output_tokens,
            ..Default::default()
        };
        let none = ambit_inference::Usage::default();
        for (usage, heard, how, expected) in [
            (usage(3), 99, Over::Ended, "Counted 3"),
            (usage(3), 99, Over::Broken, "Counted 33"),
            (usage(50), 99, Over::Unheard, "Counted 50"),
            (usage(3), 99, Over::Refused, "Nothing"),
            (none, 99, Over::Ended, "Said 99"),
            (none, 0, Over::Ended, "Said 0"),
            (none, 99, Over::Unheard, "Said 99"),
            (none, 0, Over::Unheard, "Unheard"),
            (none, 0, Over::Broken, "Said 0"),
        ] {
            let told = match spent(&usage, heard, how) {
                Spent::Nothing => "Nothing".to_owned(),
                Spent::Unheard => "Unheard".to_owned(),
                Spent::Said(bytes) => format!("Said {bytes}"),
                Spent::Counted(usage) => format!("Counted {}", usage.output_tokens),
            };
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn counts_that_are_none_are_cut() {
        let usage = ambit_inference::Usage {
            input_tokens: u64::MAX,
            ..Default::default()
        };
        assert_eq!(counted(&usage).unwrap().input_tokens, MOST_TOKENS);
        assert!(counted(&Default::default()).is_none());
    }
}
