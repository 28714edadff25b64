use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use futures_util::{FutureExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::oneshot;

use super::super::in_flight::{InFlight, InFlightRequest};
use super::*;

const NEVER: Duration = Duration::from_secs(3600);

/// A connection with this many requests in flight.
fn connection(requests: usize) -> (Streams, Vec<InFlightRequest>) {
    let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::ZERO, NEVER);
    let requests = (0..requests).map(|_| in_flight.begin(&Request::new(())));
    let requests = requests.collect();
    (Streams::new(in_flight, BusyPoll::default()), requests)
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
        let in_flight = ConnectionInFlight::new(everywhere.clone(), busy_poll, NEVER);
        for _ in 0..100 {
            drop(in_flight.begin(&Request::new(())));
        }
        let other = ConnectionInFlight::new(everywhere, busy_poll, NEVER);
        let _busy = is_busy.then(|| other.begin(&Request::new(())));
        let streams = Streams::new(in_flight, BusyPoll::default());
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
    let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::from_secs(60), NEVER);
    for _ in 0..100 {
        drop(in_flight.begin(&Request::new(())));
    }
    let request = in_flight.begin(&Request::new(()));
    let mut body = request.body(StreamBody::new(
        stream::pending::<Result<Frame<&[u8]>, ()>>(),
    ));
    assert!(body.frame().now_or_never().is_none());
    let mut coming = Some((request, body));
    let streams = Streams::new(in_flight, BusyPoll::default());
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
