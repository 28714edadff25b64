//! Loads a version directory: files to signatures, signatures to graphs, graphs onto a backend.
//!
//! `prepared` reads all of a directory: `plan` finds the signatures and the file with the graph of each, and
//! `bind` connects a signature to the tensors of its graph. `graphs` decides which graphs to load, and
//! `left_out` which edits to leave out. `storage::version_directory` decides which files can be read. `absent`
//! and `storage::foreign` write the errors for a directory without an ONNX model. `show` describes a directory
//! for people.

pub mod absent;
mod bind;
mod example;
mod examples;
mod filled;
mod graphs;
mod imported;
mod left_out;
mod needed;
mod no_graph;
mod plan;
mod prepared;
mod ranked;
mod rename;
mod show;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use self::bind::BoundSignature;
use self::graphs::PlannedGraph;
use self::no_graph::NoGraph;
use self::prepared::Prepared;
use crate::signature::{Signature, SignatureDef};
use base::error::{Result, ServingError};
use onnx::OnnxModel;
use runtime::{Backend, Graph, WeightSharing};

pub use self::absent::{base_path_hint, not_records};
pub use self::example::example;
pub use self::needed::{Needed, needed_operators};
pub use self::show::{Shown, check_tag_set, show};
pub use self::written::{ImportOptions, Written, import_version, unconverted_versions};
pub use storage::version_directory::VersionDirectory;

/// The meta graph that is served unless another one is configured.
const DEFAULT_TAG: &str = "serve";
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
    saved_model: SavedModelOptions,
}

/// The part of a `saved_model.pb` that is served.
#[derive(Clone, Debug)]
pub struct SavedModelOptions {
    /// The meta graph with exactly these tags (`--saved_model_tags`).
    pub tags: Vec<String>,
    /// Whether a version without ONNX files is served if only some of its signatures can be
    /// (`--saved_model_partial`).
    pub partial: bool,
}

impl Default for SavedModelOptions {
    fn default() -> Self {
        Self {
            tags: vec![DEFAULT_TAG.to_owned()],
            partial: false,
        }
    }
}

impl OnnxLoader {
    /// A loader that runs graphs on `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            saved_model: SavedModelOptions::default(),
        }
    }

    /// The same, with other options for `saved_model.pb`.
    #[must_use]
    pub fn with_saved_model_options(mut self, options: SavedModelOptions) -> Self {
        self.saved_model = options;
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
                "the model runs on inputs of its declared shapes only: {}",
                error.report()
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
                "{text}. The server checks the inputs of {refused}, whose kernel ends the process on some inputs. \
                 Give it constants that it takes, declare the shapes of its inputs in the file, or convert \
                 the file to a later opset"
            );
        }
        Err(error.with_text(text))
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
        let read = |without: &_| Prepared::read(directory, &self.saved_model, without);
        let prepared = read(&BTreeSet::new())?;
        let is_partial = self.saved_model.partial && prepared.is_imported;
        let error = match self.load_prepared(prepared, false) {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        let edits = read(&BTreeSet::new())?.edits(self.backend.as_ref());
        let load = |without: &_| self.load_prepared(read(without)?, false);
        match left_out::load(directory, &edits, error, &load) {
            Err(_) if is_partial => self.load_prepared(read(&BTreeSet::new())?, true),
            result => result,
        }
    }

    /// Loads all graphs. If `is_partial`, signatures whose graphs the backend refuses are seen in the metadata
    /// only, as long as there are others.
    fn load_prepared(&self, prepared: Prepared, is_partial: bool) -> Result<MappedVersion> {
        let no_graph: Arc<dyn Graph> = Arc::new(NoGraph);
        let count = prepared.signatures.len();
        let (bound, with_optional) = split_optional(prepared.signatures)?;
        let mut loaded = vec![no_graph; bound.len()];
        let mut refused = BTreeSet::new();
        let mut last = None;
        for planned in graphs::plan(&bound) {
            let users = planned.signatures.clone();
            let names = users.iter().map(|&index| bound[index].name());
            let names: Vec<&str> = names.collect();
            match self.load_graph(planned, &names.join("', '")) {
                Ok(graph) => {
                    for index in users {
                        loaded[index] = Arc::clone(&graph);
                    }
                }
                Err(error) if is_partial => {
                    tracing::warn!("not served: {}", error.report());
                    refused.extend(names.into_iter().map(str::to_owned));
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let finish = |index: usize| -> Result<(Signature, Arc<dyn Graph>)> {
            let graph = Arc::clone(&loaded[index]);
            Ok((bound[index].finish(graph.as_ref())?, graph))
        };
        let served = (0..count).filter(|&index| !refused.contains(bound[index].name()));
        let signatures = served.map(|index| {
            let (signature, graph) = finish(index)?;
            let with_optional = with_optional.get(&index).map(|&other| finish(other));
            Ok(MappedSignature {
                signature,
                graph,
                with_optional: with_optional.transpose()?,
            })
        });
        let signatures: Vec<_> = signatures.collect::<Result<_>>()?;
        if let Some(error) = last.filter(|_| signatures.is_empty()) {
            return Err(error);
        }
        let mut metadata_only = prepared.metadata_only;
        let refused = bound.iter().filter(|it| refused.contains(it.name()));
        metadata_only.extend(refused.map(|it| (it.name().to_owned(), it.definition().clone())));
        Ok(MappedVersion {
            signatures,
            metadata_only,
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
