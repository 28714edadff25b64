//! TensorFlow Serving's own metrics, with its names, labels and buckets.
//!
//! Dashboards and alerts depend on these, so nothing here can be changed freely. Sources:
//! `servables/tensorflow/util.cc`, `saved_model_warmup_util.cc`, `core/request_logger.cc`,
//! `batching/batching_session.cc` and `batching_util.h`.
//!
//! Not here: our own metrics (`server`), those of TensorFlow below the server (`session`).

use std::sync::LazyLock;
use std::time::Duration;

use super::plain_family::{family, micros, not_a_model};
use super::session::SessionMetrics;
use base::metrics::family::{Collect, Family};
use base::metrics::instrument::{Buckets, Counter, Gauge, Histogram, Reading};
use base::metrics::text;
use base::vocabulary::{Api, Protocol};

/// Durations of requests, runs and warmups in microseconds.
static LATENCY: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(10.0, 1.8, 33));
static EXAMPLE_COUNTS: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1.0, 2.0, 15));
/// Durations in a batch queue in microseconds.
static QUEUING_LATENCY: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(100.0, 1.2, 52));
static BATCH_SIZES: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1.0, 2.0, 14));

/// The value of the label `runtime`. Queries name it, so it stays although no TensorFlow runs.
const RUNTIME: &str = "TF1";

/// The value of `thread_pool_name`, which TensorFlow Serving never sets.
const THREAD_POOL_NAME: &str = "";

/// One family per metric.
pub(super) struct TensorflowMetrics {
    request_count: Family<Counter, 2>,
    request_latency: Family<Histogram, 3>,
    runtime_latency: Family<Histogram, 3>,
    request_example_counts: Family<Histogram, 1>,
    request_example_count_total: Family<Counter, 1>,
    request_log_count: Family<Counter, 2>,
    /// In this family and the next two TensorFlow counts batches of its `BatchFunction` operation, not
    /// those of the server: they are on the page but have no series.
    mixed_priority_batching_policy: Family<Gauge, 2>,
    padding_size_v2: Family<Histogram, 3>,
    processed_batch_size_v2: Family<Counter, 3>,
    model_warmup_latency: Family<Histogram, 2>,
    model_warmup_records_read: Family<Counter, 2>,
    queuing_latency: Family<Histogram, 1>,
    wrapped_run_count: Family<Counter, 0>,
    padding_size: Family<Histogram, 1>,
    input_batch_size: Family<Histogram, 0>,
    processed_batch_size: Family<Histogram, 0>,
    session: SessionMetrics,
}

impl TensorflowMetrics {
    /// All families, without series. Long, because it lists each metric with its labels.
    pub(super) fn new() -> Self {
        Self {
            request_count: family(
                "/tensorflow/serving/request_count",
                &["model_name", "status"],
                Counter::default,
            ),
            request_latency: family(
                "/tensorflow/serving/request_latency",
                &["model_name", "API", "entrypoint"],
                || Histogram::new(&LATENCY),
            ),
            runtime_latency: family(
                "/tensorflow/serving/runtime_latency",
                &["model_name", "API", "runtime"],
                || Histogram::new(&LATENCY),
            ),
            request_example_counts: family(
                "/tensorflow/serving/request_example_counts",
                &["model"],
                || Histogram::new(&EXAMPLE_COUNTS),
            ),
            request_example_count_total: family(
                "/tensorflow/serving/request_example_count_total",
                &["model"],
                Counter::default,
            ),
            request_log_count: family(
                "/tensorflow/serving/request_log_count",
                &["model_name", "status_code"],
                Counter::default,
            ),
            mixed_priority_batching_policy: family(
                "/tensorflow/serving/batching/mixed_priority_batching_policy",
                &["model_name", "op_name"],
                Gauge::default,
            ),
            padding_size_v2: family(
                "/tensorflow/serving/batching/padding_size_v2",
                &["model_name", "execution_batch_size", "op_name"],
                || Histogram::new(&BATCH_SIZES),
            ),
            processed_batch_size_v2: family(
                "/tensorflow/serving/batching/processed_batch_size_v2",
                &["model_name", "batch_size", "op_name"],
                Counter::default,
            ),
            model_warmup_latency: family(
                "/tensorflow/serving/model_warmup_latency",
                &["model_path", "status"],
                || Histogram::new(&LATENCY),
            ),
            model_warmup_records_read: family(
                "/tensorflow/serving/model_warmup_records_read",
                &["model_path", "status"],
                Counter::default,
            ),
            queuing_latency: family(
                "/tensorflow/serving/batching_session/queuing_latency",
                &["thread_pool_name"],
                || Histogram::new(&QUEUING_LATENCY),
            ),
            wrapped_run_count: family(
                "/tensorflow/serving/batching_session/wrapped_run_count",
                &[],
                Counter::default,
            ),
            padding_size: family(
                "/tensorflow/serving/batching_session/padding_size",
                &["execution_batch_size"],
                || Histogram::new(&BATCH_SIZES),
            ),
            input_batch_size: family(
                "/tensorflow/serving/batching_session/input_batch_size",
                &[],
                || Histogram::new(&BATCH_SIZES),
            ),
            processed_batch_size: family(
                "/tensorflow/serving/batching_session/processed_batch_size",
                &[],
                || Histogram::new(&BATCH_SIZES),
            ),
            session: SessionMetrics::new(),
        }
    }

    pub(super) fn record_request(
        &self,
        model: &str,
        protocol: Protocol,
        api: Api,
        status: &'static str,
        elapsed: Duration,
        is_known: impl Fn(&str) -> bool,
    ) {
        let Some(api) = request_api(protocol, api) else {
            return;
        };
        self.request_count
            .update([model, status], &is_known, |count| count.add(1));
        if status == "OK" {
            let entrypoint = match protocol {
                Protocol::Grpc => "GRPC",
                Protocol::Rest => "REST",
            };
            self.request_latency
                .update([model, api, entrypoint], &is_known, |latency| {
                    latency.record(micros(elapsed));
                });
        }
    }

    pub(super) fn record_runtime_latency(
        &self,
        model: &str,
        api: Api,
        elapsed: Duration,
        is_known: impl Fn(&str) -> bool,
    ) {
        if let Some(api) = counted_api(api) {
            self.runtime_latency
                .update([model, api, RUNTIME], is_known, |latency| {
                    latency.record(micros(elapsed));
                });
        }
    }

    pub(super) fn record_example_count(
        &self,
        model: &str,
        examples: usize,
        is_known: impl Fn(&str) -> bool,
    ) {
        let examples = examples as u64;
        self.request_example_counts
            .update([model], &is_known, |counts| counts.record(examples));
        self.request_example_count_total
            .update([model], &is_known, |total| total.add(examples));
    }

    pub(super) fn record_request_log(
        &self,
        model: &str,
        status: &'static str,
        is_known: impl Fn(&str) -> bool,
    ) {
        self.request_log_count
            .update([model, status], is_known, |count| count.add(1));
    }

    pub(super) fn record_warmup(
        &self,
        version_path: &str,
        status: &str,
        elapsed: Duration,
        records: u64,
    ) {
        let labels = [version_path, status];
        self.model_warmup_latency
            .update(labels, not_a_model, |it| it.record(micros(elapsed)));
        self.model_warmup_records_read
            .update(labels, not_a_model, |it| it.add(records));
    }

    pub(super) fn record_queuing_latency(&self, waited: Duration) {
        self.queuing_latency
            .update([THREAD_POOL_NAME], not_a_model, |latency| {
                latency.record(micros(waited));
            });
    }

    pub(super) fn record_input_batch_size(&self, rows: usize) {
        self.input_batch_size
            .update([], not_a_model, |sizes| sizes.record(rows as u64));
    }

    /// `rows` of requests were run as `rows + padding`.
    pub(super) fn record_batch(&self, rows: usize, padding: usize) {
        let processed = rows.saturating_add(padding);
        self.wrapped_run_count
            .update([], not_a_model, |count| count.add(1));
        self.processed_batch_size
            .update([], not_a_model, |sizes| sizes.record(processed as u64));
        self.padding_size
            .update([&processed.to_string()], not_a_model, |sizes| {
                sizes.record(padding as u64);
            });
    }

    /// The metrics that TensorFlow itself would count.
    pub(super) fn session(&self) -> &SessionMetrics {
        &self.session
    }

    /// The page in `prometheus_exporter.cc`'s form.
    pub(super) fn page(&self) -> String {
        text::tensorflow_page(self.families().map(Collect::snapshot).collect())
    }

    /// The value of the metric's first point; 0 for a histogram and for a metric that does not exist.
    pub(super) fn first_value(&self, internal_name: &str) -> i64 {
        let metric = self.families().find(|it| it.about().name == internal_name);
        let first = metric.and_then(|it| it.snapshot().points.into_iter().next());
        match first.map(|point| point.reading) {
            Some(Reading::Number(value)) => value,
            _ => 0,
        }
    }

    fn families(&self) -> impl Iterator<Item = &dyn Collect> {
        let serving: [&dyn Collect; 16] = [
            &self.request_count,
            &self.request_latency,
            &self.runtime_latency,
            &self.request_example_counts,
            &self.request_example_count_total,
            &self.request_log_count,
            &self.mixed_priority_batching_policy,
            &self.padding_size_v2,
            &self.processed_batch_size_v2,
            &self.model_warmup_latency,
            &self.model_warmup_records_read,
            &self.queuing_latency,
            &self.wrapped_run_count,
            &self.padding_size,
            &self.input_batch_size,
            &self.processed_batch_size,
        ];
        serving.into_iter().chain(self.session.families())
    }
}

/// The label `API` of a request's metrics; `None` for a call that TensorFlow Serving does not count.
fn request_api(protocol: Protocol, api: Api) -> Option<&'static str> {
    match protocol {
        Protocol::Grpc => counted_api(api),
        Protocol::Rest => Some(match api {
            Api::Predict => "predict",
            Api::Classify => "classify",
            Api::Regress => "regress",
            Api::MultiInference | Api::Metadata | Api::Status | Api::Reload | Api::Other => "",
        }),
    }
}

fn counted_api(api: Api) -> Option<&'static str> {
    match api {
        Api::Predict => Some("Predict"),
        Api::Classify => Some("Classify"),
        Api::Regress => Some("Regress"),
        Api::MultiInference | Api::Metadata | Api::Status | Api::Reload | Api::Other => None,
    }
}
