//! Mistakes in what people wrote, all reported together, and the reader that collects them.

use std::fmt;
use toml::{Table, Value};

/// One mistake: where, what stands there, what should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path with indices, for example `permissions.http[1].origin`. Empty: the text as a whole.
    pub key: String,
    /// What was found, shortened. Empty where nothing was.
    pub value: String,
    /// What was expected, fit to follow the word "expected".
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if self.value.is_empty() {
            write!(f, "missing, expected {}", self.expected)
        } else {
            write!(f, "found {}, expected {}", self.value, self.expected)
        }
    }
}

/// Several problems as one error: one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value as a person would recognise it in a message; long ones are cut.
fn show(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("`{text}`"),
        Value::Table(_) => "a table".to_owned(),
        other => format!("`{other}`"),
    };
    if text.chars().count() > 80 {
        text.chars().take(79).chain(['…']).collect()
    } else {
        text
    }
}

/// Takes keys out of a table one by one; what is left at the end nobody knows, which is a mistake too.
pub struct Reader<'p> {
    table: Table,
    path: String,
    problems: &'p mut Vec<Problem>,
}

impl<'p> Reader<'p> {
    pub fn new(table: Table, path: impl Into<String>, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            table,
            path: path.into(),
            problems,
        }
    }

    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The keys not taken yet, sorted.
    pub fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Whether `name` is there and is not an empty list.
    pub fn lists(&self, name: &str) -> bool {
        self.table
            .get(name)
            .is_some_and(|value| value.as_array().is_none_or(|items| !items.is_empty()))
    }

    pub fn missing(&mut self, name: &str, expected: impl Into<String>) {
        let key = self.key(name);
        self.problems.push(Problem {
            key,
            value: String::new(),
            expected: expected.into(),
        });
    }

    pub fn unexpected(&mut self, name: &str, value: &str, expected: &str) {
        let key = self.key(name);
        self.problems.push(Problem {
            key,
            value: value.to_owned(),
            expected: expected.to_owned(),
        });
    }

    fn wrong(&mut self, key: String, value: &Value, expected: impl Into<String>) {
        self.problems.push(Problem {
            key,
            value: show(value),
            expected: expected.into(),
        });
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.table.remove(name)
    }

    /// An optional text. `None` also where it is wrong, which is then recorded.
    pub fn text(&mut self, name: &str, expected: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                let key = self.key(name);
                self.wrong(key, &other, expected);
                None
            }
        }
    }

    /// An optional text with a parser whose error says what was expected.
    pub fn parsed<T, E: fmt::Display>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name, expected)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                let key = self.key(name);
                self.wrong(key, &Value::String(text), error.to_string());
                None
            }
        }
    }

    pub fn required<T, E: fmt::Display>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.table.contains_key(name) {
            self.missing(name, expected);
            return None;
        }
        self.parsed(name, expected, parse)
    }

    pub fn flag(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Boolean(flag)) => flag,
            Some(other) => {
                let key = self.key(name);
                self.wrong(key, &other, "`true` or `false`");
                false
            }
        }
    }

    pub fn count(&mut self, name: &str, expected: &str) -> Option<u32> {
        let value = self.take(name)?;
        match value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0)
        {
            Some(number) => Some(number),
            None => {
                let key = self.key(name);
                self.wrong(key, &value, expected);
                None
            }
        }
    }

    /// The sub-table `name`, empty where absent.
    pub fn table(&mut self, name: &str) -> Reader<'_> {
        let path = self.key(name);
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.wrong(path.clone(), &other, "a table");
                Table::new()
            }
        };
        Reader {
            table,
            path,
            problems: self.problems,
        }
    }

    /// Reads each item of the optional list `name`.
    pub fn list<T>(
        &mut self,
        name: &str,
        expected: &str,
        mut read: impl FnMut(Item<'_>) -> Option<T>,
    ) -> Vec<T> {
        let path = self.key(name);
        let items = match self.take(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong(path, &other, expected);
                return Vec::new();
            }
        };
        items
            .into_iter()
            .enumerate()
            .filter_map(|(position, value)| {
                read(Item {
                    value,
                    key: format!("{path}[{position}]"),
                    problems: self.problems,
                })
            })
            .collect()
    }

    /// Every key still there is unknown.
    pub fn finish(self, known: &str) {
        for (name, value) in &self.table {
            let key = if self.path.is_empty() {
                name.clone()
            } else {
                format!("{}.{name}", self.path)
            };
            self.problems.push(Problem {
                key,
                value: show(value),
                expected: format!("no such key; known here: {known}"),
            });
        }
    }
}

/// One item of a list.
pub struct Item<'p> {
    value: Value,
    key: String,
    problems: &'p mut Vec<Problem>,
}

impl<'p> Item<'p> {
    pub fn wrong(self, expected: impl Into<String>) {
        self.problems.push(Problem {
            key: self.key,
            value: show(&self.value),
            expected: expected.into(),
        });
    }

    /// The item as a text; anything else is recorded as a mistake.
    pub fn text(self, expected: &str) -> Option<String> {
        match self.as_str().map(str::to_owned) {
            Some(text) => Some(text),
            None => {
                self.wrong(expected);
                None
            }
        }
    }

    /// The item as a text that `parse` takes; anything else is recorded as a mistake.
    pub fn parsed<T>(self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match self.as_str().and_then(parse) {
            Some(value) => Some(value),
            None => {
                self.wrong(expected);
                None
            }
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        self.value.as_str()
    }

    pub fn into_table(self, expected: &str) -> Option<Reader<'p>> {
        match self.value {
            Value::Table(table) => Some(Reader {
                table,
                path: self.key,
                problems: self.problems,
            }),
            _ => {
                self.wrong(expected);
                None
            }
        }
    }
}
