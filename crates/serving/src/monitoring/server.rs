//! This server's own metrics, with names as Prometheus recommends: one declaration for each, in the
//! order of the page.
//!
//! `docs/metrics.md` describes each metric; a test keeps the two lists the same. The series of a version,
//! those with the labels `model` and `version`, live as long as the version.
//!
//! Not here: when they are recorded (`record`), TensorFlow Serving's metrics (`tensorflow`), the
//! process's (`process`).

use std::sync::{Arc, LazyLock};

use base::families;
use base::metrics::instrument::{Buckets, Counter, Gauge, Histogram};

/// 50 µs to 30 s, in nanoseconds.
static DURATIONS: LazyLock<Buckets> = LazyLock::new(|| {
    Buckets::up_to(&[
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
    ])
});
static BATCH_SIZES: LazyLock<Buckets> = LazyLock::new(|| {
    Buckets::up_to(&[
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
    ])
});

families! {
    pub(super) struct ServerMetrics {
        /// Requests answered, by canonical status code.
        requests: Counter = "onnx_model_server_requests_total"
            ["model", "version", "signature", "protocol", "method", "code"];

        /// Time to answer a request that got to a version of a model.
        request_duration: Histogram = "onnx_model_server_request_duration_seconds"
            ["model", "version", "signature", "protocol", "method"] in DURATIONS;

        /// Requests being answered now.
        requests_in_flight: Arc<Gauge> = "onnx_model_server_requests_in_flight"
            ["model", "version", "signature", "protocol"];

        /// Time that a request waited for its run to begin.
        queue_duration: Histogram = "onnx_model_server_queue_duration_seconds"
            ["model", "version", "signature"] in DURATIONS;

        /// Requests waiting for their run to begin.
        queue_depth: Arc<Gauge> = "onnx_model_server_queue_depth"
            ["model", "version", "signature"];

        /// Time of one run of the graph, which can serve a batch of requests.
        run_duration: Histogram = "onnx_model_server_run_duration_seconds"
            ["model", "version", "signature"] in DURATIONS;

        /// Time to decode a request or to encode its answer.
        codec_duration: Histogram = "onnx_model_server_codec_duration_seconds"
            ["model", "version", "signature", "protocol", "direction"] in DURATIONS;

        /// Rows of requests in one batch, without padding.
        batch_size: Histogram = "onnx_model_server_batch_size"
            ["model", "version", "signature"] in BATCH_SIZES;

        /// Rows added to reach an allowed batch size.
        batch_padding: Counter = "onnx_model_server_batch_padding_rows_total"
            ["model", "version", "signature"];

        /// 1 for the state that a version is in, 0 for the others.
        model_state: Gauge = "onnx_model_server_model_state" ["model", "version", "state"];

        /// Time that a loaded version took to load.
        model_load_duration: Gauge = "onnx_model_server_model_load_duration_seconds"
            ["model", "version"];

        /// Attempts to load a version, by canonical status code.
        model_loads: Counter = "onnx_model_server_model_loads_total" ["model", "code"];

        /// Sampled requests of the request log, by result.
        request_log_records: Counter = "onnx_model_server_request_log_records_total"
            ["model", "outcome"];

        /// Connections rejected because the port was at --max_connections.
        connections_refused: Arc<Counter> = "onnx_model_server_connections_refused_total" ["port"];
    }
}
