//! What a component provides and how its instances are used.

use serde::{Deserialize, Serialize};

use crate::Class;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word manifests, metrics and the API use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            /// The error is the expectation: which words exist.
            fn from_str(value: &str) -> Result<Self, String> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|word| word.as_str() == value)
                    .ok_or_else(|| concat!("one of", $(" `", $word, "`",)*).to_owned())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What capability a component provides.
    Kind {
        Auth = "auth",
        Routing = "routing",
        Guardrail = "guardrail",
        Retrieval = "retrieval",
        Tool = "tool",
        Agent = "agent",
    }
}

words! {
    /// Who may see what an instance remembers.
    Reuse {
        /// A new instance for each call. The default.
        Fresh = "fresh",
        /// An instance serves one call after another of the same tenant, component and policy. For trusted components.
        WarmSerial = "warm-serial",
        /// As `warm-serial`, with several calls at a time.
        WarmConcurrent = "warm-concurrent",
    }
}

impl Kind {
    /// Whether it runs on the synchronous engine, where every import is a lookup in memory (design §1.4).
    #[must_use]
    pub fn is_pure(self) -> bool {
        matches!(
            self,
            Self::Auth | Self::Routing | Self::Guardrail | Self::Agent
        )
    }

    /// Whether a component of this kind can use permissions of `class` at all. An agent reaches models and collections through its
    /// moves; the other pure kinds reach nothing but their own lookups.
    #[must_use]
    pub fn may_ask(self, class: Class) -> bool {
        match self {
            Self::Tool | Self::Retrieval => true,
            Self::Agent => matches!(class, Class::Models | Class::Collections),
            Self::Auth | Self::Routing | Self::Guardrail => false,
        }
    }
}
