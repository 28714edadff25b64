//! The process's threads for runs, which may block: as many as there are such runs at a time.
//!
//! The thread that became idle last has the next run. Its processor is the one that a run has just
//! left, and Linux wakes a thread where it ran before: the one that slept longest, which tokio would
//! wake, may have to wait for another run there while a processor is idle (`docs/performance.md`).
//!
//! Models share the threads. Runs are work for CPUs, so that one model gains nothing from many more runs
//! at a time than there are CPUs, and others lose: it has a bound of its own. It may also have no more
//! than are left then, so that many models leave room for others, and a model without a run has a thread
//! in any case. Further runs wait, and models take turns.
//!
//! A run that lasts long goes on at a lower priority, which leaves the CPUs to short ones. Its thread
//! ends with it, since it cannot get rid of that, and starts no other, which would inherit it: this is
//! left to the watcher, the thread that looks for such runs while there are threads. Short runs are not
//! timed by anything but a note of when they began.
//!
//! Not here: which runs need a thread (`short_runs`), and batches, which have threads of their own.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::priority::ThreadNumber;
use base::panics;

/// Runs of one model at a time for each CPU. One would keep it busy; the others let a short run pass long
/// ones of the same model. Each more costs other models' latency: where a thread that holds a lock of ONNX
/// Runtime's arena or of the kernel loses its CPU, all wait for its next turn.
const RUNS_OF_MODEL_PER_CPU: usize = 3;
/// As many runs of one model there may be where CPUs are few.
const MIN_RUNS_OF_MODEL: usize = 6;
/// By how much the priority of a long run is lower. With 10, a CPU gives it a tenth of the time that a
/// short one has.
const NICENESS: i32 = 10;

static THREADS: LazyLock<RunThreads> = LazyLock::new(|| {
    let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
    RunThreads::new(Options::for_cpus(cpus))
});

/// Does `work` of one model on a thread where it may block, unless its place is dropped while it waits
/// for one. The receiver fails if `work` panicked or no thread could be started.
pub(super) fn spawn<T: Send + 'static>(
    share: &Arc<Share>,
    work: impl FnOnce() -> T + Send + 'static,
) -> (oneshot::Receiver<T>, Place) {
    THREADS.spawn(share, work)
}

/// The runs of one model that have a thread.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Written under the lock of the threads.
    running: AtomicUsize,
}

impl Share {
    /// The share of the model of this name, which all of its versions have together.
    pub(super) fn of_model(name: &str) -> Arc<Self> {
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
            let _left = self.threads.leave(number);
        }
    }
}

struct Job {
    number: u64,
    share: Arc<Share>,
    work: Box<dyn FnOnce() + Send>,
}

struct Options {
    /// Runs at a time that models share. Each model's first run comes on top.
    max_threads: usize,
    /// Runs of one model at a time.
    max_of_model: usize,
    /// A thread that has had nothing to do for so long ends.
    keep_alive: Duration,
    /// A run that has lasted so long goes on at a lower priority, half as long later at the latest.
    long: Duration,
}

impl Options {
    fn for_cpus(count: usize) -> Self {
        Self {
            max_threads: 512,
            max_of_model: MIN_RUNS_OF_MODEL.max(RUNS_OF_MODEL_PER_CPU * count),
            keep_alive: Duration::from_secs(10),
            long: Duration::from_secs(1),
        }
    }
}

struct RunThreads {
    state: Mutex<State>,
    /// There are threads to watch, or one of low priority has left a ready job to others.
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
}

impl Thread {
    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Lowers the priority of a run that has lasted so long.
    fn lower_if(&self, long: Duration) {
        let began = *self.began();
        if !self.is_low() && began.is_some_and(|it| it.elapsed() >= long) {
            let is_low = self.number.lower(NICENESS);
            self.is_low.store(is_low, Ordering::Relaxed);
        }
    }
}

struct State {
    /// Jobs that are counted as running, for which a thread starts or ends its run. None is idle
    /// while there are any.
    ready: VecDeque<Job>,
    /// Jobs of models that have their share, in the order of the models' turns. None is empty.
    waiting: VecDeque<VecDeque<Job>>,
    last_number: u64,
    /// The last became idle last.
    idle: Vec<Arc<Thread>>,
    /// All but those that are starting.
    started: Vec<Arc<Thread>>,
    /// Threads that have not looked for a job yet.
    starting: usize,
    /// Runs of all models.
    running: usize,
}

impl State {
    /// Whether one more run of a model may have a thread.
    fn has_room(&self, share: &Share, options: &Options) -> bool {
        let running = share.running.load(Ordering::Relaxed);
        let left = options.max_threads.saturating_sub(self.running);
        running == 0 || running < left.min(options.max_of_model)
    }

    fn has_threads(&self) -> bool {
        self.starting > 0 || !self.started.is_empty()
    }

    fn remove(&mut self, thread: &Arc<Thread>) {
        self.started.retain(|it| !Arc::ptr_eq(it, thread));
    }

    fn begin(&mut self, share: &Share) {
        share.running.fetch_add(1, Ordering::Relaxed);
        self.running += 1;
    }

    fn end(&mut self, share: &Share) {
        share.running.fetch_sub(1, Ordering::Relaxed);
        self.running -= 1;
    }

    fn wait(&mut self, job: Job) {
        let queue = self.waiting.iter_mut().find(|queue| {
            let first = queue.front();
            first.is_some_and(|it| Arc::ptr_eq(&it.share, &job.share))
        });
        match queue {
            Some(queue) => queue.push_back(job),
            None => self.waiting.push_back(VecDeque::from([job])),
        }
    }

    /// Makes what waits ready, as far as there is room: a job of one model after the other.
    fn promote(&mut self, options: &Options) {
        while let Some(index) = self.waiting.iter().position(|queue| {
            let first = queue.front();
            first.is_some_and(|it| self.has_room(&it.share, options))
        }) {
            let Some(mut queue) = self.waiting.remove(index) else {
                return;
            };
            if let Some(job) = queue.pop_front() {
                self.begin(&job.share);
                self.ready.push_back(job);
            }
            if !queue.is_empty() {
                self.waiting.push_back(queue);
            }
        }
    }

    fn leave(&mut self, number: u64) -> Option<Job> {
        let of_number = |it: &Job| it.number == number;
        if let Some(index) = self.ready.iter().position(of_number) {
            let job = self.ready.remove(index)?;
            self.end(&job.share);
            return Some(job);
        }
        for index in 0..self.waiting.len() {
            let queue = &mut self.waiting[index];
            // In ascending order of their numbers.
            let Ok(place) = queue.binary_search_by_key(&number, |it| it.number) else {
                continue;
            };
            let job = queue.remove(place);
            if queue.is_empty() {
                self.waiting.remove(index);
            }
            return job;
        }
        None
    }
}

impl RunThreads {
    const fn new(options: Options) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            last_number: 0,
            idle: Vec::new(),
            started: Vec::new(),
            starting: 0,
            running: 0,
        };
        Self {
            state: Mutex::new(state),
            watch: Condvar::new(),
            has_watcher: AtomicBool::new(false),
            options,
        }
    }

    fn spawn<T: Send + 'static>(
        &'static self,
        share: &Arc<Share>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> (oneshot::Receiver<T>, Place) {
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move || {
            // The receiver is gone if it has stopped waiting.
            let _ = sender.send(work());
        });
        let number = self.submit(Arc::clone(share), work);
        let threads = self;
        (receiver, Place { threads, number })
    }

    /// The number of the job among those that wait, if it has to.
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
            // It ends only where it finds itself among the idle ones.
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
                    // The channel has room for it: nothing waits here.
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

    /// Without any thread nothing waits.
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

    /// The life of the watcher: it sleeps until there are threads, then looks now and then whether a run
    /// is long.
    fn watch(&'static self) {
        let mut state = self.lock();
        loop {
            for thread in &state.started {
                thread.lower_if(self.options.long);
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

    /// The life of a thread.
    fn work(&'static self) {
        // One job at a time is sent to a thread.
        let (sender, jobs) = mpsc::sync_channel(1);
        let thread = Arc::new(Thread {
            number: ThreadNumber::current(),
            jobs: sender,
            began: Mutex::default(),
            is_low: AtomicBool::new(false),
        });
        let mut ended = None;
        while let Some(Job { share, work, .. }) = self.next(ended.take(), &thread, &jobs) {
            *thread.began() = Some(Instant::now());
            panics::round("a thread for runs", work);
            ended = Some(share);
        }
    }

    /// Waits for a job; `None` where the thread has to end. A run of this share has just ended.
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
        // Somebody has taken it from the idle ones just now.
        jobs.recv().ok()
    }

    /// Takes a job that has not begun out of its queue. Its model's turn may come to others.
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
