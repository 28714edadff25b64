use std::convert::Infallible;
use std::task::Poll;

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, stream};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};

use super::answer_body::{AnswerData, LARGE_PIECE};
use super::*;

const SHORT: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_connection_without_requests_is_idle() {
    let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::ZERO, SHORT);
    let request = in_flight.begin(&Request::new(()));
    assert_eq!(in_flight.waits_for_client(0), None);
    // The connection is not overdue while the server works on a request.
    let overdue = in_flight.overdue(Some(SHORT));
    assert!(tokio::time::timeout(SHORT * 20, overdue).await.is_err());
    drop(request);
    assert!(in_flight.waits_for_client(0).is_some());
    let overdue = in_flight.overdue(None);
    assert!(tokio::time::timeout(SHORT * 20, overdue).await.is_err());
    assert_eq!(in_flight.overdue(Some(SHORT)).await, Overdue::Idle);
}

#[tokio::test]
async fn an_answer_counts_until_it_is_written() {
    let everywhere = InFlight::default();
    let in_flight = ConnectionInFlight::new(everywhere.clone(), Duration::ZERO, SHORT);
    let request = in_flight.begin(&Request::new(()));
    let answer = Response::new(Full::new(Bytes::from_static(b"answer")));
    let mut body = request.answered(answer).into_body();
    // While there is nothing to read, the connection does not wait for the client.
    assert_eq!(in_flight.waits_for_client(0), None);
    let frame = body.frame().await.unwrap().unwrap();
    let Ok(mut data) = frame.into_data() else {
        panic!("a frame without data");
    };
    drop(body);
    data.advance(1);
    assert_eq!((data.remaining(), everywhere.count()), (5, 1));
    assert_eq!(in_flight.overdue(Some(NEVER)).await, Overdue::Unread);
    drop(data);
    assert_eq!(everywhere.count(), 0);
    assert!(in_flight.waits_for_client(0).is_some());
}

fn http2_request() -> Request<()> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    request
}

/// Answers with one piece of this size, and hands the piece over.
async fn handed_over(
    request: InFlightRequest,
    bytes: usize,
) -> (AnswerBody<Full<Bytes>>, AnswerData<Bytes>) {
    let answer = Response::new(Full::new(Bytes::from(vec![0; bytes])));
    let mut body = request.answered(answer).into_body();
    let frame = body.frame().await.unwrap().unwrap();
    (body, frame.into_data().ok().unwrap())
}

#[tokio::test]
async fn one_answer_that_is_taken_does_not_keep_another() {
    let stall = SHORT * 40;
    let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::ZERO, stall);
    let (stalled, taken) = (
        in_flight.begin(&http2_request()),
        in_flight.begin(&http2_request()),
    );
    let working = in_flight.begin(&http2_request());
    let stream = in_flight.take_latest().unwrap();
    assert!(in_flight.take_latest().is_none());
    let (_body, mut trickling) = handed_over(stalled, 1 << 20).await;
    let (_other_body, mut steady) = handed_over(taken, 1 << 30).await;
    let overdue = in_flight.overdue(None);
    let client = async {
        loop {
            sleep(stall / 8).await;
            trickling.advance(1);
            steady.advance(MIN_PROGRESS);
        }
    };
    tokio::select! {
        why = overdue => assert_eq!(why, Overdue::Unread),
        () = client => {}
    }
    assert!(trickling.remaining() > 0 && steady.remaining() > 0);
    assert!(stream.unread().is_none());
    drop((working, steady));
}

#[tokio::test]
async fn the_end_of_a_large_answer_follows_what_is_written() {
    let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::ZERO, NEVER);
    let (mut body, data) = handed_over(in_flight.begin(&http2_request()), LARGE_PIECE).await;
    assert!(!body.is_end_stream());
    assert!(body.frame().now_or_never().is_none());
    drop(data);
    assert!(body.frame().now_or_never().unwrap().is_none());
    // Small answers and those on HTTP/1 do not wait.
    for (request, bytes) in [(http2_request(), 1), (Request::new(()), LARGE_PIECE)] {
        let (body, _data) = handed_over(in_flight.begin(&request), bytes).await;
        assert!(body.is_end_stream());
    }
}

#[test]
fn a_prompt_client_is_expected_to_go_on() {
    let everywhere = InFlight::default();
    let in_flight = ConnectionInFlight::new(everywhere.clone(), NEVER, NEVER);
    let begin = || in_flight.begin(&Request::new(()));
    for _ in 0..100 {
        let request = begin();
        assert_eq!(in_flight.expects_until(), None);
        drop(request);
    }
    let is_expected = || in_flight.expects_until().is_some();
    assert!(is_expected());
    let request = begin();
    assert!(!is_expected());
    // The first piece comes at the second poll, and more follows.
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
    let other = ConnectionInFlight::new(everywhere, NEVER, NEVER).begin(&Request::new(()));
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
