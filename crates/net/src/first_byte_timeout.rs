//! Closes connections whose client does not begin to speak, or does not complete an HTTP/2 frame, which is
//! held in memory until then.
//!
//! hyper has its own timeout for a request's headers, but that starts only once the first bytes have
//! distinguished HTTP/1 from HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::frames::Frames;
use super::in_flight::MIN_PROGRESS;

/// The length of HTTP/2's preface; an HTTP/1 request is about as long.
const FIRST_BYTES: usize = 24;

/// A stream that fails unless its first bytes arrive in time, and then the rest of each frame.
pub(super) struct FirstByteTimeout<S> {
    stream: S,
    timeout: Duration,
    missing: usize,
    frames: Frames,
    /// The time by which more bytes have to arrive.
    deadline: Pin<Box<Sleep>>,
    is_set: bool,
    /// Bytes that have arrived since the deadline was set.
    received: usize,
}

impl<S> FirstByteTimeout<S> {
    /// Waits this long for the first bytes. Must be called within a runtime.
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            missing: FIRST_BYTES,
            frames: Frames::new(),
            deadline: Box::pin(sleep(timeout)),
            is_set: true,
            received: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstByteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let filled = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            let new = &buffer.filled()[filled..];
            this.frames.follow(new);
            this.missing = this.missing.saturating_sub(new.len());
            this.received = this.received.saturating_add(new.len());
            return read;
        }
        if this.missing == 0 && !this.frames.is_one_begun() {
            this.is_set = false;
            return read;
        }
        let moves_on = this.missing == 0 && this.received >= MIN_PROGRESS;
        if !this.is_set || moves_on {
            this.is_set = true;
            this.received = 0;
            this.deadline.as_mut().reset(Instant::now() + this.timeout);
        }
        ready!(this.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstByteTimeout<S> {
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
            let mut server = FirstByteTimeout::new(server, AT_ONCE);
            let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent:?}");
        }
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test]
    async fn a_client_that_stops_within_a_frame_is_given_up() {
        for (sent, is_whole) in [
            (&b"\0\0\x02\0\0\0\0\0\x01a"[..], false),
            (b"\0\0", false),
            (b"", true),
        ] {
            let (mut client, server) = duplex(64);
            client.write_all(PREFACE).await.unwrap();
            client.write_all(sent).await.unwrap();
            let mut server = FirstByteTimeout::new(server, AT_ONCE);
            let read = async { server.read_to_end(&mut Vec::new()).await };
            let ended = tokio::time::timeout(AT_ONCE * 100, read).await;
            assert_eq!(ended.is_err(), is_whole, "{sent:?}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_has_begun_may_take_its_time() {
        let (mut client, server) = duplex(64);
        client.write_all(&[b'x'; FIRST_BYTES]).await.unwrap();
        let mut server = FirstByteTimeout::new(server, AT_ONCE);
        server.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        let pause = tokio::time::timeout(AT_ONCE * 10, server.read_u8()).await;
        assert!(pause.is_err(), "the read waits: {pause:?}");
    }
}
