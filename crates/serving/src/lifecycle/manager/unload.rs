//! The end of a version: out of the lookup table, drained, destroyed (`core/basic_manager.cc`).
//!
//! Not here: which version ends, and when (`serving::lifecycle::policy`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::managed::Phase;
use super::{Shared, State};
use crate::servable::Servable;
use base::allocator::release_freed;
use base::id::ServableId;
use base::panics;
use base::vocabulary::ManagerState;

/// How long to wait if the system cannot start a thread for a destruction.
const NO_THREAD_PAUSE: Duration = Duration::from_secs(1);

/// A servable that no request holds any more.
enum Drained {
    /// An unloaded version.
    Version(ServableId),
    /// A servable that a second load of its version has replaced.
    Replaced(Arc<Servable>),
}

impl Shared {
    /// Hides a version from new requests.
    pub(super) fn unload(&self, state: &mut State, id: ServableId) -> bool {
        let Some(managed) = state.registry.get_mut(&id) else {
            return false;
        };
        let Phase::Ready(servable, _) = &managed.phase else {
            return false;
        };
        managed.phase = Phase::Draining(Arc::clone(servable));
        info!("Quiescing servable version {id}");
        self.parts
            .monitor
            .publish(&id, ManagerState::Unloading, None);
        self.parts.table.remove(&id.name, id.version);
        true
    }

    /// Begins to destroy servables that no request holds any more.
    pub(super) fn drop_drained(self: &Arc<Self>, state: &mut State, now: Instant) -> bool {
        if state.next_drop.is_some_and(|time| time > now) {
            return false;
        }
        let room = self.parts.options.num_unload_threads.max(1) - state.drops;
        // All handles together count as one reference. No request can get a new handle of these servables,
        // because they are not in the table.
        let is_drained = |servable: &Arc<Servable>| Arc::strong_count(servable) == 1;
        let replaced = state.replaced.extract_if(.., |it| is_drained(it));
        let mut drained: Vec<Drained> = replaced.take(room).map(Drained::Replaced).collect();
        let versions = state.registry.versions().filter_map(|(id, managed)| {
            let Phase::Draining(servable) = &managed.phase else {
                return None;
            };
            is_drained(servable).then_some(Drained::Version(id))
        });
        drained.extend(versions.take(room - drained.len()));
        let mut progress = false;
        for it in drained {
            progress |= self.begin_drop(state, it, now);
        }
        progress
    }

    /// Destroys a servable on a thread of its own. If the system cannot start one, the servable stays for
    /// now: its destruction can take long and must not delay anything else.
    fn begin_drop(self: &Arc<Self>, state: &mut State, drained: Drained, now: Instant) -> bool {
        let (id, servable, is_version) = match drained {
            Drained::Replaced(servable) => (servable.id.clone(), servable, false),
            Drained::Version(id) => match take_drained(state, &id) {
                Some(servable) => (id, servable, true),
                None => return false,
            },
        };
        // From here on, either the new thread or this one takes the servable. If the thread owned it, it
        // would be destroyed here together with the thread's closure.
        let hand_over = Arc::new(Mutex::new(Some(servable)));
        let take = |hand_over: &Mutex<Option<Arc<Servable>>>| {
            let mut servable = hand_over.lock().unwrap_or_else(PoisonError::into_inner);
            servable.take()
        };
        let (shared, dropped, for_thread) = (Arc::clone(self), id.clone(), Arc::clone(&hand_over));
        let spawned = (self.spawn)(
            "unload",
            Box::new(move || shared.destroy(&dropped, take(&for_thread), is_version)),
        );
        if let Err(error) = spawned {
            if state.next_drop.is_none() {
                error!(%error, "no thread to unload {id}, it stays in memory until there is one");
            }
            state.next_drop = Some(now + NO_THREAD_PAUSE);
            match (take(&hand_over), state.registry.get_mut(&id)) {
                (Some(servable), Some(managed)) if is_version => {
                    managed.phase = Phase::Draining(servable);
                }
                (servable, _) => state.replaced.extend(servable),
            }
            return false;
        }
        if is_version {
            info!("Done quiescing servable version {id}");
        }
        state.next_drop = None;
        state.drops += 1;
        true
    }

    fn destroy(&self, id: &ServableId, servable: Option<Arc<Servable>>, is_version: bool) {
        if is_version {
            info!("Unloading servable version {id}");
        }
        if let Err(panic) = panics::caught(|| drop(servable)) {
            error!(panic, "destroying {id} panicked");
        }
        release_freed();
        let mut state = self.lock();
        state.drops -= 1;
        if is_version {
            state.registry.remove(id);
            info!("Done unloading servable version {id}");
            self.parts.monitor.publish(id, ManagerState::End, None);
        }
        drop(state);
        self.wakeup.wake();
    }
}

/// Takes the servable of a drained version, whose destruction begins.
fn take_drained(state: &mut State, id: &ServableId) -> Option<Arc<Servable>> {
    let managed = state.registry.get_mut(id)?;
    match std::mem::replace(&mut managed.phase, Phase::Dropping) {
        Phase::Draining(servable) => Some(servable),
        other => {
            managed.phase = other;
            None
        }
    }
}
