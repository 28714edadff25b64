//! Statistics of repeated measurements.

use std::time::Duration;

/// The smallest, the middle and the largest of some values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            min: sorted.first().copied().unwrap_or(f64::NAN),
            median: percentile(&sorted, 0.5),
            max: sorted.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// The value below which this share of the sorted values lies.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

/// Element by element.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

/// Sorted latencies in microseconds.
pub(crate) fn sorted_micros(latencies: &[Duration]) -> Vec<f64> {
    let mut sorted: Vec<f64> = latencies.iter().map(|it| it.as_secs_f64() * 1e6).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Uniform random numbers, the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// From 0 up to, but not including, 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
