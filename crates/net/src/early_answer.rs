//! Answers that are ready before the body of their request is read.
//!
//! If a server closes a connection while its client is still sending, the kernel sends a reset, which
//! destroys the answer. So the rest of the body is read and discarded first, up to a limit, and the
//! connection stays open. Beyond the limit the answer says `Connection: close`, and `linger` keeps reading
//! after it. Reading also makes hyper send `100 Continue` to a client that waits for it.
//!
//! On HTTP/2 an answer ends only its own stream, so it is sent without delay. The rest of the body is read
//! and discarded afterwards, because some clients never look at their answer if the stream is reset before
//! they have sent everything. Once nothing has arrived for a while, h2 resets the stream with NO_ERROR.
//!
//! Not here: requests that hyper itself refuses, such as those with too large headers (`linger`).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Limits on discarding one body.
#[derive(Clone, Copy)]
struct Bounds {
    bytes: u64,
    time: Duration,
    /// The longest pause of the client.
    silence: Duration,
}

/// On HTTP/1, where the answer waits meanwhile.
const BEFORE_ANSWER: Bounds = Bounds {
    bytes: 64 << 20,
    time: Duration::from_secs(10),
    silence: Duration::from_secs(10),
};

/// On HTTP/2. The number of bytes covers the largest body that a server can be configured to accept.
const AFTER_ANSWER: Bounds = Bounds {
    bytes: 4 << 30,
    time: Duration::from_secs(300),
    silence: Duration::from_secs(1),
};

/// A request's body that is handed back if it is dropped before its end.
pub struct ReturnedBody<B> {
    /// `None` once it was handed back.
    body: Option<B>,
    /// When its reader began to wait for the client.
    waits_since: Option<Instant>,
    /// Whether reading it has failed.
    is_broken: bool,
    /// `None` if it need not be handed back.
    back: Option<oneshot::Sender<Unread<B>>>,
}

/// The part of a body that was not read.
pub(super) struct Unread<B> {
    /// `None` if it cannot be read.
    body: Option<B>,
    /// When the wait for the client began.
    waits_since: Option<Instant>,
    /// Whether the client might be waiting for `100 Continue`.
    expects_continue: bool,
}

/// Receives a body that is handed back.
pub(super) struct Return<B> {
    handed_back: oneshot::Receiver<Unread<B>>,
    expects_continue: bool,
    is_http2: bool,
}

/// The request for its handler, and the receiver of its body; `None` for a request without a body.
pub(super) fn returned<B: Body>(
    request: Request<B>,
) -> (Request<ReturnedBody<B>>, Option<Return<B>>) {
    let (back, handed_back) = if request.body().is_end_stream() {
        (None, None)
    } else {
        let (back, handed_back) = oneshot::channel();
        let handed_back = Return {
            handed_back,
            expects_continue: request.headers().contains_key(EXPECT),
            is_http2: request.version() == Version::HTTP_2,
        };
        (Some(back), Some(handed_back))
    };
    let request = request.map(|body| ReturnedBody {
        body: Some(body),
        waits_since: None,
        is_broken: false,
        back,
    });
    (request, handed_back)
}

impl<B: Body> Return<B> {
    /// The rest of the body, which the handler has not read by the time of its answer; `None` if it has
    /// read all.
    pub(super) fn unread(mut self) -> Option<Unread<B>> {
        match self.handed_back.try_recv() {
            Ok(unread) => {
                let is_whole = unread.body.as_ref().is_some_and(Body::is_end_stream);
                (!is_whole).then_some(Unread {
                    expects_continue: self.expects_continue,
                    ..unread
                })
            }
            Err(oneshot::error::TryRecvError::Closed) => None,
            // The handler of this call reads on while its answer is sent.
            Err(oneshot::error::TryRecvError::Empty) if self.is_http2 => None,
            Err(oneshot::error::TryRecvError::Empty) => Some(Unread {
                body: None,
                waits_since: None,
                expects_continue: false,
            }),
        }
    }
}

/// Completes some time after the server was asked to stop.
#[derive(Clone)]
pub(super) struct Stopped {
    pub(super) stop: watch::Receiver<bool>,
    /// The time between the two.
    pub(super) farewell: Duration,
}

impl Stopped {
    async fn wait(mut self) {
        // An error means that the port is gone.
        let _ = self.stop.wait_for(|stop| *stop).await;
        sleep(self.farewell).await;
    }
}

impl<B: Body + Unpin> Unread<B> {
    /// Reads the body to its end and discards it, before its answer on HTTP/1.
    ///
    /// Returns whether the end was reached without an error, within the limits and before the server stops.
    /// Does not wait for a client that stalls for `stall`.
    pub(super) async fn discard_before_answer(self, stall: Duration, stopped: Stopped) -> bool {
        let Some(body) = self.body else {
            return false;
        };
        let mut bounds = BEFORE_ANSWER;
        if body.size_hint().lower() > bounds.bytes {
            if !self.expects_continue {
                return false;
            }
            // Some clients wait for `100 Continue` even if they get another answer. The first read sends
            // it.
            bounds.bytes = 0;
        }
        bounds.silence = bounds.silence.min(stall);
        let since = self.waits_since.unwrap_or_else(Instant::now);
        bounds.time = bounds.time.min(stall).saturating_sub(since.elapsed());
        read_to_end(body, bounds, stopped).await
    }

    /// Reads the rest of the body and discards it, while its answer is sent on HTTP/2.
    pub(super) async fn discard_after_answer(self, stopped: Stopped) {
        if let Some(body) = self.body {
            read_to_end(body, AFTER_ANSWER, stopped).await;
        }
    }
}

/// Returns whether the end was reached. Holds only one piece of the body at a time.
async fn read_to_end<B: Body + Unpin>(mut body: B, bounds: Bounds, stopped: Stopped) -> bool {
    let mut bytes_left = bounds.bytes;
    let read = async {
        loop {
            let data = match timeout(bounds.silence, body.frame()).await {
                Ok(None) => return true,
                Ok(Some(Ok(frame))) => frame.into_data().ok(),
                Ok(Some(Err(_))) | Err(_) => return false,
            };
            let bytes = data.map_or(0, |data| data.remaining() as u64);
            match bytes_left.checked_sub(bytes) {
                Some(left) => bytes_left = left,
                None => return false,
            }
        }
    };
    tokio::select! {
        is_whole = read => is_whole,
        () = sleep(bounds.time) => false,
        () = stopped.wait() => false,
    }
}

/// The bodies that are being discarded after their answers on one connection. Dropping this ends them.
#[derive(Clone, Default)]
pub(super) struct Discards(Arc<Mutex<JoinSet<()>>>);

impl Discards {
    pub(super) fn add(&self, discard: impl Future<Output = ()> + Send + 'static) {
        // Held for an instant.
        let mut discards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while discards.try_join_next().is_some() {}
        discards.spawn(discard);
    }
}

impl<B: Body + Unpin> Body for ReturnedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        match &polled {
            Poll::Pending if this.back.is_some() => {
                this.waits_since.get_or_insert_with(Instant::now);
            }
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => this.waits_since = None,
            Poll::Ready(Some(Err(_))) => this.is_broken = true,
            // There is nothing to hand back.
            Poll::Ready(None) if !this.is_broken => this.back = None,
            Poll::Ready(None) => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B> Drop for ReturnedBody<B> {
    fn drop(&mut self) {
        let (Some(back), Some(body)) = (self.back.take(), self.body.take()) else {
            return;
        };
        let unread = Unread {
            body: (!self.is_broken).then_some(body),
            waits_since: self.waits_since,
            expects_continue: false,
        };
        // The connection might be gone.
        let _ = back.send(unread);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::{Stream, StreamExt, stream};
    use http_body_util::{Full, StreamBody};

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3600);

    type Piece = Result<Frame<Bytes>, Infallible>;

    /// A body of this many MiB, without a length.
    fn mebibytes(count: usize) -> impl Stream<Item = Piece> + Unpin {
        let piece = Bytes::from(vec![0; 1 << 20]);
        stream::iter((0..count).map(move |_| Ok(Frame::data(piece.clone()))))
    }

    /// The rest of a request's body after a handler has read this many pieces of it.
    async fn unread<S>(stream: S, pieces: usize) -> Option<Unread<StreamBody<S>>>
    where
        S: Stream<Item = Piece> + Unpin,
    {
        let (request, body) = returned(Request::new(StreamBody::new(stream)));
        let mut request = request.into_body();
        for _ in 0..pieces {
            request.frame().await;
        }
        drop(request);
        body.unwrap().unread()
    }

    fn stopped(is_stopped: bool, farewell: Duration) -> (watch::Sender<bool>, Stopped) {
        let (sender, stop) = watch::channel(is_stopped);
        (sender, Stopped { stop, farewell })
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_body_that_was_read() {
        assert!(unread(mebibytes(2), 3).await.is_none());
        let (_, body) = returned(Request::new(Full::new(Bytes::new())));
        assert!(body.is_none());
    }

    #[tokio::test]
    async fn rest_is_discarded_up_to_a_bound() {
        for (count, pieces, is_whole) in [(64, 0, true), (65, 1, true), (65, 0, false)] {
            let rest = unread(mebibytes(count), pieces).await.unwrap();
            let (_port, stopped) = stopped(false, NEVER);
            let reached = rest.discard_before_answer(NEVER, stopped).await;
            assert_eq!(reached, is_whole, "{count} {pieces}");
        }
    }

    #[tokio::test]
    async fn clients_that_stall_are_not_waited_for() {
        for (stall, is_stopped) in [(SHORT, false), (NEVER, true)] {
            let body = mebibytes(1).chain(stream::pending());
            let rest = unread(body, 0).await.unwrap();
            let (_port, stopped) = stopped(is_stopped, SHORT);
            assert!(!rest.discard_before_answer(stall, stopped).await);
        }
    }

    #[tokio::test]
    async fn body_that_announces_too_much_is_not_read() {
        let body = Full::new(Bytes::from(vec![0; (64 << 20) + 1]));
        let (request, body) = returned(Request::new(body));
        drop(request);
        let rest = body.unwrap().unread().unwrap();
        let (_port, stopped) = stopped(false, NEVER);
        assert!(!rest.discard_before_answer(NEVER, stopped).await);
    }
}
