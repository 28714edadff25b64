//! Finds the graph tensors for a signature's aliases, and the tensors that examples feed.

use std::collections::{BTreeMap, BTreeSet};

use super::Binder;
use super::example_inputs::returns;
use crate::signature::{
    Rule, SavedParseNode, Side, Unsettled, Wanted, settle, tensor_name, wanted,
};
use crate::version_dir::examples;
use base::error::{Result, ServingError};
use base::tensor::DataType;
use onnx::ParseExample;
use runtime::ValueInfo;

impl Binder<'_> {
    /// Matches the outputs and prunes the parts of the graph that they do not need. An output on the tensor
    /// of an input is passed through. For a SavedModel, requests for it fail, as in TensorFlow.
    pub(super) fn match_outputs(&mut self) -> Result<()> {
        let before = &self.declaration.before;
        let inputs = wanted(&before.inputs);
        let (through, wanted): (Vec<Wanted>, Vec<Wanted>) = wanted(&before.outputs)
            .into_iter()
            .partition(|output| same_tensor(output, &inputs).is_some());
        let is_input = |name: &str| self.graph.inputs.iter().any(|it| it.name == name);
        let is_of = |output: &Wanted, name: &str| {
            let original = tensor_name(&output.info);
            let operation = original.strip_suffix(":0");
            output.alias == name || original == name || (operation == Some(name) && is_input(name))
        };
        let is_through = |name: &str| through.iter().any(|it| is_of(it, name));
        let (passed, candidates): (Vec<ValueInfo>, Vec<ValueInfo>) = self
            .graph
            .outputs
            .iter()
            .cloned()
            .partition(|it| is_through(&it.name));
        // The file can have such an output anyway, and a map can name it.
        let name_of = |output: &Wanted| {
            let mut passed = passed.iter().map(|it| &it.name);
            let name = passed.find(|name| is_of(output, name));
            name.unwrap_or(&output.alias).clone()
        };
        let names = through.iter().map(|it| (it.alias.clone(), name_of(it)));
        let handed_through: BTreeMap<String, String> = names.collect();
        let settled = settle(
            &Unsettled {
                signature: &self.declaration.name,
                side: Side::Output,
                before,
                is_original: self.declaration.is_original,
                wanted: &wanted,
                handed_through: &handed_through,
                candidates: &candidates,
                tensors: &self.graph.outputs,
                likely: &|_| true,
            },
            &self.declaration.layers,
        )
        .map_err(|error| self.refused(error))?;
        self.outputs.clone_from(&settled.matching);
        self.hand_through(&through, &handed_through, &inputs);
        self.declaration
            .take(Side::Output, &settled)
            .map_err(|error| self.refused(error))?;
        self.leave_fed_outputs(&inputs);
        self.prune();
        Ok(())
    }

    /// Records the outputs that are passed through from inputs under each alias that has them.
    fn hand_through(
        &mut self,
        through: &[Wanted],
        handed_through: &BTreeMap<String, String>,
        inputs: &[Wanted],
    ) {
        for output in through {
            let Some(input) = same_tensor(output, inputs) else {
                continue;
            };
            let name = &handed_through[&output.alias];
            let found = self.outputs.found.iter();
            let found = found.filter(|(_, it)| it.1 == Rule::PassThrough && it.0 == *name);
            let aliases = found.map(|(alias, _)| (alias.clone(), input.alias.clone()));
            self.handed_through.extend(aliases);
        }
        let found = &mut self.outputs.found;
        found.retain(|_, (_, rule)| *rule != Rule::PassThrough);
    }

    /// Passes through a SavedModel's outputs on the tensors of inputs. TensorFlow does not fetch any of these,
    /// regardless of the map.
    fn leave_fed_outputs(&mut self, inputs: &[Wanted]) {
        if !self.declaration.is_original {
            return;
        }
        for output in self.declaration.wanted_outputs() {
            if let Some(input) = same_tensor(&output, inputs) {
                self.outputs.found.remove(&output.alias);
                let input = input.alias.clone();
                self.handed_through.insert(output.alias, input);
            }
        }
    }

    /// Removes the parts of the graph that the outputs do not need.
    fn prune(&mut self) {
        let fetched = self.outputs.found.values();
        let mut fetched: Vec<String> = fetched.map(|(tensor, _)| tensor.clone()).collect();
        if !self.outputs.open.is_empty() {
            // The load will fail. It is not known which inputs the open outputs need, so the error does not
            // mention any.
            fetched.extend_from_slice(&self.outputs.left);
        }
        self.model.prune(&fetched);
    }

    pub(super) fn match_inputs(&mut self) -> Result<()> {
        let needed = self.needed();
        let mut wanted = self.as_strings(wanted(&self.declaration.before.inputs));
        if let Some(example) = &self.declaration.example {
            let dtype_of = |name: &str| {
                let inputs = self.model.inputs();
                inputs
                    .into_iter()
                    .find(|it| it.name == name)
                    .and_then(|it| it.dtype)
            };
            let features = examples::from_map(example, &dtype_of).map_err(|error| {
                self.explain(&format!("example_input '{}'", example.alias), error)
            })?;
            wanted.retain(|it| it.alias != example.alias);
            self.features.insert(example.alias.clone(), features);
        }
        let parsed: BTreeSet<&str> = self
            .parse_nodes
            .iter()
            .map(|it| it.serialized.as_str())
            .collect();
        let settled = settle(
            &Unsettled {
                signature: &self.declaration.name,
                side: Side::Input,
                before: &self.declaration.before,
                is_original: self.declaration.is_original,
                wanted: &wanted,
                handed_through: &BTreeMap::new(),
                candidates: &self.graph.inputs,
                tensors: &self.graph.inputs,
                likely: &|name| needed.contains(name) || parsed.contains(name),
            },
            &self.declaration.layers,
        )
        .map_err(|error| self.refused(error))?;
        self.inputs.clone_from(&settled.matching);
        self.declaration
            .take(Side::Input, &settled)
            .map_err(|error| self.refused(error))?;
        for (kept, _) in &settled.kept {
            self.inputs.found.remove(kept);
            self.inputs.open.retain(|alias| alias != kept);
        }
        self.find_features(&needed)
    }

    /// Updates the outputs that are passed through from inputs: they refer to the input's present alias and,
    /// without a SavedModel, get its dtype and shape.
    pub(super) fn resolve_handed_through(&mut self) -> Result<()> {
        let Some(first) = self.declaration.earlier.first() else {
            return Ok(());
        };
        for (output, input) in &mut self.handed_through {
            match first.inputs.0.get(input) {
                None => {}
                Some(Some(new)) => {
                    let mut kept = self.declaration.kept.iter();
                    let newest = kept.find(|(kept, _)| kept == new).map(|(_, newest)| newest);
                    input.clone_from(newest.unwrap_or(new));
                }
                Some(None) => {
                    return Err(ServingError::invalid_argument(format!(
                        "{}: signature '{}': output '{output}' is its input '{input}', which the \
                         signature map removes; remove the output, too: output {{ alias: \
                         \"{output}\" drop: true }}",
                        self.file.model.origin(),
                        self.declaration.name
                    )));
                }
            }
            let definition = &mut self.declaration.definition;
            let info = definition.inputs.get(input);
            let info = info.filter(|_| !self.declaration.is_original);
            if let (Some(info), Some(output)) = (info, definition.outputs.get_mut(output)) {
                output.dtype = info.dtype;
                output.tensor_shape.clone_from(&info.tensor_shape);
            }
        }
        Ok(())
    }

    fn refused(&self, error: ServingError) -> ServingError {
        let origin = self.file.model.origin();
        let name = &self.declaration.name;
        let text = format!("{origin}: signature '{name}': {error}");
        error.with_text(text)
    }

    /// The inputs to match. An input that the SavedModel parses as examples holds strings, even if the
    /// signature says otherwise: TensorFlow does not check this, and half_plus_three says float.
    fn as_strings(&self, mut wanted: Vec<Wanted>) -> Vec<Wanted> {
        for it in &mut wanted {
            let operation = tensor_name(&it.info).strip_suffix(":0");
            let mut nodes = self.file.parse_nodes.iter();
            if nodes.any(|node| operation == Some(&node.serialized)) {
                it.info.dtype = DataType::String.number();
            }
        }
        wanted
    }

    /// Finds the inputs that take examples: those that feed a parse node of the file, and those that fed
    /// one in the SavedModel.
    fn find_features(&mut self, needed: &BTreeSet<String>) -> Result<()> {
        for (alias, (tensor, _)) in &self.inputs.found {
            if self.declaration.example.is_some() {
                break;
            }
            let reached = |it: &&ParseExample| needed.iter().any(|name| returns(it, name));
            let nodes = self.parse_nodes.iter();
            let nodes = nodes.filter(|it| it.serialized == *tensor);
            let nodes: Vec<_> = nodes.filter(reached).collect();
            if !nodes.is_empty() {
                let features = examples::from_nodes(&nodes, self.file.parse_nodes)
                    .map_err(|error| self.explain(&format!("input '{alias}'"), error))?;
                self.features.insert(alias.clone(), features);
            }
        }
        let free: Vec<String> = needed.iter().cloned().collect();
        for wanted in self.as_strings(self.declaration.wanted_inputs()) {
            let is_string = wanted.info.dtype == DataType::String.number();
            if !is_string || !self.inputs.open.contains(&wanted.alias) {
                continue;
            }
            let Some(node) = parse_node_behind(&wanted, self.file.parse_nodes) else {
                continue;
            };
            let features = examples::from_original(node, &free)
                .map_err(|error| self.explain(&format!("input '{}'", wanted.alias), error))?;
            if !features.feeds.is_empty() {
                self.inputs.open.retain(|alias| *alias != wanted.alias);
                self.features.insert(wanted.alias, features);
            }
        }
        Ok(())
    }
}

/// The input with the same SavedModel tensor as an output.
fn same_tensor<'a>(output: &Wanted, inputs: &'a [Wanted]) -> Option<&'a Wanted> {
    let name = tensor_name(&output.info);
    let mut inputs = inputs.iter().filter(|_| !name.is_empty());
    inputs.find(|input| tensor_name(&input.info) == name)
}

/// The SavedModel's parse node for an input, if all candidates read the same features.
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
    let alike = |it: &&SavedParseNode| it.features == first.features;
    behind.iter().all(alike).then_some(first)
}
