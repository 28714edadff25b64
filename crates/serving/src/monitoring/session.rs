//! The metrics of TensorFlow's session and of its SavedModel loader that dashboards for TensorFlow
//! Serving query: `:tensorflow:core:…` and `:tensorflow:cc:saved_model:…`. One declaration for each.
//!
//! TensorFlow does not run here, so each metric counts the equivalent: a *graph build* is a graph that the
//! backend made ready, a *session run* is a run of a graph. Names, labels and buckets are those of
//! `core/framework/metrics.cc`, `common_runtime/direct_session.cc` and `cc/saved_model/loader.cc`.
//!
//! Not here: when they are recorded (`record`), TensorFlow Serving's own metrics (`tensorflow`).

use std::sync::LazyLock;

use base::families;
use base::metrics::instrument::{Buckets, Counter, Histogram};

/// Durations of runs in microseconds.
static RUN_TIMES: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1000.0, 2.0, 20));

families! {
    pub(super) struct SessionMetrics {
        direct_session_runs: Counter = "/tensorflow/core/direct_session_runs" [];
        graph_runs: Counter = "/tensorflow/core/graph_runs" [];
        graph_run_time: Counter = "/tensorflow/core/graph_run_time_usecs" [];
        graph_run_times: Histogram = "/tensorflow/core/graph_run_time_usecs_histogram"
            [] in RUN_TIMES;
        graph_build_calls: Counter = "/tensorflow/core/graph_build_calls" [];
        graph_build_time: Counter = "/tensorflow/core/graph_build_time_usecs" [];
        load_attempt_count: Counter = "/tensorflow/cc/saved_model/load_attempt_count"
            ["model_path", "status"];
        load_latency: Counter = "/tensorflow/cc/saved_model/load_latency" ["model_path"];
    }
}
