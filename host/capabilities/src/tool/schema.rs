//! The JSON Schema of a tool's arguments, which a component's author wrote and the host runs.
//!
//! A few kilobytes of schema can ask for more work than any machine does: `$ref`s that fan out double it at each level, a pattern can be compiled to megabytes.
//! So what takes part in that is bounded before a schema is compiled, and the work one check may take is counted before it is done: [`Count`] walks schema and
//! arguments as the validator does, without its short cuts.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Bytes of one schema: a model reads it with every request.
const SCHEMA_CAP: usize = 32 * 1024;
/// Levels of the schema and of all it refers to together: compiling goes down as many.
const LEVELS: usize = 512;
/// Schemas applied within each other to one call's arguments: checking goes down as many.
const DEPTH: usize = 256;
/// Steps of one check, some ten nanoseconds each: the longest arguments under a plain schema take about half.
const STEPS: usize = 1 << 20;
/// Up to here a check is done where it is asked for, and told in full; a longer one has a thread of its own.
const QUICK: usize = 1 << 14;
/// Steps for each byte that is held to a pattern.
const PATTERN_STEPS: usize = 4;
const PATTERN_CAP: usize = 512;
/// Of one compiled pattern, and of what it remembers while it runs.
const PATTERN_MEMORY: usize = 64 * 1024;
/// Violations told to the model at once.
const TOLD: usize = 3;

/// Keywords whose cost cannot be counted in this way; tools do not need them.
const REFUSED: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];
/// Likewise, where they are what they are in a schema: a text.
const REFUSED_TEXTS: [&str; 2] = ["$dynamicRef", "$recursiveRef"];

pub(super) struct Schema {
    document: Value,
    validator: Validator,
}

/// Whether arguments fit, and else what does not.
type Fit = Result<(), String>;

impl Schema {
    /// Compiles the schema of an object, with at most `patterns` patterns, and takes those from it. References beyond the schema itself are not followed, patterns
    /// take linear time.
    pub(super) fn new(text: &str, patterns: &mut usize) -> Result<Self, String> {
        if text.len() > SCHEMA_CAP {
            return Err("the schema is longer than 32 KiB".to_owned());
        }
        let document: Value = serde_json::from_str(text)
            .map_err(|error| format!("the schema is not JSON: {error}"))?;
        if document.get("type").and_then(Value::as_str) != Some("object") {
            return Err("the schema's root is not of type `object`".to_owned());
        }
        Bounds::check(&document, patterns)?;
        let pattern = PatternOptions::regex()
            .size_limit(PATTERN_MEMORY)
            .dfa_size_limit(PATTERN_MEMORY);
        let validator = jsonschema::draft202012::options()
            .with_pattern_options(pattern)
            // As the draft has it: a format is an annotation.
            .should_validate_formats(false)
            .build(&document)
            .map_err(|error| format!("the schema is not valid: {error}"))?;
        Ok(Self {
            document,
            validator,
        })
    }

    /// The steps a check takes at most, if it may be done at all.
    pub(super) fn steps(&self, arguments: &Value) -> Option<Steps> {
        let mut count = Count {
            root: &self.document,
            left: STEPS,
        };
        count.apply(&self.document, arguments, DEPTH)?;
        Some(Steps(STEPS - count.left))
    }

    /// Holds `arguments`, which take these steps, to the schema.
    pub(super) fn check(&self, arguments: &Value, steps: Steps) -> Fit {
        if self.validator.is_valid(arguments) {
            return Ok(());
        }
        // There may be as many violations as steps, and they are all made before the first is seen.
        if !steps.are_few() {
            return Err("they do not fit the tool's schema".to_owned());
        }
        let violations = self.validator.iter_errors(arguments).take(TOLD);
        let told: Vec<_> = violations
            .map(|error| match error.instance_path().as_str() {
                "" => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect();
        Err(told.join("; "))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Steps(usize);

impl Steps {
    pub(super) fn are_few(self) -> bool {
        self.0 <= QUICK
    }
}

/// What a schema is checked for before it is compiled. Every member of every object counts as a keyword: nothing that is one is missed.
struct Bounds<'a> {
    patterns: &'a mut usize,
    targets: HashSet<&'a str>,
}

impl<'a> Bounds<'a> {
    fn check(document: &'a Value, patterns: &'a mut usize) -> Result<(), String> {
        let mut bounds = Self {
            patterns,
            targets: HashSet::new(),
        };
        if let Value::Object(root) = document {
            // The root may say what it is called, nobody else: references would be relative to that.
            bounds.members(root.iter().filter(|(name, _)| *name != "$id"))?;
        }
        let targets = bounds.targets.iter().filter_map(|at| resolve(document, at));
        let levels = targets.map(height).sum::<usize>() + height(document);
        if levels > LEVELS {
            return Err("the schema with what it refers to is nested too deeply".to_owned());
        }
        Ok(())
    }

    fn value(&mut self, value: &'a Value) -> Result<(), String> {
        match value {
            Value::Object(members) => self.members(members.iter()),
            Value::Array(values) => values.iter().try_for_each(|value| self.value(value)),
            _ => Ok(()),
        }
    }

    fn members(
        &mut self,
        members: impl Iterator<Item = (&'a String, &'a Value)>,
    ) -> Result<(), String> {
        for (name, value) in members {
            match (name.as_str(), value) {
                ("$ref", Value::String(target)) => {
                    if !(target == "#" || target.starts_with("#/")) || target.contains('%') {
                        return Err(format!(
                            "the schema refers to `{target}`; expected `#` or `#/…` without `%`"
                        ));
                    }
                    self.targets.insert(target);
                }
                ("pattern", Value::String(pattern)) => self.pattern(pattern)?,
                ("patternProperties", Value::Object(members)) => {
                    members.keys().try_for_each(|name| self.pattern(name))?;
                }
                ("$id", Value::String(_)) => {
                    return Err("a part of the schema has an `$id` of its own".to_owned());
                }
                (name, Value::String(_)) if REFUSED_TEXTS.contains(&name) => {
                    return Err(format!("the schema has `{name}`, which is not supported"));
                }
                (name, _) if REFUSED.contains(&name) => {
                    return Err(format!("the schema has `{name}`, which is not supported"));
                }
                _ => {}
            }
            self.value(value)?;
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        if pattern.len() > PATTERN_CAP {
            return Err("a pattern of the schema is longer than 512 bytes".to_owned());
        }
        *self.patterns = self
            .patterns
            .checked_sub(1)
            .ok_or("the component's schemas have too many patterns")?;
        Ok(())
    }
}

/// What one check takes. `None`: more than there is.
struct Count<'a> {
    root: &'a Value,
    left: usize,
}

impl Count<'_> {
    fn take(&mut self, steps: usize) -> Option<()> {
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }

    fn apply(&mut self, schema: &Value, value: &Value, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let Value::Object(keywords) = schema else {
            return self.take(1);
        };
        self.take(1 + keywords.len())?;
        for (keyword, part) in keywords {
            match (keyword.as_str(), part) {
                ("$ref", Value::String(target)) => {
                    // Each step of the pointer is a look into the schema.
                    self.take(target.len() / 16)?;
                    self.apply(resolve(self.root, target)?, value, depth)?;
                }
                ("not" | "if" | "then" | "else", part) => self.apply(part, value, depth)?,
                ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) => {
                    for part in parts {
                        self.apply(part, value, depth)?;
                    }
                }
                ("dependentSchemas" | "dependencies", Value::Object(parts)) => {
                    for part in parts.values() {
                        self.apply(part, value, depth)?;
                    }
                }
                _ => match value {
                    Value::Object(members) => {
                        self.members(keywords, keyword, part, members, depth)?;
                    }
                    Value::Array(items) => self.items(keyword, part, items, depth)?,
                    Value::String(text) if keyword == "pattern" => {
                        self.take(PATTERN_STEPS * text.len())?;
                    }
                    Value::String(text) => self.take(text.len() / 64)?,
                    _ => {}
                },
            }
            match keyword.as_str() {
                "enum" | "const" => self.take(nodes(part))?,
                "uniqueItems" => self.take(16 * nodes(value))?,
                _ => {}
            }
        }
        Some(())
    }

    fn members(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &str,
        part: &Value,
        members: &Map<String, Value>,
        depth: usize,
    ) -> Option<()> {
        match (keyword, part) {
            ("properties", Value::Object(parts)) => {
                self.take(parts.len())?;
                for (name, part) in parts {
                    if let Some(value) = members.get(name) {
                        self.apply(part, value, depth)?;
                    }
                }
            }
            ("patternProperties", Value::Object(parts)) => {
                for part in parts.values() {
                    for (name, value) in members {
                        self.take(PATTERN_STEPS * name.len())?;
                        self.apply(part, value, depth)?;
                    }
                }
            }
            ("additionalProperties", part) => {
                let named = keywords.get("properties");
                let is_named = |name: &str| named.is_some_and(|named| named.get(name).is_some());
                for (name, value) in members {
                    match is_named(name) {
                        true => self.take(1)?,
                        false => self.apply(part, value, depth)?,
                    }
                }
            }
            ("propertyNames", part) => {
                for name in members.keys() {
                    self.apply(part, &Value::from(name.as_str()), depth)?;
                }
            }
            ("required" | "dependentRequired", part) => self.take(nodes(part))?,
            _ => {}
        }
        Some(())
    }

    fn items(&mut self, keyword: &str, part: &Value, items: &[Value], depth: usize) -> Option<()> {
        match (keyword, part) {
            ("prefixItems", Value::Array(parts)) => {
                for (part, item) in parts.iter().zip(items) {
                    self.apply(part, item, depth)?;
                }
            }
            ("items" | "contains", part) => {
                for item in items {
                    self.apply(part, item, depth)?;
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn resolve<'a>(root: &'a Value, target: &str) -> Option<&'a Value> {
    root.pointer(target.strip_prefix('#')?)
}

/// Values within values, at most 128 by the parser.
fn height(value: &Value) -> usize {
    let inner = match value {
        Value::Object(members) => members.values().map(height).max(),
        Value::Array(values) => values.iter().map(height).max(),
        _ => return 1,
    };
    1 + inner.unwrap_or(0)
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(nodes).sum::<usize>(),
        Value::Array(values) => 1 + values.iter().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
