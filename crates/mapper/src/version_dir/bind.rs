//! Binds a signature to its graph: finds a tensor for every alias, and makes the graph's inputs and outputs
//! those of the signature.

mod assemble;
mod border;
mod example_inputs;
mod matching;
mod optional;
mod sequences;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::examples::Features;
use super::plan::PlannedSignature;
use crate::signature::{
    AliasChange, Declaration, Feed, Interface, Matching, OutputSource, SavedParseNode, Signature,
    SignatureDef, Tensors, declare, does_not_fit, known_shape,
};
use base::error::{Result, ServingError};
use base::tensor::Tensor;
use onnx::{ClassLabels, OnnxModel, ParseExample};
use proto::onnx_model_server::Labels;
use runtime::{Graph, ValueInfo};

/// A signature and the graph that computes it, not yet loaded.
pub(super) struct BoundSignature {
    /// [`finish`](Self::finish) sets its `feeds` and the indices of its graph outputs.
    signature: Signature,
    /// The graph, reduced to the parts that the signature needs.
    pub(super) model: OnnxModel,
    /// By graph input.
    feeds: BTreeMap<String, Feed>,
    /// The tensors found for the inputs, for `show`.
    pub(super) inputs: Tensors,
    /// The tensors found for the outputs.
    pub(super) outputs: Tensors,
    /// The graph outputs that [`OutputSource::Graph`] counts.
    fetches: Vec<String>,
    /// The defaults of inputs that clients can omit, by alias.
    optional: BTreeMap<String, Tensor>,
}

/// The data that all signatures on one ONNX file share.
pub(super) struct GraphFile<'a> {
    /// The name that signatures use for it.
    pub(super) name: &'a str,
    pub(super) model: &'a OnnxModel,
    pub(super) class_labels: &'a [ClassLabels],
    /// Of `saved_model.pb`.
    pub(super) parse_nodes: &'a [SavedParseNode],
    /// Reads a file with labels.
    pub(super) read_labels: &'a dyn Fn(&Labels) -> Result<Vec<bytes::Bytes>>,
}

/// Binds a signature.
///
/// # Errors
///
/// `INVALID_ARGUMENT` with both sides and a map to fill in if an alias does not have a tensor or a needed
/// graph input does not have an alias; also for a map that does not fit the graph, and for types that
/// cannot be converted.
pub(super) fn bind(planned: &PlannedSignature, file: &GraphFile<'_>) -> Result<BoundSignature> {
    let mut model = file.model.clone();
    let maps = sequences::stack(&mut model, planned)?;
    let graph = Interface {
        inputs: model.inputs(),
        outputs: model.outputs(),
        optional: model.inputs_with_defaults(),
        unserved: model.unserved(),
    };
    let original = planned.original.clone();
    let declaration = declare(&planned.name, original, &maps, &graph)
        .map_err(|error| sequences::explain(error, &model))?;
    sequences::tell_what_is_left_out(&model, planned);
    let mut binder = Binder::new(file, model, graph, declaration)?;
    binder.match_outputs()?;
    binder.match_inputs()?;
    binder.resolve_handed_through()?;
    binder.leave_defaults()?;
    binder.check_complete()?;
    binder.widen_bfloat16();
    binder.transform_outputs()?;
    binder.transform_inputs()?;
    binder.into_bound()
}

impl BoundSignature {
    /// The signature's name.
    pub(super) fn name(&self) -> &str {
        &self.signature.name
    }

    /// The body of a valid REST request.
    pub(super) fn sample_body(&self) -> Result<String> {
        self.signature.sample_body()
    }

    /// The metadata that clients see.
    pub(super) fn definition(&self) -> &SignatureDef {
        &self.signature.definition
    }

    /// The graph inputs whose declared rank can be relied on, because the signature declares the same one.
    pub(super) fn ranked_inputs(&self) -> HashSet<String> {
        let ranked = |input: &ValueInfo| {
            let declared = input.shape.as_ref()?.len();
            match self.feeds.get(&input.name)? {
                Feed::Feature(..) => Some(()),
                Feed::Input(index) => {
                    let alias = &self.signature.inputs.get(*index)?.alias;
                    let shape = known_shape(self.definition().inputs.get(alias)?)?;
                    (shape.len() == declared).then_some(())
                }
            }
        };
        let inputs = self.model.inputs().into_iter();
        let ranked = inputs.filter(|input| ranked(input).is_some());
        ranked.map(|input| input.name).collect()
    }

    /// The changes that a signature map made to aliases.
    pub(super) fn changes(&self) -> &[AliasChange] {
        &self.signature.changes
    }

    /// Whether no output needs the graph.
    pub(super) fn needs_no_graph(&self) -> bool {
        self.fetches.is_empty()
    }

    /// The signature in the order of a loaded graph's inputs and outputs.
    ///
    /// # Errors
    ///
    /// `INTERNAL` if the graph is not the bound one.
    pub(super) fn finish(&self, graph: &dyn Graph) -> Result<Signature> {
        let mut signature = self.signature.clone();
        sequences::add_shapes(&mut signature, &self.outputs, &self.model, graph);
        let stranger = |name: &str| {
            let text = format!("the loaded graph differs from the bound one in '{name}'");
            ServingError::internal(text)
        };
        // The shapes are those of the file. The loaded graph's shapes are open where requests decide their
        // size.
        let in_file = self.model.inputs();
        for input in graph.inputs() {
            let declared = in_file.iter().find(|it| it.name == input.name);
            let shape = declared.and_then(|it| it.shape.clone());
            signature.declared_shapes.push(shape);
            let feed = self.feeds.get(&input.name);
            signature
                .feeds
                .push(feed.ok_or_else(|| stranger(&input.name))?.clone());
        }
        for output in &mut signature.outputs {
            if let OutputSource::Graph(index) = &mut output.source {
                let name = &self.fetches[*index];
                let position = graph.outputs().iter().position(|it| it.name == *name);
                *index = position.ok_or_else(|| stranger(name))?;
            }
        }
        Ok(signature)
    }
}

struct Binder<'a> {
    file: &'a GraphFile<'a>,
    graph: Interface,
    declaration: Declaration,
    model: OnnxModel,
    parse_nodes: Vec<ParseExample>,
    outputs: Matching,
    inputs: Matching,
    /// Output aliases that are passed through, each with the alias of its input.
    handed_through: BTreeMap<String, String>,
    /// By alias of the input.
    features: BTreeMap<String, Features>,
    /// The defaults of inputs for which the graph has one, as clients would send them, by alias.
    optional: BTreeMap<String, Tensor>,
    /// The graph output for every alias, after the transforms.
    fetched: BTreeMap<String, String>,
    feeds: BTreeMap<String, Feed>,
}

impl<'a> Binder<'a> {
    fn new(
        file: &'a GraphFile<'a>,
        mut model: OnnxModel,
        graph: Interface,
        declaration: Declaration,
    ) -> Result<Self> {
        for (name, value) in &declaration.constants {
            model.set_constant(name, value)?;
        }
        let parse_nodes = model.cut_parse_examples()?;
        Ok(Self {
            file,
            graph,
            declaration,
            model,
            parse_nodes,
            outputs: Matching::default(),
            inputs: Matching::default(),
            handed_through: BTreeMap::new(),
            features: BTreeMap::new(),
            optional: BTreeMap::new(),
            fetched: BTreeMap::new(),
            feeds: BTreeMap::new(),
        })
    }

    /// The graph inputs that are fed.
    fn fed(&self) -> BTreeSet<&str> {
        let mut fed: BTreeSet<&str> = BTreeSet::new();
        fed.extend(
            self.inputs
                .found
                .values()
                .map(|(tensor, _)| tensor.as_str()),
        );
        let features = self.features.values();
        fed.extend(features.flat_map(|it| it.feeds.keys()).map(String::as_str));
        fed
    }

    fn check_complete(&mut self) -> Result<()> {
        let declaration = &self.declaration;
        if declaration.definition.outputs.is_empty() && !declaration.before.outputs.is_empty() {
            return Err(ServingError::invalid_argument(format!(
                "{}: signature '{}': the signature map leaves no output",
                self.file.model.origin(),
                declaration.name
            )));
        }
        let fed = self.fed();
        let needed = self.needed().into_iter();
        let unfed: Vec<String> = needed.filter(|name| !fed.contains(name.as_str())).collect();
        let unfed = self.unfed_of_the_file(unfed);
        self.inputs.left.retain(|name| unfed.contains(name));
        if self.inputs.open.is_empty() && self.outputs.open.is_empty() && unfed.is_empty() {
            return Ok(());
        }
        if let Some(error) = self.unfed_examples(&unfed) {
            return Err(error);
        }
        Err(does_not_fit(
            &self.declaration,
            &self.graph,
            self.file.name,
            &self.inputs,
            &self.outputs,
            // The needed inputs are known only once all outputs have been matched.
            if self.outputs.open.is_empty() {
                &unfed
            } else {
                &[]
            },
        ))
    }

    fn needed(&self) -> BTreeSet<String> {
        self.model.inputs().into_iter().map(|it| it.name).collect()
    }

    fn explain(&self, what: &str, error: ServingError) -> ServingError {
        let origin = self.file.model.origin();
        let name = &self.declaration.name;
        let text = format!("{origin}: signature '{name}': {what}: {error}");
        error.with_text(text)
    }
}
