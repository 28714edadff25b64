//! The threads that look at base paths. One is enough while file systems answer. If looks hang, more
//! are started, so that all models whose file system answers are still looked at.
//!
//! No lock is held during a call into a file system or while logging. A thread that hangs is left
//! alone: the server does not wait for it when it stops.
//!
//! Not here: which model is next (`source::queue`), the look itself (`source::model_poll`).

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::model_poll::{Found, Look, Rest};
use super::queue::{Job, PollRequest, PollResult, Queue};
use super::{AspiredVersionsSink, Serves, WatchedModel};
use base::error::{Code, Result, ServingError};
use base::panics;
use storage::local::Storage;

/// If all threads are busy for this time, others are added.
const GRACE: Duration = Duration::from_millis(250);
/// How often to check for looks that hang.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of threads. If as many base paths hang, other base paths are not looked at.
const MAX_WORKERS: usize = 1024;
/// A request is given up if no look has ended for this time.
const NO_PROGRESS: Duration = Duration::from_secs(15);
/// How long `stop` waits for looks to end.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// The threads' dependencies.
pub(super) struct Parts {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) sink: Arc<dyn AspiredVersionsSink>,
    pub(super) serves: Box<Serves>,
    pub(super) companion_wait: Duration,
}

/// Looks at models until it is stopped.
pub(super) struct PollThreads {
    shared: Arc<Shared>,
    /// The thread that supervises the others. Taken on stop.
    overseer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    parts: Parts,
    /// Held while the sink is notified, and while the models change: the result of a look at an old set
    /// of models must not arrive after the change to a new one.
    publishing: Mutex<()>,
    /// Held only for a few instructions.
    state: Mutex<State>,
    /// Signals that there is work, or that the threads are to stop.
    work: Condvar,
    /// Signals work for the overseer.
    news: Condvar,
    /// Signals that a look or a thread has ended.
    ended: Condvar,
}

struct State {
    queue: Queue,
    /// Why models have no version, by name, according to the last look.
    remarks: HashMap<Arc<str>, String>,
    workers: usize,
    /// Workers that wait for work.
    idle: usize,
    /// Whether the overseer knows that looks are running.
    is_overseen: bool,
    is_stopped: bool,
}

impl PollThreads {
    /// No thread is started before the first request.
    pub(super) fn new(parts: Parts, queue: Queue) -> Self {
        let shared = Shared {
            parts,
            publishing: Mutex::default(),
            state: Mutex::new(State {
                queue,
                remarks: HashMap::new(),
                workers: 0,
                idle: 0,
                is_overseen: false,
                is_stopped: false,
            }),
            work: Condvar::new(),
            news: Condvar::new(),
            ended: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            overseer: Mutex::default(),
        }
    }

    /// Changes the set of models, and notifies the sink of those that were removed.
    pub(super) fn replace(&self, models: Vec<Arc<WatchedModel>>, gone: &[Arc<str>]) {
        let _publishing = lock(&self.shared.publishing);
        {
            let mut state = self.shared.lock();
            state.remarks.clear();
            state.queue.replace(models);
        }
        for name in gone {
            self.shared
                .parts
                .sink
                .set_aspired_versions(name, Vec::new());
        }
    }

    /// Requests a look at every model, and waits for the results. A version seen for the first time is
    /// looked at again after `gap`. If a model's only version keeps changing, it is waited for up to
    /// `patience`.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` if no thread can be started for it.
    pub(super) fn ask(
        &self,
        gap: Duration,
        patience: Duration,
    ) -> Result<Vec<(Arc<WatchedModel>, Result<PollResult>)>> {
        self.ensure_overseer()?;
        let requests = {
            let mut state = self.shared.lock();
            state.is_overseen = true;
            state.queue.ask(Instant::now(), gap)
        };
        self.shared.work.notify_one();
        self.shared.news.notify_one();
        Ok(self.shared.await_results(requests, patience))
    }

    /// The models whose base path does not answer.
    pub(super) fn stalled(&self) -> Vec<Arc<str>> {
        self.shared.lock().queue.stalled(Instant::now())
    }

    /// Why a model has no version, as far as the last look shows.
    pub(super) fn remark(&self, model: &str) -> Option<String> {
        self.shared.lock().remarks.get(model).cloned()
    }

    /// Ends the threads, and the requests that wait. Looks that hang are left alone.
    pub(super) fn stop(&self) {
        let begin = Instant::now();
        if std::mem::replace(&mut self.shared.lock().is_stopped, true) {
            return;
        }
        self.shared.work.notify_all();
        self.shared.news.notify_all();
        self.shared.ended.notify_all();
        let overseer = lock(&self.overseer).take();
        if let Some(overseer) = overseer
            && overseer.join().is_err()
        {
            error!("the thread that sees to the search for versions panicked");
        }
        let mut state = self.shared.lock();
        while state.workers > 0 && begin.elapsed() < STOP_PATIENCE {
            state = wait(&self.shared.ended, state, STOP_PATIENCE);
        }
    }

    fn ensure_overseer(&self) -> Result<()> {
        let mut overseer = lock(&self.overseer);
        if overseer.is_some() || self.shared.lock().is_stopped {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let spawned = Builder::new()
            .name("version-poller".to_owned())
            .spawn(move || shared.oversee());
        *overseer = Some(spawned.map_err(|error| {
            let text = format!("no thread to look for versions: {error}");
            ServingError::new(Code::ResourceExhausted, text).caused_by(error)
        })?);
        Ok(())
    }
}

impl Drop for PollThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn await_results(
        &self,
        requests: Vec<PollRequest>,
        patience: Duration,
    ) -> Vec<(Arc<WatchedModel>, Result<PollResult>)> {
        let begin = Instant::now();
        let mut last_progress = begin;
        let mut answers = Vec::with_capacity(requests.len());
        let mut state = self.lock();
        for request in requests {
            let answer = loop {
                let now = Instant::now();
                if state.is_stopped {
                    let text = "the server is shutting down";
                    break Err(ServingError::new(Code::Cancelled, text));
                }
                match state.queue.answer(&request, now) {
                    Some(Ok(answer))
                        if answer.versions == 0
                            && answer.rest == Rest::Version
                            && begin.elapsed() < patience =>
                    {
                        last_progress = now;
                    }
                    Some(answer) => {
                        last_progress = now;
                        break answer;
                    }
                    None if last_progress.elapsed() >= NO_PROGRESS => {
                        let text = "there was no thread to look for versions";
                        break Err(ServingError::new(Code::ResourceExhausted, text));
                    }
                    None => {}
                }
                state = wait(&self.ended, state, GRACE);
            };
            answers.push((request.model, answer));
        }
        answers
    }

    /// Reports looks that hang, and adds threads if all are busy.
    fn oversee(self: &Arc<Self>) {
        let mut failed_before = false;
        let mut state = self.lock();
        while !state.is_stopped {
            let now = Instant::now();
            let reports = state.queue.take_reports(now);
            if !reports.is_empty() {
                drop(state);
                for report in reports {
                    error!("{report}; its versions keep serving until it does");
                }
                state = self.lock();
                continue;
            }
            let has_work = state.queue.next_due().is_some_and(|due| due <= now);
            let is_stuck = state.queue.count_longer_than(GRACE, now) >= state.workers;
            if has_work && state.idle == 0 && is_stuck && state.workers < MAX_WORKERS {
                // If a mount with many models hangs, adding threads one by one would take long.
                let more = state.workers.clamp(1, MAX_WORKERS - state.workers);
                state.workers += more;
                drop(state);
                let failures = (0..more)
                    .filter(|_| !self.add_worker(failed_before))
                    .count();
                failed_before = failures > 0;
                state = self.lock();
                state.workers -= failures;
                if failures > 0 {
                    state = wait(&self.news, state, CHECK_INTERVAL);
                }
                continue;
            }
            let is_quiet = state.queue.running() == 0 && !has_work;
            state = if is_quiet {
                state.is_overseen = false;
                let waited = self.news.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else if has_work || state.queue.has_unreported() {
                wait(&self.news, state, GRACE)
            } else {
                wait(&self.news, state, CHECK_INTERVAL)
            };
        }
    }

    /// Starts a thread that is already counted. Returns whether this succeeded.
    fn add_worker(self: &Arc<Self>, failed_before: bool) -> bool {
        let shared = Arc::clone(self);
        let spawned = Builder::new()
            .name("version-look".to_owned())
            .spawn(move || shared.work());
        if let Err(error) = &spawned
            && !failed_before
        {
            error!(%error, "no thread to look for versions");
        }
        spawned.is_ok()
    }

    fn work(&self) {
        let mut state = self.lock();
        while !state.is_stopped {
            let now = Instant::now();
            if let Some(job) = state.queue.next(now) {
                let is_overseen = std::mem::replace(&mut state.is_overseen, true);
                drop(state);
                if !is_overseen {
                    self.news.notify_one();
                }
                self.look(&job);
                state = self.lock();
                continue;
            }
            // One waiting thread is enough.
            if state.idle > 0 {
                break;
            }
            state.idle += 1;
            let time = state.queue.next_due().map(|due| due - now);
            state = match time {
                Some(time) => wait(&self.work, state, time),
                None => {
                    let waited = self.work.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
            state.idle -= 1;
        }
        state.workers -= 1;
        drop(state);
        self.ended.notify_all();
    }

    /// Looks at a model, and notifies the sink.
    fn look(&self, job: &Job) {
        let sink = &self.parts.sink;
        let found = panics::caught(|| {
            lock(&job.poll).look(&Look {
                model: &job.model,
                storage: self.parts.storage.as_ref(),
                serves: &self.parts.serves,
                loaded: &|model, version, directory| sink.loaded_files(model, version, directory),
                gap: job.gap,
                companion_wait: self.parts.companion_wait,
            })
        });
        let found = found.unwrap_or_else(|panic| {
            error!(panic, "the search for versions panicked and goes on");
            let text = format!("the search for versions panicked: {panic}");
            Err(ServingError::internal(text))
        });
        let model = &job.model;
        if let Err(error) = &found {
            error!(
                "FileSystemStoragePathSource encountered a filesystem access error: Could not find \
                 base path {} for servable {} with error {}: {}",
                model.base_path.display(),
                model.name,
                error.code(),
                error.report()
            );
        }
        if panics::caught(|| self.publish(job, &found)).is_err() {
            error!("the manager panicked on the versions of {}", model.name);
        }
        let remark = match &found {
            Ok(Found::Unsure) => None,
            Ok(Found::Aspired { .. }) => {
                let poll = lock(&job.poll);
                Some(poll.remark().map(str::to_owned))
            }
            Err(error) => Some(Some(format!("{}: {error}", error.code()))),
        };
        let mut state = self.lock();
        if let Some(remark) = remark
            && state.queue.is_current(job)
        {
            match remark {
                Some(remark) => state.remarks.insert(Arc::clone(&model.name), remark),
                None => state.remarks.remove(&model.name),
            };
        }
        let was_reported = state.queue.finish(job, Instant::now(), found);
        let has_idle = state.idle > 0;
        drop(state);
        if has_idle {
            self.work.notify_one();
        }
        self.ended.notify_all();
        if was_reported {
            let path = model.base_path.display();
            info!("the base path {path} of model {} answers again", model.name);
        }
    }

    fn publish(&self, job: &Job, found: &Result<Found>) {
        let Ok(Found::Aspired { versions, .. }) = found else {
            return;
        };
        let _publishing = lock(&self.publishing);
        let is_wanted = {
            let state = self.lock();
            // After a look that hung, the versions it saw can be long outdated.
            !state.is_stopped && state.queue.is_current(job) && !job.has_stalled(Instant::now())
        };
        if is_wanted {
            let sink = &self.parts.sink;
            sink.set_aspired_versions(&job.model.name, versions.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    time: Duration,
) -> MutexGuard<'a, State> {
    let waited = condition.wait_timeout(state, time);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
