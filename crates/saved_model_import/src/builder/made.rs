//! Which node computes a tensor: for the recognition of patterns.
//!
//! Not here: the patterns (`fused`).

use std::rc::Rc;

use proto::onnx::AttributeProto;

use super::Builder;
use crate::value::Tensor;

/// The node that computes a tensor.
pub(crate) struct Made {
    pub(crate) op_type: String,
    pub(crate) inputs: Vec<Tensor>,
    attributes: Vec<AttributeProto>,
    /// The tensor's place among the node's outputs.
    pub(crate) output: usize,
}

impl Made {
    pub(super) fn new(
        op_type: &str,
        inputs: &[Tensor],
        attributes: &[AttributeProto],
        output: usize,
    ) -> Self {
        // Nested graphs are large, and no pattern reads them.
        let attributes = attributes.iter().filter(|it| it.g.is_none());
        Self {
            op_type: op_type.to_owned(),
            inputs: inputs.to_vec(),
            attributes: attributes.cloned().collect(),
            output,
        }
    }

    /// Whether another node differs in its inputs at most.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        self.op_type == other.op_type
            && self.output == other.output
            && self.attributes == other.attributes
            && self.inputs.len() == other.inputs.len()
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes.iter().find(|it| it.name() == name)
    }

    /// An integer attribute.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }
}

impl Builder {
    /// The node that computes a tensor; `None` for inputs and constants.
    pub(crate) fn made(&self, x: &Tensor) -> Option<&Rc<Made>> {
        self.made.get(x.name().ok()?)
    }

    /// The tensor that a `Pad` puts a constant around, if that is not NaN; else the tensor itself.
    pub(crate) fn without_padding(&self, x: &Tensor) -> Tensor {
        let padded = self.made(x).filter(|it| it.op_type == "Pad");
        let fill = padded.and_then(|it| it.inputs.get(2)?.as_scalar::<f32>());
        match padded.and_then(|it| it.inputs.first()) {
            Some(inner) if fill.is_some_and(|it| !it.is_nan()) => inner.clone(),
            _ => x.clone(),
        }
    }
}
