//! Waiting: fairness between queues, full queues, deadlines and callers that leave.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::fake::half_plus;
use super::*;

#[tokio::test]
async fn open_batch_waits_for_its_timeout() {
    let it = Fixture::new(options());
    let other = it.beside(FakeGraph::half_plus_two(), &options());
    let _waits = it.send(floats(&[3], &[1.0, 2.0, 3.0]));
    answer(other.send(floats(&[4], &[0.0; 4]))).await;
    assert_eq!(it.gate.sizes(), [0; 0]);
}

#[tokio::test]
async fn open_batch_runs_after_its_timeout() {
    let it = Fixture::new(BatchingOptions {
        batch_timeout_micros: 1000,
        ..options()
    });
    answer(it.send(floats(&[3], &[1.0, 2.0, 3.0]))).await;
    assert_eq!(it.gate.sizes(), [3]);
}

#[tokio::test]
async fn task_that_does_not_fit_closes_the_open_batch() {
    let it = Fixture::new(options());
    let first = it.send(floats(&[3], &[1.0, 2.0, 3.0]));
    let _second = it.send(floats(&[2], &[4.0, 5.0]));
    answer(first).await;
    assert_eq!(it.gate.sizes(), [3]);
}

#[tokio::test]
async fn tasks_are_not_reordered() {
    let it = Fixture::new(at_once());
    let occupied = it.occupy();
    let requests = [3, 2, 1].map(|rows| it.send(floats(&[rows], &vec![1.0; rows])));
    it.gate.release();
    answer(occupied).await;
    for request in requests {
        answer(request).await;
    }
    // The row of the third would have fitted into the first batch.
    assert_eq!(it.gate.sizes(), [1, 3, 3]);
}

#[tokio::test]
async fn queues_take_turns() {
    let it = Fixture::new(at_once());
    let other = it.beside(FakeGraph::half_plus_two(), &at_once());
    let occupied = it.occupy();
    let mine: Vec<_> = (0..3).map(|_| it.send(floats(&[4], &[0.0; 4]))).collect();
    other.gate.hold();
    let theirs = other.send(floats(&[4], &[0.0; 4]));
    it.gate.release();
    answer(occupied).await;
    other.gate.wait_for_runs(1);
    assert!(it.gate.runs().len() <= 2, "one batch per visit");
    other.gate.release();
    answer(theirs).await;
    for request in mine {
        answer(request).await;
    }
}

#[tokio::test]
async fn full_queue_refuses_another_batch() {
    let it = Fixture::new(BatchingOptions {
        max_enqueued_batches: 2,
        ..at_once()
    });
    let occupied = it.occupy();
    let waiting = [4, 3].map(|rows| it.send(floats(&[rows], &vec![0.0; rows])));
    check_failed(
        it.send(floats(&[2], &[0.0; 2])).await,
        Code::Unavailable,
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches \
         enqueued and max_enqueued_batches is 2",
    );
    let fits = it.send(floats(&[1], &[0.0]));
    let other_outputs = it.send_all(vec![floats(&[1], &[0.0])], &[1], None);
    it.gate.release();
    for request in waiting.into_iter().chain([fits, other_outputs, occupied]) {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn full_queue_refuses_what_it_cannot_split() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 8,
        max_enqueued_batches: 2,
        enable_large_batch_splitting: true,
        max_execution_batch_size: Some(2),
        ..at_once()
    });
    let occupied = it.occupy();
    let waiting = it.send(floats(&[1], &[0.0]));
    check_failed(
        it.send(floats(&[4], &[0.0; 4])).await,
        Code::Unavailable,
        "The batch scheduling queue to which this task was submitted is full; task size is 4 but \
         scheduling capacity is only 3 (num_enqueued_batches=1, max_enqueued_batches=2, \
         open_batch_size=1, max_execution_batch_size=2)",
    );
    let fits = it.send(floats(&[3], &[0.0; 3]));
    it.gate.release();
    for request in [occupied, waiting, fits] {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn sets_of_outputs_are_bounded() {
    let graph = FakeGraph::new(1, 100, |feeds, _| Ok(feeds[0].clone()));
    let it = Fixture::of(graph, at_once());
    let occupied = it.occupy();
    let x = || vec![floats(&[1], &[1.0])];
    let waiting: Vec<_> = (0..64)
        .map(|output| it.send_all(x(), &[output], None))
        .collect();
    let refused = it.send_all(x(), &[64], None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    it.gate.release();
    answer(occupied).await;
    for request in waiting {
        answer(request).await;
    }
    answer(it.send_all(x(), &[64], None)).await;
}

#[tokio::test]
async fn request_expires_in_the_queue() {
    let it = Fixture::new(at_once());
    let occupied = it.occupy();
    let text = "Run() timeout exceeded while waiting in batching queue";
    let late = it.send_until(floats(&[1], &[1.0]), Instant::now());
    let timely = it.send(floats(&[1], &[2.0]));
    // This happens without the thread.
    check_failed(late.await, Code::ResourceExhausted, text);
    it.gate.release();
    answer(occupied).await;
    assert_eq!(answer(timely).await, floats(&[1], &[3.0]));
    assert_eq!(it.gate.sizes(), [1, 1]);

    let late = it.send_until(floats(&[1], &[1.0]), Instant::now());
    check_failed(late.await, Code::ResourceExhausted, text);
}

#[tokio::test]
async fn dropped_request_leaves_its_place() {
    let it = Fixture::new(BatchingOptions {
        max_enqueued_batches: 1,
        ..at_once()
    });
    let occupied = it.occupy();
    drop(it.send(floats(&[4], &[0.0; 4])));
    let stays = it.send(floats(&[3], &[0.0; 3]));
    drop(it.send(floats(&[1], &[0.0])));
    let joins = it.send(floats(&[1], &[1.0]));
    it.gate.release();
    for request in [occupied, stays, joins] {
        request.await.unwrap();
    }
    assert_eq!(it.gate.sizes(), [1, 4]);
}

#[tokio::test]
async fn run_stops_when_all_its_requests_are_dropped() {
    let it = Fixture::new(options());
    it.gate.hold();
    let first = it.send(floats(&[2], &[0.0; 2]));
    let second = it.send(floats(&[2], &[0.0; 2]));
    it.gate.wait_for_runs(1);
    drop(first);
    assert!(!it.gate.is_terminated());
    drop(second);
    it.gate.wait_for_stop();
}

#[tokio::test]
async fn run_lasts_until_the_latest_deadline() {
    let it = Fixture::new(options());
    it.gate.hold();
    let now = Instant::now();
    let early = it.send_until(floats(&[2], &[0.0; 2]), now + Duration::from_millis(1000));
    let late = it.send_until(floats(&[2], &[0.0; 2]), now + Duration::from_millis(1200));
    it.gate.wait_for_runs(1);
    let (early, late) = tokio::join!(early, late);
    assert!(now.elapsed() >= Duration::from_millis(1200));
    for answer in [early, late] {
        check_failed(
            answer,
            Code::DeadlineExceeded,
            "Timed out waiting for notification",
        );
    }
}

#[tokio::test]
async fn request_past_its_deadline_may_succeed_with_others() {
    let it = Fixture::new(options());
    it.gate.hold();
    let deadline = Instant::now() + Duration::from_millis(1000);
    let mut early = it.send_until(floats(&[2], &[1.0; 2]), deadline);
    let late = it.send(floats(&[2], &[0.0; 2]));
    it.gate.wait_for_runs(1);
    let after = tokio::time::timeout_at((deadline + Duration::from_millis(20)).into(), &mut early);
    assert!(after.await.is_err(), "still waits");
    it.gate.release();
    assert_eq!(answer(early).await, floats(&[2], &[2.5; 2]));
    answer(late).await;
}

#[tokio::test]
async fn adaptive_batching_answers_at_once_when_idle() {
    let it = Fixture::new(BatchingOptions {
        adaptive: true,
        num_batch_threads: 2,
        ..options()
    });
    let occupied = it.occupy();
    assert_eq!(it.gate.sizes(), [1]);
    // Another thread is idle but leaves these alone, because the model is busy.
    let waiting = [1.0, 2.0, 3.0].map(|x| it.send(floats(&[1], &[x])));
    it.gate.release();
    answer(occupied).await;
    for request in waiting {
        answer(request).await;
    }
    assert_eq!(it.gate.sizes(), [1, 3]);
    assert_eq!(it.placed_runs(Placement::Batch, Reason::SeveralRequests), 1);
    assert_eq!(it.placed_runs(Placement::Batch, Reason::OthersCanJoin), 1);
}

/// A lone request whose run is known to be short needs no other thread: it is answered by the thread that
/// sends it, like a request that is not batched.
#[tokio::test]
async fn lone_short_runs_happen_where_they_are_asked_for() {
    let here = std::thread::current().id();
    let runs_here = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs_here);
    let graph = FakeGraph::new(1, 1, move |feeds, output| {
        count.fetch_add(usize::from(std::thread::current().id() == here), Relaxed);
        Ok(half_plus(&feeds[0], output))
    });
    let it = Fixture::of(
        graph.work_follows_shapes(),
        BatchingOptions {
            allowed_batch_sizes: vec![2, 4],
            ..at_once()
        },
    );
    // It depends on the machine how soon the runs are known to be short.
    for _ in 0..10_000 {
        let request = it.send(floats(&[1], &[3.0]));
        assert_eq!(answer(request).await, floats(&[1], &[3.5]));
        if runs_here.load(Relaxed) > 0 {
            break;
        }
    }
    assert_eq!(runs_here.load(Relaxed), 1);
    let reasons = [Reason::Brief, Reason::ShortAndAlone].into_iter();
    let inline = reasons.map(|reason| it.placed_runs(Placement::Inline, reason));
    assert_eq!(inline.sum::<i64>(), 1);
    assert!(it.gate.sizes().iter().all(|&rows| rows == 2), "padded");
    // But not if it has to wait for others.
    let waits = it.beside(
        FakeGraph::half_plus_two().work_follows_shapes(),
        &BatchingOptions {
            batch_timeout_micros: 1000,
            ..options()
        },
    );
    for _ in 0..20 {
        let mut request = waits.send(floats(&[1], &[3.0]));
        let mut context = Context::from_waker(Waker::noop());
        assert!(request.as_mut().poll(&mut context).is_pending());
        answer(request).await;
    }
    let short = waits.placed_runs(Placement::Batch, Reason::Waits);
    assert!(short > 0, "none was known to be short");
}

#[tokio::test]
async fn without_learning_each_request_goes_through_the_queue() {
    let options = at_once();
    let scheduler = Arc::new(BatchScheduler::try_new(&options).unwrap());
    let graph = FakeGraph::half_plus_two().work_follows_shapes();
    let it = Fixture::placed(
        scheduler,
        graph,
        &options,
        Placements::new(false, Arc::default()),
    );
    for _ in 0..100 {
        answer(it.send(floats(&[1], &[3.0]))).await;
    }
    assert_eq!(it.placed_runs(Placement::Batch, Reason::LearningOff), 100);
}

#[tokio::test]
async fn a_graph_without_end_leaves_a_thread_to_others() {
    let options = at_once();
    let endless = Fixture::new(options.clone());
    let other = endless.beside(FakeGraph::half_plus_two(), &options);
    let another = endless.beside(FakeGraph::half_plus_two(), &options);
    let kept = endless.occupy();
    let waiting = endless.send(floats(&[1], &[1.0]));
    let also_kept = other.occupy();
    let answered = another.send(floats(&[1], &[2.0]));
    answer(answered).await;
    // The model whose run does not end did not get an additional thread.
    assert_eq!(endless.gate.runs().len(), 1);
    for fixture in [&endless, &other] {
        fixture.gate.release();
    }
    for request in [kept, waiting, also_kept] {
        answer(request).await;
    }
}
