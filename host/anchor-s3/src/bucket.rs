//! A note is an object that is put only where there is none (`If-None-Match: *`).

use ambit_anchor::{Answer, Place, PlaceError, name};
use ambit_types::Secret;
use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client,
    config::{
        Builder, Credentials, Region,
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction, RetryConfig},
        timeout::TimeoutConfig,
    },
    error::SdkError,
    operation::get_object::GetObjectError,
    primitives::{ByteStream, DateTime},
    types::{ChecksumAlgorithm, ObjectLockMode},
};
use std::{
    error::Error,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// A note is a few hundred bytes. What is larger is none, and is not read.
const MAX_NOTE: usize = 64 << 10;

const CONNECT: Duration = Duration::from_secs(2);

/// Of one attempt: a small object, perhaps on another continent.
const ATTEMPT: Duration = Duration::from_secs(3);

/// With what the SDK repeats: less than a note is waited for.
const OPERATION: Duration = Duration::from_secs(8);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where the bucket is, and who puts there.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    pub bucket: String,
    /// What the names of notes begin with, as a folder. May be empty.
    pub prefix: String,
    /// None: the login's own, or where stores have no regions.
    pub region: Option<String>,
    /// Of a store that is not Amazon's; buckets are part of the path there.
    pub endpoint: Option<String>,
    pub login: Login,
    /// None: the bucket's own rule.
    pub lock: Option<Lock>,
}

/// Whose credentials they are: never the database's.
#[derive(Debug, Clone)]
pub enum Login {
    /// What the SDK finds: environment, profile files, the role of the machine.
    Found,
    /// The same, by this profile.
    Profile(String),
    Keys {
        id: Secret,
        secret: Secret,
    },
}

/// For how long a note cannot be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    pub mode: LockMode,
    pub days: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Those with a permission of its own may.
    Governance,
    /// Nobody may, the account's owner neither.
    Compliance,
}

/// Notes as objects of a bucket.
#[derive(Debug)]
pub struct Bucket {
    client: Client,
    bucket: String,
    prefix: String,
    lock: Option<Lock>,
    /// The last number that is known to be there.
    seen: AtomicI64,
}

impl Bucket {
    /// Asks nobody: what is wrong with the bucket or the credentials shows when a note is put.
    pub async fn new(config: BucketConfig) -> Self {
        let BucketConfig { bucket, prefix, .. } = &config;
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self {
            client: Client::from_conf(client(&config).await.build()),
            bucket: bucket.clone(),
            prefix,
            lock: config.lock,
            seen: AtomicI64::new(0),
        }
    }

    fn key(&self, number: i64) -> String {
        format!("{}{}", self.prefix, name(number))
    }

    async fn write(&self, number: i64, note: &str) -> Result<(), PlaceError> {
        // A bucket that was emptied looks like a new one: only the first note may be the first.
        if number > 1 && self.seen.load(Relaxed) < number - 1 {
            let before = self.read(number - 1).await?.ok_or_else(|| {
                let (before, bucket) = (self.key(number - 1), &self.bucket);
                unavailable(format!("{before} is not in the bucket {bucket}"))
            })?;
            self.refuses(number - 1, &before).await?;
        }
        match self.create(number, note).await? {
            true if number == 1 => self.refuses(number, note).await?,
            true => {}
            false => match self.read(number).await? {
                Some(there) if there == note => {}
                Some(_) => return Err(PlaceError::Taken(number)),
                None => return Err(unavailable("what was there a moment ago is gone")),
            },
        }
        self.seen.fetch_max(number, Relaxed);
        Ok(())
    }

    /// A store that does not know the condition replaces what is there, and nobody would notice: tried with what is there anyway.
    async fn refuses(&self, number: i64, there: &str) -> Result<(), PlaceError> {
        match self.create(number, there).await? {
            false => Ok(()),
            true => Err(unavailable(
                "the store replaces what is there: it does not know `If-None-Match`",
            )),
        }
    }

    /// False: something is there under this number.
    async fn create(&self, number: i64, note: &str) -> Result<bool, PlaceError> {
        let until = self.lock.map(|lock| SystemTime::now() + DAY * lock.days);
        let mode = self.lock.map(|lock| match lock.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        });
        let put = self.client.put_object().bucket(&self.bucket);
        let put = put
            .key(self.key(number))
            .if_none_match("*")
            .content_type("text/plain; charset=utf-8")
            // A lock is taken only with a checksum.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until.map(DateTime::from))
            .body(ByteStream::from(note.as_bytes().to_vec()));
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(412) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn read(&self, number: i64) -> Result<Option<String>, PlaceError> {
        let get = self.client.get_object().bucket(&self.bucket);
        let answer = match get.key(self.key(number)).send().await {
            Ok(answer) => answer,
            // A bucket that is not there answers 404 too, by another code.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetObjectError::is_no_such_key) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unavailable(error)),
        };
        let mut body = answer.body;
        let mut note = Vec::new();
        while let Some(part) = body.try_next().await.map_err(unavailable)? {
            note.extend_from_slice(&part);
            if note.len() > MAX_NOTE {
                let key = self.key(number);
                return Err(unavailable(format!("{key} is too large for an anchor")));
            }
        }
        String::from_utf8(note).map(Some).map_err(unavailable)
    }
}

impl Place for Bucket {
    fn put<'a>(&'a self, number: i64, note: &'a str) -> Answer<'a, ()> {
        Box::pin(self.write(number, note))
    }

    fn get(&self, number: i64) -> Answer<'_, Option<String>> {
        // The SDK's own bound ends where the body begins.
        Box::pin(async move {
            let read = timeout(OPERATION, self.read(number)).await;
            read.unwrap_or_else(|late| Err(unavailable(late)))
        })
    }
}

async fn client(config: &BucketConfig) -> Builder {
    let region = config.region.clone().map(Region::new);
    let (builder, elsewhere) = match &config.login {
        // Nothing is looked for then.
        Login::Keys { id, secret } => {
            let keys = Credentials::new(id.expose(), secret.expose(), None, None, "configuration");
            let builder = Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .credentials_provider(keys);
            (builder.region(region), false)
        }
        login => {
            let mut found = aws_config::defaults(BehaviorVersion::latest());
            if let Some(region) = region {
                found = found.region(region);
            }
            if let Login::Profile(profile) = login {
                found = found.profile_name(profile);
            }
            let found = found.load().await;
            (Builder::from(&found), found.endpoint_url().is_some())
        }
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION);
    let builder = builder
        .timeout_config(timeouts.build())
        .retry_config(RetryConfig::standard())
        .retry_classifier(Conflict)
        .force_path_style(elsewhere || config.endpoint.is_some());
    match &config.endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint),
        None => builder,
    }
}

/// Two put under one name at the same moment (409): who tries again is told who was first.
#[derive(Debug)]
struct Conflict;

impl ClassifyRetry for Conflict {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let status = context.response().map(|answer| answer.status().as_u16());
        match status {
            Some(409) => RetryAction::transient_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "conflict"
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    Some(error.raw_response()?.status().as_u16())
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> PlaceError {
    PlaceError::Unavailable(error.into())
}
