//! Loads a version directory: files to graphs and signatures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Result, ServingError};
use crate::id::ServableId;
use crate::lifecycle::Loader;
use crate::onnx::OnnxModel;
use crate::runtime::Backend;
use crate::servable::Servable;
use crate::signature::derive;

/// Loads ONNX version directories onto a backend.
pub struct OnnxLoader {
    backend: Arc<dyn Backend>,
}

impl OnnxLoader {
    /// A loader that runs what it loads on `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }
}

impl Loader for OnnxLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let file = directory.join("model.onnx");
        if !file.exists() {
            return Err(ServingError::not_found(format!(
                "no ONNX model in {}",
                directory.display()
            )));
        }
        let mut model = OnnxModel::read(&file)?;
        model.drop_input_shapes();
        let graph = self.backend.load(model.into_source())?;
        let signature = derive("serving_default", graph.as_ref())?;
        Ok(Servable::new(
            id.clone(),
            [(signature, graph)],
            BTreeMap::new(),
        ))
    }
}
