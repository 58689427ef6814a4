//! `[anchors.s3]`: the bucket that anchors are kept in, and whose credentials put them there.

use super::secrets::Secrets;
use ambit_anchor_s3::{BucketConfig, Lock, LockMode, Login};
use ambit_policy::Reader;
use url::Url;

const NAME: &str = "a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens";
const PREFIX: &str = "what names begin with: at most 512 visible ASCII characters";
const REGION: &str = "a region such as `eu-central-1`";
const ENDPOINT: &str =
    "the http or https address of an S3 server, such as `https://s3.example.com`";
const MODE: &str = "`governance` or `compliance`";
const DAYS: &str = "whole days, 1 to 36500";

/// What stores without regions are told.
const NO_REGION: &str = "us-east-1";

pub(super) fn read(mut table: Reader<'_>, secrets: &mut Secrets<'_>) -> BucketConfig {
    let bucket = table.required("bucket", NAME, name).unwrap_or_default();
    let prefix = table.parsed("prefix", PREFIX, prefix).unwrap_or_default();
    let given = |table: &Reader<'_>, wanted: &str| table.names().iter().any(|name| name == wanted);
    let elsewhere = given(&table, "endpoint");
    let endpoint = table.text("endpoint", ENDPOINT).and_then(|text| {
        let good = endpoint(&text);
        if good.is_none() {
            // An address may hold a password.
            let shown = text.rsplit('@').next().unwrap_or_default();
            table.unexpected("endpoint", &format!("`{shown}`"), ENDPOINT);
        }
        good
    });
    let region = match elsewhere {
        true => table.parsed("region", REGION, region),
        false => table.required("region", REGION, region),
    };
    let login = login(&mut table, secrets);
    let mode = table.parsed("object_lock", MODE, |text| match text {
        "governance" => Ok(LockMode::Governance),
        "compliance" => Ok(LockMode::Compliance),
        _ => Err(MODE),
    });
    let timed = given(&table, "retain_days");
    let days = table.count("retain_days", DAYS);
    if let Some(days) = days.filter(|days| *days > 36_500) {
        table.unexpected("retain_days", &days.to_string(), DAYS);
    }
    match (mode, days) {
        (Some(_), None) if !timed => table.missing("retain_days", DAYS),
        (None, Some(_)) => table.missing("object_lock", MODE),
        _ => {}
    }
    table.finish("bucket, prefix, region, endpoint, profile, access_key_id, secret_access_key, object_lock, retain_days");
    BucketConfig {
        bucket,
        prefix,
        region: region.or_else(|| endpoint.is_some().then(|| NO_REGION.to_owned())),
        endpoint,
        login,
        lock: mode.zip(days).map(|(mode, days)| Lock { mode, days }),
    }
}

/// A bucket by its name alone, `s3://BUCKET/PREFIX`: the rest is what the SDK finds. None: no such name.
pub(crate) fn named(text: &str) -> Option<Result<BucketConfig, &'static str>> {
    let (bucket, folder) = {
        let rest = text.strip_prefix("s3://")?;
        rest.split_once('/').unwrap_or((rest, ""))
    };
    let named = name(bucket).and_then(|bucket| Ok((bucket, prefix(folder)?)));
    Some(named.map(|(bucket, prefix)| BucketConfig {
        bucket,
        prefix,
        region: None,
        endpoint: None,
        login: Login::Found,
        lock: None,
    }))
}

fn login(table: &mut Reader<'_>, secrets: &mut Secrets<'_>) -> Login {
    const BOTH: &str = "a secret beside the other half of the key";
    let given = |table: &Reader<'_>, wanted: &str| table.names().iter().any(|name| name == wanted);
    let halves = ["access_key_id", "secret_access_key"].map(|half| given(table, half));
    let profile = table.parsed("profile", "the name of a profile", |text| {
        match text.trim().is_empty() {
            true => Err("the name of a profile"),
            false => Ok(text.to_owned()),
        }
    });
    let id = secrets.read(table, "access_key_id");
    let secret = secrets.read(table, "secret_access_key");
    match halves {
        [true, false] => table.missing("secret_access_key", BOTH),
        [false, true] => table.missing("access_key_id", BOTH),
        _ => {}
    }
    if let Some(profile) = &profile
        && halves.contains(&true)
    {
        table.unexpected("profile", profile, "no profile beside a key");
    }
    match (id.zip(secret), profile) {
        (Some((id, secret)), _) => Login::Keys { id, secret },
        (None, Some(profile)) => Login::Profile(profile),
        (None, None) => Login::Found,
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let good = (3..=63).contains(&text.len()) && text.chars().all(good);
    good.then(|| text.to_owned()).ok_or(NAME)
}

fn prefix(text: &str) -> Result<String, &'static str> {
    let good = text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic());
    good.then(|| text.to_owned()).ok_or(PREFIX)
}

fn region(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !text.is_empty() && text.chars().all(good);
    good.then(|| text.to_owned()).ok_or(REGION)
}

fn endpoint(text: &str) -> Option<String> {
    let url = text.parse::<Url>().ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let good = plain && url.has_host() && matches!(url.scheme(), "http" | "https");
    good.then(|| url.to_string())
}
