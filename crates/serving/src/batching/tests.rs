//! Batching as requests see it, with a fake graph. Expected behaviour is that of
//! `batching_session_test.cc` and `shared_batch_scheduler.h` unless another source is named.

mod failures;
mod merging;
mod queueing;
mod same_answers;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::fake::{FakeGraph, Gate};
use super::{BatchMetrics, BatchScheduler, BatchingExecutor, BatchingOptions, QueueLimits};
use crate::monitoring::Metrics;
use base::error::{Code, Result};
use base::id::ServableId;
use base::tensor::Tensor;
use runtime::placement::{Placement, Placements, Reason, Threads};
use runtime::{DirectExecutor, Executor, Graph};

/// A request that waits for its outputs.
type PendingOutputs<'a> = Pin<Box<dyn Future<Output = Result<Vec<Tensor>>> + Send + 'a>>;

/// Never reached in a test.
const LONG_MICROS: i64 = 3_600_000_000;

/// One graph behind a batching executor of its own.
struct Fixture {
    executor: Arc<dyn Executor>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    scheduler: Arc<BatchScheduler>,
    placements: Arc<Placements>,
}

impl Fixture {
    /// Batches of half_plus_two with one thread and these options.
    fn new(options: BatchingOptions) -> Self {
        Self::of(FakeGraph::half_plus_two(), options)
    }

    fn of(graph: FakeGraph, options: BatchingOptions) -> Self {
        let scheduler = Arc::new(BatchScheduler::try_new(&options).unwrap());
        Self::on(scheduler, graph, &options)
    }

    /// Another graph on the same scheduler.
    fn beside(&self, graph: FakeGraph, options: &BatchingOptions) -> Self {
        Self::on(Arc::clone(&self.scheduler), graph, options)
    }

    fn on(scheduler: Arc<BatchScheduler>, graph: FakeGraph, options: &BatchingOptions) -> Self {
        Self::placed(scheduler, graph, options, Placements::default())
    }

    fn placed(
        scheduler: Arc<BatchScheduler>,
        graph: FakeGraph,
        options: &BatchingOptions,
        placements: Placements,
    ) -> Self {
        let request_inputs = graph.inputs().len();
        let metrics = Arc::new(Metrics::new());
        let gate = graph.gate();
        let batch_metrics = BatchMetrics::new(
            Arc::clone(&metrics),
            ServableId::new("m", 1),
            "serving_default".to_owned(),
        );
        let placements = Arc::new(placements);
        let direct = DirectExecutor::new(Arc::new(graph), "a", Arc::clone(&placements));
        let executor = BatchingExecutor::wrap(
            Arc::new(direct),
            request_inputs,
            QueueLimits::try_new(options).unwrap(),
            Arc::clone(&scheduler),
            batch_metrics,
            Arc::clone(&placements),
        );
        Self {
            placements,
            executor,
            gate,
            metrics,
            scheduler,
        }
    }

    /// Sends a request for output 0 into the queue; await it for the answer.
    fn send(&self, feed: Tensor) -> PendingOutputs<'_> {
        self.send_all(vec![feed], &[0], None)
    }

    fn send_until(&self, feed: Tensor, deadline: Instant) -> PendingOutputs<'_> {
        self.send_all(vec![feed], &[0], Some(deadline))
    }

    fn send_all(
        &self,
        feeds: Vec<Tensor>,
        fetches: &[usize],
        deadline: Option<Instant>,
    ) -> PendingOutputs<'_> {
        let mut execution = self.executor.execute(feeds, fetches.to_vec(), deadline);
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut execution).poll(&mut context) {
            Poll::Pending => Box::pin(async { Ok(execution.await?.outputs) }),
            Poll::Ready(answer) => Box::pin(std::future::ready(answer.map(|it| it.outputs))),
        }
    }

    /// Keeps the batch thread busy with a run of one row for as long as the gate is held.
    fn occupy(&self) -> PendingOutputs<'_> {
        self.gate.hold();
        let before = self.gate.runs().len();
        let request = self.send(floats(&[1], &[0.0]));
        self.gate.wait_for_runs(before + 1);
        request
    }

    /// The number of runs at this place for this reason. All of them have one thread.
    fn placed_runs(&self, place: Placement, reason: Reason) -> i64 {
        let counts = self.placements.counts();
        assert_eq!(counts.count(place, Threads::Pool, reason), 0);
        counts.count(place, Threads::One, reason)
    }

    /// The sum of the values of the lines that start so on the TensorFlow Serving page.
    fn metric(&self, line_start: &str) -> u64 {
        let page = self.metrics.tensorflow_page();
        let values = page.lines().filter(|line| line.starts_with(line_start));
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }
}

/// One thread; batches of 4 that wait until they are full.
fn options() -> BatchingOptions {
    BatchingOptions {
        max_batch_size: 4,
        batch_timeout_micros: LONG_MICROS,
        num_batch_threads: 1,
        ..BatchingOptions::default()
    }
}

/// One thread; batches of 4 that wait only for the thread.
fn at_once() -> BatchingOptions {
    BatchingOptions {
        batch_timeout_micros: 0,
        ..options()
    }
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).unwrap()
}

async fn answer(request: PendingOutputs<'_>) -> Tensor {
    request.await.unwrap().remove(0)
}

#[track_caller]
fn check_failed(answer: Result<Vec<Tensor>>, code: Code, text: &str) {
    let error = answer.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}
