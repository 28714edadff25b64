//! The threads that run batches, and the way of a request to them.
//!
//! If all threads are stuck in long runs, a graph without a running batch gets an additional thread
//! for its next batch, so that one model cannot keep all threads from the others.
//!
//! Not here: the queues that the threads share (`queues`), the run itself (`batch`).

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::batch::{Batch, BatchedGraph};
use super::options::BatchingOptions;
use super::queues::{QueuePosition, Shared};
use super::rows;
use super::task::Task;
use super::ticket::Ticket;
use base::error::{Code, Result, ServingError};
use base::panics;
use base::tensor::Tensor;
use runtime::placement::{Decision, Placement, Reason};

/// More threads than this would not help any user, and could exhaust the process.
const MAX_THREADS: i64 = 1024;
/// If no thread has taken a batch for this time, long runs are considered to hold all threads.
const KEPT_AFTER: Duration = Duration::from_secs(1);
/// While they are held, the interval at which waiting batches are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// For requests without a deadline: TensorFlow Serving's default for `RunOptions.timeout_in_ms`, which
/// uses the largest number of milliseconds as a number of microseconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_micros(i32::MAX as u64);

/// Runs the batches of all models on its threads (`SharedBatchScheduler`). One per server.
///
/// Executors keep it alive, so no tasks are waiting when it is dropped. Dropping it stops the
/// threads and waits for them to end.
pub struct BatchScheduler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl BatchScheduler {
    /// A scheduler with `num_batch_threads` threads named `thread_pool_name`, but at most 1024.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the text of `shared_batch_scheduler.h` for a number below one;
    /// `RESOURCE_EXHAUSTED` if the system cannot start more threads.
    pub fn try_new(options: &BatchingOptions) -> Result<Self> {
        let count = options.num_batch_threads;
        if count < 1 {
            return Err(ServingError::invalid_argument(format!(
                "num_batch_threads must be positive; was {count}"
            )));
        }
        // The system refuses a name with a zero byte.
        let name = options.thread_pool_name.replace('\0', "");
        let mut scheduler = Self {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        let count = usize::try_from(count.min(MAX_THREADS)).unwrap_or(1);
        scheduler.shared.lock().threads = count;
        for number in 0..=count {
            let shared = Arc::clone(&scheduler.shared);
            let (name, of_further) = (name.clone(), name.clone());
            let thread = std::thread::Builder::new().name(name);
            let thread = thread
                .spawn(move || match number {
                    0 => shared.look_after_others(&of_further),
                    _ => shared.work(),
                })
                .map_err(|error| {
                    let text = format!("cannot start a batch thread: {error}");
                    ServingError::new(Code::ResourceExhausted, text).caused_by(error)
                })?;
            scheduler.threads.push(thread);
        }
        Ok(scheduler)
    }

    /// Puts a request into the queue of its graph and outputs (`fetches`, sorted). Returns one ticket
    /// for each part that the request is split into, in order.
    ///
    /// If a request is to run inline and does not have to wait for others, it is returned as a batch of its
    /// own, which the caller has to execute.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::admit`](super::queue::Queue::admit); `UNAVAILABLE` if too many sets of outputs have waiting tasks.
    pub(super) fn submit(
        &self,
        graph: &Arc<BatchedGraph>,
        fetches: &[usize],
        request: Request,
        decision: &Decision,
    ) -> Result<(Vec<Ticket>, Option<Batch>)> {
        let enqueued = Instant::now();
        let deadline = request.deadline.unwrap_or(enqueued + DEFAULT_TIMEOUT);
        let mut state = self.shared.lock();
        let index = state.queue_index(graph, fetches)?;
        let (queues, next_number) = state.parts();
        let queue = &mut queues[index];
        let admitted = queue
            .admit(&request.feeds, request.rows)
            .and_then(|sizes| request.split(&sizes));
        let parts = match admitted {
            Ok(parts) => parts,
            Err(error) => {
                state.drop_if_empty(index);
                return Err(error);
            }
        };
        let is_lone = queue.is_empty() && parts.len() == 1;
        let is_inline = decision.place == Placement::Inline;
        let reason = reason_in_queue(decision);
        let mut news = 0;
        let mut tickets = Vec::with_capacity(parts.len());
        for (feeds, rows) in parts {
            let times = (enqueued, deadline);
            let waiting = graph.metrics.enqueue();
            let (task, run, answer) = Task::new(feeds, rows, times, reason, waiting);
            *next_number += 1;
            let (batch, is_news) = queue.push(task, *next_number);
            news += usize::from(is_news);
            tickets.push(Ticket {
                shared: Arc::clone(&self.shared),
                position: QueuePosition {
                    graph: Arc::clone(graph),
                    fetches: fetches.to_vec(),
                    batch,
                },
                deadline,
                run,
                answer,
                has_left: false,
            });
        }
        let batch = match is_lone && is_inline {
            true => state.take_from(index, enqueued),
            false => None,
        };
        if batch.is_none() {
            for _ in 0..news {
                self.shared.work.notify_one();
            }
            self.shared.rouse(&mut state);
        }
        Ok((tickets, batch))
    }
}

/// The reason for a task that waits in a queue.
fn reason_in_queue(decision: &Decision) -> Reason {
    match decision.place {
        Placement::Inline => Reason::Waits,
        _ => decision.reason,
    }
}

impl Drop for BatchScheduler {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        self.shared.others.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a batch thread ended abnormally");
            }
        }
    }
}

/// A request to run a graph.
pub(super) struct Request {
    pub(super) feeds: Vec<Tensor>,
    pub(super) rows: usize,
    pub(super) deadline: Option<Instant>,
}

impl Request {
    /// The feeds of parts of these sizes, as views.
    fn split(self, sizes: &[usize]) -> Result<Vec<(Vec<Tensor>, usize)>> {
        if sizes == [self.rows] {
            return Ok(vec![(self.feeds, self.rows)]);
        }
        let mut start = 0;
        let mut parts = Vec::with_capacity(sizes.len());
        for &size in sizes {
            let feeds = self.feeds.iter();
            let feeds = feeds.map(|feed| rows::slice(feed, start..start + size));
            parts.push((feeds.collect::<Result<_>>()?, size));
            start += size;
        }
        Ok(parts)
    }
}

impl Shared {
    /// The main loop of a batch thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(batch) = state.take_ready(now) {
                state.busy += 1;
                state.taken = Some(now);
                if !state.queues.is_empty() {
                    // Another thread has to look after the remaining queues.
                    self.work.notify_one();
                    self.rouse(&mut state);
                }
                drop(state);
                // If a batch panics, its tasks are answered by being dropped.
                panics::catch_panic("a batch", || batch.execute());
                state = self.lock();
                state.busy -= 1;
                continue;
            }
            if state.stopping {
                return;
            }
            state = match state.next_due() {
                Some(due) => {
                    let wait = due.saturating_duration_since(now);
                    let woken = self.work.wait_timeout(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.work.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// The main loop of the thread that looks after the graphs that get none of the batch threads.
    fn look_after_others(&self, name: &str) {
        let mut state = self.lock();
        while !state.stopping {
            if state.queues.is_empty() || state.busy < state.threads {
                state.is_others_asleep = true;
                let woken = self.others.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let kept = state.taken.map(|it| now.saturating_duration_since(it));
            let kept = kept.unwrap_or_default();
            let wait = match KEPT_AFTER.checked_sub(kept) {
                Some(rest) if !rest.is_zero() => rest,
                _ => LOOK_INTERVAL,
            };
            let batch = match kept >= KEPT_AFTER {
                true => state.take_of_idle_graph(now),
                false => None,
            };
            if let Some(batch) = batch {
                drop(state);
                start_further(name, batch);
                state = self.lock();
                continue;
            }
            let woken = self.others.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Runs a batch on a new thread that ends after it.
fn start_further(name: &str, batch: Batch) {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        panics::catch_panic("a batch", || batch.execute());
    });
    if let Err(error) = started {
        tracing::error!(%error, "cannot start a further batch thread");
    }
}
