//! The process's threads for runs, which are allowed to block. There are as many threads as such runs
//! at a time.
//!
//! The thread that became idle last gets the next run. Its CPU has just become free, and Linux wakes a
//! thread where it last ran. The thread that has slept longest, which tokio would wake, might have to
//! wait for another run there while another CPU is idle (`docs/internals/placement.md`).
//!
//! Models share the threads. Runs are CPU-bound: one model gains nothing from many more runs at a time
//! than there are CPUs, and other models lose. So each model has a limit of its own. It also gets no
//! more threads than are left then, so that many models leave room for others, but a model without a
//! run always gets a thread. Further runs wait, and models take turns.
//!
//! A long run continues at a lower priority, which leaves the CPUs to short ones. Its thread ends with
//! it, because it cannot raise its priority again. It starts no other thread either, which would
//! inherit the priority. The watcher starts one instead, a thread that looks for long runs while there
//! are threads. A short run only has to note when it began.
//!
//! Not here: the order in which runs get threads (`state`), which runs need a thread (`graph`), and
//! batches, which have threads of their own.

mod state;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::state::{Job, State};
use super::constants::CONSTANTS;
use super::priority::ThreadNumber;
use base::panics;

static THREADS: LazyLock<BlockingPool> = LazyLock::new(|| {
    let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
    BlockingPool::new(Options::for_cpus(cpus))
});

/// Does `work` of one model on a thread that is allowed to block, unless its place is dropped while it
/// waits for one. The receiver fails if `work` panicked or no thread could be started.
pub(crate) fn spawn<T: Send + 'static>(
    share: &Arc<Share>,
    work: impl FnOnce() -> T + Send + 'static,
) -> (oneshot::Receiver<T>, QueuedJob) {
    THREADS.spawn(share, work)
}

/// The number of runs of one model that have a thread.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Written under the lock of the threads.
    running: AtomicUsize,
}

impl Share {
    /// The share of the model of this name, common to all of its versions.
    pub(crate) fn of_model(name: &str) -> Arc<Self> {
        static SHARES: Mutex<Vec<(String, Weak<Share>)>> = Mutex::new(Vec::new());
        let mut shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|(_, share)| share.strong_count() > 0);
        let found = shares.iter().find(|(of, _)| of == name);
        if let Some(share) = found.and_then(|(_, share)| share.upgrade()) {
            return share;
        }
        let share = Arc::default();
        shares.push((name.to_owned(), Arc::downgrade(&share)));
        share
    }
}

/// The place in the queue of work that might have to wait for a thread. Dropping it removes the work
/// from the queue.
#[must_use]
pub(crate) struct QueuedJob {
    threads: &'static BlockingPool,
    /// `None` for work that got a thread immediately.
    number: Option<u64>,
}

impl Drop for QueuedJob {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // The work can hold much memory: it is dropped without the lock.
            let _left = self.threads.leave(number);
        }
    }
}

struct Options {
    /// The limit of runs at a time for all models together. Each model's first run comes on top.
    max_threads: usize,
    /// Runs of one model at a time.
    max_of_model: usize,
    /// A thread that has been idle for this long ends.
    keep_alive: Duration,
    /// A run that has lasted this long continues at a lower priority, after half as long again at the
    /// latest.
    long: Duration,
    /// A run that has lasted this long leaves one CPU to others, with the same delay.
    very_long: Duration,
}

impl Options {
    fn for_cpus(count: usize) -> Self {
        Self {
            max_threads: CONSTANTS.max_runs,
            max_of_model: CONSTANTS
                .min_runs_of_model
                .max(CONSTANTS.runs_of_model_per_cpu * count),
            keep_alive: CONSTANTS.keep_alive,
            long: CONSTANTS.low_priority_after,
            very_long: CONSTANTS.leave_cpu_after,
        }
    }
}

struct BlockingPool {
    state: Mutex<State>,
    /// There are threads to watch, or a thread of low priority has left a ready job to the watcher.
    watch: Condvar,
    has_watcher: AtomicBool,
    options: Options,
}

/// One of the threads, as others see it.
struct Thread {
    number: ThreadNumber,
    jobs: mpsc::SyncSender<Job>,
    /// When its run began, if it has one. Cleared under the lock of the threads.
    began: Mutex<Option<Instant>>,
    /// Whether it got a low priority, under the lock of the threads.
    is_low: AtomicBool,
    /// Whether it has left a CPU to others, or could not. Used under the lock of the threads.
    left_cpu: AtomicBool,
}

impl Thread {
    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Lowers the priority of a long run, and takes a CPU from a very long one.
    fn restrain(&self, options: &Options) {
        let Some(began) = *self.began() else {
            return;
        };
        let lasted = began.elapsed();
        if !self.is_low() && lasted >= options.long {
            let is_low = self.number.lower(CONSTANTS.niceness);
            self.is_low.store(is_low, Ordering::Relaxed);
        }
        // Only a thread of low priority: it ends with its run.
        let may_leave = self.is_low() && lasted >= options.very_long;
        if may_leave && !self.left_cpu.swap(true, Ordering::Relaxed) {
            self.number.leave_one_cpu();
        }
    }
}

impl BlockingPool {
    const fn new(options: Options) -> Self {
        Self {
            state: Mutex::new(State::new()),
            watch: Condvar::new(),
            has_watcher: AtomicBool::new(false),
            options,
        }
    }

    fn spawn<T: Send + 'static>(
        &'static self,
        share: &Arc<Share>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> (oneshot::Receiver<T>, QueuedJob) {
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move || {
            // The receiver is gone if it has stopped waiting.
            let _ = sender.send(work());
        });
        let number = self.submit(Arc::clone(share), work);
        let threads = self;
        (receiver, QueuedJob { threads, number })
    }

    /// The number of the job in the queue, if it has to wait.
    fn submit(&'static self, share: Arc<Share>, work: Box<dyn FnOnce() + Send>) -> Option<u64> {
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        let job = Job {
            number,
            share,
            work,
        };
        if !state.has_room(&job.share, &self.options) {
            state.wait(job);
            return Some(number);
        }
        state.begin(&job.share);
        if let Some(thread) = state.idle.pop() {
            drop(state);
            // A thread ends only while it is in the idle list.
            let _ = thread.jobs.send(job);
            return None;
        }
        state.ready.push_back(job);
        drop(self.find_threads(state));
        Some(number)
    }

    /// Gives each ready job a thread that is idle, or starts one. Called on threads of normal priority.
    fn find_threads<'a>(&'static self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.ready.len() > state.starting {
            if let Some(thread) = state.idle.pop() {
                if let Some(job) = state.ready.pop_front() {
                    // The channel has room for it: this does not block.
                    let _ = thread.jobs.send(job);
                }
                continue;
            }
            if !state.has_threads() {
                self.watch.notify_one();
            }
            state.starting += 1;
            drop(state);
            self.ensure_watcher();
            let is_started = start_thread("run", || self.work());
            state = self.lock();
            if !is_started {
                state.starting -= 1;
                return match state.has_threads() {
                    true => state,
                    false => self.give_up(state),
                };
            }
        }
        state
    }

    /// Drops all jobs, for when no thread could be started: none of them waits for ever.
    fn give_up<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let ready = std::mem::take(&mut state.ready);
        for job in &ready {
            state.end(&job.share);
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop((ready, waiting));
        self.lock()
    }

    fn ensure_watcher(&'static self) {
        if cfg!(target_os = "linux") && !self.has_watcher.swap(true, Ordering::Relaxed) {
            let is_started = start_thread("watch-runs", || self.watch());
            self.has_watcher.store(is_started, Ordering::Relaxed);
        }
    }

    /// The main loop of the watcher: it sleeps until there are threads, then regularly looks for long
    /// runs.
    fn watch(&'static self) {
        let mut state = self.lock();
        loop {
            for thread in &state.started {
                thread.restrain(&self.options);
            }
            state = self.find_threads(state);
            state = if state.has_threads() {
                let woken = self.watch.wait_timeout(state, self.options.long / 2);
                woken.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let woken = self.watch.wait(state);
                woken.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// The main loop of a thread.
    fn work(&'static self) {
        // A thread is sent one job at a time.
        let (sender, jobs) = mpsc::sync_channel(1);
        let thread = Arc::new(Thread {
            number: ThreadNumber::current(),
            jobs: sender,
            began: Mutex::default(),
            is_low: AtomicBool::new(false),
            left_cpu: AtomicBool::new(false),
        });
        let mut ended = None;
        while let Some(Job { share, work, .. }) = self.next(ended.take(), &thread, &jobs) {
            *thread.began() = Some(Instant::now());
            panics::catch_panic("a thread for runs", work);
            ended = Some(share);
        }
    }

    /// Waits for a job; `None` if the thread has to end. `ended` is the share of a run that has just
    /// ended.
    fn next(
        &'static self,
        ended: Option<Arc<Share>>,
        thread: &Arc<Thread>,
        jobs: &mpsc::Receiver<Job>,
    ) -> Option<Job> {
        let mut state = self.lock();
        match ended {
            Some(share) => {
                *thread.began() = None;
                state.end(&share);
                state.promote(&self.options);
            }
            None => {
                state.starting -= 1;
                state.started.push(Arc::clone(thread));
            }
        }
        if thread.is_low() {
            state.remove(thread);
            if !state.ready.is_empty() {
                self.watch.notify_one();
            }
            return None;
        }
        if let Some(job) = state.ready.pop_front() {
            drop(self.find_threads(state));
            return Some(job);
        }
        state.idle.push(Arc::clone(thread));
        drop(state);
        if let Ok(job) = jobs.recv_timeout(self.options.keep_alive) {
            return Some(job);
        }
        let mut state = self.lock();
        let place = state.idle.iter().position(|it| Arc::ptr_eq(it, thread));
        if let Some(place) = place {
            state.idle.remove(place);
            state.remove(thread);
            return None;
        }
        drop(state);
        // It has just been taken from the idle list.
        jobs.recv().ok()
    }

    /// Removes a job that has not begun from its queue. This can give its model's turn to another.
    fn leave(&'static self, number: u64) -> Option<Job> {
        let mut state = self.lock();
        let left = state.leave(number)?;
        state.promote(&self.options);
        drop(self.find_threads(state));
        Some(left)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    if let Err(error) = &started {
        tracing::error!(%error, "cannot start a thread for runs");
    }
    started.is_ok()
}

#[cfg(test)]
mod tests;
