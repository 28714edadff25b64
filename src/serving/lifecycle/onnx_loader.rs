//! Makes a servable of a version that the mapper has loaded.
//!
//! Not here: reading the directory and loading its graphs (`mapper::version_dir`).

#[cfg(test)]
#[cfg(feature = "onnxruntime")]
mod tests;

use std::path::Path;

use super::Loader;
use crate::base::error::Result;
use crate::base::id::ServableId;
use crate::mapper::version_dir::OnnxLoader;
use crate::serving::servable::Servable;

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
