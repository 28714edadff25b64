//! Drives HTTP on one connection, from its first byte to its end.
//!
//! Not here: accepting connections and their handshakes (`serve`, `tls`), the services (`grpc`, `rest`).

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::busy_poll::BusyPoll;
use super::early_answer::{self, Discards, Return, ReturnedBody, Stopped};
use super::first_byte_timeout::FirstByteTimeout;
use super::in_flight::{AnswerBody, ConnectionInFlight, InFlight, Overdue, RequestBody};
use super::inline_stream::{StreamExecutor, Streams};
use super::limit::Admitted;
use super::linger::{Linger, Lingering};
use super::peer::Peer;
use super::places::{ConnectionPlace, Places};
use super::protocols::Protocols;
use super::request_line::{NotedLines, RequestLines};
use super::tls::Tls;
use base::metrics::instrument::Counter;

/// HTTP/2 flow control: large tensors must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The default limit on the size of a request's headers. Incomplete headers are held for each connection,
/// and counted once they are complete.
const HEADERS: u32 = 64 << 10;

/// The default limit on the size of an HTTP/2 frame, as in C-core: an incomplete frame can hold this much
/// memory. Larger frames make large messages no faster.
const FRAME: u32 = 16 << 10;

/// How many streams of a client can be reset or fail without an answer in between; beyond that the
/// connection ends. Clients that cancel calls stay far below.
const MAX_RESET_STREAMS: usize = 1024;

/// libevent's socket timeout.
const TIMEOUT: Duration = Duration::from_secs(50);

/// How long a connection that is about to end waits for a request. A request that arrives in this time is
/// answered.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection that makes room has for announcing its end.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// The options of a port's connections.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The protocols of the port.
    pub protocols: Protocols,
    /// The largest number of connections (`--max_connections`). Beyond that, one that waits for its client
    /// makes room.
    pub max_connections: usize,
    /// The places for connections, which can be shared with other ports.
    pub places: Places,
    /// The largest number of concurrent calls on one HTTP/2 connection (`grpc.max_concurrent_streams`).
    pub max_concurrent_streams: u32,
    /// The largest HTTP/2 frame to receive (`grpc.http2.max_frame_size`).
    pub max_frame_bytes: u32,
    /// The largest size of a request's headers (`--max_header_bytes`).
    pub max_header_bytes: u32,
    /// A connection is asked to end at this age (`grpc.max_connection_age_ms`).
    pub max_age: Option<Duration>,
    /// A connection ends after this time without a request (`--idle_timeout_seconds`,
    /// `grpc.max_connection_idle_ms`).
    pub idle_timeout: Option<Duration>,
    /// A connection is closed if its client stalls for this time in its first bytes, its headers or reading
    /// an answer (`--stall_timeout_seconds`).
    pub stall_timeout: Duration,
    /// Pings a silent peer after the first duration (`grpc.keepalive_time_ms`), and closes the connection if
    /// it does not answer within the second (`grpc.keepalive_timeout_ms`).
    pub keepalive: Option<(Duration, Duration)>,
    /// `None` for plain text.
    pub tls: Option<Tls>,
    /// How long a worker busy-polls for the next request of a single client that sends requests back to
    /// back (`--busy_poll_micros`); 0 disables it.
    pub busy_poll: Duration,
    /// Counts the requests in flight.
    pub in_flight: InFlight,
    /// Counts the connections that were refused because all places were taken.
    pub refused: Arc<Counter>,
}

impl ConnectionOptions {
    /// The defaults for a port that speaks these protocols.
    pub fn new(protocols: Protocols) -> Self {
        Self {
            protocols,
            max_connections: 65_536,
            places: Places::default(),
            max_concurrent_streams: 1024,
            max_frame_bytes: FRAME,
            max_header_bytes: HEADERS,
            max_age: None,
            // As in TensorFlow Serving: gRPC keeps idle connections.
            idle_timeout: (protocols == Protocols::Http1And2).then_some(TIMEOUT),
            stall_timeout: TIMEOUT,
            keepalive: None,
            tls: None,
            busy_poll: Duration::ZERO,
            in_flight: InFlight::default(),
            refused: Arc::default(),
        }
    }
}

/// A request as services receive it.
pub type HttpRequest = Request<RequestBody<ReturnedBody<Incoming>>>;

/// Drives the connections of one port.
pub(super) struct Driver {
    options: ConnectionOptions,
    stop: watch::Receiver<bool>,
}

impl Driver {
    pub(super) fn new(options: ConnectionOptions, stop: watch::Receiver<bool>) -> Self {
        Self { options, stop }
    }

    /// Drives one connection to its end. Asks it to end once the server stops, its maximum age is reached
    /// or it has been idle for too long.
    pub(super) async fn drive<T, S, B>(
        &self,
        stream: T,
        busy_poll: BusyPoll,
        peer: Peer,
        place: &ConnectionPlace,
        service: S,
    ) where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Service<HttpRequest, Response = Response<B>, Error = Infallible>,
        S::Future: Send + 'static,
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (options, stall) = (&self.options, self.options.stall_timeout);
        let in_flight =
            ConnectionInFlight::new(options.in_flight.clone(), options.busy_poll, stall);
        place.set_in_flight(Arc::clone(&in_flight), peer.clone());
        let lines = RequestLines::default();
        let stream = NotedLines::new(stream, lines.clone());
        let stream = Linger::new(FirstByteTimeout::new(stream, stall), stall);
        let lingering = stream.lingering();
        let service = Tracked {
            service,
            peer,
            lines,
            in_flight: Arc::clone(&in_flight),
            lingering: lingering.clone(),
            discards: Discards::default(),
            stall,
            stop: self.stop.clone(),
        };
        let stream = TokioIo::new(stream);
        let streams = Streams::new(Arc::clone(&in_flight), busy_poll);
        let builder = builder(options, streams.executor());
        let mut connection = pin!(builder.serve_connection(stream, service));

        let why = tokio::select! {
            ended = streams.drive(connection.as_mut()) => return log_end(ended),
            why = self.ending(&in_flight, &lingering) => why,
            () = place.has_to_go() => Ending::ForAnother,
        };
        if why == Ending::Overdue(Overdue::Unread) {
            tracing::debug!("an answer was not read: the connection is closed");
            return;
        }
        // HTTP/2 announces the end and answers the requests in flight. On HTTP/1 the next answer announces
        // it, so clients get a little time to send one more request.
        let is_http2 = options.protocols == Protocols::Http2 || in_flight.is_http2();
        if why == Ending::Stop && !is_http2 {
            tokio::select! {
                ended = streams.drive(connection.as_mut()) => return log_end(ended),
                () = tokio::time::sleep(FAREWELL) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        let last = streams.drive(connection.as_mut());
        drive_to_end(last, why, &in_flight, place).await;
    }

    async fn ending(&self, in_flight: &ConnectionInFlight, lingering: &Lingering) -> Ending {
        let mut stop = self.stop.clone();
        let aged = async {
            match self.options.max_age {
                Some(age) => tokio::time::sleep(age).await,
                None => std::future::pending().await,
            }
        };
        let idle = self.options.idle_timeout;
        let overdue = async {
            let why = in_flight.overdue(idle).await;
            // A connection that is being closed has its own time limits.
            match lingering.has_begun() {
                true => std::future::pending().await,
                false => why,
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ending::Stop,
            () = aged => Ending::Aged,
            why = overdue => Ending::Overdue(why),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Stop,
    Aged,
    Overdue(Overdue),
    /// A new connection needs the place.
    ForAnother,
}

/// Drives a connection that was asked to end, within the time that it has for that.
async fn drive_to_end(
    last: impl Future<Output = Ended>,
    why: Ending,
    in_flight: &ConnectionInFlight,
    place: &ConnectionPlace,
) {
    if why == Ending::ForAnother {
        // The new connection waits for this one's place.
        if let Ok(ended) = tokio::time::timeout(LAST_WORDS, last).await {
            log_end(ended);
        }
        return;
    }
    let given_up = async {
        tokio::time::sleep(FAREWELL).await;
        in_flight.overdue(Some(FAREWELL)).await
    };
    tokio::select! {
        ended = last => log_end(ended),
        _ = given_up => {}
        () = place.has_to_go() => {}
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn log_end(ended: Ended) {
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended");
    }
}

/// Wraps a service: notes its requests in the connection's in_flight, gives it the names in the client's
/// certificate, and makes early answers reach the client.
struct Tracked<S> {
    service: S,
    peer: Peer,
    lines: RequestLines,
    in_flight: Arc<ConnectionInFlight>,
    lingering: Lingering,
    discards: Discards,
    stall: Duration,
    stop: watch::Receiver<bool>,
}

impl<S, B> Service<Request<Incoming>> for Tracked<S>
where
    S: Service<HttpRequest, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Send,
{
    type Response = Response<AnswerBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.lines.attach(&mut request);
        let in_flight = self.in_flight.begin(&request);
        let version = request.version();
        let is_http1 = version < Version::HTTP_2;
        let (stall, stop) = (self.stall, self.stop.clone());
        let (lingering, discards) = (self.lingering.clone(), self.discards.clone());
        let lines = self.lines.clone();
        let (request, body) = early_answer::returned(request);
        let answer = self.service.call(request.map(|body| in_flight.body(body)));
        Box::pin(async move {
            let mut response = answer.await?;
            let mut is_last = false;
            if let Some(unread) = body.and_then(Return::unread) {
                let stopped = Stopped {
                    stop: stop.clone(),
                    farewell: FAREWELL,
                };
                if is_http1 {
                    // The handler has dropped the body that it read, and no more of it is held.
                    drop(response.extensions_mut().remove::<Arc<Admitted>>());
                    let _awaits_rest = in_flight.awaits_rest();
                    let discard = unread.discard_before_answer(stall, stopped);
                    is_last = !Box::pin(discard).await;
                } else {
                    discards.add(unread.discard_after_answer(stopped));
                }
                if is_last {
                    lingering.expect_body();
                }
            }
            if is_http1 {
                lines.expect();
            }
            is_last |= is_http1 && *stop.borrow();
            if is_last {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            // Otherwise hyper adds `keep-alive` for an HTTP/1.0 client that asked for it.
            if version == Version::HTTP_10 && response.headers().contains_key(CONNECTION) {
                *response.version_mut() = version;
            }
            Ok(in_flight.answered(response))
        })
    }
}

fn builder(options: &ConnectionOptions, streams: StreamExecutor) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(streams);
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
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_header_list_size(options.max_header_bytes);
    if let Some((interval, timeout)) = options.keepalive {
        http2
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout);
    }
    // hyper's header timeout also runs while a connection is idle.
    let header_timeout = options.stall_timeout;
    let header_timeout = header_timeout.max(options.idle_timeout.unwrap_or_default());
    let mut http1 = builder.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .keep_alive(true)
        // libevent writes headers in this form.
        .title_case_headers(true)
        .max_buf_size(usize::try_from(options.max_header_bytes).unwrap_or(usize::MAX));
    builder
}
