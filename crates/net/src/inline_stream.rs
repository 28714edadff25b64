//! Decides which task polls the streams of an HTTP/2 connection.
//!
//! For a small request, spawning a task for its stream, waking it for the message and waking the
//! connection's task for the answer cost about as much as all other work. So the connection's own task
//! polls a stream if no other was open when it came, and if it is quick. A stream that takes longer, for
//! example for a large message, becomes a task of its own, which any worker can run. So does a stream that
//! comes while others are open.
//!
//! If a single client sends requests back to back, the task busy-polls for the next request, or for the
//! rest of the current one, before it sleeps (`busy_poll`).
//!
//! Not here: the waker of a stream and its connection (`coalescing_waker`), streams whose answer is not read
//! (`stalled`).

mod coalescing_waker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::rt::Executor;

use self::coalescing_waker::CoalescingWaker;
use super::busy_poll::BusyPoll;
use super::in_flight::ConnectionInFlight;
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
    executor: StreamExecutor,
    stream_waker: Arc<CoalescingWaker>,
    busy_poll: BusyPoll,
}

/// Runs the streams of one connection for hyper.
#[derive(Clone)]
pub(super) struct StreamExecutor {
    in_flight: Arc<ConnectionInFlight>,
    /// The stream that the connection's task polls. Held for an instant: only that task uses it.
    lone: Arc<Mutex<Option<Lone>>>,
}

type Stream = UntilStalled<Pin<Box<dyn Future<Output = ()> + Send>>>;

struct Lone {
    stream: Stream,
    polls: usize,
}

impl Streams {
    /// The streams of the connection with this in_flight and this socket.
    pub(super) fn new(in_flight: Arc<ConnectionInFlight>, busy_poll: BusyPoll) -> Self {
        Self {
            executor: StreamExecutor {
                in_flight,
                lone: Arc::default(),
            },
            stream_waker: Arc::default(),
            busy_poll,
        }
    }

    pub(super) fn executor(&self) -> StreamExecutor {
        self.executor.clone()
    }

    /// Drives the connection to its end, together with the stream that its task polls.
    pub(super) fn drive<'a, C: Future>(&'a self, connection: Pin<&'a mut C>) -> Driving<'a, C> {
        Driving {
            streams: self,
            waker: Waker::from(Arc::clone(&self.stream_waker)),
            connection,
        }
    }

    /// Polls the connection and the stream until both wait. `waker` wakes
    /// `stream_waker`.
    fn poll<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        waker: &Waker,
        context: &mut Context<'_>,
    ) -> Poll<C::Output> {
        let mut inner = Context::from_waker(waker);
        self.stream_waker.register(context.waker());
        let (mut rounds, mut looks) = (0, 0);
        while rounds < MAX_ROUNDS {
            rounds += 1;
            self.stream_waker.begin_polling();
            if let Poll::Ready(ended) = connection.as_mut().poll(&mut inner) {
                return Poll::Ready(ended);
            }
            let is_answered = self.poll_lone(&mut inner);
            // The stream can have left parts of an answer for the connection to write.
            if self.stream_waker.end_polling() || is_answered {
                continue;
            }
            let in_flight = &self.executor.in_flight;
            let expected = in_flight.expects_until();
            let Some(until) = expected.filter(|_| looks < MAX_LOOKS) else {
                return Poll::Pending;
            };
            self.busy_poll.poll_until(until);
            // Polling for the rest of a request does not count: its time limit was set when the head came.
            let is_next = usize::from(!in_flight.is_lone());
            (rounds, looks) = (0, looks + is_next);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns whether a stream ended.
    fn poll_lone(&self, context: &mut Context<'_>) -> bool {
        let Some(mut lone) = self.executor.lone().take() else {
            return false;
        };
        // A panic ends the stream, as it would end a task.
        let poll = AssertUnwindSafe(|| Pin::new(&mut lone.stream).poll(context));
        if let Ok(Poll::Ready(())) | Err(_) = catch_unwind(poll) {
            return true;
        }
        lone.polls += 1;
        if lone.polls < MAX_POLLS {
            *self.executor.lone() = Some(lone);
        } else {
            tokio::spawn(lone.stream);
        }
        false
    }
}

/// A connection and the stream that its task polls. A type with a name, because the compiler cannot tell that
/// an unnamed one can be sent to another thread.
pub(super) struct Driving<'a, C> {
    streams: &'a Streams,
    waker: Waker,
    connection: Pin<&'a mut C>,
}

impl<C: Future> Future for Driving<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        this.streams
            .poll(this.connection.as_mut(), &this.waker, context)
    }
}

/// Drops the task's stream together with the connection: the stream can refer to the executor.
impl Drop for Streams {
    fn drop(&mut self) {
        let lone = self.executor.lone().take();
        drop(lone);
    }
}

impl StreamExecutor {
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
        let request = self.in_flight.take_latest();
        let stream: Stream = UntilStalled::new(Box::pin(stream), request);
        let mut lone = self.lone();
        if lone.is_some() || !self.in_flight.is_lone() {
            tokio::spawn(stream);
            return;
        }
        *lone = Some(Lone { stream, polls: 0 });
    }
}

#[cfg(test)]
mod tests;
