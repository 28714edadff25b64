//! The caller's end of a task. Dropping it abandons the task.
//!
//! Not here: the task itself (`task`).

use std::sync::Arc;
use std::time::Instant;

use super::queues::{QueuePosition, Shared};
use super::task::{RunSlot, TaskResult, expired_in_queue};
use base::error::{Result, ServingError};
use runtime::Executed;

/// The caller's end of a task.
pub(super) struct Ticket {
    pub(super) shared: Arc<Shared>,
    pub(super) position: QueuePosition,
    pub(super) deadline: Instant,
    pub(super) run: RunSlot,
    pub(super) answer: TaskResult,
    /// Whether the task has already been abandoned.
    pub(super) has_left: bool,
}

impl Ticket {
    /// Waits for the task's outputs.
    ///
    /// # Errors
    ///
    /// Those of the run; `RESOURCE_EXHAUSTED` if the deadline passes in the queue.
    pub(super) async fn wait(mut self) -> Result<Executed> {
        let deadline = self.deadline.into();
        let answer = match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(answer) => answer,
            Err(_) if self.give_up() => return Err(expired_in_queue()),
            // The members of a running batch share the latest of their deadlines.
            Err(_) => (&mut self.answer).await,
        };
        answer.unwrap_or_else(|_| Err(ServingError::internal("the run ended abnormally")))
    }

    /// Removes the task from its queue, or if it is already in a batch, its interest in the run.
    /// Returns whether it was in the queue.
    fn give_up(&mut self) -> bool {
        if self.has_left {
            return false;
        }
        self.has_left = true;
        if self.run.get().is_none() && self.shared.remove(&self.position, &self.run) {
            return true;
        }
        if let Some(run) = self.run.get() {
            run.leave();
        }
        false
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_up();
    }
}
