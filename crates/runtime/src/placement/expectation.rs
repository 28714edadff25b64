//! Which runs are expected to be short, judged by the earlier runs of a graph.
//!
//! Not here: the decision (`graph`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::constants::CONSTANTS;
use super::shape::RunShape;

/// Whether a graph's next run will be short, judged by earlier runs.
///
/// After several short runs in a row, runs are expected to be short if they have the ranks of the last
/// of them and no more bytes. If one takes long after all, runs of its size or above are no longer
/// expected to be short.
pub(super) struct Expectation {
    /// A run that takes no longer counts as short.
    limit: Duration,
    /// Zero, which no input has, as long as nothing is expected.
    ranks: AtomicUsize,
    /// Runs with fewer input bytes are expected to be short.
    short_below: AtomicUsize,
    /// Short runs in a row that were not expected to be short.
    trials: AtomicUsize,
}

impl Expectation {
    pub(super) fn of_runs_up_to(limit: Duration) -> Self {
        Self {
            limit,
            ranks: AtomicUsize::new(0),
            short_below: AtomicUsize::new(0),
            trials: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_met_by(&self, shape: RunShape) -> bool {
        shape.ranks == self.ranks.load(Ordering::Relaxed)
            && shape.bytes < self.short_below.load(Ordering::Relaxed)
    }

    pub(super) fn learn(&self, shape: RunShape, took: Duration) {
        let was_expected = self.is_met_by(shape);
        if took >= CONSTANTS.long {
            self.trials.store(0, Ordering::Relaxed);
            if was_expected {
                self.short_below.store(shape.bytes, Ordering::Relaxed);
            }
        } else if took <= self.limit && !was_expected {
            let trials = self.trials.fetch_add(1, Ordering::Relaxed) + 1;
            if trials >= CONSTANTS.trials {
                self.trials.store(0, Ordering::Relaxed);
                self.ranks.store(shape.ranks, Ordering::Relaxed);
                self.short_below
                    .store(shape.bytes.saturating_add(1), Ordering::Relaxed);
            }
        }
    }
}

/// Runs that are short on several threads need not be short on one.
pub(super) struct OneThread {
    /// Inputs of this many bytes or more are too many for one thread.
    too_long_from: AtomicUsize,
    /// Runs in a row on one thread that were not short.
    long: AtomicUsize,
    /// Runs on several threads that were too long for one.
    missed: AtomicUsize,
}

impl Default for OneThread {
    fn default() -> Self {
        Self {
            too_long_from: AtomicUsize::new(usize::MAX),
            long: AtomicUsize::new(0),
            missed: AtomicUsize::new(0),
        }
    }
}

impl OneThread {
    pub(super) fn suits(&self, shape: RunShape) -> bool {
        shape.bytes < self.too_long_from.load(Ordering::Relaxed)
    }

    /// Only several in a row count: a single one might have been interrupted.
    pub(super) fn learn(&self, shape: RunShape, took: Duration) {
        if took <= CONSTANTS.short {
            self.long.store(0, Ordering::Relaxed);
        } else if self.long.fetch_add(1, Ordering::Relaxed) + 1 >= CONSTANTS.trials {
            self.long.store(0, Ordering::Relaxed);
            self.missed.store(0, Ordering::Relaxed);
            self.too_long_from.fetch_min(shape.bytes, Ordering::Relaxed);
        }
    }

    /// Records a run on several threads.
    pub(super) fn miss(&self, shape: RunShape) {
        if !self.suits(shape)
            && self.missed.fetch_add(1, Ordering::Relaxed) + 1 >= CONSTANTS.retry_one_thread_after
        {
            self.missed.store(0, Ordering::Relaxed);
            self.too_long_from.store(usize::MAX, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base::tensor::Tensor;

    const QUICK: Duration = Duration::from_micros(50);

    pub(in crate::placement) fn rows(count: usize) -> RunShape {
        RunShape::of(&[Tensor::from_vec(&[count, 1], vec![0.0f32; count]).unwrap()])
    }

    fn after_trials(shape: RunShape) -> Expectation {
        let expectation = Expectation::of_runs_up_to(CONSTANTS.short);
        for _ in 0..CONSTANTS.trials {
            assert!(!expectation.is_met_by(shape));
            expectation.learn(shape, QUICK);
        }
        expectation
    }

    #[test]
    fn several_short_runs_make_the_next_expected() {
        let expectation = after_trials(rows(10));
        assert!(expectation.is_met_by(rows(10)));
        assert!(expectation.is_met_by(rows(1)));
        assert!(!expectation.is_met_by(rows(11)), "more was not tried");
    }

    #[test]
    fn other_ranks_are_not_expected() {
        let expectation = after_trials(rows(10));
        let flat = Tensor::from_vec(&[10], vec![0.0f32; 10]).unwrap();
        assert!(!expectation.is_met_by(RunShape::of(std::slice::from_ref(&flat))));
        let pair = [flat.reshaped(&[5, 2]).unwrap(), flat];
        assert!(!expectation.is_met_by(RunShape::of(&pair)));
    }

    #[test]
    fn a_long_run_ends_the_expectation_for_its_size() {
        let expectation = after_trials(rows(10));
        expectation.learn(rows(6), CONSTANTS.long);
        assert!(!expectation.is_met_by(rows(6)));
        assert!(expectation.is_met_by(rows(5)));
    }

    #[test]
    fn a_run_that_was_interrupted_ends_nothing() {
        let expectation = after_trials(rows(10));
        expectation.learn(rows(10), CONSTANTS.short * 2);
        assert!(expectation.is_met_by(rows(10)));
    }

    #[test]
    fn long_runs_among_the_trials_start_them_anew() {
        let expectation = Expectation::of_runs_up_to(CONSTANTS.short);
        for _ in 0..CONSTANTS.trials * 3 {
            expectation.learn(rows(10), QUICK);
            expectation.learn(rows(10), CONSTANTS.long);
        }
        assert!(!expectation.is_met_by(rows(10)));
    }
}
