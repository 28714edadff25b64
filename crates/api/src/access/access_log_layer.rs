//! A service wrapper: records each request for the access log and traces, and returns request ids to
//! clients.
//!
//! Not here: processing the records (`telemetry`), counting requests (`request_metrics`).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;

use base::error::Code;
use base::vocabulary::ServerPort;
use serving::telemetry::{Observer, RequestHead, RequestId, RequestRecord, TraceParent};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The length up to which the standard requires a trace state to be propagated.
const MAX_TRACE_STATE_BYTES: usize = 512;

/// A service with recorded requests.
#[derive(Clone)]
pub struct AccessLogLayer<S> {
    inner: S,
    observer: Arc<Observer>,
    port: ServerPort,
}

impl<S> AccessLogLayer<S> {
    /// Wraps the service of this port.
    pub fn new(inner: S, observer: Arc<Observer>, port: ServerPort) -> Self {
        Self {
            inner,
            observer,
            port,
        }
    }

    fn record<B>(&self, request: &Request<B>, id: Option<RequestId>) -> Ongoing {
        let headers = request.headers();
        let head = RequestHead {
            protocol: self.port.label(),
            method: request.method().as_str().to_owned(),
            path: request.uri().path().to_owned(),
            id: id.unwrap_or_else(RequestId::new_random),
            parent: only(headers, "traceparent").and_then(TraceParent::parse),
            trace_state: only(headers, "tracestate")
                .filter(|state| state.len() <= MAX_TRACE_STATE_BYTES)
                .map(|state| String::from_utf8_lossy(state).into_owned()),
        };
        Ongoing {
            record: RequestRecord::new(head),
            observer: Arc::clone(&self.observer),
            is_answered: false,
        }
    }
}

impl<S, B, R> Service<Request<B>> for AccessLogLayer<S>
where
    S: Service<Request<CountedBody<B>>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
    B: Body<Data = Bytes> + Unpin,
    R: Body + Unpin,
{
    type Response = Response<LoggedBody<R>>;
    type Error = Infallible;
    type Future = LoggedFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let given = only(request.headers(), REQUEST_ID.as_str()).and_then(RequestId::from_client);
        let (ongoing, id) = if self.observer.is_on() {
            let ongoing = self.record(&request, given);
            let id = ongoing.record.id().clone();
            (Some(ongoing), Some(id))
        } else {
            (None, given)
        };
        let record = ongoing.as_ref().map(|it| Arc::clone(&it.record));
        let request = request.map(|inner| CountedBody { inner, record });
        LoggedFuture {
            inner: Some(self.inner.call(request)),
            ongoing,
            id: id.and_then(|id| HeaderValue::from_str(id.as_str()).ok()),
        }
    }
}

/// The header's value, if it occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// An unfinished request. Dropping it finishes it.
struct Ongoing {
    record: Arc<RequestRecord>,
    observer: Arc<Observer>,
    /// Whether all of the answer was sent.
    is_answered: bool,
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if !self.is_answered {
            self.record.set_cancelled();
        }
        self.observer.finish(&self.record);
    }
}

/// The future of an answer of [`AccessLogLayer`].
pub struct LoggedFuture<F> {
    /// `None` once it is dropped.
    inner: Option<F>,
    ongoing: Option<Ongoing>,
    id: Option<HeaderValue>,
}

impl<F, R> Future for LoggedFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Body,
{
    type Output = Result<Response<LoggedBody<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Pending;
        };
        let answer = match &this.ongoing {
            Some(ongoing) => ongoing.record.scope(|| Pin::new(inner).poll(context)),
            None => Pin::new(inner).poll(context),
        };
        let Ok(mut response) = ready!(answer);
        if let Some(id) = this.id.take() {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let mut ongoing = this.ongoing.take();
        if let Some(ongoing) = &mut ongoing {
            ongoing.is_answered = response.body().is_end_stream();
            ongoing.record.set_http_status(response.status().as_u16());
            note_grpc_status(&ongoing.record, response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| LoggedBody { inner, ongoing })))
    }
}

/// A cancelled handler still adds its facts to the record while it is dropped.
impl<F> Drop for LoggedFuture<F> {
    fn drop(&mut self) {
        if let Some(ongoing) = &self.ongoing {
            ongoing.record.scope(|| drop(self.inner.take()));
        }
    }
}

/// A gRPC call's code is in the headers of an answer without a message, otherwise in the trailers.
fn note_grpc_status(record: &RequestRecord, headers: &HeaderMap) {
    let status = headers.get("grpc-status").and_then(|it| it.to_str().ok());
    if let Some(code) = status
        .and_then(|it| it.parse().ok())
        .and_then(Code::from_number)
    {
        record.set_code_if_unknown(code);
    }
}

/// A request's body that counts its bytes.
pub struct CountedBody<B> {
    inner: B,
    record: Option<Arc<RequestRecord>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let (Some(record), Some(Ok(frame))) = (&self.record, &frame) {
            record.add_bytes_in(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body; the request is finished when it ends.
pub struct LoggedBody<B> {
    inner: B,
    ongoing: Option<Ongoing>,
}

impl<B: Body + Unpin> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let Some(ongoing) = &mut this.ongoing else {
            return Pin::new(&mut this.inner).poll_frame(context);
        };
        let record = &ongoing.record;
        let frame = ready!(record.scope(|| Pin::new(&mut this.inner).poll_frame(context)));
        match &frame {
            Some(Ok(frame)) => {
                record.add_bytes_out(frame.data_ref().map_or(0, Buf::remaining));
                if let Some(trailers) = frame.trailers_ref() {
                    note_grpc_status(record, trailers);
                }
            }
            Some(Err(_)) => {}
            None => ongoing.is_answered = true,
        }
        // A caller that knows this does not poll again.
        ongoing.is_answered |= this.inner.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
