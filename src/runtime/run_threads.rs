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

/// Does `work` on a thread where it may block, unless the receiver is dropped before it begins. The
/// receiver fails if `work` panicked or no thread could be started.
pub(super) fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    THREADS.spawn(work)
}

type Job = Box<dyn FnOnce() + Send>;

struct RunThreads {
    state: Mutex<State>,
    max_threads: usize,
    keep_alive: Duration,
}

struct State {
    /// Nobody is idle while jobs wait.
    waiting: VecDeque<Job>,
    /// The last became idle last.
    idle: Vec<Arc<mpsc::SyncSender<Job>>>,
    threads: usize,
}

impl RunThreads {
    const fn new(max_threads: usize, keep_alive: Duration) -> Self {
        let state = State {
            waiting: VecDeque::new(),
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
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(move || {
            if !sender.is_closed() {
                // Whoever waited may have gone meanwhile.
                let _ = sender.send(work());
            }
        }));
        receiver
    }

    fn submit(&'static self, job: Job) {
        let mut state = self.lock();
        if let Some(thread) = state.idle.pop() {
            drop(state);
            // It ends only where it finds itself among the idle ones.
            let _ = thread.send(job);
            return;
        }
        state.waiting.push_back(job);
        if state.threads == self.max_threads {
            return;
        }
        state.threads += 1;
        drop(state);
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
        if let Some(job) = state.waiting.pop_front() {
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

    use super::*;

    /// Longest wait for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn threads(max_threads: usize, keep_alive: Duration) -> &'static RunThreads {
        Box::leak(Box::new(RunThreads::new(max_threads, keep_alive)))
    }

    /// Occupies a thread until something is sent; says which.
    fn occupy(threads: &'static RunThreads) -> (mpsc::Sender<()>, oneshot::Receiver<ThreadId>) {
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

    fn finish((go_on, work): (mpsc::Sender<()>, oneshot::Receiver<ThreadId>)) -> ThreadId {
        go_on.send(()).unwrap();
        work.blocking_recv().unwrap()
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
            work.blocking_recv().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
        assert_eq!(threads.lock().threads, 1);
    }

    #[test]
    fn what_nobody_waits_for_does_not_begin() {
        let threads = threads(1, PATIENCE);
        let first = occupy(threads);
        let (says, said) = mpsc::channel();
        drop(threads.spawn(move || says.send(())));
        finish(first);
        // The sender is dropped with the job.
        assert_eq!(
            said.recv_timeout(PATIENCE),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn a_panic_ends_its_job_only() {
        let threads = threads(1, PATIENCE);
        let failed = threads.spawn(|| panic!("on purpose"));
        assert!(failed.blocking_recv().is_err());
        assert_eq!(threads.spawn(|| 7).blocking_recv(), Ok(7));
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
            assert_eq!(threads.spawn(move || number).blocking_recv(), Ok(number));
        }
    }
}
