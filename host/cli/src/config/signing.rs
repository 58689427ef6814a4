//! `[anchors]` and `[tokens]`: what the installation signs with, and what for.

use super::{bucket, secrets::Secrets};
use ambit_anchor_s3::BucketConfig;
use ambit_gateway::GatewayConfig;
use ambit_policy::{Reader, token::Mode};
use ambit_types::Secret;
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// Some seconds of what a busy machine writes.
const INTERVAL_EVENTS: NonZeroU32 = NonZeroU32::new(16_384).expect("it is not zero");

/// How the journal is anchored.
#[derive(Debug)]
pub(crate) struct AnchorConfig {
    /// What signs: 64 hexadecimal digits. None: a file in the data folder, made where there is none.
    pub(crate) key: Option<Secret>,
    /// What the key is called in notes.
    pub(crate) name: String,
    pub(crate) kept: Kept,
    pub(crate) interval: Duration,
    /// An anchor does not wait longer when so many events have been written.
    pub(crate) events: NonZeroU32,
}

/// Where anchors are kept.
#[derive(Debug)]
pub(crate) enum Kept {
    Folder(PathBuf),
    S3(Box<BucketConfig>),
}

/// How capability tokens are signed and taken.
#[derive(Debug)]
pub(crate) struct TokenConfig {
    /// What signs: 64 hexadecimal digits. None: a file in the data folder, made where there is none; on a database that nodes share, no
    /// tokens.
    pub(crate) key: Option<Secret>,
    /// Their `iss`.
    pub(crate) issuer: String,
    pub(crate) mode: Mode,
}

pub(super) fn anchors(
    mut table: Reader<'_>,
    secrets: &mut Secrets<'_>,
    data: &Path,
    domain: &str,
    shared: bool,
    gateway: &mut GatewayConfig,
) -> AnchorConfig {
    let given = table.names().iter().any(|name| name == "key");
    let key = secrets.read(&mut table, "key");
    if key.as_ref().is_some_and(|key| seed(key.expose()).is_none()) {
        table.unexpected("key", "another secret", "64 hexadecimal digits");
    }
    if shared && !given {
        table.missing("key", "the key that all nodes sign with, 64 hexadecimal digits: `{ env = \"NAME\" }` or `{ file = \"path\" }`");
    }
    let name = table.parsed("name", "a name without spaces and `+`", |text| {
        let good = !text.is_empty() && !text.contains(|c: char| c == '+' || c.is_whitespace());
        good.then(|| text.to_owned())
            .ok_or("a name without spaces and `+`")
    });
    let folder = table.text("folder", "a folder");
    let kept = match table.names().iter().any(|name| name == "s3") {
        true => {
            if let Some(folder) = &folder {
                table.unexpected("folder", folder, "no folder beside `[anchors.s3]`");
            }
            Kept::S3(Box::new(bucket::read(table.table("s3"), secrets)))
        }
        false => Kept::Folder(match folder {
            Some(path) => secrets.folder.join(path),
            None => data.join("anchors"),
        }),
    };
    let interval = table.count("interval_seconds", "whole seconds, at least 1");
    let events = table.count("interval_events", "a number of events, at least 1");
    let stop = table.count("stop_after_seconds", "whole seconds, at least 1");
    gateway.unanchored = stop.map(|seconds| Duration::from_secs(seconds.into()));
    table.finish("key, name, folder, s3, interval_seconds, interval_events, stop_after_seconds");
    AnchorConfig {
        key,
        name: name.unwrap_or_else(|| domain.to_owned()),
        kept,
        interval: Duration::from_secs(interval.map_or(10, u64::from)),
        events: events.and_then(NonZeroU32::new).unwrap_or(INTERVAL_EVENTS),
    }
}

pub(super) fn tokens(
    mut table: Reader<'_>,
    secrets: &mut Secrets<'_>,
    domain: &str,
) -> TokenConfig {
    let key = secrets.read(&mut table, "key");
    if key.as_ref().is_some_and(|key| seed(key.expose()).is_none()) {
        table.unexpected("key", "another secret", "64 hexadecimal digits");
    }
    let issuer = table.parsed(
        "issuer",
        "1 to 1024 bytes without control characters",
        |text| {
            let good = (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control);
            good.then(|| text.to_owned())
                .ok_or("1 to 1024 bytes without control characters")
        },
    );
    let mode = table.parsed(
        "mode",
        "`enforced`, `warn` or `disabled`",
        str::parse::<Mode>,
    );
    table.finish("key, issuer, mode");
    TokenConfig {
        key,
        issuer: issuer.unwrap_or_else(|| domain.to_owned()),
        mode: mode.unwrap_or_default(),
    }
}

/// The seed of a signing key, from its text.
pub(crate) fn seed(text: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).ok()?;
    Some(seed)
}
