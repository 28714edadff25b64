//! The batch size of one graph beyond which a larger batch would not make a row cheaper.
//!
//! On CPUs that is often far below `max_batch_size`. A batch of all waiting requests leaves nothing
//! for the next thread, and its clients then send their next requests together; small batches keep
//! all threads busy. The cost of a row is therefore measured for each batch size that occurs.
//!
//! Not here: how a queue uses the result (`queue`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Classes of batches of up to 1, 2, 4, … rows; the last class has all larger ones.
const CLASSES: usize = 20;
/// The cost of a class is known after this many batches.
const SAMPLES: u32 = 16;
/// Costs whose ratio is below this count as the same.
const ALIKE: f64 = 1.12;
/// The cost of a batch outside of its run: waking a thread and visiting the queue.
const AROUND: Duration = Duration::from_micros(10);
/// The relative step by which one batch moves its class's cost, once there were many. Only whether
/// the batch was more expensive counts, because one that the system interrupted can take any time.
const STEP: f64 = 0.004;
/// One in this many batches takes all waiting rows, so that the costs of large ones stay known.
const TRIAL: usize = 64;

/// The measured costs of a graph's batches.
#[derive(Debug)]
pub(super) struct BatchSizeTuner {
    classes: Mutex<[Class; CLASSES]>,
    rows: AtomicUsize,
    batches: AtomicUsize,
}

/// Batches of about the same size.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    samples: u32,
    /// Seconds per row, the median.
    cost: f64,
}

impl Default for BatchSizeTuner {
    fn default() -> Self {
        Self {
            classes: Mutex::default(),
            rows: AtomicUsize::new(usize::MAX),
            batches: AtomicUsize::new(0),
        }
    }
}

impl BatchSizeTuner {
    /// The number of rows that is enough; `usize::MAX` as long as the largest batches are the cheapest.
    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Counts the next batch, and returns whether it should be as large as possible.
    pub(super) fn is_trial(&self) -> bool {
        let before = self.batches.fetch_add(1, Ordering::Relaxed);
        (before + 1).is_multiple_of(TRIAL)
    }

    /// Records a batch of this many rows that ran while another was running. A batch that runs alone
    /// is not recorded: it could use the threads of others.
    pub(super) fn learn(&self, rows: usize, took: Duration) {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        classes[class_of(rows)].note((took + AROUND).as_secs_f64() / rows.max(1) as f64);
        self.rows.store(enough_of(&classes[..]), Ordering::Relaxed);
    }
}

impl Class {
    fn note(&mut self, cost: f64) {
        self.samples = self.samples.saturating_add(1);
        let step = 1.0 + (0.5 / f64::from(self.samples)).max(STEP);
        if self.samples == 1 {
            self.cost = cost;
        } else if cost > self.cost {
            self.cost *= step;
        } else {
            self.cost /= step;
        }
    }
}

fn class_of(rows: usize) -> usize {
    let bits = usize::BITS - rows.saturating_sub(1).leading_zeros();
    (bits as usize).min(CLASSES - 1)
}

/// The size of the first class that is about as cheap as the cheapest, if the costs of larger ones
/// are known.
fn enough_of(classes: &[Class]) -> usize {
    let known = |class: &&Class| class.samples >= SAMPLES;
    let costs = classes.iter().filter(known).map(|class| class.cost);
    let bound = costs.fold(f64::INFINITY, f64::min) * ALIKE;
    let first = classes
        .iter()
        .position(|class| known(&class) && class.cost <= bound);
    match (first, classes.iter().rposition(|class| known(&class))) {
        (Some(first), Some(last)) if first < last => 1 << first,
        _ => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records some batches of each size, each of which takes `fixed` plus `per_row` for its rows, in µs.
    fn learned(sizes: &[usize], fixed: u64, per_row: u64) -> BatchSizeTuner {
        let enough = BatchSizeTuner::default();
        for &rows in sizes {
            for _ in 0..SAMPLES {
                let micros = fixed + per_row * rows as u64;
                enough.learn(rows, Duration::from_micros(micros));
            }
        }
        enough
    }

    #[test]
    fn enough_is_where_rows_get_no_cheaper() {
        // 37, 29, 25, 23, 22 and 21.5 µs per row.
        let sizes = [1, 2, 4, 8, 16, 32];
        assert_eq!(learned(&sizes, 16, 21).rows(), 8);
        assert_eq!(learned(&sizes, 0, 2100).rows(), 1);
    }

    #[test]
    fn nothing_is_enough_while_more_is_cheaper() {
        assert_eq!(learned(&[1, 2, 4, 8, 16, 32], 1000, 1).rows(), usize::MAX);
    }

    #[test]
    fn nothing_is_enough_before_more_was_tried() {
        assert_eq!(learned(&[], 16, 21).rows(), usize::MAX);
        assert_eq!(learned(&[8], 16, 21).rows(), usize::MAX);
        assert_eq!(learned(&[7, 8, 9], 16, 21).rows(), 8);
    }

    #[test]
    fn interrupted_batches_change_little() {
        let enough = learned(&[8, 32], 0, 100);
        enough.learn(8, Duration::from_secs(1));
        assert_eq!(enough.rows(), 8);
    }

    #[test]
    fn costs_are_learned_anew() {
        let enough = learned(&[8, 32], 16, 21);
        for _ in 0..200 {
            enough.learn(8, Duration::from_micros(8 * 50));
        }
        assert_eq!(enough.rows(), usize::MAX);
    }

    #[test]
    fn one_batch_of_some_is_a_trial() {
        let enough = BatchSizeTuner::default();
        let trials = (0..10 * TRIAL).filter(|_| enough.is_trial());
        assert_eq!(trials.count(), 10);
    }

    #[test]
    fn every_size_has_a_class() {
        let classes = [0, 1, 2, 3, 4, 5, 8, 9, 32, 33].map(class_of);
        assert_eq!(classes, [0, 0, 1, 2, 2, 3, 3, 4, 5, 6]);
        assert_eq!(class_of(usize::MAX), CLASSES - 1);
    }
}
