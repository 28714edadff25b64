//! The error for a graph that parses examples if no alias feeds them to it.
//!
//! Not here: finding the inputs that take examples (`matching`), parse nodes (`onnx`).

use super::Binder;
use crate::signature::Side;
use base::error::ServingError;
use onnx::ParseExample;

impl Binder<'_> {
    /// Unfed graph inputs, by their names in the file. The outputs of a parse node become inputs only when
    /// the node is cut out, so for them the input of the node is named.
    pub(super) fn unfed_of_the_file(&self, unfed: Vec<String>) -> Vec<String> {
        let mut named: Vec<String> = Vec::with_capacity(unfed.len());
        for name in unfed {
            let node = self.parse_nodes.iter().find(|it| returns(it, &name));
            let node = node.filter(|it| self.is_unfed_input(&it.serialized));
            let name = node.map_or(name, |it| it.serialized.clone());
            if !named.contains(&name) {
                named.push(name);
            }
        }
        named
    }

    /// The error if only the examples are missing.
    pub(super) fn unfed_examples(&self, unfed: &[String]) -> Option<ServingError> {
        let is_all_that_is_missing = self.inputs.open.is_empty() && self.outputs.open.is_empty();
        let is_serialized =
            |name: &String| self.parse_nodes.iter().any(|node| node.serialized == *name);
        let [name] = unfed else {
            return None;
        };
        if !is_all_that_is_missing || !is_serialized(name) {
            return None;
        }
        let changes = self.declaration.changes.iter();
        let dropped = changes.filter(|it| it.side == Side::Input && it.new.is_none());
        let dropped: Vec<String> = dropped.map(|it| format!("'{}'", it.old)).collect();
        let why = match dropped.as_slice() {
            [] => String::new(),
            _ => format!(": the signature map drops {}", dropped.join(", ")),
        };
        Some(ServingError::invalid_argument(format!(
            "{}: signature '{}': the graph parses its input \"{name}\" as tf.Example messages, its outputs \
             need them, and no alias feeds it{why}. Give it one in the signature map: input {{ alias: \
             \"inputs\" tensor: \"{name}\" }}",
            self.file.model.origin(),
            self.declaration.name
        )))
    }

    fn is_unfed_input(&self, name: &str) -> bool {
        self.graph.inputs.iter().any(|it| it.name == name) && !self.fed().contains(name)
    }
}

/// Whether this tensor is an output of the parse node.
pub(super) fn returns(node: &ParseExample, name: &str) -> bool {
    let dense = node.dense.iter().map(|it| &it.tensor);
    let sparse = node.sparse.iter().flat_map(|it| &it.tensors);
    let ragged = node.ragged.iter().flat_map(|it| &it.tensors);
    dense
        .chain(sparse)
        .chain(ragged)
        .any(|tensor| tensor == name)
}
