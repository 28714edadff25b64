//! When to look at which model, and which looks hang.
//!
//! Only one thread at a time looks at a base path. While its look hangs, all other looks at that base
//! path are parked, so a mount that hangs blocks one thread for each base path on it.
//!
//! Plain data: no threads, no file system. Not here: the threads (`source::poll_threads`), the look
//! itself (`source::model_poll`).

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::WatchedModel;
use super::model_poll::{Found, ModelPoll, Rest};
use base::error::{Code, Result, ServingError};

/// A look that takes longer is reported and no longer waited for.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(5);
/// A look is followed by a pause of at least this many times its own duration, so that slow storage is
/// not accessed all the time.
const PAUSE_PER_LOOK: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Identifies a model of the current set. Never reused.
pub(super) type ModelKey = u64;

/// When to look again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The interval after a look at a settled model; `None`: look again only on request.
    pub(super) interval: Option<Duration>,
    /// The gap between two looks at files that have to agree.
    pub(super) gap: Duration,
}

/// The models that are watched.
pub(super) struct Queue {
    timing: Timing,
    /// By key, in the order of the configuration.
    models: HashMap<ModelKey, Slot>,
    next_key: ModelKey,
    /// The times of the next looks.
    due: BTreeSet<(Instant, ModelKey)>,
    /// The running looks by base path, including those at an earlier set of models.
    running: HashMap<PathBuf, Running>,
    /// Models whose base path is being looked at.
    parked: HashMap<PathBuf, Vec<ModelKey>>,
}

struct Slot {
    model: Arc<WatchedModel>,
    /// Locked only by the look that runs at the model's base path.
    poll: Arc<Mutex<ModelPoll>>,
    due: Option<Instant>,
    /// The number of requests asked, and the last one that was answered.
    asked: u64,
    answered: u64,
    /// The gap between two looks until the request is answered.
    hurry: Option<Duration>,
    answer: Option<Result<PollResult>>,
}

/// The result of a look, for the caller who asked.
#[derive(Debug)]
pub(super) struct PollResult {
    /// The number of aspired versions.
    pub(super) versions: usize,
    /// The changes to be expected.
    pub(super) rest: Rest,
}

struct Running {
    model: Arc<WatchedModel>,
    since: Instant,
    is_reported: bool,
}

impl Running {
    fn has_taken(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= time
    }
}

/// A look to perform.
pub(super) struct Job {
    pub(super) key: ModelKey,
    pub(super) model: Arc<WatchedModel>,
    pub(super) poll: Arc<Mutex<ModelPoll>>,
    pub(super) gap: Duration,
    asked: u64,
    since: Instant,
}

impl Job {
    /// Whether it took so long that its first observations can be outdated.
    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= STALLED_AFTER
    }
}

/// A request for a look at a model.
pub(super) struct PollRequest {
    pub(super) key: ModelKey,
    pub(super) model: Arc<WatchedModel>,
    asked: u64,
}

impl Queue {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            models: HashMap::new(),
            next_key: 0,
            due: BTreeSet::new(),
            running: HashMap::new(),
            parked: HashMap::new(),
        }
    }

    /// Watches these models instead of all others. Models that stay keep the results of earlier looks.
    pub(super) fn replace(&mut self, models: Vec<Arc<WatchedModel>>) {
        let old = std::mem::take(&mut self.models);
        let old: HashMap<(Arc<str>, PathBuf), Arc<Mutex<ModelPoll>>> = old
            .into_values()
            .map(|slot| {
                let place = (Arc::clone(&slot.model.name), slot.model.base_path.clone());
                (place, slot.poll)
            })
            .collect();
        self.due.clear();
        self.parked.clear();
        for model in models {
            let place = (Arc::clone(&model.name), model.base_path.clone());
            let slot = Slot {
                poll: old.get(&place).cloned().unwrap_or_default(),
                model,
                due: None,
                asked: 0,
                answered: 0,
                hurry: None,
                answer: None,
            };
            self.models.insert(self.next_key, slot);
            self.next_key += 1;
        }
    }

    /// Requests a look at every model now, in order.
    pub(super) fn ask(&mut self, now: Instant, hurry: Duration) -> Vec<PollRequest> {
        let mut keys: Vec<ModelKey> = self.models.keys().copied().collect();
        keys.sort_unstable();
        let ask = |key: ModelKey| {
            self.set_due(key, now);
            let slot = self.models.get_mut(&key)?;
            slot.asked += 1;
            slot.hurry = Some(hurry);
            slot.answer = None;
            Some(PollRequest {
                key,
                model: Arc::clone(&slot.model),
                asked: slot.asked,
            })
        };
        keys.into_iter().filter_map(ask).collect()
    }

    /// Takes the next look that is due. From now on it counts as running.
    pub(super) fn next(&mut self, now: Instant) -> Option<Job> {
        loop {
            let (due, key) = *self.due.first()?;
            if due > now {
                return None;
            }
            self.due.pop_first();
            let Some(slot) = self.models.get_mut(&key) else {
                continue;
            };
            slot.due = None;
            let path = &slot.model.base_path;
            if self.running.contains_key(path) {
                self.parked.entry(path.clone()).or_default().push(key);
                continue;
            }
            let running = Running {
                model: Arc::clone(&slot.model),
                since: now,
                is_reported: false,
            };
            self.running.insert(path.clone(), running);
            return Some(Job {
                key,
                model: Arc::clone(&slot.model),
                poll: Arc::clone(&slot.poll),
                gap: slot.hurry.unwrap_or(self.timing.gap),
                asked: slot.asked,
                since: now,
            });
        }
    }

    /// When the next look is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether the model of a look is still watched.
    pub(super) fn is_current(&self, job: &Job) -> bool {
        self.models.contains_key(&job.key)
    }

    /// Records the end of a look. Returns whether it had been reported as stalled.
    pub(super) fn finish(&mut self, job: &Job, now: Instant, found: Result<Found>) -> bool {
        let path = &job.model.base_path;
        let running = self.running.remove(path);
        for key in self.parked.remove(path).into_iter().flatten() {
            self.set_due(key, now);
        }
        let timing = self.timing;
        if let Some(slot) = self.models.get_mut(&job.key) {
            let pause = now.saturating_duration_since(job.since) * PAUSE_PER_LOOK;
            let pause = pause.min(LONGEST_PAUSE);
            let is_stale = job.has_stalled(now);
            let (answer, due) = match found {
                _ if is_stale => (None, Some(Duration::ZERO)),
                Ok(Found::Unsure) => (None, Some(job.gap)),
                Ok(Found::Aspired { versions, rest }) => {
                    let due = match rest {
                        Rest::Settled => timing.interval.map(|it| it.max(pause)),
                        Rest::Changing | Rest::Version => Some(timing.gap),
                    };
                    let versions = versions.len();
                    (Some(Ok(PollResult { versions, rest })), due)
                }
                Err(error) => (Some(Err(error)), timing.interval),
            };
            if let Some(answer) = answer {
                slot.answered = job.asked;
                slot.answer = Some(answer);
                if slot.answered == slot.asked {
                    slot.hurry = None;
                }
            }
            if slot.due.is_none()
                && let Some(due) = due
            {
                self.set_due(job.key, now + due);
            }
        }
        running.is_some_and(|running| running.is_reported)
    }

    /// The answer, once it exists. Does not wait for a look that hangs.
    pub(super) fn answer(
        &mut self,
        request: &PollRequest,
        now: Instant,
    ) -> Option<Result<PollResult>> {
        let Some(slot) = self.models.get_mut(&request.key) else {
            let text = "the model is not watched any more";
            return Some(Err(ServingError::new(Code::Cancelled, text)));
        };
        if slot.answered >= request.asked {
            return slot.answer.take();
        }
        let running = self.running.get(&slot.model.base_path)?;
        if !running.has_taken(STALLED_AFTER, now) {
            return None;
        }
        Some(Err(stalled_error(&slot.model, now - running.since)))
    }

    /// The number of looks that have already taken at least this time.
    pub(super) fn count_longer_than(&self, time: Duration, now: Instant) -> usize {
        let running = self.running.values();
        running.filter(|it| it.has_taken(time, now)).count()
    }

    /// Whether any running look has not been reported yet.
    pub(super) fn has_unreported(&self) -> bool {
        self.running.values().any(|it| !it.is_reported)
    }

    /// The number of running looks.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Errors for the looks that hang, each reported once.
    pub(super) fn take_reports(&mut self, now: Instant) -> Vec<ServingError> {
        let mut reports = Vec::new();
        for running in self.running.values_mut() {
            if !running.is_reported && running.has_taken(STALLED_AFTER, now) {
                running.is_reported = true;
                reports.push(stalled_error(&running.model, now - running.since));
            }
        }
        reports
    }

    /// The models whose base path does not answer, sorted.
    pub(super) fn stalled(&self, now: Instant) -> Vec<Arc<str>> {
        let is_stalled = |slot: &&Slot| {
            let running = self.running.get(&slot.model.base_path);
            running.is_some_and(|it| it.has_taken(STALLED_AFTER, now))
        };
        if self.count_longer_than(STALLED_AFTER, now) == 0 {
            return Vec::new();
        }
        let stalled = self.models.values().filter(is_stalled);
        let mut names: Vec<_> = stalled.map(|slot| Arc::clone(&slot.model.name)).collect();
        names.sort_unstable();
        names
    }

    fn set_due(&mut self, key: ModelKey, due: Instant) {
        if let Some(slot) = self.models.get_mut(&key) {
            if let Some(old) = slot.due.replace(due) {
                self.due.remove(&(old, key));
            }
            self.due.insert((due, key));
        }
    }
}

fn stalled_error(model: &WatchedModel, time: Duration) -> ServingError {
    ServingError::new(
        Code::Unavailable,
        format!(
            "the base path {} of model {} has not answered for {} s",
            model.base_path.display(),
            model.name,
            time.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests;
