//! The state under the lock of the pool: the runs that wait, the threads and their numbers.
//!
//! Not here: the lock, and starting and ending threads (`blocking_pool`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Options, Share, Thread};

pub(super) struct Job {
    pub(super) number: u64,
    pub(super) share: Arc<Share>,
    pub(super) work: Box<dyn FnOnce() + Send>,
}

pub(super) struct State {
    /// Jobs that count as running and will get a thread that is starting or ending its run. No thread
    /// is idle while there are any.
    pub(super) ready: VecDeque<Job>,
    /// Jobs of models that have used their share, in the order of the models' turns. No queue is empty.
    pub(super) waiting: VecDeque<VecDeque<Job>>,
    pub(super) last_number: u64,
    /// In the order in which they became idle.
    pub(super) idle: Vec<Arc<Thread>>,
    /// All but those that are starting.
    pub(super) started: Vec<Arc<Thread>>,
    /// Threads that have not looked for a job yet.
    pub(super) starting: usize,
    /// Runs of all models.
    pub(super) running: usize,
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            last_number: 0,
            idle: Vec::new(),
            started: Vec::new(),
            starting: 0,
            running: 0,
        }
    }

    /// Whether the limits allow one more run of a model.
    pub(super) fn has_room(&self, share: &Share, options: &Options) -> bool {
        let running = share.running.load(Ordering::Relaxed);
        let left = options.max_threads.saturating_sub(self.running);
        running == 0 || running < left.min(options.max_of_model)
    }

    pub(super) fn has_threads(&self) -> bool {
        self.starting > 0 || !self.started.is_empty()
    }

    pub(super) fn remove(&mut self, thread: &Arc<Thread>) {
        self.started.retain(|it| !Arc::ptr_eq(it, thread));
    }

    pub(super) fn begin(&mut self, share: &Share) {
        share.running.fetch_add(1, Ordering::Relaxed);
        self.running += 1;
    }

    pub(super) fn end(&mut self, share: &Share) {
        share.running.fetch_sub(1, Ordering::Relaxed);
        self.running -= 1;
    }

    pub(super) fn wait(&mut self, job: Job) {
        let queue = self.waiting.iter_mut().find(|queue| {
            let first = queue.front();
            first.is_some_and(|it| Arc::ptr_eq(&it.share, &job.share))
        });
        match queue {
            Some(queue) => queue.push_back(job),
            None => self.waiting.push_back(VecDeque::from([job])),
        }
    }

    /// Makes waiting jobs ready while there is room: one job of each model in turn.
    pub(super) fn promote(&mut self, options: &Options) {
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

    pub(super) fn leave(&mut self, number: u64) -> Option<Job> {
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
