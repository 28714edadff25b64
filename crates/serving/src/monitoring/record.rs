//! The events that the metrics count, one method for each. An event goes to the metrics of both pages.
//!
//! Not here: the metrics and their texts (`server`, `tensorflow`, `session`).

use std::sync::Arc;
use std::time::Duration;

use super::Metrics;
use super::labels::{Direction, LogOutcome, RequestLabels, VersionLabel, tensorflow_api};
use base::id::ServableId;
use base::metrics::family::Family;
use base::metrics::instrument::{Counter, Gauge, GaugeGuard, Histogram};
use base::vocabulary::{Api, ManagerState, Protocol, ServerPort};

/// The value of the label `runtime`. Queries name it, so it stays although no TensorFlow runs.
const RUNTIME: &str = "TF1";

/// The value of `thread_pool_name`, which TensorFlow Serving never sets.
const THREAD_POOL_NAME: &str = "";

/// Requests.
impl Metrics {
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
        let model = request.model;
        if let Some(api) = request.tensorflow_api() {
            self.tensorflow
                .request_count
                .update([model, status], self.is_known(), |it| it.add(1));
            if status == "OK" {
                self.tensorflow.request_latency.update(
                    [model, api, request.entrypoint()],
                    self.is_known(),
                    |it| it.record(micros(elapsed)),
                );
            }
        }

        let version = request.version.map(VersionLabel::new).unwrap_or_default();
        let version = version.as_str();
        let signature = request.signature.unwrap_or_default();
        let (protocol, method) = (request.protocol.label(), request.api.label());
        let labels = [model, version, signature, protocol, method, status];
        self.server
            .requests
            .update(labels, self.is_known(), |it| it.add(1));
        if request.version.is_some() {
            let labels = [model, version, signature, protocol, method];
            self.time(&self.server.request_duration, labels, elapsed);
        }
    }

    /// Counts a request as in flight until the returned guard is dropped.
    #[must_use = "the request is in flight as long as this is held"]
    pub fn start_request(
        &self,
        servable: &ServableId,
        signature: &str,
        protocol: Protocol,
    ) -> GaugeGuard {
        let version = VersionLabel::new(servable.version);
        let labels = [
            &servable.name,
            version.as_str(),
            signature,
            protocol.label(),
        ];
        self.raise(&self.server.requests_in_flight, labels)
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
        let version = VersionLabel::new(servable.version);
        let labels = [
            &servable.name,
            version.as_str(),
            signature,
            protocol.label(),
            direction.label(),
        ];
        self.time(&self.server.codec_duration, labels, elapsed);
    }

    /// Counts the examples of a MultiInference request.
    pub fn record_example_count(&self, model: &str, examples: usize) {
        let examples = examples as u64;
        self.tensorflow
            .request_example_counts
            .update([model], self.is_known(), |it| it.record(examples));
        self.tensorflow
            .request_example_count_total
            .update([model], self.is_known(), |it| it.add(examples));
    }

    /// Counts an attempt to log a request.
    pub fn record_request_log(&self, model: &str, outcome: LogOutcome) {
        self.tensorflow.request_log_count.update(
            [model, outcome.status()],
            self.is_known(),
            |it| it.add(1),
        );
        self.server
            .request_log_records
            .update([model, outcome.label()], self.is_known(), |it| it.add(1));
    }

    /// The counter of connections that a port rejected. From then on the port is on the page.
    pub fn refused_connections(&self, port: ServerPort) -> Arc<Counter> {
        let connections_refused = &self.server.connections_refused;
        let series = connections_refused.series([port.label()], |_| true);
        Arc::clone(&series.instrument)
    }
}

/// Runs and batches.
impl Metrics {
    /// Counts a request as waiting for its run until the returned guard is dropped.
    #[must_use = "the request waits as long as this is held"]
    pub fn enqueue(&self, servable: &ServableId, signature: &str) -> GaugeGuard {
        let version = VersionLabel::new(servable.version);
        let labels = [&servable.name, version.as_str(), signature];
        self.raise(&self.server.queue_depth, labels)
    }

    /// Records how long a request waited for its run to begin, batched or not.
    pub fn record_queue(&self, servable: &ServableId, signature: &str, waited: Duration) {
        let version = VersionLabel::new(servable.version);
        let labels = [&servable.name, version.as_str(), signature];
        self.time(&self.server.queue_duration, labels, waited);
    }

    /// Counts a run of a graph that is about to start, whether it succeeds or fails.
    pub fn record_run_start(&self) {
        self.session.direct_session_runs.single().add(1);
    }

    /// Records the duration of one successful run of the graph alone.
    pub fn record_run(&self, servable: &ServableId, signature: &str, elapsed: Duration) {
        let run_micros = micros(elapsed);
        self.session.graph_runs.single().add(1);
        self.session.graph_run_time.single().add(run_micros);
        self.session.graph_run_times.single().record(run_micros);

        let version = VersionLabel::new(servable.version);
        let labels = [&servable.name, version.as_str(), signature];
        self.time(&self.server.run_duration, labels, elapsed);
    }

    /// Records the duration of a request's successful run as its caller saw it, including the time in
    /// queues (TensorFlow Serving's `runtime_latency`).
    pub fn record_runtime_latency(&self, model: &str, api: Api, elapsed: Duration) {
        if let Some(api) = tensorflow_api(api) {
            self.tensorflow
                .runtime_latency
                .update([model, api, RUNTIME], self.is_known(), |it| {
                    it.record(micros(elapsed))
                });
        }
    }

    /// Records how long a task of a batch waited for the batch to start. Only for batching, and in
    /// addition to [`record_queue`](Self::record_queue).
    pub fn record_queuing_latency(&self, waited: Duration) {
        self.tensorflow
            .queuing_latency
            .update([THREAD_POOL_NAME], not_a_model, |it| {
                it.record(micros(waited));
            });
    }

    /// Counts the rows of one input tensor of a request that enters a batch queue.
    pub fn record_input_batch_size(&self, rows: usize) {
        self.tensorflow
            .input_batch_size
            .single()
            .record(rows as u64);
    }

    /// Counts an executed batch: `rows` of requests, run as `rows + padding`.
    pub fn record_batch(
        &self,
        servable: &ServableId,
        signature: &str,
        rows: usize,
        padding: usize,
    ) {
        let processed = rows.saturating_add(padding);
        let (rows, padding) = (rows as u64, padding as u64);
        let tensorflow = &self.tensorflow;
        tensorflow.wrapped_run_count.single().add(1);
        tensorflow
            .processed_batch_size
            .single()
            .record(processed as u64);
        tensorflow
            .padding_size
            .update([&processed.to_string()], not_a_model, |it| {
                it.record(padding);
            });

        let version = VersionLabel::new(servable.version);
        let labels: [&str; 3] = [&servable.name, version.as_str(), signature];
        self.server
            .batch_size
            .update(labels, self.is_known(), |it| it.record(rows));
        self.server
            .batch_padding
            .update(labels, self.is_known(), |it| it.add(padding));
    }
}

/// Versions.
impl Metrics {
    /// Records how long the backend took to build a graph.
    pub fn record_build(&self, elapsed: Duration) {
        self.session.graph_build_calls.single().add(1);
        self.session.graph_build_time.single().add(micros(elapsed));
    }

    /// Records an attempt to load a version's files, without its warmup (TensorFlow's
    /// `LoadSavedModel`).
    pub fn record_files_load(&self, version_path: &str, succeeded: bool, elapsed: Duration) {
        let status = if succeeded { "success" } else { "fail" };
        self.session
            .load_attempt_count
            .update([version_path, status], not_a_model, |it| it.add(1));
        self.session
            .load_latency
            .update([version_path], not_a_model, |it| it.add(micros(elapsed)));
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
        let labels = [version_path, status];
        self.tensorflow
            .model_warmup_latency
            .update(labels, not_a_model, |it| it.record(micros(elapsed)));
        self.tensorflow
            .model_warmup_records_read
            .update(labels, not_a_model, |it| it.add(records_read));
    }

    /// Counts an attempt to load a version. `status` is the canonical code's name.
    pub fn record_load(&self, servable: &ServableId, status: &'static str, elapsed: Duration) {
        self.server
            .model_loads
            .update([&servable.name, status], self.is_known(), |it| it.add(1));
        if status == "OK" {
            let version = VersionLabel::new(servable.version);
            let nanos = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
            self.server.model_load_duration.update(
                [&servable.name, version.as_str()],
                self.is_known(),
                |it| it.set(nanos),
            );
        }
    }

    /// Records the state that a version has reached. Call it for every change of state, in order.
    ///
    /// A model is known while a version of it is before its end: its name is never counted as "(other)".
    /// At [`ManagerState::End`] the version leaves every metric of our own page, so that series do not
    /// accumulate over years of new versions.
    pub fn set_model_state(&self, servable: &ServableId, state: ManagerState) {
        let version = VersionLabel::new(servable.version);
        if state == ManagerState::End {
            let labels = [("model", &*servable.name), ("version", version.as_str())];
            self.own_page.forget(&labels);
            return;
        }
        for each in ManagerState::BEFORE_END {
            self.server.model_state.update(
                [&servable.name, version.as_str(), each.name()],
                |_| true,
                |it| it.set(i64::from(each == state)),
            );
        }
    }
}

impl Metrics {
    /// Whether a name is that of a model with a version before its end.
    fn is_known(&self) -> impl Fn(&str) -> bool + '_ {
        |name| self.server.model_state.has_first(name)
    }

    fn time<const N: usize>(
        &self,
        family: &Family<Histogram, N>,
        labels: [&str; N],
        elapsed: Duration,
    ) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        family.update(labels, self.is_known(), |it| it.record(nanos));
    }

    fn raise<const N: usize>(
        &self,
        family: &Family<Arc<Gauge>, N>,
        labels: [&str; N],
    ) -> GaugeGuard {
        let series = family.series(labels, self.is_known());
        GaugeGuard::raise(Arc::clone(&series.instrument))
    }
}

/// For families whose first label is not a model name.
fn not_a_model(_first_value: &str) -> bool {
    false
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
