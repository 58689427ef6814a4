//! Reading request bodies: capped each, capped together, and not for ever.

use ambit_types::{Error, ErrorKind};
use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// One permit per KiB keeps the number of permits within what a semaphore counts.
const UNIT: usize = 1024;

/// Reads bodies of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    budget: Arc<Semaphore>,
    patience: Duration,
}

/// A body, and its share of the budget until it is dropped.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl Bodies {
    pub(crate) fn new(budget: usize, patience: Duration) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(budget / UNIT)),
            patience,
        }
    }

    /// # Errors
    /// 413 past `most`, 503 when too much is being read at once, 400 when the body breaks off or takes too long.
    pub(crate) async fn read(&self, body: Body, most: usize) -> Result<Read, Error> {
        let announced = body.size_hint();
        if announced.lower() > most as u64 {
            return Err(too_large(most));
        }
        // A body that does not say how long it is might be as long as it may be.
        let reserve = announced
            .upper()
            .and_then(|upper| usize::try_from(upper).ok())
            .unwrap_or(most)
            .min(most);
        let units = u32::try_from(reserve.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let share = self
            .budget
            .clone()
            .try_acquire_many_owned(units)
            .map_err(|_| {
                let kind = ErrorKind::Unavailable {
                    retry_after: Duration::from_secs(1),
                };
                Error::new(kind, "too many large requests at once; try again")
            })?;
        let invalid = |message: &str| Error::new(ErrorKind::Invalid { param: None }, message);
        match timeout(self.patience, Limited::new(body, most).collect()).await {
            Ok(Ok(collected)) => Ok(Read {
                bytes: collected.to_bytes(),
                _share: share,
            }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(most)),
            Ok(Err(error)) => Err(invalid("the body broke off").because(error)),
            Err(_) => Err(invalid("the body took too long to arrive")),
        }
    }
}

fn too_large(most: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the body may have at most {most} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt as _, stream};

    fn chunked(chunks: &'static [&'static [u8]]) -> Body {
        Body::from_stream(stream::iter(
            chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk)),
        ))
    }

    #[tokio::test]
    async fn caps_each_body_whether_it_says_its_length_or_not() {
        let bodies = Bodies::new(1 << 20, Duration::from_secs(5));
        assert_eq!(
            bodies.read(Body::from("1234"), 4).await.unwrap().bytes,
            "1234"
        );
        assert_eq!(
            bodies
                .read(Body::from("12345"), 4)
                .await
                .unwrap_err()
                .status(),
            413
        );
        assert_eq!(
            bodies
                .read(chunked(&[b"123", b"4"]), 4)
                .await
                .unwrap()
                .bytes,
            "1234"
        );
        assert_eq!(
            bodies
                .read(chunked(&[b"123", b"45"]), 4)
                .await
                .unwrap_err()
                .status(),
            413
        );
    }

    #[tokio::test]
    async fn caps_all_bodies_together_and_gives_back() {
        let bodies = Bodies::new(2 * UNIT, Duration::from_secs(5));
        let held = bodies.read(chunked(&[b"x"]), 2 * UNIT).await.unwrap();
        assert_eq!(
            bodies.read(Body::from("x"), 4).await.unwrap_err().status(),
            503
        );
        drop(held);
        assert!(bodies.read(Body::from("x"), 4).await.is_ok());
    }

    #[tokio::test]
    async fn does_not_wait_for_ever() {
        let bodies = Bodies::new(1 << 20, Duration::from_millis(10));
        let never = Body::from_stream(
            stream::iter([Ok::<_, std::io::Error>("{")]).chain(stream::pending()),
        );
        assert_eq!(bodies.read(never, 100).await.unwrap_err().status(), 400);
    }
}
