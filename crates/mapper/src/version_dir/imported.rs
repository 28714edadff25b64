//! Imports the SavedModel of a version directory that has no ONNX file.
//!
//! Not here: the translation (`saved_model_import`), which of its signatures are planned (`plan`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::signature::{SAVED_MODEL_FILE, SavedModel};
use base::error::{Result, ServingError};
use onnx::OnnxModel;
use proto::onnx_model_server::{Input as MapInput, Output as MapOutput, Signature as MapSignature};
use proto::tensorflow::MetaGraphDef;
use saved_model_import::{Files, Imported, ImportedSignature, Refused, import};
use storage::version_directory::VersionDirectory;

/// The largest file of an asset that is read.
const MAX_FILE_BYTES: u64 = 64 << 30;

/// An imported SavedModel, as if its signatures were files.
pub(super) struct ImportedFiles {
    /// The model of each signature.
    pub(super) models: BTreeMap<String, OnnxModel>,
    /// For each signature, the tensors that are not named after their aliases.
    pub(super) maps: BTreeMap<String, MapSignature>,
    /// The signatures that cannot be served.
    pub(super) refused: Vec<Refused>,
}

impl ImportedFiles {
    /// Imports all signatures.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` if one of them cannot be imported, unless `partial` is set and another one can;
    /// `INVALID_ARGUMENT` for damaged files.
    pub(super) fn read(
        directory: &VersionDirectory,
        saved: &SavedModel,
        partial: bool,
    ) -> Result<Self> {
        let origin = directory
            .path()
            .join(SAVED_MODEL_FILE)
            .display()
            .to_string();
        let meta_graph = MetaGraphDef::decode(saved.meta_graph.clone()).map_err(|error| {
            ServingError::invalid_argument(format!("{origin} is damaged: {error}"))
        })?;
        let Imported {
            signatures,
            refused,
            statistics,
        } = import(&origin, &meta_graph, &InDirectory(directory))?;
        if !refused.is_empty() && (!partial || signatures.is_empty()) {
            let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
            return Err(ServingError::unimplemented(format!(
                "{origin} is not served: {}",
                texts.join(". ")
            )));
        }
        for signature in &refused {
            tracing::warn!("{origin}: not served: {signature}");
        }
        tracing::info!(
            operators = statistics.operators,
            nodes = statistics.nodes,
            milliseconds = statistics.duration.as_millis(),
            "imported {origin}"
        );
        let mut files = Self {
            models: BTreeMap::new(),
            maps: BTreeMap::new(),
            refused,
        };
        for (name, signature) in signatures {
            let map = renamed(&name, &signature);
            files.maps.extend(map.map(|it| (name.clone(), it)));
            files.models.insert(name, signature.model);
        }
        Ok(files)
    }
}

/// A map for the aliases whose tensors have other names.
fn renamed(name: &str, signature: &ImportedSignature) -> Option<MapSignature> {
    let differs = |(alias, tensor): &(&String, &String)| alias != tensor;
    let inputs = signature.inputs.iter().filter(differs);
    let outputs = signature.outputs.iter().filter(differs);
    let map = MapSignature {
        name: name.to_owned(),
        input: inputs
            .map(|(alias, tensor)| MapInput {
                alias: alias.clone(),
                tensor: tensor.clone(),
                ..MapInput::default()
            })
            .collect(),
        output: outputs
            .map(|(alias, tensor)| MapOutput {
                alias: alias.clone(),
                tensor: tensor.clone(),
                ..MapOutput::default()
            })
            .collect(),
        ..MapSignature::default()
    };
    (!map.input.is_empty() || !map.output.is_empty()).then_some(map)
}

struct InDirectory<'a>(&'a VersionDirectory);

impl Files for InDirectory<'_> {
    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.0.read_small(path, MAX_FILE_BYTES)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        self.0.size(path)
    }

    fn read_range(&self, path: &str, offset: u64, length: u64) -> Result<Option<Bytes>> {
        self.0.read_range(path, offset, length)
    }
}
