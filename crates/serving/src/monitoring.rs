//! The server's metrics, and the two pages that show them.
//!
//! One [`Metrics`] lives as long as the server. It feeds TensorFlow Serving's page, whose format is
//! prescribed to the byte ([`Metrics::tensorflow_page`]), and a page of our own for `/metrics`
//! ([`Metrics::page`]). The size of both is bounded, because labels that clients choose are bounded.
//!
//! Recording is lock-free once a combination of labels exists, and safe from any thread.
//!
//! Not here: serving the pages over HTTP (`api::tfs::rest`), spans and logs.

mod plain_family;
mod process;
mod server;
mod session;
mod tensorflow;

#[cfg(test)]
mod tests;

use base::vocabulary::{Api, ManagerState, Port, Protocol};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::server::ServerMetrics;
use self::tensorflow::TensorflowMetrics;
use base::id::ServableId;
use base::metrics::instrument::{Counter, GaugeGuard};
use base::metrics::text;

pub use self::process::resident_memory_bytes;

/// The `Content-Type` of [`Metrics::tensorflow_page`], as TensorFlow Serving sends it.
pub const TENSORFLOW_PAGE_CONTENT_TYPE: &str = "text/plain";

/// The `Content-Type` of [`Metrics::page`].
pub const PAGE_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one server.
pub struct Metrics {
    tensorflow: TensorflowMetrics,
    server: ServerMetrics,
    started: SystemTime,
}

impl Metrics {
    /// Metrics of a server that starts now.
    pub fn new() -> Self {
        Self {
            tensorflow: TensorflowMetrics::new(),
            server: ServerMetrics::new(),
            started: SystemTime::now(),
        }
    }

    /// Counts an answered request and, if it is one whose latency is measured, its latency.
    ///
    /// Call it once for every gRPC call of the inference and model services and for every REST request
    /// below `/v1/`, when the response is ready and, if there is a servable, while its handle is held.
    /// `status` is the canonical code's name. Requests that TensorFlow Serving does not count are left
    /// out of its page here.
    pub fn record_request(
        &self,
        request: &RequestLabels<'_>,
        status: &'static str,
        elapsed: Duration,
    ) {
        let RequestLabels {
            model,
            protocol,
            api,
            ..
        } = *request;
        let is_known = |name: &str| self.server.has_model(name);
        self.tensorflow
            .record_request(model, protocol, api, status, elapsed, is_known);
        self.server.record_request(request, status, elapsed);
    }

    /// Counts a request as in flight until the returned guard is dropped.
    #[must_use = "the request is in flight as long as this is held"]
    pub fn start_request(
        &self,
        servable: &ServableId,
        signature: &str,
        protocol: Protocol,
    ) -> GaugeGuard {
        self.server.start_request(servable, signature, protocol)
    }

    /// Records how long decoding a request or encoding its response took.
    pub fn record_codec(
        &self,
        servable: &ServableId,
        signature: &str,
        protocol: Protocol,
        direction: Direction,
        elapsed: Duration,
    ) {
        self.server
            .record_codec(servable, signature, protocol, direction, elapsed);
    }

    /// Records the duration of a request's successful run as its caller saw it, including the time in
    /// queues (TensorFlow Serving's `runtime_latency`).
    pub fn record_runtime_latency(&self, model: &str, api: Api, elapsed: Duration) {
        let is_known = |name: &str| self.server.has_model(name);
        self.tensorflow
            .record_runtime_latency(model, api, elapsed, is_known);
    }

    /// Counts a run of a graph that is about to start, whether it succeeds or fails.
    pub fn record_run_start(&self) {
        self.tensorflow.session().record_run_start();
    }

    /// Records the duration of one successful run of the graph alone.
    pub fn record_run(&self, servable: &ServableId, signature: &str, elapsed: Duration) {
        self.tensorflow.session().record_run(elapsed);
        self.server.record_run(servable, signature, elapsed);
    }

    /// Records how long the backend took to build a graph.
    pub fn record_build(&self, elapsed: Duration) {
        self.tensorflow.session().record_build(elapsed);
    }

    /// Records an attempt to load a version's files, without its warmup (TensorFlow's
    /// `LoadSavedModel`).
    pub fn record_files_load(&self, version_path: &str, succeeded: bool, elapsed: Duration) {
        self.tensorflow
            .session()
            .record_load(version_path, succeeded, elapsed);
    }

    /// Counts a request as waiting for its run until the returned guard is dropped.
    #[must_use = "the request waits as long as this is held"]
    pub fn enqueue(&self, servable: &ServableId, signature: &str) -> GaugeGuard {
        self.server.enqueue(servable, signature)
    }

    /// Records how long a request waited for its run to begin, batched or not.
    pub fn record_queue(&self, servable: &ServableId, signature: &str, waited: Duration) {
        self.server.record_queue(servable, signature, waited);
    }

    /// Records how long a task of a batch waited for the batch to start. Only for batching, and in
    /// addition to [`record_queue`](Self::record_queue).
    pub fn record_queuing_latency(&self, waited: Duration) {
        self.tensorflow.record_queuing_latency(waited);
    }

    /// Counts the rows of one input tensor of a request that enters a batch queue.
    pub fn record_input_batch_size(&self, rows: usize) {
        self.tensorflow.record_input_batch_size(rows);
    }

    /// Counts an executed batch: `rows` of requests, run as `rows + padding`.
    pub fn record_batch(
        &self,
        servable: &ServableId,
        signature: &str,
        rows: usize,
        padding: usize,
    ) {
        self.tensorflow.record_batch(rows, padding);
        self.server.record_batch(servable, signature, rows, padding);
    }

    /// Counts the examples of a MultiInference request.
    pub fn record_example_count(&self, model: &str, examples: usize) {
        let is_known = |name: &str| self.server.has_model(name);
        self.tensorflow
            .record_example_count(model, examples, is_known);
    }

    /// Counts an attempt to log a request.
    pub fn record_request_log(&self, model: &str, outcome: LogOutcome) {
        let is_known = |name: &str| self.server.has_model(name);
        let status = outcome.status();
        self.tensorflow.record_request_log(model, status, is_known);
        self.server.record_request_log(model, outcome);
    }

    /// The counter of connections that a port rejected. From then on the port is on the page.
    pub fn refused_connections(&self, port: Port) -> Arc<Counter> {
        self.server.refused_connections(port)
    }

    /// Shows the result of `dropped` as the number of dropped log lines. To be called once.
    pub fn count_dropped_log_lines(&self, dropped: fn() -> u64) {
        self.server.count_dropped_log_lines(dropped);
    }

    /// Counts a warmup whose file was read to its end or could not be read. `status` is `OK` or
    /// `CODE: message`.
    pub fn record_warmup(
        &self,
        version_path: &str,
        status: &str,
        elapsed: Duration,
        records_read: u64,
    ) {
        self.tensorflow
            .record_warmup(version_path, status, elapsed, records_read);
    }

    /// Counts an attempt to load a version. `status` is the canonical code's name.
    pub fn record_load(&self, servable: &ServableId, status: &'static str, elapsed: Duration) {
        self.server.record_load(servable, status, elapsed);
    }

    /// Records the state that a version has reached. Call it for every change of state, in order.
    ///
    /// A model is known while a version of it is before its end: its name is never counted as "(other)".
    /// At [`ManagerState::End`] the version leaves the page.
    pub fn set_model_state(&self, servable: &ServableId, state: ManagerState) {
        self.server.set_model_state(servable, state);
    }

    /// TensorFlow Serving's metrics, as `util/prometheus_exporter.cc` writes them.
    pub fn tensorflow_page(&self) -> String {
        self.tensorflow.page()
    }

    /// This server's own metrics, for Prometheus.
    pub fn page(&self) -> String {
        let mut metrics = self.server.snapshots();
        metrics.extend(process::snapshots(self.started));
        text::prometheus_page(&metrics)
    }

    /// The first point of the TensorFlow Serving metric with this internal name
    /// (`/tensorflow/serving/request_count`), in the order of label values; 0 for a histogram and
    /// for a metric that does not exist (`ReloadConfigRequest.metric_names`).
    pub fn first_value(&self, internal_name: &str) -> i64 {
        self.tensorflow.first_value(internal_name)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The labels of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLabels<'a> {
    /// The protocol it came in by.
    pub protocol: Protocol,
    /// The call it asked for.
    pub api: Api,
    /// The model's name as the client sent it; empty if the request could not be read that far.
    pub model: &'a str,
    /// The version that answers; `None` if the request did not reach one.
    pub version: Option<i64>,
    /// The signature that was used; `None` if there is none, or if the servable does not have it (so
    /// that clients cannot invent label values).
    pub signature: Option<&'a str>,
}

/// The direction of a conversion of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From bytes to tensors.
    Decode,
    /// From tensors to bytes.
    Encode,
}

/// The result of logging a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutcome {
    /// It was written to a file.
    Written,
    /// The buffer was full.
    Dropped,
    /// The file could not be written.
    Failed,
}

impl LogOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }

    /// The name of the canonical code, on TensorFlow Serving's page.
    fn status(self) -> &'static str {
        match self {
            Self::Written => "OK",
            Self::Dropped => "RESOURCE_EXHAUSTED",
            Self::Failed => "INTERNAL",
        }
    }
}
