//! The process's threads for runs, which may block: as many as there are such runs at a time.
//!
//! The thread that became idle last has the next run. Its processor is the one that a run has just
//! left, and Linux wakes a thread where it ran before: the one that slept longest, which tokio would
//! wake, may have to wait for another run there while a processor is idle (`docs/performance.md`).
//!
//! Models share the threads: each may have a number that follows from the CPUs, and no more than are left
//! then, so that models whose runs do not end leave some to others. A model without a run has a thread in
//! any case. Further runs wait, and models take turns.
//!
//! Not here: which runs need a thread (`short_runs`), and batches, which have threads of their own.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::panics;

/// Runs at a time that models share. Each model's first run comes on top.
const MAX_THREADS: usize = 512;
/// Runs of one model at a time, for each CPU and at least. Runs are work for a CPU, so that more at a
/// time gain nothing but turns for short runs behind long ones of their own model.
const RUNS_PER_CPU: usize = 4;
const MIN_RUNS_OF_MODEL: usize = 32;
/// A thread that has had nothing to do for so long ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

static THREADS: RunThreads = RunThreads::new(MAX_THREADS, KEEP_ALIVE);

/// Does `work` of one model on a thread where it may block, unless its place is dropped while it waits
/// for one. The receiver fails if `work` panicked or no thread could be started.
pub(super) fn spawn<T: Send + 'static>(
    share: &Arc<Share>,
    work: impl FnOnce() -> T + Send + 'static,
) -> (oneshot::Receiver<T>, Place) {
    THREADS.spawn(share, work)
}

/// How many runs of one model may have a thread at a time.
fn max_of_model() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        MIN_RUNS_OF_MODEL.max(RUNS_PER_CPU * cpus)
    })
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

struct RunThreads {
    state: Mutex<State>,
    max_threads: usize,
    keep_alive: Duration,
}

struct State {
    /// Jobs that are counted as running, for which a thread starts or ends its run. None is idle
    /// while there are any.
    ready: VecDeque<Job>,
    /// Jobs of models that have their share, in the order of the models' turns. None is empty.
    waiting: VecDeque<VecDeque<Job>>,
    last_number: u64,
    /// The last became idle last.
    idle: Vec<Arc<mpsc::SyncSender<Job>>>,
    threads: usize,
    /// Threads that have not looked for a job yet.
    starting: usize,
    /// Runs of all models.
    running: usize,
}

impl State {
    /// Whether one more run of a model may have a thread.
    fn has_room(&self, share: &Share, max_threads: usize) -> bool {
        let running = share.running.load(Ordering::Relaxed);
        let left = max_threads.saturating_sub(self.running);
        running == 0 || running < left.min(max_of_model())
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
    fn promote(&mut self, max_threads: usize) {
        while let Some(index) = self.waiting.iter().position(|queue| {
            let first = queue.front();
            first.is_some_and(|it| self.has_room(&it.share, max_threads))
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
    const fn new(max_threads: usize, keep_alive: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            last_number: 0,
            idle: Vec::new(),
            threads: 0,
            starting: 0,
            running: 0,
        };
        Self {
            state: Mutex::new(state),
            max_threads,
            keep_alive,
        }
    }

    fn spawn<T: Send + 'static>(
        &'static self,
        share: &Arc<Share>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> (oneshot::Receiver<T>, Place) {
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move || {
            // Whoever waited may have gone meanwhile.
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
        if !state.has_room(&job.share, self.max_threads) {
            state.wait(job);
            return Some(number);
        }
        state.begin(&job.share);
        if let Some(thread) = state.idle.pop() {
            drop(state);
            // It ends only where it finds itself among the idle ones.
            let _ = thread.send(job);
            return None;
        }
        state.ready.push_back(job);
        self.find_threads(state);
        Some(number)
    }

    /// Gives each ready job a thread that is idle, or starts one.
    fn find_threads(&'static self, mut state: MutexGuard<'_, State>) {
        while state.ready.len() > state.starting {
            if let Some(thread) = state.idle.pop() {
                if let Some(job) = state.ready.pop_front() {
                    // The channel has room for it: nothing waits here.
                    let _ = thread.send(job);
                }
                continue;
            }
            state.threads += 1;
            state.starting += 1;
            drop(state);
            let is_started = self.start_thread();
            state = self.lock();
            if !is_started {
                state.threads -= 1;
                state.starting -= 1;
                if state.threads == 0 {
                    self.give_up(state);
                }
                return;
            }
        }
    }

    /// Without any thread nothing waits.
    fn give_up(&self, mut state: MutexGuard<'_, State>) {
        let ready = std::mem::take(&mut state.ready);
        for job in &ready {
            state.end(&job.share);
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop((ready, waiting));
    }

    fn start_thread(&'static self) -> bool {
        let thread = std::thread::Builder::new().name("run".to_owned());
        let started = thread.spawn(|| self.work());
        if let Err(error) = &started {
            tracing::error!(%error, "cannot start a thread for runs");
        }
        started.is_ok()
    }

    fn work(&'static self) {
        // One job at a time is sent to a thread.
        let (sender, jobs) = mpsc::sync_channel(1);
        let sender = Arc::new(sender);
        let mut ended = None;
        while let Some(Job { share, work, .. }) = self.next(ended.take(), &sender, &jobs) {
            panics::round("a thread for runs", work);
            ended = Some(share);
        }
    }

    /// Waits for a job; `None` where the thread has to end. A run of this share has just ended.
    fn next(
        &'static self,
        ended: Option<Arc<Share>>,
        sender: &Arc<mpsc::SyncSender<Job>>,
        jobs: &mpsc::Receiver<Job>,
    ) -> Option<Job> {
        let mut state = self.lock();
        match ended {
            Some(share) => {
                state.end(&share);
                state.promote(self.max_threads);
            }
            None => state.starting -= 1,
        }
        if let Some(job) = state.ready.pop_front() {
            self.find_threads(state);
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

    /// Takes a job that has not begun out of its queue. Its model's turn may come to others.
    fn leave(&'static self, number: u64) -> Option<Job> {
        let mut state = self.lock();
        let left = state.leave(number)?;
        state.promote(self.max_threads);
        self.find_threads(state);
        Some(left)
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

    fn share() -> Arc<Share> {
        Arc::default()
    }

    fn waiting(threads: &RunThreads) -> usize {
        let state = threads.lock();
        state.waiting.iter().map(VecDeque::len).sum::<usize>() + state.ready.len()
    }

    type Work<T> = (oneshot::Receiver<T>, Place);

    fn finished<T>((receiver, _place): Work<T>) -> Result<T, RecvError> {
        receiver.blocking_recv()
    }

    /// Occupies a thread until something is sent; says which.
    fn occupy(threads: &'static RunThreads) -> (mpsc::Sender<()>, Work<ThreadId>) {
        occupy_for(&share(), threads)
    }

    fn occupy_for(
        share: &Arc<Share>,
        threads: &'static RunThreads,
    ) -> (mpsc::Sender<()>, Work<ThreadId>) {
        let (go_on, wait) = mpsc::channel();
        let (begins, begun) = mpsc::channel();
        let work = threads.spawn(share, move || {
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
        let share = share();
        let first = occupy_for(&share, threads);
        let order = Arc::new(Mutex::new(Vec::new()));
        let later: Vec<_> = (0..4)
            .map(|number| {
                let order = Arc::clone(&order);
                threads.spawn(&share, move || order.lock().unwrap().push(number))
            })
            .collect();
        assert_eq!(waiting(threads), 4);
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
        let share = share();
        let first = occupy_for(&share, threads);
        let held = Arc::new(());
        let [before, given_up, after] = [(), (), ()].map(|()| {
            let held = Arc::clone(&held);
            threads.spawn(&share, move || drop(held))
        });
        drop(given_up);
        assert_eq!(waiting(threads), 2);
        assert_eq!(Arc::strong_count(&held), 3);
        finish(first);
        assert_eq!(finished(before), Ok(()));
        assert_eq!(finished(after), Ok(()));
    }

    #[test]
    fn a_panic_ends_its_job_only() {
        let threads = threads(1, PATIENCE);
        let share = share();
        let failed = threads.spawn(&share, || panic!("on purpose"));
        assert!(finished(failed).is_err());
        assert_eq!(finished(threads.spawn(&share, || 7)), Ok(7));
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
            assert_eq!(
                finished(threads.spawn(&share(), move || number)),
                Ok(number)
            );
        }
    }

    #[test]
    fn a_model_leaves_half_of_what_is_left_to_others() {
        let threads = threads(16, PATIENCE);
        let mut held = Vec::new();
        let mut counts = Vec::new();
        for _ in 0..6 {
            let share = share();
            let before = held.len();
            loop {
                let (go_on, wait) = mpsc::channel::<()>();
                let work = threads.spawn(&share, move || wait.recv().is_err());
                held.push((go_on, work));
                if waiting_of(threads, &share) > 0 {
                    break;
                }
            }
            counts.push(held.len() - before - 1);
        }
        // The last two have one each, though the others have all.
        assert_eq!(counts, [8, 4, 2, 1, 1, 1]);
        drop(held);
        poll_until(|| threads.lock().running == 0);
        assert_eq!(waiting(threads), 0);
    }

    fn waiting_of(threads: &RunThreads, share: &Arc<Share>) -> usize {
        let state = threads.lock();
        let jobs = state.waiting.iter().flatten();
        jobs.filter(|it| Arc::ptr_eq(&it.share, share)).count()
    }

    #[test]
    fn models_that_wait_take_turns() {
        let threads = threads(2, PATIENCE);
        let shares = [share(), share()];
        let first = shares.each_ref().map(|share| occupy_for(share, threads));
        let order = Arc::new(Mutex::new(Vec::new()));
        let [a, b] = &shares;
        let works: Vec<_> = [(a, "a1"), (a, "a2"), (a, "a3"), (b, "b1"), (b, "b2")]
            .into_iter()
            .map(|(share, name)| {
                let order = Arc::clone(&order);
                threads.spawn(share, move || order.lock().unwrap().push(name))
            })
            .collect();
        assert_eq!(waiting(threads), 5);
        for each in first {
            finish(each);
        }
        for work in works {
            finished(work).unwrap();
        }
        let order = order.lock().unwrap();
        let of = |model: &str| -> Vec<_> {
            let names = order.iter().filter(|it| it.starts_with(model));
            names.copied().collect()
        };
        assert_eq!(
            (of("a"), of("b")),
            (vec!["a1", "a2", "a3"], vec!["b1", "b2"])
        );
    }

    #[test]
    fn versions_of_a_model_have_one_share() {
        let share = Share::of_model("one");
        assert!(Arc::ptr_eq(&share, &Share::of_model("one")));
        assert!(!Arc::ptr_eq(&share, &Share::of_model("another")));
    }
}
