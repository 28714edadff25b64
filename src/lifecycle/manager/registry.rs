//! Which versions are managed and where each stands: the manager's state, without threads.
//!
//! Not here: carrying out actions (`manager`), their order (`lifecycle::policy`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::id::ServableId;
use crate::lifecycle::policy::{Action, Standing, VersionStanding, next_action};
use crate::lifecycle::signal::Signal;
use crate::lifecycle::source::AspiredVersion;
use crate::lifecycle::source::storage::Fingerprint;
use crate::servable::ServableHandle;

/// All managed versions, and the aspired lists that are not applied yet.
#[derive(Default)]
pub(super) struct Registry {
    /// Invariant: no model without a version.
    pub(super) models: BTreeMap<Arc<str>, BTreeMap<i64, Managed>>,
    pending: BTreeMap<Arc<str>, Vec<AspiredVersion>>,
}

/// A version under management.
pub(super) struct Managed {
    pub(super) directory: PathBuf,
    pub(super) is_aspired: bool,
    pub(super) phase: Phase,
    /// Raised when the version is no longer aspired.
    pub(super) cancel: Arc<Signal>,
}

/// Where a managed version stands, with what belongs to it there.
pub(super) enum Phase {
    /// Nothing done yet.
    New,
    /// A thread loads it.
    Loading,
    /// In the lookup table.
    Ready(ServableHandle),
    /// Out of the lookup table; requests still hold it.
    Draining(ServableHandle),
    /// A thread destroys it.
    Dropping,
    /// Its load failed, with these files.
    Failed(Option<Fingerprint>),
}

impl Managed {
    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            is_aspired: true,
            phase: Phase::New,
            cancel: Arc::default(),
        }
    }

    fn standing(&self) -> Standing {
        match self.phase {
            Phase::New => Standing::New,
            Phase::Loading => Standing::Loading,
            Phase::Ready(_) => Standing::Ready,
            Phase::Draining(_) | Phase::Dropping => Standing::Unloading,
            Phase::Failed(_) => Standing::Failed,
        }
    }
}

impl Registry {
    /// Takes note of a model's newest aspired versions; returns whether they are news.
    pub(super) fn set_aspired(&mut self, model: &Arc<str>, versions: Vec<AspiredVersion>) -> bool {
        // Most polls find what the one before found.
        let is_news = self.pending.contains_key(model) || !self.is_aspired(model, &versions);
        if is_news {
            self.pending.insert(Arc::clone(model), versions);
        }
        is_news
    }

    /// Whether exactly these versions are aspired already.
    fn is_aspired(&self, model: &str, versions: &[AspiredVersion]) -> bool {
        let managed = self.models.get(model);
        let is_aspired = |it: &AspiredVersion| {
            let managed = managed.and_then(|managed| managed.get(&it.version));
            managed.is_some_and(|managed| managed.is_aspired)
        };
        let count = managed.map_or(0, |it| it.values().filter(|it| it.is_aspired).count());
        count == versions.len() && versions.iter().all(is_aspired)
    }

    /// Forgets versions that are not aspired and hold nothing; returns those that were never
    /// loaded.
    pub(super) fn flush(&mut self) -> Vec<ServableId> {
        let mut never_loaded = Vec::new();
        for (model, versions) in &mut self.models {
            versions.retain(|version, managed| {
                let is_idle = matches!(managed.phase, Phase::New | Phase::Failed(_));
                let is_kept = managed.is_aspired || !is_idle;
                if !is_kept && matches!(managed.phase, Phase::New) {
                    never_loaded.push(ServableId::new(Arc::clone(model), *version));
                }
                is_kept
            });
        }
        self.models.retain(|_, versions| !versions.is_empty());
        never_loaded
    }

    /// Applies the aspired lists that can be applied; returns the versions that are new.
    ///
    /// A list that names a version which is on its way out waits until that one is gone, and is
    /// then loaded afresh (`AspiredVersionsManager::ContainsAnyReaspiredVersions`).
    pub(super) fn apply_pending(&mut self) -> Vec<ServableId> {
        let mut added = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        for (model, aspired) in pending {
            let versions = self.models.entry(Arc::clone(&model)).or_default();
            if adopt_stalled(versions, &aspired) {
                self.pending.insert(model, aspired);
                continue;
            }
            for (version, managed) in versions.iter_mut() {
                if managed.is_aspired && !aspired.iter().any(|it| it.version == *version) {
                    managed.is_aspired = false;
                    managed.cancel.raise();
                }
            }
            for AspiredVersion {
                version, directory, ..
            } in aspired
            {
                versions.entry(version).or_insert_with(|| {
                    added.push(ServableId::new(Arc::clone(&model), version));
                    Managed::new(directory)
                });
            }
        }
        self.models.retain(|_, versions| !versions.is_empty());
        added
    }

    /// One action for each model that has one.
    pub(super) fn next_actions(&self) -> Vec<(Arc<str>, Action)> {
        self.models
            .iter()
            .filter_map(|(model, versions)| {
                let action = next_action(&standings(versions))?;
                Some((Arc::clone(model), action))
            })
            .collect()
    }

    pub(super) fn get_mut(&mut self, model: &str, version: i64) -> Option<&mut Managed> {
        self.models.get_mut(model)?.get_mut(&version)
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

/// Whether `aspired` has to wait for versions that are on their way out.
///
/// Where nothing moves any more, which in the original is the end of all updates of the model
/// (an old version that stays because its successor failed comes back into favour), the old
/// versions become aspired again as they are.
fn adopt_stalled(versions: &mut BTreeMap<i64, Managed>, aspired: &[AspiredVersion]) -> bool {
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
        |managed: &Managed| !matches!(managed.phase, Phase::Ready(_) | Phase::Failed(_));
    if versions.values().any(is_moving) || next_action(&standings(versions)).is_some() {
        return true;
    }
    for (version, managed) in versions.iter_mut() {
        if is_reaspired(version, managed) && matches!(managed.phase, Phase::Ready(_)) {
            managed.is_aspired = true;
            managed.cancel = Arc::default();
        }
    }
    versions
        .iter()
        .any(|(version, managed)| is_reaspired(version, managed))
}

fn standings(versions: &BTreeMap<i64, Managed>) -> Vec<VersionStanding> {
    versions
        .iter()
        .map(|(version, managed)| VersionStanding {
            version: *version,
            standing: managed.standing(),
            is_aspired: managed.is_aspired,
        })
        .collect()
}
