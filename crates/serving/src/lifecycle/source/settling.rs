//! Decides when the files of one version directory have settled: when two looks at them agree.
//!
//! Looks are compared only with each other, and the time between them is measured by the monotonic
//! clock. The files' own times are never compared with this machine's clock: a file server has its own
//! clock, and copies keep old dates.
//!
//! Agreement with the previous look proves little if the looks follow each other closely, or if an NFS
//! client caches its results for some seconds. So looking continues, and a version whose files change
//! later gets another fingerprint once they have settled again.
//!
//! A version is handed over with the files with which it has settled. If it serves, those are compared
//! with the files it was loaded with, not with files seen in between: files that were deleted since
//! then change nothing.
//!
//! Plain data. Not here: looking (`files`), when to look again (`source::queue`), which files
//! are missed (`source::companions`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contents::Signatures;
use storage::files::{Files, Fingerprint};

/// The results of the looks at a version.
pub(super) struct Version {
    pub(super) directory: PathBuf,
    /// The number of the model's last look that saw it.
    pub(super) last_look: u64,
    /// The first of the latest looks that agree.
    last: Option<Look>,
    /// How many times the files had changed since the look before; the first look counts as one.
    changes: u32,
    settled: Option<Seen>,
    /// The files with which it was handed over.
    handed_over: Option<Seen>,
    is_reported: bool,
    /// Since when it waits for files that it lacks, and how many.
    awaited: Option<(Instant, usize)>,
    /// When it was first missed, if it no longer exists.
    pub(super) missed_since: Option<Instant>,
    /// The files with which it was loaded, if it serves or did.
    pub(super) loaded: Option<Arc<Files>>,
    /// The signatures of the map with which it was handed over.
    pub(super) signatures: Option<Arc<Signatures>>,
}

/// `None` if the directory could not be read.
type Seen = Option<Arc<Files>>;

struct Look {
    files: Seen,
    at: Instant,
}

/// The state of a version after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    /// Seen for the first time; the second look has not happened yet.
    New,
    /// The files changed between the looks, and have never settled.
    Changing,
    /// The files had settled and are now changing, or wait for others.
    SettledBefore,
    /// The last looks agree.
    Settled,
}

impl Version {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            last_look: 0,
            last: None,
            changes: 0,
            settled: None,
            handed_over: None,
            is_reported: false,
            awaited: None,
            missed_since: None,
            loaded: None,
            signatures: None,
        }
    }

    /// Records a look. Looks that agree count once they are `gap` apart.
    pub(super) fn note(&mut self, files: Option<Files>, now: Instant, gap: Duration) -> Settling {
        // Files that cannot be read for now count as unchanged.
        if files.is_none() && self.settled_files().is_some() {
            return Settling::SettledBefore;
        }
        let agrees = |last: &Look| last.files.as_deref() == files.as_ref();
        if !self.last.as_ref().is_some_and(agrees) {
            self.changes += 1;
            // The files are still being written.
            if let Some((since, _)) = &mut self.awaited {
                *since = now;
            }
            let files = files.map(Arc::new);
            self.last = Some(Look { files, at: now });
            return self.unsettled();
        }
        let Some(last) = &self.last else {
            return self.unsettled();
        };
        if now.saturating_duration_since(last.at) < gap {
            return self.unsettled();
        }
        if self.settled.as_ref() != Some(&last.files) {
            self.settled = Some(last.files.clone());
        }
        Settling::Settled
    }

    /// Hands over the files with which it has settled. `loaded` are the files of the version as it
    /// serves, if it does: files that an operator only deletes do not count as a change.
    pub(super) fn hand_over(&mut self, loaded: Option<&Arc<Files>>) {
        self.awaited = None;
        let settled = self.settled.clone().unwrap_or_default();
        let is_left = |loaded: &&Arc<Files>| {
            let settled = settled.as_ref();
            settled.is_some_and(|it| it.are_what_is_left_of(loaded))
        };
        self.handed_over = Some(match loaded.filter(is_left) {
            Some(loaded) => Some(Arc::clone(loaded)),
            None => settled,
        });
    }

    /// Whether it was ever handed over.
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over.is_some()
    }

    /// Whether it was handed over with the files with which it has settled.
    pub(super) fn is_handed_over_as_settled(&self) -> bool {
        self.handed_over.is_some() && self.handed_over == self.settled
    }

    /// The files with which it was handed over; `None` before that, and if they could not be read.
    pub(super) fn handed_over_files(&self) -> Option<&Arc<Files>> {
        self.handed_over.as_ref()?.as_ref()
    }

    /// Whether it waits for the `missing` files that it lacks now. The waiting time restarts when one
    /// of them appears, and when any other file changes.
    pub(super) fn waits_for(&mut self, missing: usize, wait: Duration, now: Instant) -> bool {
        let (since, before) = self.awaited.unwrap_or((now, missing));
        let since = if missing < before { now } else { since };
        self.awaited = Some((since, missing));
        missing > 0 && now.saturating_duration_since(since) < wait
    }

    /// Whether it was waiting before.
    pub(super) fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// The files with which it last settled; `None` before that, and if they could not be read.
    pub(super) fn settled_files(&self) -> Option<&Arc<Files>> {
        self.settled.as_ref()?.as_ref()
    }

    /// The fingerprint of the files with which it was handed over.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.handed_over_files()
            .map_or(Fingerprint::UNREADABLE, |files| files.fingerprint())
    }

    /// Whether these are the files with which it has settled.
    pub(super) fn is_settled_with(&self, files: Option<&Files>) -> bool {
        files.is_some() && self.settled_files().map(Arc::as_ref) == files
    }

    /// Whether this is the first call. The log reports only once that the files keep changing.
    pub(super) fn is_first_report(&mut self) -> bool {
        !std::mem::replace(&mut self.is_reported, true)
    }

    fn unsettled(&self) -> Settling {
        match self.changes {
            _ if self.settled.is_some() => Settling::SettledBefore,
            1 => Settling::New,
            _ => Settling::Changing,
        }
    }
}

#[cfg(test)]
mod tests;
