//! Closes connections without destroying the last answer.
//!
//! If a connection is closed while its client is still sending, the client gets a reset and loses an answer
//! that it has not read yet. So closing takes two steps: a FIN announces the end, and then the client's
//! remaining bytes are read and discarded until it closes its side.
//!
//! Not here: the part of a body that is read before the answer (`early_answer`).

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Limits on the client until it closes its side.
#[derive(Clone, Copy)]
struct Bounds {
    time: Duration,
    silence: Duration,
    bytes: u64,
}

/// After an answer to a request whose body is still arriving. This gives a slow client enough time, and the
/// number of bytes covers the largest body that a server can be configured to accept.
const REST_OF_BODY: Bounds = Bounds {
    time: Duration::from_secs(300),
    silence: Duration::from_secs(10),
    bytes: 4 << 30,
};

/// In all other cases: covers bytes that were sent before the client noticed the end.
const FAREWELL: Bounds = Bounds {
    time: Duration::from_secs(10),
    silence: Duration::from_secs(5),
    bytes: 16 << 20,
};

/// The number of bytes to discard at a time; the buffer is on the stack.
const CHUNK: usize = 16 << 10;

/// The state of closing one connection, shared with its driver.
#[derive(Clone, Debug, Default)]
pub(super) struct Lingering(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    body_is_coming: AtomicBool,
    has_begun: AtomicBool,
}

impl Lingering {
    /// The client of the last answer is still sending its request.
    pub(super) fn expect_body(&self) {
        self.0.body_is_coming.store(true, Ordering::Relaxed);
    }

    /// Whether our side of the connection is closed, and the client's is not yet.
    pub(super) fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Relaxed)
    }
}

/// A stream whose [`poll_shutdown`](AsyncWrite::poll_shutdown) waits until the other side closes.
pub(super) struct Linger<S> {
    stream: S,
    stall: Duration,
    /// Whether the other side has closed or failed.
    is_ended: bool,
    lingering: Lingering,
    discarding: Option<Discarding>,
}

struct Discarding {
    until: Instant,
    max_silence: Duration,
    bytes_left: u64,
    /// Fires at the earlier of the two time limits.
    timer: Pin<Box<Sleep>>,
}

impl<S> Linger<S> {
    /// Waits no longer than `stall` for a silent client.
    pub(super) fn new(stream: S, stall: Duration) -> Self {
        Self {
            stream,
            stall,
            is_ended: false,
            lingering: Lingering::default(),
            discarding: None,
        }
    }

    pub(super) fn lingering(&self) -> Lingering {
        self.lingering.clone()
    }
}

impl<S: AsyncRead + Unpin> Linger<S> {
    /// Reads and discards until the other side closes, or a limit is reached.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self {
            lingering, stall, ..
        } = self;
        let discarding = self.discarding.get_or_insert_with(|| {
            let bounds = match lingering.0.body_is_coming.load(Ordering::Relaxed) {
                true => REST_OF_BODY,
                false => FAREWELL,
            };
            let max_silence = bounds.silence.min(*stall);
            Discarding {
                until: Instant::now() + bounds.time,
                max_silence,
                bytes_left: bounds.bytes,
                timer: Box::pin(sleep(max_silence)),
            }
        });
        let mut has_come = false;
        loop {
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut buffer = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    has_come = true;
                    let bytes = buffer.filled().len() as u64;
                    match discarding.bytes_left.checked_sub(bytes) {
                        Some(left) => discarding.bytes_left = left,
                        None => return Poll::Ready(()),
                    }
                }
            }
        }
        if has_come {
            let silent = Instant::now() + discarding.max_silence;
            discarding
                .timer
                .as_mut()
                .reset(silent.min(discarding.until));
        }
        discarding.timer.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (filled, room) = (buffer.filled().len(), buffer.remaining());
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.is_ended |= read.is_err() || (room > 0 && buffer.filled().len() == filled);
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
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
        if self.discarding.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            self.lingering.0.has_begun.store(true, Ordering::Relaxed);
        }
        self.poll_discard(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn closing_waits_for_the_other_side() {
        let (mut client, server) = duplex(1000);
        let mut server = Linger::new(server, NEVER);
        let lingering = server.lingering();
        let closing = tokio::spawn(async move { server.shutdown().await });
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(lingering.has_begun());
        // More than the buffer between the two sides holds.
        client.write_all(&[0; 100_000]).await.unwrap();
        assert!(!closing.is_finished());
        drop(client);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn silent_client_is_not_waited_for() {
        let (_client, server) = duplex(1000);
        let mut server = Linger::new(server, SHORT);
        let closed = timeout(NEVER, server.shutdown()).await;
        closed.unwrap().unwrap();
    }

    #[tokio::test]
    async fn client_that_sends_without_end_is_not_waited_for() {
        let (mut client, server) = duplex(1 << 20);
        let mut server = Linger::new(server, NEVER);
        let sending =
            tokio::spawn(async move { while client.write_all(&[0; 1 << 16]).await.is_ok() {} });
        server.shutdown().await.unwrap();
        drop(server);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn client_that_has_closed_is_not_waited_for() {
        let (client, server) = duplex(1000);
        let mut server = Linger::new(server, NEVER);
        let lingering = server.lingering();
        drop(client);
        assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0);
        server.shutdown().await.unwrap();
        assert!(!lingering.has_begun());
    }
}
