//! TensorFlow operators that converters leave in a file and that ONNX can say in its own.
//!
//! Not here: strings (`strings`), transposes (`layout`), divisions (`divide`), tf.Example
//! (`parse_example`), what is only faster (`reshape`, `batch_norm`).

use super::border::int_attribute;
use super::constant::constant_node;
use super::{OnnxModel, is_op, node, walk};
use crate::error::Result;
use crate::proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType};
use crate::tensor::Tensor;

impl OnnxModel {
    /// Rewrites what no runtime knows and ONNX can express, and what converters got wrong: `Erfc`,
    /// comparisons of strings, transposes that became reshapes. And divisions that would end the
    /// process, and what backends would compute more slowly than need be.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for a division that cannot be made safe.
    pub fn rewrite_operators(&mut self) -> Result<()> {
        let opset = self.opset();
        rewrite_erfc(&mut self.graph_mut().node, opset);
        self.rewrite_string_equal();
        self.restore_transposes();
        self.guard_integer_division()?;
        self.settle_shapes();
        self.join_batch_norms();
        Ok(())
    }
}

fn rewrite_erfc(nodes: &mut Vec<NodeProto>, opset: i64) {
    replace_nodes(nodes, &mut |node| {
        (is_op(node, "Erfc")).then(|| erfc(node, opset)).flatten()
    });
}

/// erfc(x) = 1 - erf(x), computed in float, the only type that `Erf` has a kernel for.
fn erfc(original: &NodeProto, opset: i64) -> Option<Vec<NodeProto>> {
    let (x, y) = (original.input.first()?, original.output.first()?);
    let name = |part: &str| format!("{y}/erfc/{part}");
    let (float, erf, one) = (name("float"), name("erf"), name("one"));
    let mut to_float = node("Cast", &[x], &float);
    to_float
        .attribute
        .push(int_attribute("to", OnnxType::Float as i64));
    let mut nodes = vec![to_float, node("Erf", &[&float], &erf)];
    nodes.push(constant_node(&one, &Tensor::from_vec(&[], vec![1.0_f32])?)?);
    if opset >= 15 {
        let result = name("result");
        nodes.push(node("Sub", &[&one, &erf], &result));
        nodes.push(node("CastLike", &[&result, x], y));
    } else {
        nodes.push(node("Sub", &[&one, &erf], y));
    }
    Some(nodes)
}

/// Replaces nodes by what `replacement` returns for them, in nested graphs as well.
pub(super) fn replace_nodes(
    nodes: &mut Vec<NodeProto>,
    replacement: &mut impl FnMut(&NodeProto) -> Option<Vec<NodeProto>>,
) {
    let mut replaced = Vec::with_capacity(nodes.len());
    for mut node in std::mem::take(nodes) {
        if let Some(new) = replacement(&node) {
            replaced.extend(new);
            continue;
        }
        for graph in walk::subgraphs_mut(&mut node) {
            replace_nodes(&mut graph.node, replacement);
        }
        replaced.push(node);
    }
    *nodes = replaced;
}
