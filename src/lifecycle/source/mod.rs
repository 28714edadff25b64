//! Watches base paths and says which versions are aspired. Counterpart of
//! `FileSystemStoragePathSource`.
//!
//! Unlike there, a base path that cannot be listed keeps only its own model from being updated.
//! And a model file right in the base path counts as version 1 where no child is a version.
//!
//! Not here: what happens to the versions (`lifecycle::manager`), when to poll
//! (`lifecycle::server_core`).

pub mod storage;
mod versions;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, warn};

use self::storage::{Fingerprint, Storage};
pub use self::versions::VersionPolicy;
use self::versions::aspired_children;
use crate::error::{Code, Result, ServingError};

/// The file that makes a base path without version directories a version of its own.
const FLAT_MODEL_FILE: &str = "model.onnx";
/// The version of a model that lies right in its base path.
const FLAT_VERSION: i64 = 1;

/// A model to watch (`ServableToMonitor`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedModel {
    /// The model's name.
    pub name: Arc<str>,
    /// Where its version directories are.
    pub base_path: PathBuf,
    /// Which of them to serve.
    pub policy: VersionPolicy,
}

/// A version that should be loaded, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AspiredVersion {
    /// The version number.
    pub version: i64,
    /// Its directory.
    pub directory: PathBuf,
    /// The files that are to be loaded; another one means that they have changed.
    pub fingerprint: Fingerprint,
}

/// Takes the aspired versions of a model: the whole list each time.
pub(crate) trait AspiredVersionsSink {
    /// Everything not in `versions` is to be unloaded, everything in it to be loaded.
    fn set_aspired_versions(&self, model: &Arc<str>, versions: Vec<AspiredVersion>);
}

/// Finds the versions of the watched models.
pub(crate) struct Source {
    storage: Arc<dyn Storage>,
    /// Held during a whole poll, file system calls included: an answer about an old set of models
    /// must not arrive after the change to a new one.
    models: Mutex<Vec<WatchedModel>>,
}

impl Source {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            models: Mutex::new(Vec::new()),
        }
    }

    /// Names of the watched models.
    pub(crate) fn model_names(&self) -> Vec<Arc<str>> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|model| Arc::clone(&model.name)).collect()
    }

    /// Watches these models from now on. Models that are gone get an empty list at once, the
    /// others with the next poll.
    pub(crate) fn watch(&self, new: Vec<WatchedModel>, sink: &dyn AspiredVersionsSink) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        for old in models.iter() {
            if !new.iter().any(|model| model.name == old.name) {
                sink.set_aspired_versions(&old.name, Vec::new());
            }
        }
        *models = new;
    }

    /// Looks at every base path once and tells `sink` what is there. Returns, for each model, how
    /// many versions are aspired, or why nobody knows.
    pub(crate) fn poll(
        &self,
        sink: &dyn AspiredVersionsSink,
    ) -> Vec<(WatchedModel, Result<usize>)> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let poll_one = |model: &WatchedModel| {
            let aspired = self.aspired_versions(model);
            if let Err(error) = &aspired {
                error!(
                    "FileSystemStoragePathSource encountered a filesystem access error: Could \
                     not find base path {} for servable {} with error {}: {error}",
                    model.base_path.display(),
                    model.name,
                    error.code()
                );
            }
            let count = aspired.map(|versions| {
                let count = versions.len();
                sink.set_aspired_versions(&model.name, versions);
                count
            });
            (model.clone(), count)
        };
        models.iter().map(poll_one).collect()
    }

    fn aspired_versions(&self, model: &WatchedModel) -> Result<Vec<AspiredVersion>> {
        if let Some(versions) = self.specific_without_listing(model)? {
            return Ok(versions);
        }
        let children = self.storage.children(&model.base_path)?;
        let is_flat = children.iter().any(|name| name == FLAT_MODEL_FILE);
        let mut versions: Vec<AspiredVersion> =
            aspired_children(&model.name, &model.policy, children)
                .into_iter()
                .map(|(version, name)| self.aspired(version, model.base_path.join(name)))
                .collect();
        if versions.is_empty() && is_flat && !matches!(model.policy, VersionPolicy::Specific(_)) {
            versions.push(self.aspired(FLAT_VERSION, model.base_path.clone()));
        }
        if versions.is_empty() {
            warn!(
                "No versions of servable {} found under base path {}. Did you forget to name your \
                 leaf directory as a number (eg. '/1/')?",
                model.name,
                model.base_path.display()
            );
        }
        Ok(versions)
    }

    /// The versions of a specific policy, where each has a directory named by its plain number;
    /// a listing of the base path is not needed then.
    fn specific_without_listing(
        &self,
        model: &WatchedModel,
    ) -> Result<Option<Vec<AspiredVersion>>> {
        let VersionPolicy::Specific(wanted) = &model.policy else {
            return Ok(None);
        };
        let mut wanted: Vec<i64> = wanted.clone();
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut versions = Vec::with_capacity(wanted.len());
        for version in wanted {
            let directory = model.base_path.join(version.to_string());
            if version < 0 || !self.exists(&directory)? {
                return Ok(None);
            }
            versions.push(self.aspired(version, directory));
        }
        Ok(Some(versions))
    }

    fn aspired(&self, version: i64, directory: PathBuf) -> AspiredVersion {
        let fingerprint = self.storage.fingerprint(&directory);
        AspiredVersion {
            version,
            directory,
            fingerprint: fingerprint.unwrap_or(Fingerprint::UNREADABLE),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.storage.exists(path)
    }
}

/// A model whose base path holds no version (`fail_if_zero_versions_at_startup`'s error).
pub(crate) fn no_version_error(model: &WatchedModel) -> ServingError {
    ServingError::new(
        Code::NotFound,
        format!(
            "Unable to find a numerical version path for servable {} at: {}",
            model.name,
            model.base_path.display()
        ),
    )
}

#[cfg(test)]
mod tests;
