//! Accepts connections and drives HTTP on them until it is told to stop.
//!
//! Not here: what is served (`grpc`, `rest`), and when to stop (`server`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// How long the accept loop rests after an error that is not one connection's, such as too many
/// open files.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel may hold for us, unaccepted.
const BACKLOG: i32 = 1024;

/// HTTP/2 flow control: large tensors must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_FRAME: u32 = 1 << 20;
const MAX_CONCURRENT_STREAMS: u32 = 1024;
const MAX_HEADER_LIST: u32 = 64 << 10;

/// A socket that listens.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, and the path to remove at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on a TCP address; port 0 picks one. Has to be called within a runtime.
    ///
    /// # Errors
    ///
    /// As the operating system says.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            // Dual stack, as the original's HTTP server.
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// Listens on a Unix socket; a stale file in its place is removed.
    ///
    /// # Errors
    ///
    /// As the operating system says.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        if std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        Ok(Self::Unix(UnixListener::bind(path)?, path.to_owned()))
    }

    /// The address in use; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// gRPC: HTTP/2 with prior knowledge.
    Http2,
    /// REST: HTTP/1.0, 1.1, and HTTP/2 with prior knowledge.
    Http1And2,
}

/// Serves connections until `stop` turns true, then waits for those under way.
pub async fn serve<S, B>(
    listener: Listener,
    protocols: Protocols,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let builder = builder(protocols);
    let graceful = GracefulShutdown::new();
    loop {
        let stream: Result<Box<dyn Stream>, io::Error> = tokio::select! {
            stream = accept(&listener) => stream,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match stream {
            Ok(stream) => {
                let connection = builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), service.clone())
                    .into_owned();
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error, "connection ended");
                    }
                });
            }
            Err(error) if is_one_connections(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
    if let Listener::Unix(_, path) = &listener {
        // Best effort: a leftover is removed at the next start.
        let _ = std::fs::remove_file(path);
    }
    drop(listener);
    graceful.shutdown().await;
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(listener: &Listener) -> io::Result<Box<dyn Stream>> {
    Ok(match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Listener::Unix(listener, _) => Box::new(listener.accept().await?.0),
    })
}

/// Errors that a client causes by leaving before it is accepted.
fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}

fn builder(protocols: Protocols) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if protocols == Protocols::Http2 {
        builder = builder.http2_only();
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(50))
        .keep_alive(true)
        // libevent writes headers in this form.
        .title_case_headers(true);
    builder
}
