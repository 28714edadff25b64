//! Finds the graph tensors behind a signature's aliases, and what is fed from examples.

use std::collections::BTreeSet;

use super::Binder;
use crate::error::{Result, ServingError};
use crate::lifecycle::loader::examples;
use crate::signature::{SavedParseNode, Wanted, match_aliases, tensor_name};
use crate::tensor::DataType;

impl Binder<'_> {
    /// Matches the outputs and drops what of the graph they do not need. An output on the tensor of
    /// an input is handed through, or refused where TensorFlow refuses it: in a SavedModel.
    pub(super) fn match_outputs(&mut self) {
        let inputs = self.declaration.wanted_inputs();
        let is_original = self.declaration.is_original;
        let is_through = |output: &Wanted| {
            (is_original || output.pinned.is_none()) && same_tensor(output, &inputs).is_some()
        };
        let outputs = self.declaration.wanted_outputs().into_iter();
        let (through, wanted): (Vec<Wanted>, Vec<Wanted>) = outputs.partition(is_through);
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

    pub(super) fn match_inputs(&mut self) -> Result<()> {
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
