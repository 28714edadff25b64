//! Resets HTTP/2 streams whose answer is not read, and leaves the others of the connection alone.
//!
//! Dropping a stream's future resets the stream.
//!
//! Not here: connections on which all answers stall, and the bookkeeping (`in_flight`).

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep};

use super::in_flight::{InFlightRequest, MIN_PROGRESS};

/// A stream, until its answer stalls.
pub(super) struct UntilStalled<F> {
    stream: F,
    /// `None` if the stream belongs to no request.
    request: Option<InFlightRequest>,
    clock: Option<Clock>,
}

/// Runs while a part of the answer is unread.
struct Clock {
    timer: Pin<Box<Sleep>>,
    /// Bytes that had been read when it was set.
    taken: u64,
    /// How often in a row the timer fired while too little was read.
    idle: u32,
}

/// The answer is given up once the timer has fired this often without progress, at intervals of half the
/// stall timeout.
const MAX_IDLE: u32 = 3;

impl<F> UntilStalled<F> {
    pub(super) fn new(stream: F, request: Option<InFlightRequest>) -> Self {
        Self {
            stream,
            request,
            clock: None,
        }
    }

    /// Returns whether the answer has stalled.
    fn poll_clock(&mut self, context: &mut Context<'_>) -> bool {
        let Some(request) = &self.request else {
            return false;
        };
        let Some(taken) = request.unread() else {
            self.clock = None;
            return false;
        };
        let interval = request.stall_timeout() / 2;
        let clock = self.clock.get_or_insert_with(|| Clock {
            timer: Box::pin(sleep(interval)),
            taken,
            idle: 0,
        });
        while clock.timer.as_mut().poll(context).is_ready() {
            if taken - clock.taken < MIN_PROGRESS as u64 {
                clock.idle += 1;
            } else {
                clock.idle = 0;
                clock.taken = taken;
            }
            if clock.idle >= MAX_IDLE {
                return true;
            }
            clock.timer.as_mut().reset(Instant::now() + interval);
        }
        false
    }
}

impl<F: Future<Output = ()> + Unpin> Future for UntilStalled<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if Pin::new(&mut this.stream).poll(context).is_ready() {
            return Poll::Ready(());
        }
        if this.poll_clock(context) {
            tracing::debug!("an answer was not read: its stream is reset");
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use bytes::{Buf, Bytes};
    use http::{Request, Response, Version};
    use http_body_util::{BodyExt, Full};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::super::in_flight::{ConnectionInFlight, InFlight};
    use super::*;

    const STALL: Duration = Duration::from_millis(20);

    /// A stream that is polled again when the sender is used, as after handing over its answer.
    fn stream(in_flight: &ConnectionInFlight) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let (handed_over, told) = oneshot::channel();
        let stream = Box::pin(async move {
            told.await.unwrap();
            pending().await
        });
        let stream = UntilStalled::new(stream, in_flight.take_latest());
        (handed_over, tokio::spawn(stream))
    }

    async fn piece(request: InFlightRequest) -> impl Buf {
        let answer = Response::new(Full::new(Bytes::from(vec![0; 1 << 20])));
        let mut body = request.answered(answer).into_body();
        body.frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .ok()
            .unwrap()
    }

    #[tokio::test]
    async fn a_stream_ends_once_its_answer_stalls() {
        let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::ZERO, STALL);
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        for moves_on in [false, true] {
            let begun = in_flight.begin(&request);
            let (handed_over, stream) = stream(&in_flight);
            // The stream does not end while the server works on its answer.
            tokio::time::sleep(STALL * 5).await;
            assert!(!stream.is_finished());
            let mut data = piece(begun).await;
            handed_over.send(()).unwrap();
            for _ in 0..20 {
                tokio::time::sleep(STALL / 2).await;
                data.advance(if moves_on { MIN_PROGRESS } else { 1 });
            }
            assert_eq!(stream.is_finished(), !moves_on);
            stream.abort();
        }
    }
}
