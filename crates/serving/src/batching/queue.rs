//! The waiting batches of one signature and one set of outputs.
//!
//! Plain data under the scheduler's lock: no threads, no clock. Every step looks at no more than
//! [`OPEN_BATCHES`] batches, however long the queue is.
//!
//! Not here: which queue is next (`scheduler`), running a batch (`batch`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::batch::BatchedGraph;
use super::task::{RunSlot, Task};
use base::error::{Code, Result, ServingError};
use base::tensor::Tensor;

/// Only this many batches at the end of a queue can take more tasks. One batch is open per combination
/// of dtypes and shapes, so only clients that keep sending new combinations reach this limit.
const OPEN_BATCHES: usize = 64;

/// Tasks that fetch the same outputs of the same graph.
pub(super) struct Queue {
    pub(super) graph: Arc<BatchedGraph>,
    /// Sorted.
    pub(super) fetches: Vec<usize>,
    /// In the order of their first tasks. Invariant: every batch has a task.
    batches: VecDeque<WaitingBatch>,
}

/// Tasks that will run together.
pub(super) struct WaitingBatch {
    /// Increases along the queue.
    number: u64,
    pub(super) tasks: Vec<Task>,
    rows: usize,
    /// When the first task arrived.
    opened: Instant,
    /// Whether the batch takes no more tasks and is ready to run.
    is_closed: bool,
}

impl WaitingBatch {
    /// Takes the first tasks of the batch that together have at least `rows` rows. `None` if that
    /// would be all tasks.
    fn split(&mut self, rows: usize) -> Option<Self> {
        let mut taken = 0;
        let mut count = 0;
        while taken < rows {
            taken += self.tasks.get(count)?.rows;
            count += 1;
        }
        let opened = self.tasks.get(count)?.enqueued;
        let rest = self.tasks.split_off(count);
        self.rows -= taken;
        Some(Self {
            number: self.number,
            tasks: std::mem::replace(&mut self.tasks, rest),
            rows: taken,
            opened: std::mem::replace(&mut self.opened, opened),
            is_closed: true,
        })
    }
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

    /// The sizes of the tasks into which a request of `rows` is divided: one task, or with splitting,
    /// the rows that fit into the open batch and then full batches (`shared_batch_scheduler.h`).
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a request that is too large, `UNAVAILABLE` if the queue is full.
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

    /// The number of batches as TensorFlow Serving counts: an empty queue has one open, empty batch.
    fn batch_count(&self) -> usize {
        self.batches.len().max(1)
    }

    /// The number of rows of such a task that fit without another batch.
    fn room(&self, feeds: &[Tensor]) -> usize {
        let max = self.graph.limits.max_batch_rows;
        if self.batches.is_empty() {
            return max;
        }
        self.open_batch(feeds)
            .map_or(0, |index| max.saturating_sub(self.batches[index].rows))
    }

    /// The open batch that such a task can be merged with.
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
        let enough = self.enough_rows();
        if let Some(index) = self.open_batch(&task.feeds) {
            let batch = &mut self.batches[index];
            let before = batch.rows;
            if before + task.rows <= max {
                batch.rows += task.rows;
                batch.tasks.push(task);
                let is_news = before < enough && enough <= batch.rows;
                return (batch.number, is_news);
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

    /// The number of rows at which a batch neither waits for more nor takes more.
    fn enough_rows(&self) -> usize {
        let limits = &self.graph.limits;
        let max = limits.max_batch_rows;
        match limits.adaptive {
            true => limits.padded_rows(self.graph.enough.rows()).min(max),
            false => max,
        }
    }

    /// Takes the first batch that is ready: closed, large enough or past its timeout. With adaptive
    /// batching any batch is ready while the graph is idle, and of a large one only enough rows are taken.
    pub(super) fn take_ready(&mut self, now: Instant) -> Option<WaitingBatch> {
        let limits = &self.graph.limits;
        let any = limits.adaptive && !self.graph.is_busy();
        let enough = self.enough_rows();
        let is_ready = |batch: &WaitingBatch| {
            any || batch.is_closed
                || batch.rows >= enough
                || self.due(batch).is_some_and(|due| due <= now)
        };
        let index = self.batches.iter().position(is_ready)?;
        let is_large = limits.adaptive && self.batches[index].rows > enough;
        let part = match is_large && !self.graph.enough.is_trial() {
            true => self.batches[index].split(enough),
            false => None,
        };
        let Some(part) = part else {
            return self.batches.remove(index);
        };
        // Closed if other batches wait behind it, so that it does not delay them by growing.
        self.batches[index].is_closed = index + 1 < self.batches.len();
        Some(part)
    }

    /// When the next batch reaches its timeout.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.batches.front().and_then(|batch| self.due(batch))
    }

    fn due(&self, batch: &WaitingBatch) -> Option<Instant> {
        batch.opened.checked_add(self.graph.limits.timeout)
    }

    /// Removes a task that its caller gave up. Returns whether it was there.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::FakeGraph;
    use super::super::{BatchMetrics, BatchingOptions, QueueLimits};
    use super::*;
    use crate::monitoring::Metrics;
    use base::id::ServableId;
    use runtime::Graph;
    use runtime::placement::{GraphPlacement, Reason};

    /// The number of rows that is enough in these tests.
    const ENOUGH: usize = 4;

    /// A queue of a graph for which batches of 4 rows are known to be as cheap as larger ones.
    fn queue(options: BatchingOptions) -> Queue {
        let graph = Arc::new(FakeGraph::half_plus_two()) as Arc<dyn Graph>;
        let metrics = BatchMetrics::new(
            Arc::new(Metrics::new()),
            ServableId::new("m", 1),
            "serving_default".to_owned(),
        );
        let graph = BatchedGraph {
            limits: QueueLimits::try_new(&options).unwrap(),
            metrics,
            running: Arc::default(),
            placement: GraphPlacement::new(graph.as_ref(), Arc::default()),
            enough: Default::default(),
            graph,
        };
        for _ in 0..100 {
            for (rows, millis) in [(1, 100), (2, 100), (ENOUGH, 100), (8, 200), (16, 400)] {
                graph.enough.learn(rows, Duration::from_millis(millis));
            }
        }
        Queue::new(Arc::new(graph), vec![0])
    }

    fn adaptive() -> BatchingOptions {
        BatchingOptions {
            adaptive: true,
            ..BatchingOptions::default()
        }
    }

    /// Appends a task with this many rows and columns. Returns the result of [`Queue::push`], and the
    /// slot that identifies the task.
    fn push(it: &mut Queue, (rows, columns): (usize, usize)) -> (u64, bool, RunSlot) {
        let feed = Tensor::from_vec(&[rows, columns], vec![0.0_f32; rows * columns]).unwrap();
        let now = Instant::now();
        let level = it.graph.metrics.enqueue();
        let (task, run, _) = Task::new(vec![feed], rows, (now, now), Reason::NotShort, level);
        let next = it.batches.back().map_or(0, |batch| batch.number) + 1;
        let (number, is_news) = it.push(task, next);
        (number, is_news, run)
    }

    /// Takes batches until none is ready, and returns the rows of each one's tasks.
    fn take_all(it: &mut Queue) -> Vec<Vec<usize>> {
        let batches = std::iter::from_fn(|| it.take_ready(Instant::now()));
        batches
            .map(|batch| batch.tasks.iter().map(|task| task.rows).collect())
            .collect()
    }

    #[test]
    fn batches_take_no_more_than_is_enough() {
        let mut it = queue(adaptive());
        for _ in 0..10 {
            push(&mut it, (1, 1));
        }
        assert_eq!(take_all(&mut it), [vec![1; 4], vec![1; 4], vec![1; 2]]);
    }

    #[test]
    fn batches_take_all_without_adaptive_batching() {
        let mut it = queue(BatchingOptions::default());
        for _ in 0..10 {
            push(&mut it, (1, 1));
        }
        assert_eq!(take_all(&mut it), [vec![1; 10]]);
    }

    #[test]
    fn tasks_stay_whole_and_in_order() {
        let mut it = queue(adaptive());
        for rows in [3, 2, 3, 5, 1, 1] {
            push(&mut it, (rows, 1));
        }
        assert_eq!(take_all(&mut it), [vec![3, 2], vec![3, 5], vec![1, 1]]);
    }

    #[test]
    fn allowed_sizes_are_filled() {
        let mut it = queue(BatchingOptions {
            allowed_batch_sizes: vec![3, 6, 1000],
            ..adaptive()
        });
        for _ in 0..8 {
            push(&mut it, (1, 1));
        }
        assert_eq!(take_all(&mut it), [vec![1; 6], vec![1; 2]]);
    }

    #[test]
    fn what_is_left_of_a_batch_takes_more_tasks_and_can_be_left() {
        let mut it = queue(adaptive());
        let tasks: Vec<_> = (0..7).map(|_| push(&mut it, (1, 1))).collect();
        assert_eq!(it.take_ready(Instant::now()).unwrap().rows, ENOUGH);
        let (number, _, taken) = &tasks[0];
        assert!(!it.remove(*number, taken));
        let (number, _, waiting) = &tasks[5];
        assert!(it.remove(*number, waiting));
        push(&mut it, (1, 1));
        assert_eq!(take_all(&mut it), [vec![1; 3]]);
    }

    #[test]
    fn nobody_is_overtaken_by_way_of_what_is_left() {
        let mut it = queue(adaptive());
        for _ in 0..6 {
            push(&mut it, (1, 1));
        }
        push(&mut it, (1, 2));
        assert_eq!(it.take_ready(Instant::now()).unwrap().rows, ENOUGH);
        push(&mut it, (1, 1));
        assert_eq!(take_all(&mut it), [vec![1; 2], vec![1], vec![1]]);
    }

    #[test]
    fn with_enough_rows_a_batch_waits_no_longer() {
        let mut it = queue(BatchingOptions {
            batch_timeout_micros: 3_600_000_000,
            ..adaptive()
        });
        it.graph
            .running
            .store(1, std::sync::atomic::Ordering::Relaxed);
        let news: Vec<_> = (0..5).map(|_| push(&mut it, (1, 1)).1).collect();
        assert_eq!(news, [true, false, false, true, false]);
        assert_eq!(take_all(&mut it), [vec![1; 4]]);
        assert!(!it.is_empty());
    }
}
