//! Which versions are managed and where each stands: the manager's state, without threads.
//!
//! Not here: carrying out actions (`manager`), their order (`serving::lifecycle::policy`), the threads that
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
    /// The files that the source saw last.
    fingerprint: Fingerprint,
    pub(super) is_aspired: bool,
    pub(super) phase: Phase,
    /// The files of the load that began last; `None` where any files are worth a load.
    tried: Option<Tried>,
    /// The files that it was loaded with, where it serves and that is known.
    pub(super) loaded: Option<Arc<Files>>,
    /// How often the load of these files was tried again.
    pub(super) retries: u32,
    /// How many loads in a row found that the files had changed meanwhile.
    pub(super) unsettled: u32,
}

/// Where a managed version stands, with what belongs to it there.
pub(super) enum Phase {
    /// Nothing done yet.
    New,
    /// Is being loaded.
    Loading(Progress),
    /// In the lookup table. Its files may be loaded a second time meanwhile.
    Ready(ServableHandle, Option<Progress>),
    /// Out of the lookup table; requests still hold it.
    Draining(ServableHandle),
    /// A thread destroys it.
    Dropping,
    /// Its load failed.
    Failed {
        /// Whether a thread of an earlier load has not ended: the version is loaded again when
        /// it has.
        is_stuck: bool,
    },
}

/// Where a load stands that is not finished.
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

/// What became of lists that were applied.
#[derive(Default)]
pub(super) struct Applied {
    /// Versions that are new, or new again because their files have changed.
    pub(super) added: Vec<ServableId>,
    pub(super) given_up: Vec<GivenUp>,
}

/// A load that is not wanted any more.
pub(super) struct GivenUp {
    pub(super) id: ServableId,
    /// Its thread.
    pub(super) ticket: Option<Ticket>,
    pub(super) left: Left,
}

/// What a load that was given up leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// A version that was never tried.
    Untried,
    /// A version that was being loaded.
    Unloaded,
    /// A version that serves as it was loaded before.
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

    /// How far its load is, where it has one that has begun.
    pub(super) fn progress(&self) -> Option<Progress> {
        match self.phase {
            Phase::Loading(progress) => Some(progress),
            Phase::Ready(_, second) => second,
            _ => None,
        }
    }

    /// Notes how far its load is. `None` ends a second load.
    pub(super) fn set_progress(&mut self, progress: Option<Progress>) {
        match (&mut self.phase, progress) {
            (Phase::Ready(_, second), progress) => *second = progress,
            (phase @ (Phase::New | Phase::Loading(_)), Some(progress)) => {
                *phase = Phase::Loading(progress);
            }
            _ => {}
        }
    }

    /// Notes that a load begins with the files as the source saw them last.
    pub(super) fn begin(&mut self, ticket: Ticket) {
        self.set_progress(Some(Progress::Running(ticket)));
        self.note_tried();
    }

    /// Has the files as the source saw them last count as those that were tried.
    pub(super) fn note_tried(&mut self) {
        self.tried = Some(Tried {
            aspired: self.fingerprint,
            found: None,
        });
    }

    /// Notes the files that the load found.
    pub(super) fn found(&mut self, found: Option<&Files>) {
        if let Some(tried) = &mut self.tried {
            tried.found = found.map(Files::fingerprint);
        }
    }

    /// The files that a load has to find, as the source saw them: others may be half of a copy. Where
    /// the source does not look again soon by itself, a version that does not serve yet takes what is
    /// there.
    pub(super) fn wanted(&self, is_polled_soon: bool) -> Option<Fingerprint> {
        let is_known = self.fingerprint != Fingerprint::UNREADABLE;
        let can_wait = is_polled_soon || matches!(self.phase, Phase::Ready(..));
        (is_known && can_wait).then_some(self.fingerprint)
    }

    /// Whether the files are again those that it serves with.
    pub(super) fn is_as_loaded(&self) -> bool {
        let loaded = self.loaded.as_ref();
        matches!(self.phase, Phase::Ready(..))
            && loaded.is_some_and(|it| it.fingerprint() == self.fingerprint)
    }

    /// Whether the files are others than those of the load that began last, as far as is known.
    pub(super) fn has_changed(&self) -> bool {
        let is_tried = |it: Tried| {
            it.aspired == self.fingerprint || it.found.is_some_and(|it| it == self.fingerprint)
        };
        // What cannot be read has not changed.
        self.fingerprint != Fingerprint::UNREADABLE && !self.tried.is_some_and(is_tried)
    }

    /// Takes note of what the source says now. Returns whether a failed version is new again.
    fn note(&mut self, aspired: AspiredVersion, now: Instant) -> bool {
        let has_moved = self.directory != aspired.directory;
        self.directory = aspired.directory;
        self.fingerprint = aspired.fingerprint;
        if has_moved {
            // As in TensorFlow Serving, a version that serves is the same one elsewhere.
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
            // A load that runs finds out about the change by itself; one that takes long is given up.
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

    /// Gives up the load of a version, where it has one.
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
        // Whatever its files are: a list may want it again before it is forgotten.
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
    /// Takes note of a model's newest aspired versions; returns whether they are news.
    pub(super) fn set_aspired(&mut self, model: &Arc<str>, versions: Vec<AspiredVersion>) -> bool {
        // Most polls find what the one before found.
        let is_news = self.pending.contains_key(model) || !self.is_aspired(model, &versions);
        if is_news {
            self.pending.insert(Arc::clone(model), versions);
        }
        is_news
    }

    /// Whether exactly these versions with these files are aspired already.
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

    /// Forgets versions that are not aspired and hold nothing.
    pub(super) fn flush(&mut self) {
        for versions in self.models.values_mut() {
            versions.retain(|_, managed| {
                managed.is_aspired || !matches!(managed.phase, Phase::Failed { .. })
            });
        }
        self.models.retain(|_, versions| !versions.is_empty());
    }

    /// Applies the aspired lists that can be applied, and gives up loads that none of them wants.
    ///
    /// A list that names a version which is on its way out waits until that one is gone, and is
    /// then loaded afresh (`AspiredVersionsManager::ContainsAnyReaspiredVersions`).
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

    /// One action for each model that has one: first what is new, then what is tried again, then
    /// what serves already.
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

    /// When the next load is due that waits for a moment.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |(_, managed): (_, &Managed)| match managed.progress() {
            Some(Progress::Until(due)) => Some(due),
            _ => None,
        };
        self.versions().filter_map(due).min()
    }

    /// Lets the loads go on that wait for the end of another one.
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

/// Whether `aspired` has to wait for versions that are on their way out.
///
/// Where nothing moves any more, which in TensorFlow Serving is the end of all updates of the model
/// (an old version that stays because its successor failed comes back into favour), the old
/// versions become aspired again as they are.
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
