//! Forgets declared shapes: ONNX Runtime enforces them, TensorFlow never did, and converters write
//! wrong ones.

use super::{OnnxModel, is_op, walk};
use crate::proto::onnx::{GraphProto, NodeProto, TensorShapeProto, ValueInfoProto, type_proto};

impl OnnxModel {
    /// Drops the shapes that the graph declares for its inputs, its outputs and what lies between.
    /// The backend infers what it can from the operators.
    pub fn relax_shapes(&mut self) {
        let graph = self.graph_mut();
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            drop_shape(value);
        }
        graph.value_info.clear();
        relax_nested(&mut graph.node);
    }
}

fn relax_nested(nodes: &mut [NodeProto]) {
    for node in nodes {
        // ONNX Runtime wants to know the ranks of what the body of a Scan returns.
        let ranks_needed = is_op(node, "Scan");
        for graph in walk::subgraphs_mut(node) {
            relax_subgraph(graph, ranks_needed);
            relax_nested(&mut graph.node);
        }
    }
}

fn relax_subgraph(graph: &mut GraphProto, ranks_needed: bool) {
    for value in graph.input.iter_mut().chain(&mut graph.output) {
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
