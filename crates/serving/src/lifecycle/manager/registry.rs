//! Which versions are managed, and their phases: the manager's state, without threads.
//!
//! Not here: performing actions (`manager`), their order (`serving::lifecycle::policy`), the threads that
//! load (`manager::threads`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::threads::Ticket;
use crate::lifecycle::policy::{Action, Standing, VersionStanding, next_action};
use crate::lifecycle::source::AspiredVersion;
use crate::servable::ServableHandle;
use base::id::ServableId;
use storage::local::{Files, Fingerprint};

/// All managed versions, and the aspired lists that are not yet applied.
#[derive(Default)]
pub(super) struct Registry {
    /// Invariant: every model has a version.
    pub(super) models: BTreeMap<Arc<str>, BTreeMap<i64, Managed>>,
    pending: BTreeMap<Arc<str>, Vec<AspiredVersion>>,
}

/// A version under management.
pub(super) struct Managed {
    pub(super) directory: PathBuf,
    /// The files that the source last saw.
    fingerprint: Fingerprint,
    pub(super) is_aspired: bool,
    pub(super) phase: Phase,
    /// The files of the last load that began; `None` if any files are worth a load.
    tried: Option<Tried>,
    /// The files with which the serving version was loaded, if they are known.
    pub(super) loaded: Option<Arc<Files>>,
    /// The number of retries with these files.
    pub(super) retries: u32,
    /// The number of consecutive loads whose files changed meanwhile.
    pub(super) unsettled: u32,
}

/// The phase of a managed version, with the data of that phase.
pub(super) enum Phase {
    /// Not loaded yet.
    New,
    /// Being loaded.
    Loading(Progress),
    /// In the lookup table. Its files can be loaded a second time meanwhile.
    Ready(ServableHandle, Option<Progress>),
    /// Removed from the lookup table, but requests still hold it.
    Draining(ServableHandle),
    /// A thread is destroying it.
    Dropping,
    /// Its load failed.
    Failed {
        /// Whether a thread of an earlier load has not ended. Once it has, the version is loaded
        /// again.
        is_stuck: bool,
    },
}

/// The progress of a load that is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A thread works on it.
    Running(Ticket),
    /// Waits for this moment, without a thread.
    Until(Instant),
    /// Waits for the end of another load, without a thread.
    ForRoom,
}

/// The files that a load was tried with: as the source saw them, and as the load found them.
#[derive(Clone, Copy)]
struct Tried {
    aspired: Fingerprint,
    found: Option<Fingerprint>,
}

/// The effects of the lists that were applied.
#[derive(Default)]
pub(super) struct Applied {
    /// Versions that are new, or that start again because their files have changed.
    pub(super) added: Vec<ServableId>,
    pub(super) given_up: Vec<GivenUp>,
}

/// A load that is no longer wanted.
pub(super) struct GivenUp {
    pub(super) id: ServableId,
    /// Its thread.
    pub(super) ticket: Option<Ticket>,
    pub(super) left: Left,
}

/// The state of a version after its load was given up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It was never tried.
    Untried,
    /// It was being loaded.
    Unloaded,
    /// It serves as it was loaded before.
    Serving,
}

impl Managed {
    fn new(directory: PathBuf, fingerprint: Fingerprint) -> Self {
        Self {
            directory,
            fingerprint,
            is_aspired: true,
            phase: Phase::New,
            tried: None,
            loaded: None,
            retries: 0,
            unsettled: 0,
        }
    }

    fn standing(&self, now: Instant) -> Standing {
        let is_due = |progress: &Progress| matches!(progress, Progress::Until(due) if *due <= now);
        match &self.phase {
            Phase::New => Standing::New,
            Phase::Loading(progress) if is_due(progress) => Standing::New,
            Phase::Loading(_) => Standing::Loading,
            Phase::Ready(_, Some(progress)) if is_due(progress) => Standing::Changed,
            Phase::Ready(..) => Standing::Ready,
            Phase::Draining(_) | Phase::Dropping => Standing::Unloading,
            Phase::Failed { .. } => Standing::Failed,
        }
    }

    /// The progress of its load, if one has begun.
    pub(super) fn progress(&self) -> Option<Progress> {
        match self.phase {
            Phase::Loading(progress) => Some(progress),
            Phase::Ready(_, second) => second,
            _ => None,
        }
    }

    /// Sets the progress of its load. `None` ends a second load.
    pub(super) fn set_progress(&mut self, progress: Option<Progress>) {
        match (&mut self.phase, progress) {
            (Phase::Ready(_, second), progress) => *second = progress,
            (phase @ (Phase::New | Phase::Loading(_)), Some(progress)) => {
                *phase = Phase::Loading(progress);
            }
            _ => {}
        }
    }

    /// Records that a load begins with the files that the source last saw.
    pub(super) fn begin(&mut self, ticket: Ticket) {
        self.set_progress(Some(Progress::Running(ticket)));
        self.note_tried();
    }

    /// Records the files that the source last saw as tried.
    pub(super) fn note_tried(&mut self) {
        self.tried = Some(Tried {
            aspired: self.fingerprint,
            found: None,
        });
    }

    /// Records the files that the load found.
    pub(super) fn found(&mut self, found: Option<&Files>) {
        if let Some(tried) = &mut self.tried {
            tried.found = found.map(Files::fingerprint);
        }
    }

    /// The files that a load has to find, as the source saw them, because others could be half of a copy.
    /// If the source does not look again soon, a version that does not serve yet is loaded with any files.
    pub(super) fn wanted(&self, is_polled_soon: bool) -> Option<Fingerprint> {
        let is_known = self.fingerprint != Fingerprint::UNREADABLE;
        let can_wait = is_polled_soon || matches!(self.phase, Phase::Ready(..));
        (is_known && can_wait).then_some(self.fingerprint)
    }

    /// Whether the current files are those it was loaded with and serves.
    pub(super) fn is_as_loaded(&self) -> bool {
        let loaded = self.loaded.as_ref();
        matches!(self.phase, Phase::Ready(..))
            && loaded.is_some_and(|it| it.fingerprint() == self.fingerprint)
    }

    /// Whether the files differ from those of the last load that began, as far as is known.
    pub(super) fn has_changed(&self) -> bool {
        let is_tried = |it: Tried| {
            it.aspired == self.fingerprint || it.found.is_some_and(|it| it == self.fingerprint)
        };
        // Files that cannot be read count as unchanged.
        self.fingerprint != Fingerprint::UNREADABLE && !self.tried.is_some_and(is_tried)
    }

    /// Applies the source's current view. Returns whether a failed version is new again.
    fn note(&mut self, aspired: AspiredVersion, now: Instant) -> bool {
        let has_moved = self.directory != aspired.directory;
        self.directory = aspired.directory;
        self.fingerprint = aspired.fingerprint;
        if has_moved {
            // As in TensorFlow Serving, a version that serves is not loaded again from another directory.
            match self.phase {
                Phase::Ready(..) => {
                    self.loaded = None;
                    self.note_tried();
                }
                _ => self.tried = None,
            }
        }
        if self.is_as_loaded() {
            self.retries = 0;
            self.note_tried();
            if self.ticket().is_none() {
                self.set_progress(None);
            }
            return false;
        }
        if !self.has_changed() {
            return false;
        }
        match &mut self.phase {
            // A running load detects the change by itself; a slow one is given up.
            Phase::Loading(Progress::Running(_)) | Phase::Ready(_, Some(Progress::Running(_))) => {}
            Phase::Loading(_) | Phase::Ready(..) => {
                self.retries = 0;
                self.set_progress(Some(Progress::Until(now)));
            }
            Phase::Failed { .. } => {
                self.retries = 0;
                self.phase = Phase::New;
                return true;
            }
            Phase::New | Phase::Draining(_) | Phase::Dropping => {}
        }
        false
    }

    /// Gives up the load of a version, if it has one.
    fn give_up(&mut self, id: ServableId) -> Option<GivenUp> {
        let ticket = self.ticket();
        let left = match &mut self.phase {
            Phase::New => Left::Untried,
            Phase::Loading(_) => Left::Unloaded,
            Phase::Ready(_, second @ Some(_)) => {
                *second = None;
                Left::Serving
            }
            _ => return None,
        };
        if left != Left::Serving {
            self.phase = Phase::Failed { is_stuck: false };
        }
        // Any files are worth a load, because a list can want the version again before it is forgotten.
        self.tried = None;
        Some(GivenUp { id, ticket, left })
    }

    /// The thread that works on its load.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self.progress()? {
            Progress::Running(ticket) => Some(ticket),
            Progress::Until(_) | Progress::ForRoom => None,
        }
    }
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
