//! Imports the SavedModel of a version directory that has no ONNX file.
//!
//! Not here: the translation (`saved_model_import`), which of its signatures are planned (`plan`).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::signature::{SAVED_MODEL_FILE, SavedModel};
use base::error::{Result, ServingError};
use onnx::OnnxModel;
use proto::onnx_model_server::{Input as MapInput, Output as MapOutput, Signature as MapSignature};
use proto::tensorflow::MetaGraphDef;
use saved_model_import::{Files, Imported, ImportedSignature, Refused, Statistics, decode, import};
use storage::version_directory::VersionDirectory;

/// The largest file of an asset that is read.
const MAX_FILE_BYTES: u64 = 64 << 30;

/// An imported SavedModel, as if it had ONNX files.
pub(super) struct ImportedFiles {
    /// The distinct models, each with the name of its file.
    pub(super) models: BTreeMap<String, OnnxModel>,
    /// The file of each signature.
    pub(super) files: BTreeMap<String, String>,
    /// For each signature, the tensors that are not named after their aliases.
    pub(super) maps: BTreeMap<String, MapSignature>,
    /// The signatures that cannot be served.
    pub(super) refused: Vec<Refused>,
    /// The counts for the log.
    pub(super) statistics: Statistics,
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
        let meta_graph = meta_graph(&origin, saved)?;
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
        let mut files = Self {
            models: BTreeMap::new(),
            files: BTreeMap::new(),
            maps: BTreeMap::new(),
            refused,
            statistics,
        };
        for (name, signature) in signatures {
            files.add(name, signature);
        }
        Ok(files)
    }

    /// Logs the counts, and the signatures that are left out.
    pub(super) fn log(&self, directory: &VersionDirectory) {
        let origin = directory.path().join(SAVED_MODEL_FILE);
        let origin = origin.display();
        for signature in &self.refused {
            tracing::warn!("{origin}: not served: {signature}");
        }
        let statistics = &self.statistics;
        let fused = statistics.fused.iter();
        let fused: Vec<String> = fused.map(|(op, count)| format!("{count} {op}")).collect();
        tracing::info!(
            operators = statistics.operators,
            nodes = statistics.nodes,
            milliseconds = statistics.duration.as_millis(),
            folded = statistics.folded,
            fused = fused.join(", "),
            "imported {origin}"
        );
    }

    /// Adds a signature. Those with the same graph, such as Keras's `serve` and `serving_default`, have one file.
    fn add(&mut self, name: String, signature: ImportedSignature) {
        let map = renamed(&name, &signature);
        self.maps.extend(map.map(|it| (name.clone(), it)));
        let mut models = self.models.iter();
        let same = models.find(|(_, it)| it.is_same_graph(&signature.model));
        let file = match same {
            Some((file, _)) => file.clone(),
            None => {
                let mut file = own_file(&name);
                while self.models.contains_key(&file) {
                    file.insert(0, '_');
                }
                self.models.insert(file.clone(), signature.model);
                file
            }
        };
        self.files.insert(name, file);
    }
}

/// The meta graph of a SavedModel.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it is damaged, or would take too much memory.
pub(super) fn meta_graph(origin: &str, saved: &SavedModel) -> Result<MetaGraphDef> {
    decode(origin, saved.meta_graph.clone())
}

/// `<signature>.onnx`, with `_` for characters that should not be in a file name.
pub(super) fn own_file(signature: &str) -> String {
    let clean = |c: char| match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-' => c,
        _ => '_',
    };
    let name: String = signature.chars().map(clean).collect();
    format!("{name}.onnx")
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
