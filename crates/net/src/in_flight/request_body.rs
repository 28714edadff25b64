//! The body of a request, as its service reads it, and whether it waits for the client.
//!
//! Not here: limits on a body (`receive`), the other in_flight of its connection (`in_flight`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use super::ConnectionInFlight;

/// A request's body. It notes in the connection's in_flight whether it waits for the client.
pub struct RequestBody<B> {
    body: B,
    in_flight: Arc<ConnectionInFlight>,
    is_awaited: bool,
}

/// A request that waits for the rest of its body before its answer can be sent.
pub(crate) struct AwaitsRest(Arc<ConnectionInFlight>);

impl AwaitsRest {
    pub(super) fn new(in_flight: Arc<ConnectionInFlight>) -> Self {
        in_flight.receiving.fetch_add(1, Ordering::Relaxed);
        Self(in_flight)
    }
}

impl Drop for AwaitsRest {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

impl<B> RequestBody<B> {
    pub(super) fn new(body: B, in_flight: Arc<ConnectionInFlight>) -> Self {
        Self {
            body,
            in_flight,
            is_awaited: false,
        }
    }

    fn await_it(&mut self, is_awaited: bool) {
        if is_awaited && !self.is_awaited {
            self.in_flight.receiving.fetch_add(1, Ordering::Relaxed);
        } else if self.is_awaited && !is_awaited {
            self.in_flight.receiving.fetch_sub(1, Ordering::Relaxed);
            self.in_flight.touch();
        }
        self.is_awaited = is_awaited;
    }
}

impl<B: Body + Unpin> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.await_it(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.await_it(false);
    }
}
