//! The process's threads for runs, which may block: as many as there are such runs at a time.
//!
//! The thread that became idle last has the next run. Its processor is the one that a run has just
//! left, and Linux wakes a thread where it ran before: the one that slept longest, which tokio would
//! wake, may have to wait for another run there while a processor is idle (`docs/performance.md`).
//!
//! Not here: which runs need a thread (`short_runs`), and batches, which have threads of their own.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::panics;

/// More runs at a time wait for a thread.
const MAX_THREADS: usize = 512;
/// A thread that has had nothing to do for so long ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

static THREADS: RunThreads = RunThreads::new(MAX_THREADS, KEEP_ALIVE);

/// Does `work` on a thread where it may block, unless its place is dropped while it waits for one. The
/// receiver fails if `work` panicked or no thread could be started.
pub(super) fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> (oneshot::Receiver<T>, Place) {
    THREADS.spawn(work)
}

/// Of work that may have to wait for a thread. It leaves, with all it holds, when this is dropped.
#[must_use]
pub(super) struct Place {
    threads: &'static RunThreads,
    /// `None` for work that had a thread at once.
    number: Option<u64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // What it holds may be large: not dropped while others want the lock.
            let _left = self.threads.lock().leave(number);
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct RunThreads {
    state: Mutex<State>,
    max_threads: usize,
    keep_alive: Duration,
}

struct State {
    /// In ascending order of their numbers. Nobody is idle while jobs wait.
    waiting: VecDeque<(u64, Job)>,
    last_number: u64,
    /// The last became idle last.
    idle: Vec<Arc<mpsc::SyncSender<Job>>>,
    threads: usize,
}

impl State {
    fn enqueue(&mut self, job: Job) -> u64 {
        self.last_number += 1;
        self.waiting.push_back((self.last_number, job));
        self.last_number
    }

    fn leave(&mut self, number: u64) -> Option<(u64, Job)> {
        let index = self.waiting.binary_search_by_key(&number, |it| it.0);
        self.waiting.remove(index.ok()?)
    }
}

impl RunThreads {
    const fn new(max_threads: usize, keep_alive: Duration) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            last_number: 0,
            idle: Vec::new(),
            threads: 0,
        };
        Self {
            state: Mutex::new(state),
            max_threads,
            keep_alive,
        }
    }

    fn spawn<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> (oneshot::Receiver<T>, Place) {
        let (sender, receiver) = oneshot::channel();
        let number = self.submit(Box::new(move || {
            // Whoever waited may have gone meanwhile.
            let _ = sender.send(work());
        }));
        let threads = self;
        (receiver, Place { threads, number })
    }

    /// The number of the job among those that wait, if it has to.
    fn submit(&'static self, job: Job) -> Option<u64> {
        let mut state = self.lock();
        if let Some(thread) = state.idle.pop() {
            drop(state);
            // It ends only where it finds itself among the idle ones.
            let _ = thread.send(job);
            return None;
        }
        let number = state.enqueue(job);
        if state.threads < self.max_threads {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
        Some(number)
    }

    /// Starts a thread, which is counted already. Without any, nothing waits.
    fn start_thread(&'static self) {
        let thread = std::thread::Builder::new().name("run".to_owned());
        if let Err(error) = thread.spawn(|| self.work()) {
            tracing::error!(%error, "cannot start a thread for runs");
            let mut state = self.lock();
            state.threads -= 1;
            if state.threads == 0 {
                state.waiting.clear();
            }
        }
    }

    fn work(&self) {
        // One job at a time is sent to a thread.
        let (sender, jobs) = mpsc::sync_channel(1);
        let sender = Arc::new(sender);
        while let Some(job) = self.next(&sender, &jobs) {
            panics::round("a thread for runs", job);
        }
    }

    /// Waits for a job; `None` where the thread has to end.
    fn next(&self, sender: &Arc<mpsc::SyncSender<Job>>, jobs: &mpsc::Receiver<Job>) -> Option<Job> {
        let mut state = self.lock();
        if let Some((_, job)) = state.waiting.pop_front() {
            return Some(job);
        }
        state.idle.push(Arc::clone(sender));
        drop(state);
        if let Ok(job) = jobs.recv_timeout(self.keep_alive) {
            return Some(job);
        }
        let mut state = self.lock();
        let place = state.idle.iter().position(|it| Arc::ptr_eq(it, sender));
        if let Some(place) = place {
            state.idle.remove(place);
            state.threads -= 1;
            return None;
        }
        drop(state);
        // Somebody has taken it from the idle ones just now.
        jobs.recv().ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};
    use std::time::Instant;

    use tokio::sync::oneshot::error::RecvError;

    use super::*;

    /// Longest wait for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn threads(max_threads: usize, keep_alive: Duration) -> &'static RunThreads {
        Box::leak(Box::new(RunThreads::new(max_threads, keep_alive)))
    }

    type Work<T> = (oneshot::Receiver<T>, Place);

    fn finished<T>((receiver, _place): Work<T>) -> Result<T, RecvError> {
        receiver.blocking_recv()
    }

    /// Occupies a thread until something is sent; says which.
    fn occupy(threads: &'static RunThreads) -> (mpsc::Sender<()>, Work<ThreadId>) {
        let (go_on, wait) = mpsc::channel();
        let (begins, begun) = mpsc::channel();
        let work = threads.spawn(move || {
            begins.send(()).unwrap();
            wait.recv().unwrap();
            current().id()
        });
        begun.recv_timeout(PATIENCE).unwrap();
        (go_on, work)
    }

    fn finish((go_on, work): (mpsc::Sender<()>, Work<ThreadId>)) -> ThreadId {
        go_on.send(()).unwrap();
        finished(work).unwrap()
    }

    fn poll_until(is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_thread_that_was_busy_last_has_the_next_job() {
        let threads = threads(8, PATIENCE);
        let works: Vec<_> = (0..3).map(|_| occupy(threads)).collect();
        for (number, work) in works.into_iter().enumerate() {
            let id = finish(work);
            poll_until(|| threads.lock().idle.len() == number + 1);
            assert_eq!(finish(occupy(threads)), id);
            poll_until(|| threads.lock().idle.len() == number + 1);
        }
        assert_eq!(threads.lock().threads, 3);
    }

    #[test]
    fn jobs_wait_in_order_where_all_threads_are_busy() {
        let threads = threads(1, PATIENCE);
        let first = occupy(threads);
        let order = Arc::new(Mutex::new(Vec::new()));
        let later: Vec<_> = (0..4)
            .map(|number| {
                let order = Arc::clone(&order);
                threads.spawn(move || order.lock().unwrap().push(number))
            })
            .collect();
        assert_eq!(threads.lock().waiting.len(), 4);
        finish(first);
        for work in later {
            finished(work).unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
        assert_eq!(threads.lock().threads, 1);
    }

    #[test]
    fn what_nobody_waits_for_leaves_the_queue() {
        let threads = threads(1, PATIENCE);
        let first = occupy(threads);
        let held = Arc::new(());
        let [before, given_up, after] = [(), (), ()].map(|()| {
            let held = Arc::clone(&held);
            threads.spawn(move || drop(held))
        });
        drop(given_up);
        assert_eq!(threads.lock().waiting.len(), 2);
        assert_eq!(Arc::strong_count(&held), 3);
        finish(first);
        assert_eq!(finished(before), Ok(()));
        assert_eq!(finished(after), Ok(()));
    }

    #[test]
    fn a_panic_ends_its_job_only() {
        let threads = threads(1, PATIENCE);
        let failed = threads.spawn(|| panic!("on purpose"));
        assert!(finished(failed).is_err());
        assert_eq!(finished(threads.spawn(|| 7)), Ok(7));
        assert_eq!(threads.lock().threads, 1);
    }

    #[test]
    fn idle_threads_end_and_others_follow() {
        let threads = threads(8, Duration::ZERO);
        for _ in 0..3 {
            let works: Vec<_> = (0..4).map(|_| occupy(threads)).collect();
            for work in works {
                finish(work);
            }
            poll_until(|| threads.lock().threads == 0);
            assert_eq!(threads.lock().idle.len(), 0);
        }
        // Each is given as the thread of the one before ends.
        for number in 0..2000 {
            assert_eq!(finished(threads.spawn(move || number)), Ok(number));
        }
    }
}
