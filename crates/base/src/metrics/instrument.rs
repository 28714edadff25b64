//! The three kinds of metric behind one set of labels: counter, gauge, histogram.
//!
//! All hold whole numbers (a duration in the unit its metric chooses), so that recording is one or two
//! atomic additions and threads never wait for each other.
//!
//! Not here: labels (`family`), how a page writes the numbers (`text`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The metric's type as a page prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// The state of one instrument at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The value of a counter or gauge.
    Number(i64),
    /// The buckets of a histogram.
    Histogram {
        /// The upper limits; the last bucket, which counts all larger values, has none.
        limits: &'static [f64],
        /// Per bucket, not cumulative; one more than `limits`.
        counts: Vec<u64>,
        /// The sum of all values.
        sum: u64,
    },
}

/// The operations that a family needs from its instruments.
pub trait Instrument {
    /// The type as printed on a page.
    const TYPE: MetricType;

    /// The value now. Concurrent updates of other threads can be missing, but never count twice.
    fn read(&self) -> Reading;
}

/// For callers that keep a reference to the instrument alone.
impl<I: Instrument> Instrument for Arc<I> {
    const TYPE: MetricType = I::TYPE;

    fn read(&self) -> Reading {
        (**self).read()
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

impl Instrument for Counter {
    const TYPE: MetricType = MetricType::Counter;

    fn read(&self) -> Reading {
        let count = self.0.load(Ordering::Relaxed);
        Reading::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n`, which can be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

impl Instrument for Gauge {
    const TYPE: MetricType = MetricType::Gauge;

    fn read(&self) -> Reading {
        Reading::Number(self.0.load(Ordering::Relaxed))
    }
}

/// Keeps a gauge one higher until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard {
    gauge: Arc<Gauge>,
}

impl GaugeGuard {
    /// Adds 1 to `gauge`.
    pub fn raise(gauge: Arc<Gauge>) -> Self {
        gauge.add(1);
        Self { gauge }
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.add(-1);
    }
}

/// The buckets of a histogram.
#[derive(Debug)]
pub struct Buckets {
    /// Invariant: ascending.
    limits: Vec<f64>,
    /// Whether a value equal to a limit counts in the limit's own bucket or in the next one.
    holds_its_limit: bool,
}

impl Buckets {
    /// `count` limits from `first`, each `factor` times the one before, as TensorFlow's
    /// `Buckets::Exponential` (`monitoring/sampler.cc`). A value equal to a limit counts in the next
    /// bucket, as in TensorFlow but against Prometheus's convention.
    pub fn exponential(first: f64, factor: f64, count: usize) -> Self {
        let limits = std::iter::successors(Some(first), |limit| Some(limit * factor));
        Self {
            limits: limits.take(count).collect(),
            holds_its_limit: false,
        }
    }

    /// These limits, in ascending order. A value equal to a limit counts in its bucket, as the label
    /// `le` says.
    pub fn up_to(limits: &[u64]) -> Self {
        Self {
            limits: limits.iter().map(|&limit| limit as f64).collect(),
            holds_its_limit: true,
        }
    }

    fn index_of(&self, value: u64) -> usize {
        let value = value as f64;
        if self.holds_its_limit {
            self.limits.partition_point(|&limit| limit < value)
        } else {
            self.limits.partition_point(|&limit| limit <= value)
        }
    }
}

/// How often values fell into each bucket, and their sum.
#[derive(Debug)]
pub struct Histogram {
    buckets: &'static Buckets,
    /// Invariant: one more than there are limits.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new(buckets: &'static Buckets) -> Self {
        Self {
            buckets,
            counts: (0..=buckets.limits.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts `value`.
    pub fn record(&self, value: u64) {
        self.counts[self.buckets.index_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl Instrument for Histogram {
    const TYPE: MetricType = MetricType::Histogram;

    fn read(&self) -> Reading {
        Reading::Histogram {
            limits: &self.buckets.limits,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}
