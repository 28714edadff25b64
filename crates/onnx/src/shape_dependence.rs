//! Whether the work of a run depends only on the shapes of its inputs, or also on their values: a number of
//! rounds, a size to fill.
//!
//! Not here: the use of the answer (`runtime::DirectExecutor`).

use std::collections::HashSet;

use super::{OnnxModel, is_onnx_domain, traverse};
use proto::onnx::NodeProto;

/// Operators whose output size depends on the values of their inputs from the given index on.
const SIZED: [(&str, usize); 17] = [
    ("AffineGrid", 1),
    ("BlackmanWindow", 0),
    ("CenterCropPad", 1),
    ("Col2Im", 1),
    ("ConstantOfShape", 0),
    ("DFT", 1),
    ("Expand", 1),
    ("HammingWindow", 0),
    ("HannWindow", 0),
    ("MaxUnpool", 2),
    ("MelWeightMatrix", 0),
    ("OneHot", 1),
    ("Pad", 1),
    ("Range", 0),
    ("Resize", 1),
    ("Tile", 1),
    ("Upsample", 1),
];

impl OnnxModel {
    /// Whether runs on inputs of the same shapes do about the same work regardless of their values. Returns
    /// false if it cannot tell: for nested graphs, functions and operators of other domains.
    pub fn work_follows_shapes(&self) -> bool {
        let graph = self.graph();
        if !self.proto.functions.is_empty() {
            return false;
        }
        // Names of tensors computed from the inputs' values rather than their shapes.
        let mut from_values: HashSet<&str> = graph.input.iter().map(|it| it.name()).collect();
        for tensor in &graph.initializer {
            if !self.is_default(tensor.name()) {
                from_values.remove(tensor.name());
            }
        }
        for node in &graph.node {
            let is_known = is_onnx_domain(node.domain()) || node.domain() == "ai.onnx.ml";
            if !is_known || traverse::subgraphs(node).next().is_some() {
                return false;
            }
            let mut sizes = node.input.iter().skip(first_size(node));
            if sizes.any(|name| from_values.contains(name.as_str())) {
                return false;
            }
            let is_of_shapes = matches!(node.op_type(), "Shape" | "Size");
            let mut inputs = node.input.iter();
            if !is_of_shapes && inputs.any(|name| from_values.contains(name.as_str())) {
                from_values.extend(node.output.iter().map(String::as_str));
            }
        }
        true
    }
}

/// The index of the first input that is a size.
fn first_size(node: &NodeProto) -> usize {
    let sized = SIZED.iter().find(|(name, _)| *name == node.op_type());
    sized.map_or(usize::MAX, |&(_, first)| first)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use proto::onnx::{AttributeProto, GraphProto, ModelProto, ValueInfoProto};

    fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op_type.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    /// For a model with the inputs `x` and `n`.
    fn follows_shapes(nodes: Vec<NodeProto>) -> bool {
        let input = ["x", "n"].map(|name| ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        });
        let proto = ModelProto {
            graph: Some(GraphProto {
                node: nodes,
                input: input.into(),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let model = OnnxModel::parse("test", &proto.encode_to_vec()).unwrap();
        model.work_follows_shapes()
    }

    #[test]
    fn ordinary_operators_follow_shapes() {
        assert!(follows_shapes(vec![
            node("MatMul", &["x", "w"], "y"),
            node("Relu", &["y"], "z"),
        ]));
    }

    #[test]
    fn sizes_from_shapes_follow_shapes() {
        assert!(follows_shapes(vec![
            node("Shape", &["x"], "shape"),
            node("ConstantOfShape", &["shape"], "zeros"),
            node("Expand", &["x", "shape"], "y"),
        ]));
    }

    #[test]
    fn sizes_from_values_do_not() {
        assert!(!follows_shapes(vec![node("Tile", &["x", "n"], "y")]));
        assert!(!follows_shapes(vec![
            node("Cast", &["n"], "limit"),
            node("Range", &["zero", "limit", "one"], "y"),
        ]));
    }

    #[test]
    fn nested_graphs_and_unknown_operators_are_not_believed() {
        let mut rounds = node("Loop", &["n", "", "x"], "y");
        rounds.attribute.push(AttributeProto {
            g: Some(GraphProto::default()),
            ..AttributeProto::default()
        });
        assert!(!follows_shapes(vec![rounds]));
        let mut others = node("Anything", &["x"], "y");
        others.domain = Some("com.example".to_owned());
        assert!(!follows_shapes(vec![others]));
    }
}
