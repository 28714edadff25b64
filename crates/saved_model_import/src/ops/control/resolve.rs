//! References within a function, followed through nodes that only pass a tensor on.

use std::collections::HashSet;

use proto::tensorflow::{NodeDef, attr_value};

use crate::graph::{self, Function, TensorRef};
use crate::op::Op;
use crate::outputs;

/// How far references are followed.
const MAX_STEPS: usize = 1000;

/// Where a tensor of a function comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// The argument with this number.
    Argument(usize),
    /// An output of a node, by its number.
    Node(&'a NodeDef, usize),
}

/// A function whose references are followed.
pub(super) struct Resolver<'a, 'f> {
    pub(super) function: &'f Function<'a>,
}

impl<'a> Resolver<'a, '_> {
    /// Where a tensor comes from, without identities.
    pub(super) fn source(&self, reference: TensorRef<'a>) -> Option<Source<'a>> {
        let mut reference = reference;
        for _ in 0..MAX_STEPS {
            let Some(node) = self.function.body.nodes.get(reference.node) else {
                let mut arguments = self.function.inputs().iter();
                return arguments
                    .position(|it| it.name == reference.node)
                    .map(Source::Argument);
            };
            let node: &'a NodeDef = node;
            let position = outputs::position(node, reference.output, reference.index)?;
            let input = match node.op.as_str() {
                "Identity" | "StopGradient" | "PreventGradient" | "Snapshot" => 0,
                "IdentityN" => position,
                _ => return Some(Source::Node(node, position)),
            };
            reference = input_of(node, input)?;
        }
        None
    }

    /// Where an input of a node comes from.
    pub(super) fn input(&self, node: &'a NodeDef, index: usize) -> Option<Source<'a>> {
        self.source(input_of(node, index)?)
    }

    /// The integer that a node `Const` holds.
    pub(super) fn constant(&self, source: Source<'a>) -> Option<i64> {
        let Source::Node(node, 0) = source else {
            return None;
        };
        if node.op != "Const" {
            return None;
        }
        let op = Op { node, inputs: &[] };
        crate::value::Tensor::constant(op.attr_tensor("value").ok()?).int()
    }

    /// Whether a node `Const` is true.
    pub(super) fn truth(&self, node: &'a NodeDef) -> bool {
        let op = Op { node, inputs: &[] };
        let value = op.attr_tensor("value").ok();
        let value = value.filter(|it| it.dtype() == base::tensor::DataType::Bool);
        value.is_some_and(|it| it.bytes().is_some_and(|it| it.as_ref() == [1]))
    }

    /// The arguments that a tensor is computed from. `None` if a node on the way reads a resource, or is one whose
    /// value can differ from call to call.
    pub(super) fn arguments_of(&self, reference: TensorRef<'a>) -> Option<HashSet<usize>> {
        let mut arguments = HashSet::new();
        let mut seen = HashSet::new();
        let mut queue = vec![reference];
        while let Some(reference) = queue.pop() {
            let Some(node) = self.function.body.nodes.get(reference.node) else {
                let mut inputs = self.function.inputs().iter();
                arguments.insert(inputs.position(|it| it.name == reference.node)?);
                continue;
            };
            if !seen.insert(node.name.as_str()) {
                continue;
            }
            if seen.len() > MAX_STEPS || !is_plain(node) {
                return None;
            }
            queue.extend(node.input.iter().filter_map(|it| TensorRef::parse(it)));
        }
        Some(arguments)
    }
}

/// Whether a node gives the same for the same inputs.
fn is_plain(node: &NodeDef) -> bool {
    !node.op.contains("Random")
        && graph::function_names(node).len() == 1
        && !matches!(
            graph::attribute(node, "f"),
            Some(attr_value::Value::Func(_))
        )
}

/// The reference of an input. Control inputs stand after all others.
pub(super) fn input_of(node: &NodeDef, index: usize) -> Option<TensorRef<'_>> {
    TensorRef::parse(node.input.get(index)?)
}
