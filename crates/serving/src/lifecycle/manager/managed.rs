//! One managed version: its phase, the progress of its load, and the files it was tried and loaded with.
//!
//! Not here: all managed versions and the aspired lists (`manager::registry`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::threads::Ticket;
use crate::lifecycle::policy::Standing;
use crate::lifecycle::source::AspiredVersion;
use crate::servable::Servable;
use base::id::ServableId;
use storage::local::{Files, Fingerprint};

/// A version under management.
pub(super) struct Managed {
    pub(super) directory: PathBuf,
    /// The files that the source last saw.
    pub(super) fingerprint: Fingerprint,
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
    Ready(Arc<Servable>, Option<Progress>),
    /// Removed from the lookup table, but requests still hold it.
    Draining(Arc<Servable>),
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
    pub(super) fn new(directory: PathBuf, fingerprint: Fingerprint) -> Self {
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

    pub(super) fn standing(&self, now: Instant) -> Standing {
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
    pub(super) fn note(&mut self, aspired: AspiredVersion, now: Instant) -> bool {
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
    pub(super) fn give_up(&mut self, id: ServableId) -> Option<GivenUp> {
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
