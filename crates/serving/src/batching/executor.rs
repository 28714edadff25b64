//! An executor that merges requests into batches.
//!
//! Not here: queues and threads (`scheduler`), merging and splitting (`batch`).

use std::sync::Arc;
use std::time::Instant;

use super::batch::BatchedGraph;
use super::batch_size_tuner::BatchSizeTuner;
use super::metrics::BatchMetrics;
use super::options::QueueLimits;
use super::rows;
use super::scheduler::{BatchScheduler, Request};
use base::error::{Result, ServingError};
use base::tensor::Tensor;
use runtime::placement::{GraphPlacement, Placements, RunShape};
use runtime::{Executed, Execution, Executor, Graph, RunTimes};

/// The largest rank that `pad_variable_length_inputs` accepts (`batching_util.cc`).
const MAX_PADDED_RANK: usize = 6;

/// Runs the requests for one signature in batches (`BatchingSession`).
///
/// The requests of one batch have the same fetches, dtypes and, unless they can be padded,
/// dimensions except the first. A request without rows runs by itself.
pub struct BatchingExecutor {
    inner: Arc<dyn Executor>,
    graph: Arc<BatchedGraph>,
    scheduler: Arc<BatchScheduler>,
    /// The number of inputs of a request.
    request_inputs: usize,
}

impl BatchingExecutor {
    /// Batches the requests to `inner`: dimension 0 of every tensor fed to its graph is the batch.
    /// A request has `request_inputs` inputs, which are counted.
    ///
    /// A graph that declares a fixed number for dimension 0 of an input cannot run batches: then
    /// `inner` is returned unchanged.
    pub fn wrap(
        inner: Arc<dyn Executor>,
        request_inputs: usize,
        limits: QueueLimits,
        scheduler: Arc<BatchScheduler>,
        metrics: BatchMetrics,
        placements: Arc<Placements>,
    ) -> Arc<dyn Executor> {
        if has_fixed_batch(inner.graph().as_ref()) {
            return inner;
        }
        let graph = BatchedGraph {
            graph: Arc::clone(inner.graph()),
            limits,
            metrics,
            running: Arc::default(),
            placement: GraphPlacement::new(inner.graph().as_ref(), placements),
            enough: BatchSizeTuner::default(),
        };
        Arc::new(Self {
            inner,
            graph: Arc::new(graph),
            scheduler,
            request_inputs,
        })
    }

    /// The number of rows of a request.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the texts of `ComputeInputSize` (`batching_session.cc`).
    fn rows<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> Result<usize> {
        let mut rows = None;
        for shape in shapes {
            let Some(&feed_rows) = shape.first() else {
                return Err(ServingError::invalid_argument(
                    "Batching Run() input tensors must have at least one dimension",
                ));
            };
            if *rows.get_or_insert(feed_rows) != feed_rows {
                return Err(ServingError::invalid_argument(
                    "Batching Run() input tensors must have equal 0th-dimension size",
                ));
            }
        }
        rows.ok_or_else(|| {
            ServingError::invalid_argument("Batching Run() must have at least one input tensor")
        })
    }

    /// Padding supports few ranks. TensorFlow Serving refuses others even if nothing has to be padded.
    fn check_rank(&self, feeds: &[Tensor]) -> Result<()> {
        let mut ranks = feeds.iter().map(|feed| feed.shape().len());
        if self.graph.limits.pad && ranks.any(|rank| rank > MAX_PADDED_RANK) {
            return Err(ServingError::invalid_argument(
                "Only tensors with rank from 1 to 6 can be padded.",
            ));
        }
        Ok(())
    }
}

impl Executor for BatchingExecutor {
    fn graph(&self) -> &Arc<dyn Graph> {
        self.inner.graph()
    }

    fn check_inputs(&self, shapes: &mut dyn Iterator<Item = &[usize]>) -> Result<()> {
        Self::rows(shapes).map(drop)
    }

    fn execute(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Execution<'_> {
        Box::pin(async move {
            let rows = Self::rows(feeds.iter().map(Tensor::shape))?;
            if rows == 0 {
                return self.inner.execute(feeds, fetches, deadline).await;
            }
            self.check_rank(&feeds)?;
            let mut sorted = fetches.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let padded = self.graph.limits.padded_rows(rows);
            let shape = RunShape::of(&feeds).padded(rows, padded);
            let request = Request {
                feeds,
                rows,
                deadline,
            };
            let placement = &self.graph.placement;
            let decision = placement.decide_in_batches(shape, self.graph.is_busy());
            let (tickets, batch) =
                self.scheduler
                    .submit(&self.graph, &sorted, request, &decision)?;
            self.graph.metrics.record_request(self.request_inputs, rows);
            if let Some(batch) = batch {
                batch.execute_inline(decision.reason);
            }
            drop(decision);
            let mut parts = Vec::with_capacity(tickets.len());
            for ticket in tickets {
                parts.push(ticket.wait().await?);
            }
            let times = parts.iter().map(|part| part.times).reduce(RunTimes::and);
            let times = times.ok_or_else(|| ServingError::internal("a request without parts"))?;
            let outputs = join(parts.into_iter().map(|part| part.outputs).collect())?;
            let outputs = in_order(outputs, &sorted, &fetches)?;
            Ok(Executed { outputs, times })
        })
    }
}

/// Joins the outputs of a request's parts.
fn join(mut parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let outputs = parts.first().map_or(0, Vec::len);
    (0..outputs)
        .map(|index| {
            let tensors: Vec<&Tensor> = parts.iter().filter_map(|part| part.get(index)).collect();
            rows::concatenate(&tensors)
        })
        .collect()
}

/// Reorders `outputs`, which are those of `sorted`, as the caller asked for in `fetches`.
fn in_order(outputs: Vec<Tensor>, sorted: &[usize], fetches: &[usize]) -> Result<Vec<Tensor>> {
    if sorted == fetches {
        return Ok(outputs);
    }
    let output = |fetch| {
        let index = sorted.binary_search(fetch).ok()?;
        outputs.get(index).cloned()
    };
    fetches
        .iter()
        .map(output)
        .collect::<Option<_>>()
        .ok_or_else(|| ServingError::internal("Wrong number of batched output tensors"))
}

fn has_fixed_batch(graph: &dyn Graph) -> bool {
    graph.inputs().iter().any(|value| {
        let rows = value.shape.as_ref().and_then(|shape| shape.first());
        rows.is_some_and(|&rows| rows >= 0)
    })
}
