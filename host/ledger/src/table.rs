//! Finding the price of a model.

use crate::{Day, Money, Price, PriceFileError, money::Rate, parse};
use std::time::Duration;

/// What models and computing cost, by day. A file and what overrides it stay apart: a row of the later file that fits is taken, however
/// general, before any of the earlier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceTable {
    /// Later files first.
    pub(crate) files: Vec<PriceFile>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PriceFile {
    pub(crate) rows: Vec<Row>,
    /// For a millisecond of CPU time.
    pub(crate) compute: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) provider: String,
    pub(crate) model: Pattern,
    pub(crate) from: Day,
    pub(crate) price: Price,
}

/// A model's name, or what names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    Exactly(String),
    Beginning(String),
}

/// There is no price: whoever asks decides whether such a call is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{provider}/{model} has no price on {day}")]
pub struct Unpriced {
    pub provider: String,
    pub model: String,
    pub day: Day,
}

impl PriceTable {
    /// The maintained list in `host/ledger/prices.toml`.
    #[must_use]
    pub fn shipped() -> Self {
        // The tests parse it: a mistake does not get past them.
        Self::parse(include_str!("../prices.toml")).unwrap_or(Self { files: Vec::new() })
    }

    /// Reads a price file, as `prices.toml` shows it.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it is no TOML.
    pub fn parse(text: &str) -> Result<Self, PriceFileError> {
        let files = vec![parse::file(text)?];
        Ok(Self { files })
    }

    /// This table with the other's rows before its own. Computing costs what the other says, if it says so.
    #[must_use]
    pub fn overridden_by(mut self, other: Self) -> Self {
        self.files.splice(0..0, other.files);
        self
    }

    /// What a model costs on a day: of the rows in effect, that of its very name, else of the longest beginning of it; of several, the
    /// latest.
    ///
    /// # Errors
    /// No row fits.
    pub fn price(&self, provider: &str, model: &str, day: Day) -> Result<Price, Unpriced> {
        let in_file = |file: &PriceFile| {
            let rows = file.rows.iter();
            rows.filter(|row| row.provider == provider && row.from <= day)
                .filter_map(|row| Some(((row.model.fits(model)?, row.from), row.price)))
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, price)| price)
        };
        self.files.iter().find_map(in_file).ok_or_else(|| Unpriced {
            provider: provider.to_owned(),
            model: model.to_owned(),
            day,
        })
    }

    /// What CPU time of components costs, rounded up to the next nano-unit.
    #[must_use]
    pub fn compute(&self, cpu: Duration) -> Money {
        let rate = self.files.iter().find_map(|file| file.compute);
        // Per millisecond, for nanoseconds.
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        Money::from_picos(rate.unwrap_or_default().picos(nanos).div_ceil(1_000_000))
    }
}

impl Pattern {
    /// How well: the whole name before any beginning, and of beginnings the longest.
    fn fits(&self, model: &str) -> Option<usize> {
        match self {
            Self::Exactly(name) => (name == model).then_some(usize::MAX),
            Self::Beginning(prefix) => model.starts_with(prefix).then_some(prefix.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        price = [
            { provider = "p", model = "*", effective_from = 2020-01-01, input = "9", output = "9" },
            { provider = "p", model = "m*", effective_from = 2020-01-01, input = "1", output = "1" },
            { provider = "p", model = "m-1*", effective_from = 2020-01-01, input = "2", output = "2" },
            { provider = "p", model = "m-1-x", effective_from = 2022-01-01, input = "3", output = "3" },
            { provider = "p", model = "m-1-x", effective_from = 2021-01-01, input = "4", output = "4" },
            { provider = "q", model = "m", effective_from = 2021-01-01, input = "5", output = "5" },
        ]
        compute = { per_cpu_ms = "0.000000011244" }
    "#;

    fn input(table: &PriceTable, provider: &str, model: &str, day: &str) -> Option<i64> {
        let price = table.price(provider, model, day.parse().unwrap()).ok()?;
        Some(price.upper_bound(1_000_000, 0).nanos() / 1_000_000_000)
    }

    #[test]
    fn the_nearest_row_in_effect_is_taken() {
        let table = PriceTable::parse(TABLE).unwrap();
        for (provider, model, day, expected) in [
            ("p", "other", "2026-01-01", Some(9)),
            ("p", "m", "2026-01-01", Some(1)),
            ("p", "m-1", "2026-01-01", Some(2)),
            ("p", "m-1-x", "2026-01-01", Some(3)),
            ("p", "m-1-x", "2022-01-01", Some(3)),
            ("p", "m-1-x", "2021-12-31", Some(4)),
            ("p", "m-1-x", "2020-12-31", Some(2)),
            ("p", "m-1-x", "2019-12-31", None),
            ("p", "", "2020-01-01", Some(9)),
            ("q", "m", "2021-01-01", Some(5)),
            ("q", "m2", "2026-01-01", None),
            ("P", "m", "2026-01-01", None),
            ("q", "*", "2026-01-01", None),
        ] {
            assert_eq!(
                input(&table, provider, model, day),
                expected,
                "{provider}/{model} on {day}"
            );
        }
        let absent = table.price("q", "x", "2026-11-21".parse().unwrap());
        assert_eq!(
            absent.unwrap_err().to_string(),
            "q/x has no price on 2026-11-21"
        );
    }

    #[test]
    fn an_override_goes_before_however_general() {
        let other = r#"price = [{ provider = "p", model = "m*", effective_from = 2025-01-01, input = "7", output = "7" }]"#;
        let table = PriceTable::parse(TABLE).unwrap();
        let compute = table.compute(Duration::from_secs(1));
        let table = table.overridden_by(PriceTable::parse(other).unwrap());
        for (model, day, expected) in [
            ("m-1-x", "2025-01-01", Some(7)),
            ("m-1-x", "2024-12-31", Some(3)),
            ("other", "2025-01-01", Some(9)),
        ] {
            assert_eq!(input(&table, "p", model, day), expected, "{model} on {day}");
        }
        assert_eq!(table.compute(Duration::from_secs(1)), compute);
        let free = PriceTable::parse(r#"compute = { per_cpu_ms = "0" }"#).unwrap();
        let table = table.overridden_by(free);
        assert_eq!(table.compute(Duration::MAX), Money::ZERO);
    }

    #[test]
    fn computing_is_priced_by_time_and_rounded_up() {
        let table = PriceTable::parse(TABLE).unwrap();
        for (cpu, nanos) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1), 12),
            (Duration::from_secs(1000), 11_244_000),
            (Duration::from_secs(3600), 40_478_400),
        ] {
            assert_eq!(table.compute(cpu).nanos(), nanos, "{cpu:?}");
        }
    }
}
