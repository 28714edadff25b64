//! One load of one version: retries, and files that are still being written.
//!
//! Not here: making a servable (the [`Loader`]), what to load and when (`manager`).

use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};

use crate::error::{Code, Result, ServingError};
use crate::id::ServableId;
use crate::lifecycle::memory::release_freed;
use crate::lifecycle::signal::Signal;
use crate::lifecycle::source::storage::{Fingerprint, Storage};
use crate::lifecycle::{LifecycleOptions, Loader};
use crate::panics;
use crate::servable::Servable;

/// How often a version is loaded again because its files changed meanwhile.
const MAX_UNSETTLED_LOADS: u32 = 8;
/// The first pause for files to settle; it doubles up to the second.
const FIRST_SETTLE_PAUSE: Duration = Duration::from_millis(50);
const LAST_SETTLE_PAUSE: Duration = Duration::from_secs(4);

/// What a load works with.
pub(super) struct LoadJob<'a> {
    pub(super) id: &'a ServableId,
    pub(super) directory: &'a Path,
    pub(super) loader: &'a dyn Loader,
    pub(super) storage: &'a dyn Storage,
    pub(super) options: &'a LifecycleOptions,
    /// Raised when nobody wants the version any more.
    pub(super) cancel: &'a Signal,
}

/// How a load ended, and which files it saw in the last attempt.
pub(super) struct LoadEnd {
    pub(super) result: Result<Servable>,
    pub(super) fingerprint: Option<Fingerprint>,
}

impl LoadJob<'_> {
    /// Loads, tries again as often as the options say, and stops when cancelled
    /// (`util/retrier.cc`).
    pub(super) fn run(&self) -> LoadEnd {
        // Storage is somebody else's code as well.
        panics::caught(|| self.run_retrying()).unwrap_or_else(|panic| LoadEnd {
            result: Err(ServingError::internal(format!(
                "the load panicked: {panic}"
            ))),
            fingerprint: None,
        })
    }

    fn run_retrying(&self) -> LoadEnd {
        let mut retries = 0;
        loop {
            let (result, fingerprint) = self.load_settled();
            let is_over = match &result {
                Ok(_) => true,
                Err(error) => {
                    let (id, code) = (self.id, error.code());
                    warn!("Loading servable: {id} failed: {code}: {error}");
                    retries == self.options.max_num_load_retries
                }
            };
            let is_cancelled = self.cancel.is_raised()
                || (!is_over && self.cancel.wait(self.options.load_retry_interval));
            if is_over || is_cancelled {
                return LoadEnd {
                    result: if is_cancelled {
                        Err(cancelled())
                    } else {
                        result
                    },
                    fingerprint,
                };
            }
            retries += 1;
            let (id, max) = (self.id, self.options.max_num_load_retries);
            info!("Retrying of Loading servable: {id} retry: {retries} of {max}");
        }
    }

    /// Loads until the files are the same before and after, so that a directory that is still
    /// being copied is not served half.
    fn load_settled(&self) -> (Result<Servable>, Option<Fingerprint>) {
        let mut pause = FIRST_SETTLE_PAUSE;
        let mut before = self.storage.fingerprint(self.directory);
        for _ in 0..MAX_UNSETTLED_LOADS {
            let fingerprint = match before {
                Ok(fingerprint) => fingerprint,
                Err(error) => return (Err(self.unreadable(&error)), None),
            };
            let result = self.load_once();
            let after = self.storage.fingerprint(self.directory);
            let is_settled = matches!(&after, Ok(after) if *after == fingerprint);
            if result.is_err() || is_settled {
                return (result, Some(fingerprint));
            }
            drop(result);
            info!(
                "the files of {} changed while it was loaded, loading it again",
                self.id
            );
            if self.cancel.wait(pause) {
                return (Err(cancelled()), Some(fingerprint));
            }
            pause = (pause * 2).min(LAST_SETTLE_PAUSE);
            before = self.storage.fingerprint(self.directory);
        }
        let error = ServingError::new(
            Code::Aborted,
            format!("the files of {} keep changing", self.id),
        );
        (Err(error), before.ok())
    }

    /// A loader that panics has failed, no more.
    fn load_once(&self) -> Result<Servable> {
        let load = || self.loader.load(self.id, self.directory);
        let loaded = panics::caught(load).unwrap_or_else(|panic| {
            let text = format!("the loader panicked: {panic}");
            Err(ServingError::internal(text))
        });
        release_freed();
        loaded
    }

    /// The original looks at the files first to estimate the memory they need.
    fn unreadable(&self, error: &ServingError) -> ServingError {
        ServingError::new(
            error.code(),
            format!(
                "Error while attempting to reserve resources to load servable {}: {error}",
                self.id
            ),
        )
    }
}

/// The error of a version that went out of favour while it was loaded.
pub(super) fn cancelled() -> ServingError {
    ServingError::new(Code::Cancelled, "Loading of servable cancelled")
}
