//! Owns all versions: loads what is aspired, unloads what is not, keeps models available
//! (`core/aspired_versions_manager.cc`, `core/basic_manager.cc`).
//!
//! One thread decides, loads and destructions run on threads of their own. No lock is held while
//! a loader or a destructor runs. Unlike the original, a request that holds an old version for
//! long keeps only that version from going.
//!
//! Not here: which versions are aspired (`lifecycle::source`), the order of actions
//! (`lifecycle::policy`).

mod registry;

mod load;
mod unload;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tracing::{error, info, info_span};

use self::load::{LoadJob, cancelled};
use self::registry::{Phase, Registry};
use super::lookup::LookupTable;
use super::policy::Action;
use super::signal::Signal;
use super::source::storage::{Fingerprint, Storage};
use super::source::{AspiredVersion, AspiredVersionsSink};
use super::state_monitor::StateMonitor;
use super::{LifecycleOptions, Loader};
use crate::error::{Code, ServingError};
use crate::id::ServableId;
use crate::panics;
use crate::servable::{ManagerState, ServableHandle};

/// How often to look whether the last request let go of an unloaded version.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Loads and unloads versions on its own threads until it is stopped.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    /// Taken when the manager is stopped.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the manager works with.
pub(crate) struct Parts {
    pub(crate) options: LifecycleOptions,
    pub(crate) loader: Arc<dyn Loader>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) table: Arc<LookupTable>,
    pub(crate) monitor: Arc<StateMonitor>,
}

struct Shared {
    parts: Parts,
    /// Held while deciding; never while loading, destroying or touching files.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    registry: Registry,
    /// Loads under way.
    loads: usize,
    /// Destructions under way.
    drops: usize,
    start_up: StartUp,
    is_stopped: bool,
}

/// Whether the larger number of loads at a time is allowed.
#[derive(Default, PartialEq, Eq)]
enum StartUp {
    /// Versions are still being found.
    Finding,
    /// Until nothing is left to load.
    Loading,
    #[default]
    Over,
}

impl State {
    /// Start-up is over once nothing loads and nothing is left to load.
    fn note_end_of_start_up(&mut self) {
        let is_new = |phase: &Phase| matches!(phase, Phase::New);
        if self.start_up == StartUp::Loading
            && self.loads == 0
            && !self.registry.versions().any(|(_, it)| is_new(&it.phase))
        {
            self.start_up = StartUp::Over;
        }
    }
}

/// A version whose load failed, and the files it failed with.
struct FailedVersion {
    id: ServableId,
    directory: PathBuf,
    fingerprint: Option<Fingerprint>,
}

impl Manager {
    /// A manager at work. It can do nothing if the system gives it no thread, which it logs.
    pub(crate) fn new(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            parts,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = Builder::new()
            .name("manager".to_owned())
            .spawn(move || for_thread.run());
        let thread = thread
            .inspect_err(|error| error!(%error, "no thread for the manager of models"))
            .ok();
        Self {
            shared,
            thread: Mutex::new(thread),
        }
    }

    /// Allows the larger number of loads at a time.
    pub(crate) fn begin_start_up(&self) {
        self.shared.lock().start_up = StartUp::Finding;
    }

    /// Allows it only until everything that is aspired by now is loaded.
    pub(crate) fn end_start_up(&self) {
        self.shared.lock().start_up = StartUp::Loading;
        self.shared.changed.notify_all();
    }

    /// Loads those failed versions again whose files changed since. Reads files.
    pub(crate) fn retry_changed(&self) {
        for failed in self.shared.failed_versions() {
            let now = self
                .shared
                .parts
                .storage
                .fingerprint(&failed.directory)
                .ok();
            if now != failed.fingerprint {
                self.shared.retry(&failed.id);
            }
        }
    }

    /// Stops deciding and gives up retries. Loads under way end in their own time, unheard.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            for (_, managed) in state.registry.versions() {
                managed.cancel.raise();
            }
        }
        self.shared.changed.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            error!("the manager's thread panicked");
        }
    }
}

impl AspiredVersionsSink for Manager {
    fn set_aspired_versions(&self, model: &Arc<str>, versions: Vec<AspiredVersion>) {
        // At once, as far as that goes: a list that is empty for a moment must not be lost to the
        // next one, or a model that is dropped and added again would not start anew.
        let mut state = self.shared.lock();
        if !state.registry.set_aspired(model, versions) {
            return;
        }
        self.shared.apply_pending(&mut state);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.is_stopped {
            // After a step that panicked, the next change begins another.
            while panics::round("the manager", || self.step(&mut state)) == Some(true) {}
            let is_draining = state
                .registry
                .versions()
                .any(|(_, managed)| matches!(managed.phase, Phase::Draining(_)));
            state = if is_draining {
                let waited = self.changed.wait_timeout(state, DRAIN_CHECK_INTERVAL);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Does what can be done now; returns whether there may be more.
    fn step(self: &Arc<Self>, state: &mut State) -> bool {
        let monitor = &self.parts.monitor;
        for id in state.registry.flush() {
            monitor.publish(&id, ManagerState::End, None);
        }
        self.apply_pending(state);

        let mut progress = self.drop_drained(state);
        let actions = state.registry.next_actions();
        // Unloads come first: they make room.
        for (model, action) in &actions {
            if let Action::Unload(version) = action {
                progress |= self.unload(state, ServableId::new(Arc::clone(model), *version));
            }
        }
        for (model, action) in actions {
            if let Action::Load(version) = action
                && state.loads < self.load_limit(state)
            {
                progress |= self.load(state, ServableId::new(model, version));
            }
        }
        state.note_end_of_start_up();
        progress
    }

    fn apply_pending(&self, state: &mut State) {
        for id in state.registry.apply_pending() {
            self.parts.monitor.publish(&id, ManagerState::Start, None);
        }
    }

    fn load_limit(&self, state: &State) -> usize {
        let options = &self.parts.options;
        let limit = match state.start_up {
            StartUp::Finding | StartUp::Loading => options.num_initial_load_threads,
            StartUp::Over => options.num_load_threads,
        };
        limit.max(1)
    }

    /// Begins to load a new version.
    fn load(self: &Arc<Self>, state: &mut State, id: ServableId) -> bool {
        let Some(managed) = state.registry.get_mut(&id.name, id.version) else {
            return false;
        };
        info!("Approving load for servable version {id}");
        managed.phase = Phase::Loading;
        let (directory, cancel) = (managed.directory.clone(), Arc::clone(&managed.cancel));
        self.parts.monitor.publish(&id, ManagerState::Loading, None);
        state.loads += 1;
        let (shared, loaded) = (Arc::clone(self), id.clone());
        let spawned = Builder::new()
            .name("load".to_owned())
            .spawn(move || shared.load_on_this_thread(&loaded, directory, &cancel));
        if let Err(error) = spawned {
            let error = ServingError::new(
                Code::ResourceExhausted,
                format!("no thread for a load: {error}"),
            );
            state.loads -= 1;
            self.note_failure(state, &id, &error, None);
        }
        true
    }

    fn load_on_this_thread(&self, id: &ServableId, directory: PathBuf, cancel: &Signal) {
        let _span = info_span!("load", servable = %id).entered();
        info!("Loading servable version {id}");
        let end = LoadJob {
            id,
            directory: &directory,
            loader: self.parts.loader.as_ref(),
            storage: self.parts.storage.as_ref(),
            options: &self.parts.options,
            cancel,
        }
        .run();

        let mut state = self.lock();
        state.loads -= 1;
        let mut unwanted = None;
        match end.result {
            // It went out of favour at the last moment.
            Ok(servable) if cancel.is_raised() => {
                unwanted = Some(servable);
                self.note_failure(&mut state, id, &cancelled(), end.fingerprint);
            }
            Ok(servable) => self.serve(&mut state, id, Arc::new(servable)),
            Err(error) => self.note_failure(&mut state, id, &error, end.fingerprint),
        }
        state.note_end_of_start_up();
        drop(state);
        self.changed.notify_all();
        drop(unwanted);
    }

    fn serve(&self, state: &mut State, id: &ServableId, handle: ServableHandle) {
        if let Some(managed) = state.registry.get_mut(&id.name, id.version) {
            self.parts.table.insert(&handle);
            managed.phase = Phase::Ready(handle);
            info!("Successfully loaded servable version {id}");
            self.parts
                .monitor
                .publish(id, ManagerState::Available, None);
        }
    }

    fn note_failure(
        &self,
        state: &mut State,
        id: &ServableId,
        error: &ServingError,
        fingerprint: Option<Fingerprint>,
    ) {
        if let Some(managed) = state.registry.get_mut(&id.name, id.version) {
            managed.phase = Phase::Failed(fingerprint);
            self.parts
                .monitor
                .publish(id, ManagerState::End, Some(error));
        }
    }

    fn failed_versions(&self) -> Vec<FailedVersion> {
        let state = self.lock();
        state
            .registry
            .versions()
            .filter_map(|(id, managed)| match managed.phase {
                Phase::Failed(fingerprint) => Some(FailedVersion {
                    id,
                    directory: managed.directory.clone(),
                    fingerprint,
                }),
                _ => None,
            })
            .collect()
    }

    /// Makes a failed version new again.
    fn retry(&self, id: &ServableId) {
        let mut state = self.lock();
        if let Some(managed) = state.registry.get_mut(&id.name, id.version)
            && managed.is_aspired
            && matches!(managed.phase, Phase::Failed(_))
        {
            info!("the files of {id} changed, loading it again");
            managed.phase = Phase::New;
            self.parts.monitor.publish(id, ManagerState::Start, None);
        }
        drop(state);
        self.changed.notify_all();
    }
}
