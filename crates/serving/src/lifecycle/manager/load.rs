//! One load of one version on its thread, and the check that its files did not change meanwhile.
//!
//! Not here: making a servable (the [`Loader`]), when to load which version, and retries after a
//! failure (`manager`).

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

/// The inputs of a load.
pub(super) struct LoadJob<'a> {
    pub(super) id: &'a ServableId,
    pub(super) directory: &'a Path,
    pub(super) loader: &'a dyn Loader,
    pub(super) storage: &'a dyn Storage,
    /// The files that the load must find; `None` accepts any.
    pub(super) wanted: Option<Fingerprint>,
    /// Raised when the load is given up.
    pub(super) given_up: &'a Arc<Signal>,
}

/// The result of a load.
pub(super) enum LoadOutcome {
    Loaded(Servable),
    /// The files changed meanwhile, so the servable could be a mixture of old and new files.
    Unsettled,
    /// The load does not fit into memory until another one has ended.
    NoRoom,
    Failed(ServingError),
}

impl LoadJob<'_> {
    /// Loads the version. Also returns the files that it found, if they could be read.
    pub(super) fn run(&self) -> (LoadOutcome, Option<Arc<Files>>) {
        let mut found = None;
        // The storage and the reservation can panic, as well as the loader.
        let ended = panics::caught(|| self.load_settled(&mut found));
        let outcome = ended.unwrap_or_else(|panic| {
            let text = format!("the load panicked: {panic}");
            LoadOutcome::Failed(ServingError::internal(text))
        });
        // If the files changed, those found before were not tried as a whole.
        let found = found.filter(|_| !matches!(outcome, LoadOutcome::Unsettled));
        (outcome, found)
    }

    fn load_settled(&self, found: &mut Option<Arc<Files>>) -> LoadOutcome {
        let before = match self.storage.files(self.directory) {
            Ok(before) => Arc::new(before),
            Err(error) => return LoadOutcome::Failed(self.unreadable(error)),
        };
        *found = Some(Arc::clone(&before));
        if self.wanted.is_some_and(|it| it != before.fingerprint()) {
            return LoadOutcome::Unsettled;
        }
        let _reservation = match self.loader.reserve(self.id, self.directory, self.given_up) {
            Ok(reservation) => reservation,
            Err(NoRoom::ForNow) => return LoadOutcome::NoRoom,
            Err(NoRoom::Refused(error)) => return LoadOutcome::Failed(error),
        };
        if self.given_up.is_raised() {
            return LoadOutcome::Failed(cancelled());
        }
        let servable = match self.load_once() {
            Ok(servable) => servable,
            Err(error) => return LoadOutcome::Failed(error),
        };
        match self.storage.files(self.directory) {
            Ok(after) if after == *before => LoadOutcome::Loaded(servable),
            _ => LoadOutcome::Unsettled,
        }
    }

    /// Loads once. If the loader panics, the load fails.
    fn load_once(&self) -> Result<Servable> {
        let load = || self.loader.load(self.id, self.directory);
        let loaded = panics::caught(load).unwrap_or_else(|panic| {
            let text = format!("the loader panicked: {panic}");
            Err(ServingError::internal(text))
        });
        release_freed();
        loaded
    }

    /// TensorFlow Serving reads the sizes of the files first, to estimate the memory they need.
    fn unreadable(&self, error: ServingError) -> ServingError {
        let text = format!(
            "Error while attempting to reserve resources to load servable {}: {error}",
            self.id
        );
        error.with_text(text)
    }
}

/// The error of a version that was no longer wanted while it was loaded.
pub(super) fn cancelled() -> ServingError {
    ServingError::new(Code::Cancelled, "Loading of servable cancelled")
}
