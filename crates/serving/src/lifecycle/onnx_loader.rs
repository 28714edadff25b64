//! Makes a servable from a version that the mapper has loaded.
//!
//! Not here: reading the directory and loading its graphs (`mapper::version_dir`).

#[cfg(test)]
#[cfg(feature = "onnxruntime")]
mod tests;

use std::path::Path;
use std::sync::Arc;

use super::Loader;
use crate::servable::Servable;
use base::error::Result;
use base::id::ServableId;
use mapper::version_dir::OnnxLoader;
use runtime::placement::Placements;

/// The lowest loader. All of its servables share one [`Placements`].
pub struct ServableLoader {
    versions: OnnxLoader,
    placements: Arc<Placements>,
}

impl ServableLoader {
    /// Makes servables of the versions that `versions` loads.
    pub fn new(versions: OnnxLoader, placements: Arc<Placements>) -> Self {
        Self {
            versions,
            placements,
        }
    }
}

impl Loader for ServableLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let version = self.versions.load_version(directory)?;
        Ok(Servable::new(
            id.clone(),
            version.signatures,
            version.metadata_only,
            &self.placements,
        ))
    }
}
