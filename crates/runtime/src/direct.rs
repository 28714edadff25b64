//! Runs each request by itself: on the caller's thread or on a thread that is allowed to block, as
//! `placement` decides.

use std::sync::Arc;
use std::time::Instant;

use super::executor::{Executed, Execution, Executor, RunTimes};
use super::placement::blocking_pool::{self, QueuedJob, Share};
use super::placement::{Decision, GraphPlacement, Placement, Placements, RunShape};
use super::{Graph, RunControl};
use base::error::{Result, ServingError};
use base::panics;
use base::tensor::Tensor;

/// Runs every request by itself.
pub struct DirectExecutor {
    inner: Arc<Inner>,
    share: Arc<Share>,
}

/// Shared with the threads that run the graph.
struct Inner {
    graph: Arc<dyn Graph>,
    placement: GraphPlacement,
}

/// One run that is to be made.
struct Run {
    feeds: Vec<Tensor>,
    fetches: Vec<usize>,
    shape: RunShape,
    decision: Decision,
    enqueued: Instant,
}

impl DirectExecutor {
    /// An executor for this graph, which belongs to the model of this name.
    pub fn new(graph: Arc<dyn Graph>, model: &str, placements: Arc<Placements>) -> Self {
        let placement = GraphPlacement::new(graph.as_ref(), placements);
        Self {
            share: Share::of_model(model),
            inner: Arc::new(Inner { graph, placement }),
        }
    }

    fn run_here(&self, run: &Run, deadline: Option<Instant>) -> Result<Executed> {
        if deadline.is_some_and(|deadline| deadline <= run.enqueued) {
            return Err(ServingError::deadline_exceeded());
        }
        self.inner.run(run, &RunControl::default())
    }

    async fn run_on_thread(&self, run: Run, deadline: Option<Instant>) -> Result<Executed> {
        let control = Arc::new(RunControl::default());
        let (run, place) = {
            let inner = Arc::clone(&self.inner);
            let control = Arc::clone(&control);
            blocking_pool::spawn(&self.share, move || inner.run(&run, &control))
        };
        let given_up = GiveUpOnDrop {
            control,
            _place: place,
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

impl Inner {
    fn run(&self, run: &Run, control: &RunControl) -> Result<Executed> {
        let Run {
            feeds,
            fetches,
            shape,
            decision,
            enqueued,
        } = run;
        let placed = (decision.place, decision.reason);
        let begun = self.placement.begin(placed, *shape, control);
        let started = Instant::now();
        let outputs = self.graph.run(feeds, fetches, control);
        let ended = Instant::now();
        // Failing can take long, too, and keeps a worker busy. A run on a thread can fail because it was
        // stopped, which says nothing about others.
        if outputs.is_ok() || decision.place == Placement::Inline {
            begun.learn(ended - started);
        }
        let times = RunTimes {
            enqueued: *enqueued,
            started,
            ended,
        };
        Ok(Executed {
            outputs: outputs?,
            times,
        })
    }
}

impl Executor for DirectExecutor {
    fn graph(&self) -> &Arc<dyn Graph> {
        &self.inner.graph
    }

    fn execute(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Execution<'_> {
        Box::pin(async move {
            let shape = RunShape::of(&feeds);
            let run = Run {
                feeds,
                fetches,
                shape,
                decision: self.inner.placement.decide(shape),
                enqueued: Instant::now(),
            };
            match run.decision.place {
                Placement::Inline => self.run_here(&run, deadline),
                Placement::Thread | Placement::Batch => self.run_on_thread(run, deadline).await,
            }
        })
    }
}

/// A caller that goes away, or whose deadline has passed, no longer needs the run.
struct GiveUpOnDrop {
    control: Arc<RunControl>,
    /// A run that is still queued leaves the queue.
    _place: QueuedJob,
}

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.control.terminate();
    }
}
