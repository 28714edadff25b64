//! Binds a signature to its graph: finds a tensor for every alias, and makes the graph take and
//! return just what the signature says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::examples::{self, Features};
use super::plan::PlannedSignature;
use crate::error::{Result, ServingError};
use crate::onnx::{ClassLabels, OnnxModel, ParseExample, Transform};
use crate::proto::onnx_model_server::Labels;
use crate::runtime::{Graph, ValueInfo};
use crate::signature::{
    Classes, Declaration, ExampleInput, Feed, Input, Interface, Matching, Output, OutputSource,
    Port, Rule, SavedParseNode, Signature, Wanted, declare, does_not_fit, is_convertible,
    match_aliases, tensor_name,
};
use crate::tensor::DataType;

/// A signature and the graph that computes it, not loaded yet.
pub(super) struct BoundSignature {
    /// Its `feeds` and the indices of its graph outputs are settled by [`finish`](Self::finish).
    signature: Signature,
    /// The graph, of which nothing is left that the signature does not need.
    pub(super) model: OnnxModel,
    /// By graph input.
    feeds: BTreeMap<String, Feed>,
    /// Graph tensor and rule of every input and output, by alias, for people to look at.
    pub(super) inputs: BTreeMap<String, (String, Rule)>,
    pub(super) outputs: BTreeMap<String, (String, Rule)>,
    /// The graph outputs that [`OutputSource::Graph`] counts.
    fetches: Vec<String>,
}

/// What all signatures on one ONNX file share.
pub(super) struct GraphFile<'a> {
    /// As signatures name it.
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
/// `INVALID_ARGUMENT` with both sides and a map to fill in where an alias has no tensor or a needed
/// graph input has no alias; for a map that does not go with the graph; for types that cannot be
/// converted.
pub(super) fn bind(planned: &PlannedSignature, file: &GraphFile<'_>) -> Result<BoundSignature> {
    let graph = Interface {
        inputs: file.model.inputs(),
        outputs: file.model.outputs(),
    };
    let original = planned.original.clone();
    let declaration = declare(&planned.name, original, planned.map.as_ref(), &graph)?;
    let mut binder = Binder::new(file, graph, declaration)?;
    binder.match_outputs();
    binder.match_inputs()?;
    binder.check_complete()?;
    binder.widen_bfloat16();
    binder.transform_outputs()?;
    binder.transform_inputs()?;
    binder.into_bound()
}

struct Binder<'a> {
    file: &'a GraphFile<'a>,
    graph: Interface,
    declaration: Declaration,
    model: OnnxModel,
    parse_nodes: Vec<ParseExample>,
    outputs: Matching,
    inputs: Matching,
    /// Output aliases that are handed through, with the alias of the input.
    handed_through: BTreeMap<String, String>,
    /// By alias of the input.
    features: BTreeMap<String, Features>,
    /// The graph output behind every alias, once transformed.
    fetched: BTreeMap<String, String>,
    feeds: BTreeMap<String, Feed>,
}

impl<'a> Binder<'a> {
    fn new(file: &'a GraphFile<'a>, graph: Interface, declaration: Declaration) -> Result<Self> {
        let mut model = file.model.clone();
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
            fetched: BTreeMap::new(),
            feeds: BTreeMap::new(),
        })
    }

    /// Matches the outputs and drops what of the graph they do not need.
    fn match_outputs(&mut self) {
        let inputs = self.declaration.wanted_inputs();
        let (through, wanted): (Vec<Wanted>, Vec<Wanted>) = self
            .declaration
            .wanted_outputs()
            .into_iter()
            .partition(|output| output.pinned.is_none() && same_tensor(output, &inputs).is_some());
        for output in &through {
            if let Some(input) = same_tensor(output, &inputs) {
                let (output, input) = (output.alias.clone(), input.alias.clone());
                self.handed_through.insert(output, input);
            }
        }
        let is_through = |name: &str| {
            let mut through = through.iter();
            through.any(|it| it.alias == name || tensor_name(&it.info) == name)
        };
        let outputs = self.graph.outputs.iter();
        let candidates: Vec<_> = outputs
            .filter(|it| !is_through(&it.name))
            .cloned()
            .collect();
        let name = &self.declaration.name;
        self.outputs = match_aliases(name, &wanted, &candidates, &|_| true);
        let fetched = self.outputs.found.values();
        let fetched: Vec<String> = fetched.map(|(tensor, _)| tensor.clone()).collect();
        self.model.prune(&fetched);
    }

    fn match_inputs(&mut self) -> Result<()> {
        let needed = self.needed();
        let mut wanted = self.wanted_inputs();
        if let Some(example) = &self.declaration.example {
            let dtype_of = |name: &str| {
                let inputs = self.model.inputs();
                inputs
                    .into_iter()
                    .find(|it| it.name == name)
                    .and_then(|it| it.dtype)
            };
            let features = examples::from_map(example, &dtype_of).map_err(|error| {
                self.explain(&format!("example_input '{}'", example.alias), &error)
            })?;
            wanted.retain(|it| it.alias != example.alias);
            self.features.insert(example.alias.clone(), features);
        }
        let parsed: BTreeSet<&str> = self
            .parse_nodes
            .iter()
            .map(|it| it.serialized.as_str())
            .collect();
        let constants = &self.declaration.constants;
        let inputs = self.graph.inputs.iter();
        let candidates: Vec<_> = inputs
            .filter(|it| constants.iter().all(|(name, _)| *name != it.name))
            .cloned()
            .collect();
        self.inputs = match_aliases(&self.declaration.name, &wanted, &candidates, &|name| {
            needed.contains(name) || parsed.contains(name)
        });
        self.find_features(&needed)
    }

    /// The inputs to be matched. One that the original parses as examples is of strings, whatever
    /// the signature says: nobody checked that in TensorFlow, and half_plus_three says float.
    fn wanted_inputs(&self) -> Vec<Wanted> {
        let mut wanted = self.declaration.wanted_inputs();
        for it in &mut wanted {
            let operation = tensor_name(&it.info).strip_suffix(":0");
            let mut nodes = self.file.parse_nodes.iter();
            if nodes.any(|node| operation == Some(&node.serialized)) {
                it.info.dtype = DataType::String.number();
            }
        }
        wanted
    }

    /// Finds the inputs that take examples: those in front of a parse node of the file, and those
    /// that were in front of one in the original.
    fn find_features(&mut self, needed: &BTreeSet<String>) -> Result<()> {
        for (alias, (tensor, _)) in &self.inputs.found {
            for node in self
                .parse_nodes
                .iter()
                .filter(|it| it.serialized == *tensor)
            {
                if self.declaration.example.is_some() {
                    continue;
                }
                let features = examples::from_node(node, self.file.parse_nodes)
                    .map_err(|error| self.explain(&format!("input '{alias}'"), &error))?;
                let reached = features.feeds.keys().any(|name| needed.contains(name));
                if !reached {
                    continue;
                }
                if self.features.contains_key(alias) {
                    return Err(ServingError::unimplemented(format!(
                        "{}: input '{alias}' is parsed as examples more than once",
                        self.file.model.origin()
                    )));
                }
                self.features.insert(alias.clone(), features);
            }
        }
        let free: Vec<String> = needed.iter().cloned().collect();
        for wanted in self.wanted_inputs() {
            let is_string = wanted.info.dtype == DataType::String.number();
            if !is_string || !self.inputs.open.contains(&wanted.alias) {
                continue;
            }
            let Some(node) = parse_node_behind(&wanted, self.file.parse_nodes) else {
                continue;
            };
            let features = examples::from_original(node, &free)
                .map_err(|error| self.explain(&format!("input '{}'", wanted.alias), &error))?;
            if !features.feeds.is_empty() {
                self.inputs.open.retain(|alias| *alias != wanted.alias);
                self.features.insert(wanted.alias, features);
            }
        }
        Ok(())
    }

    fn check_complete(&mut self) -> Result<()> {
        let mut fed: BTreeSet<&str> = BTreeSet::new();
        fed.extend(
            self.inputs
                .found
                .values()
                .map(|(tensor, _)| tensor.as_str()),
        );
        let features = self.features.values();
        fed.extend(features.flat_map(|it| it.feeds.keys()).map(String::as_str));
        let needed = self.needed().into_iter();
        let unfed: Vec<String> = needed.filter(|name| !fed.contains(name.as_str())).collect();
        let unfed_left = |name: &String| unfed.contains(name);
        self.inputs.left.retain(unfed_left);
        if self.inputs.open.is_empty() && self.outputs.open.is_empty() && unfed.is_empty() {
            return Ok(());
        }
        Err(does_not_fit(
            &self.declaration,
            &self.graph,
            self.file.name,
            &self.inputs,
            &self.outputs,
            &unfed,
        ))
    }

    /// Where the signature is of bfloat16 and the graph of float16, the graph computes in float.
    fn widen_bfloat16(&mut self) {
        let definition = &self.declaration.definition;
        let infos = definition
            .inputs
            .values()
            .chain(definition.outputs.values());
        let mut dtypes = infos.filter_map(|info| DataType::from_number(info.dtype));
        let is_half = |it: &&mut ValueInfo| it.dtype == Some(DataType::Half);
        if !dtypes.clone().any(|it| it == DataType::BFloat16)
            || dtypes.any(|it| it == DataType::Half)
            || !self.model.widen_half()
        {
            return;
        }
        let values = self.graph.inputs.iter_mut().chain(&mut self.graph.outputs);
        for value in values.filter(is_half) {
            value.dtype = Some(DataType::Float);
        }
    }

    fn transform_outputs(&mut self) -> Result<()> {
        let mut ready: Vec<(Transform, String, String)> = Vec::new();
        let found = self.outputs.found.clone();
        for (alias, (tensor, _)) in found {
            let info = &self.declaration.definition.outputs[&alias];
            let port = self.declaration.outputs.get(&alias);
            let declared = self.graph.outputs.iter().find(|it| it.name == tensor);
            let graph_dtype = declared.and_then(|it| it.dtype);
            let transform = self.transform(("output", &alias), port, info.dtype, graph_dtype)?;
            let known = ready.iter().find(|it| it.0 == transform && it.1 == tensor);
            let name = match known {
                _ if transform.is_empty() => tensor,
                Some((_, _, name)) => name.clone(),
                None => {
                    let name = self.model.transform_output(&tensor, &transform)?;
                    ready.push((transform, tensor, name.clone()));
                    name
                }
            };
            self.fetched.insert(alias, name);
        }
        let names: Vec<String> = self.fetched.values().cloned().collect();
        self.model.prune(&names);
        Ok(())
    }

    fn transform_inputs(&mut self) -> Result<()> {
        let needed = self.needed();
        let wanted = self.declaration.wanted_inputs();
        let index_of = |alias: &str| wanted.iter().position(|it| it.alias == alias);
        for (alias, (tensor, _)) in self.inputs.found.clone() {
            if !needed.contains(&tensor) {
                continue;
            }
            let info = &self.declaration.definition.inputs[&alias];
            let port = self.declaration.inputs.get(&alias);
            let declared = self.graph.inputs.iter().find(|it| it.name == tensor);
            let graph_dtype = declared.and_then(|it| it.dtype);
            let transform = self.transform(("input", &alias), port, info.dtype, graph_dtype)?;
            let name = if transform.is_empty() {
                tensor
            } else {
                self.model.transform_input(&tensor, &transform)?
            };
            let index = index_of(&alias).expect("every alias is in the definition");
            self.feeds.insert(name, Feed::Input(index));
        }
        for (example, features) in self.features.values().enumerate() {
            for (tensor, (feature, dtype)) in &features.feeds {
                if !needed.contains(tensor) {
                    continue;
                }
                self.model.set_input_type(tensor, *dtype);
                let inputs = self.model.inputs();
                let graph_dtype = inputs.iter().find(|it| it.name == *tensor);
                let graph_dtype = graph_dtype.and_then(|it| it.dtype);
                let what = ("feature for", tensor.as_str());
                let transform = self.transform(what, None, dtype.number(), graph_dtype)?;
                let name = if transform.is_empty() {
                    tensor.clone()
                } else {
                    self.model.transform_input(tensor, &transform)?
                };
                self.feeds.insert(name, Feed::Feature(example, *feature));
            }
        }
        Ok(())
    }

    /// What has to be done between the client and a graph tensor.
    fn transform(
        &self,
        (what, alias): (&str, &str),
        port: Option<&Port>,
        client_dtype: i32,
        graph_dtype: Option<DataType>,
    ) -> Result<Transform> {
        let mut transform = Transform::default();
        if let Some(port) = port {
            transform.transpose.clone_from(&port.transpose);
            transform.reshape.clone_from(&port.reshape);
        }
        let (Some(client), Some(graph)) = (DataType::from_number(client_dtype), graph_dtype) else {
            return Ok(transform);
        };
        if client != graph {
            if !is_convertible(client, graph) {
                return Err(ServingError::invalid_argument(format!(
                    "{}: signature '{}': {what} '{alias}' is {client} for clients and {graph} in \
                     the graph, which cannot be converted",
                    self.file.model.origin(),
                    self.declaration.name
                )));
            }
            tracing::info!(
                model = self.file.model.origin(),
                signature = self.declaration.name,
                "{what} '{alias}' is {client} for clients and {graph} in the graph: converted"
            );
            transform.dtype = Some(client);
        }
        Ok(transform)
    }

    fn needed(&self) -> BTreeSet<String> {
        self.model.inputs().into_iter().map(|it| it.name).collect()
    }

    fn explain(&self, what: &str, error: &ServingError) -> ServingError {
        let origin = self.file.model.origin();
        let name = &self.declaration.name;
        ServingError::new(
            error.code(),
            format!("{origin}: signature '{name}': {what}: {error}"),
        )
    }

    fn into_bound(mut self) -> Result<BoundSignature> {
        for (name, returned) in self.model.separate_outputs() {
            let fetched = self.fetched.values_mut().filter(|it| **it == name);
            fetched.for_each(|it| it.clone_from(&returned));
        }
        let mut defaults = self.declaration.defaults()?;
        let wanted = self.declaration.wanted_inputs();
        let mut inputs = Vec::with_capacity(wanted.len());
        for it in &wanted {
            let is_example = self.features.contains_key(&it.alias);
            let dtype = if is_example {
                Some(DataType::String)
            } else {
                DataType::from_number(it.info.dtype)
            };
            let dtype = dtype.ok_or_else(|| {
                let error = ServingError::invalid_argument("it has no dtype that is known");
                self.explain(&format!("input '{}'", it.alias), &error)
            })?;
            inputs.push(Input {
                alias: it.alias.clone(),
                tensor_name: tensor_name(&it.info).to_owned(),
                dtype,
                default: defaults.remove(&it.alias),
            });
        }
        let index_of = |alias: &String| wanted.iter().position(|it| it.alias == *alias);
        let mut fetches: Vec<String> = Vec::new();
        let mut outputs = Vec::new();
        for alias in self.declaration.definition.outputs.keys() {
            let source = if let Some(index) = self.handed_through.get(alias).and_then(index_of) {
                OutputSource::Input(index)
            } else {
                let name = &self.fetched[alias];
                let known = fetches.iter().position(|it| it == name);
                OutputSource::Graph(known.unwrap_or_else(|| {
                    fetches.push(name.clone());
                    fetches.len() - 1
                }))
            };
            outputs.push(Output {
                alias: alias.clone(),
                source,
                classes: self.classes(alias)?.map(Arc::new),
            });
        }
        let examples = self.features.iter();
        let examples = examples.filter_map(|(alias, features)| {
            Some(ExampleInput {
                input: index_of(alias)?,
                spec: features.spec.clone(),
                takes_scalar: features.takes_scalar,
            })
        });
        let signature = Signature {
            name: self.declaration.name.clone(),
            method_name: self.declaration.definition.method_name.clone(),
            inputs,
            outputs,
            examples: examples.collect(),
            feeds: Vec::new(),
            definition: self.declaration.definition.clone(),
        };
        let (inputs, outputs) = self.described();
        Ok(BoundSignature {
            signature,
            model: self.model,
            feeds: self.feeds,
            inputs,
            outputs,
            fetches,
        })
    }

    fn classes(&self, alias: &String) -> Result<Option<Classes>> {
        let port = self.declaration.outputs.get(alias);
        let top_k = port.map_or(0, |port| port.top_k);
        if let Some(labels) = port.and_then(|port| port.labels.as_ref()) {
            let labels = (self.file.read_labels)(labels)?;
            return Ok(Some(Classes { labels, top_k }));
        }
        let tensor = self.outputs.found.get(alias).map(|(tensor, _)| tensor);
        let mut known = self.file.class_labels.iter();
        let known = known.find(|it| Some(&it.output) == tensor);
        Ok(known.map(|it| Classes {
            labels: it.labels.clone(),
            top_k,
        }))
    }

    /// Tensor and rule by alias, of inputs and of outputs.
    fn described(
        &self,
    ) -> (
        BTreeMap<String, (String, Rule)>,
        BTreeMap<String, (String, Rule)>,
    ) {
        let mut inputs = self.inputs.found.clone();
        for (alias, features) in &self.features {
            let tensors: Vec<&str> = features.feeds.keys().map(String::as_str).collect();
            inputs.insert(alias.clone(), (tensors.join(", "), Rule::Examples));
        }
        let mut outputs = self.outputs.found.clone();
        for (alias, input) in &self.handed_through {
            outputs.insert(alias.clone(), (input.clone(), Rule::PassThrough));
        }
        (inputs, outputs)
    }
}

/// The input on the same original tensor as an output.
fn same_tensor<'a>(output: &Wanted, inputs: &'a [Wanted]) -> Option<&'a Wanted> {
    let name = tensor_name(&output.info);
    let mut inputs = inputs.iter().filter(|_| !name.is_empty());
    inputs.find(|input| tensor_name(&input.info) == name)
}

/// The original's parse node behind an input, if all that may be meant read the same.
fn parse_node_behind<'a>(
    wanted: &Wanted,
    nodes: &'a [SavedParseNode],
) -> Option<&'a SavedParseNode> {
    let name = tensor_name(&wanted.info);
    let name = name.strip_suffix(":0").unwrap_or(name);
    let reads = |node: &&SavedParseNode| {
        let serialized = node.serialized.split(':').next().unwrap_or_default();
        serialized == name || serialized == wanted.alias
    };
    let mut behind: Vec<&SavedParseNode> = nodes.iter().filter(reads).collect();
    if behind.is_empty() {
        behind = nodes.iter().collect();
    }
    let first = *behind.first()?;
    let alike = |it: &&SavedParseNode| {
        (&it.dense, &it.sparse, &it.ragged) == (&first.dense, &first.sparse, &first.ragged)
    };
    behind.iter().all(alike).then_some(first)
}

impl BoundSignature {
    /// The signature's name.
    pub(super) fn name(&self) -> &str {
        &self.signature.name
    }

    /// Whether no output needs the graph.
    pub(super) fn needs_no_graph(&self) -> bool {
        self.fetches.is_empty()
    }

    /// The signature in the order of a loaded graph's inputs and outputs.
    ///
    /// # Errors
    ///
    /// `INTERNAL` where the graph is not the one that was bound.
    pub(super) fn finish(&self, graph: &dyn Graph) -> Result<Signature> {
        let mut signature = self.signature.clone();
        let stranger = |name: &str| {
            let text = format!("the loaded graph differs from the bound one in '{name}'");
            ServingError::internal(text)
        };
        for input in graph.inputs() {
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
