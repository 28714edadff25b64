//! Remembers the last state of every version, and lets callers wait for models to come up
//! (`core/servable_state_monitor.cc`).
//!
//! Not here: deciding the states (`serving::lifecycle::manager`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::warn;

use crate::servable::ServableState;
use base::error::{Code, Result, ServingError};
use base::id::ServableId;
use base::vocabulary::ManagerState;

/// States of all versions that were ever tracked. No state is forgotten.
#[derive(Default)]
pub(crate) struct StateMonitor {
    /// Held only for a few instructions at a time.
    inner: Mutex<Inner>,
    changed: Condvar,
    observer: OnceLock<Observer>,
}

/// Is notified of every change of state, in order.
type Observer = Box<dyn Fn(&ServableState) + Send + Sync>;

#[derive(Default)]
struct Inner {
    states: HashMap<Arc<str>, BTreeMap<i64, ServableState>>,
    /// By model: the version whose load failed last and is tried again, and the error.
    failed_tries: HashMap<Arc<str>, (i64, String)>,
    waits: HashMap<u64, Wait>,
    next_wait: u64,
    is_closed: bool,
}

/// Models that a caller waits for: `None` while undecided.
type Wait = BTreeMap<Arc<str>, Option<FirstVersion>>;

/// The result of the first version of a model that finished loading.
#[derive(Clone, Debug)]
pub(crate) enum FirstVersion {
    /// It is available.
    Available,
    /// It failed. `version` is `None` if no version was found.
    Failed {
        version: Option<i64>,
        error: ServingStatus,
    },
}

/// A code and its text.
#[derive(Clone, Debug)]
pub(crate) struct ServingStatus {
    code: Code,
    message: String,
}

impl From<&ServingError> for ServingStatus {
    fn from(error: &ServingError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

impl StateMonitor {
    /// Records a version's new state; `error` belongs only to [`ManagerState::End`].
    pub(crate) fn publish(
        &self,
        id: &ServableId,
        state: ManagerState,
        error: Option<&ServingError>,
    ) {
        let (code, message) = match error {
            None => (Code::Ok, String::new()),
            Some(error) => (error.code(), error.to_string()),
        };
        let outcome = match (state, error) {
            (ManagerState::Available, _) => Some(FirstVersion::Available),
            // An END without an error belongs to an earlier life of the version.
            (ManagerState::End, Some(error)) => Some(FirstVersion::Failed {
                version: Some(id.version),
                error: error.into(),
            }),
            _ => None,
        };

        let mut inner = self.lock();
        let state = ServableState {
            id: id.clone(),
            state,
            code,
            message,
        };
        if let Some(observer) = self.observer.get() {
            observer(&state);
        }
        if outcome.is_some() || state.state == ManagerState::End {
            let is_other = |it: &mut (i64, String)| it.0 != id.version;
            if !inner.failed_tries.get_mut(&id.name).is_none_or(is_other) {
                inner.failed_tries.remove(&id.name);
            }
        }
        let versions = inner.states.entry(Arc::clone(&id.name)).or_default();
        versions.insert(id.version, state);
        if let Some(outcome) = outcome {
            inner.decide(&id.name, &outcome);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Records that a load failed and is tried again.
    pub(crate) fn note_failed_try(&self, id: &ServableId, error: &ServingError) {
        let text = format!("{}: {error}", error.code());
        let mut inner = self.lock();
        inner
            .failed_tries
            .insert(Arc::clone(&id.name), (id.version, text));
    }

    /// The version of a model whose load failed last and is tried again, and the error.
    pub(crate) fn failed_try(&self, model: &str) -> Option<(i64, String)> {
        self.lock().failed_tries.get(model).cloned()
    }

    /// Notifies `observer` of every state from now on, while its lock is held. Only the first observer
    /// counts.
    pub(crate) fn observe(&self, observer: Observer) {
        if self.observer.set(observer).is_err() {
            warn!("a second observer of states is ignored");
        }
    }

    /// The states of a model's versions, in descending order.
    pub(crate) fn states(&self, model: &str) -> Vec<ServableState> {
        let inner = self.lock();
        let versions = inner.states.get(model);
        versions.map_or_else(Vec::new, |it| it.values().rev().cloned().collect())
    }

    /// The names of all models that ever had a version, sorted.
    pub(crate) fn models(&self) -> Vec<Arc<str>> {
        let mut models: Vec<_> = self.lock().states.keys().cloned().collect();
        models.sort_unstable();
        models
    }

    /// Whether a version serves now.
    pub(crate) fn is_available(&self, model: &str, version: i64) -> bool {
        let inner = self.lock();
        let state = inner.states.get(model).and_then(|it| it.get(&version));
        state.is_some_and(|it| it.state == ManagerState::Available)
    }

    /// Begins to wait for results of these models. Earlier states do not count.
    pub(crate) fn expect(&self, models: impl IntoIterator<Item = Arc<str>>) -> Expectation<'_> {
        let mut inner = self.lock();
        let key = inner.next_wait;
        inner.next_wait += 1;
        let wait = models.into_iter().map(|model| (model, None)).collect();
        inner.waits.insert(key, wait);
        Expectation { monitor: self, key }
    }

    /// Gives a model up for all current waits: no version of it is to be expected.
    pub(crate) fn give_up(&self, model: &str, error: &ServingError) {
        let failed = FirstVersion::Failed {
            version: None,
            error: error.into(),
        };
        self.lock().decide(model, &failed);
        self.changed.notify_all();
    }

    /// Ends all waits, now and later.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_decided(&self, key: u64) -> bool {
        let wait = self.waits.get(&key);
        wait.is_none_or(|it| it.values().all(Option::is_some))
    }

    fn decide(&mut self, model: &str, outcome: &FirstVersion) {
        for wait in self.waits.values_mut() {
            if let Some(undecided @ None) = wait.get_mut(model) {
                *undecided = Some(outcome.clone());
            }
        }
    }
}

/// A wait for some models. It is created before they are loaded, so that no state is missed.
pub(crate) struct Expectation<'a> {
    monitor: &'a StateMonitor,
    key: u64,
}

impl Expectation<'_> {
    /// Gives a model up: no version of it is to be expected.
    pub(crate) fn give_up(&self, model: &str, error: &ServingError) {
        let mut inner = self.monitor.lock();
        let decided = inner
            .waits
            .get_mut(&self.key)
            .and_then(|it| it.get_mut(model));
        if let Some(undecided @ None) = decided {
            *undecided = Some(FirstVersion::Failed {
                version: None,
                error: error.into(),
            });
        }
    }

    /// Gives all models up.
    pub(crate) fn give_up_all(&self, error: &ServingError) {
        let mut inner = self.monitor.lock();
        let wait = inner.waits.get_mut(&self.key);
        for undecided in wait.into_iter().flat_map(BTreeMap::values_mut) {
            undecided.get_or_insert_with(|| FirstVersion::Failed {
                version: None,
                error: error.into(),
            });
        }
    }

    /// Whether [`wait`](Self::wait) would return immediately.
    pub(crate) fn is_decided(&self) -> bool {
        let inner = self.monitor.lock();
        inner.is_closed || inner.is_decided(self.key)
    }

    /// Blocks until every model has a version that is available or failed.
    ///
    /// # Errors
    ///
    /// `UNKNOWN` if a version failed, listing all that did; `what` is the word for them. `CANCELLED`
    /// if the server shuts down.
    pub(crate) fn wait(self, what: &str) -> Result<()> {
        let mut inner = self.monitor.lock();
        loop {
            if inner.is_decided(self.key) {
                break;
            }
            if inner.is_closed {
                return Err(ServingError::new(
                    Code::Cancelled,
                    "the server is shutting down",
                ));
            }
            inner = self
                .monitor
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let failures = inner.waits.get(&self.key).map_or_else(Vec::new, failures);
        // Dropping `self` takes the lock.
        drop(inner);
        if failures.is_empty() {
            return Ok(());
        }
        Err(ServingError::new(
            Code::Unknown,
            format!(
                "{} {what}(s) did not become available: {{{}}}",
                failures.len(),
                failures.concat()
            ),
        ))
    }
}

impl Drop for Expectation<'_> {
    fn drop(&mut self) {
        self.monitor.lock().waits.remove(&self.key);
    }
}

/// The failed models in TensorFlow Serving's form, each followed by a comma.
fn failures(wait: &Wait) -> Vec<String> {
    wait.iter()
        .filter_map(|(model, outcome)| match outcome {
            Some(FirstVersion::Failed { version, error }) => {
                let version = version.map(|it| format!(" version: {it}"));
                Some(format!(
                    "{{{{name: {model}{}}} due to error: {}: {}}}, ",
                    version.unwrap_or_default(),
                    error.code,
                    error.message
                ))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
