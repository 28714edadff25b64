//! Which versions are managed, and the lists that are to be applied: the manager's state, without threads.
//!
//! Not here: one version and its phases (`manager::managed`), performing actions (`manager`), their order
//! (`serving::lifecycle::policy`), the threads that load (`manager::threads`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::managed::{GivenUp, Managed, Phase, Progress};
use crate::lifecycle::policy::{Action, VersionStanding, next_action};
use crate::lifecycle::source::AspiredVersion;
use base::id::ServableId;

/// All managed versions, and the aspired lists that are not yet applied.
#[derive(Default)]
pub(super) struct Registry {
    /// Invariant: every model has a version.
    pub(super) models: BTreeMap<Arc<str>, BTreeMap<i64, Managed>>,
    pending: BTreeMap<Arc<str>, Vec<AspiredVersion>>,
}

/// The effects of the lists that were applied.
#[derive(Default)]
pub(super) struct Applied {
    /// Versions that are new, or that start again because their files have changed.
    pub(super) added: Vec<ServableId>,
    pub(super) given_up: Vec<GivenUp>,
}

impl Registry {
    /// Stores a model's newest aspired versions. Returns whether they differ from the previous ones.
    pub(super) fn set_aspired(&mut self, model: &Arc<str>, versions: Vec<AspiredVersion>) -> bool {
        // Most polls find the same versions as before.
        let is_news = self.pending.contains_key(model) || !self.is_aspired(model, &versions);
        if is_news {
            self.pending.insert(Arc::clone(model), versions);
        }
        is_news
    }

    /// Whether exactly these versions with these files are already aspired.
    fn is_aspired(&self, model: &str, versions: &[AspiredVersion]) -> bool {
        let managed = self.models.get(model);
        let is_aspired = |it: &AspiredVersion| {
            let managed = managed.and_then(|managed| managed.get(&it.version));
            managed.is_some_and(|managed| {
                managed.is_aspired
                    && managed.fingerprint == it.fingerprint
                    && managed.directory == it.directory
            })
        };
        let count = managed.map_or(0, |it| it.values().filter(|it| it.is_aspired).count());
        count == versions.len() && versions.iter().all(is_aspired)
    }

    /// Forgets versions that are not aspired and hold no resources.
    pub(super) fn flush(&mut self) {
        for versions in self.models.values_mut() {
            versions.retain(|_, managed| {
                managed.is_aspired || !matches!(managed.phase, Phase::Failed { .. })
            });
        }
        self.models.retain(|_, versions| !versions.is_empty());
    }

    /// Applies the aspired lists that can be applied, and gives up loads that no list wants.
    ///
    /// If a list names a version that is being unloaded, it waits until the version is gone. The
    /// version is then loaded again (`AspiredVersionsManager::ContainsAnyReaspiredVersions`).
    pub(super) fn apply_pending(&mut self, now: Instant) -> Applied {
        let mut applied = Applied::default();
        let pending = std::mem::take(&mut self.pending);
        for (model, aspired) in pending {
            let versions = self.models.entry(Arc::clone(&model)).or_default();
            let is_named = |version: i64| aspired.iter().any(|it| it.version == version);
            for (version, managed) in versions.iter_mut().filter(|it| !is_named(*it.0)) {
                let id = ServableId::new(Arc::clone(&model), *version);
                applied.given_up.extend(managed.give_up(id));
            }
            if adopt_stalled(versions, &aspired, now) {
                self.pending.insert(model, aspired);
                continue;
            }
            for (version, managed) in versions.iter_mut() {
                managed.is_aspired &= is_named(*version);
            }
            for it in aspired {
                let id = ServableId::new(Arc::clone(&model), it.version);
                match versions.get_mut(&it.version) {
                    Some(managed) => {
                        if managed.note(it, now) {
                            applied.added.push(id);
                        }
                    }
                    None => {
                        let managed = Managed::new(it.directory, it.fingerprint);
                        versions.insert(it.version, managed);
                        applied.added.push(id);
                    }
                }
            }
        }
        self.models.retain(|_, versions| !versions.is_empty());
        applied
    }

    /// Gives up every load.
    pub(super) fn give_up_all(&mut self) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        for (model, versions) in &mut self.models {
            for (version, managed) in versions {
                let id = ServableId::new(Arc::clone(model), *version);
                given_up.extend(managed.give_up(id));
            }
        }
        given_up
    }

    /// One action for each model that has one: first unloads, then new versions, then retries, then
    /// versions that already serve.
    pub(super) fn next_actions(&self, now: Instant) -> Vec<(Arc<str>, Action)> {
        let mut actions: Vec<_> = self
            .models
            .iter()
            .filter_map(|(model, versions)| {
                let action = next_action(&standings(versions, now))?;
                Some((Arc::clone(model), action))
            })
            .collect();
        actions.sort_by_key(|(model, action)| match action {
            Action::Unload(_) => 0,
            Action::Load(version) => {
                let managed = self.models.get(model).and_then(|it| it.get(version));
                1 + u8::from(managed.is_some_and(|it| !matches!(it.phase, Phase::New)))
            }
            Action::LoadAgain(_) => 3,
        });
        actions
    }

    /// When the next scheduled load is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |(_, managed): (_, &Managed)| match managed.progress() {
            Some(Progress::Until(due)) => Some(due),
            _ => None,
        };
        self.versions().filter_map(due).min()
    }

    /// Reschedules the loads that wait for the end of another one.
    pub(super) fn room_was_made(&mut self, now: Instant) {
        for managed in self.models.values_mut().flat_map(BTreeMap::values_mut) {
            if managed.progress() == Some(Progress::ForRoom) {
                managed.set_progress(Some(Progress::Until(now)));
            }
        }
    }

    pub(super) fn get_mut(&mut self, id: &ServableId) -> Option<&mut Managed> {
        self.models.get_mut(&id.name)?.get_mut(&id.version)
    }

    /// Ends the management of a version.
    pub(super) fn remove(&mut self, id: &ServableId) {
        if let Some(versions) = self.models.get_mut(&id.name) {
            versions.remove(&id.version);
            if versions.is_empty() {
                self.models.remove(&id.name);
            }
        }
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = (ServableId, &Managed)> {
        self.models.iter().flat_map(|(model, versions)| {
            versions
                .iter()
                .map(|(version, managed)| (ServableId::new(Arc::clone(model), *version), managed))
        })
    }
}

/// Whether `aspired` has to wait for versions that are being unloaded.
///
/// If an old version stays because its successor failed, and then becomes aspired again, no action is
/// left that could end the wait. In TensorFlow Serving the model is then never updated again. Here such
/// old versions become aspired again as they are.
fn adopt_stalled(
    versions: &mut BTreeMap<i64, Managed>,
    aspired: &[AspiredVersion],
    now: Instant,
) -> bool {
    let is_reaspired = |version: &i64, managed: &Managed| {
        !managed.is_aspired && aspired.iter().any(|it| it.version == *version)
    };
    if !versions
        .iter()
        .any(|(version, managed)| is_reaspired(version, managed))
    {
        return false;
    }
    let is_moving =
        |managed: &Managed| !matches!(managed.phase, Phase::Ready(..) | Phase::Failed { .. });
    let next = next_action(&standings(versions, now));
    if versions.values().any(is_moving) || matches!(next, Some(Action::Load(_) | Action::Unload(_)))
    {
        return true;
    }
    for (version, managed) in versions.iter_mut() {
        if is_reaspired(version, managed) && matches!(managed.phase, Phase::Ready(..)) {
            managed.is_aspired = true;
        }
    }
    versions
        .iter()
        .any(|(version, managed)| is_reaspired(version, managed))
}

fn standings(versions: &BTreeMap<i64, Managed>, now: Instant) -> Vec<VersionStanding> {
    versions
        .iter()
        .map(|(version, managed)| VersionStanding {
            version: *version,
            standing: managed.standing(now),
            is_aspired: managed.is_aspired,
        })
        .collect()
}
