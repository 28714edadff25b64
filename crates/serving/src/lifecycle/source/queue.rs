//! Which models are to be looked at when, and which looks do not come back.
//!
//! A base path is looked at by one thread at a time. While a look hangs there, everything else that
//! wants to look there is parked, so a mount that hangs holds one thread for each base path on it.
//!
//! It is plain data: no threads, no file system. Not here: who looks (`source::poll_threads`), what a
//! look is (`source::model_poll`).

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::WatchedModel;
use super::model_poll::{Found, ModelPoll, Rest};
use base::error::{Code, Result, ServingError};

/// A look that takes longer is reported, and is not waited for.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(5);
/// A look is followed by a pause of at least so many times its own duration, which keeps slow storage
/// from being asked all the time.
const PAUSE_PER_LOOK: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Names a model of the current set; never used again.
pub(super) type ModelKey = u64;

/// When to look again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// After a look at a model at rest; `None`: not before somebody asks.
    pub(super) interval: Option<Duration>,
    /// Between two looks at files that are to agree.
    pub(super) gap: Duration,
}

/// The models that are watched.
pub(super) struct Queue {
    timing: Timing,
    /// By key: in the order of the configuration.
    models: HashMap<ModelKey, Slot>,
    next_key: ModelKey,
    /// When to look at which.
    due: BTreeSet<(Instant, ModelKey)>,
    /// Looks that run, by base path; those at a former set of models too.
    running: HashMap<PathBuf, Running>,
    /// Models whose base path is being looked at.
    parked: HashMap<PathBuf, Vec<ModelKey>>,
}

struct Slot {
    model: Arc<WatchedModel>,
    /// Locked by the look that runs at the model's base path, and by no other.
    poll: Arc<Mutex<ModelPoll>>,
    due: Option<Instant>,
    /// Answers were asked for so many times, and given up to there.
    asked: u64,
    answered: u64,
    /// The gap between two looks until the answer that was asked for.
    hurry: Option<Duration>,
    answer: Option<Result<Answer>>,
}

/// What a look has to say to who asked for it.
#[derive(Debug)]
pub(super) struct Answer {
    /// How many versions are aspired.
    pub(super) versions: usize,
    /// Whether another one is to come.
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

/// A look to be made.
pub(super) struct Job {
    pub(super) key: ModelKey,
    pub(super) model: Arc<WatchedModel>,
    pub(super) poll: Arc<Mutex<ModelPoll>>,
    pub(super) gap: Duration,
    asked: u64,
    since: Instant,
}

impl Job {
    /// Whether it took so long that what it saw first may be long over.
    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= STALLED_AFTER
    }
}

/// A question for a look at a model.
pub(super) struct Question {
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

    /// Watches these models instead of all others. Models that stay keep what is known of them.
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

    /// Wants a look at every model, in order, now.
    pub(super) fn ask(&mut self, now: Instant, hurry: Duration) -> Vec<Question> {
        let mut keys: Vec<ModelKey> = self.models.keys().copied().collect();
        keys.sort_unstable();
        let ask = |key: ModelKey| {
            self.set_due(key, now);
            let slot = self.models.get_mut(&key)?;
            slot.asked += 1;
            slot.hurry = Some(hurry);
            slot.answer = None;
            Some(Question {
                key,
                model: Arc::clone(&slot.model),
                asked: slot.asked,
            })
        };
        keys.into_iter().filter_map(ask).collect()
    }

    /// The next look that is due, which from now on runs.
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

    /// Takes note of the end of a look; returns whether it had been reported as stalled.
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
                    (Some(Ok(Answer { versions, rest })), due)
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

    /// The answer, once there is one. A look that hangs is not waited for.
    pub(super) fn answer(&mut self, question: &Question, now: Instant) -> Option<Result<Answer>> {
        let Some(slot) = self.models.get_mut(&question.key) else {
            let text = "the model is not watched any more";
            return Some(Err(ServingError::new(Code::Cancelled, text)));
        };
        if slot.answered >= question.asked {
            return slot.answer.take();
        }
        let running = self.running.get(&slot.model.base_path)?;
        if !running.has_taken(STALLED_AFTER, now) {
            return None;
        }
        Some(Err(stalled_error(&slot.model, now - running.since)))
    }

    /// How many looks have taken so long already.
    pub(super) fn count_longer_than(&self, time: Duration, now: Instant) -> usize {
        let running = self.running.values();
        running.filter(|it| it.has_taken(time, now)).count()
    }

    /// Whether any look runs, and whether one of them may become one to be reported.
    pub(super) fn has_unreported(&self) -> bool {
        self.running.values().any(|it| !it.is_reported)
    }

    /// How many looks run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Looks that hang by now, each once.
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
