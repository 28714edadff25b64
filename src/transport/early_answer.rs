//! Answers that are ready before the body of their request was read.
//!
//! If a server closes a connection while its client still sends, the kernel sends a reset, which
//! destroys the answer. So the rest of a body is read and discarded first, within bounds, and the
//! connection stays open. Beyond the bounds the answer says `Connection: close`, and `linger` goes on
//! reading after it. Reading also makes hyper send `100 Continue` to a client that waits for it.
//!
//! HTTP/1 only: on HTTP/2 the answer ends the stream, and h2 then resets the stream with NO_ERROR.
//!
//! Not here: requests that hyper refuses by itself, such as one with too large headers (`linger`).

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

/// How much of a body is discarded before the answer.
const MAX_DISCARDED_BYTES: u64 = 64 << 20;

/// How long the answer waits for the rest of a body.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A request's body that is handed back if it is dropped before its end.
pub struct ReturnedBody<B> {
    /// `None` once it was handed back.
    body: Option<B>,
    /// Since when its reader has been waiting for the client.
    waits_since: Option<Instant>,
    /// Whether reading it has failed.
    is_broken: bool,
    /// `None` where it need not be handed back.
    back: Option<oneshot::Sender<Unread<B>>>,
}

/// The part of a body that was not read.
pub(super) struct Unread<B> {
    /// `None` if it cannot be read.
    body: Option<B>,
    /// Since when the client has been waited for.
    waits_since: Option<Instant>,
    /// Whether the client may wait for `100 Continue`.
    expects_continue: bool,
}

/// Where a body is handed back.
pub(super) struct Return<B> {
    handed_back: oneshot::Receiver<Unread<B>>,
    expects_continue: bool,
}

/// The request for its handler, and where its body is handed back; `None` for a request whose
/// connection does not depend on it.
pub(super) fn returned<B: Body>(
    request: Request<B>,
) -> (Request<ReturnedBody<B>>, Option<Return<B>>) {
    let is_needed = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
    let (back, handed_back) = if is_needed {
        let (back, handed_back) = oneshot::channel();
        let handed_back = Return {
            handed_back,
            expects_continue: request.headers().contains_key(EXPECT),
        };
        (Some(back), Some(handed_back))
    } else {
        (None, None)
    };
    let request = request.map(|body| ReturnedBody {
        body: Some(body),
        waits_since: None,
        is_broken: false,
        back,
    });
    (request, handed_back)
}

impl<B> Return<B> {
    /// What the handler, which has answered, did not read; `None` if it has read all.
    pub(super) fn unread(mut self) -> Option<Unread<B>> {
        match self.handed_back.try_recv() {
            Ok(unread) => Some(Unread {
                expects_continue: self.expects_continue,
                ..unread
            }),
            Err(oneshot::error::TryRecvError::Closed) => None,
            // The handler holds the body longer than its answer takes.
            Err(oneshot::error::TryRecvError::Empty) => Some(Unread {
                body: None,
                waits_since: None,
                expects_continue: false,
            }),
        }
    }
}

impl<B: Body + Unpin> Unread<B> {
    /// Reads the body to its end and discards it. Holds no more of it than one piece at a time.
    ///
    /// Returns whether the end was reached: without an error, within the bounds and, once the server
    /// stops, within `farewell`. A client that stalls for `stall` is not waited for.
    pub(super) async fn discard(
        self,
        stall: Duration,
        mut stop: watch::Receiver<bool>,
        farewell: Duration,
    ) -> bool {
        let Some(body) = self.body else {
            return false;
        };
        let is_too_large = body.size_hint().lower() > MAX_DISCARDED_BYTES;
        if is_too_large && !self.expects_continue {
            return false;
        }
        // Some clients wait for `100 Continue` even if they get another answer. It is sent with the
        // first read.
        let max_bytes = if is_too_large { 0 } else { MAX_DISCARDED_BYTES };
        let until = self.waits_since.unwrap_or_else(Instant::now) + MAX_WAIT.min(stall);
        let stopped = async {
            // An error means that the port is gone.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(farewell).await;
        };
        let mut stopped = pin!(stopped);
        let mut read = pin!(read_to_end(body, max_bytes));
        let read = async {
            tokio::select! {
                is_whole = &mut read => is_whole,
                () = &mut stopped => false,
            }
        };
        timeout_at(until, read).await.unwrap_or(false)
    }
}

/// Returns whether the end was reached within the bound on bytes.
async fn read_to_end<B: Body + Unpin>(mut body: B, max_bytes: u64) -> bool {
    let mut left = max_bytes;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return false;
        };
        let bytes = frame
            .data_ref()
            .map_or(0, |data| bytes::Buf::remaining(data) as u64);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
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
        // The connection may be gone.
        let _ = back.send(unread);
    }
}
