//! The queues of all models, which the batch threads and the callers share behind one lock.
//!
//! The threads visit the queues in turn and take one batch per visit. A queue exists only while
//! tasks wait in it.
//!
//! Not here: the order within a queue (`queue`), the threads (`scheduler`).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::batch::{Batch, BatchedGraph};
use super::queue::Queue;
use super::task::RunSlot;
use base::error::{Code, Result, ServingError};

/// The limit for sets of outputs of one signature with waiting tasks. Clients choose these sets.
const MAX_QUEUES_PER_SIGNATURE: usize = 64;

/// The queue and batch of a task.
pub(super) struct QueuePosition {
    pub(super) graph: Arc<BatchedGraph>,
    pub(super) fetches: Vec<usize>,
    pub(super) batch: u64,
}

/// The state that the threads and the callers share.
#[derive(Default)]
pub(super) struct Shared {
    /// Guards short sections: nothing is copied or run under it.
    state: Mutex<State>,
    /// Signals that a batch can be taken, or that the next timeout is now earlier.
    pub(super) work: Condvar,
    /// Signals that batches wait while all threads are busy.
    pub(super) others: Condvar,
}

/// The queues, and the state of the threads that take batches from them.
#[derive(Default)]
pub(super) struct State {
    pub(super) threads: usize,
    /// Threads that run a batch.
    pub(super) busy: usize,
    /// When one of them last took a batch.
    pub(super) taken: Option<Instant>,
    /// Whether the thread that looks after other graphs sleeps until it is woken.
    pub(super) is_others_asleep: bool,
    /// The queue to visit next comes first. Invariant: outside of a locked section none is empty.
    pub(super) queues: VecDeque<Queue>,
    /// The number of the last batch.
    last_number: u64,
    pub(super) stopping: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a task from its queue. Returns whether it was there; if not, its run has begun.
    pub(super) fn remove(&self, position: &QueuePosition, run: &RunSlot) -> bool {
        let mut state = self.lock();
        let Some(index) = state.find(&position.graph, &position.fetches) else {
            return false;
        };
        let was_there = state.queues[index].remove(position.batch, run);
        state.drop_if_empty(index);
        was_there
    }

    /// Wakes the thread that looks after other graphs, if there is work for it.
    pub(super) fn rouse(&self, state: &mut State) {
        if state.busy >= state.threads && state.is_others_asleep {
            state.is_others_asleep = false;
            self.others.notify_one();
        }
    }
}

impl State {
    fn find(&self, graph: &Arc<BatchedGraph>, fetches: &[usize]) -> Option<usize> {
        self.queues
            .iter()
            .position(|it| Arc::ptr_eq(&it.graph, graph) && it.fetches == fetches)
    }

    /// The queue for these outputs, which is created if it does not exist.
    pub(super) fn queue_index(
        &mut self,
        graph: &Arc<BatchedGraph>,
        fetches: &[usize],
    ) -> Result<usize> {
        if let Some(index) = self.find(graph, fetches) {
            return Ok(index);
        }
        let of_graph = self
            .queues
            .iter()
            .filter(|it| Arc::ptr_eq(&it.graph, graph));
        if of_graph.count() >= MAX_QUEUES_PER_SIGNATURE {
            return Err(ServingError::new(
                Code::Unavailable,
                format!(
                    "requests for {MAX_QUEUES_PER_SIGNATURE} other sets of outputs are waiting"
                ),
            ));
        }
        let queue = Queue::new(Arc::clone(graph), fetches.to_vec());
        self.queues.push_back(queue);
        Ok(self.queues.len() - 1)
    }

    pub(super) fn parts(&mut self) -> (&mut VecDeque<Queue>, &mut u64) {
        (&mut self.queues, &mut self.last_number)
    }

    pub(super) fn drop_if_empty(&mut self, index: usize) {
        if self.queues[index].is_empty() {
            self.queues.remove(index);
        }
    }

    /// Takes the first ready batch, starting with the queue whose turn it is.
    pub(super) fn take_ready(&mut self, now: Instant) -> Option<Batch> {
        for index in 0..self.queues.len() {
            let Some(batch) = take_batch(&mut self.queues[index], now) else {
                continue;
            };
            // The queues before this one had their turn as well.
            self.queues.rotate_left(index + 1);
            self.drop_if_empty(self.queues.len() - 1);
            return Some(batch);
        }
        None
    }

    /// Takes the first ready batch of a graph that has none running.
    pub(super) fn take_of_idle_graph(&mut self, now: Instant) -> Option<Batch> {
        (0..self.queues.len())
            .filter(|&index| !self.queues[index].graph.is_busy())
            .collect::<Vec<_>>()
            .into_iter()
            .find_map(|index| self.take_from(index, now))
    }

    /// Takes the first ready batch of one queue, out of turn.
    pub(super) fn take_from(&mut self, index: usize, now: Instant) -> Option<Batch> {
        let batch = take_batch(&mut self.queues[index], now)?;
        self.drop_if_empty(index);
        Some(batch)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queues.iter().filter_map(Queue::next_due).min()
    }
}

fn take_batch(queue: &mut Queue, now: Instant) -> Option<Batch> {
    let waiting = queue.take_ready(now)?;
    Some(Batch::begin(&queue.graph, &queue.fetches, waiting.tasks))
}
