//! Decides which task polls the streams of an HTTP/2 connection.
//!
//! For a small request, spawning a task for its stream, waking it for the message and waking the
//! connection's task for the answer cost about as much as all other work. So the connection's own task
//! polls a stream if no other was open when it came, and if it is quick. A stream that takes longer, for
//! example for a large message, becomes a task of its own, which any worker can run. So does a stream that
//! comes while others are open.
//!
//! The stream and the connection wake each other all the time. If they woke the task that polls them, tokio
//! would conclude that the task is yielding to others, and wake another worker to steal it. So they have a
//! waker of their own, which only records wake-ups while they are being polled.
//!
//! If a single client sends requests back to back, the task busy-polls for the next request, or for the
//! rest of the current one, before it sleeps (`busy_poll`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;

use super::busy_poll::BusyPoll;
use super::in_flight::Activity;
use super::stalled::UntilStalled;

/// The number of polls after which a stream becomes a task: one can find the headers, one the message, and
/// one the answer.
const MAX_POLLS: usize = 4;

/// The number of rounds after which the connection's task yields to others.
const MAX_ROUNDS: usize = 16;

/// The number of requests that the connection's task busy-polls for in a row. Then it yields, so that the
/// runtime can handle other sockets and timers.
const MAX_LOOKS: usize = 4;

/// The streams of one connection, as used by the task that drives it.
pub(super) struct Streams {
    inner: Arc<Inner>,
    stream_waker: Arc<CoalescingWaker>,
    attention: BusyPoll,
}

/// Runs the streams of one connection for hyper.
#[derive(Clone)]
pub(super) struct StreamExecutor(Arc<Inner>);

struct Inner {
    activity: Arc<Activity>,
    /// Held for an instant: only the connection's task uses it.
    lone: Mutex<Option<Lone>>,
}

type Stream = UntilStalled<Pin<Box<dyn Future<Output = ()> + Send>>>;

struct Lone {
    stream: Stream,
    polls: usize,
}

impl Streams {
    /// The streams of the connection with this activity and this socket.
    pub(super) fn new(activity: Arc<Activity>, attention: BusyPoll) -> Self {
        let inner = Inner {
            activity,
            lone: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            stream_waker: Arc::default(),
            attention,
        }
    }

    pub(super) fn executor(&self) -> StreamExecutor {
        StreamExecutor(Arc::clone(&self.inner))
    }

    /// Drives the connection to its end, together with the stream that its task polls.
    pub(super) fn drive<'a, C: Future>(&'a self, connection: Pin<&'a mut C>) -> Driving<'a, C> {
        Driving {
            streams: self,
            waker: Waker::from(Arc::clone(&self.stream_waker)),
            connection,
        }
    }

    /// Returns whether a stream ended.
    fn poll_lone(&self, context: &mut Context<'_>) -> bool {
        let Some(mut lone) = self.inner.lone().take() else {
            return false;
        };
        // A panic ends the stream, as it would end a task.
        let poll = AssertUnwindSafe(|| Pin::new(&mut lone.stream).poll(context));
        if let Ok(Poll::Ready(())) | Err(_) = catch_unwind(poll) {
            return true;
        }
        lone.polls += 1;
        if lone.polls < MAX_POLLS {
            *self.inner.lone() = Some(lone);
        } else {
            tokio::spawn(lone.stream);
        }
        false
    }
}

/// A connection and the stream that its task polls.
pub(super) struct Driving<'a, C> {
    streams: &'a Streams,
    /// Wakes the streams' task through [`CoalescingWaker`].
    waker: Waker,
    connection: Pin<&'a mut C>,
}

impl<C: Future> Future for Driving<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        let stream_waker = &this.streams.stream_waker;
        let mut inner = Context::from_waker(&this.waker);
        stream_waker.task.register(context.waker());
        let (mut rounds, mut looks) = (0, 0);
        while rounds < MAX_ROUNDS {
            rounds += 1;
            stream_waker.begin_polling();
            if let Poll::Ready(ended) = this.connection.as_mut().poll(&mut inner) {
                return Poll::Ready(ended);
            }
            let is_answered = this.streams.poll_lone(&mut inner);
            // The stream can have left parts of an answer for the connection to write.
            if stream_waker.end_polling() || is_answered {
                continue;
            }
            let activity = &this.streams.inner.activity;
            let expected = activity.expects_until();
            let Some(until) = expected.filter(|_| looks < MAX_LOOKS) else {
                return Poll::Pending;
            };
            this.streams.attention.poll_until(until);
            // Polling for the rest of a request does not count: its time limit was set when the head came.
            let is_next = usize::from(!activity.is_lone());
            (rounds, looks) = (0, looks + is_next);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes the connection's task. While that task is polling, it only records that it was notified.
#[derive(Default)]
struct CoalescingWaker {
    task: AtomicWaker,
    /// One of the constants below.
    state: AtomicU8,
}

const ARMED: u8 = 0;
const POLLING: u8 = 1;
const NOTIFIED: u8 = 2;

impl CoalescingWaker {
    fn begin_polling(&self) {
        self.state.store(POLLING, Ordering::SeqCst);
    }

    /// Returns whether it was notified while the task was polling.
    fn end_polling(&self) -> bool {
        self.state.swap(ARMED, Ordering::SeqCst) == NOTIFIED
    }
}

impl Wake for CoalescingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let order = Ordering::SeqCst;
        let noted = self.state.compare_exchange(POLLING, NOTIFIED, order, order);
        if noted == Err(ARMED) {
            self.task.wake();
        }
    }
}

/// Drops the task's stream together with the connection: the stream can refer to the executor.
impl Drop for Streams {
    fn drop(&mut self) {
        let lone = self.inner.lone().take();
        drop(lone);
    }
}

impl Inner {
    fn lone(&self) -> MutexGuard<'_, Option<Lone>> {
        self.lone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // hyper passes a stream on right after its request was noted.
        let request = self.0.activity.take_latest();
        let stream: Stream = UntilStalled::new(Box::pin(stream), request);
        let mut lone = self.0.lone();
        if lone.is_some() || !self.0.activity.is_lone() {
            tokio::spawn(stream);
            return;
        }
        *lone = Some(Lone { stream, polls: 0 });
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::{FutureExt, stream};
    use http::Request;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::oneshot;

    use super::super::in_flight::{InFlight, UnderWayRequest};
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    /// A connection with this many requests in flight.
    fn connection(requests: usize) -> (Streams, Vec<UnderWayRequest>) {
        let activity = Activity::new(InFlight::default(), Duration::ZERO, NEVER);
        let requests = (0..requests).map(|_| activity.begin(&Request::new(())));
        let requests = requests.collect();
        (Streams::new(activity, BusyPoll::default()), requests)
    }

    /// Polls a connection that never ends, without a runtime: nothing can be spawned.
    fn poll(streams: &Streams) {
        let mut connection = pin!(pending::<()>());
        let mut drive = pin!(streams.drive(connection.as_mut()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(drive.as_mut().poll(&mut context).is_pending());
    }

    #[test]
    fn lone_stream_needs_no_task() {
        let (streams, _requests) = connection(1);
        let (question, asked) = oneshot::channel();
        let (sender, mut answer) = oneshot::channel();
        let stream = async move { sender.send(asked.await).unwrap() };
        streams.executor().execute(stream);
        poll(&streams);
        question.send(7).unwrap();
        poll(&streams);
        assert_eq!(answer.try_recv(), Ok(Ok(7)));
    }

    #[test]
    fn connection_is_polled_again_after_an_answer() {
        let (streams, _requests) = connection(1);
        streams.executor().execute(async {});
        let mut polls = 0;
        let mut connection = pin!(poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        }));
        let mut context = Context::from_waker(Waker::noop());
        let mut drive = Box::pin(streams.drive(connection.as_mut()));
        assert!(drive.as_mut().poll(&mut context).is_pending());
        drop(drive);
        assert_eq!(polls, 2);
    }

    /// Counts its wake-ups.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn task_is_woken_from_outside_alone() {
        let (streams, _requests) = connection(1);
        let woken = Arc::new(Counting::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut polls = 0;
        let mut inner = None;
        let mut connection = pin!(poll_fn(|context| {
            polls += 1;
            inner = Some(context.waker().clone());
            // As h2 does when a stream has data to send.
            if polls < 3 {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let mut drive = Box::pin(streams.drive(connection.as_mut()));
        assert!(drive.as_mut().poll(&mut context).is_pending());
        drop(drive);
        assert_eq!((polls, woken.0.load(Ordering::SeqCst)), (3, 0));
        inner.unwrap().wake();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn connection_that_always_goes_on_gives_way() {
        let (streams, _requests) = connection(0);
        let woken = Arc::new(Counting::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut connection = pin!(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let mut drive = pin!(streams.drive(connection.as_mut()));
        let mut context = Context::from_waker(&waker);
        assert!(drive.as_mut().poll(&mut context).is_pending());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn next_request_of_a_prompt_client_is_looked_for() {
        for (busy_poll, is_busy, expected) in [
            (Duration::ZERO, false, 1),
            (Duration::from_secs(60), true, 1),
            (Duration::from_secs(60), false, 1 + MAX_LOOKS),
        ] {
            let everywhere = InFlight::default();
            let activity = Activity::new(everywhere.clone(), busy_poll, NEVER);
            for _ in 0..100 {
                drop(activity.begin(&Request::new(())));
            }
            let other = Activity::new(everywhere, busy_poll, NEVER);
            let _busy = is_busy.then(|| other.begin(&Request::new(())));
            let streams = Streams::new(activity, BusyPoll::default());
            let mut polls = 0;
            let mut connection = pin!(poll_fn(|_| {
                polls += 1;
                Poll::<()>::Pending
            }));
            let mut drive = Box::pin(streams.drive(connection.as_mut()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(drive.as_mut().poll(&mut context).is_pending());
            drop(drive);
            assert_eq!(polls, expected, "{busy_poll:?} {is_busy}");
        }
    }

    #[test]
    fn rest_of_a_prompt_clients_request_is_looked_for() {
        const COMES_AT: usize = 10 * MAX_LOOKS;
        let activity = Activity::new(InFlight::default(), Duration::from_secs(60), NEVER);
        for _ in 0..100 {
            drop(activity.begin(&Request::new(())));
        }
        let request = activity.begin(&Request::new(()));
        let mut body = request.body(StreamBody::new(
            stream::pending::<Result<Frame<&[u8]>, ()>>(),
        ));
        assert!(body.frame().now_or_never().is_none());
        let mut coming = Some((request, body));
        let streams = Streams::new(activity, BusyPoll::default());
        let mut polls = 0;
        let mut connection = pin!(poll_fn(|_| {
            polls += 1;
            drop(coming.take_if(|_| polls == COMES_AT));
            Poll::<()>::Pending
        }));
        let mut drive = Box::pin(streams.drive(connection.as_mut()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(drive.as_mut().poll(&mut context).is_pending());
        drop(drive);
        assert_eq!(polls, COMES_AT + MAX_LOOKS);
    }

    #[test]
    fn panic_ends_the_stream_alone() {
        let (streams, _requests) = connection(1);
        for _ in 0..2 {
            streams.executor().execute(async { panic!("a stream's") });
            poll(&streams);
        }
    }

    #[tokio::test]
    async fn stream_that_waits_for_long_becomes_a_task() {
        let (streams, _requests) = connection(1);
        let (question, asked) = oneshot::channel();
        let (sender, answer) = oneshot::channel();
        let stream = async move { sender.send(asked.await).unwrap() };
        streams.executor().execute(stream);
        for _ in 0..MAX_POLLS {
            poll(&streams);
        }
        question.send(7).unwrap();
        assert_eq!(answer.await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn streams_beside_others_are_tasks_at_once() {
        let (streams, _requests) = connection(2);
        let (sender, answer) = oneshot::channel();
        let stream = async move { sender.send(7).unwrap() };
        streams.executor().execute(stream);
        assert_eq!(answer.await, Ok(7));
    }

    #[test]
    fn stream_ends_with_its_connection() {
        let (streams, _requests) = connection(1);
        let executor = streams.executor();
        let (sender, mut answer) = oneshot::channel::<()>();
        let held = executor.clone();
        executor.execute(async move {
            pending::<()>().await;
            drop((sender, held));
        });
        poll(&streams);
        drop(streams);
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
