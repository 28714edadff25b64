//! Accepts connections until the server stops, and waits for their end.
//!
//! Not here: the work on a connection (`connection`), the services (`grpc`, `rest`), and when to stop
//! (`server`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use http::Response;
use http_body::Body;
use hyper::service::Service;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::busy_poll::{BusyPoll, BusyPollStream};
use super::connection::{ConnectionOptions, Driver, FAREWELL, HttpRequest};
use super::peer::{Peer, Source};
use super::places::{ConnectionPlace, PortPlaces};
use super::protocols::Protocols;
use super::tls::{PeerNames, Tls};
use super::unix_authority::UnixAuthority;
use base::metrics::instrument::Counter;

/// How long the accept loop pauses after an error that does not concern a single connection, such as too
/// many open files.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// How long a stop waits until the file of a socket is removed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of connections that the kernel can hold for us before we accept them.
const BACKLOG: i32 = 1024;

/// A listening socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, and the path to remove at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on a TCP address; port 0 picks one. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// The error from the operating system.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            // Dual stack, as TensorFlow Serving's HTTP server.
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// Listens on a Unix socket; a stale socket file at the path is removed.
    ///
    /// # Errors
    ///
    /// The error from the operating system.
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

/// Serves connections until `stop` turns true, then waits for those that are open.
pub async fn serve<S, B>(
    listener: Listener,
    options: ConnectionOptions,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<HttpRequest, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let doorman = Arc::new(Doorman::new(&options));
    // Connections are notified of the stop only after the port is closed. Clients that are sent away and
    // reconnect immediately must find it closed, or the kernel would accept them and no one would serve
    // them.
    let (close, closed) = watch::channel(false);
    let handshake = Handshake {
        tls: options.tls.clone(),
        protocols: options.protocols,
        is_unix: matches!(listener, Listener::Unix(..)),
        closed: closed.clone(),
    };
    // Every connection holds a sender; none is left once all have ended.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let reception = Reception {
        handshake: Arc::new(handshake),
        driver: Arc::new(Driver::new(options, closed)),
        service,
        open,
    };
    reception.accept(&listener, &doorman, &mut stop).await;
    reception.accept_waiting(&listener, &doorman);
    if let Listener::Unix(_, path) = &listener {
        remove(path.clone()).await;
    }
    drop(listener);
    close.send_replace(true);
    drop(reception);
    all_closed.recv().await;
}

/// Removes a socket's file. Best effort: a leftover is removed at the next start.
async fn remove(path: PathBuf) {
    let (done, is_done) = oneshot::channel();
    // A thread of its own, because the file system might hang. If none can be started, the file stays.
    let thread = thread::Builder::new().name("file-system".to_owned());
    let _ = thread.spawn(move || {
        let _ = std::fs::remove_file(path);
        let _ = done.send(());
    });
    let _ = timeout(REMOVAL_TIMEOUT, is_done).await;
}

/// Receives the connections that have a place.
#[derive(Clone)]
struct Reception<S> {
    handshake: Arc<Handshake>,
    driver: Arc<Driver>,
    service: S,
    open: mpsc::Sender<()>,
}

impl<S, B> Reception<S>
where
    S: Service<HttpRequest, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Accepts connections until the server stops.
    async fn accept(
        &self,
        listener: &Listener,
        doorman: &Arc<Doorman>,
        stop: &mut watch::Receiver<bool>,
    ) {
        // Logged once, not twenty times a second.
        let mut is_failing = false;
        loop {
            let stream: io::Result<Accepted> = tokio::select! {
                stream = accept(listener) => stream,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match stream {
                Ok(stream) => {
                    is_failing = false;
                    if let Some(place) = doorman.free_place() {
                        tokio::spawn(self.clone().receive(stream, place));
                        continue;
                    }
                    // Further connections stay with the kernel.
                    let waits = tokio::select! {
                        waits = doorman.waits() => waits,
                        _ = stop.wait_for(|stop| *stop) => break,
                    };
                    let (doorman, reception) = (Arc::clone(doorman), self.clone());
                    tokio::spawn(async move {
                        // Without a place the stream is dropped, which closes it. For a client or a load
                        // balancer that is better than waiting for a place that might never be free.
                        let place = doorman.place().await;
                        drop(waits);
                        if let Some(place) = place {
                            reception.receive(stream, place).await;
                        }
                    });
                }
                Err(error) if is_one_connections(&error) => {}
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    is_failing = true;
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                }
            }
        }
    }

    /// Receives the connections that the kernel has accepted already: they might have sent a request.
    fn accept_waiting(&self, listener: &Listener, doorman: &Doorman) {
        loop {
            match accept_waiting(listener) {
                Ok(stream) => match doorman.free_place() {
                    Some(place) => drop(tokio::spawn(self.clone().receive(stream, place))),
                    None => doorman.refuse(),
                },
                Err(error) if is_one_connections(&error) => {}
                Err(_) => break,
            }
        }
    }

    async fn receive(self, (stream, busy_poll, address): Accepted, place: ConnectionPlace) {
        let made = tokio::select! {
            made = self.handshake.make(stream, address) => made,
            () = place.has_to_go() => None,
        };
        if let Some((stream, names)) = made {
            let source = address.map_or(Source::Unix, |it| Source::from_ip(it.ip()));
            let peer = Peer::new(names, source);
            let driven = self
                .driver
                .drive(stream, busy_poll, peer, &place, self.service);
            driven.await;
        }
        drop((place, self.open));
    }
}

/// The handshake that precedes HTTP on the connections of one port.
struct Handshake {
    tls: Option<Tls>,
    protocols: Protocols,
    is_unix: bool,
    closed: watch::Receiver<bool>,
}

impl Handshake {
    /// The stream for HTTP, and the names in the client's certificate. `None` if the TLS handshake fails,
    /// or does not complete soon after the port was closed.
    async fn make(
        &self,
        stream: Box<dyn Stream>,
        address: Option<SocketAddr>,
    ) -> Option<(Box<dyn Stream>, PeerNames)> {
        let (stream, peer): (Box<dyn Stream>, _) = match &self.tls {
            None => (stream, PeerNames::default()),
            Some(tls) => {
                let mut closed = self.closed.clone();
                let given_up = async {
                    // An error means that the port is gone.
                    let _ = closed.wait_for(|closed| *closed).await;
                    tokio::time::sleep(FAREWELL).await;
                };
                let accepted = tokio::select! {
                    accepted = tls.accept(stream, self.protocols, address) => accepted,
                    () = given_up => return None,
                };
                // The error has been logged.
                let (stream, peer) = accepted.ok()?;
                (Box::new(stream), peer)
            }
        };
        match self.is_unix {
            true => Some((Box::new(UnixAuthority::new(stream)), peer)),
            false => Some((stream, peer)),
        }
    }
}

/// Finds places for accepted connections. Counts each connection that gets none, but logs only when places
/// run out, not for each connection.
struct Doorman {
    places: PortPlaces,
    /// Connections that wait for a place.
    waiting: Arc<Semaphore>,
    max: usize,
    are_full: AtomicBool,
    refused: Arc<Counter>,
}

impl Doorman {
    fn new(options: &ConnectionOptions) -> Self {
        let places = options.places.of_port(options.max_connections);
        Self {
            waiting: Arc::new(Semaphore::new(places.max_waiting())),
            places,
            max: options.max_connections,
            are_full: AtomicBool::new(false),
            refused: options.refused.clone(),
        }
    }

    /// A free place.
    fn free_place(&self) -> Option<ConnectionPlace> {
        let place = self.places.take_free()?;
        self.are_full.store(false, Ordering::Relaxed);
        Some(place)
    }

    /// Waits until one more connection can wait for a place. It counts until the returned permit is
    /// dropped.
    async fn waits(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.waiting).acquire_owned().await.ok()
    }

    /// A place, once one is free.
    async fn place(&self) -> Option<ConnectionPlace> {
        match self.places.take().await {
            Some(place) => {
                self.are_full.store(false, Ordering::Relaxed);
                Some(place)
            }
            None => {
                self.refuse();
                None
            }
        }
    }

    /// Notes a connection that gets no place.
    fn refuse(&self) {
        self.refused.add(1);
        if !self.are_full.swap(true, Ordering::Relaxed) {
            let max = self.max;
            tracing::warn!(
                "a port has all the connections that it can have, {max} (--max_connections) or \
                 the number that the limit on open files allows, and works for each: more are closed"
            );
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An accepted socket, the handle that makes its reader busy-poll, and the client's address.
type Accepted = (Box<dyn Stream>, BusyPoll, Option<SocketAddr>);

fn attentive(socket: impl Stream + AsFd + 'static) -> Accepted {
    let address = SockRef::from(&socket).peer_addr().ok();
    let address = address.and_then(|it| it.as_socket());
    let socket = BusyPollStream::new(socket);
    let busy_poll = socket.busy_poll();
    (Box::new(socket), busy_poll, address)
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    Ok(match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            attentive(stream)
        }
        Listener::Unix(listener, _) => attentive(listener.accept().await?.0),
    })
}

/// A connection that waits to be accepted. Asks the kernel, even if the runtime knows of none.
fn accept_waiting(listener: &Listener) -> io::Result<Accepted> {
    let socket = match listener {
        Listener::Tcp(listener) => SockRef::from(listener).accept()?.0,
        Listener::Unix(listener, _) => SockRef::from(listener).accept()?.0,
    };
    socket.set_nonblocking(true)?;
    Ok(match listener {
        Listener::Tcp(_) => {
            socket.set_tcp_nodelay(true)?;
            attentive(TcpStream::from_std(socket.into())?)
        }
        Listener::Unix(..) => attentive(UnixStream::from_std(socket.into())?),
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
