//! Watches base paths and reports which versions are aspired. Counterpart of
//! `FileSystemStoragePathSource`.
//!
//! Unlike there, a base path that cannot be listed or does not answer stops updates only of its own
//! model; a version is aspired only once its files have settled; and a model file directly in the base
//! path counts as version 1 if no child is a version.
//!
//! Not here: handling the versions (`serving::lifecycle::manager`).

mod companions;
mod contents;
mod settling;
mod versions;

mod model_poll;
mod poll_threads;
mod queue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use self::model_poll::Rest;
use self::poll_threads::{Parts, PollThreads};
use self::queue::{Queue, Timing};
use super::PollWait;
use base::error::{Code, Result, ServingError};
use storage::local::{Files, Fingerprint, Storage};

pub use self::versions::VersionPolicy;
pub(crate) use storage::files::file_bytes;

/// The longest gap between two looks that have to agree.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// The gap while the server starts: more than twice the resolution of a file's times (10 ms at worst),
/// so that a copy in progress shows, but short enough to start quickly. Changes that show only later
/// cause a second load.
const START_GAP: Duration = Duration::from_millis(25);
/// The gap in a reload, because its caller waits.
const RELOAD_GAP: Duration = Duration::from_millis(250);
/// How long a reload waits for a new model's only version, whose files keep changing.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

/// A model to watch (`ServableToMonitor`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedModel {
    /// The model's name.
    pub name: Arc<str>,
    /// The directory that contains its version directories.
    pub base_path: PathBuf,
    /// Which of them to serve.
    pub policy: VersionPolicy,
}

/// A version that should be loaded, and its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AspiredVersion {
    /// The version number.
    pub version: i64,
    /// Its directory.
    pub directory: PathBuf,
    /// The files to load, after they had settled. A different fingerprint means that they have changed
    /// and settled again.
    pub fingerprint: Fingerprint,
}

/// Receives the aspired versions of a model, always as a complete list.
pub(crate) trait AspiredVersionsSink: Send + Sync {
    /// Loads all versions in `versions` and unloads all others. Must not block.
    fn set_aspired_versions(&self, model: &Arc<str>, versions: Vec<AspiredVersion>);

    /// The files in `directory` with which a serving version was loaded, if they are known.
    fn loaded_files(&self, model: &str, version: i64, directory: &Path) -> Option<Arc<Files>>;
}

/// Returns whether a version of a model is available to clients.
pub(crate) type Serves = dyn Fn(&str, i64) -> bool + Send + Sync;

/// A source's dependencies.
pub(crate) struct SourceParts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) sink: Arc<dyn AspiredVersionsSink>,
    pub(crate) serves: Box<Serves>,
    pub(crate) poll_wait: PollWait,
    /// How long a new version waits for files that the serving version has.
    pub(crate) companion_wait: Duration,
}

/// Finds the versions of the watched models.
pub(crate) struct Source {
    /// Can be read without waiting.
    names: ArcSwap<Vec<Arc<str>>>,
    threads: PollThreads,
    longest_gap: Duration,
}

/// The caller that waits for a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// The start of the server.
    Start,
    /// A reload.
    Reload,
}

impl Source {
    pub(crate) fn new(parts: SourceParts) -> Self {
        let interval = match parts.poll_wait {
            PollWait::Every(interval) => Some(interval),
            PollWait::Once | PollWait::Never => None,
        };
        let longest_gap = interval.map_or(LONGEST_GAP, |it| it.min(LONGEST_GAP));
        let timing = Timing {
            interval,
            gap: longest_gap,
        };
        let parts = Parts {
            storage: parts.storage,
            sink: parts.sink,
            serves: parts.serves,
            companion_wait: parts.companion_wait,
        };
        Self {
            names: ArcSwap::default(),
            threads: PollThreads::new(parts, Queue::new(timing)),
            longest_gap,
        }
    }

    /// Names of the watched models.
    pub(crate) fn model_names(&self) -> Vec<Arc<str>> {
        self.names.load().to_vec()
    }

    /// Names of the watched models whose base path does not answer.
    pub(crate) fn stalled_models(&self) -> Vec<Arc<str>> {
        self.threads.stalled()
    }

    /// Why a model has no version, as far as the last look shows.
    pub(crate) fn remark(&self, model: &str) -> Option<String> {
        self.threads.remark(model)
    }

    /// Watches these models from now on. Models that were removed get an empty list immediately, the
    /// others get theirs with the next poll. Calls must not overlap.
    pub(crate) fn watch(&self, models: Vec<WatchedModel>) {
        let names: Vec<_> = models.iter().map(|it| Arc::clone(&it.name)).collect();
        let mut gone = self.model_names();
        gone.retain(|name| !names.contains(name));
        self.names.store(Arc::new(names));
        let models = models.into_iter().map(Arc::new).collect();
        self.threads.replace(models, &gone);
    }

    /// Looks at every base path and reports the versions to the sink; from then on it looks periodically,
    /// if so configured. Returns, for each model, how many versions are aspired, or why that is not known:
    /// a base path that does not answer for some seconds is not waited for.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` if no thread can be started for it.
    pub(crate) fn poll(&self, haste: Haste) -> Result<Vec<(Arc<WatchedModel>, Result<usize>)>> {
        let (gap, patience) = match haste {
            Haste::Start => (START_GAP, Duration::ZERO),
            Haste::Reload => (RELOAD_GAP, RELOAD_PATIENCE),
        };
        let gap = gap.min(self.longest_gap);
        let answers = self.threads.ask(gap, patience)?;
        let count = |model: &WatchedModel, versions, rest| match (versions, rest) {
            (0, Rest::Version) => Err(changing_error(model)),
            (count, _) => Ok(count),
        };
        let counted = answers.into_iter().map(|(model, answer)| {
            let answer = answer.and_then(|it| count(&model, it.versions, it.rest));
            (model, answer)
        });
        Ok(counted.collect())
    }

    /// Stops looking. Does not wait for a look that hangs.
    pub(crate) fn stop(&self) {
        self.threads.stop();
    }
}

fn changing_error(model: &WatchedModel) -> ServingError {
    ServingError::new(
        Code::Unavailable,
        format!(
            "the files under {} keep changing; model {} loads once they have settled",
            model.base_path.display(),
            model.name
        ),
    )
}

/// The error for a model whose base path has no version (`fail_if_zero_versions_at_startup`), with the
/// reason if it is known.
pub(crate) fn no_version_error(model: &WatchedModel, remark: Option<&str>) -> ServingError {
    let text = format!(
        "Unable to find a numerical version path for servable {} at: {}",
        model.name,
        model.base_path.display()
    );
    ServingError::not_found(match remark {
        Some(remark) => format!("{text}. {remark}"),
        None => text,
    })
}

#[cfg(test)]
mod tests;
