//! Accepts connections and drives HTTP on them until it is told to stop.
//!
//! Not here: what is served (`grpc`, `rest`), and when to stop (`server`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

use super::prompt::Prompt;
use super::tls::{PeerNames, Tls};
use super::unix_authority::UnixAuthority;

/// How long the accept loop rests after an error that is not one connection's, such as too many
/// open files.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel may hold for us, unaccepted.
const BACKLOG: i32 = 1024;

/// HTTP/2 flow control: large tensors must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_HEADER_LIST: u32 = 64 << 10;

/// A client may take this long to send a request's headers, and a connection may be idle for as
/// long on HTTP/1: libevent's socket timeout.
const HEADER_TIMEOUT: Duration = Duration::from_secs(50);

/// How connections are kept.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// What the port speaks.
    pub protocols: Protocols,
    /// Calls at a time on one HTTP/2 connection (`grpc.max_concurrent_streams`).
    pub max_concurrent_streams: u32,
    /// The largest HTTP/2 frame to receive (`grpc.http2.max_frame_size`).
    pub max_frame_bytes: u32,
    /// A connection is asked to end after this time (`grpc.max_connection_age_ms`).
    pub max_age: Option<Duration>,
    /// Pings a quiet peer after this time (`grpc.keepalive_time_ms`), and gives it up if there is
    /// no answer within the other (`grpc.keepalive_timeout_ms`).
    pub keepalive: Option<(Duration, Duration)>,
    /// `None` for plain text.
    pub tls: Option<Tls>,
}

impl ConnectionOptions {
    /// The defaults for a port that speaks these protocols.
    pub fn new(protocols: Protocols) -> Self {
        Self {
            protocols,
            max_concurrent_streams: 1024,
            max_frame_bytes: 1 << 20,
            max_age: None,
            keepalive: None,
            tls: None,
        }
    }
}

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
    options: ConnectionOptions,
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
    let driver = Arc::new(Driver {
        builder: builder(&options),
        is_unix: matches!(listener, Listener::Unix(..)),
        options,
    });
    // Every connection holds a sender; none is left once all have ended.
    let (connection_open, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        let stream: io::Result<Box<dyn Stream>> = tokio::select! {
            stream = accept(&listener) => stream,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match stream {
            Ok(stream) => {
                let driver = Arc::clone(&driver);
                let service = service.clone();
                let stop = stop.clone();
                let open = connection_open.clone();
                tokio::spawn(async move {
                    driver.drive(stream, service, stop).await;
                    drop(open);
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
    drop(connection_open);
    all_closed.recv().await;
}

/// How the connections of one listener are driven.
struct Driver {
    builder: Builder<TokioExecutor>,
    is_unix: bool,
    options: ConnectionOptions,
}

impl Driver {
    /// Drives one connection to its end; asks it to end once the server stops or its time is over.
    async fn drive<S, B>(
        &self,
        stream: Box<dyn Stream>,
        service: S,
        mut stop: watch::Receiver<bool>,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let secured = tokio::select! {
            secured = self.secure(stream) => secured,
            // Nothing was asked yet.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (stream, peer) = match secured {
            Ok(secured) => secured,
            Err(error) => return tracing::debug!(%error, "no TLS handshake"),
        };
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            service.call(request)
        });
        let stream = TokioIo::new(Prompt::new(stream, HEADER_TIMEOUT));
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let ending = async {
            let aged = async {
                match self.options.max_age {
                    Some(age) => tokio::time::sleep(age).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = aged => {}
            }
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = ending => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "connection ended");
        }
    }

    /// The stream to speak HTTP on, and whom the client's certificate names.
    async fn secure(&self, stream: Box<dyn Stream>) -> io::Result<(Box<dyn Stream>, PeerNames)> {
        let (stream, peer): (Box<dyn Stream>, _) = match &self.options.tls {
            None => (stream, PeerNames::default()),
            Some(tls) => {
                let (stream, peer) = tls.accept(stream, self.options.protocols).await?;
                (Box::new(stream), peer)
            }
        };
        if self.is_unix {
            return Ok((Box::new(UnixAuthority::new(stream)), peer));
        }
        Ok((stream, peer))
    }
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

fn builder(options: &ConnectionOptions) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if options.protocols == Protocols::Http2 {
        builder = builder.http2_only();
    }
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(options.max_frame_bytes)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(MAX_HEADER_LIST);
    if let Some((interval, timeout)) = options.keepalive {
        http2
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout);
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(true)
        // libevent writes headers in this form.
        .title_case_headers(true);
    builder
}
