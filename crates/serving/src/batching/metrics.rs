//! The metrics of batching for one signature.
//!
//! Not here: the metrics themselves (`monitoring`).

use std::sync::Arc;
use std::time::Duration;

use crate::monitoring::Metrics;
use base::id::ServableId;
use base::metrics::instrument::GaugeGuard;

/// Records the batches of one signature of one servable.
#[derive(Clone, Debug)]
pub struct BatchMetrics {
    metrics: Arc<Metrics>,
    servable: ServableId,
    signature: String,
}

impl BatchMetrics {
    /// Counts in `metrics`, under these names.
    pub fn new(metrics: Arc<Metrics>, servable: ServableId, signature: String) -> Self {
        Self {
            metrics,
            servable,
            signature,
        }
    }

    /// A request with this many input tensors of `rows` rows enters the queue.
    pub(super) fn record_request(&self, inputs: usize, rows: usize) {
        for _ in 0..inputs {
            self.metrics.record_input_batch_size(rows);
        }
    }

    /// Counts a task as waiting until the returned guard is dropped.
    pub(super) fn enqueue(&self) -> GaugeGuard {
        self.metrics.enqueue(&self.servable, &self.signature)
    }

    /// A task's batch starts after the task has waited this long.
    pub(super) fn record_wait(&self, waited: Duration) {
        self.metrics.record_queuing_latency(waited);
        self.metrics
            .record_queue(&self.servable, &self.signature, waited);
    }

    /// A batch of `rows` rows plus `padding` rows is about to run.
    pub(super) fn record_batch(&self, rows: usize, padding: usize) {
        self.metrics
            .record_batch(&self.servable, &self.signature, rows, padding);
    }

    /// The graph of a batch is about to run.
    pub(super) fn record_run_start(&self) {
        self.metrics.record_run_start();
    }

    /// A batch has run.
    pub(super) fn record_run(&self, elapsed: Duration) {
        self.metrics
            .record_run(&self.servable, &self.signature, elapsed);
    }
}
