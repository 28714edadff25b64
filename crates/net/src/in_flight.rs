//! Tracks the activity of connections: requests in flight, bodies and answers in transfer, unread answers
//! and idle time.
//!
//! A request is in flight from its headers until the last byte of its answer is written. A stopping server
//! waits for requests in flight, and a connection without any is idle.
//!
//! Each answer has its own clock: reading one answer does not keep the others alive. A client that reads
//! less than `MIN_PROGRESS` of an answer within the stall timeout counts as not reading it.
//!
//! Not here: closing such connections (`connection`).

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};

use super::back_to_back::BackToBack;
use super::limit::Admitted;

/// How much of an answer a client has to read, or of a body it has to send, within the stall timeout; less
/// if less is left. With the default of 50 s that is 330 bytes a second, which any line carries.
pub(super) const MIN_PROGRESS: usize = 16 << 10;

/// An HTTP/2 stream whose answer has pieces of at least this size is kept until they are written.
const LARGE_PIECE: usize = 16 << 10;

/// The stall timeout is divided into this many periods, in which pieces are counted. The counts of
/// `COUNTED_PERIODS` periods are kept: a connection with an older piece has ended by then.
const PERIODS: u32 = 4;
const COUNTED_PERIODS: usize = 32;

/// Counts the requests in flight on all connections that share it.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    begun: AtomicUsize,
}

impl InFlight {
    /// The number of requests in flight.
    pub fn count(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }

    /// The number of requests that ever began.
    pub fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }
}

/// The activity of one connection, as its driver sees it.
pub(super) struct Activity {
    opened: Instant,
    stall: Duration,
    /// Microseconds from `opened` to the last event of a request.
    changed: AtomicU64,
    /// Microseconds from `opened` to the last time that a part of an answer was written or became ready.
    written: AtomicU64,
    /// Microseconds from `opened` to the earliest time at which the oldest unwritten piece can have been
    /// ready.
    unwritten_since: AtomicU64,
    requests: AtomicUsize,
    /// Requests that wait for more of their body.
    receiving: AtomicUsize,
    /// Requests with pieces of an answer that were handed over but are not written yet.
    answering: AtomicUsize,
    /// Requests that last until either side ends them, such as watches.
    lasting: AtomicUsize,
    /// The unwritten pieces, and how many of them last made progress in which period.
    unwritten: AtomicUsize,
    by_period: [AtomicUsize; COUNTED_PERIODS],
    is_http2: AtomicBool,
    /// The latest HTTP/2 request, until its stream is polled.
    latest: Mutex<Option<Arc<Ongoing>>>,
    back_to_back: BackToBack,
    everywhere: InFlight,
}

/// Answers that a client does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unread {
    /// Whether nothing else happens on the connection.
    pub(super) is_all: bool,
    pub(super) answers: usize,
}

/// A client that reads its answers has read some of them within this time.
const MOMENT: Duration = Duration::from_millis(100);

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The connection was idle for too long.
    Idle,
    /// An answer was left unread for too long.
    Unread,
}

impl Activity {
    /// The activity of a connection that was opened now. Its next bytes are [expected](Self::expects_until)
    /// for `busy_poll` after an answer and after the head of a request. Its client stalls if it reads
    /// nothing of an answer for `stall`.
    pub(super) fn new(everywhere: InFlight, busy_poll: Duration, stall: Duration) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            stall,
            changed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unwritten_since: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            answering: AtomicUsize::new(0),
            lasting: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            by_period: Default::default(),
            is_http2: AtomicBool::new(false),
            latest: Mutex::default(),
            back_to_back: BackToBack::new(busy_poll),
            everywhere,
        })
    }

    /// Whether a request came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Whether exactly one request is in flight.
    pub(super) fn is_lone(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 1
    }

    /// Notes a request, which is in flight until the returned value is dropped.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> UnderWayRequest {
        let others = self.requests.fetch_add(1, Ordering::Relaxed);
        self.everywhere.0.now.fetch_add(1, Ordering::Relaxed);
        let number = self.everywhere.0.begun.fetch_add(1, Ordering::Relaxed);
        let before = self.changed();
        self.touch();
        match others {
            0 => self
                .back_to_back
                .note(number, self.changed().saturating_sub(before)),
            _ => self.back_to_back.reset(),
        }
        let is_http2 = request.version() == Version::HTTP_2;
        let ongoing = Arc::new(Ongoing {
            activity: Arc::clone(self),
            is_http2,
            pieces: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            all_written: AtomicWaker::new(),
            admitted: OnceLock::new(),
            lasts: AtomicBool::new(false),
        });
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = Some(Arc::clone(&ongoing));
        }
        UnderWayRequest(ongoing)
    }

    /// Takes the latest HTTP/2 request, whose stream is to be polled next.
    pub(super) fn take_latest(&self) -> Option<UnderWayRequest> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.take().map(UnderWayRequest)
    }

    /// Waits until the connection has been idle for `idle`, or its client stalls in reading its answers. A
    /// request that the server is working on counts as neither.
    pub(super) async fn overdue(&self, idle: Option<Duration>) -> Overdue {
        let shortest = idle.map_or(self.stall, |idle| idle.min(self.stall));
        loop {
            let pause = if self.unwritten.load(Ordering::Relaxed) > 0 {
                if self.is_stuck() {
                    return Overdue::Unread;
                }
                self.period()
            } else if self.requests.load(Ordering::Relaxed) > 0 {
                self.period().min(shortest)
            } else {
                let quiet = self.quiet_for();
                match idle {
                    Some(idle) if quiet >= idle => return Overdue::Idle,
                    Some(idle) => shortest.min(idle - quiet),
                    None => shortest,
                }
            };
            // Not shorter than the timer's tick.
            sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// Whether the connection has to end because its client does not read an answer: either all of its
    /// requests wait for that, or the stream of this answer cannot be reset on its own (`stalled`).
    fn is_stuck(&self) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        let answering = self.answering.load(Ordering::Relaxed);
        let written = Duration::from_micros(self.written.load(Ordering::Relaxed));
        let nothing_moves = self.opened.elapsed().saturating_sub(written) >= self.stall;
        if nothing_moves && (answering >= requests || !self.is_http2()) {
            return true;
        }
        let periods = match self.is_http2() {
            // By then `stalled` has reset all streams that it can reset.
            true => 3 * PERIODS,
            false => PERIODS,
        };
        let now = self.period_now();
        let recent = (now.saturating_sub(periods as usize)..=now)
            .map(|period| self.by_period[period % COUNTED_PERIODS].load(Ordering::Relaxed));
        self.unwritten.load(Ordering::Relaxed) > recent.sum()
    }

    /// How long the connection has waited for its client: to send a request or the rest of one, or to read
    /// an answer. `None` while the server works on one of its requests. `others` is the number of its
    /// requests that are known to wait for something else.
    pub(super) fn waits_for_client(&self, others: usize) -> Option<Duration> {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let waiting = load(&self.receiving) + load(&self.answering) + load(&self.lasting) + others;
        (waiting >= load(&self.requests)).then(|| self.quiet_for())
    }

    /// The answers that the client does not read; `None` if there were none a moment ago.
    pub(super) fn unread(&self) -> Option<Unread> {
        if self.unwritten.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let for_so_long = |since: &AtomicU64| {
            let since = Duration::from_micros(since.load(Ordering::Relaxed));
            self.opened.elapsed().saturating_sub(since) >= MOMENT
        };
        for_so_long(&self.unwritten_since).then(|| Unread {
            is_all: for_so_long(&self.written) && self.waits_for_client(0).is_some(),
            answers: self.answering.load(Ordering::Relaxed),
        })
    }

    /// The number of requests that can turn out to wait for their client: the body is incomplete, or the
    /// answer is not written.
    pub(super) fn in_transfer(&self) -> usize {
        self.receiving.load(Ordering::Relaxed) + self.answering.load(Ordering::Relaxed)
    }

    fn period(&self) -> Duration {
        self.stall / PERIODS
    }

    fn period_now(&self) -> usize {
        let period = self.period().as_micros().max(1);
        usize::try_from(self.opened.elapsed().as_micros() / period).unwrap_or(usize::MAX)
    }

    fn quiet_for(&self) -> Duration {
        self.opened.elapsed().saturating_sub(self.changed())
    }

    fn now_micros(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.changed.store(self.now_micros(), Ordering::Relaxed);
    }

    fn touch_written(&self) {
        let now = self.now_micros();
        self.changed.store(now, Ordering::Relaxed);
        self.written.store(now, Ordering::Relaxed);
    }

    fn changed(&self) -> Duration {
        Duration::from_micros(self.changed.load(Ordering::Relaxed))
    }

    /// The time until which the next request, or the rest of the current one, is likely to arrive. `None`
    /// while any other request is in flight, or if the client does not send requests back to back.
    pub(super) fn expects_until(&self) -> Option<std::time::Instant> {
        let window = self.back_to_back.window()?;
        if self.everywhere.count() != self.receiving.load(Ordering::Relaxed) {
            return None;
        }
        let until = (self.opened + self.changed() + window).into_std();
        (std::time::Instant::now() < until).then_some(until)
    }
}

/// A request in flight.
pub(super) struct UnderWayRequest(Arc<Ongoing>);

struct Ongoing {
    activity: Arc<Activity>,
    is_http2: bool,
    /// Pieces of its answer that are not written yet.
    pieces: AtomicUsize,
    /// Written bytes of its answer, plus [`MIN_PROGRESS`] each time all of its pieces are written.
    taken: AtomicU64,
    /// Woken when no piece is left.
    all_written: AtomicWaker,
    /// Held until the answer is written.
    admitted: OnceLock<Arc<Admitted>>,
    lasts: AtomicBool,
}

impl UnderWayRequest {
    /// Wraps the body of the request.
    pub(super) fn body<B>(&self, body: B) -> RequestBody<B> {
        RequestBody {
            body,
            activity: Arc::clone(&self.0.activity),
            is_awaited: false,
        }
    }

    /// Notes that the request waits for the rest of its body, until the returned value is dropped.
    pub(super) fn awaits_rest(&self) -> AwaitsRest {
        let activity = Arc::clone(&self.0.activity);
        activity.receiving.fetch_add(1, Ordering::Relaxed);
        AwaitsRest(activity)
    }

    /// Wraps the answer, which keeps the request in flight until it is written. If the service has put an
    /// [`Admitted`] into the extensions, it is held until then, too.
    pub(super) fn answered<B>(self, mut response: Response<B>) -> Response<AnswerBody<B>> {
        if let Some(admitted) = response.extensions_mut().remove::<Arc<Admitted>>() {
            if admitted.lasts() {
                self.0.lasts.store(true, Ordering::Relaxed);
                self.0.activity.lasting.fetch_add(1, Ordering::Relaxed);
            }
            // It was not set before.
            let _ = self.0.admitted.set(admitted);
        }
        response.map(|body| AnswerBody {
            body,
            request: self.0,
            has_large_piece: false,
            end: None,
        })
    }

    /// How many bytes of the answer the client has read so far; `None` if no piece waits for the client.
    pub(super) fn unread(&self) -> Option<u64> {
        let pieces = self.0.pieces.load(Ordering::Relaxed);
        (pieces > 0).then(|| self.0.taken.load(Ordering::Relaxed))
    }

    /// The time within which a client has to read a part of the answer.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.0.activity.stall
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.touch();
        if *self.lasts.get_mut() {
            activity.lasting.fetch_sub(1, Ordering::Relaxed);
        }
        activity.requests.fetch_sub(1, Ordering::Relaxed);
        activity.everywhere.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body. It notes in the connection's activity whether it waits for the client.
pub struct RequestBody<B> {
    body: B,
    activity: Arc<Activity>,
    is_awaited: bool,
}

/// A request that waits for the rest of its body before its answer can be sent.
pub(super) struct AwaitsRest(Arc<Activity>);

impl Drop for AwaitsRest {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

impl<B> RequestBody<B> {
    fn await_it(&mut self, is_awaited: bool) {
        if is_awaited && !self.is_awaited {
            self.activity.receiving.fetch_add(1, Ordering::Relaxed);
        } else if self.is_awaited && !is_awaited {
            self.activity.receiving.fetch_sub(1, Ordering::Relaxed);
            self.activity.touch();
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

/// An answer's body.
///
/// On HTTP/2 the end of a body with large pieces is held back until they are written: hyper drops a stream
/// once it has the end, and only the holder of a stream can reset it.
pub(super) struct AnswerBody<B> {
    body: B,
    request: Arc<Ongoing>,
    has_large_piece: bool,
    /// The end, once it is known: trailers, or none.
    end: Option<Option<HeaderMap>>,
}

impl<B> AnswerBody<B> {
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
pub(super) struct AnswerData<D> {
    data: D,
    request: Arc<Ongoing>,
    /// The period in which it last made progress, and the bytes written since.
    period: usize,
    written: usize,
}

impl<D> AnswerData<D> {
    fn new(data: D, request: &Arc<Ongoing>) -> Self {
        let activity = &request.activity;
        if activity.unwritten.fetch_add(1, Ordering::Relaxed) == 0 {
            activity.touch_written();
            let now = activity.written.load(Ordering::Relaxed);
            activity.unwritten_since.store(now, Ordering::Relaxed);
        }
        if request.pieces.fetch_add(1, Ordering::Relaxed) == 0 {
            activity.answering.fetch_add(1, Ordering::Relaxed);
        }
        let period = activity.period_now();
        activity.by_period[period % COUNTED_PERIODS].fetch_add(1, Ordering::Relaxed);
        Self {
            data,
            request: Arc::clone(request),
            period,
            written: 0,
        }
    }

    fn note_written(&mut self, bytes: usize) {
        let Ongoing {
            activity, taken, ..
        } = &*self.request;
        activity.touch_written();
        taken.fetch_add(bytes as u64, Ordering::Relaxed);
        self.written += bytes;
        if self.written >= MIN_PROGRESS {
            self.written = 0;
            let period = activity.period_now();
            let of = |period: usize| &activity.by_period[period % COUNTED_PERIODS];
            of(self.period).fetch_sub(1, Ordering::Relaxed);
            of(period).fetch_add(1, Ordering::Relaxed);
            self.period = period;
        }
    }
}

impl<D> Drop for AnswerData<D> {
    fn drop(&mut self) {
        let request = &*self.request;
        let activity = &request.activity;
        activity.touch_written();
        activity.by_period[self.period % COUNTED_PERIODS].fetch_sub(1, Ordering::Relaxed);
        activity.unwritten.fetch_sub(1, Ordering::Relaxed);
        if request.pieces.fetch_sub(1, Ordering::Release) == 1 {
            activity.answering.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests;
