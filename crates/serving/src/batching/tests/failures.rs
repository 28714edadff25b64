//! Requests that fail, and other requests that must not fail with them.

use super::super::fake::half_plus;
use super::*;
use base::error::ServingError;

/// Fails if one of its inputs is negative.
fn fails_below_zero() -> FakeGraph {
    FakeGraph::new(1, 1, |feeds, _| {
        let negative = |x: &&f32| **x < 0.0;
        match feeds[0].as_slice::<f32>().unwrap().iter().find(negative) {
            Some(x) => Err(ServingError::internal(format!("{x} is negative"))),
            None => Ok(half_plus(&feeds[0], 0)),
        }
    })
}

#[tokio::test]
async fn inputs_have_to_agree_about_their_rows() {
    let graph = FakeGraph::new(2, 1, |feeds, _| Ok(feeds[0].clone()));
    let it = Fixture::of(graph, at_once());
    let feeds = vec![floats(&[1, 2], &[1.0, 2.0]), floats(&[2, 1], &[1.0, 2.0])];
    check_failed(
        it.send_all(feeds, &[0], None).await,
        Code::InvalidArgument,
        "Batching Run() input tensors must have equal 0th-dimension size",
    );
    let feeds = vec![floats(&[2], &[1.0, 2.0]), floats(&[], &[1.0])];
    check_failed(
        it.send_all(feeds, &[0], None).await,
        Code::InvalidArgument,
        "Batching Run() input tensors must have at least one dimension",
    );
    let page = it.metrics.tensorflow_page();
    let moved = |line: &&str| line.contains("batching_session") && !line.starts_with('#');
    assert_eq!(page.lines().find(moved), None);
}

#[tokio::test]
async fn request_needs_an_input() {
    let it = Fixture::of(
        FakeGraph::new(0, 1, |_, _| Ok(floats(&[1], &[1.0]))),
        at_once(),
    );
    check_failed(
        it.send_all(Vec::new(), &[0], None).await,
        Code::InvalidArgument,
        "Batching Run() must have at least one input tensor",
    );
}

#[tokio::test]
async fn request_larger_than_the_maximum_is_refused() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 3,
        ..options()
    });
    let fits = it.send(floats(&[3], &[5.0, 6.0, 7.0]));
    check_failed(
        it.send(floats(&[4], &[5.0, 6.0, 7.0, 8.0])).await,
        Code::InvalidArgument,
        "Task size 4 is larger than maximum input batch size 3",
    );
    assert_eq!(answer(fits).await, floats(&[3], &[4.5, 5.0, 5.5]));
}

/// `PadTensorOfSpecificType` (`batching_util.cc`) refuses the rank whether it pads or not.
#[tokio::test]
async fn rank_7_is_refused_with_padding_on() {
    let padding = BatchingOptions {
        pad_variable_length_inputs: true,
        ..at_once()
    };
    let rank_7 = || floats(&[1; 7], &[1.0]);
    check_failed(
        Fixture::new(padding).send(rank_7()).await,
        Code::InvalidArgument,
        "Only tensors with rank from 1 to 6 can be padded.",
    );
    answer(Fixture::new(at_once()).send(rank_7())).await;
}

#[tokio::test]
async fn only_the_request_that_breaks_the_run_fails() {
    let it = Fixture::of(fails_below_zero(), options());
    let good = it.send(floats(&[1], &[1.0]));
    let bad = it.send(floats(&[1], &[-1.0]));
    let good_too = it.send(floats(&[2], &[2.0, 3.0]));
    assert_eq!(answer(good).await, floats(&[1], &[2.5]));
    check_failed(bad.await, Code::Internal, "-1 is negative");
    assert_eq!(answer(good_too).await, floats(&[2], &[3.0, 3.5]));
    assert_eq!(it.gate.sizes(), [4, 1, 1, 2]);
}

#[tokio::test]
async fn single_request_fails_after_one_run() {
    let it = Fixture::of(fails_below_zero(), at_once());
    let bad = it.send(floats(&[1], &[-1.0]));
    check_failed(bad.await, Code::Internal, "-1 is negative");
    assert_eq!(it.gate.sizes(), [1]);
}

#[tokio::test]
async fn part_that_fails_fails_the_whole_request() {
    let it = Fixture::of(
        fails_below_zero(),
        BatchingOptions {
            enable_large_batch_splitting: true,
            max_execution_batch_size: Some(2),
            ..at_once()
        },
    );
    let request = it.send(floats(&[4], &[1.0, 2.0, 3.0, -4.0]));
    check_failed(request.await, Code::Internal, "-4 is negative");
}

/// Two requests that together would need 16 GiB of padding.
#[tokio::test]
async fn shapes_that_differ_too_much_run_alone() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 2,
        pad_variable_length_inputs: true,
        ..options()
    });
    let zeros = vec![0.0; 1 << 16];
    let wide = it.send(floats(&[1, 1, 1 << 16], &zeros));
    let high = it.send(floats(&[1, 1 << 16, 1], &zeros));
    assert_eq!(answer(wide).await.shape(), [1, 1, 1 << 16]);
    assert_eq!(answer(high).await.shape(), [1, 1 << 16, 1]);
    assert_eq!(it.gate.sizes(), [1, 1]);
}

#[tokio::test]
async fn output_without_dimensions_is_refused() {
    let graph = FakeGraph::new(1, 1, |_, _| Ok(floats(&[], &[1.0])));
    check_failed(
        Fixture::of(graph, at_once())
            .send(floats(&[1], &[1.0]))
            .await,
        Code::FailedPrecondition,
        "Batched output tensor has 0 dimensions",
    );
}

#[tokio::test]
async fn output_of_other_rows_is_refused() {
    let graph = FakeGraph::new(1, 1, |_, _| Ok(floats(&[1], &[1.0])));
    let it = Fixture::of(graph, options());
    let requests = [2, 2].map(|rows| it.send(floats(&[rows], &vec![1.0; rows])));
    for request in requests {
        check_failed(
            request.await,
            Code::FailedPrecondition,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension \
             sizes of the input tensors",
        );
    }
    assert_eq!(it.gate.sizes(), [4]);
}

/// The panic must affect neither the requests of the same batch nor those that run after it.
#[tokio::test]
async fn only_the_request_that_panics_fails() {
    let graph = FakeGraph::new(1, 1, |feeds, _| {
        let x = feeds[0].as_slice::<f32>().unwrap();
        assert!(x.iter().all(|it| *it > 0.0), "a test's panic");
        Ok(half_plus(&feeds[0], 0))
    });
    let it = Fixture::of(graph, options());
    let panics = it.send(floats(&[1], &[-1.0]));
    let good = it.send(floats(&[3], &[1.0, 2.0, 3.0]));
    let text = "the run ended abnormally; see the server log";
    check_failed(panics.await, Code::Internal, text);
    assert_eq!(answer(good).await, floats(&[3], &[2.5, 3.0, 3.5]));
    // The thread is still alive.
    let next = it.send(floats(&[4], &[1.0, 2.0, 3.0, 4.0]));
    assert_eq!(answer(next).await, floats(&[4], &[2.5, 3.0, 3.5, 4.0]));
    assert_eq!(it.gate.sizes(), [4, 1, 3, 4]);
}

#[test]
fn threads_have_to_be_positive() {
    let options = BatchingOptions {
        num_batch_threads: 0,
        ..BatchingOptions::default()
    };
    let error = BatchScheduler::try_new(&options).err().unwrap();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "num_batch_threads must be positive; was 0"
    );
}

#[test]
fn thread_name_may_hold_anything() {
    let options = BatchingOptions {
        thread_pool_name: "a\0b, longer than any thread's name".to_owned(),
        ..options()
    };
    assert!(BatchScheduler::try_new(&options).is_ok());
}
