//! What connections are doing: requests under way and on their way, answers that nobody reads, silence.
//!
//! A request is under way from its headers until the last byte of its answer is written. That is
//! what a stopping server waits for, and what tells an idle connection from a busy one.
//!
//! Not here: what is done about it (`connection`).

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};

use super::limit::Admitted;
use super::promptness::Promptness;

/// Counts the requests under way on all connections that share it.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    /// All that ever began.
    begun: AtomicUsize,
}

impl UnderWay {
    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }
}

/// One connection, as its driver sees it.
pub(super) struct Activity {
    opened: Instant,
    /// Microseconds from `opened` to the last thing that happened to a request.
    changed: AtomicU64,
    requests: AtomicUsize,
    /// Requests whose client has more of them to send, as far as we have asked for it.
    receiving: AtomicUsize,
    /// Pieces of answers that were handed over and are not written yet.
    unwritten: AtomicUsize,
    is_http2: AtomicBool,
    promptness: Promptness,
    everywhere: UnderWay,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No request was under way for too long.
    Idle,
    /// An answer was not taken for too long.
    Unread,
}

impl Activity {
    /// A connection that was opened now, whose client is [expected](Self::expects_until) to go on for
    /// as long as `busy_poll` after an answer and after the head of a request.
    pub(super) fn new(everywhere: UnderWay, busy_poll: Duration) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            changed: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            is_http2: AtomicBool::new(false),
            promptness: Promptness::new(busy_poll),
            everywhere,
        })
    }

    /// Whether a request came by HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Whether just one request is under way.
    pub(super) fn is_lone(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 1
    }

    /// Notes a request, under way as long as the returned value lives.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> UnderWayRequest {
        if request.version() == Version::HTTP_2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        let others = self.requests.fetch_add(1, Ordering::Relaxed);
        self.everywhere.0.now.fetch_add(1, Ordering::Relaxed);
        let number = self.everywhere.0.begun.fetch_add(1, Ordering::Relaxed);
        let before = self.changed();
        self.touch();
        match others {
            0 => self
                .promptness
                .note(number, self.changed().saturating_sub(before)),
            _ => self.promptness.reset(),
        }
        UnderWayRequest(Arc::clone(self))
    }

    /// Waits until the connection has been idle for `idle`, or its client has taken nothing of an
    /// answer for `stall`. A request that is being worked on is neither.
    pub(super) async fn overdue(&self, idle: Option<Duration>, stall: Duration) -> Overdue {
        let shortest = idle.map_or(stall, |idle| idle.min(stall));
        loop {
            let quiet = self.quiet_for();
            let awaited = self.awaits_client();
            let limit = match awaited {
                Some(Overdue::Unread) => Some(stall),
                Some(Overdue::Idle) => idle,
                None => None,
            };
            let pause = match (limit, awaited) {
                (Some(limit), Some(why)) if quiet >= limit => return why,
                (Some(limit), _) => shortest.min(limit - quiet),
                (None, _) => shortest,
            };
            // Not shorter than the clock's tick.
            sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// What the client should do next; `None` while a request is being worked on.
    fn awaits_client(&self) -> Option<Overdue> {
        if self.unwritten.load(Ordering::Relaxed) > 0 {
            Some(Overdue::Unread)
        } else if self.requests.load(Ordering::Relaxed) == 0 {
            Some(Overdue::Idle)
        } else {
            None
        }
    }

    fn quiet_for(&self) -> Duration {
        self.opened.elapsed().saturating_sub(self.changed())
    }

    fn touch(&self) {
        let micros = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.changed.store(micros, Ordering::Relaxed);
    }

    fn changed(&self) -> Duration {
        Duration::from_micros(self.changed.load(Ordering::Relaxed))
    }

    /// Until when the next request, or the rest of the one that is coming, may be here any moment;
    /// `None` while any other is under way, and unless the client has been prompt.
    pub(super) fn expects_until(&self) -> Option<std::time::Instant> {
        let window = self.promptness.window()?;
        if self.everywhere.count() != self.receiving.load(Ordering::Relaxed) {
            return None;
        }
        let until = (self.opened + self.changed() + window).into_std();
        (std::time::Instant::now() < until).then_some(until)
    }
}

/// A request on its way.
pub(super) struct UnderWayRequest(Arc<Activity>);

impl UnderWayRequest {
    /// The body of the request.
    pub(super) fn body<B>(&self, body: B) -> RequestBody<B> {
        RequestBody {
            body,
            activity: Arc::clone(&self.0),
            is_awaited: false,
        }
    }

    /// The answer, which keeps the request under way until it is written. A place that the service
    /// has put into its extensions is held as long.
    pub(super) fn answered<B>(self, mut response: Response<B>) -> Response<AnswerBody<B>> {
        let admitted = response.extensions_mut().remove::<Arc<Admitted>>();
        let request = Arc::new(Held {
            request: self,
            _admitted: admitted,
        });
        response.map(|body| AnswerBody { body, request })
    }
}

impl Drop for UnderWayRequest {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.touch();
        activity.requests.fetch_sub(1, Ordering::Relaxed);
        activity.everywhere.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body, whose activity knows when its client is waited for.
pub struct RequestBody<B> {
    body: B,
    activity: Arc<Activity>,
    is_awaited: bool,
}

impl<B> RequestBody<B> {
    fn await_it(&mut self, is_awaited: bool) {
        if is_awaited && !self.is_awaited {
            self.activity.receiving.fetch_add(1, Ordering::Relaxed);
        } else if self.is_awaited && !is_awaited {
            self.activity.receiving.fetch_sub(1, Ordering::Relaxed);
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

/// What an answer holds until it is written.
struct Held {
    request: UnderWayRequest,
    _admitted: Option<Arc<Admitted>>,
}

impl Held {
    fn activity(&self) -> &Activity {
        &self.request.0
    }
}

/// An answer's body.
pub(super) struct AnswerBody<B> {
    body: B,
    request: Arc<Held>,
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = AnswerData<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(context);
        polled.map_ok(|frame| frame.map_data(|data| AnswerData::new(data, &this.request)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer; whoever writes it advances it.
pub(super) struct AnswerData<D> {
    data: D,
    request: Arc<Held>,
}

impl<D> AnswerData<D> {
    fn new(data: D, request: &Arc<Held>) -> Self {
        let activity = request.activity();
        activity.unwritten.fetch_add(1, Ordering::Relaxed);
        activity.touch();
        Self {
            data,
            request: Arc::clone(request),
        }
    }
}

impl<D> Drop for AnswerData<D> {
    fn drop(&mut self) {
        let activity = self.request.activity();
        activity.touch();
        activity.unwritten.fetch_sub(1, Ordering::Relaxed);
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
        self.request.activity().touch();
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let bytes = self.data.copy_to_bytes(len);
        self.request.activity().touch();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, stream};
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_connection_without_requests_is_idle() {
        let activity = Activity::new(UnderWay::default(), Duration::ZERO);
        let request = activity.begin(&Request::new(()));
        assert_eq!(activity.awaits_client(), None);
        // Worked on, however long.
        let overdue = activity.overdue(Some(SHORT), SHORT);
        assert!(tokio::time::timeout(SHORT * 20, overdue).await.is_err());
        drop(request);
        let overdue = activity.overdue(None, SHORT);
        assert!(tokio::time::timeout(SHORT * 20, overdue).await.is_err());
        assert_eq!(activity.overdue(Some(SHORT), NEVER).await, Overdue::Idle);
    }

    #[tokio::test]
    async fn an_answer_counts_until_it_is_written() {
        let everywhere = UnderWay::default();
        let activity = Activity::new(everywhere.clone(), Duration::ZERO);
        let request = activity.begin(&Request::new(()));
        let answer = Response::new(Full::new(Bytes::from_static(b"answer")));
        let mut body = request.answered(answer).into_body();
        // It is not the client that is waited for as long as there is nothing to read.
        assert_eq!(activity.awaits_client(), None);
        let frame = body.frame().await.unwrap().unwrap();
        let Ok(mut data) = frame.into_data() else {
            panic!("a frame without data");
        };
        drop(body);
        data.advance(1);
        assert_eq!((data.remaining(), everywhere.count()), (5, 1));
        assert_eq!(activity.overdue(Some(NEVER), SHORT).await, Overdue::Unread);
        drop(data);
        assert_eq!(everywhere.count(), 0);
        assert_eq!(activity.awaits_client(), Some(Overdue::Idle));
    }

    #[test]
    fn a_prompt_client_is_expected_to_go_on() {
        let everywhere = UnderWay::default();
        let activity = Activity::new(everywhere.clone(), NEVER);
        let begin = || activity.begin(&Request::new(()));
        for _ in 0..100 {
            let request = begin();
            assert_eq!(activity.expects_until(), None);
            drop(request);
        }
        let is_expected = || activity.expects_until().is_some();
        assert!(is_expected());
        let request = begin();
        assert!(!is_expected());
        // Comes at the second look for it, and is not all.
        let mut polls = 0;
        let mut body = request.body(StreamBody::new(stream::poll_fn(|_| {
            polls += 1;
            let part = Some(Ok::<_, Infallible>(Frame::data(&b"part"[..])));
            if polls == 2 {
                Poll::Ready(part)
            } else {
                Poll::Pending
            }
        })));
        assert!(!is_expected());
        assert!(body.frame().now_or_never().is_none());
        assert!(is_expected());
        let other = Activity::new(everywhere, NEVER).begin(&Request::new(()));
        assert!(!is_expected());
        drop(other);
        assert!(is_expected());
        assert!(body.frame().now_or_never().is_some());
        assert!(!is_expected());
        assert!(body.frame().now_or_never().is_none());
        assert!(is_expected());
        drop(body);
        assert!(!is_expected());
        drop(request);
        assert!(is_expected());
    }
}
