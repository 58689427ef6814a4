//! Reading on while what came before is judged.
//!
//! A host that is behind then judges and sends more of a stream at once, instead of falling further behind by a call of the guardrail
//! for every event. Where it keeps up, every event goes by itself.

use futures::{Stream, StreamExt as _, stream::Fuse};
use std::{collections::VecDeque, pin::pin};

/// What may wait, in bytes and in items; then the provider is no longer read, and waits itself.
const BYTES_AT_MOST: usize = 64 << 10;
const ITEMS_AT_MOST: usize = 256;

pub(crate) struct Ahead<S: Stream> {
    stream: Fuse<S>,
    waiting: VecDeque<S::Item>,
    bytes: usize,
}

/// What an item takes of the bytes that may wait.
pub(crate) trait Weight {
    fn bytes(&self) -> usize;
}

impl<T: Weight, E, S: Stream<Item = Result<T, E>> + Unpin> Ahead<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: stream.fuse(),
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    /// What has come, as far as the first item that is the `last` to go with those before it; waits for one. Empty: the end.
    ///
    /// # Errors
    /// That of the stream, once everything before it is taken.
    pub(crate) async fn take(&mut self, last: impl Fn(&T) -> bool) -> Result<Vec<T>, E> {
        if self.waiting.is_empty() {
            let Some(item) = self.stream.next().await else {
                return Ok(Vec::new());
            };
            self.keep(item);
        }
        let mut taken = Vec::with_capacity(self.waiting.len());
        while let Some(item) = self.waiting.pop_front() {
            match item {
                Ok(item) => {
                    self.bytes -= item.bytes();
                    let ends = last(&item);
                    taken.push(item);
                    if ends {
                        break;
                    }
                }
                Err(error) if taken.is_empty() => return Err(error),
                error => {
                    self.waiting.push_front(error);
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// Waits for `work` and reads on meanwhile.
    pub(crate) async fn during<R>(&mut self, work: impl Future<Output = R>) -> R {
        let mut work = pin!(work);
        loop {
            let has_room = self.bytes < BYTES_AT_MOST && self.waiting.len() < ITEMS_AT_MOST;
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(item) = self.stream.next(), if has_room => self.keep(item),
            }
        }
    }

    fn keep(&mut self, item: Result<T, E>) {
        self.bytes += item.as_ref().map_or(0, Weight::bytes);
        self.waiting.push_back(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{channel::mpsc, stream};
    use std::{convert::Infallible, time::Duration};

    /// Longer than it takes to read what is there.
    async fn a_moment() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    impl Weight for &'static str {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    #[tokio::test]
    async fn what_comes_during_the_work_is_taken_together() {
        let (come, stream) = mpsc::unbounded::<Result<&str, Infallible>>();
        let mut ahead = Ahead::new(stream);
        come.unbounded_send(Ok("a")).unwrap();
        assert_eq!(ahead.take(|_| false).await, Ok(vec!["a"]));
        for item in ["b", "c.", "d"] {
            come.unbounded_send(Ok(item)).unwrap();
        }
        drop(come);
        ahead.during(a_moment()).await;
        let full_stop = |item: &&str| item.ends_with('.');
        assert_eq!(ahead.take(full_stop).await, Ok(vec!["b", "c."]));
        assert_eq!(ahead.take(full_stop).await, Ok(vec!["d"]));
        assert_eq!(ahead.take(full_stop).await, Ok(vec![]));
        // At the end, work is only waited for.
        assert_eq!(ahead.during(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn an_error_comes_after_what_came_before_it() {
        let mut ahead = Ahead::new(stream::iter([Ok("a"), Ok("b"), Err("broken"), Ok("c")]));
        ahead.during(a_moment()).await;
        assert_eq!(ahead.take(|_| false).await, Ok(vec!["a", "b"]));
        assert_eq!(ahead.take(|_| false).await, Err("broken"));
    }

    #[tokio::test]
    async fn a_provider_that_is_faster_than_the_judge_waits() {
        const ITEM: &str = "0123456789abcdef";
        let mut sent = 0;
        let endless = stream::iter(std::iter::from_fn(|| {
            sent += 1;
            Some(Ok::<_, Infallible>(ITEM))
        }));
        let mut ahead = Ahead::new(endless);
        ahead.during(a_moment()).await;
        let taken = ahead.take(|_| false).await.unwrap();
        assert_eq!(taken.len(), ITEMS_AT_MOST);
        drop(ahead);
        assert_eq!(sent, ITEMS_AT_MOST);
    }
}
