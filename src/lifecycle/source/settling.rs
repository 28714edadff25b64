//! When the files of one version directory have settled: two looks at them agree.
//!
//! Looks are compared with each other only, and the time between them is that of the monotonic clock.
//! The files' own times are never compared with this machine's clock: a file server has a clock of its
//! own, and copies keep old dates.
//!
//! A look that agrees with the one before proves little where the looks follow each other closely,
//! or where an NFS client remembers what it saw for some seconds. So looking goes on, and a version
//! whose files change later gets another fingerprint once they have settled again.
//!
//! It is pure. Not here: looking (`source::files`), when to look again (`source::queue`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{Files, Fingerprint};

/// What is known of a version.
pub(super) struct Version {
    pub(super) directory: PathBuf,
    /// The number of the model's look that saw it last.
    pub(super) last_look: u64,
    /// The first of the looks that agree so far.
    last: Option<Look>,
    /// How many times the files were seen in another state than before; the first look is one.
    changes: u32,
    settled: Option<Look>,
    is_reported: bool,
    pub(super) companions: Companions,
}

/// Whether a version that has settled waits for files that the serving one has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Companions {
    /// Not looked yet.
    Unknown,
    /// Since then.
    AwaitedSince(Instant),
    /// They are there, or were waited for: the version is handed over.
    Over,
}

struct Look {
    /// `None` where the directory could not be read.
    files: Option<Arc<Files>>,
    at: Instant,
}

/// Where a version stands after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    /// Seen for the first time: the second look is to come.
    New,
    /// The files changed between the looks, and have never settled so far.
    Changing,
    /// The files had settled and are changing now.
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
            is_reported: false,
            companions: Companions::Unknown,
        }
    }

    /// Takes note of a look; looks that agree count once they are `gap` apart. `serves` tells whether
    /// this version is available to clients.
    pub(super) fn note(
        &mut self,
        files: Option<Files>,
        now: Instant,
        gap: Duration,
        serves: impl FnOnce() -> bool,
    ) -> Settling {
        // What cannot be read for now has not changed.
        if files.is_none() && self.settled_files().is_some() {
            return Settling::SettledBefore;
        }
        let agrees = |last: &Look| last.files.as_deref() == files.as_ref();
        if !self.last.as_ref().is_some_and(agrees) {
            self.changes += 1;
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
        let is_same = |settled: &Look| settled.files == last.files;
        let is_known = self.settled.as_ref().is_some_and(is_same)
            // Who deletes the files of a version that serves does not want it without them.
            || (self.is_settled_with_fewer(&last.files) && serves());
        if !is_known {
            let files = last.files.clone();
            self.settled = Some(Look { files, at: now });
        }
        Settling::Settled
    }

    /// The files it has settled with last; `None` before, and where it could not be read.
    pub(super) fn settled_files(&self) -> Option<&Arc<Files>> {
        self.settled.as_ref()?.files.as_ref()
    }

    /// Stands for the files it has settled with last.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.settled_files()
            .map_or(Fingerprint::UNREADABLE, |files| files.fingerprint())
    }

    /// Whether these are the files it has settled with.
    pub(super) fn is_settled_with(&self, files: Option<&Files>) -> bool {
        files.is_some() && self.settled_files().map(Arc::as_ref) == files
    }

    /// Whether this is called for the first time: the log says once that the files keep changing.
    pub(super) fn is_first_report(&mut self) -> bool {
        !std::mem::replace(&mut self.is_reported, true)
    }

    fn unsettled(&self) -> Settling {
        match (&self.settled, self.changes) {
            (Some(_), _) => Settling::SettledBefore,
            (None, 1) => Settling::New,
            (None, _) => Settling::Changing,
        }
    }

    fn is_settled_with_fewer(&self, now: &Option<Arc<Files>>) -> bool {
        let (Some(before), Some(now)) = (self.settled_files(), now) else {
            return false;
        };
        now.are_what_is_left_of(before)
    }
}

#[cfg(test)]
mod tests;
