//! A loader for tests that fails, blocks and counts on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use super::Loader;
use crate::servable::Servable;
use base::error::{Result, ServingError};
use base::id::ServableId;

/// Makes servables without signatures.
#[derive(Default)]
pub(crate) struct FakeLoader {
    state: Mutex<State>,
    changed: Condvar,
}

/// Creates an error, or panics.
type MakeError = Arc<dyn Fn() -> ServingError + Send + Sync>;

#[derive(Default)]
struct State {
    calls: Vec<(ServableId, PathBuf)>,
    failures: BTreeMap<ServableId, (usize, MakeError)>,
    /// Blocks this many first loads of a version.
    blocked: BTreeMap<ServableId, usize>,
    running: usize,
    most_running: usize,
}

impl FakeLoader {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next `times` loads of this version fail.
    pub(crate) fn fail(
        &self,
        id: &ServableId,
        times: usize,
        error: impl Fn() -> ServingError + Send + Sync + 'static,
    ) {
        let mut state = self.state.lock().unwrap();
        state.failures.insert(id.clone(), (times, Arc::new(error)));
    }

    /// Loads of this version wait for [`unblock`](Self::unblock).
    pub(crate) fn block(&self, id: &ServableId) {
        self.block_first(id, usize::MAX);
    }

    /// The first `loads` loads of this version wait for [`unblock`](Self::unblock).
    pub(crate) fn block_first(&self, id: &ServableId, loads: usize) {
        let mut state = self.state.lock().unwrap();
        state.blocked.insert(id.clone(), loads);
    }

    pub(crate) fn unblock(&self, id: &ServableId) {
        self.state.lock().unwrap().blocked.remove(id);
        self.changed.notify_all();
    }

    /// The number of loads that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.state.lock().unwrap().running
    }

    /// The number of loads of this version that have begun.
    pub(crate) fn loads(&self, id: &ServableId) -> usize {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|(it, _)| it == id).count()
    }

    /// All loads in the order in which they began, with their directories.
    pub(crate) fn calls(&self) -> Vec<(ServableId, PathBuf)> {
        self.state.lock().unwrap().calls.clone()
    }

    /// The largest number of simultaneous loads so far.
    pub(crate) fn most_running(&self) -> usize {
        self.state.lock().unwrap().most_running
    }
}

impl Loader for FakeLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let mut state = self.state.lock().unwrap();
        state.calls.push((id.clone(), directory.to_owned()));
        state.running += 1;
        state.most_running = state.most_running.max(state.running);
        let number = state.calls.iter().filter(|(it, _)| it == id).count();
        while state.blocked.get(id).is_some_and(|&loads| number <= loads) {
            state = self.changed.wait(state).unwrap();
        }
        state.running -= 1;
        if let Some((times, error)) = state.failures.get_mut(id)
            && *times > 0
        {
            *times -= 1;
            let error = Arc::clone(error);
            // Making the error can panic.
            drop(state);
            return Err(error());
        }
        Ok(Servable::new(
            id.clone(),
            [],
            BTreeMap::new(),
            &Arc::default(),
        ))
    }
}
