//! Metadata filters in the shape of OpenAI's vector stores, checked once and carried out inside the query.
//!
//! Rules where OpenAI's description is silent: values of different types are never equal and never ordered (`"5"` is not `5`); texts
//! order by their bytes, so ISO dates compare as dates; a document without the attribute matches `ne` and `nin` only.

use crate::{IndexError, Value, limits, schema::Fields};
use serde_json::{Map, Value as Json};
use std::ops::Bound;
use tantivy::query::{
    AllQuery, BooleanQuery, InvertedIndexRangeQuery, Occur, Query, TermQuery, TermSetQuery,
};
use tantivy::schema::IndexRecordOption::Basic;

/// Bytes of a filter's JSON.
const LONGEST: usize = 64 * 1024;
/// `and`/`or` inside each other.
const DEEPEST: usize = 16;
/// Comparisons in one filter: each `ne` or range may touch every document.
const MOST: usize = 128;
/// Values of one `in` or `nin`.
const MOST_VALUES: usize = 1000;

/// A filter that was read and keeps the limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Compare {
        name: String,
        operator: Operator,
        value: Value,
    },
    OneOf {
        name: String,
        values: Vec<Value>,
        negated: bool,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Filter {
    /// Reads the JSON of a filter.
    ///
    /// # Errors
    /// [`IndexError::Invalid`] says where, as a path from `filter`.
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        if text.len() > LONGEST {
            return Err(IndexError::Invalid(format!(
                "filter: longer than {LONGEST} bytes"
            )));
        }
        let json: Json = serde_json::from_str(text)
            .map_err(|error| IndexError::Invalid(format!("filter: not JSON: {error}")))?;
        let mut parser = Parser { comparisons: 0 };
        parser
            .node(&json, "filter", 1)
            .map(Self)
            .map_err(IndexError::Invalid)
    }

    pub(crate) fn query(&self, fields: &Fields) -> Box<dyn Query> {
        self.0.query(fields)
    }
}

struct Parser {
    comparisons: usize,
}

impl Parser {
    fn node(&mut self, json: &Json, path: &str, depth: usize) -> Result<Node, String> {
        let object = json
            .as_object()
            .ok_or_else(|| format!("{path}: expected an object"))?;
        let kind = object
            .get("type")
            .and_then(Json::as_str)
            .ok_or_else(|| format!("{path}.type: expected a text"))?;
        if let "and" | "or" = kind {
            only(object, &["type", "filters"], path)?;
            if depth > DEEPEST {
                return Err(format!("{path}: more than {DEEPEST} levels"));
            }
            let filters = object
                .get("filters")
                .and_then(Json::as_array)
                .filter(|filters| !filters.is_empty());
            let filters = filters
                .ok_or_else(|| format!("{path}.filters: expected a list that is not empty"))?;
            let mut nodes = Vec::new();
            for (place, filter) in filters.iter().enumerate() {
                nodes.push(self.node(filter, &format!("{path}.filters[{place}]"), depth + 1)?);
            }
            return Ok(if kind == "and" {
                Node::And(nodes)
            } else {
                Node::Or(nodes)
            });
        }
        only(object, &["type", "key", "value"], path)?;
        self.comparisons += 1;
        if self.comparisons > MOST {
            return Err(format!("{path}: more than {MOST} comparisons"));
        }
        let name = object
            .get("key")
            .and_then(Json::as_str)
            .filter(|key| (1..=limits::NAME).contains(&key.len()));
        let name = name
            .ok_or_else(|| format!("{path}.key: expected a text of 1 to {} bytes", limits::NAME))?
            .to_owned();
        let json = object
            .get("value")
            .ok_or_else(|| format!("{path}.value: missing"))?;
        let operator = match kind {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "gt" => Operator::Gt,
            "gte" => Operator::Gte,
            "lt" => Operator::Lt,
            "lte" => Operator::Lte,
            "in" | "nin" => {
                let values = json.as_array().filter(|values| values.len() <= MOST_VALUES);
                let values = values.ok_or_else(|| {
                    format!("{path}.value: expected a list of at most {MOST_VALUES} values")
                })?;
                let values = values
                    .iter()
                    .map(|json| value(json, path))
                    .collect::<Result<_, _>>()?;
                return Ok(Node::OneOf {
                    name,
                    values,
                    negated: kind == "nin",
                });
            }
            _ => {
                return Err(format!(
                    "{path}.type: expected eq, ne, gt, gte, lt, lte, in, nin, and or or"
                ));
            }
        };
        let value = value(json, path)?;
        if matches!(value, Value::Boolean(_)) && !matches!(operator, Operator::Eq | Operator::Ne) {
            return Err(format!("{path}.value: `{kind}` compares numbers and texts"));
        }
        Ok(Node::Compare {
            name,
            operator,
            value,
        })
    }
}

/// A misspelt field must not silently widen what a filter lets through.
fn only(object: &Map<String, Json>, known: &[&str], path: &str) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(_) => Err(format!("{path}: expected only {}", known.join(", "))),
        None => Ok(()),
    }
}

fn value(json: &Json, path: &str) -> Result<Value, String> {
    match json {
        Json::Bool(boolean) => Some(Value::Boolean(*boolean)),
        Json::Number(number) => number
            .as_f64()
            .filter(|number| number.is_finite())
            .map(Value::Number),
        Json::String(text) if text.len() <= limits::VALUE => Some(Value::Text(text.clone())),
        _ => None,
    }
    .ok_or_else(|| {
        format!(
            "{path}.value: expected a text of at most {} bytes, a finite number or a boolean",
            limits::VALUE
        )
    })
}

impl Node {
    fn query(&self, fields: &Fields) -> Box<dyn Query> {
        match self {
            Self::Compare {
                name,
                operator,
                value,
            } => {
                let term = fields.attribute_term(name, value);
                let equal = |term| -> Box<dyn Query> { Box::new(TermQuery::new(term, Basic)) };
                let between = |from, to| -> Box<dyn Query> {
                    Box::new(InvertedIndexRangeQuery::new(from, to))
                };
                let (first, last) = fields.attribute_range(name, value);
                match operator {
                    Operator::Eq => equal(term),
                    Operator::Ne => not(equal(term)),
                    Operator::Gt => between(Bound::Excluded(term), Bound::Excluded(last)),
                    Operator::Gte => between(Bound::Included(term), Bound::Excluded(last)),
                    Operator::Lt => between(Bound::Included(first), Bound::Excluded(term)),
                    Operator::Lte => between(Bound::Included(first), Bound::Included(term)),
                }
            }
            Self::OneOf {
                name,
                values,
                negated,
            } => {
                let any = Box::new(TermSetQuery::new(
                    values
                        .iter()
                        .map(|value| fields.attribute_term(name, value)),
                ));
                if *negated { not(any) } else { any }
            }
            Self::And(nodes) => join(nodes, Occur::Must, fields),
            Self::Or(nodes) => join(nodes, Occur::Should, fields),
        }
    }
}

fn join(nodes: &[Node], occur: Occur, fields: &Fields) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(
        nodes
            .iter()
            .map(|node| (occur, node.query(fields)))
            .collect(),
    ))
}

fn not(query: Box<dyn Query>) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(vec![
        (Occur::Must, Box::new(AllQuery)),
        (Occur::MustNot, query),
    ]))
}
