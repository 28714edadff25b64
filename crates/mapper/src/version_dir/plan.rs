//! Decides which signatures a version has, and which file has the graph of each.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::imported::{ImportedFiles, own_file};
use super::{SavedModelOptions, absent};
use crate::signature::{
    DEFAULT_SIGNATURE_NAME, MAP_FILE, SAVED_MODEL_FILE, SavedModel, SavedParseNode, SignatureDef,
    tensor_name,
};
use base::error::{Result, ServingError};
use codec::proto_text;
use onnx::OnnxModel;
use proto::onnx_model_server::{Signature as MapSignature, SignatureMap};
use storage::version_directory::{MAX_MESSAGE_BYTES, VersionDirectory};

/// The largest map that is read.
const MAX_MAP_BYTES: u64 = 64 << 20;
const MODEL_FILE: &str = "model.onnx";
/// The key of a signature map in an ONNX file's metadata.
const MAP_METADATA_KEY: &str = "signature_map";

/// The contents of a version directory, before any signature is bound to its graph.
pub(super) struct Plan {
    /// Sorted by name.
    pub(super) signatures: Vec<PlannedSignature>,
    /// The tags of the meta graph; `None` without a `saved_model.pb`.
    pub(super) tags: Option<Vec<String>>,
    /// Signatures that clients see only in the metadata.
    pub(super) metadata_only: BTreeMap<String, SignatureDef>,
    /// The SavedModel's nodes that parse examples.
    pub(super) parse_nodes: Vec<SavedParseNode>,
    /// The parsed models that are needed, by file name.
    pub(super) models: BTreeMap<String, OnnxModel>,
    /// Whether the models were made from the SavedModel.
    pub(super) is_imported: bool,
}

/// A signature, where its definition comes from, and where its graph is.
pub(super) struct PlannedSignature {
    pub(super) name: String,
    /// `None`: the signature uses the graph's own names.
    pub(super) original: Option<SignatureDef>,
    /// Each lies over those before it: first the map of the ONNX file's metadata, then the one of the
    /// directory.
    pub(super) maps: Vec<MapSignature>,
    /// The name of the ONNX file.
    pub(super) file: String,
}

impl Plan {
    /// Reads a version directory.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for a directory without an ONNX file, with advice on converting a SavedModel;
    /// `INVALID_ARGUMENT` for a damaged file, and for signatures that do not have a file or share one by
    /// accident.
    pub(super) fn read(directory: &VersionDirectory, options: &SavedModelOptions) -> Result<Self> {
        let mut files = directory.onnx_files()?;
        if files.is_empty() && !absent::has_saved_model(directory) {
            return Err(absent::no_onnx_file(directory));
        }
        let map = read_map_file(directory)?;
        let mut plan = Self {
            signatures: Vec::new(),
            tags: None,
            metadata_only: BTreeMap::new(),
            parse_nodes: Vec::new(),
            models: BTreeMap::new(),
            is_imported: false,
        };
        let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
        if directory.has(SAVED_MODEL_FILE) {
            let mut saved = read_saved_model(directory, &options.tags)?;
            if files.is_empty() {
                files = plan.import(directory, &mut saved, options.partial, &mut drafts)?;
            }
            plan.tags = Some(saved.tags);
            plan.metadata_only = saved.metadata_only;
            plan.parse_nodes = saved.parse_nodes;
            for (name, definition) in saved.signatures {
                drafts.entry(name).or_default().original = Some(definition);
            }
        } else {
            plan.derive(directory, &files, &map, &mut drafts)?;
        }
        for signature in map {
            let draft = drafts.entry(signature.name.clone()).or_default();
            draft.maps.push(signature);
        }
        plan.finish(directory, &files, drafts)?;
        Ok(plan)
    }

    /// Imports the signatures of the SavedModel. Returns the names of the files that would have their models.
    /// Signatures that cannot be served are seen in the metadata only.
    fn import(
        &mut self,
        directory: &VersionDirectory,
        saved: &mut SavedModel,
        partial: bool,
        drafts: &mut BTreeMap<String, Draft>,
    ) -> Result<Vec<String>> {
        let imported = ImportedFiles::read(directory, saved, partial)?;
        imported.log(directory);
        for refused in imported.refused {
            let definition = saved.signatures.remove(&refused.signature);
            let entry = definition.map(|it| (refused.signature, it));
            saved.metadata_only.extend(entry);
        }
        for (name, file) in imported.files {
            let map = imported.maps.get(&name).cloned();
            let draft = drafts.entry(name).or_default();
            draft.file = Some(file);
            draft.maps.extend(map);
        }
        self.models = imported.models;
        self.is_imported = true;
        Ok(self.models.keys().cloned().collect())
    }

    /// The signatures of a directory without `saved_model.pb`: those in the files' metadata; for a file
    /// without any, one signature with the graph's own names.
    fn derive(
        &mut self,
        directory: &VersionDirectory,
        files: &[String],
        map: &[MapSignature],
        drafts: &mut BTreeMap<String, Draft>,
    ) -> Result<()> {
        let main = match files {
            [only] => Some(only.as_str()),
            _ => files
                .iter()
                .map(String::as_str)
                .find(|it| *it == MODEL_FILE),
        };
        let named = |file: &str| {
            let names = map
                .iter()
                .filter(|it| file_of(it, files).as_deref() == Some(file));
            names.count() > 0
        };
        let derived: Vec<(&str, &str)> = match main {
            Some(file) => vec![(DEFAULT_SIGNATURE_NAME, file)],
            // If the map gives a file to a signature, the file does not need a signature named after it.
            None => files
                .iter()
                .filter(|file| !named(file))
                .map(|file| (file.trim_end_matches(".onnx"), file.as_str()))
                .collect(),
        };
        for (name, file) in derived {
            let model = self.model(directory, file)?;
            let Some(text) = model.metadata(MAP_METADATA_KEY) else {
                drafts.entry(name.to_owned()).or_default().file = Some(file.to_owned());
                continue;
            };
            let parsed: SignatureMap = proto_text::parse(text.as_bytes()).map_err(|error| {
                ServingError::invalid_argument(format!(
                    "{}: the signature map in its metadata: {error}",
                    model.origin()
                ))
            })?;
            for signature in checked(parsed, model.origin())? {
                let draft = drafts.entry(signature.name.clone()).or_default();
                draft.file = Some(file.to_owned());
                draft.maps.push(signature);
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        directory: &VersionDirectory,
        files: &[String],
        drafts: BTreeMap<String, Draft>,
    ) -> Result<()> {
        let mut by_file: BTreeMap<String, String> = BTreeMap::new();
        for (name, draft) in drafts {
            let mapped = draft.maps.iter().rfind(|map| !map.graph.is_empty());
            let is_given = mapped.is_some() || draft.file.is_some();
            let file = match (mapped, draft.file) {
                (Some(map), _) => map.graph.clone(),
                (None, Some(file)) => file,
                (None, None) => {
                    graph_file(&name, files).ok_or_else(|| no_graph(&name, directory))?
                }
            };
            if !is_given
                && file == own_file(&name)
                && let Some(other) = by_file.insert(file.clone(), name.clone())
            {
                return Err(ServingError::invalid_argument(format!(
                    "{}: the signatures '{other}' and '{name}' come to the same file {file}; a \
                     signature_map.pbtxt can give each its graph",
                    directory.path().display()
                )));
            }
            self.model(directory, &file)?;
            self.signatures.push(PlannedSignature {
                name,
                original: draft.original,
                maps: draft.maps,
                file,
            });
        }
        let used: BTreeSet<&String> = self.signatures.iter().map(|it| &it.file).collect();
        self.models.retain(|file, _| used.contains(file));
        if self.signatures.is_empty() {
            return Err(ServingError::invalid_argument(format!(
                "{}: the model has no signature that clients can call",
                directory.path().display()
            )));
        }
        Ok(())
    }

    fn model(&mut self, directory: &VersionDirectory, file: &str) -> Result<&OnnxModel> {
        if !self.models.contains_key(file) {
            let origin = directory.path().join(file).display().to_string();
            let contents = directory.read(file, MAX_MESSAGE_BYTES)?;
            let model = OnnxModel::parse(origin.as_str(), &contents)
                .map_err(|error| absent::not_a_model(&origin, &contents, error))?;
            self.models.insert(file.to_owned(), model);
        }
        Ok(&self.models[file])
    }
}

/// The names that the signatures on a file have for inputs, and the tensor names in their maps.
pub(super) fn named_inputs(signatures: &[PlannedSignature], file: &str) -> HashSet<String> {
    let mut names = HashSet::new();
    for signature in signatures.iter().filter(|it| it.file == file) {
        let infos = signature.original.iter().flat_map(|it| &it.inputs);
        for (alias, info) in infos {
            let tensor = tensor_name(info);
            let tensor = tensor.strip_suffix(":0").unwrap_or(tensor);
            names.extend([alias.clone(), tensor.to_owned()]);
        }
        for map in &signature.maps {
            for input in map.input.iter().filter(|it| !it.drop) {
                names.extend([input.alias.clone(), input.tensor.clone()]);
            }
            names.extend(map.constant.iter().map(|it| it.tensor.clone()));
            let features = map.example_input.iter().flat_map(|it| &it.feature);
            names.extend(features.map(|it| it.tensor.clone()));
        }
    }
    names
}

/// The parts of a signature that are known so far.
#[derive(Default)]
struct Draft {
    original: Option<SignatureDef>,
    maps: Vec<MapSignature>,
    file: Option<String>,
}

/// The SavedModel's meta graph with these tags.
pub(super) fn read_saved_model(
    directory: &VersionDirectory,
    tags: &[String],
) -> Result<SavedModel> {
    let origin = directory.path().join(SAVED_MODEL_FILE);
    let contents = directory.read(SAVED_MODEL_FILE, MAX_MESSAGE_BYTES)?;
    SavedModel::parse(&origin.display().to_string(), contents.clone(), tags)
        .map_err(|error| absent::not_a_saved_model(&origin, &contents, error))
}

/// The signatures of the directory's map.
pub(super) fn read_map_file(directory: &VersionDirectory) -> Result<Vec<MapSignature>> {
    if !directory.has(MAP_FILE) {
        return Ok(Vec::new());
    }
    let origin = directory.path().join(MAP_FILE).display().to_string();
    let map: SignatureMap = proto_text::parse(&directory.read(MAP_FILE, MAX_MAP_BYTES)?)
        .map_err(|error| ServingError::invalid_argument(format!("{origin}: {error}")))?;
    checked(map, &origin)
}

/// Checks the signatures of a map: each gets a name, and none occurs twice.
fn checked(map: SignatureMap, origin: &str) -> Result<Vec<MapSignature>> {
    let mut names = BTreeSet::new();
    let mut signatures = map.signature;
    for signature in &mut signatures {
        if signature.name.is_empty() {
            signature.name = DEFAULT_SIGNATURE_NAME.to_owned();
        }
        if !names.insert(signature.name.clone()) {
            return Err(ServingError::invalid_argument(format!(
                "{origin}: signature '{}' occurs twice",
                signature.name
            )));
        }
    }
    Ok(signatures)
}

fn file_of(map: &MapSignature, files: &[String]) -> Option<String> {
    if map.graph.is_empty() {
        graph_file(&map.name, files)
    } else {
        Some(map.graph.clone())
    }
}

/// The file of a signature without a file in the map: its own, `model.onnx`, or the only one.
pub(super) fn graph_file(signature: &str, files: &[String]) -> Option<String> {
    let own = own_file(signature);
    let mut found = [own.as_str(), MODEL_FILE].into_iter();
    let found = found.find(|name| files.iter().any(|file| file == name));
    match (found, files) {
        (Some(name), _) => Some(name.to_owned()),
        (None, [only]) => Some(only.clone()),
        _ => None,
    }
}

fn no_graph(signature: &str, directory: &VersionDirectory) -> ServingError {
    ServingError::invalid_argument(format!(
        "{}: signature '{signature}' has no graph: there is neither {} nor {MODEL_FILE} nor only \
         one *.onnx file; a signature_map.pbtxt can name one",
        directory.path().display(),
        own_file(signature)
    ))
}
