//! Rewrites nodes that tract interprets more narrowly than ONNX defines them.
//!
//! Not here: operators that tract does not support at all (`support`).

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

/// The name of a constant, the shape of one element, in each graph that needs it.
const ONE_ELEMENT: &str = "onnx_model_server/one_element";

/// Rewrites the graph and those within its nodes.
pub(super) fn adapt(graph: &mut GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            let within = attribute.g.iter_mut().chain(&mut attribute.graphs);
            within.for_each(adapt);
        }
        if node.op_type == "NonMaxSuppression" {
            nodes.extend(limits_as_vectors(&mut node));
        }
        nodes.push(node);
    }
    if nodes
        .iter()
        .any(|node| node.input.iter().any(|it| it == ONE_ELEMENT))
    {
        graph.initializer.push(TensorProto {
            name: ONE_ELEMENT.to_owned(),
            data_type: DataType::Int64.into(),
            dims: vec![1],
            int64_data: vec![1],
            ..TensorProto::default()
        });
    }
    graph.node = nodes;
}

/// ONNX allows scalars or vectors of one element as limits of NonMaxSuppression; tract allows only
/// vectors.
fn limits_as_vectors(node: &mut NodeProto) -> Vec<NodeProto> {
    let output = node.output.first().cloned().unwrap_or_default();
    let limits = node.input.iter_mut().skip(2).filter(|it| !it.is_empty());
    let reshapes = limits.enumerate().map(|(index, limit)| {
        let vector = format!("{output}/limit_{index}");
        NodeProto {
            name: vector.clone(),
            op_type: "Reshape".to_owned(),
            input: vec![
                std::mem::replace(limit, vector.clone()),
                ONE_ELEMENT.to_owned(),
            ],
            output: vec![vector],
            ..NodeProto::default()
        }
    });
    reshapes.collect()
}
