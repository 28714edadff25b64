//! Runs each request by itself: on the caller's thread if `inline_policy` allows it, else on a thread that
//! is allowed to block.

use std::sync::Arc;
use std::time::Instant;

use super::executor::{Executed, Execution, Executor, RunTimes};
use super::placement::blocking_pool::{self, QueuedJob, Share};
use super::placement::inline_policy::{InFlight, InlinePolicy, RunShape};
use super::{Graph, RunControl};
use base::error::{Result, ServingError};
use base::panics;
use base::tensor::Tensor;

/// Runs every request by itself.
pub struct DirectExecutor {
    graph: Arc<dyn Graph>,
    inline_policy: InlinePolicy,
    share: Arc<Share>,
}

impl DirectExecutor {
    /// An executor for this graph, which belongs to the model of this name.
    pub fn new(graph: Arc<dyn Graph>, model: &str) -> Self {
        Self {
            share: Share::of_model(model),
            inline_policy: InlinePolicy::new(graph.as_ref()),
            graph,
        }
    }

    fn run_here(
        &self,
        kind: RunShape,
        control: &RunControl,
        feeds: &[Tensor],
        fetches: &[usize],
        deadline: Option<Instant>,
    ) -> Result<Executed> {
        let enqueued = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= enqueued) {
            return Err(ServingError::deadline_exceeded());
        }
        run(self.graph.as_ref(), feeds, fetches, control, enqueued).inspect_err(|_| {
            // Failing can take long, too.
            self.inline_policy.learn(kind, enqueued.elapsed(), false);
        })
    }

    async fn run_on_thread(
        &self,
        control: RunControl,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Result<Executed> {
        let enqueued = Instant::now();
        let control = Arc::new(control);
        let (run, place) = {
            let graph = Arc::clone(&self.graph);
            let control = Arc::clone(&control);
            let in_flight = InFlight::beside_others();
            blocking_pool::spawn(&self.share, move || {
                let _under_way = in_flight;
                run(graph.as_ref(), &feeds, &fetches, &control, enqueued)
            })
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
            let kind = RunShape::of(&feeds);
            let control = RunControl::default();
            let on_one_thread = self.inline_policy.suits_one_thread(kind);
            if on_one_thread {
                control.keep_to_one_thread();
            }
            let executed = match self.inline_policy.admit(kind) {
                Some(_under_way) => self.run_here(kind, &control, &feeds, &fetches, deadline),
                None => {
                    let run = self.run_on_thread(control, feeds, fetches, deadline);
                    run.await
                }
            }?;
            let RunTimes { started, ended, .. } = executed.times;
            self.inline_policy
                .learn(kind, ended - started, on_one_thread);
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
