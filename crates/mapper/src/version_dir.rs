//! Loads a version directory: files to signatures, signatures to graphs, graphs onto a backend.
//!
//! `plan` finds the signatures and the file with the graph of each. `bind` connects a signature to the
//! tensors of its graph, `graphs` decides which graphs to load, and `left_out` which edits to leave out.
//! `storage::version_directory` decides which files can be read. `absent` and `storage::foreign` write the errors for a directory
//! without an ONNX model. `show` describes a directory for people.

pub mod absent;
mod bind;
mod examples;
mod filled;
mod graphs;
mod left_out;
mod no_graph;
mod plan;
mod ranked;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use self::bind::{BoundSignature, GraphFile, bind};
use self::graphs::PlannedGraph;
use self::no_graph::NoGraph;
use self::plan::Plan;
use crate::signature::{Signature, SignatureDef};
use base::error::{Result, ServingError};
use onnx::{ClassLabels, Edit, OnnxModel};
use proto::onnx_model_server::Labels;
use runtime::{Backend, Graph, WeightSharing};

pub use self::absent::{base_path_hint, not_records};
pub use self::show::{Shown, check_tag_set, show};
pub use storage::version_directory::VersionDirectory;

/// The meta graph that is served unless another one is configured.
const DEFAULT_TAG: &str = "serve";
/// The largest file of labels that is read.
const MAX_LABELS_BYTES: u64 = 64 << 20;

/// A version whose graphs are loaded.
pub struct MappedVersion {
    /// Sorted by name.
    pub signatures: Vec<MappedSignature>,
    /// Signatures that clients see in the metadata but cannot call, such as TensorFlow 2's
    /// `__saved_model_init_op`.
    pub metadata_only: BTreeMap<String, SignatureDef>,
}

/// A signature and its graph, loaded.
pub struct MappedSignature {
    /// In the graph's terms.
    pub signature: Signature,
    /// Computes the signature.
    pub graph: Arc<dyn Graph>,
    /// The same for requests that send an input for which `graph` has a default.
    pub with_optional: Option<(Signature, Arc<dyn Graph>)>,
}

impl From<(Signature, Arc<dyn Graph>)> for MappedSignature {
    /// A signature whose inputs are all fed in every run.
    fn from((signature, graph): (Signature, Arc<dyn Graph>)) -> Self {
        Self {
            signature,
            graph,
            with_optional: None,
        }
    }
}

/// Loads ONNX version directories onto a backend.
pub struct OnnxLoader {
    backend: Arc<dyn Backend>,
    saved_model_tags: Vec<String>,
}

impl OnnxLoader {
    /// A loader that runs graphs on `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            saved_model_tags: vec![DEFAULT_TAG.to_owned()],
        }
    }

    /// The same, choosing the meta graph with exactly these tags (`--saved_model_tags`).
    #[must_use]
    pub fn with_saved_model_tags(mut self, tags: Vec<String>) -> Self {
        self.saved_model_tags = tags;
        self
    }

    fn load_graph(&self, planned: PlannedGraph, signature: &str) -> Result<Arc<dyn Graph>> {
        let PlannedGraph {
            model,
            ranked,
            sharing,
            ..
        } = planned;
        let error = match ranked::load(&self.backend, &model, ranked, sharing.clone()) {
            Ok(graph) => return Ok(graph),
            Err(error) => error,
        };
        // An operator that needs to know its shapes might run with the declared ones.
        let (origin, producer) = (model.origin().to_owned(), model.producer().to_owned());
        let checked = match self.backend.may_end_the_process() {
            true => model.checked_operators(),
            false => BTreeSet::new(),
        };
        if let Ok(graph) = self.load_as_declared(model, sharing) {
            tracing::warn!(
                model = origin,
                signature,
                "the model runs on inputs of its declared shapes only: {error}"
            );
            return Ok(graph);
        }
        let mut text = format!("signature '{signature}' cannot be served: {error}");
        if let Some(advice) = self.backend.advice(&error, &producer) {
            text.truncate(text.trim_end_matches('.').len());
            text = format!("{text}. {advice}");
        }
        let refused = refused_checks(&error, &checked);
        if !refused.is_empty() {
            text = format!(
                "{text}. The server checks what {refused} reads, which ends the process on some inputs. \
                 Give it constants that it takes, declare the shapes of its inputs in the file, or convert \
                 the file to a later opset"
            );
        }
        Err(ServingError::new(error.code(), text))
    }
}

impl OnnxLoader {
    /// Loads a graph that accepts only its declared shapes.
    fn load_as_declared(
        &self,
        mut model: OnnxModel,
        sharing: Option<WeightSharing>,
    ) -> Result<Arc<dyn Graph>> {
        if self.backend.may_end_the_process() {
            model.inputs_of_untried_operators()?;
            let inputs = model.inputs().into_iter().map(|it| it.name);
            model.guard_kernels(&inputs.collect())?;
        }
        self.backend.load(model.into_source(sharing)?)
    }
}

/// The operators whose checks a backend's error is about. If the backend computed a check while it loaded
/// the graph, the error does not name it, and all are returned.
fn refused_checks(error: &ServingError, checked: &BTreeSet<String>) -> String {
    let text = error.to_string();
    let is_named = |operator: &str| {
        let mut checks = text.split("check that input ").skip(1);
        checks.any(|it| it.split(' ').nth(2) == Some(operator))
    };
    let names = checked.iter().map(String::as_str);
    let mut refused: Vec<&str> = names.clone().filter(|it| is_named(it)).collect();
    if refused.is_empty() && text.contains("Integer division by zero") {
        refused.extend(names);
    }
    refused.join(" or ")
}

impl OnnxLoader {
    /// Loads the version in `directory` onto the backend, completely: nothing is read from the directory
    /// after this returns.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for a directory without a model, `INVALID_ARGUMENT` for a broken model; the text names
    /// the file.
    pub fn load_version(&self, directory: &Path) -> Result<MappedVersion> {
        let read = |without: &_| Prepared::read(directory, &self.saved_model_tags, without);
        let prepared = read(&BTreeSet::new())?;
        let error = match self.load_prepared(prepared) {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        let edits = read(&BTreeSet::new())?.edits(self.backend.as_ref());
        let load = |without: &_| self.load_prepared(read(without)?);
        left_out::load(directory, &edits, error, &load)
    }

    fn load_prepared(&self, prepared: Prepared) -> Result<MappedVersion> {
        let no_graph: Arc<dyn Graph> = Arc::new(NoGraph);
        let count = prepared.signatures.len();
        let (bound, with_optional) = split_optional(prepared.signatures)?;
        let mut loaded = vec![no_graph; bound.len()];
        for planned in graphs::plan(&bound) {
            let users = planned.signatures.clone();
            let names = users.iter().map(|&index| bound[index].name());
            let names: Vec<&str> = names.collect();
            let graph = self.load_graph(planned, &names.join("', '"))?;
            for index in users {
                loaded[index] = Arc::clone(&graph);
            }
        }
        let finish = |index: usize| -> Result<(Signature, Arc<dyn Graph>)> {
            let graph = Arc::clone(&loaded[index]);
            Ok((bound[index].finish(graph.as_ref())?, graph))
        };
        let signatures = (0..count).map(|index| {
            let (signature, graph) = finish(index)?;
            let with_optional = with_optional.get(&index).map(|&other| finish(other));
            Ok(MappedSignature {
                signature,
                graph,
                with_optional: with_optional.transpose()?,
            })
        });
        Ok(MappedVersion {
            signatures: signatures.collect::<Result<_>>()?,
            metadata_only: prepared.metadata_only,
        })
    }
}

/// Splits off the inputs with defaults. First come all signatures, on graphs without these inputs. Behind
/// them come the signatures with such inputs once more, on graphs that take them. The map has the index of
/// the latter by that of the former.
fn split_optional(
    signatures: Vec<BoundSignature>,
) -> Result<(Vec<BoundSignature>, BTreeMap<usize, usize>)> {
    let count = signatures.len();
    let (mut first, mut others) = (Vec::with_capacity(count), Vec::new());
    let mut places = BTreeMap::new();
    for (index, bound) in signatures.into_iter().enumerate() {
        match bound.without_optional()? {
            Some(without) => {
                places.insert(index, count + others.len());
                first.push(without);
                others.push(bound);
            }
            None => first.push(bound),
        }
    }
    first.extend(others);
    Ok((first, places))
}

/// A version directory, read and checked, but not yet loaded onto a backend.
struct Prepared {
    /// Sorted by name.
    signatures: Vec<BoundSignature>,
    /// The tags of the meta graph; `None` without a `saved_model.pb`.
    tags: Option<Vec<String>>,
    metadata_only: BTreeMap<String, SignatureDef>,
    /// The edits made to the files' graphs.
    edits: BTreeSet<Edit>,
}

impl Prepared {
    /// Reads a version directory. The edits in `without` are not made.
    fn read(path: &Path, tags: &[String], without: &BTreeSet<Edit>) -> Result<Self> {
        let directory = VersionDirectory::open(path)?;
        let mut plan = Plan::read(&directory, tags)?;
        let mut class_labels: BTreeMap<String, Vec<ClassLabels>> = BTreeMap::new();
        let mut edits = BTreeSet::new();
        for (file, model) in &mut plan.models {
            model.read_external_data(&mut |name| {
                let data = directory.read_external_data(name)?;
                absent::check_weights(&directory.path().join(name), &data)?;
                Ok(data)
            })?;
            model.open_optional_inputs(&plan::named_inputs(&plan.signatures, file));
            model.rewrite_operators(without)?;
            edits.extend(model.edits());
            class_labels.insert(file.clone(), model.drop_zip_maps());
            model.take_sequences_apart();
        }
        let read_labels = |labels: &Labels| read_labels(&directory, labels);
        let bound = plan.signatures.iter().map(|planned| {
            let file = GraphFile {
                name: &planned.file,
                model: &plan.models[&planned.file],
                class_labels: &class_labels[&planned.file],
                parse_nodes: &plan.parse_nodes,
                read_labels: &read_labels,
            };
            bind(planned, &file)
        });
        Ok(Self {
            signatures: bound.collect::<Result<_>>()?,
            tags: plan.tags,
            metadata_only: plan.metadata_only,
            edits,
        })
    }

    /// The edits that were made and that this backend can do without.
    fn edits(&self, backend: &dyn Backend) -> BTreeSet<Edit> {
        let mut edits = self.edits.clone();
        for bound in &self.signatures {
            edits.extend(bound.model.edits());
        }
        edits.retain(|it| !(it.protects() && backend.may_end_the_process()));
        edits
    }
}

/// Reads labels, inline or from a file with one label a line.
fn read_labels(directory: &VersionDirectory, labels: &Labels) -> Result<Vec<Bytes>> {
    if labels.file.is_empty() {
        let labels = labels.label.iter().cloned();
        return Ok(labels.map(Bytes::from).collect());
    }
    let text = directory.read(&labels.file, MAX_LABELS_BYTES)?;
    let text = text
        .strip_suffix(b"\n")
        .map_or(text.clone(), |it| text.slice_ref(it));
    let lines = text.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.map(|line| text.slice_ref(line)).collect())
}
