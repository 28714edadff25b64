//! The opsets in which checks can be made.
//!
//! Not here: the checks (`checks`).

use crate::kernel_limits;
use base::error::ServingError;
use proto::onnx::NodeProto;

/// The first opset with an ONNX Runtime kernel for each operator that checks use; the others are older.
const KERNELS_SINCE: &[(&str, i64)] = &[
    ("Abs", 6),
    ("Add", 7),
    ("Cast", 6),
    ("Clip", 6),
    ("Concat", 4),
    ("Div", 7),
    ("Equal", 7),
    ("Greater", 7),
    ("Mul", 7),
    ("Sub", 7),
    ("Sum", 6),
];
/// The first opset in which every check can be made.
pub(super) const CHECKED_SINCE: i64 = 7;

pub(super) fn too_old(node: &NodeProto, opset: i64, origin: &str) -> ServingError {
    ServingError::unimplemented(format!(
        "{origin}: the operator {} is not served in opset {opset}: some inputs make its kernel end the \
         process (found on ONNX Runtime {}), and no check can be put in front of it. Convert the \
         model to opset {CHECKED_SINCE} or later",
        node.op_type(),
        kernel_limits::FOUND_ON
    ))
}

pub(super) fn kernel_since(node: &NodeProto) -> i64 {
    let mut kernels = KERNELS_SINCE.iter();
    let found = kernels.find(|it| it.0 == node.op_type());
    found.map_or(1, |it| it.1)
}
