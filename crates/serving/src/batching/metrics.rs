//! What batching counts and measures for one signature.
//!
//! Not here: the metrics themselves (`monitoring`).

use std::sync::Arc;
use std::time::Duration;

use crate::monitoring::Metrics;
use base::id::ServableId;
use base::metrics::instrument::GaugeGuard;

/// Where the batches of one signature of one servable are counted.
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

    /// A task waits until the answer is dropped.
    pub(super) fn enqueue(&self) -> GaugeGuard {
        self.metrics.enqueue(&self.servable, &self.signature)
    }

    /// A task's batch starts.
    pub(super) fn record_wait(&self, waited: Duration) {
        self.metrics.record_queuing_latency(waited);
        self.metrics
            .record_queue(&self.servable, &self.signature, waited);
    }

    /// A batch is about to run, with `padding` rows besides its own.
    pub(super) fn record_batch(&self, rows: usize, padding: usize) {
        self.metrics
            .record_batch(&self.servable, &self.signature, rows, padding);
    }

    /// The graph of a batch is about to run.
    pub(super) fn record_run_start(&self) {
        self.metrics.record_run_start();
    }

    /// A batch was run.
    pub(super) fn record_run(&self, elapsed: Duration) {
        self.metrics
            .record_run(&self.servable, &self.signature, elapsed);
    }
}
