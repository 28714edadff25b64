//! What the server counts and measures, and the two pages that show it.
//!
//! One [`Metrics`] lives as long as the server. It feeds TensorFlow Serving's page, whose every
//! byte rule is given ([`Metrics::tensorflow_page`]), and a page of our own for `/metrics`
//! ([`Metrics::page`]). Both hold only what they have to: labels that clients choose are bounded.
//!
//! Recording is lock-free once a combination of labels exists, and safe from any thread.
//!
//! Not here: serving the pages over HTTP (`api::tfs::rest`), spans and logs.

mod process;
mod server;
mod session;
mod tensorflow;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::server::ServerMetrics;
use self::tensorflow::TensorflowMetrics;
use base::id::ServableId;
use base::metrics::instrument::{Counter, GaugeGuard};
use base::metrics::text;

pub use self::process::resident_memory_bytes;

/// The `Content-Type` of [`Metrics::tensorflow_page`], as the original sends it.
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

    /// Counts an answered request and, where it belongs, its latency.
    ///
    /// For every gRPC call of the inference and model services and every REST request below
    /// `/v1/`, once, when the answer is ready; while the servable's handle is held, if there is
    /// one. `status` is the canonical code's name. What TensorFlow Serving does not count is left
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

    /// Counts a request as in flight until the answer is dropped.
    #[must_use = "the request is in flight as long as this is held"]
    pub fn start_request(
        &self,
        servable: &ServableId,
        signature: &str,
        protocol: Protocol,
    ) -> GaugeGuard {
        self.server.start_request(servable, signature, protocol)
    }

    /// Measures how long decoding a request or encoding its answer took.
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

    /// Measures a request's successful run as its caller saw it, waiting in queues included
    /// (TensorFlow Serving's `runtime_latency`).
    pub fn record_runtime_latency(&self, model: &str, api: Api, elapsed: Duration) {
        let is_known = |name: &str| self.server.has_model(name);
        self.tensorflow
            .record_runtime_latency(model, api, elapsed, is_known);
    }

    /// Counts a run of a graph that is asked for, before it is known what comes of it.
    pub fn record_run_start(&self) {
        self.tensorflow.session().record_run_start();
    }

    /// Measures one successful run of the graph alone.
    pub fn record_run(&self, servable: &ServableId, signature: &str, elapsed: Duration) {
        self.tensorflow.session().record_run(elapsed);
        self.server.record_run(servable, signature, elapsed);
    }

    /// Measures how long the backend took to make a graph ready.
    pub fn record_build(&self, elapsed: Duration) {
        self.tensorflow.session().record_build(elapsed);
    }

    /// Measures an attempt to load a version's files, without its warmup (TensorFlow's
    /// `LoadSavedModel`).
    pub fn record_files_load(&self, version_path: &str, succeeded: bool, elapsed: Duration) {
        self.tensorflow
            .session()
            .record_load(version_path, succeeded, elapsed);
    }

    /// Counts a request as waiting for its run until the answer is dropped.
    #[must_use = "the request waits as long as this is held"]
    pub fn enqueue(&self, servable: &ServableId, signature: &str) -> GaugeGuard {
        self.server.enqueue(servable, signature)
    }

    /// Measures how long a request waited for its run to begin, batched or not.
    pub fn record_queue(&self, servable: &ServableId, signature: &str, waited: Duration) {
        self.server.record_queue(servable, signature, waited);
    }

    /// Measures how long a task of a batch waited for the batch to start. Only for batching, and
    /// besides [`record_queue`](Self::record_queue).
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

    /// What counts the connections of a port that are closed at once. The port is on the page from
    /// then on.
    pub fn refused_connections(&self, port: Port) -> Arc<Counter> {
        self.server.refused_connections(port)
    }

    /// Shows what `dropped` returns as the number of the log's dropped lines. To be called once.
    pub fn count_dropped_log_lines(&self, dropped: fn() -> u64) {
        self.server.count_dropped_log_lines(dropped);
    }

    /// Counts a warmup whose file was read to its end or failed reading. `status` is `OK` or
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

    /// Notes the state that a version has reached. For every change of state, in order.
    ///
    /// A model with a version before its end is known: its name is never counted as "(other)".
    /// At [`ModelState::End`] the version leaves the page.
    pub fn set_model_state(&self, servable: &ServableId, state: ModelState) {
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

/// What a request was about.
#[derive(Clone, Copy, Debug)]
pub struct RequestLabels<'a> {
    /// How it came in.
    pub protocol: Protocol,
    /// What it asked for.
    pub api: Api,
    /// The model's name as the client sent it; empty if the request could not be read so far.
    pub model: &'a str,
    /// The version that answers; `None` if the request did not get to one.
    pub version: Option<i64>,
    /// The signature in effect; `None` if there is none, or the servable does not have it (so
    /// that clients cannot invent label values).
    pub signature: Option<&'a str>,
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// HTTP with JSON.
    Rest,
}

impl Protocol {
    /// `grpc` or `rest`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// A port of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// gRPC, over TCP or a UNIX socket.
    Grpc,
    /// REST.
    Rest,
    /// Health, metrics and model states.
    Admin,
}

impl Port {
    /// `grpc`, `rest` or `admin`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
            Self::Admin => "admin",
        }
    }
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `Predict`, `:predict`.
    Predict,
    /// `Classify`, `:classify`.
    Classify,
    /// `Regress`, `:regress`.
    Regress,
    /// `MultiInference`.
    MultiInference,
    /// `GetModelMetadata`, `/metadata`.
    Metadata,
    /// `GetModelStatus` and its REST form.
    Status,
    /// `HandleReloadConfigRequest`.
    Reload,
    /// A request that cannot be told: `OPTIONS`, a malformed path.
    Other,
}

impl Api {
    /// The name in labels, for example `multi_inference`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Classify => "classify",
            Self::Regress => "regress",
            Self::MultiInference => "multi_inference",
            Self::Metadata => "metadata",
            Self::Status => "status",
            Self::Reload => "reload",
            Self::Other => "other",
        }
    }
}

/// Which half of the wire format's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From bytes to tensors.
    Decode,
    /// From tensors to bytes.
    Encode,
}

/// What became of a request that was to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutcome {
    /// It stands in a file.
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

/// A version's state; `ModelVersionStatus.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// Known, not loading yet.
    Start,
    /// Loading.
    Loading,
    /// Answering requests.
    Available,
    /// On its way out.
    Unloading,
    /// Unloaded, or failed.
    End,
}

impl ModelState {
    const BEFORE_END: [Self; 4] = [Self::Start, Self::Loading, Self::Available, Self::Unloading];

    fn label(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Loading => "LOADING",
            Self::Available => "AVAILABLE",
            Self::Unloading => "UNLOADING",
            Self::End => "END",
        }
    }
}
