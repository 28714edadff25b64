//! The domains of operators and their versions, and nodes of ONNX's own domain.
//!
//! Not here: the properties of operators (`kernel_limits`, `known`).

use proto::onnx::{NodeProto, OperatorSetIdProto};

/// The domain of the operators that ONNX Runtime adds.
pub(super) const MICROSOFT: &str = "com.microsoft";
/// The domain of the operators that ONNX Runtime puts in the place of others for its own layout of images,
/// with the channels in blocks. Files that its optimizer saved contain them.
pub(super) const NCHWC: &str = "com.microsoft.nchwc";
/// The domain of the operators for classic machine learning.
pub(super) const ML: &str = "ai.onnx.ml";

/// Whether a domain is that of ONNX's own operators.
pub(super) fn is_onnx_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether a node is this operator of ONNX's own domain.
pub(super) fn is_op(node: &NodeProto, op_type: &str) -> bool {
    node.op_type() == op_type && is_onnx_domain(node.domain())
}

/// The version of ONNX's own operators among those that a model or a function imports.
pub(super) fn opset_of(imports: &[OperatorSetIdProto]) -> i64 {
    let onnx = imports.iter().filter(|it| is_onnx_domain(it.domain()));
    onnx.map(|it| it.version()).max().unwrap_or(1)
}

/// A node of ONNX's own domain with one output.
pub(super) fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        name: Some(format!("{output}/{op_type}")),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}
