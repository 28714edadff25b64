//! The counter of where runs happen and why. It has no model in its labels: a run only adds to a counter that
//! it finds without a search.
//!
//! Not here: the decision and its counts (`runtime::placement`).

use std::sync::Arc;

use base::metrics::family::{About, Collect, Point, Snapshot};
use base::metrics::instrument::{MetricType, Reading};
use runtime::placement::PlacementCounts;

/// The metric, with a series for each decision that was made.
pub(super) struct RunPlacements(pub(super) Arc<PlacementCounts>);

impl Collect for RunPlacements {
    fn about(&self) -> About {
        About::new(
            "onnx_model_server_run_placements_total",
            "Runs of graphs, by where they happened, on how many threads, and why.",
        )
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let points = self.0.made().map(|(place, threads, reason, count)| Point {
            label_values: [place.label(), threads.label(), reason.label()]
                .map(Box::from)
                .to_vec(),
            reading: Reading::Number(count),
        });
        let mut points: Vec<Point> = points.collect();
        points.sort_by(|a, b| a.label_values.cmp(&b.label_values));
        Some(Snapshot {
            about: self.about(),
            metric_type: MetricType::Counter,
            label_names: vec!["placement", "threads", "reason"],
            points,
        })
    }

    /// It has no series of a version.
    fn forget(&self, _: &[(&str, &str)]) {}
}
