//! Runs on behalf of requests: the contract of every executor. The executors are in `direct` and
//! `batching`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use super::Graph;
use base::error::Result;
use base::tensor::Tensor;

/// The outcome of [`Executor::execute`], to be awaited.
pub type Execution<'a> = Pin<Box<dyn Future<Output = Result<Executed>> + Send + 'a>>;

/// The result of a successful run.
#[derive(Debug)]
pub struct Executed {
    /// In the order of the fetches.
    pub outputs: Vec<Tensor>,
    /// When it waited and ran.
    pub times: RunTimes,
}

/// When one request waited for its run and when it ran, possibly together with others in a batch.
#[derive(Clone, Copy, Debug)]
pub struct RunTimes {
    /// When the wait began.
    pub enqueued: Instant,
    /// When the wait ended and the run began.
    pub started: Instant,
    /// When the run ended.
    pub ended: Instant,
}

impl RunTimes {
    /// The times of a request that was run in parts, from the first wait to the last run.
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

    /// Checks the shapes of a request's inputs, before any tensor is built.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if inputs of these shapes cannot be run.
    fn check_inputs(&self, _shapes: &mut dyn Iterator<Item = &[usize]>) -> Result<()> {
        Ok(())
    }

    /// Runs the graph once, with the arguments and results of [`Graph::run`].
    ///
    /// # Errors
    ///
    /// Those of [`Graph::run`]; `DEADLINE_EXCEEDED` with TensorFlow Serving's text once `deadline` has
    /// passed, which also stops the run.
    fn execute(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Execution<'_>;
}
