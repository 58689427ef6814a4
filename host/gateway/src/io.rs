//! A connection whose writes must make progress.
//!
//! hyper bounds how long a request head may take, but not how long a client may leave its answer unread. Such a client would hold its
//! session, and with it the call to the provider, for as long as it likes.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Fails a write with `TimedOut` once the peer has taken nothing for `patience`.
#[derive(Debug)]
pub(crate) struct Progressing<T> {
    io: T,
    patience: Duration,
    stalled: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<T> Progressing<T> {
    pub(crate) fn new(io: T, patience: Duration) -> Self {
        Self {
            io,
            patience,
            stalled: Box::pin(sleep(patience)),
            waiting: false,
        }
    }

    fn judge<R>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.waiting = false;
            return result;
        }
        if !self.waiting {
            self.waiting = true;
            self.stalled.as_mut().reset(Instant::now() + self.patience);
        }
        match self.stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Progressing<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Progressing<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.judge(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.judge(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn gives_up_on_a_peer_that_does_not_read() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut ours = Progressing::new(ours, Duration::from_millis(20));
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn waits_for_a_slow_one() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Progressing::new(ours, Duration::from_millis(500));
        let reader = async {
            let mut read = Vec::new();
            while read.len() < 64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let mut piece = [0; 8];
                let n = theirs.read(&mut piece).await.unwrap();
                read.extend_from_slice(&piece[..n]);
            }
            read
        };
        let (written, read) = tokio::join!(ours.write_all(&[7; 64]), reader);
        written.unwrap();
        assert_eq!(read, [7; 64]);
    }
}
