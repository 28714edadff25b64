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
}
