//! Notes in a bucket, on a server of loopback.

mod faults;

use ambit_anchor::{Place, PlaceError};
use ambit_anchor_s3::{Bucket, BucketConfig, Lock, LockMode, Login};
use ambit_mock_s3::{BUCKET, KEY, Mood, S3};
use ambit_types::Secret;
use std::{
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

fn config(endpoint: String) -> BucketConfig {
    BucketConfig {
        bucket: BUCKET.to_owned(),
        prefix: "acme/anchors/".to_owned(),
        region: Some("eu-central-1".to_owned()),
        endpoint: Some(endpoint),
        login: Login::Keys {
            id: Secret::new(KEY),
            secret: Secret::new("the secret of a test"),
        },
        lock: None,
    }
}

async fn place(s3: &S3) -> Bucket {
    Bucket::new(config(s3.endpoint())).await
}

fn key(number: i64) -> String {
    format!("acme/anchors/{}", ambit_anchor::name(number))
}

/// The whole chain of why it may be tried again.
#[track_caller]
fn why<T: std::fmt::Debug>(answer: Result<T, PlaceError>) -> String {
    let error = answer.unwrap_err();
    assert!(matches!(error, PlaceError::Unavailable(_)), "{error:?}");
    let mut text = error.to_string();
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_number_is_taken_once() {
    let s3 = S3::start().await.unwrap();
    let place = place(&s3).await;
    assert_eq!(place.get(1).await.unwrap(), None);
    place.put(1, "one").await.unwrap();
    place.put(1, "one").await.unwrap();
    let other = place.put(1, "other").await;
    assert!(matches!(other, Err(PlaceError::Taken(1))), "{other:?}");
    assert_eq!(place.get(1).await.unwrap().as_deref(), Some("one"));
    assert_eq!(s3.keys(), [key(1)]);
    assert!(why(place.put(3, "three").await).contains("is not in the bucket anchors"));
    place.put(2, "two").await.unwrap();
    place.put(3, "three").await.unwrap();
    let put = s3.object(&key(3)).unwrap();
    assert_eq!(put.body, b"three");
    assert_eq!(put.headers["content-type"], "text/plain; charset=utf-8");
    assert!(put.headers.contains_key("x-amz-checksum-sha256"));
    assert!(!put.headers.contains_key("x-amz-object-lock-mode"));
}

#[tokio::test]
async fn what_is_known_is_not_asked_again() {
    let s3 = S3::start().await.unwrap();
    let first = place(&s3).await;
    for number in 1..=3 {
        first.put(number, &number.to_string()).await.unwrap();
    }
    let put = |number| format!("PUT {}", key(number));
    // The first twice: whether the store refuses what is there.
    assert_eq!(s3.asked(), [put(1), put(1), put(2), put(3)]);
    let second = place(&s3).await;
    for number in 4..=5 {
        second.put(number, &number.to_string()).await.unwrap();
    }
    let get = format!("GET {}", key(3));
    assert_eq!(s3.asked(), [get, put(3), put(4), put(5)]);
}

#[tokio::test]
async fn a_lock_has_a_mode_and_an_end() {
    let s3 = S3::start().await.unwrap();
    for (number, mode, word) in [
        (1, LockMode::Governance, "GOVERNANCE"),
        (2, LockMode::Compliance, "COMPLIANCE"),
    ] {
        let lock = Some(Lock { mode, days: 30 });
        let place = Bucket::new(BucketConfig {
            lock,
            ..config(s3.endpoint())
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        place.await.put(number, "note").await.unwrap();
        let headers = s3.object(&key(number)).unwrap().headers;
        assert_eq!(headers["x-amz-object-lock-mode"], word);
        let until = headers["x-amz-object-lock-retain-until-date"].to_str();
        let until: i64 = aws_seconds(until.unwrap());
        let days = Duration::from_secs(30 * 24 * 3600);
        let due = i64::try_from((now + days).as_secs()).unwrap();
        assert!((due..due + 60).contains(&until), "{until} and {due}");
    }
}

fn aws_seconds(text: &str) -> i64 {
    use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
    let time = DateTime::from_str(text, DateTimeFormat::DateTime);
    time.unwrap().secs()
}

#[tokio::test]
async fn two_who_put_at_once_are_told_who_was_first() {
    let s3 = S3::start().await.unwrap();
    let (one, other) = (place(&s3).await, place(&s3).await);
    let (one, other) = tokio::join!(one.put(1, "one"), other.put(1, "other"));
    let good = usize::from(one.is_ok()) + usize::from(other.is_ok());
    assert_eq!(good, 1, "{one:?} {other:?}");
    let lost = one.err().or(other.err()).unwrap();
    assert!(matches!(lost, PlaceError::Taken(1)), "{lost:?}");
}

#[tokio::test]
async fn a_prefix_may_be_empty() {
    let s3 = S3::start().await.unwrap();
    for prefix in ["", "/"] {
        let config = BucketConfig {
            prefix: prefix.to_owned(),
            ..config(s3.endpoint())
        };
        Bucket::new(config).await.put(1, "one").await.unwrap();
        assert_eq!(s3.keys(), [ambit_anchor::name(1)]);
    }
}
