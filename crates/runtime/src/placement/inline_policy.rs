//! Which runs are short: those are allowed on an async worker, between serving sockets, and run on one
//! thread.
//!
//! For many small models, handing a run and its answer over to another thread costs more than the run.
//! But a worker that runs a graph keeps its other connections waiting. So a worker takes runs that are
//! expected to be brief, and short ones if nothing else runs. Longer runs go to other threads, where
//! they cost less under load: on the workers, runs and requests would evict each other's data from the
//! caches. And several threads save less time on a short run than waking them costs.
//! `docs/performance.md` has the numbers.
//!
//! If values in a request decide how long a run takes, as in a loop, earlier runs say nothing about the
//! next: such runs are never expected to be short. Neither are runs on empty tensors: kernels that
//! divide work by a size might never return if it is 0.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::Graph;
use base::tensor::Tensor;

/// About the time to decode a small request: a worker is always allowed to do it.
const BRIEF: Duration = Duration::from_micros(40);
/// One worker can be occupied for this long, if no other run is in flight.
const SHORT: Duration = Duration::from_micros(200);
/// A run that takes this long was not merely a short one that the system interrupted.
const LONG: Duration = Duration::from_millis(1);
/// The number of short runs in a row after which the next is expected to be short.
const TRIALS: usize = 8;
/// After this many runs on several threads, one thread is tried again, in case the machine was busy.
const RETRY: usize = 1000;

/// The runs in flight in this process, except batches on threads of their own.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// The statistics of one graph's runs.
pub struct InlinePolicy {
    work_follows_shapes: bool,
    brief: Expectation,
    short: Expectation,
    one_thread: OneThread,
}

impl InlinePolicy {
    /// Nothing is expected of this graph yet.
    pub fn new(graph: &dyn Graph) -> Self {
        Self {
            work_follows_shapes: graph.work_follows_shapes(),
            brief: Expectation::of_runs_up_to(BRIEF),
            short: Expectation::of_runs_up_to(SHORT),
            one_thread: OneThread::default(),
        }
    }

    /// Whether a run of this kind is allowed on a worker now. The run counts as in flight until the
    /// returned guard is dropped.
    pub fn admit(&self, kind: RunShape) -> Option<InFlight> {
        if !self.work_follows_shapes || kind.is_empty {
            None
        } else if self.brief.is_met_by(kind) {
            Some(InFlight::beside_others())
        } else if self.short.is_met_by(kind) {
            InFlight::alone()
        } else {
            None
        }
    }

    /// Whether a run of this kind should be [kept to one
    /// thread](crate::RunControl::keep_to_one_thread).
    pub fn suits_one_thread(&self, kind: RunShape) -> bool {
        self.work_follows_shapes
            && !kind.is_empty
            && self.short.is_met_by(kind)
            && self.one_thread.suits(kind)
    }

    /// Records a run, on whichever thread it was. Two that end at the same time can count as one, which
    /// costs one more trial.
    pub fn learn(&self, kind: RunShape, took: Duration, on_one_thread: bool) {
        if kind.is_empty {
            return;
        }
        self.brief.learn(kind, took);
        self.short.learn(kind, took);
        if on_one_thread {
            self.one_thread.learn(kind, took);
        } else {
            self.one_thread.miss(kind);
        }
    }
}

/// Counts one run as in flight for as long as it exists.
#[must_use]
#[derive(Debug)]
pub struct InFlight(());

impl InFlight {
    /// `None` if another run is in flight.
    fn alone() -> Option<Self> {
        let taken = UNDER_WAY.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        taken.ok().map(|_| Self(()))
    }

    /// Counts a run even if others are in flight.
    pub fn beside_others() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The properties of a run that predict how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct RunShape {
    /// The bytes of all inputs together.
    bytes: usize,
    /// The ranks of the inputs: new ranks can mean that a graph has to be loaded first.
    ranks: usize,
    /// Whether an input has a size of 0.
    is_empty: bool,
}

impl RunShape {
    /// The kind of a run with these inputs.
    pub fn of(feeds: &[Tensor]) -> Self {
        let rank = |feed: &Tensor| feed.shape().len();
        Self {
            bytes: feeds.iter().map(size_in_bytes).sum(),
            ranks: feeds.iter().fold(1, |ranks: usize, feed| {
                ranks.wrapping_mul(31).wrapping_add(rank(feed))
            }),
            is_empty: feeds.iter().any(|feed| feed.shape().contains(&0)),
        }
    }

    /// The kind of a run for which `rows` of these inputs are padded to `padded`.
    #[must_use]
    pub fn padded(self, rows: usize, padded: usize) -> Self {
        let bytes_of_row = self.bytes.div_ceil(rows.max(1));
        Self {
            bytes: bytes_of_row.saturating_mul(padded),
            ..self
        }
    }
}

fn size_in_bytes(tensor: &Tensor) -> usize {
    let strings = tensor.strings().unwrap_or_default();
    let strings = strings.iter().map(|string| string.len()).sum::<usize>();
    tensor.bytes().map_or(strings, |bytes| bytes.len())
}

/// Whether a graph's next run will be short, judged by earlier runs.
///
/// After several short runs in a row, runs are expected to be short if they have the ranks of the last
/// of them and no more bytes. If one takes long after all, runs of its size or above are no longer
/// expected to be short.
struct Expectation {
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
    fn of_runs_up_to(limit: Duration) -> Self {
        Self {
            limit,
            ranks: AtomicUsize::new(0),
            short_below: AtomicUsize::new(0),
            trials: AtomicUsize::new(0),
        }
    }

    fn is_met_by(&self, kind: RunShape) -> bool {
        kind.ranks == self.ranks.load(Ordering::Relaxed)
            && kind.bytes < self.short_below.load(Ordering::Relaxed)
    }

    fn learn(&self, kind: RunShape, took: Duration) {
        let was_expected = self.is_met_by(kind);
        if took >= LONG {
            self.trials.store(0, Ordering::Relaxed);
            if was_expected {
                self.short_below.store(kind.bytes, Ordering::Relaxed);
            }
        } else if took <= self.limit && !was_expected {
            let trials = self.trials.fetch_add(1, Ordering::Relaxed) + 1;
            if trials >= TRIALS {
                self.trials.store(0, Ordering::Relaxed);
                self.ranks.store(kind.ranks, Ordering::Relaxed);
                self.short_below
                    .store(kind.bytes.saturating_add(1), Ordering::Relaxed);
            }
        }
    }
}

/// Runs that are short on several threads need not be short on one.
struct OneThread {
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
    fn suits(&self, kind: RunShape) -> bool {
        kind.bytes < self.too_long_from.load(Ordering::Relaxed)
    }

    /// Only several in a row count: a single one might have been interrupted.
    fn learn(&self, kind: RunShape, took: Duration) {
        if took <= SHORT {
            self.long.store(0, Ordering::Relaxed);
        } else if self.long.fetch_add(1, Ordering::Relaxed) + 1 >= TRIALS {
            self.long.store(0, Ordering::Relaxed);
            self.missed.store(0, Ordering::Relaxed);
            self.too_long_from.fetch_min(kind.bytes, Ordering::Relaxed);
        }
    }

    /// Records a run on several threads.
    fn miss(&self, kind: RunShape) {
        if !self.suits(kind) && self.missed.fetch_add(1, Ordering::Relaxed) + 1 >= RETRY {
            self.missed.store(0, Ordering::Relaxed);
            self.too_long_from.store(usize::MAX, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(50);

    fn rows(count: usize) -> RunShape {
        RunShape::of(&[Tensor::from_vec(&[count, 1], vec![0.0f32; count]).unwrap()])
    }

    fn after_trials(kind: RunShape) -> Expectation {
        let expectation = Expectation::of_runs_up_to(SHORT);
        for _ in 0..TRIALS {
            assert!(!expectation.is_met_by(kind));
            expectation.learn(kind, QUICK);
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
    fn what_is_brief_is_short_but_not_the_other_way_round() {
        let runs = InlinePolicy {
            work_follows_shapes: true,
            brief: Expectation::of_runs_up_to(BRIEF),
            short: Expectation::of_runs_up_to(SHORT),
            one_thread: OneThread::default(),
        };
        for (count, took) in [(10, SHORT), (4, BRIEF)] {
            for _ in 0..TRIALS {
                runs.learn(rows(count), took, false);
            }
        }
        let expectations = |count| {
            (
                runs.brief.is_met_by(rows(count)),
                runs.short.is_met_by(rows(count)),
            )
        };
        assert_eq!(expectations(4), (true, true));
        assert_eq!(expectations(10), (false, true));
    }

    #[test]
    fn nothing_is_admitted_of_a_graph_whose_values_decide() {
        let runs = InlinePolicy {
            work_follows_shapes: false,
            brief: after_trials(rows(10)),
            short: after_trials(rows(10)),
            one_thread: OneThread::default(),
        };
        assert!(runs.admit(rows(1)).is_none());
        assert!(!runs.suits_one_thread(rows(1)));
    }

    #[test]
    fn no_run_on_an_empty_tensor_is_admitted() {
        let runs = InlinePolicy {
            work_follows_shapes: true,
            brief: after_trials(rows(10)),
            short: after_trials(rows(10)),
            one_thread: OneThread::default(),
        };
        assert!(runs.admit(rows(1)).is_some());
        assert!(runs.admit(rows(0)).is_none());
        assert!(!runs.suits_one_thread(rows(0)));
        for _ in 0..TRIALS {
            runs.learn(rows(0), QUICK, false);
        }
        assert!(runs.admit(rows(0)).is_none());
    }

    #[test]
    fn what_is_long_on_one_thread_goes_back_to_several() {
        let runs = InlinePolicy {
            work_follows_shapes: true,
            brief: Expectation::of_runs_up_to(BRIEF),
            short: after_trials(rows(10)),
            one_thread: OneThread::default(),
        };
        for _ in 1..TRIALS {
            runs.learn(rows(8), SHORT * 2, true);
        }
        assert!(runs.suits_one_thread(rows(10)), "may have been interrupted");
        runs.learn(rows(8), SHORT * 2, true);
        assert!(!runs.suits_one_thread(rows(8)));
        assert!(runs.suits_one_thread(rows(7)));
        // As it is short on several threads, one thread is not tried again immediately.
        for _ in 1..RETRY {
            runs.learn(rows(8), QUICK, false);
        }
        assert!(!runs.suits_one_thread(rows(8)));
        runs.learn(rows(8), QUICK, false);
        assert!(runs.suits_one_thread(rows(8)));
    }

    #[test]
    fn padding_counts() {
        let kind = rows(10).padded(10, 32);
        assert_eq!(kind.bytes, rows(32).bytes);
        assert_eq!(kind.ranks, rows(32).ranks);
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
        expectation.learn(rows(6), LONG);
        assert!(!expectation.is_met_by(rows(6)));
        assert!(expectation.is_met_by(rows(5)));
    }

    #[test]
    fn a_run_that_was_interrupted_ends_nothing() {
        let expectation = after_trials(rows(10));
        expectation.learn(rows(10), SHORT * 2);
        assert!(expectation.is_met_by(rows(10)));
    }

    #[test]
    fn long_runs_among_the_trials_start_them_anew() {
        let expectation = Expectation::of_runs_up_to(SHORT);
        for _ in 0..TRIALS * 3 {
            expectation.learn(rows(10), QUICK);
            expectation.learn(rows(10), LONG);
        }
        assert!(!expectation.is_met_by(rows(10)));
    }
}
