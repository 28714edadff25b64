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
mod tests;
