//! TensorFlow Serving's own metrics, with its names, labels and buckets: one declaration for each.
//!
//! Dashboards and alerts depend on these, so nothing here can be changed freely. Sources:
//! `servables/tensorflow/util.cc`, `saved_model_warmup_util.cc`, `core/request_logger.cc`,
//! `batching/batching_session.cc` and `batching_util.h`. Its page has no help texts.
//!
//! Not here: when they are recorded (`record`), our own metrics (`server`), those of TensorFlow below the
//! server (`session`).

use std::sync::LazyLock;

use base::families;
use base::metrics::instrument::{Buckets, Counter, Gauge, Histogram};

/// Durations of requests, runs and warmups in microseconds.
static LATENCY: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(10.0, 1.8, 33));
static EXAMPLE_COUNTS: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1.0, 2.0, 15));
/// Durations in a batch queue in microseconds.
static QUEUING_LATENCY: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(100.0, 1.2, 52));
static BATCH_SIZES: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1.0, 2.0, 14));

families! {
    pub(super) struct TensorflowMetrics {
        request_count: Counter = "/tensorflow/serving/request_count" ["model_name", "status"];
        request_latency: Histogram = "/tensorflow/serving/request_latency"
            ["model_name", "API", "entrypoint"] in LATENCY;
        runtime_latency: Histogram = "/tensorflow/serving/runtime_latency"
            ["model_name", "API", "runtime"] in LATENCY;
        request_example_counts: Histogram = "/tensorflow/serving/request_example_counts"
            ["model"] in EXAMPLE_COUNTS;
        request_example_count_total: Counter = "/tensorflow/serving/request_example_count_total"
            ["model"];
        request_log_count: Counter = "/tensorflow/serving/request_log_count"
            ["model_name", "status_code"];

        model_warmup_latency: Histogram = "/tensorflow/serving/model_warmup_latency"
            ["model_path", "status"] in LATENCY;
        model_warmup_records_read: Counter = "/tensorflow/serving/model_warmup_records_read"
            ["model_path", "status"];

        queuing_latency: Histogram = "/tensorflow/serving/batching_session/queuing_latency"
            ["thread_pool_name"] in QUEUING_LATENCY;
        wrapped_run_count: Counter = "/tensorflow/serving/batching_session/wrapped_run_count" [];
        padding_size: Histogram = "/tensorflow/serving/batching_session/padding_size"
            ["execution_batch_size"] in BATCH_SIZES;
        input_batch_size: Histogram = "/tensorflow/serving/batching_session/input_batch_size"
            [] in BATCH_SIZES;
        processed_batch_size: Histogram =
            "/tensorflow/serving/batching_session/processed_batch_size" [] in BATCH_SIZES;
    }
}

families! {
    // TensorFlow counts batches of its `BatchFunction` operation with these, not those of the server: they
    // are on the page but have no series.
    pub(super) struct BatchFunctionMetrics {
        mixed_priority_batching_policy: Gauge =
            "/tensorflow/serving/batching/mixed_priority_batching_policy" ["model_name", "op_name"];
        padding_size: Histogram = "/tensorflow/serving/batching/padding_size_v2"
            ["model_name", "execution_batch_size", "op_name"] in BATCH_SIZES;
        processed_batch_size: Counter = "/tensorflow/serving/batching/processed_batch_size_v2"
            ["model_name", "batch_size", "op_name"];
    }
}
