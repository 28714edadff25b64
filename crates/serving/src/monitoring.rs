//! The server's metrics, and the two pages that show them.
//!
//! One [`Metrics`] lives as long as the server. It feeds TensorFlow Serving's page, whose format is
//! prescribed to the byte ([`Metrics::tensorflow_page`]), and a page of our own for `/metrics`
//! ([`Metrics::page`]). The size of both is bounded, because labels that clients choose are bounded.
//!
//! Recording is lock-free once a combination of labels exists, and safe from any thread.
//!
//! Not here: serving the pages over HTTP (`api::tfs::rest`), spans and logs.

mod labels;
mod placement;
mod process;
mod record;
mod server;
mod session;
mod tensorflow;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use self::placement::RunPlacements;
use self::server::ServerMetrics;
use self::session::SessionMetrics;
use self::tensorflow::{BatchFunctionMetrics, TensorflowMetrics};
use base::metrics::family::Collect;
use base::metrics::instrument::Reading;
use base::metrics::registry::Registry;
use base::metrics::text;
use runtime::placement::PlacementCounts;

pub use self::labels::{Direction, LogOutcome, RequestLabels};
pub use self::process::resident_memory_bytes;

/// The `Content-Type` of [`Metrics::tensorflow_page`], as TensorFlow Serving sends it.
pub const TENSORFLOW_PAGE_CONTENT_TYPE: &str = "text/plain";

/// The `Content-Type` of [`Metrics::page`].
pub const PAGE_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one server.
pub struct Metrics {
    tensorflow: TensorflowMetrics,
    session: SessionMetrics,
    server: ServerMetrics,
    run_placements: Arc<PlacementCounts>,
    tensorflow_page: Registry,
    own_page: Registry,
    /// Printed at the end of our own page.
    process: Registry,
}

impl Metrics {
    /// Metrics of a server that starts now.
    pub fn new() -> Self {
        let tensorflow_page = Registry::default();
        let own_page = Registry::default();
        let process = Registry::default();
        BatchFunctionMetrics::register(&tensorflow_page);
        process::register(&process, SystemTime::now());
        let server = ServerMetrics::register(&own_page);
        let run_placements = Arc::<PlacementCounts>::default();
        own_page.register(Arc::new(RunPlacements(Arc::clone(&run_placements))));
        Self {
            tensorflow: TensorflowMetrics::register(&tensorflow_page),
            session: SessionMetrics::register(&tensorflow_page),
            server,
            run_placements,
            tensorflow_page,
            own_page,
            process,
        }
    }

    /// Puts a metric that another module keeps on our own page.
    pub fn register(&self, metric: impl Collect + Send + Sync + 'static) {
        self.own_page.register(Arc::new(metric));
    }

    /// The counters of where runs happen, and why.
    pub fn run_placements(&self) -> &Arc<PlacementCounts> {
        &self.run_placements
    }

    /// TensorFlow Serving's metrics, as `util/prometheus_exporter.cc` writes them.
    pub fn tensorflow_page(&self) -> String {
        text::tensorflow_page(self.tensorflow_page.snapshots())
    }

    /// This server's own metrics, for Prometheus.
    pub fn page(&self) -> String {
        let mut metrics = self.own_page.snapshots();
        metrics.extend(self.process.snapshots());
        text::prometheus_page(&metrics)
    }

    /// The first point of the TensorFlow Serving metric with this internal name
    /// (`/tensorflow/serving/request_count`), in the order of label values; 0 for a histogram and
    /// for a metric that does not exist (`ReloadConfigRequest.metric_names`).
    pub fn first_value(&self, internal_name: &str) -> i64 {
        let metric = self.tensorflow_page.snapshot(internal_name);
        let first = metric.and_then(|it| it.points.into_iter().next());
        match first.map(|point| point.reading) {
            Some(Reading::Number(value)) => value,
            _ => 0,
        }
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
