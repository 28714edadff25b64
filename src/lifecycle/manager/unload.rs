//! The end of a version: out of the lookup table, drained, destroyed (`core/basic_manager.cc`).
//!
//! Not here: which version ends, and when (`lifecycle::policy`).

use std::sync::Arc;
use std::thread::Builder;

use tracing::{error, info};

use super::registry::Phase;
use super::{Shared, State};
use crate::id::ServableId;
use crate::lifecycle::memory::release_freed;
use crate::panics;
use crate::servable::ManagerState;

impl Shared {
    /// Hides a version from new requests.
    pub(super) fn unload(&self, state: &mut State, id: ServableId) -> bool {
        let Some(managed) = state.registry.get_mut(&id.name, id.version) else {
            return false;
        };
        let Phase::Ready(handle) = &managed.phase else {
            return false;
        };
        let handle = Arc::clone(handle);
        info!("Quiescing servable version {id}");
        self.parts
            .monitor
            .publish(&id, ManagerState::Unloading, None);
        self.parts.table.remove(&id.name, id.version);
        managed.phase = Phase::Draining(handle);
        true
    }

    /// Begins to destroy the versions that no request holds any more.
    pub(super) fn drop_drained(self: &Arc<Self>, state: &mut State) -> bool {
        let room = self.parts.options.num_unload_threads.max(1) - state.drops;
        // Nobody can get a new handle of these: the table is rid of them.
        let is_drained =
            |phase: &Phase| matches!(phase, Phase::Draining(it) if Arc::strong_count(it) == 1);
        let drained: Vec<ServableId> = state
            .registry
            .versions()
            .filter(|(_, managed)| is_drained(&managed.phase))
            .map(|(id, _)| id)
            .take(room)
            .collect();
        let progress = !drained.is_empty();
        for id in drained {
            info!("Done quiescing servable version {id}");
            self.begin_drop(state, id);
        }
        progress
    }

    fn begin_drop(self: &Arc<Self>, state: &mut State, id: ServableId) {
        let Some(managed) = state.registry.get_mut(&id.name, id.version) else {
            return;
        };
        let servable = std::mem::replace(&mut managed.phase, Phase::Dropping);
        state.drops += 1;
        let (shared, dropped) = (Arc::clone(self), id.clone());
        let spawned = Builder::new().name("unload".to_owned()).spawn(move || {
            info!("Unloading servable version {dropped}");
            if let Err(panic) = panics::caught(|| drop(servable)) {
                error!(panic, "destroying {dropped} panicked");
            }
            release_freed();
            shared.finish_drop(&mut shared.lock(), &dropped);
            shared.changed.notify_all();
        });
        if let Err(error) = spawned {
            // The servable went with the closure.
            error!(%error, "no thread for an unload");
            self.finish_drop(state, &id);
        }
    }

    fn finish_drop(&self, state: &mut State, id: &ServableId) {
        state.drops -= 1;
        state.registry.remove(id);
        info!("Done unloading servable version {id}");
        self.parts.monitor.publish(id, ManagerState::End, None);
    }
}
