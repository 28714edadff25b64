//! A request, or a part of one, on its way through a queue and a run.
//!
//! A [`Task`] goes into a queue and a batch; the caller keeps its ticket.
//!
//! Not here: the caller's end (`ticket`), the order of tasks (`queue`), running them (`batch`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::oneshot;

use base::error::{Code, Result, ServingError};
use base::metrics::instrument::GaugeGuard;
use base::tensor::Tensor;
use runtime::placement::Reason;
use runtime::{Executed, RunControl};

/// Rows that run together in one batch.
pub(super) struct Task {
    /// In the order of the graph's inputs.
    pub(super) feeds: Vec<Tensor>,
    /// Dimension 0 of every feed that the client sent.
    pub(super) rows: usize,
    pub(super) enqueued: Instant,
    pub(super) deadline: Instant,
    /// Why it runs in a batch, if no other task joins it.
    pub(super) reason: Reason,
    answer: oneshot::Sender<Result<Executed>>,
    /// Set when the task leaves its queue for a batch. Shared only with the ticket.
    run: RunSlot,
    waiting: Option<GaugeGuard>,
}

/// The run that a task is in. Its address also identifies the task.
pub(super) type RunSlot = Arc<OnceLock<Arc<BatchRun>>>;

/// Receives the result of a task.
pub(super) type TaskResult = oneshot::Receiver<Result<Executed>>;

impl Task {
    /// Creates a task that is enqueued now, and the parts of its ticket.
    pub(super) fn new(
        feeds: Vec<Tensor>,
        rows: usize,
        (enqueued, deadline): (Instant, Instant),
        reason: Reason,
        waiting: GaugeGuard,
    ) -> (Self, RunSlot, TaskResult) {
        let (answer, receiver) = oneshot::channel();
        let run = RunSlot::default();
        let task = Self {
            feeds,
            rows,
            enqueued,
            deadline,
            reason,
            answer,
            run: Arc::clone(&run),
            waiting: Some(waiting),
        };
        (task, run, receiver)
    }

    pub(super) fn is(&self, run: &RunSlot) -> bool {
        Arc::ptr_eq(&self.run, run)
    }

    /// Moves the task from its queue into `run`.
    pub(super) fn begin(&mut self, run: &Arc<BatchRun>) {
        self.waiting = None;
        // A task begins only once.
        let _ = self.run.set(Arc::clone(run));
    }

    /// Whether the caller no longer waits for the result.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    pub(super) fn answer(self, result: Result<Executed>) {
        // The caller can have left.
        let _ = self.answer.send(result);
    }
}

/// The run of a batch. It is stopped if all of its members leave.
pub(super) struct BatchRun {
    pub(super) control: RunControl,
    /// Members whose callers still wait and whose deadlines have not passed.
    interested: AtomicUsize,
}

impl BatchRun {
    pub(super) fn new(members: usize) -> Arc<Self> {
        Arc::new(Self {
            control: RunControl::default(),
            interested: AtomicUsize::new(members),
        })
    }

    /// One member leaves. The run stops with the last one, so it can continue until the latest of its
    /// members' deadlines.
    pub(super) fn leave(&self) {
        if self.interested.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.control.terminate();
        }
    }
}

/// The text of `batching_session.cc`.
pub(super) fn expired_in_queue() -> ServingError {
    ServingError::new(
        Code::ResourceExhausted,
        "Run() timeout exceeded while waiting in batching queue",
    )
}
