//! Drops declared shapes: ONNX Runtime enforces them, TensorFlow never did, and converters write wrong ones.
//!
//! Correct ranks are worth keeping: without them ONNX Runtime does not optimise transposes or fuse operators,
//! and a model of convolutions takes a quarter longer. Sizes are not worth keeping.

use std::collections::HashSet;

use super::{OnnxModel, is_onnx_domain, is_op, traverse};
use proto::onnx::{GraphProto, NodeProto, TensorShapeProto, ValueInfoProto, type_proto};

/// Operators that accept only one rank of their first input.
const FIX_RANK: &[&str] = &[
    "AveragePool",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "GRU",
    "Gemm",
    "LSTM",
    "MaxPool",
    "QLinearConv",
    "RNN",
];
/// Operators whose output has the rank of their first input.
const KEEP_RANK: &[&str] = &[
    "Abs",
    "Cast",
    "Clip",
    "Exp",
    "Identity",
    "LeakyRelu",
    "Log",
    "Neg",
    "Relu",
    "Sigmoid",
    "Sqrt",
    "Tanh",
];
/// Operators whose output has the rank of one input if the other is a vector or scalar.
const BROADCAST: &[&str] = &["Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"];

impl OnnxModel {
    /// Drops the declared shapes of the graph's inputs, outputs and inner tensors. Inputs in `ranked` keep
    /// their rank. The backend infers shapes from the operators, and receives the declared ones separately.
    pub fn relax_shapes(&mut self, ranked: &HashSet<String>) {
        for input in self.inputs() {
            self.declared_shapes
                .extend(input.shape.map(|shape| (input.name, shape)));
        }
        let graph = self.graph_mut();
        for input in &mut graph.input {
            if ranked.contains(input.name()) {
                drop_sizes(input);
            } else {
                drop_shape(input);
            }
        }
        graph.output.iter_mut().for_each(drop_shape);
        graph.value_info.clear();
        relax_nested(&mut graph.node);
    }

    /// Whether an operator accepts only one rank of the input `name`.
    pub fn fixes_rank_of(&self, name: &str) -> bool {
        let graph = self.graph();
        let mut same_rank: HashSet<&str> = HashSet::from([name]);
        for node in &graph.node {
            let read = node
                .input
                .iter()
                .position(|it| same_rank.contains(it.as_str()));
            let (Some(index), true) = (read, is_onnx_domain(node.domain())) else {
                continue;
            };
            let op_type = node.op_type();
            let permutes = is_op(node, "Transpose") && traverse::attribute(node, "perm").is_some();
            if index == 0 && (permutes || FIX_RANK.contains(&op_type)) {
                return true;
            }
            let mut others = node.input.iter().enumerate().filter(|it| it.0 != index);
            let keeps = index == 0 && KEEP_RANK.contains(&op_type);
            let broadcasts = BROADCAST.contains(&op_type)
                && others.all(|(_, name)| {
                    self.constant(name)
                        .is_some_and(|constant| constant.shape().len() <= 1)
                });
            if keeps || broadcasts {
                same_rank.extend(node.output.iter().map(String::as_str));
            }
        }
        false
    }
}

fn relax_nested(nodes: &mut [NodeProto]) {
    for node in nodes {
        // ONNX Runtime requires the ranks of the outputs of a Scan's body.
        let ranks_needed = is_op(node, "Scan");
        // A run of a Loop fails unless its counter and condition are declared as scalars. If it runs no
        // rounds, the outputs that it collects have the sizes declared for one round.
        let (scalars, kept_from) = match is_op(node, "Loop") {
            true => (2, node.input.len().saturating_sub(1)),
            false => (0, usize::MAX),
        };
        for graph in traverse::subgraphs_mut(node) {
            relax_subgraph(graph, ranks_needed, scalars, kept_from);
            relax_nested(&mut graph.node);
        }
    }
}

/// The first `scalars` inputs and the outputs from `kept_from` on keep their shapes.
fn relax_subgraph(graph: &mut GraphProto, ranks_needed: bool, scalars: usize, kept_from: usize) {
    let inputs = graph.input.iter_mut().skip(scalars);
    for value in inputs.chain(graph.output.iter_mut().take(kept_from)) {
        if ranks_needed {
            drop_sizes(value);
        } else {
            drop_shape(value);
        }
    }
    graph.value_info.clear();
}

fn drop_shape(value: &mut ValueInfoProto) {
    if let Some(shape) = shape_mut(value) {
        *shape = None;
    }
}

fn drop_sizes(value: &mut ValueInfoProto) {
    if let Some(Some(shape)) = shape_mut(value) {
        for dim in &mut shape.dim {
            dim.value = None;
        }
    }
}

fn shape_mut(value: &mut ValueInfoProto) -> Option<&mut Option<TensorShapeProto>> {
    match value.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some(&mut tensor.shape),
        _ => None,
    }
}
