//! What a store may answer instead.

use super::*;
use std::time::Instant;

#[tokio::test]
async fn what_fails_for_a_moment_is_repeated() {
    let s3 = S3::start().await.unwrap();
    let place = place(&s3).await;
    for (number, mood) in [
        (1, Mood::Refuses(1, 503, "SlowDown")),
        (2, Mood::Refuses(2, 409, "ConditionalRequestConflict")),
        // It was put, and the answer said otherwise: what is there is ours.
        (3, Mood::Loses(1, 500, "InternalError")),
    ] {
        s3.be(mood.clone());
        let put = place.put(number, "note").await;
        assert!(put.is_ok(), "{mood:?}: {put:?}");
        assert_eq!(s3.object(&key(number)).unwrap().body, b"note");
    }
}

#[tokio::test]
async fn what_goes_on_failing_is_told_with_its_cause() {
    let s3 = S3::start().await.unwrap();
    let place = place(&s3).await;
    for (mood, word) in [
        (Mood::Refuses(9, 503, "SlowDown"), "SlowDown"),
        (
            Mood::Refuses(9, 409, "ConditionalRequestConflict"),
            "ConditionalRequestConflict",
        ),
        (Mood::Refuses(9, 403, "AccessDenied"), "AccessDenied"),
        (Mood::Refuses(9, 404, "NoSuchBucket"), "NoSuchBucket"),
        (Mood::Redirects, "error"),
        (Mood::Says(500, "<Error><Code>Half"), "error"),
        (Mood::Says(404, "\u{0}\u{1}<<<not xml"), "error"),
    ] {
        s3.be(mood.clone());
        for told in [
            why(place.put(1, "one").await),
            why(place.get(1).await.map(drop)),
        ] {
            assert!(told.contains(word), "{mood:?}: {told}");
        }
        assert!(s3.keys().is_empty());
    }
    s3.be(Mood::Good);
    place.put(1, "one").await.unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_shown() {
    let s3 = S3::start().await.unwrap();
    let wrong = BucketConfig {
        login: Login::Keys {
            id: Secret::new("AKIDSTRANGER"),
            secret: Secret::new("the secret of a test"),
        },
        ..config(s3.endpoint())
    };
    assert!(!format!("{wrong:?}").contains("of a test"));
    let place = Bucket::new(wrong).await;
    assert!(!format!("{place:?}").contains("of a test"));
    let told = why(place.put(1, "one").await);
    assert!(told.contains("InvalidAccessKeyId"), "{told}");
    assert!(!told.contains("of a test"), "{told}");
}

#[tokio::test]
async fn a_store_that_hangs_or_is_not_there_is_not_waited_for() {
    let s3 = S3::start().await.unwrap();
    s3.lay(&key(1), b"one");
    for (mood, reads) in [(Mood::Hangs, false), (Mood::HangsLater, true)] {
        s3.be(mood.clone());
        let (place, begin) = (place(&s3).await, Instant::now());
        why(match reads {
            true => place.get(1).await.map(drop),
            false => place.put(1, "one").await,
        });
        // Less than what a note is waited for.
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(9_500), "{mood:?}: {took:?}");
    }
    let endpoint = s3.endpoint();
    drop(s3);
    let nobody = Bucket::new(config(endpoint)).await;
    why(nobody.put(1, "one").await);
}

#[tokio::test]
async fn a_store_that_replaces_what_is_there_is_found_out() {
    let s3 = S3::start().await.unwrap();
    s3.be(Mood::Replaces);
    let told = why(place(&s3).await.put(1, "one").await);
    assert!(told.contains("does not know `If-None-Match`"), "{told}");
    // A later process, before it puts anything of its own.
    s3.lay(&key(7), b"seven");
    s3.lay(&key(8), b"of somebody else");
    let told = why(place(&s3).await.put(8, "eight").await);
    assert!(told.contains("does not know `If-None-Match`"), "{told}");
    assert_eq!(s3.object(&key(7)).unwrap().body, b"seven");
    assert_eq!(s3.object(&key(8)).unwrap().body, b"of somebody else");
}

#[tokio::test]
async fn what_is_no_note_is_not_taken_for_one() {
    let s3 = S3::start().await.unwrap();
    let place = place(&s3).await;
    s3.lay(&key(1), &vec![b'x'; 10 << 20]);
    assert!(why(place.get(1).await).contains("too large"));
    assert!(why(place.put(1, "one").await).contains("too large"));
    s3.lay(&key(1), b"\xff\xfe not a text");
    assert!(why(place.get(1).await).contains("utf-8"));
    assert!(why(place.put(1, "one").await).contains("utf-8"));
    s3.lay(&key(1), b"");
    let put = place.put(1, "one").await;
    assert!(matches!(put, Err(PlaceError::Taken(1))), "{put:?}");
}
