//! Reading a price file, with all mistakes reported together.

use crate::{
    Day, Price,
    money::Rate,
    table::{Pattern, PriceFile, Row},
};
use std::fmt;
use toml::{Table, Value};

/// Why a price file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceFileError {
    #[error("the price file is no TOML")]
    Syntax(#[source] Box<toml::de::Error>),
    /// Every one of them, in the order of the file.
    #[error("the price file is wrong: {}", .0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("; "))]
    Mistakes(Vec<Mistake>),
}

/// A value that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `price[3].input`, counted from 0.
    pub key: String,
    /// What stands there; empty if nothing does.
    pub value: String,
    pub expected: &'static str,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            expected,
        } = self;
        if value.is_empty() {
            write!(f, "{key} is missing: expected {expected}")
        } else {
            write!(f, "{key} is {value}: expected {expected}")
        }
    }
}

const NOTHING: &str = "no such key";
const CURRENCY: &str = "a text, as \"USD\"";
const ROWS: &str = "an array of tables";
const COMPUTE: &str = "a table with per_cpu_ms";
const NAME: &str = "a text of 1 to 256 bytes";
const MODEL: &str = "a text of 1 to 256 bytes, with `*` at its end or nowhere";
const DATE: &str = "a date, as 2026-11-21, from 1970-01-01 on";
const PER_MILLION: &str =
    "the price for a million tokens as a decimal text, as \"1.25\", with at most 6 decimals";
const EACH: &str = "the price for one as a decimal text, as \"0.01\", with at most 12 decimals";
const COUNT: &str = "a whole number of tokens from 1 to 4294967296";
const ONCE: &str = "one row for a provider, model and date";

pub(crate) fn file(text: &str) -> Result<PriceFile, PriceFileError> {
    let mut table: Table = text
        .parse()
        .map_err(|e| PriceFileError::Syntax(Box::new(e)))?;
    let mut mistakes = Mistakes(Vec::new());
    if let Some(currency) = table.remove("currency") {
        mistakes.check("currency", Some(&currency), CURRENCY, name);
    }
    let rows = match table.remove("price") {
        None => Vec::new(),
        Some(Value::Array(rows)) => rows
            .into_iter()
            .enumerate()
            .filter_map(|(n, row)| mistakes.row(&format!("price[{n}]"), row))
            .collect(),
        Some(other) => {
            mistakes.add("price", Some(&other), ROWS);
            Vec::new()
        }
    };
    for (n, row) in rows.iter().enumerate() {
        let same = |other: &&Row| {
            (&other.provider, &other.model, other.from) == (&row.provider, &row.model, row.from)
        };
        if rows[..n].iter().any(|other| same(&other)) {
            let Row {
                provider,
                model,
                from,
                ..
            } = row;
            mistakes.0.push(Mistake {
                key: format!("price of {provider}/{model} from {from}"),
                value: "there twice".to_owned(),
                expected: ONCE,
            });
        }
    }
    let compute = match table.remove("compute") {
        None => None,
        Some(Value::Table(mut compute)) => {
            let rate = compute.remove("per_cpu_ms");
            let rate = mistakes.check("compute.per_cpu_ms", rate.as_ref(), EACH, each);
            mistakes.unknown("compute.", &compute);
            rate
        }
        Some(other) => {
            mistakes.add("compute", Some(&other), COMPUTE);
            None
        }
    };
    mistakes.unknown("", &table);
    if mistakes.0.is_empty() {
        Ok(PriceFile { rows, compute })
    } else {
        Err(PriceFileError::Mistakes(mistakes.0))
    }
}

struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, key: &str, value: Option<&Value>, expected: &'static str) {
        let value = value.map(|value| value.to_string().chars().take(80).collect());
        self.0.push(Mistake {
            key: key.to_owned(),
            value: value.unwrap_or_default(),
            expected,
        });
    }

    fn check<T>(
        &mut self,
        key: &str,
        value: Option<&Value>,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let read = value.and_then(read);
        if read.is_none() {
            self.add(key, value, expected);
        }
        read
    }

    fn unknown(&mut self, prefix: &str, rest: &Table) {
        for (key, value) in rest {
            self.add(&[prefix, key].concat(), Some(value), NOTHING);
        }
    }

    fn row(&mut self, at: &str, row: Value) -> Option<Row> {
        let Value::Table(mut row) = row else {
            self.add(at, Some(&row), ROWS);
            return None;
        };
        let prefix = [at, "."].concat();
        let key = |name: &str| [&prefix, name].concat();
        let mut take = |name: &str| row.remove(name);
        let provider = self.check(&key("provider"), take("provider").as_ref(), NAME, name);
        let model = self.check(&key("model"), take("model").as_ref(), MODEL, pattern);
        let from = take("effective_from");
        let from = self.check(&key("effective_from"), from.as_ref(), DATE, day);
        let input = take("input");
        let input = self.check(&key("input"), input.as_ref(), PER_MILLION, per_million);
        let output = take("output");
        let output = self.check(&key("output"), output.as_ref(), PER_MILLION, per_million);
        // What is not said costs what the rest of its kind does; a request by itself nothing.
        let mut or = |name, default, expected, read: fn(&Value) -> Option<Rate>| match take(name) {
            None => default,
            value => self.check(&key(name), value.as_ref(), expected, read),
        };
        let cached_input = or("cached_input", input, PER_MILLION, per_million);
        let reasoning = or("reasoning", output, PER_MILLION, per_million);
        let per_request = or("per_request", Some(Rate::default()), EACH, each);
        let max_output = match take("max_output") {
            None => Some(None),
            value => self
                .check(&key("max_output"), value.as_ref(), COUNT, count)
                .map(Some),
        };
        self.unknown(&prefix, &row);
        Some(Row {
            provider: provider?,
            model: model?,
            from: from?,
            price: Price {
                input: input?,
                cached_input: cached_input?,
                output: output?,
                reasoning: reasoning?,
                per_request: per_request?,
                max_output: max_output?,
            },
        })
    }
}

fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (1..=256).contains(&text.len()).then(|| text.to_owned())
}

fn pattern(value: &Value) -> Option<Pattern> {
    let text = name(value)?;
    match text.split_once('*') {
        None => Some(Pattern::Exactly(text)),
        Some((prefix, "")) => Some(Pattern::Beginning(prefix.to_owned())),
        Some(_) => None,
    }
}

fn day(value: &Value) -> Option<Day> {
    let date = value.as_datetime()?;
    if date.time.is_some() || date.offset.is_some() {
        return None;
    }
    let date = date.date?;
    Day::from_date(
        date.year.try_into().ok()?,
        date.month.try_into().ok()?,
        date.day.try_into().ok()?,
    )
}

fn count(value: &Value) -> Option<u64> {
    let count = u64::try_from(value.as_integer()?).ok()?;
    (1..=1 << 32).contains(&count).then_some(count)
}

fn per_million(value: &Value) -> Option<Rate> {
    Rate::per_million(value.as_str()?)
}

fn each(value: &Value) -> Option<Rate> {
    Rate::each(value.as_str()?)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::Beginning(prefix) => f.write_str(prefix).and_then(|()| f.write_str("*")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PriceTable;

    #[test]
    fn the_shipped_file_is_read_and_prices_what_it_should() {
        let shipped = file(include_str!("../prices.toml")).unwrap();
        assert!(shipped.rows.len() > 30 && shipped.compute.is_some());
        assert_eq!(PriceTable::shipped().files, [shipped]);
        let today = "2026-11-21".parse().unwrap();
        for (provider, model, input, cached, output) in [
            ("extractive", "extractive", "0", "0", "0"),
            ("openai", "gpt-5.2", "1.75", "0.175", "14"),
            ("openai", "gpt-5.2-2025-12-11", "1.75", "0.175", "14"),
            ("openai", "gpt-5.2-pro", "21", "21", "168"),
            ("openai", "gpt-4o-mini-2024-07-18", "0.15", "0.075", "0.6"),
            ("anthropic", "claude-opus-4-1-20250805", "15", "1.5", "75"),
            ("anthropic", "claude-opus-4-5-20251101", "5", "0.5", "25"),
            ("anthropic", "claude-haiku-4-5", "1", "0.1", "5"),
        ] {
            let price = PriceTable::shipped().price(provider, model, today).unwrap();
            let usage = |input_tokens, cached_tokens, output_tokens| crate::Usage {
                input_tokens,
                cached_tokens,
                output_tokens,
                reasoning_tokens: output_tokens,
            };
            const M: u64 = 1_000_000;
            let costs = [usage(M, 0, 0), usage(M, M, 0), usage(0, 0, M)];
            let costs = costs.map(|usage| price.of(&usage).to_string());
            assert_eq!(costs, [input, cached, output], "{provider}/{model}");
        }
        // No family's name stands for a model that is not known yet.
        for model in ["gpt-9", "gpt-5.2-ultra", "claude-opus-9", ""] {
            for provider in ["openai", "anthropic"] {
                let price = PriceTable::shipped().price(provider, model, today);
                assert!(price.is_err(), "{provider}/{model}");
            }
        }
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let text = r#"
            currency = 7
            colour = "red"
            price = [
                { provider = "", model = "a*b", effective_from = "2026-01-01", input = 1.25, output = "-1" },
                { provider = "p", model = "m", effective_from = 2026-02-28T10:00:00Z, input = "1", output = "1", cached_input = "0.1234567", tax = "1" },
                { provider = "p", model = "m", effective_from = 1969-12-31, input = "1e3", output = "", per_request = "0.0000000000001", max_output = 0 },
                7,
                { provider = "p", model = "m", effective_from = 2026-01-01, input = "1", output = "1" },
                { provider = "p", model = "m", effective_from = 2026-01-01, input = "2", output = "2" },
                {},
            ]
            [compute]
            per_cpu_ms = 0
            per_gpu_ms = "1"
        "#;
        let Err(PriceFileError::Mistakes(mistakes)) = file(text) else {
            panic!("mistakes")
        };
        let keys: Vec<_> = mistakes
            .iter()
            .map(|mistake| mistake.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "currency",
                "price[0].provider",
                "price[0].model",
                "price[0].effective_from",
                "price[0].input",
                "price[0].output",
                "price[1].effective_from",
                "price[1].cached_input",
                "price[1].tax",
                "price[2].effective_from",
                "price[2].input",
                "price[2].output",
                "price[2].per_request",
                "price[2].max_output",
                "price[3]",
                "price[6].provider",
                "price[6].model",
                "price[6].effective_from",
                "price[6].input",
                "price[6].output",
                "price of p/m from 2026-01-01",
                "compute.per_cpu_ms",
                "compute.per_gpu_ms",
                "colour",
            ]
        );
        assert_eq!(
            mistakes[4].to_string(),
            format!("price[0].input is 1.25: expected {PER_MILLION}")
        );
        assert_eq!(
            mistakes[15].to_string(),
            format!("price[6].provider is missing: expected {NAME}")
        );
        assert!(matches!(file("price = ["), Err(PriceFileError::Syntax(_))));
        assert_eq!(file("").unwrap(), PriceFile::default());
        let wide = "9".repeat(40);
        let wide = format!("compute = {{ per_cpu_ms = \"{wide}\" }}");
        assert!(matches!(file(&wide), Err(PriceFileError::Mistakes(_))));
    }
}
