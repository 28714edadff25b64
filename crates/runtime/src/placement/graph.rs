//! The decision about each run of one graph.
//!
//! For many small models, handing a run and its answer over to another thread costs more than the run. But a
//! worker that runs a graph keeps its other connections waiting. So a worker takes runs that are expected to
//! be brief, and short ones if nothing else runs. Longer runs go to other threads, where they cost less under
//! load: on the workers, runs and requests would evict each other's data from the caches. And several threads
//! save less time on a short run than waking them costs.
//!
//! If values in a request decide how long a run takes, as in a loop, earlier runs say nothing about the next:
//! such runs are never expected to be short. Neither are runs on empty tensors: kernels that divide work by a
//! size might never return if it is 0.
//!
//! Not here: the numbers (`constants`), how expectations change (`expectation`), the threads
//! (`blocking_pool`, `serving::batching`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::constants::CONSTANTS;
use super::contention::{Contention, Member};
use super::counts::PlacementCounts;
use super::decision::{Placement, Reason, Threads};
use super::expectation::{Expectation, OneThread};
use super::lone_request::LoneRequests;
use super::shape::RunShape;
use crate::{Graph, RunControl};

/// The state that the runs of all graphs of a server share.
#[derive(Debug)]
pub struct Placements {
    /// `--learn_run_placement`. If false, each run that is not batched has a thread, each batch a batch
    /// thread, and all of them the backend's pool.
    learns: bool,
    /// The runs in flight, except batches on threads of their own.
    in_flight: AtomicUsize,
    contention: Contention,
    counts: Arc<PlacementCounts>,
}

impl Placements {
    /// Decisions that are counted in `counts`, and learn from earlier runs if `learns` is true.
    pub fn new(learns: bool, counts: Arc<PlacementCounts>) -> Self {
        Self {
            learns,
            in_flight: AtomicUsize::new(0),
            contention: Contention::default(),
            counts,
        }
    }

    /// How often each decision was made.
    pub fn counts(&self) -> &Arc<PlacementCounts> {
        &self.counts
    }
}

impl Default for Placements {
    /// As in a server without flags.
    fn default() -> Self {
        Self::new(true, Arc::default())
    }
}

/// The threads on which a backend can run a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphThreads {
    /// The threads of the pool that a run uses unless it is kept to one.
    pub pool: usize,
    /// Whether a run can be [kept to one thread](RunControl::keep_to_one_thread).
    pub can_keep_to_one: bool,
}

impl GraphThreads {
    /// Every run happens on the thread that makes it.
    pub const CALLER: Self = Self {
        pool: 1,
        can_keep_to_one: true,
    };
}

/// Decides about the runs of one graph.
pub struct GraphPlacement {
    shared: Arc<Placements>,
    work_follows_shapes: bool,
    threads: GraphThreads,
    brief: Expectation,
    short: Expectation,
    one_thread: OneThread,
    lone_requests: LoneRequests,
}

impl GraphPlacement {
    /// Nothing is expected of this graph yet.
    pub fn new(graph: &dyn Graph, shared: Arc<Placements>) -> Self {
        Self {
            shared,
            work_follows_shapes: graph.work_follows_shapes(),
            threads: graph.threads(),
            brief: Expectation::of_runs_up_to(CONSTANTS.brief),
            short: Expectation::of_runs_up_to(CONSTANTS.short),
            one_thread: OneThread::default(),
            lone_requests: LoneRequests::default(),
        }
    }

    /// Decides about a run that is not batched: inline or on a thread. It counts as in flight as long as the
    /// decision exists.
    pub fn decide(&self, shape: RunShape) -> Decision {
        let (place, reason, in_flight) = match self.inline(shape) {
            Ok((reason, in_flight)) => (Placement::Inline, reason, in_flight),
            Err(reason) => (
                Placement::Thread,
                reason,
                InFlight::beside_others(&self.shared),
            ),
        };
        Decision {
            place,
            reason,
            _in_flight: Some(in_flight),
        }
    }

    /// Decides about a request that can be batched: inline or in a batch. `is_busy` says whether a batch of
    /// the graph is in flight. An inline run counts as in flight as long as the decision exists.
    pub fn decide_in_batches(&self, shape: RunShape, is_busy: bool) -> Decision {
        let inline = match () {
            () if !self.shared.learns => Err(Reason::LearningOff),
            () if is_busy => Err(Reason::BatchInFlight),
            () if self.lone_requests.is_likely() => Err(Reason::OthersCanJoin),
            () => self.inline(shape),
        };
        match inline {
            Ok((reason, in_flight)) => Decision {
                place: Placement::Inline,
                reason,
                _in_flight: Some(in_flight),
            },
            Err(reason) => Decision {
                place: Placement::Batch,
                reason,
                _in_flight: None,
            },
        }
    }

    /// Why a run is allowed on a worker now, or why not.
    fn inline(&self, shape: RunShape) -> Result<(Reason, InFlight), Reason> {
        if !self.shared.learns {
            Err(Reason::LearningOff)
        } else if !self.work_follows_shapes {
            Err(Reason::ValuesDecide)
        } else if shape.is_empty {
            Err(Reason::EmptyInput)
        } else if self.brief.is_met_by(shape) {
            Ok((Reason::Brief, InFlight::beside_others(&self.shared)))
        } else if self.short.is_met_by(shape) {
            let alone = InFlight::alone(&self.shared).ok_or(Reason::OtherRuns)?;
            Ok((Reason::ShortAndAlone, alone))
        } else {
            Err(Reason::NotShort)
        }
    }

    /// Records that a batch of this many requests begins.
    pub fn note_batch(&self, requests: usize) {
        self.lone_requests.note(requests);
    }

    /// Begins a run: decides on how many threads it happens, states it in `control`, and counts the decision.
    pub fn begin(
        &self,
        (place, reason): (Placement, Reason),
        shape: RunShape,
        control: &RunControl,
    ) -> Begun<'_> {
        let member = self.shared.contention.join(self.threads.pool);
        let suits_one_thread = self.suits_one_thread(shape);
        let is_kept = suits_one_thread || (self.shared.learns && member.is_contended());
        control.keep_to_one_thread(is_kept);
        let threads = match is_kept && self.threads.can_keep_to_one {
            true => Threads::One,
            false if self.threads.pool <= 1 => Threads::One,
            false => Threads::Pool,
        };
        self.shared.counts.add(place, threads, reason);
        Begun {
            placement: self,
            shape,
            suits_one_thread,
            _member: member,
        }
    }

    /// Whether the run is short, and not known to be longer on one thread.
    fn suits_one_thread(&self, shape: RunShape) -> bool {
        self.shared.learns
            && self.work_follows_shapes
            && !shape.is_empty
            && self.short.is_met_by(shape)
            && self.one_thread.suits(shape)
    }
}

/// Where a run happens and why.
#[must_use]
pub struct Decision {
    /// Where.
    pub place: Placement,
    /// Why.
    pub reason: Reason,
    _in_flight: Option<InFlight>,
}

/// A run in flight. It shares the pool as long as this exists.
#[must_use]
pub struct Begun<'a> {
    placement: &'a GraphPlacement,
    shape: RunShape,
    suits_one_thread: bool,
    _member: Member<'a>,
}

impl Begun<'_> {
    /// Records how long the run took, for the decisions about later ones. Two runs that end at the same time
    /// can count as one, which costs one more trial.
    pub fn learn(&self, took: Duration) {
        let Self {
            placement, shape, ..
        } = *self;
        if !placement.shared.learns || shape.is_empty {
            return;
        }
        placement.brief.learn(shape, took);
        placement.short.learn(shape, took);
        if self.suits_one_thread {
            placement.one_thread.learn(shape, took);
        } else {
            placement.one_thread.miss(shape);
        }
    }
}

/// Counts one run as in flight for as long as it exists.
struct InFlight(Arc<Placements>);

impl InFlight {
    /// `None` if another run is in flight.
    fn alone(shared: &Arc<Placements>) -> Option<Self> {
        let runs = &shared.in_flight;
        let taken = runs.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        taken.ok().map(|_| Self(Arc::clone(shared)))
    }

    /// Counts a run even if others are in flight.
    fn beside_others(shared: &Arc<Placements>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
