//! What a component says of its tools, held to the contract, and the check of a call's arguments.

use super::{ToolError, ToolSpec, schema::Schema};
use ambit_types::ToolName;
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// Tools of one component.
const TOOLS_CAP: usize = 64;
/// A model reads it with every request.
const DESCRIPTION_CAP: usize = 4 * 1024;
/// Patterns in all schemas of one component.
const PATTERNS_CAP: usize = 64;
/// Arguments a model writes.
const ARGUMENTS_CAP: usize = 256 * 1024;

pub(super) struct Specs {
    all: Vec<ToolSpec>,
    schemas: HashMap<String, Arc<Schema>>,
}

impl Specs {
    /// Checks and compiles, on a thread that may be held; says which tool cannot be used and why.
    pub(super) fn new(all: Vec<ToolSpec>) -> Result<Self, String> {
        if all.is_empty() || all.len() > TOOLS_CAP {
            return Err(format!(
                "{} tools described; expected 1 to {TOOLS_CAP}",
                all.len()
            ));
        }
        let mut schemas = HashMap::new();
        let mut patterns = PATTERNS_CAP;
        for spec in &all {
            let name = spec
                .name
                .parse::<ToolName>()
                .map_err(|error| error.to_string())?;
            if spec.description.is_empty() || spec.description.len() > DESCRIPTION_CAP {
                return Err(format!(
                    "tool `{name}`: the description is empty or longer than 4 KiB"
                ));
            }
            let schema = Schema::new(&spec.parameters, &mut patterns)
                .map_err(|why| format!("tool `{name}`: {why}"))?;
            if schemas
                .insert(spec.name.clone(), Arc::new(schema))
                .is_some()
            {
                return Err(format!("tool `{name}` is described twice"));
            }
        }
        Ok(Self { all, schemas })
    }

    pub(super) fn all(&self) -> &[ToolSpec] {
        &self.all
    }

    /// The arguments as the component is to read them. Written anew, because of two members of one name a model may write this
    /// check reads the last and a component might read the first.
    pub(super) async fn check(&self, tool: &str, arguments: &str) -> Result<String, ToolError> {
        let schema = self
            .schemas
            .get(tool)
            .ok_or_else(|| ToolError::UnknownTool(tool.chars().take(80).collect()))?;
        let value = parse(arguments).map_err(ToolError::InvalidArguments)?;
        let Some(steps) = schema.steps(&value) else {
            return Err(ToolError::InvalidArguments(
                "they are too much to check against the tool's schema".to_owned(),
            ));
        };
        let (value, fit) = if steps.are_few() {
            let fit = schema.check(&value, steps);
            (value, fit)
        } else {
            let schema = Arc::clone(schema);
            let check = move || {
                let fit = schema.check(&value, steps);
                (value, fit)
            };
            tokio::task::spawn_blocking(check)
                .await
                .map_err(|error| ToolError::Unavailable(error.to_string()))?
        };
        fit.map_err(ToolError::InvalidArguments)?;
        Ok(value.to_string())
    }
}

fn parse(arguments: &str) -> Result<Value, String> {
    if arguments.len() > ARGUMENTS_CAP {
        return Err("they are longer than 256 KiB".to_owned());
    }
    // Models leave out the braces of a tool without parameters.
    let text = if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{
        "type": "object",
        "properties": { "n": { "type": "integer", "minimum": 1 }, "s": { "type": "string", "pattern": "^[a-z]+$" } },
        "required": ["n"],
        "additionalProperties": false
    }"#;

    fn spec(name: &str, parameters: &str) -> ToolSpec {
        ToolSpec {
            name: name.to_owned(),
            description: "Does something.".to_owned(),
            parameters: parameters.to_owned(),
            reversible: true,
            idempotent: true,
        }
    }

    fn checked(specs: &Specs, tool: &str, arguments: &str) -> Result<String, ToolError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(specs.check(tool, arguments))
    }

    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        let specs = Specs::new(vec![spec("t", SCHEMA)]).unwrap();
        let found = checked(&specs, "t", arguments).unwrap_or_else(|error| error.to_string());
        assert_eq!(found, expected, "{arguments}");
    }

    #[test]
    fn arguments_are_checked_and_written_anew() {
        check(r#" { "n" : 1 , "s":"ab" } "#, r#"{"n":1,"s":"ab"}"#);
        check(r#"{"n":0,"n":2}"#, r#"{"n":2}"#);
        check("[]", "the arguments are not valid: expected a JSON object");
        check(
            "",
            "the arguments are not valid: \"n\" is a required property",
        );
        check(
            r#"{"n":0}"#,
            "the arguments are not valid: /n: 0 is less than the minimum of 1",
        );
        check(
            r#"{"n":"1"}"#,
            "the arguments are not valid: /n: \"1\" is not of type \"integer\"",
        );
        check(
            r#"{"n":1,"x":1}"#,
            "the arguments are not valid: Additional properties are not allowed ('x' was unexpected)",
        );
        check(
            "{",
            "the arguments are not valid: not JSON: EOF while parsing an object at line 1 column 1",
        );
        check(
            &" ".repeat(ARGUMENTS_CAP + 1),
            "the arguments are not valid: they are longer than 256 KiB",
        );
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let specs = Specs::new(vec![spec("t", SCHEMA)]).unwrap();
        assert!(checked(&specs, "t", &deep).is_err(), "depth is bounded");
        assert!(
            matches!(checked(&specs, "other", "{}"), Err(ToolError::UnknownTool(name)) if name == "other")
        );
    }

    #[test]
    fn descriptions_are_held_to_the_contract() {
        for (bad, why) in [
            (vec![], "0 tools described; expected 1 to 64"),
            (
                vec![spec("t", SCHEMA), spec("t", SCHEMA)],
                "tool `t` is described twice",
            ),
            (
                vec![spec("t", "{}")],
                "tool `t`: the schema's root is not of type `object`",
            ),
            (
                vec![spec("t", "true")],
                "tool `t`: the schema's root is not of type `object`",
            ),
            (
                vec![spec(
                    "t",
                    &format!(
                        "{{\"type\":\"object\",\"x\":\"{}\"}}",
                        "x".repeat(32 * 1024)
                    ),
                )],
                "tool `t`: the schema is longer than 32 KiB",
            ),
            (
                vec![ToolSpec {
                    description: String::new(),
                    ..spec("t", SCHEMA)
                }],
                "tool `t`: the description is empty or longer than 4 KiB",
            ),
        ] {
            assert_eq!(
                Specs::new(bad).map(|specs| specs.all.len()),
                Err(why.to_owned())
            );
        }
        for bad in [
            spec("a tool", SCHEMA),
            spec("t", "{"),
            spec(
                "t",
                r#"{"type":"object","properties":{"a":{"type":"no such type"}}}"#,
            ),
            // Nothing is fetched, from the network or from files.
            spec(
                "t",
                r#"{"type":"object","properties":{"a":{"$ref":"https://example.com/schema.json"}}}"#,
            ),
            spec(
                "t",
                r#"{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}"#,
            ),
            // Not a pattern of linear time.
            spec(
                "t",
                r#"{"type":"object","properties":{"a":{"pattern":"(a)\\1"}}}"#,
            ),
        ] {
            assert!(Specs::new(vec![bad.clone()]).is_err(), "{bad:?}");
        }
    }
}
