//! The batches that wait for one signature and one set of outputs.
//!
//! Plain data under the scheduler's lock: no threads, no clock. Every step looks at no more than
//! [`OPEN_BATCHES`] batches, however long the queue is.
//!
//! Not here: whose turn it is (`scheduler`), what happens to a batch then (`batch`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::batch::BatchedGraph;
use super::task::{RunSlot, Task};
use crate::error::{Code, Result, ServingError};
use crate::tensor::Tensor;

/// The last batches of a queue that may still take tasks. One per combination of dtypes and
/// shapes is open, so there is a bound only for clients that send ever new ones.
const OPEN_BATCHES: usize = 64;

/// Tasks that fetch the same outputs of the same graph.
pub(super) struct Queue {
    pub(super) graph: Arc<BatchedGraph>,
    /// Sorted.
    pub(super) fetches: Vec<usize>,
    /// In the order of their first tasks. Invariant: none is without tasks.
    batches: VecDeque<WaitingBatch>,
}

/// Tasks that will run together.
pub(super) struct WaitingBatch {
    /// Increases along the queue.
    number: u64,
    pub(super) tasks: Vec<Task>,
    rows: usize,
    /// When the first task came.
    opened: Instant,
    /// A closed batch takes no more tasks and is ready to run.
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(graph: Arc<BatchedGraph>, fetches: Vec<usize>) -> Self {
        Self {
            graph,
            fetches,
            batches: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The sizes of the tasks that a request of `rows` becomes: one, or with splitting, what fits
    /// into the open batch and then full batches (`shared_batch_scheduler.h`).
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a request that is too large, `UNAVAILABLE` where the queue is full.
    pub(super) fn admit(&self, feeds: &[Tensor], rows: usize) -> Result<Vec<usize>> {
        let limits = &self.graph.limits;
        if rows > limits.max_task_rows {
            return Err(ServingError::invalid_argument(format!(
                "Task size {rows} is larger than maximum input batch size {}",
                limits.max_task_rows
            )));
        }
        let room = self.room(feeds);
        if rows <= room {
            return Ok(vec![rows]);
        }
        if !limits.split {
            self.check_batch_count()?;
            return Ok(vec![rows]);
        }
        self.check_row_capacity(rows, room)?;
        let mut sizes = Vec::new();
        if room > 0 {
            sizes.push(room);
        }
        let mut rest = rows - room;
        while rest > 0 {
            let size = rest.min(limits.max_batch_rows);
            sizes.push(size);
            rest -= size;
        }
        Ok(sizes)
    }

    fn check_batch_count(&self) -> Result<()> {
        let (batches, max) = (self.batch_count(), self.graph.limits.max_batches);
        if batches < max {
            return Ok(());
        }
        Err(ServingError::new(
            Code::Unavailable,
            format!(
                "The batch scheduling queue to which this task was submitted is full; currently \
                 {batches} batches enqueued and max_enqueued_batches is {max}"
            ),
        ))
    }

    fn check_row_capacity(&self, rows: usize, room: usize) -> Result<()> {
        let limits = &self.graph.limits;
        let (batches, max) = (self.batch_count(), limits.max_batches);
        let execution = limits.max_batch_rows;
        let capacity = max
            .saturating_sub(batches)
            .saturating_mul(execution)
            .saturating_add(room);
        if rows <= capacity {
            return Ok(());
        }
        Err(ServingError::new(
            Code::Unavailable,
            format!(
                "The batch scheduling queue to which this task was submitted is full; task size \
                 is {rows} but scheduling capacity is only {capacity} \
                 (num_enqueued_batches={batches}, max_enqueued_batches={max}, \
                 open_batch_size={}, max_execution_batch_size={execution})",
                execution - room
            ),
        ))
    }

    /// The original's count: an empty queue has an open batch without tasks.
    fn batch_count(&self) -> usize {
        self.batches.len().max(1)
    }

    /// How many rows of such a task fit without another batch.
    fn room(&self, feeds: &[Tensor]) -> usize {
        let max = self.graph.limits.max_batch_rows;
        if self.batches.is_empty() {
            return max;
        }
        self.open_batch(feeds)
            .map_or(0, |index| max.saturating_sub(self.batches[index].rows))
    }

    /// The open batch that such a task may be merged with.
    fn open_batch(&self, feeds: &[Tensor]) -> Option<usize> {
        let fits = |batch: &WaitingBatch| {
            let member = batch.tasks.first();
            !batch.is_closed && member.is_some_and(|it| self.graph.can_merge(&it.feeds, feeds))
        };
        let first = self.batches.len().saturating_sub(OPEN_BATCHES);
        (first..self.batches.len())
            .rev()
            .find(|&index| fits(&self.batches[index]))
    }

    /// Appends an admitted task. Returns its batch's number (`number` if it opened one), and
    /// whether a thread should look at the queue.
    pub(super) fn push(&mut self, task: Task, number: u64) -> (u64, bool) {
        let max = self.graph.limits.max_batch_rows;
        if let Some(index) = self.open_batch(&task.feeds) {
            let batch = &mut self.batches[index];
            if batch.rows + task.rows <= max {
                batch.rows += task.rows;
                batch.tasks.push(task);
                return (batch.number, batch.rows == max);
            }
            batch.is_closed = true;
        }
        self.batches.push_back(WaitingBatch {
            number,
            rows: task.rows,
            opened: task.enqueued,
            tasks: vec![task],
            is_closed: false,
        });
        if let Some(index) = self.batches.len().checked_sub(OPEN_BATCHES + 1) {
            self.batches[index].is_closed = true;
        }
        (number, true)
    }

    /// Takes the first batch that is ready: closed, full or past its timeout; with adaptive
    /// batching any while the graph is idle.
    pub(super) fn take_ready(&mut self, now: Instant) -> Option<WaitingBatch> {
        let limits = &self.graph.limits;
        let any = limits.adaptive && !self.graph.is_busy();
        let is_ready = |batch: &WaitingBatch| {
            any || batch.is_closed
                || batch.rows >= limits.max_batch_rows
                || self.due(batch).is_some_and(|due| due <= now)
        };
        let index = self.batches.iter().position(is_ready)?;
        self.batches.remove(index)
    }

    /// When the next batch becomes ready by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.batches.front().and_then(|batch| self.due(batch))
    }

    fn due(&self, batch: &WaitingBatch) -> Option<Instant> {
        batch.opened.checked_add(self.graph.limits.timeout)
    }

    /// Takes a task out that its caller gave up. Returns whether it was there.
    pub(super) fn remove(&mut self, batch: u64, run: &RunSlot) -> bool {
        let Ok(index) = self.batches.binary_search_by_key(&batch, |it| it.number) else {
            return false;
        };
        let batch = &mut self.batches[index];
        let Some(position) = batch.tasks.iter().position(|task| task.is(run)) else {
            return false;
        };
        batch.rows -= batch.tasks.remove(position).rows;
        if batch.tasks.is_empty() {
            self.batches.remove(index);
        }
        true
    }
}
