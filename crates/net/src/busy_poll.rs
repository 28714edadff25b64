//! A socket that can be busy-polled for the next bytes instead of waiting for a wake-up.
//!
//! If a worker sleeps until a single client's request arrives, it has to be woken, and so does its
//! processor: that takes tens of microseconds, of two hundred for the call. A caller that expects bytes
//! soon says until when, and the next read asks the kernel repeatedly until then, bypassing the runtime.
//!
//! Not here: which clients are busy-polled (`back_to_back`), and by which task (`inline_stream`).

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes to read at a time while bypassing the runtime.
const MAX_READ: usize = 16 << 10;

/// Makes the next read of one socket busy-poll.
#[derive(Clone, Debug, Default)]
pub(super) struct BusyPoll(Arc<Mutex<Look>>);

/// How the next read proceeds if the runtime knows of no bytes.
#[derive(Clone, Copy, Debug, Default)]
enum Look {
    #[default]
    Never,
    /// The last poll filled its buffer, so there can be more.
    Once,
    Until(Instant),
}

impl BusyPoll {
    /// The next read busy-polls until then.
    pub(super) fn poll_until(&self, until: Instant) {
        self.set(Look::Until(until));
    }

    fn take(&self) -> Look {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, look: Look) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = look;
    }
}

/// A socket with [`BusyPoll`].
pub(super) struct BusyPollStream<S> {
    socket: S,
    busy_poll: BusyPoll,
}

impl<S> BusyPollStream<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            busy_poll: BusyPoll::default(),
        }
    }

    pub(super) fn busy_poll(&self) -> BusyPoll {
        self.busy_poll.clone()
    }
}

impl<S: AsFd> BusyPollStream<S> {
    /// Reads from the kernel, bypassing the runtime.
    fn look(&self, buffer: &mut ReadBuf<'_>, until: Option<Instant>) -> Poll<io::Result<()>> {
        let socket = SockRef::from(&self.socket);
        let len = buffer.remaining().min(MAX_READ);
        let bytes = buffer.initialize_unfilled_to(len);
        let read = loop {
            match (&*socket).read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if until.is_none_or(|until| until <= Instant::now()) {
                        return Poll::Pending;
                    }
                    std::hint::spin_loop();
                }
                read => break read,
            }
        };
        Poll::Ready(read.map(|count| {
            buffer.advance(count);
            if count == len {
                self.busy_poll.set(Look::Once);
            }
        }))
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for BusyPollStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // This also registers the waker, for bytes that arrive after the busy-polling.
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        match self.busy_poll.take() {
            _ if read.is_ready() => read,
            Look::Never => Poll::Pending,
            Look::Once => self.look(buffer, None),
            Look::Until(until) => self.look(buffer, Some(until)),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BusyPollStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A client, and the server's end of its connection. The tests never wait for the runtime, so that it
    /// does not learn of any bytes.
    fn connection() -> (TcpStream, BusyPollStream<tokio::net::TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let server = tokio::net::TcpStream::from_std(server).unwrap();
        (client, BusyPollStream::new(server))
    }

    /// The result of a read of up to four bytes; `None` if it waits.
    fn read(server: &mut BusyPollStream<tokio::net::TcpStream>) -> Option<Vec<u8>> {
        let mut bytes = [0; 4];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(server).poll_read(&mut context, &mut buffer) {
            Poll::Ready(read) => {
                read.unwrap();
                Some(buffer.filled().to_vec())
            }
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn look_finds_what_the_runtime_has_not_heard_of() {
        let (mut client, mut server) = connection();
        assert_eq!(read(&mut server), None);
        client.write_all(b"ask").unwrap();
        assert_eq!(read(&mut server), None);
        server.busy_poll().poll_until(Instant::now() + LONG);
        assert_eq!(read(&mut server).unwrap(), b"ask");
        client.write_all(b"ask").unwrap();
        assert_eq!(read(&mut server), None);
    }

    #[tokio::test]
    async fn look_finds_all_of_it() {
        let (mut client, mut server) = connection();
        client.write_all(b"question").unwrap();
        server.busy_poll().poll_until(Instant::now() + LONG);
        assert_eq!(read(&mut server).unwrap(), b"ques");
        assert_eq!(read(&mut server).unwrap(), b"tion");
        assert_eq!(read(&mut server), None);
    }

    #[tokio::test]
    async fn look_lasts_until_bytes_come() {
        let (mut client, mut server) = connection();
        server.busy_poll().poll_until(Instant::now() + LONG);
        let writer = std::thread::spawn(move || client.write_all(b"ask").map(|()| client));
        assert_eq!(read(&mut server).unwrap(), b"ask");
        writer.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn look_comes_to_an_end() {
        let (_client, mut server) = connection();
        server.busy_poll().poll_until(Instant::now());
        assert_eq!(read(&mut server), None);
    }

    #[tokio::test]
    async fn look_sees_that_the_client_has_gone() {
        let (client, mut server) = connection();
        drop(client);
        server.busy_poll().poll_until(Instant::now() + LONG);
        assert_eq!(read(&mut server).unwrap(), b"");
    }

    #[tokio::test]
    async fn reader_is_woken_for_what_comes_after_a_look() {
        use tokio::io::AsyncReadExt;
        let (mut client, mut server) = connection();
        server.busy_poll().poll_until(Instant::now());
        assert_eq!(read(&mut server), None);
        client.write_all(b"ask").unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
    }
}
