//! One load of one version, on its thread, and whether its files stayed as they were meanwhile.
//!
//! Not here: making a servable (the [`Loader`]), what to load and when, tries after a failure
//! (`manager`).

use std::path::Path;
use std::sync::Arc;

use crate::lifecycle::signal::Signal;
use crate::lifecycle::{Loader, NoRoom};
use crate::servable::Servable;
use base::allocator::release_freed;
use base::error::{Code, Result, ServingError};
use base::id::ServableId;
use base::panics;
use storage::local::{Files, Fingerprint, Storage};

/// What a load works with.
pub(super) struct LoadJob<'a> {
    pub(super) id: &'a ServableId,
    pub(super) directory: &'a Path,
    pub(super) loader: &'a dyn Loader,
    pub(super) storage: &'a dyn Storage,
    /// The only files that are worth a load, where not all are.
    pub(super) wanted: Option<Fingerprint>,
    /// Raised when the load is given up.
    pub(super) given_up: &'a Arc<Signal>,
}

/// How a load ended.
pub(super) enum Outcome {
    Loaded(Servable),
    /// The files changed meanwhile: what was loaded may be half of each.
    Unsettled,
    /// There is no room for it until another load has ended.
    NoRoom,
    Failed(ServingError),
}

impl LoadJob<'_> {
    /// Loads. Returns the files that it found, too, where they could be looked at.
    pub(super) fn run(&self) -> (Outcome, Option<Arc<Files>>) {
        let mut found = None;
        // Storage and reservations are other people's code as well as the loader.
        let ended = panics::caught(|| self.load_settled(&mut found));
        let outcome = ended.unwrap_or_else(|panic| {
            let text = format!("the load panicked: {panic}");
            Outcome::Failed(ServingError::internal(text))
        });
        // What was there before is nothing that was tried as a whole.
        let found = found.filter(|_| !matches!(outcome, Outcome::Unsettled));
        (outcome, found)
    }

    fn load_settled(&self, found: &mut Option<Arc<Files>>) -> Outcome {
        let before = match self.storage.files(self.directory) {
            Ok(before) => Arc::new(before),
            Err(error) => return Outcome::Failed(self.unreadable(&error)),
        };
        *found = Some(Arc::clone(&before));
        if self.wanted.is_some_and(|it| it != before.fingerprint()) {
            return Outcome::Unsettled;
        }
        let _reservation = match self.loader.reserve(self.id, self.directory, self.given_up) {
            Ok(reservation) => reservation,
            Err(NoRoom::ForNow) => return Outcome::NoRoom,
            Err(NoRoom::Refused(error)) => return Outcome::Failed(error),
        };
        if self.given_up.is_raised() {
            return Outcome::Failed(cancelled());
        }
        let servable = match self.load_once() {
            Ok(servable) => servable,
            Err(error) => return Outcome::Failed(error),
        };
        match self.storage.files(self.directory) {
            Ok(after) if after == *before => Outcome::Loaded(servable),
            _ => Outcome::Unsettled,
        }
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

    /// TensorFlow Serving looks at the files first to estimate the memory they need.
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
