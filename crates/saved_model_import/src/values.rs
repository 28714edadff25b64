//! The values of the nodes of one graph, or of one call of a function.
//!
//! Not here: computing them (`translation`).

use std::collections::HashMap;

use crate::graph::{Body, TensorRef};
use crate::outputs;
use crate::value::Value;

/// The values of a graph or of one call of a function.
#[derive(Default)]
pub(crate) struct Values<'a> {
    /// Single outputs of nodes that clients feed.
    pub(crate) fed: HashMap<(&'a str, usize), Value>,
    /// All outputs of a node, or an argument of the function.
    pub(crate) by_node: HashMap<&'a str, Vec<Value>>,
}

impl<'a> Values<'a> {
    /// Whether clients feed this output.
    pub(crate) fn is_fed(&self, reference: &TensorRef<'a>) -> bool {
        self.fed.contains_key(&(reference.node, reference.index))
    }

    /// The value of an output; `Nothing` if there is none.
    pub(crate) fn get(&self, body: &Body<'a>, reference: TensorRef<'a>) -> Value {
        let position = match body.nodes.get(reference.node) {
            Some(node) => outputs::position(node, reference.output, reference.index),
            None => Some(reference.index),
        };
        let Some(position) = position else {
            return Value::Nothing;
        };
        if let Some(fed) = self.fed.get(&(reference.node, position)) {
            return fed.clone();
        }
        let outputs = self.by_node.get(reference.node);
        outputs
            .and_then(|it| it.get(position))
            .cloned()
            .unwrap_or(Value::Nothing)
    }
}
