//! One batch from the queue to the responses: merge, run, split.
//!
//! Not here: which tasks make a batch (`queue`), copying rows (`rows`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::batch_size_tuner::BatchSizeTuner;
use super::metrics::BatchMetrics;
use super::options::QueueLimits;
use super::rows;
use super::task::{BatchRun, Task, expired_in_queue};
use base::error::{Code, Result, ServingError};
use base::panics;
use base::tensor::Tensor;
use runtime::placement::{GraphPlacement, Placement, Reason, RunShape};
use runtime::{Executed, Graph, RunTimes};

/// A graph whose requests are batched, with its batching limits and measurements.
pub(super) struct BatchedGraph {
    pub(super) graph: Arc<dyn Graph>,
    pub(super) limits: QueueLimits,
    pub(super) metrics: BatchMetrics,
    /// Batches in flight.
    pub(super) running: Arc<AtomicUsize>,
    pub(super) placement: GraphPlacement,
    pub(super) enough: BatchSizeTuner,
}

impl BatchedGraph {
    pub(super) fn is_busy(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Whether tasks with these feeds can run together. Holds for all pairs of a batch if it holds
    /// for each member and the first.
    pub(super) fn can_merge(&self, a: &[Tensor], b: &[Tensor]) -> bool {
        a.iter().zip(b).all(|(a, b)| {
            let same_shape = a.shape().get(1..) == b.shape().get(1..);
            let can_pad = || {
                self.limits.pad
                    && a.shape().len() == b.shape().len()
                    && !a.is_empty()
                    && !b.is_empty()
            };
            a.dtype() == b.dtype() && (same_shape || can_pad())
        })
    }
}

/// Why a batch failed.
enum Failure {
    /// All members fail with the same error.
    Shared(ServingError),
    /// One member can be the cause: if run alone, the others can succeed.
    Run(ServingError),
}

/// Tasks that left their queue to run together.
pub(super) struct Batch {
    graph: Arc<BatchedGraph>,
    fetches: Vec<usize>,
    tasks: Vec<Task>,
    run: Arc<BatchRun>,
    /// Whether another batch of the graph was running when this one began.
    is_beside_another: bool,
    /// Why the batch runs on the thread of its only request's caller, if it does.
    inline: Option<Reason>,
    _running: Running,
}

impl Batch {
    /// Takes the tasks out of their queue. Call it under the lock that guards the queue.
    pub(super) fn begin(
        graph: &Arc<BatchedGraph>,
        fetches: &[usize],
        mut tasks: Vec<Task>,
    ) -> Self {
        graph.placement.note_batch(tasks.len());
        let run = BatchRun::new(tasks.len());
        for task in &mut tasks {
            task.begin(&run);
        }
        Self {
            graph: Arc::clone(graph),
            fetches: fetches.to_vec(),
            tasks,
            run,
            is_beside_another: graph.is_busy(),
            inline: None,
            _running: Running::new(&graph.running),
        }
    }

    /// [`execute`](Self::execute) on the thread of the only request's caller, for this reason.
    pub(super) fn execute_inline(mut self, reason: Reason) {
        self.inline = Some(reason);
        self.execute();
    }

    /// Runs the batch and answers its tasks. If the run of several tasks fails, each is run alone.
    pub(super) fn execute(mut self) {
        let tasks = self.take_timely();
        if tasks.is_empty() {
            return;
        }
        match self.run(&tasks) {
            Ok(answers) => {
                for (task, answer) in tasks.into_iter().zip(answers) {
                    task.answer(Ok(answer));
                }
            }
            Err(Failure::Run(error)) if tasks.len() > 1 && !self.run.control.is_terminated() => {
                tracing::debug!(%error, members = tasks.len(), "a batch failed, running each alone");
                for task in tasks {
                    self.execute_alone(task);
                }
            }
            Err(Failure::Run(error) | Failure::Shared(error)) => {
                for task in tasks {
                    task.answer(Err(self.in_time(copy_of(&error))));
                }
            }
        }
    }

    fn execute_alone(&self, task: Task) {
        if task.is_abandoned() {
            return;
        }
        let mut answer = match self.run(std::slice::from_ref(&task)) {
            Ok(answers) => answers,
            Err(Failure::Run(error) | Failure::Shared(error)) => {
                return task.answer(Err(self.in_time(error)));
            }
        };
        let answer = answer.pop();
        task.answer(answer.ok_or_else(|| ServingError::internal("a batch without an answer")));
    }

    /// Returns the tasks whose callers still wait. Answers those past their deadlines with an error.
    fn take_timely(&mut self) -> Vec<Task> {
        let now = Instant::now();
        let mut timely = Vec::with_capacity(self.tasks.len());
        for task in self.tasks.drain(..) {
            let waited = now.saturating_duration_since(task.enqueued);
            self.graph.metrics.record_wait(waited);
            if task.deadline <= now {
                task.answer(Err(expired_in_queue()));
            } else if !task.is_abandoned() {
                timely.push(task);
            }
        }
        timely
    }

    /// Runs `tasks` and returns the result of each. A panic during the run only fails the run.
    fn run(&self, tasks: &[Task]) -> Result<Vec<Executed>, Failure> {
        panics::caught(|| self.run_together(tasks)).unwrap_or_else(|panic| {
            tracing::error!(panic, "the run of a batch panicked");
            Err(Failure::Run(panics::ended_abnormally("the run")))
        })
    }

    fn run_together(&self, tasks: &[Task]) -> Result<Vec<Executed>, Failure> {
        let began = Instant::now();
        let task_rows: usize = tasks.iter().map(|task| task.rows).sum();
        let batch_rows = self.graph.limits.padded_rows(task_rows);
        self.graph
            .metrics
            .record_batch(task_rows, batch_rows - task_rows);
        let feeds = Self::merge(tasks, batch_rows).map_err(Failure::Run)?;
        let placement = &self.graph.placement;
        let shape = RunShape::of(&feeds);
        let begun = placement.begin(self.placed(tasks), shape, &self.run.control);
        self.graph.metrics.record_run_start();
        let started = Instant::now();
        let outputs = self
            .graph
            .graph
            .run(&feeds, &self.fetches, &self.run.control)
            .map_err(Failure::Run)?;
        let ended = Instant::now();
        self.graph.metrics.record_run(ended - started);
        begun.learn(ended - started);
        drop(begun);
        let answers = self
            .check_outputs(&outputs, batch_rows)
            .and_then(|()| split(tasks, &outputs))
            .map_err(Failure::Shared)?;
        if self.is_beside_another {
            self.graph.enough.learn(batch_rows, began.elapsed());
        }
        let executed = |(task, outputs): (&Task, Vec<Tensor>)| Executed {
            outputs,
            times: RunTimes {
                enqueued: task.enqueued,
                started,
                ended,
            },
        };
        Ok(tasks.iter().zip(answers).map(executed).collect())
    }

    /// Where `tasks` run, and why.
    fn placed(&self, tasks: &[Task]) -> (Placement, Reason) {
        match (self.inline, tasks) {
            (Some(reason), _) => (Placement::Inline, reason),
            (None, [task]) => (Placement::Batch, task.reason),
            (None, _) => (Placement::Batch, Reason::SeveralRequests),
        }
    }

    /// The graph's inputs for all tasks. The tasks of a batch are similar enough to be merged
    /// (`can_merge`).
    fn merge(tasks: &[Task], batch_rows: usize) -> Result<Vec<Tensor>> {
        let inputs = tasks.first().map_or(0, |task| task.feeds.len());
        let mut merged = Vec::with_capacity(inputs);
        for index in 0..inputs {
            let feeds = tasks.iter().filter_map(|task| task.feeds.get(index));
            let feeds: Vec<&Tensor> = feeds.collect();
            if feeds.len() > 1 && !rows::padding_is_bounded(&feeds) {
                return Err(ServingError::new(
                    Code::ResourceExhausted,
                    "the shapes of a batch's members differ too much",
                ));
            }
            merged.push(rows::merge(&feeds, batch_rows)?);
        }
        Ok(merged)
    }

    /// The checks of `SplitOutputTensors` (`batching_session.cc`).
    fn check_outputs(&self, outputs: &[Tensor], batch_rows: usize) -> Result<()> {
        if outputs.len() != self.fetches.len() {
            return Err(ServingError::internal(
                "Wrong number of batched output tensors",
            ));
        }
        for output in outputs {
            match output.shape().first() {
                None => {
                    return Err(ServingError::failed_precondition(
                        "Batched output tensor has 0 dimensions",
                    ));
                }
                Some(&rows) if rows != batch_rows => {
                    return Err(ServingError::failed_precondition(
                        "Batched output tensor's 0th dimension does not equal the sum of the 0th \
                         dimension sizes of the input tensors",
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// If the run was stopped, returns a timeout instead of its error: a run is stopped only after all
    /// callers have left or timed out.
    fn in_time(&self, error: ServingError) -> ServingError {
        if self.run.control.is_terminated() {
            // The session's own text (`common_runtime/direct_session.cc`).
            return ServingError::deadline_exceeded();
        }
        error
    }
}

/// Each task's rows of the outputs, in order. Padding at the end is dropped.
fn split(tasks: &[Task], outputs: &[Tensor]) -> Result<Vec<Vec<Tensor>>> {
    let mut start = 0;
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        let end = start + task.rows;
        let answer: Result<Vec<Tensor>> = outputs
            .iter()
            .map(|output| rows::slice(output, start..end))
            .collect();
        answers.push(answer?);
        start = end;
    }
    Ok(answers)
}

/// One error for several requests.
fn copy_of(error: &ServingError) -> ServingError {
    match error {
        ServingError::Kernel { reason } => ServingError::Kernel {
            reason: reason.clone(),
        },
        other => ServingError::new(other.code(), other.to_string()),
    }
}

/// Counts a batch as running until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
