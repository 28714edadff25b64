//! Where the streams of an HTTP/2 connection are worked on.
//!
//! A small request is here as a whole when its stream begins, and a small model answers it at once:
//! then a task of its own, and waking the connection's for the answer, would cost about as much as the
//! rest. So a stream that is alone on its connection is polled where it was found. One that has to
//! wait, and one that has others beside it, becomes a task, which any worker may take.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Waker};

use hyper::rt::Executor;

use super::activity::Activity;

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct FirstPoll {
    pub(super) activity: Arc<Activity>,
}

impl<F> Executor<F> for FirstPoll
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        if !self.activity.is_lone() {
            tokio::spawn(stream);
            return;
        }
        let mut stream = Box::pin(stream);
        // A task polls it again, so that nobody is to be woken. A panic ends the stream, as it would
        // end the task.
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut context)));
        if polled.is_ok_and(|polled| polled.is_pending()) {
            tokio::spawn(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::sync::oneshot;

    use super::super::activity::{UnderWay, UnderWayRequest};
    use super::*;

    /// A connection with so many requests under way.
    fn connection(requests: usize) -> (FirstPoll, Vec<UnderWayRequest>) {
        let activity = Activity::new(UnderWay::default());
        let requests = (0..requests).map(|_| activity.begin(&Request::new(())));
        let requests = requests.collect();
        (FirstPoll { activity }, requests)
    }

    /// Outside of a runtime, where nothing can be spawned.
    #[test]
    fn lone_stream_that_is_ready_needs_no_task() {
        let (streams, _requests) = connection(1);
        let (sender, mut answer) = oneshot::channel();
        streams.execute(async move { sender.send(7).unwrap() });
        assert_eq!(answer.try_recv(), Ok(7));
        streams.execute(async { panic!("a stream's") });
    }

    #[tokio::test]
    async fn lone_stream_that_waits_becomes_a_task() {
        let (streams, _requests) = connection(1);
        let (sender, answer) = oneshot::channel();
        let (question, asked) = oneshot::channel();
        streams.execute(async move { sender.send(asked.await).unwrap() });
        question.send(7).unwrap();
        assert_eq!(answer.await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn streams_beside_others_are_tasks_at_once() {
        let (streams, _requests) = connection(2);
        let (sender, mut answer) = oneshot::channel();
        streams.execute(async move { sender.send(7).unwrap() });
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(answer.await, Ok(7));
    }
}
