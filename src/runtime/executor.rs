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
pub type Execution<'a> = Pin<Box<dyn Future<Output = Result<Vec<Tensor>>> + Send + 'a>>;

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
            let run = {
                let control = Arc::clone(&control);
                tokio::task::spawn_blocking(move || graph.run(&feeds, &fetches, &control))
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
