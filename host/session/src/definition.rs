//! What an agent is made of: the definition a tenant's operator applies.
//!
//! ```toml
//! name = "assistant"
//! component = "ambit:agent-assistant"                   # kind agent
//! instructions = "You help the developers of Acme."
//! model = "openai/gpt-5"                          # `provider/model`; what it asks unless its component names another
//! models = ["openai/gpt-5-mini"]                  # further ones its component may name
//! collections = ["handbook"]                      # read by retrieval
//! tools = ["ambit:tool-datetime"]              # components of kind tool
//! agents = ["researcher"]                         # agents it may ask, each in a session of its own
//! max_passages = 6
//!
//! [limits]
//! steps = 12
//! deadline = 120                                  # seconds
//! ```
//!
//! with `[approvals]` as [`Approvals`] has it.
//!
//! The definition is also a layer of the agent's ambit: a model, collection or tool that it does not name is denied, whatever the component
//! and the operator's grant allow.

use crate::approvals::Approvals;
use ambit_types::{AgentName, CollectionName, ComponentName, Error, ProviderName};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, time::Duration};

/// `provider/model`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName {
    pub provider: ProviderName,
    /// As the provider names it; may itself hold slashes.
    pub model: String,
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected `provider/model`, for example `openai/gpt-5`";
        let shown = || value.chars().take(120).collect::<String>();
        let (provider, model) = value
            .split_once('/')
            .ok_or_else(|| format!("`{}` is not a model: {EXPECTED}", shown()))?;
        let plain = !model.is_empty()
            && model.len() <= 256
            && model.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if !plain {
            return Err(format!("`{}` is not a model: {EXPECTED}", shown()));
        }
        Ok(Self {
            provider: provider
                .parse()
                .map_err(|error: ambit_types::NameError| error.to_string())?,
            model: model.to_owned(),
        })
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An agent's definition, valid. The same shape in TOML and JSON; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentDefinition {
    pub name: AgentName,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    #[serde(default = "default_component")]
    pub component: ComponentName,
    #[serde(default)]
    pub instructions: String,
    /// What it asks unless the component names another.
    pub model: ModelName,
    /// Further ones the component may name.
    #[serde(default)]
    pub models: Vec<ModelName>,
    #[serde(default)]
    pub collections: Vec<CollectionName>,
    /// Tool components; every tool one describes is offered.
    #[serde(default)]
    pub tools: Vec<ComponentName>,
    /// Agents it may ask, each in a session of its own that has at most what this one has: of each it is offered a tool, `ask_` and its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentName>,
    #[serde(default = "default_passages")]
    pub max_passages: u32,
    #[serde(default)]
    pub limits: AgentLimits,
    /// What somebody has to approve of, besides what cannot be undone.
    #[serde(default)]
    pub approvals: Approvals,
}

/// What one request of the agent may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentLimits {
    /// Steps of one request.
    pub steps: u32,
    /// Seconds of wall time of one request.
    pub deadline: u64,
    /// Tool calls of one move.
    pub parallel_tools: u32,
    /// Times one request may call a tool with the very same arguments.
    pub same_call: u32,
    /// Tokens that models may read and write in one session. None: only budgets bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl Default for AgentLimits {
    fn default() -> Self {
        // Twelve steps are five rounds of tools with retrieval and an answer; two minutes is what interactive clients wait.
        Self {
            steps: 12,
            deadline: 120,
            parallel_tools: 8,
            same_call: 4,
            tokens: None,
        }
    }
}

impl AgentLimits {
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }
}

fn default_component() -> ComponentName {
    "ambit:agent-assistant"
        .parse()
        .unwrap_or_else(|_| unreachable!("the literal is a component name"))
}

fn default_passages() -> u32 {
    6
}

impl AgentDefinition {
    /// Reads a TOML definition.
    ///
    /// # Errors
    /// [`ambit_types::ErrorKind::Invalid`] naming the key, its value and what was expected.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let definition: Self = toml::from_str(text)
            .map_err(|error| Error::invalid("definition", error.to_string()))?;
        definition.checked()
    }

    /// Reads a definition as the store keeps it.
    ///
    /// # Errors
    /// As [`AgentDefinition::from_toml`].
    pub fn from_json(value: &serde_json::Value) -> Result<Self, Error> {
        let definition = Self::deserialize(value)
            .map_err(|error| Error::invalid("definition", error.to_string()))?;
        definition.checked()
    }

    /// All ranges that do not hold, in one error.
    fn checked(self) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, key: &str, value: &dyn fmt::Display, expected: &str| {
            if !holds {
                problems.push(format!("{key} = {value}: expected {expected}"));
            }
        };
        check(
            (2..=64).contains(&self.limits.steps),
            "limits.steps",
            &self.limits.steps,
            "2 to 64",
        );
        check(
            (1..=3600).contains(&self.limits.deadline),
            "limits.deadline",
            &self.limits.deadline,
            "1 to 3600 seconds",
        );
        check(
            (1..=32).contains(&self.limits.parallel_tools),
            "limits.parallel_tools",
            &self.limits.parallel_tools,
            "1 to 32",
        );
        check(
            (1..=64).contains(&self.limits.same_call),
            "limits.same_call",
            &self.limits.same_call,
            "1 to 64",
        );
        if let Some(tokens) = self.limits.tokens {
            check(tokens > 0, "limits.tokens", &tokens, "1 or more");
        }
        check(
            (1..=50).contains(&self.max_passages),
            "max_passages",
            &self.max_passages,
            "1 to 50",
        );
        check(
            self.instructions.len() <= 64 * 1024,
            "instructions",
            &format!("{} bytes", self.instructions.len()),
            "at most 65536 bytes",
        );
        check(
            self.tools.len() <= 32,
            "tools",
            &format!("{} entries", self.tools.len()),
            "at most 32",
        );
        check(
            self.agents.len() <= 16,
            "agents",
            &format!("{} entries", self.agents.len()),
            "at most 16",
        );
        for agent in &self.agents {
            // With `ask_` before it, it is a tool's name.
            check(agent.len() <= 60, "agents", agent, "at most 60 bytes each");
        }
        check(
            self.models.len() <= 16,
            "models",
            &format!("{} entries", self.models.len()),
            "at most 16",
        );
        check(
            self.collections.len() <= 16,
            "collections",
            &format!("{} entries", self.collections.len()),
            "at most 16",
        );
        self.approvals.check(|problem| problems.push(problem));
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(Error::invalid("definition", problems.join("; ")))
        }
    }

    /// The definition as a layer of the agent's ambit: exactly the models and collections it names.
    ///
    /// # Errors
    /// Names that no rule can express.
    pub fn permissions(&self) -> Result<ambit_policy::Permissions, Error> {
        let collections: Vec<_> = self
            .collections
            .iter()
            .map(|name| format!("read:{name}"))
            .collect();
        let models: Vec<_> = std::iter::once(&self.model)
            .chain(&self.models)
            .map(ToString::to_string)
            .collect();
        let layer = serde_json::json!({ "models": models, "collections": collections });
        serde_json::from_value(layer)
            .map_err(|error| Error::invalid("definition", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_definition_has_sensible_defaults() {
        let definition =
            AgentDefinition::from_toml("name = \"assistant\"\nmodel = \"extractive/extractive\"")
                .unwrap();
        assert_eq!(definition.component.as_str(), "ambit:agent-assistant");
        assert_eq!(definition.limits, AgentLimits::default());
        let stored = serde_json::to_value(&definition).unwrap();
        assert_eq!(AgentDefinition::from_json(&stored).unwrap(), definition);
    }

    #[test]
    fn mistakes_name_key_value_and_expectation() {
        let check = |text: &str, words: &[&str]| {
            let message = AgentDefinition::from_toml(text)
                .unwrap_err()
                .message()
                .to_owned();
            for word in words {
                assert!(message.contains(word), "{message}");
            }
        };
        check("name = \"a\"", &["model"]);
        check(
            "name = \"a\"\nmodel = \"gpt\"",
            &["`gpt`", "provider/model"],
        );
        check("name = \"a\"\nmodel = \"p/m\"\ncolour = 1", &["colour"]);
        check("name = \"A b\"\nmodel = \"p/m\"", &["A b", "agent name"]);
        check(
            "name = \"a\"\nmodel = \"p/m\"\nmax_passages = 0\n[limits]\nsteps = 1",
            &["max_passages = 0", "limits.steps = 1", "2 to 64"],
        );
        check("name = \"a\"\nmodel = \"p/m\\u0000x\"", &["provider/model"]);
    }

    #[test]
    fn names_nothing_it_does_not_list() {
        let definition = AgentDefinition::from_toml(
            "name = \"a\"\nmodel = \"p/m\"\nmodels = [\"p/small\"]\ncollections = [\"handbook\"]",
        )
        .unwrap();
        let layer = serde_json::to_value(definition.permissions().unwrap()).unwrap();
        assert!(
            layer["models"].as_array().unwrap().len() == 2
                && layer["models"][0].to_string().contains("p/m")
                && layer["models"][1].to_string().contains("p/small")
                && layer["collections"][0]
                    .to_string()
                    .contains("read:handbook"),
            "{layer}"
        );
    }
}
