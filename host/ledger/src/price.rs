//! What a call costs.

use crate::{Money, money::Rate};
use serde::{Deserialize, Serialize};

/// Tokens of a call, as the provider counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    /// Part of `input_tokens` read from the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// Part of `output_tokens` spent on reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The price of one model at one time. All values are exact; an amount is rounded once, up to the next nano-unit.
///
/// With at most three decimals for a million tokens, as nearly all list prices have, every amount is a whole number of nano-units
/// before that, so a settlement is exact; with up to six it is less than one nano-unit above the exact cost of its call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    pub(crate) input: Rate,
    pub(crate) cached_input: Rate,
    pub(crate) output: Rate,
    pub(crate) reasoning: Rate,
    pub(crate) per_request: Rate,
    /// Tokens the model writes at most in one answer, where it is known.
    pub(crate) max_output: Option<u64>,
}

/// What an answer is taken to have at most where nobody says: more than models of the day write.
const MAX_OUTPUT: u64 = 131_072;

impl Price {
    /// What a call with at most so many tokens can cost at most: nothing cached that is cheaper, all output of the dearer kind.
    #[must_use]
    pub fn upper_bound(&self, prompt_tokens: u64, max_output_tokens: u64) -> Money {
        let input = self.input.max(self.cached_input).picos(prompt_tokens);
        let output = self.output.max(self.reasoning).picos(max_output_tokens);
        Money::from_picos(self.per_request.picos(1) + input + output)
    }

    /// Tokens one answer has at most: what the caller allows it, or else what the model can write.
    #[must_use]
    pub fn most_output(&self, allowed: Option<u64>) -> u64 {
        let most = self.max_output.unwrap_or(MAX_OUTPUT);
        // A model whose price says what it can write writes no more, whatever the caller would take.
        match (allowed, self.max_output) {
            (Some(allowed), Some(most)) => allowed.min(most),
            (Some(allowed), None) => allowed,
            (None, _) => most,
        }
    }

    /// What a call cost. More cached or reasoning tokens than there are tokens count as all of them.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> Money {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let reasoning = usage.reasoning_tokens.min(usage.output_tokens);
        let picos = self.per_request.picos(1)
            + self.input.picos(usage.input_tokens - cached)
            + self.cached_input.picos(cached)
            + self.output.picos(usage.output_tokens - reasoning)
            + self.reasoning.picos(reasoning);
        Money::from_picos(picos)
    }

    /// Whether no call can cost anything.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let max_output = self.max_output;
        *self
            == Self {
                max_output,
                ..Self::default()
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(texts: [&str; 5]) -> Price {
        let [input, cached_input, output, reasoning] =
            [0, 1, 2, 3].map(|n: usize| Rate::per_million(texts[n]).unwrap());
        Price {
            input,
            cached_input,
            output,
            reasoning,
            per_request: Rate::each(texts[4]).unwrap(),
            max_output: None,
        }
    }

    #[test]
    fn parts_are_priced_as_parts() {
        let price = price(["1.25", "0.125", "10", "20", "0.01"]);
        for (usage, expected) in [
            ([0, 0, 0, 0], "0.01"),
            ([1_000_000, 0, 0, 0], "1.26"),
            ([1_000_000, 400_000, 0, 0], "0.81"),
            ([0, 0, 1_000_000, 0], "10.01"),
            ([0, 0, 1_000_000, 250_000], "12.51"),
            // More than all of it is all of it.
            ([10, u64::MAX, 10, u64::MAX], "0.01020125"),
            ([u64::MAX, 0, u64::MAX, 0], "9223372036.854775807"),
        ] {
            let [input_tokens, cached_tokens, output_tokens, reasoning_tokens] = usage;
            let usage = Usage {
                input_tokens,
                cached_tokens,
                output_tokens,
                reasoning_tokens,
            };
            assert_eq!(price.of(&usage).to_string(), expected, "{usage:?}");
        }
        assert_eq!(price.upper_bound(1_000_000, 1_000_000).to_string(), "21.26");
        assert_eq!(price.upper_bound(u64::MAX, u64::MAX), Money::MAX);
        assert!(!price.is_free() && Price::default().is_free());
    }

    #[test]
    fn an_answer_is_as_long_as_the_caller_or_the_model_allows() {
        let unknown = Price::default();
        let known = Price {
            max_output: Some(100),
            ..unknown
        };
        for (price, allowed, most) in [
            (unknown, None, MAX_OUTPUT),
            (unknown, Some(7), 7),
            (unknown, Some(u64::MAX), u64::MAX),
            (known, None, 100),
            (known, Some(7), 7),
            (known, Some(101), 100),
        ] {
            assert_eq!(price.most_output(allowed), most);
        }
        assert!(known.is_free());
    }

    #[test]
    fn prices_below_a_nano_per_token_are_rounded_once_and_up() {
        let price = price(["0.0005", "0.0005", "0", "0", "0"]);
        let nanos = |input_tokens| {
            let usage = Usage {
                input_tokens,
                ..Usage::default()
            };
            price.of(&usage).nanos()
        };
        assert_eq!([0, 1, 2, 3, 1_000_000].map(nanos), [0, 1, 1, 2, 500_000]);
    }

    prop_compose! {
        fn rates()(picos in proptest::array::uniform5(0_u64..1_000_000_000_000)) -> Price {
            let rate = |n: usize| {
                let text = format!("{}.{:06}", picos[n] / 1_000_000, picos[n] % 1_000_000);
                Rate::per_million(&text).unwrap()
            };
            Price { input: rate(0), cached_input: rate(1), output: rate(2), reasoning: rate(3), per_request: rate(4), max_output: None }
        }
    }

    proptest! {
        #[test]
        fn nothing_costs_more_than_its_bound(price in rates(), input in any::<u64>(), cached in any::<u64>(), output in any::<u64>(),
            reasoning in any::<u64>(), more in 0..1_000_u64)
        {
            let usage = Usage { input_tokens: input, cached_tokens: cached, output_tokens: output, reasoning_tokens: reasoning };
            let bound = price.upper_bound(input, output);
            prop_assert!(price.of(&usage) <= bound);
            prop_assert!(bound <= price.upper_bound(input.saturating_add(more), output.saturating_add(more)));
        }

        #[test]
        fn calls_together_cost_what_their_tokens_do(price in rates(), a in 0..1_000_000_u64, b in 0..1_000_000_u64) {
            let of = |input_tokens| Price { per_request: Rate::default(), ..price }.of(&Usage { input_tokens, ..Usage::default() }).nanos();
            // Each rounding adds less than one nano-unit.
            prop_assert!((0..=1).contains(&(of(a) + of(b) - of(a + b))));
        }

        #[test]
        fn no_fraction_of_a_unit_is_lost_with_three_decimals(milli in 0..1_000_000_u64, tokens in 0..1_000_000_000_u64) {
            let text = format!("{}.{:03}", milli / 1000, milli % 1000);
            let price = Price { output: Rate::per_million(&text).unwrap(), ..Price::default() };
            let cost = price.of(&Usage { output_tokens: tokens, ..Usage::default() });
            prop_assert_eq!(cost.nanos() as u64, milli * tokens);
        }
    }
}
