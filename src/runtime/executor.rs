//! Where runs happen: never on an async worker that serves sockets.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::{Graph, RunControl};
use crate::error::{Result, ServingError};
use crate::tensor::Tensor;

/// The outcome of [`Executor::execute`], to be awaited.
pub type Execution<'a> = Pin<Box<dyn Future<Output = Result<Executed>> + Send + 'a>>;

/// What a successful run came to.
#[derive(Debug)]
pub struct Executed {
    /// In the order of the fetches.
    pub outputs: Vec<Tensor>,
    /// When it waited and ran.
    pub times: RunTimes,
}

/// When one request waited for its run and when it ran, which it may have done with others.
#[derive(Clone, Copy, Debug)]
pub struct RunTimes {
    /// The wait begins.
    pub enqueued: Instant,
    /// The wait ends, the run begins.
    pub started: Instant,
    /// The run ends.
    pub ended: Instant,
}

impl RunTimes {
    /// The times of a request whose parts ran on their own, from the first wait to the last run.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            enqueued: self.enqueued.min(other.enqueued),
            started: self.started.min(other.started),
            ended: self.ended.max(other.ended),
        }
    }
}

/// Runs one graph for requests.
///
/// Dropping the future of `execute` gives the run up: it is dropped from queues if it has not
/// begun, and stopped if it has.
pub trait Executor: Send + Sync {
    /// The graph that is run.
    fn graph(&self) -> &Arc<dyn Graph>;

    /// Runs the graph once, with the arguments and results of [`Graph::run`].
    ///
    /// # Errors
    ///
    /// Those of [`Graph::run`]; `DEADLINE_EXCEEDED` with the original's text once `deadline` has
    /// passed, when the run is stopped as well.
    fn execute(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Execution<'_>;
}

/// Runs every request by itself, on tokio's blocking threads.
pub struct DirectExecutor {
    graph: Arc<dyn Graph>,
}

impl DirectExecutor {
    /// An executor for this graph.
    pub fn new(graph: Arc<dyn Graph>) -> Self {
        Self { graph }
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
        let graph = Arc::clone(&self.graph);
        Box::pin(async move {
            let control = Arc::new(RunControl::default());
            let enqueued = Instant::now();
            let run = {
                let control = Arc::clone(&control);
                tokio::task::spawn_blocking(move || {
                    let started = Instant::now();
                    let outputs = graph.run(&feeds, &fetches, &control)?;
                    let times = RunTimes {
                        enqueued,
                        started,
                        ended: Instant::now(),
                    };
                    Ok(Executed { outputs, times })
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
            finished.unwrap_or_else(|error| {
                Err(ServingError::internal(format!(
                    "the run ended abnormally: {error}"
                )))
            })
        })
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
