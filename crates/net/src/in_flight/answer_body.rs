//! The body of an answer, and its pieces until they are written.
//!
//! Not here: the consequences of unread pieces (`in_flight`, `stalled`).

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{COUNTED_PERIODS, MIN_PROGRESS, Ongoing};

/// An HTTP/2 stream whose answer has pieces of at least this size is kept until they are written.
pub(super) const LARGE_PIECE: usize = 16 << 10;

/// An answer's body.
///
/// On HTTP/2 the end of a body with large pieces is held back until they are written: hyper drops a stream
/// once it has the end, and only the holder of a stream can reset it.
pub(crate) struct AnswerBody<B> {
    body: B,
    request: Arc<Ongoing>,
    has_large_piece: bool,
    /// The end, once it is known: trailers, or none.
    end: Option<Option<HeaderMap>>,
}

impl<B> AnswerBody<B> {
    pub(super) fn new(body: B, request: Arc<Ongoing>) -> Self {
        Self {
            body,
            request,
            has_large_piece: false,
            end: None,
        }
    }

    fn holds_back(&self) -> bool {
        self.has_large_piece && self.request.pieces.load(Ordering::Acquire) > 0
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<AnswerData<B::Data>>>>
    where
        B: Body,
    {
        self.request.all_written.register(context.waker());
        if self.holds_back() {
            return Poll::Pending;
        }
        let end = self.end.take().flatten();
        Poll::Ready(end.map(Frame::trailers))
    }
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = AnswerData<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = &mut *self;
        if this.end.is_some() {
            return this.poll_end(context).map(|end| end.map(Ok));
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None if this.holds_back() => {
                this.end = Some(None);
                return this.poll_end(context).map(|end| end.map(Ok));
            }
            None => return Poll::Ready(None),
        };
        if frame.is_trailers() && this.holds_back() {
            this.end = frame.into_trailers().ok().map(Some);
            return this.poll_end(context).map(|end| end.map(Ok));
        }
        Poll::Ready(Some(Ok(frame.map_data(|data| {
            this.has_large_piece |= this.request.is_http2 && data.remaining() >= LARGE_PIECE;
            AnswerData::new(data, &this.request)
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() && !self.holds_back() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer; its writer advances it.
pub(crate) struct AnswerData<D> {
    data: D,
    request: Arc<Ongoing>,
    /// The period in which it last made progress, and the bytes written since.
    period: usize,
    written: usize,
}

impl<D> AnswerData<D> {
    fn new(data: D, request: &Arc<Ongoing>) -> Self {
        let in_flight = &request.in_flight;
        if in_flight.unwritten.fetch_add(1, Ordering::Relaxed) == 0 {
            in_flight.touch_written();
            let now = in_flight.written.load(Ordering::Relaxed);
            in_flight.unwritten_since.store(now, Ordering::Relaxed);
        }
        if request.pieces.fetch_add(1, Ordering::Relaxed) == 0 {
            in_flight.answering.fetch_add(1, Ordering::Relaxed);
        }
        let period = in_flight.period_now();
        in_flight.by_period[period % COUNTED_PERIODS].fetch_add(1, Ordering::Relaxed);
        Self {
            data,
            request: Arc::clone(request),
            period,
            written: 0,
        }
    }

    fn note_written(&mut self, bytes: usize) {
        let Ongoing {
            in_flight, taken, ..
        } = &*self.request;
        in_flight.touch_written();
        taken.fetch_add(bytes as u64, Ordering::Relaxed);
        self.written += bytes;
        if self.written >= MIN_PROGRESS {
            self.written = 0;
            let period = in_flight.period_now();
            let of = |period: usize| &in_flight.by_period[period % COUNTED_PERIODS];
            of(self.period).fetch_sub(1, Ordering::Relaxed);
            of(period).fetch_add(1, Ordering::Relaxed);
            self.period = period;
        }
    }
}

impl<D> Drop for AnswerData<D> {
    fn drop(&mut self) {
        let request = &*self.request;
        let in_flight = &request.in_flight;
        in_flight.touch_written();
        in_flight.by_period[self.period % COUNTED_PERIODS].fetch_sub(1, Ordering::Relaxed);
        in_flight.unwritten.fetch_sub(1, Ordering::Relaxed);
        if request.pieces.fetch_sub(1, Ordering::Release) == 1 {
            in_flight.answering.fetch_sub(1, Ordering::Relaxed);
            request
                .taken
                .fetch_add(MIN_PROGRESS as u64, Ordering::Relaxed);
            request.all_written.wake();
        }
    }
}

impl<D: Buf> Buf for AnswerData<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        self.note_written(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let bytes = self.data.copy_to_bytes(len);
        self.note_written(len);
        bytes
    }
}
