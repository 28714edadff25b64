//! Gives up connections whose client does not begin to speak.
//!
//! hyper has its own timeout for a request's headers, but it begins only once the first bytes have
//! told HTTP/1 from HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The length of HTTP/2's preface; an HTTP/1 request has about as much.
const FIRST_BYTES: usize = 24;

/// A stream that fails unless its first bytes come in time.
pub(super) struct Prompt<S> {
    stream: S,
    missing: usize,
    /// `None` once nothing is missing.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Prompt<S> {
    /// Waits for the first bytes for as long as this. Has to be called within a runtime.
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self {
            stream,
            missing: FIRST_BYTES,
            deadline: Some(Box::pin(sleep(timeout))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let filled = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(deadline) = &mut this.deadline else {
            return read;
        };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        this.missing = this.missing.saturating_sub(buffer.filled().len() - filled);
        if this.missing == 0 {
            this.deadline = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_silent_client_is_given_up() {
        for sent in [&b""[..], b"PRI * HTTP"] {
            let (mut client, server) = duplex(64);
            client.write_all(sent).await.unwrap();
            let mut server = Prompt::new(server, AT_ONCE);
            let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_has_begun_may_take_its_time() {
        let (mut client, server) = duplex(64);
        client.write_all(&[b'x'; FIRST_BYTES]).await.unwrap();
        let mut server = Prompt::new(server, AT_ONCE);
        server.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        let pause = tokio::time::timeout(AT_ONCE * 10, server.read_u8()).await;
        assert!(pause.is_err(), "the read waits: {pause:?}");
    }
}
