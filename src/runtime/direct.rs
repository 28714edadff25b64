//! Runs each request by itself: a short run where it is asked for, as long as there is no other,
//! and all the rest on threads where they may block.
//!
//! Handing a run to another thread and its answer back costs a lone client more than many a small
//! model's run. Under load it costs little, and runs on the workers would keep other connections
//! waiting; so one worker at most is kept by a run, and not for long.
//! Where values in a request decide how long a run takes, as in a loop, what came before says nothing
//! about it: such graphs never run there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::executor::{Executed, Execution, Executor, RunTimes};
use super::{Graph, RunControl};
use crate::error::{Result, ServingError};
use crate::panics;
use crate::tensor::Tensor;

/// A worker may be kept for so long.
const SHORT: Duration = Duration::from_micros(200);
/// A run that takes so long was no short one that the system interrupted.
const LONG: Duration = Duration::from_millis(1);
/// Runs in a row that have to be short before the next is expected to be.
const TRIALS: usize = 8;

/// Runs that are under way in this process.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Runs every request by itself.
pub struct DirectExecutor {
    graph: Arc<dyn Graph>,
    expectation: Expectation,
}

impl DirectExecutor {
    /// An executor for this graph.
    pub fn new(graph: Arc<dyn Graph>) -> Self {
        Self {
            graph,
            expectation: Expectation::default(),
        }
    }

    fn run_here(
        &self,
        kind: Kind,
        feeds: &[Tensor],
        fetches: &[usize],
        deadline: Option<Instant>,
    ) -> Result<Executed> {
        let enqueued = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= enqueued) {
            return Err(ServingError::deadline_exceeded());
        }
        let control = RunControl::default();
        run(self.graph.as_ref(), feeds, fetches, &control, enqueued).inspect_err(|_| {
            // Failing may take long, too.
            self.expectation.learn(kind, enqueued.elapsed());
        })
    }

    async fn run_on_blocking_thread(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Result<Executed> {
        let enqueued = Instant::now();
        let control = Arc::new(RunControl::default());
        let run = {
            let graph = Arc::clone(&self.graph);
            let control = Arc::clone(&control);
            let under_way = UnderWay::beside_others();
            tokio::task::spawn_blocking(move || {
                let _under_way = under_way;
                run(graph.as_ref(), &feeds, &fetches, &control, enqueued)
            })
        };
        let given_up = GiveUpOnDrop {
            control,
            task: run.abort_handle(),
        };
        let finished = match deadline {
            None => run.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), run).await {
                Ok(finished) => finished,
                Err(_) => return Err(ServingError::deadline_exceeded()),
            },
        };
        drop(given_up);
        finished.unwrap_or_else(|_| Err(panics::ended_abnormally("the run")))
    }
}

impl Executor for DirectExecutor {
    fn graph(&self) -> &Arc<dyn Graph> {
        &self.graph
    }

    fn execute(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Execution<'_> {
        Box::pin(async move {
            let kind = Kind::of(&feeds);
            let is_short = self.graph.work_follows_shapes() && self.expectation.is_short(kind);
            let executed = match is_short.then(UnderWay::alone).flatten() {
                Some(_alone) => self.run_here(kind, &feeds, &fetches, deadline),
                None => self.run_on_blocking_thread(feeds, fetches, deadline).await,
            }?;
            let RunTimes { started, ended, .. } = executed.times;
            self.expectation.learn(kind, ended - started);
            Ok(executed)
        })
    }
}

fn run(
    graph: &dyn Graph,
    feeds: &[Tensor],
    fetches: &[usize],
    control: &RunControl,
    enqueued: Instant,
) -> Result<Executed> {
    let started = Instant::now();
    let outputs = graph.run(feeds, fetches, control)?;
    let times = RunTimes {
        enqueued,
        started,
        ended: Instant::now(),
    };
    Ok(Executed { outputs, times })
}

/// Counts one run in [`UNDER_WAY`] for as long as it exists.
struct UnderWay;

impl UnderWay {
    /// `None` where there are others.
    fn alone() -> Option<Self> {
        let taken = UNDER_WAY.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        taken.ok().map(|_| Self)
    }

    fn beside_others() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What tells how long a run takes, as far as it can be told.
#[derive(Clone, Copy)]
struct Kind {
    /// Of all inputs together.
    bytes: usize,
    /// The ranks of the inputs: with others than before, a graph may have to be loaded first.
    ranks: usize,
}

impl Kind {
    fn of(feeds: &[Tensor]) -> Self {
        let rank = |feed: &Tensor| feed.shape().len();
        Self {
            bytes: feeds.iter().map(size_in_bytes).sum(),
            ranks: feeds.iter().fold(1, |ranks: usize, feed| {
                ranks.wrapping_mul(31).wrapping_add(rank(feed))
            }),
        }
    }
}

fn size_in_bytes(tensor: &Tensor) -> usize {
    let strings = tensor.strings().unwrap_or_default();
    let strings = strings.iter().map(|string| string.len()).sum::<usize>();
    tensor.bytes().map_or(strings, |bytes| bytes.len())
}

/// Whether a graph's next run will be short, judged by those before.
///
/// Runs are expected to be short once several in a row were: those with the ranks of the last of
/// them, and no more bytes. From the size of one that was long after all, they no longer are.
#[derive(Default)]
struct Expectation {
    /// Zero, which no input has, before anything is expected.
    ranks: AtomicUsize,
    /// Inputs of fewer bytes make short runs.
    short_below: AtomicUsize,
    /// Short runs in a row that were not expected to be.
    trials: AtomicUsize,
}

impl Expectation {
    fn is_short(&self, kind: Kind) -> bool {
        kind.ranks == self.ranks.load(Ordering::Relaxed)
            && kind.bytes < self.short_below.load(Ordering::Relaxed)
    }

    /// Takes note of a run. Two that end together may count as one, which costs a trial more.
    fn learn(&self, kind: Kind, took: Duration) {
        let was_expected = self.is_short(kind);
        if took >= LONG {
            self.trials.store(0, Ordering::Relaxed);
            if was_expected {
                self.short_below.store(kind.bytes, Ordering::Relaxed);
            }
        } else if took <= SHORT && !was_expected {
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

/// A caller that goes away, or whose time is over, has no interest in the run any more.
struct GiveUpOnDrop {
    control: Arc<RunControl>,
    task: AbortHandle,
}

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        // Leaves the queue of tokio's threads if it has not begun, else is stopped.
        self.task.abort();
        self.control.terminate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(50);

    fn rows(count: usize) -> Kind {
        Kind::of(&[Tensor::from_vec(&[count, 1], vec![0.0f32; count]).unwrap()])
    }

    fn after_trials(kind: Kind) -> Expectation {
        let expectation = Expectation::default();
        for _ in 0..TRIALS {
            assert!(!expectation.is_short(kind));
            expectation.learn(kind, QUICK);
        }
        expectation
    }

    #[test]
    fn several_short_runs_make_the_next_expected() {
        let expectation = after_trials(rows(10));
        assert!(expectation.is_short(rows(10)));
        assert!(expectation.is_short(rows(1)));
        assert!(!expectation.is_short(rows(11)), "more was not tried");
    }

    #[test]
    fn other_ranks_are_not_expected() {
        let expectation = after_trials(rows(10));
        let flat = Tensor::from_vec(&[10], vec![0.0f32; 10]).unwrap();
        assert!(!expectation.is_short(Kind::of(std::slice::from_ref(&flat))));
        let pair = [flat.reshaped(&[5, 2]).unwrap(), flat];
        assert!(!expectation.is_short(Kind::of(&pair)));
    }

    #[test]
    fn a_long_run_ends_the_expectation_for_its_size() {
        let expectation = after_trials(rows(10));
        expectation.learn(rows(6), LONG);
        assert!(!expectation.is_short(rows(6)));
        assert!(expectation.is_short(rows(5)));
    }

    #[test]
    fn a_run_that_was_interrupted_ends_nothing() {
        let expectation = after_trials(rows(10));
        expectation.learn(rows(10), SHORT * 2);
        assert!(expectation.is_short(rows(10)));
    }

    #[test]
    fn long_runs_among_the_trials_start_them_anew() {
        let expectation = Expectation::default();
        for _ in 0..TRIALS * 3 {
            expectation.learn(rows(10), QUICK);
            expectation.learn(rows(10), LONG);
        }
        assert!(!expectation.is_short(rows(10)));
    }
}
