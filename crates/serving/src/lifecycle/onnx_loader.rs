//! Makes a servable from a version that the mapper has loaded.
//!
//! Not here: reading the directory and loading its graphs (`mapper::version_dir`).

#[cfg(test)]
#[cfg(feature = "onnxruntime")]
mod tests;

use std::path::Path;

use super::Loader;
use crate::servable::Servable;
use base::error::Result;
use base::id::ServableId;
use mapper::version_dir::OnnxLoader;

impl Loader for OnnxLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let version = self.load_version(directory)?;
        Ok(Servable::new(
            id.clone(),
            version.signatures,
            version.metadata_only,
        ))
    }
}
