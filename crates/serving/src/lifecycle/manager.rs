//! Owns all versions: loads those that are aspired, unloads the others, and keeps models available
//! (`core/aspired_versions_manager.cc`, `core/basic_manager.cc`).
//!
//! One thread decides; loads and destructions run on threads of their own. No lock is held while
//! a loader or a destructor runs. Unlike in TensorFlow Serving, a request that holds an old version
//! for long delays only the unloading of that version.
//!
//! Not here: which versions are aspired (`serving::lifecycle::source`), the order of actions
//! (`serving::lifecycle::policy`).

mod registry;
mod threads;
mod wakeup;

mod load;
mod loads;
mod managed;
mod unload;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use tracing::error;

use self::managed::Phase;
use self::registry::Registry;
use self::threads::LoadThreads;
use self::wakeup::Wakeup;
use super::lookup::LookupTable;
use super::policy::Action;
use super::source::{AspiredVersion, AspiredVersionsSink};
use super::state_monitor::StateMonitor;
use super::{LifecycleOptions, Loader};
use crate::servable::Servable;
use base::id::ServableId;
use base::panics;
use base::vocabulary::ManagerState;
use storage::local::{Files, Storage};

/// Loads and unloads versions on its own threads until it is stopped.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    /// Taken when the manager is stopped.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The manager's dependencies.
pub(crate) struct Parts {
    pub(crate) options: LifecycleOptions,
    pub(crate) loader: Arc<dyn Loader>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) table: Arc<LookupTable>,
    pub(crate) monitor: Arc<StateMonitor>,
}

/// Starts a thread with this name, or returns the system's error.
type Spawn = fn(&'static str, Box<dyn FnOnce() + Send>) -> io::Result<()>;

struct Shared {
    parts: Parts,
    spawn: Spawn,
    /// Wakes the manager's thread after a change of the state, and after the last request has
    /// released a servable.
    wakeup: Arc<Wakeup>,
    /// Held while deciding; never while loading, destroying or accessing files.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    registry: Registry,
    /// Loads in flight.
    threads: LoadThreads,
    /// Servables that second loads replaced and that requests still hold.
    replaced: Vec<Arc<Servable>>,
    /// Destructions in flight.
    drops: usize,
    /// When to try a destruction again, if the system could not start a thread for it.
    next_drop: Option<Instant>,
    start_up: StartUp,
    is_stopped: bool,
}

/// Whether the larger number of loads at a time is allowed.
#[derive(Default, PartialEq, Eq)]
enum StartUp {
    /// Versions are still being searched for.
    Finding,
    /// Until all versions that were found are loaded.
    Loading,
    #[default]
    Over,
}

impl State {
    /// Ends start-up once no version is loading or left to load. Versions that wait to be tried again
    /// do not count.
    fn note_end_of_start_up(&mut self) {
        let is_new = |phase: &Phase| matches!(phase, Phase::New);
        if self.start_up == StartUp::Loading
            && self.threads.slots() == 0
            && !self.registry.versions().any(|(_, it)| is_new(&it.phase))
        {
            self.start_up = StartUp::Over;
        }
    }

    /// When to look for work again if nothing else happens.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let drop = self.next_drop.filter(|due| *due > now);
        let due = self.registry.next_due().filter(|due| *due > now);
        let times = [drop, due, self.threads.next_deadline(now)];
        times.into_iter().flatten().min()
    }
}

impl Manager {
    /// Starts a manager. If the system cannot start its thread, it logs that and does nothing.
    pub(crate) fn new(parts: Parts) -> Self {
        Self::with_threads(parts, |name, work| {
            let thread = Builder::new().name(name.to_owned()).spawn(work);
            thread.map(drop)
        })
    }

    /// As [`new`](Self::new), with another way to start threads for loads and unloads.
    fn with_threads(parts: Parts, spawn: Spawn) -> Self {
        let shared = Arc::new(Shared {
            parts,
            spawn,
            wakeup: Arc::default(),
            state: Mutex::default(),
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

    /// Allows the larger number of loads only until all versions that are aspired now are loaded.
    pub(crate) fn end_start_up(&self) {
        self.shared.lock().start_up = StartUp::Loading;
        self.shared.wakeup.wake();
    }

    /// Stops deciding and gives up all loads. Their threads end later, and their results are dropped.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            let given_up = state.registry.give_up_all();
            self.shared.give_up(&mut state, given_up);
        }
        self.shared.wakeup.wake();
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
        // Applied immediately if possible: a list that is empty for a moment must not be replaced by the
        // next one, or a model that is dropped and added again would not be loaded again.
        let mut state = self.shared.lock();
        if !state.registry.set_aspired(model, versions) {
            return;
        }
        self.shared.apply_pending(&mut state);
        drop(state);
        self.shared.wakeup.wake();
    }

    fn loaded_files(&self, model: &str, version: i64, directory: &Path) -> Option<Arc<Files>> {
        let state = self.shared.lock();
        let managed = state.registry.models.get(model)?.get(&version)?;
        let is_served = matches!(managed.phase, Phase::Ready(..)) && managed.directory == directory;
        managed.loaded.clone().filter(|_| is_served)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.is_stopped {
            // If a step panics, the next change starts another.
            while panics::catch_panic("the manager", || self.step(&mut state)) == Some(true) {}
            let next_look = state.next_look(Instant::now());
            drop(state);
            self.wakeup.wait_until(next_look);
            state = self.lock();
        }
    }

    /// Performs all actions that are possible now. Returns whether more can be possible afterwards.
    fn step(self: &Arc<Self>, state: &mut State) -> bool {
        let now = Instant::now();
        state.registry.flush();
        self.give_up_overdue(state, now);
        self.apply_pending(state);

        let mut progress = self.drop_drained(state, now);
        // Unloads come first because they free memory.
        for (model, action) in state.registry.next_actions(now) {
            progress |= match action {
                Action::Unload(version) => self.unload(state, ServableId::new(model, version)),
                Action::Load(version) | Action::LoadAgain(version)
                    if state.threads.slots() < self.load_limit(state) =>
                {
                    self.begin_load(state, ServableId::new(model, version), now)
                }
                Action::Load(_) | Action::LoadAgain(_) => false,
            };
        }
        state.note_end_of_start_up();
        progress
    }

    fn apply_pending(&self, state: &mut State) {
        let applied = state.registry.apply_pending(Instant::now());
        self.give_up(state, applied.given_up);
        for id in applied.added {
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
}

#[cfg(test)]
mod tests;
