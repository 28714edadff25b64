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

    /// A float attribute.
    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.f
    }

    /// Whether it pads with a constant that is known not to be NaN.
    fn pads_with_number(&self) -> bool {
        let fill = self.inputs.get(2).and_then(Tensor::as_scalar::<f32>);
        self.op_type == "Pad" && fill.is_some_and(|it| !it.is_nan())
    }

    /// An attribute that is a list of integers.
    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        Some(&self.attribute(name)?.ints)
    }
}

impl Builder {
    /// The node that computes a tensor; `None` for inputs and constants.
    pub(crate) fn made(&self, x: &Tensor) -> Option<&Rc<Made>> {
        self.made.get(x.name().ok()?)
    }

    /// Whether the elements are those of the first output of a node of one of these types, seen through
    /// transpositions and paddings with a number.
    pub(crate) fn is_result_of(&self, x: &Tensor, op_types: &[&str]) -> bool {
        let Some(mut made) = self.made(x) else {
            return false;
        };
        while made.op_type == "Transpose" || made.pads_with_number() {
            match made.inputs.first().and_then(|it| self.made(it)) {
                Some(inner) => made = inner,
                None => return false,
            }
        }
        made.output == 0 && op_types.contains(&made.op_type.as_str())
    }
}
