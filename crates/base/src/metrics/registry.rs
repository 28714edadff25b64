//! The metrics of a page. Every metric registers itself, so that a page, a look-up by name and the end of a
//! version need no list of them.
//!
//! [`families!`](crate::families) declares metrics with labels, [`Read`] is one whose value is kept
//! elsewhere.
//!
//! Not here: the metrics themselves (`serving::monitoring`), how a page writes them (`text`).

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use super::family::{About, Collect, Point, Snapshot};
use super::instrument::{MetricType, Reading};

/// The metrics of one page.
#[derive(Default)]
pub struct Registry {
    /// In the order of registration. Locked only to copy the list or to add to it.
    metrics: RwLock<Vec<Arc<dyn Collect + Send + Sync>>>,
}

impl Registry {
    /// Puts `metric` on the page, below those that are there already. Returns it.
    pub fn register<M: Collect + Send + Sync + 'static>(&self, metric: Arc<M>) -> Arc<M> {
        self.metrics
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&metric) as Arc<dyn Collect + Send + Sync>);
        metric
    }

    /// All metrics that have a value, in the order of registration.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let metrics = self.metrics();
        metrics.iter().filter_map(|it| it.snapshot()).collect()
    }

    /// The metric of this name; `None` if there is none or if it has no value.
    pub fn snapshot(&self, name: &str) -> Option<Snapshot> {
        let metrics = self.metrics();
        metrics
            .iter()
            .find(|it| it.about().name == name)?
            .snapshot()
    }

    /// Drops the series that have all of these labels, each a name and a value.
    pub fn forget(&self, labels: &[(&str, &str)]) {
        for metric in self.metrics() {
            metric.forget(labels);
        }
    }

    fn metrics(&self) -> Vec<Arc<dyn Collect + Send + Sync>> {
        let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
        metrics.clone()
    }
}

/// A metric of one value, read when a page is made.
pub struct Read {
    about: About,
    metric_type: MetricType,
    /// A name and a value each.
    labels: &'static [(&'static str, &'static str)],
    read: Box<dyn Fn() -> Option<i64> + Send + Sync>,
}

impl Read {
    /// A number that goes up and down. Without a value it is not on the page.
    pub fn gauge(about: About, read: impl Fn() -> Option<i64> + Send + Sync + 'static) -> Self {
        Self {
            about,
            metric_type: MetricType::Gauge,
            labels: &[],
            read: Box::new(read),
        }
    }

    /// A number that only grows.
    pub fn counter(about: About, read: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            about,
            metric_type: MetricType::Counter,
            labels: &[],
            read: Box::new(move || Some(i64::try_from(read()).unwrap_or(i64::MAX))),
        }
    }

    /// The same metric with labels, each a name and a value.
    #[must_use]
    pub fn with_labels(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        Self { labels, ..self }
    }
}

impl Collect for Read {
    fn about(&self) -> About {
        self.about
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let (label_names, label_values) = self
            .labels
            .iter()
            .map(|&(name, value)| (name, Box::from(value)))
            .unzip();
        Some(Snapshot {
            about: self.about,
            metric_type: self.metric_type,
            label_names,
            points: vec![Point {
                label_values,
                reading: Reading::Number((self.read)()?),
            }],
        })
    }

    fn forget(&self, _labels: &[(&str, &str)]) {}
}

/// Declares a struct of metric families, whose constructor `register` puts them on a page.
///
/// A declaration is `field: Instrument = "name" [labels]`, with `in BUCKETS` for a histogram. Its doc
/// comment is the metric's HELP; without one, the page has none.
#[macro_export]
macro_rules! families {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $families:ident {
            $(
                $(#[doc = $help:literal])*
                $field:ident: $instrument:ty =
                    $name:literal [$($label:literal),*] $(in $buckets:ident)?;
            )+
        }
    ) => {
        $(#[$meta])*
        $visibility struct $families {
            $(
                $(#[doc = $help])*
                $visibility $field: std::sync::Arc<$crate::metrics::family::Family<
                    $instrument,
                    { <[&str]>::len(&[$($label),*]) },
                >>,
            )+
        }

        impl $families {
            /// All families, without series, in this order on the registry's page.
            $visibility fn register(registry: &$crate::metrics::registry::Registry) -> Self {
                Self {
                    $(
                        $field: registry.register(std::sync::Arc::new(
                            $crate::metrics::family::Family::new(
                                $crate::metrics::family::About::new($name, concat!($($help),*)),
                                &[$($label),*],
                                $crate::families!(@new $($buckets)?),
                            ),
                        )),
                    )+
                }
            }
        }
    };
    (@new) => { Default::default };
    (@new $buckets:ident) => { || $crate::metrics::instrument::Histogram::new(&$buckets) };
}
