//! What one component may use up. Every limit has a default and only ever gets smaller.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap as _};
use std::time::Duration;
use toml::Table;

use crate::problem::{Problems, Reader};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The limits of one component. Sizes are bytes. All but `concurrency` hold for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories and tables of all its instances together.
    pub memory: u64,
    /// Guest run time; the clock stops in host calls.
    pub cpu: Duration,
    /// Wall time of the whole call.
    pub deadline: Duration,
    /// Bytes of outbound HTTP, requests and responses with their headers together.
    pub egress: u64,
    /// Bytes of what the call answers; also bounds what the host lifts out of the guest.
    pub result: u64,
    /// Bytes of stdout, stderr and logging together. More ends the call.
    pub log: u64,
    /// Calls of one tenant at a time.
    pub concurrency: u32,
    /// Outbound HTTP exchanges at a time within one call.
    pub connections: u32,
    /// Elements of all tables together.
    pub tables: u32,
    /// Core instances, memories and tables: at most so many of each.
    pub instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 32 * MIB,
            cpu: Duration::from_millis(50),
            deadline: Duration::from_secs(5),
            egress: MIB,
            result: MIB,
            log: 64 * KIB,
            concurrency: 8,
            connections: 4,
            // A toolchain's function table has some thousands; the elements count as memory too.
            tables: 65_536,
            // One guest with adapters is about ten core instances.
            instances: 32,
        }
    }
}

impl Limits {
    /// The smaller of each: what an operator's ceiling or a tenant's plan leaves.
    #[must_use]
    pub fn narrow(&self, other: &Self) -> Self {
        Self {
            memory: self.memory.min(other.memory),
            cpu: self.cpu.min(other.cpu),
            deadline: self.deadline.min(other.deadline),
            egress: self.egress.min(other.egress),
            result: self.result.min(other.result),
            log: self.log.min(other.log),
            concurrency: self.concurrency.min(other.concurrency),
            connections: self.connections.min(other.connections),
            tables: self.tables.min(other.tables),
            instances: self.instances.min(other.instances),
        }
    }

    pub(crate) fn read(mut table: Reader<'_>) -> Self {
        const SIZE: &str =
            "a size above zero with its unit, such as `512B`, `64KiB`, `32MiB` or `1GiB`";
        const TIME: &str = "a time above zero with its unit, such as `500us`, `50ms`, `5s` or `2m`";
        const COUNT: &str = "a whole number above zero";
        let default = Self::default();
        let size = |table: &mut Reader<'_>, name: &str, default| {
            table
                .parsed(name, SIZE, |text| parse_size(text).ok_or(SIZE))
                .unwrap_or(default)
        };
        let time = |table: &mut Reader<'_>, name: &str, default| {
            table
                .parsed(name, TIME, |text| parse_time(text).ok_or(TIME))
                .unwrap_or(default)
        };
        let limits = Self {
            memory: size(&mut table, "memory", default.memory),
            cpu: time(&mut table, "cpu", default.cpu),
            deadline: time(&mut table, "deadline", default.deadline),
            egress: size(&mut table, "egress", default.egress),
            result: size(&mut table, "result", default.result),
            log: size(&mut table, "log", default.log),
            concurrency: table
                .count("concurrency", COUNT)
                .unwrap_or(default.concurrency),
            connections: table
                .count("connections", COUNT)
                .unwrap_or(default.connections),
            tables: table.count("tables", COUNT).unwrap_or(default.tables),
            instances: table.count("instances", COUNT).unwrap_or(default.instances),
        };
        table.finish("memory, cpu, deadline, egress, result, log, concurrency, connections, tables, instances");
        limits
    }
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(10))?;
        map.serialize_entry("memory", &show_size(self.memory))?;
        map.serialize_entry("cpu", &show_time(self.cpu))?;
        map.serialize_entry("deadline", &show_time(self.deadline))?;
        map.serialize_entry("egress", &show_size(self.egress))?;
        map.serialize_entry("result", &show_size(self.result))?;
        map.serialize_entry("log", &show_size(self.log))?;
        map.serialize_entry("concurrency", &self.concurrency)?;
        map.serialize_entry("connections", &self.connections)?;
        map.serialize_entry("tables", &self.tables)?;
        map.serialize_entry("instances", &self.instances)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut problems = Vec::new();
        let limits = Self::read(Reader::new(
            Table::deserialize(deserializer)?,
            "",
            &mut problems,
        ));
        if problems.is_empty() {
            Ok(limits)
        } else {
            Err(serde::de::Error::custom(Problems(problems)))
        }
    }
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", MIB), ("KiB", KIB), ("B", 1)];
const TIMES: [(&str, u64); 4] = [
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Whole numbers only: a size is chosen, not computed.
fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(*scale)
        .filter(|quantity| *quantity > 0)
}

fn parse_size(text: &str) -> Option<u64> {
    // Sizes reach the database as signed integers.
    parse_quantity(text, &SIZES).filter(|size| i64::try_from(*size).is_ok())
}

fn parse_time(text: &str) -> Option<Duration> {
    // A day is more than any call takes, and far below what overflows a deadline.
    parse_quantity(text, &TIMES)
        .filter(|micros| *micros <= 86_400_000_000)
        .map(Duration::from_micros)
}

fn show_quantity(quantity: u64, units: &[(&str, u64)]) -> String {
    let largest = units
        .iter()
        .filter(|(_, scale)| quantity.is_multiple_of(*scale))
        .max_by_key(|(_, scale)| *scale);
    largest.map_or_else(
        || quantity.to_string(),
        |(name, scale)| format!("{}{name}", quantity / scale),
    )
}

fn show_size(size: u64) -> String {
    show_quantity(size, &SIZES)
}

fn show_time(time: Duration) -> String {
    show_quantity(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), &TIMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_shown() {
        for (text, size) in [
            ("1B", 1),
            ("64KiB", 64 * KIB),
            ("32MiB", 32 * MIB),
            ("1GiB", 1024 * MIB),
            ("1 MiB", MIB),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
            assert_eq!(parse_size(&show_size(size)), Some(size));
        }
        for (text, micros) in [
            ("500us", 500),
            ("50ms", 50_000),
            ("5s", 5_000_000),
            ("2m", 120_000_000),
        ] {
            assert_eq!(
                parse_time(text),
                Some(Duration::from_micros(micros)),
                "{text}"
            );
            assert_eq!(show_time(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn quantities_that_are_none() {
        for bad in [
            "",
            "0B",
            "-1B",
            "1",
            "MiB",
            "1MB",
            "1mib",
            "1.5MiB",
            "18446744073709551615GiB",
            "9223372036854775808B",
            "１MiB",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        for bad in [
            "",
            "0s",
            "5",
            "5h",
            "-5s",
            "1e3ms",
            "1441m",
            "18446744073709551615m",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

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
