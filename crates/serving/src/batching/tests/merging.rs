//! Which requests run together, and the results they get.

use bytes::Bytes;

use super::super::fake::half_plus;
use super::*;

#[tokio::test]
async fn requests_that_fill_a_batch_run_at_once() {
    let it = Fixture::new(options());
    let first = it.send(floats(&[2], &[1.0, 2.0]));
    let second = it.send(floats(&[2], &[3.0, 4.0]));
    assert_eq!(answer(second).await, floats(&[2], &[3.5, 4.0]));
    assert_eq!(answer(first).await, floats(&[2], &[2.5, 3.0]));
    assert_eq!(it.gate.sizes(), [4]);
    let merged = floats(&[4], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(it.gate.runs()[0].feeds, [merged]);
}

#[tokio::test]
async fn single_request_runs_without_timeout() {
    let it = Fixture::new(at_once());
    let request = it.send(floats(&[1, 2], &[1.0, 2.0]));
    assert_eq!(answer(request).await, floats(&[1, 2], &[2.5, 3.0]));
}

/// `WrapSessionForBatching` of `bundle_factory_util_test.cc`.
#[tokio::test]
async fn ten_requests_fill_their_batches() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 2,
        ..options()
    });
    let requests: Vec<_> = (0..10)
        .map(|_| it.send(floats(&[2], &[1.0, 2.0])))
        .collect();
    for request in requests {
        assert_eq!(answer(request).await, floats(&[2], &[2.5, 3.0]));
    }
    assert_eq!(it.gate.sizes(), [2; 10]);
}

#[tokio::test]
async fn outputs_come_in_the_order_asked() {
    let it = Fixture::new(options());
    let x = || vec![floats(&[2], &[1.0, 2.0])];
    let there = it.send_all(x(), &[0, 1], None);
    let back = it.send_all(x(), &[1, 0], None);
    let (y, y3) = (floats(&[2], &[2.5, 3.0]), floats(&[2], &[3.5, 4.0]));
    assert_eq!(there.await.unwrap(), [y.clone(), y3.clone()]);
    assert_eq!(back.await.unwrap(), [y3, y]);
    assert_eq!(it.gate.sizes(), [4]);
}

#[tokio::test]
async fn other_outputs_have_a_queue_of_their_own() {
    let it = Fixture::new(at_once());
    let occupied = it.occupy();
    let x = || vec![floats(&[1], &[1.0])];
    let y = it.send_all(x(), &[0], None);
    let y3 = it.send_all(x(), &[1], None);
    it.gate.release();
    assert_eq!(y.await.unwrap(), [floats(&[1], &[2.5])]);
    assert_eq!(y3.await.unwrap(), [floats(&[1], &[3.5])]);
    answer(occupied).await;
    assert_eq!(it.gate.sizes(), [1, 1, 1]);
    assert_eq!(it.gate.runs()[2].fetches, [1]);
}

#[tokio::test]
async fn signatures_have_queues_of_their_own() {
    let one = Fixture::new(options());
    let other = one.beside(FakeGraph::half_plus_two(), &options());
    let requests = [&one, &other, &one, &other].map(|it| it.send(floats(&[2], &[1.0, 2.0])));
    for request in requests {
        assert_eq!(answer(request).await, floats(&[2], &[2.5, 3.0]));
    }
    assert_eq!((one.gate.sizes(), other.gate.sizes()), (vec![4], vec![4]));
}

/// `BatchingWithPadding`: padded with the first element, outputs not cut back.
#[tokio::test]
async fn inputs_are_padded_with_their_first_element() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 2,
        pad_variable_length_inputs: true,
        ..options()
    });
    let small = it.send(floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let large: Vec<f32> = (5..14u8).map(f32::from).collect();
    let large = it.send(floats(&[1, 3, 3], &large));
    let expected = [2.5, 3.0, 2.5, 3.5, 4.0, 2.5, 2.5, 2.5, 2.5];
    assert_eq!(answer(small).await, floats(&[1, 3, 3], &expected));
    let expected = [4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 8.5];
    assert_eq!(answer(large).await, floats(&[1, 3, 3], &expected));
}

/// Unlike in `UnequalTensorShapesWithPaddingTurnedOff`, where both fail: see `docs/batching.md`.
#[tokio::test]
async fn other_shapes_run_in_another_batch() {
    let it = Fixture::new(at_once());
    let occupied = it.occupy();
    let flat = it.send(floats(&[1, 2], &[1.0, 2.0]));
    let square = it.send(floats(&[1, 2, 1], &[1.0, 2.0]));
    let flat_again = it.send(floats(&[1, 2], &[3.0, 4.0]));
    it.gate.release();
    answer(occupied).await;
    assert_eq!(answer(square).await, floats(&[1, 2, 1], &[2.5, 3.0]));
    assert_eq!(answer(flat).await, floats(&[1, 2], &[2.5, 3.0]));
    assert_eq!(answer(flat_again).await, floats(&[1, 2], &[3.5, 4.0]));
    assert_eq!(it.gate.sizes(), [1, 2, 1]);
}

#[tokio::test]
async fn other_dtypes_and_ranks_are_not_padded() {
    let graph = FakeGraph::new(1, 1, |feeds, _| Ok(feeds[0].clone()));
    let it = Fixture::of(
        graph,
        BatchingOptions {
            pad_variable_length_inputs: true,
            ..at_once()
        },
    );
    let occupied = it.occupy();
    let tensors = [
        floats(&[1, 1], &[1.0]),
        floats(&[1, 1, 1], &[2.0]),
        Tensor::from_vec(&[1, 1], vec![3i32]).unwrap(),
        floats(&[1, 0], &[]),
        Tensor::from_strings(&[1, 1], vec![Bytes::from_static(b"s")]).unwrap(),
    ];
    let requests = tensors.clone().map(|tensor| it.send(tensor));
    it.gate.release();
    answer(occupied).await;
    for (request, tensor) in requests.into_iter().zip(tensors) {
        assert_eq!(answer(request).await, tensor);
    }
    assert_eq!(it.gate.sizes(), [1; 6]);
}

#[tokio::test]
async fn allowed_size_needs_no_padding() {
    let it = Fixture::new(BatchingOptions {
        allowed_batch_sizes: vec![2, 4],
        ..at_once()
    });
    answer(it.send(floats(&[2], &[1.0, 2.0]))).await;
    assert_eq!(it.gate.sizes(), [2]);
}

/// `AllowedBatchSizesRequirePadding`, metrics included.
#[tokio::test]
async fn batch_is_padded_to_an_allowed_size() {
    let it = Fixture::new(BatchingOptions {
        allowed_batch_sizes: vec![1, 3, 4],
        ..at_once()
    });
    let request = it.send(floats(&[2], &[1.0, 2.0]));
    assert_eq!(answer(request).await, floats(&[2], &[2.5, 3.0]));
    assert_eq!(it.gate.runs()[0].feeds, [floats(&[3], &[1.0, 2.0, 1.0])]);
    let session = ":tensorflow:serving:batching_session:";
    for (line, sum) in [
        ("input_batch_size_sum{} ", 2),
        ("processed_batch_size_sum{} ", 3),
        ("padding_size_sum{execution_batch_size=\"3\"} ", 1),
        ("wrapped_run_count{} ", 1),
    ] {
        assert_eq!(it.metric(&format!("{session}{line}")), sum, "{line}");
    }
    assert_eq!(it.metric(&format!("{session}queuing_latency_count")), 1);
}

#[tokio::test]
async fn large_request_is_split_and_answered_whole() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 3,
        enable_large_batch_splitting: true,
        max_execution_batch_size: Some(2),
        ..at_once()
    });
    let request = it.send(floats(&[3, 1], &[5.0, 6.0, 7.0]));
    assert_eq!(answer(request).await, floats(&[3, 1], &[4.5, 5.0, 5.5]));
    assert_eq!(it.gate.sizes(), [2, 1]);
}

#[tokio::test]
async fn first_part_fills_the_open_batch() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 6,
        enable_large_batch_splitting: true,
        max_execution_batch_size: Some(3),
        ..at_once()
    });
    let occupied = it.occupy();
    let small = it.send(floats(&[1], &[1.0]));
    let large = it.send(floats(&[6], &[2.0, 3.0, 4.0, 5.0, 6.0, 7.0]));
    it.gate.release();
    answer(occupied).await;
    assert_eq!(answer(small).await, floats(&[1], &[2.5]));
    let expected = [3.0, 3.5, 4.0, 4.5, 5.0, 5.5];
    assert_eq!(answer(large).await, floats(&[6], &expected));
    assert_eq!(it.gate.sizes(), [1, 3, 3, 1]);
}

/// `BatchingLazySplit`.
#[tokio::test]
async fn execution_size_bounds_batches() {
    let it = Fixture::new(BatchingOptions {
        max_batch_size: 2,
        enable_large_batch_splitting: true,
        max_execution_batch_size: Some(1),
        ..options()
    });
    let requests = [1.0, 2.0].map(|x| it.send(floats(&[1], &[x])));
    for (request, y) in requests.into_iter().zip([2.5, 3.0]) {
        assert_eq!(answer(request).await, floats(&[1], &[y]));
    }
    assert_eq!(it.gate.sizes(), [1, 1]);
}

#[tokio::test]
async fn several_inputs_are_merged_and_counted() {
    let graph = FakeGraph::new(2, 1, |feeds, _| Ok(half_plus(&feeds[1], 0)));
    let it = Fixture::of(graph, options());
    let feeds = |x: f32| vec![floats(&[2, 1], &[0.0, x]), floats(&[2], &[x, x])];
    let first = it.send_all(feeds(1.0), &[0], None);
    let second = it.send_all(feeds(2.0), &[0], None);
    assert_eq!(answer(first).await, floats(&[2], &[2.5, 2.5]));
    assert_eq!(answer(second).await, floats(&[2], &[3.0, 3.0]));
    let merged = [
        floats(&[4, 1], &[0.0, 1.0, 0.0, 2.0]),
        floats(&[4], &[1.0, 1.0, 2.0, 2.0]),
    ];
    assert_eq!(it.gate.runs()[0].feeds, merged);
    let metric = ":tensorflow:serving:batching_session:input_batch_size";
    assert_eq!(it.metric(&format!("{metric}_count{{}} ")), 4);
    assert_eq!(it.metric(&format!("{metric}_sum{{}} ")), 8);
}

/// TensorFlow Serving never answers such a request.
#[tokio::test]
async fn request_without_rows_runs_by_itself() {
    let it = Fixture::new(options());
    let request = it.send(floats(&[0, 2], &[]));
    assert_eq!(answer(request).await, floats(&[0, 2], &[]));
}

#[tokio::test]
async fn fixed_batch_dimension_is_not_batched() {
    let graph = FakeGraph::half_plus_two().declare_input(Some(vec![1, 2]));
    let it = Fixture::of(graph, options());
    let request = it.send(floats(&[1, 2], &[1.0, 2.0]));
    assert_eq!(answer(request).await, floats(&[1, 2], &[2.5, 3.0]));
    assert_eq!(
        it.metric(":tensorflow:serving:batching_session:wrapped_run_count{} "),
        0
    );

    let graph = FakeGraph::half_plus_two().declare_input(Some(vec![-1, 2]));
    let it = Fixture::of(graph, at_once());
    answer(it.send(floats(&[1, 2], &[1.0, 2.0]))).await;
    assert_eq!(
        it.metric(":tensorflow:serving:batching_session:wrapped_run_count{} "),
        1
    );
}
