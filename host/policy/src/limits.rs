//! What one component may use up. Every limit has a default, and the author's word is worth as much as the host's maximum at most: more
//! takes an operator who writes so. From there on it only ever gets smaller: a grant's [`Ceiling`] takes away and never adds.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap as _};
use std::time::Duration;
use toml::Table;

use crate::{
    Kind,
    problem::{Problems, Reader},
    quantity::{KIB, MIB, Quantity},
};

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $quantity:ty = $default:expr, at most $most:expr;)*) => {
        /// The limits of one component. Sizes are bytes. All but `concurrency` hold for one call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])* pub $name: $quantity,)*
        }

        /// What a grant leaves of a component's limits: a limit that is not written here is not narrowed.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Ceiling {
            $(pub $name: Option<$quantity>,)*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// What an author gets where the operator's grant says nothing, whatever the manifest says.
            pub const MOST: Self = Self { $($name: $most,)* };

            /// The author's limits under the operator's ceiling, or under the host's maximum where that names none.
            #[must_use]
            pub fn granted(&self, kind: Kind, operator: &Ceiling) -> Self {
                let most = Self::most(kind);
                Self { $($name: self.$name.min(operator.$name.unwrap_or(most.$name)),)* }
            }

            /// The smaller of each. A ceiling above the limit changes nothing.
            #[must_use]
            pub fn under(&self, ceiling: &Ceiling) -> Self {
                Self { $($name: ceiling.$name.map_or(self.$name, |most| self.$name.min(most)),)* }
            }

            pub(crate) fn read(table: Reader<'_>) -> Self {
                let written = Ceiling::read(table);
                let default = Self::default();
                Self { $($name: written.$name.unwrap_or(default.$name),)* }
            }
        }

        impl From<Limits> for Ceiling {
            fn from(limits: Limits) -> Self {
                Self { $($name: Some(limits.$name),)* }
            }
        }

        impl Ceiling {
            pub(crate) fn read(mut table: Reader<'_>) -> Self {
                let ceiling = Self { $($name: Quantity::take(&mut table, stringify!($name)),)* };
                table.finish(&NAMES.join(", "));
                ceiling
            }
        }

        impl Serialize for Ceiling {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $(if let Some(limit) = self.$name {
                    map.serialize_entry(stringify!($name), &limit.shown())?;
                })*
                map.end()
            }
        }
    };
}

limits! {
    /// Linear memories and tables of all its instances together.
    memory: u64 = 32 * MIB, at most 256 * MIB;
    /// Time on a core, the guest's or a host function's for it; the clock stops while it waits.
    cpu: Duration = Duration::from_millis(50), at most Duration::from_secs(2);
    /// Wall time of the whole call.
    deadline: Duration = Duration::from_secs(5), at most Duration::from_secs(300);
    /// Bytes of outbound HTTP, requests and responses with their headers together.
    egress: u64 = MIB, at most 64 * MIB;
    /// Bytes of what the call answers; also bounds what the host lifts out of the guest.
    result: u64 = MIB, at most 32 * MIB;
    /// Bytes of stdout, stderr and logging together. More ends the call.
    log: u64 = 64 * KIB, at most MIB;
    /// Calls of one tenant at a time.
    concurrency: u32 = 8, at most 256;
    /// Outbound HTTP exchanges at a time within one call.
    connections: u32 = 4, at most 32;
    /// Elements of all tables together. A toolchain's function table has some thousands; the elements count as memory too.
    tables: u32 = 65_536, at most 262_144;
    /// Core instances, memories and tables: at most so many of each. One guest with adapters is about ten core instances.
    instances: u32 = 32, at most 64;
}

/// [`Limits::MOST`] of the CPU time of kinds that run on the few threads all tenants share, to the end of the call.
const MOST_PURE_CPU: Duration = Duration::from_millis(250);

impl Limits {
    fn most(kind: Kind) -> Self {
        match kind {
            Kind::Tool | Kind::Retrieval => Self::MOST,
            Kind::Auth | Kind::Routing | Kind::Guardrail | Kind::Agent => Self {
                cpu: MOST_PURE_CPU,
                ..Self::MOST
            },
        }
    }

    /// The smaller of each.
    #[must_use]
    pub fn narrow(&self, other: &Self) -> Self {
        self.under(&(*other).into())
    }
}

impl Ceiling {
    /// Whether it narrows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Ceiling::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_whole(deserializer, Self::read)
    }
}

impl<'de> Deserialize<'de> for Ceiling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_whole(deserializer, Self::read)
    }
}

fn read_whole<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl FnOnce(Reader<'_>) -> T,
) -> Result<T, D::Error> {
    let mut problems = Vec::new();
    let value = read(Reader::new(
        Table::deserialize(deserializer)?,
        "",
        &mut problems,
    ));
    if problems.is_empty() {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(Problems(problems)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialises_to_what_it_reads() {
        let limits = Limits {
            memory: 5 * KIB,
            cpu: Duration::from_micros(1500),
            concurrency: 3,
            ..Limits::default()
        };
        let json = serde_json::to_string(&limits).unwrap();
        assert!(
            json.starts_with(r#"{"memory":"5KiB","cpu":"1500us","deadline":"5s""#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), limits);
        assert!(
            serde_json::from_str::<Limits>(r#"{"memroy":"5KiB"}"#)
                .unwrap_err()
                .to_string()
                .contains("memroy")
        );
    }
}
