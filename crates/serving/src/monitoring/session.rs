//! The metrics of TensorFlow's session and of its SavedModel loader that dashboards for TensorFlow
//! Serving query: `:tensorflow:core:…` and `:tensorflow:cc:saved_model:…`.
//!
//! TensorFlow does not run here, so each metric counts the equivalent: a *graph build* is a graph that the
//! backend made ready, a *session run* is a run of a graph. Names, labels and buckets are those of
//! `core/framework/metrics.cc`, `common_runtime/direct_session.cc` and `cc/saved_model/loader.cc`.
//!
//! Not here: TensorFlow Serving's own metrics (`tensorflow`).

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use super::plain_family::{family, micros, not_a_model};
use base::metrics::family::{Collect, Family, Series};
use base::metrics::instrument::{Buckets, Counter, Histogram, Instrument};

/// Durations of runs in microseconds.
static RUN_TIMES: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1000.0, 2.0, 20));

/// One family per metric.
pub(super) struct SessionMetrics {
    direct_session_runs: Single<Counter>,
    graph_runs: Single<Counter>,
    graph_run_time: Single<Counter>,
    graph_run_times: Single<Histogram>,
    graph_build_calls: Single<Counter>,
    graph_build_time: Single<Counter>,
    load_attempt_count: Family<Counter, 2>,
    load_latency: Family<Counter, 1>,
}

impl SessionMetrics {
    pub(super) fn new() -> Self {
        Self {
            direct_session_runs: Single::new(
                "/tensorflow/core/direct_session_runs",
                Counter::default,
            ),
            graph_runs: Single::new("/tensorflow/core/graph_runs", Counter::default),
            graph_run_time: Single::new("/tensorflow/core/graph_run_time_usecs", Counter::default),
            graph_run_times: Single::new("/tensorflow/core/graph_run_time_usecs_histogram", || {
                Histogram::new(&RUN_TIMES)
            }),
            graph_build_calls: Single::new("/tensorflow/core/graph_build_calls", Counter::default),
            graph_build_time: Single::new(
                "/tensorflow/core/graph_build_time_usecs",
                Counter::default,
            ),
            load_attempt_count: family(
                "/tensorflow/cc/saved_model/load_attempt_count",
                &["model_path", "status"],
                Counter::default,
            ),
            load_latency: family(
                "/tensorflow/cc/saved_model/load_latency",
                &["model_path"],
                Counter::default,
            ),
        }
    }

    /// A run is about to start, whether it succeeds or fails.
    pub(super) fn record_run_start(&self) {
        self.direct_session_runs.get().add(1);
    }

    /// A run succeeded.
    pub(super) fn record_run(&self, elapsed: Duration) {
        let elapsed = micros(elapsed);
        self.graph_runs.get().add(1);
        self.graph_run_time.get().add(elapsed);
        self.graph_run_times.get().record(elapsed);
    }

    /// The backend made a graph ready.
    pub(super) fn record_build(&self, elapsed: Duration) {
        self.graph_build_calls.get().add(1);
        self.graph_build_time.get().add(micros(elapsed));
    }

    /// The files of a version were loaded, or could not be loaded.
    pub(super) fn record_load(&self, version_path: &str, succeeded: bool, elapsed: Duration) {
        let status = if succeeded { "success" } else { "fail" };
        self.load_attempt_count
            .update([version_path, status], not_a_model, |it| it.add(1));
        self.load_latency
            .update([version_path], not_a_model, |it| it.add(micros(elapsed)));
    }

    pub(super) fn families(&self) -> [&dyn Collect; 8] {
        [
            &self.direct_session_runs.family,
            &self.graph_runs.family,
            &self.graph_run_time.family,
            &self.graph_run_times.family,
            &self.graph_build_calls.family,
            &self.graph_build_time.family,
            &self.load_attempt_count,
            &self.load_latency,
        ]
    }
}

/// A family without labels. Its only series is on the page after its first use, and is then found
/// without a search, because every run updates several of them.
struct Single<M> {
    family: Family<M, 0>,
    series: OnceLock<Arc<Series<M, 0>>>,
}

impl<M: Instrument> Single<M> {
    fn new(name: &'static str, new_instrument: fn() -> M) -> Self {
        Self {
            family: family(name, &[], new_instrument),
            series: OnceLock::new(),
        }
    }

    fn get(&self) -> &M {
        let series = self
            .series
            .get_or_init(|| self.family.series([], not_a_model));
        &series.instrument
    }
}
